import ArgumentParser
import Coordination
import Digests
import Foundation
import Node
import Planning
import Primitives
import Record
import Telemetry
import Weights
import Wire

/// `atoll launch`: a coordinator, or with `--local` the whole job in one process.
struct LaunchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch", abstract: "Run a job on a pool, or in this process with --local.")

    @Argument(help: "The job file.") var job: String
    @Option(help: "The pool's invite.") var invite: String?
    @Flag(help: "Without a pool: the whole job in this process.") var local = false
    @Option(help: "Where report.json and the checkpoint go.") var out = "out"
    @Option(help: "The text, instead of the job's data.path.") var data: String?
    @Option(help: "Train this many steps instead of the job's tokens.") var steps: Int?
    @Option(help: "The job's seed.") var seed: UInt64?
    @Option(help: "Begin when this many peers have accepted (default: when nobody new comes).") var peers: Int?
    @Option(help: "Give up when too few peers come in this many seconds.") var wait = Self.defaultWait
    @OptionGroup var figures: FigureOptions
    @Flag(help: "Go on with the newest run of this job that was stopped.") var resume = false
    @OptionGroup var founding: FoundingOptions
    @Option(help: "The launcher's folder with its key.") var identity: String?
    @OptionGroup var door: DoorOptions
    @Option(help: "Threads for --local and the final evaluation.") var threads: Int?
    @Option(help: "What the sample of text continues.") var prompt = "In the beginning"
    @Option(help: ArgumentHelp("Pretend to be TOPOLOGY#HOST.", visibility: .hidden)) var emulate: String?
    @Option(help: ArgumentHelp("Slow all emulated time down.", visibility: .hidden)) var stretch = 1.0
    @OptionGroup var output: LaunchOutput

    func run() throws {
        dieWithParent()
        guard FileManager.default.fileExists(atPath: job) else {
            throw NodeError.badInput("there is no job file \(job). Look at docs/JOB.md for one to begin with")
        }
        guard local || invite != nil else {
            throw NodeError.badInput("launch needs a pool: --invite FILE, or --local to run in this process")
        }
        guard !(local && resume) else {
            throw NodeError.badInput("--resume is for a pool: a job run with --local keeps nothing to go on from")
        }
        guard !(founding.refound && (local || resume)) else {
            throw NodeError.badInput("--refound is for a pool's job, and goes on with it: without --local and --resume")
        }
        guard founding.recovery == nil || founding.refound else {
            throw NodeError.badInput("--recovery FILE says who may found a job anew: it goes with --refound")
        }
        guard !(local && figures.record != nil) else {
            throw NodeError.badInput("--record is for a pool: a job run with --local has no links and no peers")
        }
        if let record = figures.record { try requireWritable(record, for: "--record") }
        try refuseNoNumbers()
        if local { try refusePoolOptions() }
        let input = try JobInput(file: job, data: data, steps: steps, seed: seed)
        try makeFolder(out)
        let content = try input.content(scratch: out)
        // Peers learn what the text is, not where it lies here.
        let manifest = try input.manifest(for: content)
        tellShares(of: content, input)
        let threads = threads ?? min(2, ProcessInfo.processInfo.activeProcessorCount)
        let out = URL(fileURLWithPath: out).path
        if local { return try runLocal(manifest, content.bytes, input.model, out, threads) }
        try runOnPool(manifest, content.bytes, input.model, out, threads)
    }

    /// How often a mixture's sources are read, while whoever launches it may still think again.
    private func tellShares(of content: JobContent, _ input: JobInput) {
        let job = input.manifest
        let sequences = job.tokens / max(1, job.model.context)
        let lines = content.shares(
            input.dataFiles.map(\.name), context: job.model.context, validationFraction: job.validationFraction,
            sequences: sequences, seed: job.seed)
        for line in lines { complain(terminalSafe(line)) }
    }

    private func refuseNoNumbers() throws {
        if let threads, !(1...1024).contains(threads) {
            throw NodeError.badInput("--threads \(threads): 1 to 1024")
        }
        if let peers, peers < 1 { throw NodeError.badInput("--peers \(peers): at least 1") }
        guard wait >= 0, wait.isFinite else { throw NodeError.badInput("--wait \(wait): seconds, at least 0") }
    }

    /// What says something about a pool says nothing here, and is no doubt meant.
    private func refusePoolOptions() throws {
        let given: [(String, Bool)] = [
            ("--invite", invite != nil), ("--peers", peers != nil), ("--identity", identity != nil),
            ("--metrics", figures.serving.metrics != nil), ("--web", figures.serving.web != nil),
            ("--wait", wait != Self.defaultWait),
            ("--listen", door.listen != DoorOptions.anywhere),
            ("--no-port-mapping", door.router.noPortMapping),
        ]
        guard let (option, _) = given.first(where: { $0.1 }) else { return }
        throw NodeError.badInput(
            "\(option) is for a pool: --local runs the whole job in this process. Leave one of them out")
    }
    private static let defaultWait = 120.0

    private func runLocal(
        _ job: JobManifest, _ corpus: StoredBytes, _ model: ContinuedModel?, _ out: String, _ threads: Int
    ) throws {
        Interrupt.watch()
        let log = EventLog(level: try output.level.chosen())
        let view = ProgressView(.local, quiet: output.json, log: log)
        let report = try LocalRun.run(
            job, corpus: corpus, model: model, out: out, threads: threads, prompt: prompt,
            interrupted: { Interrupt.asked },
            onEvent: { view.show($0) })
        guard let report else { throw ExitCode(130) }
        view.end()
        output.show(report, in: out)
    }

    private func runOnPool(
        _ job: JobManifest, _ corpus: StoredBytes, _ model: ContinuedModel?, _ out: String, _ threads: Int
    ) throws {
        let invitePath = invite!
        let invite = try Invite(file: invitePath)
        let listen = try endpoint(door.listen, option: "--listen")
        let seed = job.seed
        let emulation = try emulation(emulate, stretch: stretch, seed: seed)
        let folder = try launcherFolder(invitePath, identity: identity)
        try PoolEntry.requireMember(invite, key: folder.key, folder: folder.path, to: "launch any")
        warnIfUnnamed(in: invite, folder.key.peerID)
        var setup = try LiveDaemon.Setup(
            through: invite, key: folder.key, folder: folder.path, listen: listen, emulation: emulation, seed: seed,
            tell: complain)
        setup.router = door.router.choice(isWanted: emulation == nil)
        let (launch, stopped) = try options(job, corpus, model, out, threads, folder)
        let subject = JobStory.Subject(
            name: job.name, parameters: launch.parameters.model.parameters, isLauncher: true, out: self.out)
        let log = EventLog(level: try output.level.chosen(), asJSON: output.events)
        let view = ProgressView(quiet: output.json || output.events, log: log, subject: subject, folder: folder.path)
        // Whatever happens, nothing of the picture stays on the terminal.
        defer { view.end() }
        let run = LaunchRun()
        (run.onMetrics, run.onSecond) = (tellMetrics, view.show)
        func show(_ event: Event) {
            if !log.asJSON { return view.show(event) }
            if let line = log.line(event) { log.say(line, event.level) }
        }
        let result =
            if let stopped, stopped.isOver {
                try run.collect(stopped.remains, in: folder.path, key: folder.key, launch, onEvent: show)
            } else {
                try run.run(setup, folder: folder, launch, onEvent: show)
            }
        view.end()
        if run.goesOn {
            complain(
                "the job goes on without this machine. The same command with --resume comes back to it, and collects the weights"
            )
        }
        if let stopped = run.stoppedAt { complain(Self.howToGoOn(stopped)) }
        switch result {
        case .interrupted: throw ExitCode(130)
        case .failed(let why): throw NodeError.failed(why)
        case .finished(let report):
            if !output.events { output.show(report, in: out) }
        }
    }

    private func options(
        _ job: JobManifest, _ corpus: StoredBytes, _ model: ContinuedModel?, _ out: String, _ threads: Int,
        _ folder: DataFolder
    ) throws -> (options: LaunchRun.Options, stopped: StoppedJob?) {
        var launch = LaunchRun.Options(
            manifest: job.canonicalText, parameters: JobParameters(job), corpus: corpus,
            coordinator: gathering(job), out: out, threads: threads)
        launch.samplePrompt = prompt
        launch.keep = job.checkpoint.keep
        launch.model = model
        let stopped = try stopped(folder, job)
        launch.resuming = stopped?.remains
        launch.ballot = stopped?.ballot
        launch.certificate = stopped?.certificate
        launch.refounds = founding.refound
        if let recovery = founding.recovery {
            launch.grant = try RecoveryCommand.grant(recovery, for: folder.key.peerID)
        }
        (launch.record, launch.metricsPort) = (figures.record, figures.serving.metrics)
        let command = OwnCommandWatch(folder: folder.path)
        launch.web = figures.serving.web.map { port in
            DashboardOptions(port: port, sentence: \.sentence, onAddress: tellDashboard) { status, view in
                let subject = JobStory.Subject(
                    name: job.name, parameters: JobParameters(job).model.parameters, isLauncher: true, out: out)
                return (JobStory(subject: subject, job: view, status: status, command: command.now).paragraphs, [])
            }
        }
        return (launch, stopped)
    }
}

/// Of a job whose majority of electors is lost for good.
struct FoundingOptions: ParsableArguments {
    @Flag(help: "A majority of its electors is lost for good: found the job anew with the key that launched it.")
    var refound = false
    @Option(help: "With --refound: what recovery keys have signed (atoll recovery), in the place of that key.")
    var recovery: String?
}

extension LaunchCommand {
    private func warnIfUnnamed(in invite: Invite, _ launcher: PeerID) {
        guard !invite.accept.contains(launcher) else { return }
        complain(
            "warning: the invite does not name this launcher (\(launcher.hex)); only peers whose owner added it will accept",
            .warning)
    }
    private func gathering(_ job: JobManifest) -> CoordinatorOptions {
        var options = CoordinatorOptions()
        options.expectedPeers = peers
        options.neededPeers = job.neededPeers
        options.gatherLimit = .nanoseconds(Int64(wait * 1e9))
        return options
    }

    /// What there is to go on from, where that is asked for.
    private func stopped(_ folder: DataFolder, _ job: JobManifest) throws -> StoppedJob? {
        guard case .content(let hex) = job.data, let content = Digest256(hex: hex) else { return nil }
        let stopped = JobArchive.stopped(
            in: folder, manifest: job.canonicalText, content: content,
            parse: JobParameters.init(manifest:))
        if founding.refound {
            guard job.electors.count != .fixed(1) else {
                throw NodeError.badInput(
                    "this job has one elector, its launcher: there is no majority of others to be lost. --resume goes on with it"
                )
            }
            return stopped
        }
        guard resume else {
            if let stopped {
                let what =
                    stopped.isOver
                    ? "is done, and what it came to was not written (job \(stopped.job.short)); --resume writes it"
                    : "was stopped at round \(stopped.round) (job \(stopped.job.short)); --resume goes on with it"
                complain("note: a run of this job \(what), this one begins anew")
            }
            return nil
        }
        guard let stopped else {
            throw NodeError.badInput(
                "no run of this job and text was stopped in \(folder.path)/log: nothing to resume. Give the same job file, text, "
                    + "--steps, --seed and --identity as then, or launch it without --resume")
        }
        if let lost = stopped.lost { throw NodeError.badInput(lost) }
        for path in stopped.damaged { complain("warning: \(path) is damaged, and passed over", .warning) }
        return stopped
    }

    private static func howToGoOn(_ stopped: (round: Int, checkpoint: Int?)) -> String {
        let later =
            stopped.checkpoint.map { "later from the checkpoint of round \($0)" } ?? "later from the beginning"
        return
            "stopped at round \(stopped.round). The same command with --resume goes on: while peers keep their parts (an hour) "
            + "from there, \(later)"
    }
}

/// What a launch prints.
struct LaunchOutput: ParsableArguments {
    @Flag(help: ArgumentHelp("Events as JSON lines on stdout.", visibility: .hidden)) var events = false
    @Flag(help: "Print the report as JSON, and nothing else on stdout.") var json = false
    @OptionGroup var screen: ScreenOptions
    @OptionGroup var level: LevelOption

    func show(_ report: RunReport, in folder: String) {
        print(
            json ? report.jsonText : TerminalText.current.fitted(ReportText.text(report, folder: folder)),
            terminator: "")
    }
}

/// What is told of a run beside its report.
struct FigureOptions: ParsableArguments {
    @Option(help: "Write the pool as measured, and who came, left and slowed down, as a topology that replays.")
    var record: String?
    @OptionGroup var serving: ServingOptions
}

/// What a process serves on loopback.
struct ServingOptions: ParsableArguments {
    @Option(help: "Serve figures for Prometheus at http://127.0.0.1:PORT/metrics; 0 takes a free port.")
    var metrics: UInt16?
    @Option(help: "Serve a page that shows it all, and print how it is opened; without a number at a free port.")
    var web: UInt16?
}

/// Given, or beside the invite (where `atoll node` put it), or this user's own.
func launcherFolder(_ invitePath: String, identity: String?) throws -> DataFolder {
    if let identity { return try DataFolder(identity) }
    let beside = ((invitePath as NSString).deletingLastPathComponent as NSString).appendingPathComponent("launcher")
    if FileManager.default.fileExists(atPath: beside + "/key") { return try DataFolder(beside) }
    return try DataFolder(Home.path + "/launcher")
}
