import Checkpoints
public import Consensus
public import Coordination
import Daemon
import Digests
import EventLoop
import Files
import Foundation
internal import Membership
import Messages
import Pools
import Primitives
public import Record
public import Telemetry
import Topologies
import Training
public import Weights
public import Wire

/// A coordinator's process: runs the job to its end, writes checkpoints, evaluates the result, writes the report.
public final class LaunchRun {
    public struct Options {
        public var manifest: String
        public var parameters: JobParameters
        /// The text, or the file of tokens, where it lies.
        public var corpus: StoredBytes
        public var coordinator: CoordinatorOptions
        /// Where report and checkpoints go.
        public var out: String
        public var threads: Int
        public var samplePrompt = "In the beginning"
        /// Checkpoints that stay; nil: all.
        public var keep: Int?
        /// Of an earlier process: the job goes on.
        public var resuming: JobRemains?
        /// What that process has promised as an elector.
        public var ballot: Ballot?
        /// The job is founded anew after the longest certified log that there is, as a majority of its electors is lost.
        public var refounds = false
        /// What recovery keys have signed, in the place of the root key.
        public var grant: RecoveryGrant?
        /// Of the log of the earlier process.
        public var certificate: Certificate?
        /// Where the pool as measured and what happened to it go, as a topology file.
        public var record: String?
        /// The folder that the job continues, where the manifest names its units.
        public var model: ContinuedModel?
        /// Where `/metrics` is served, on loopback; nil for nowhere, 0 for a free port.
        public var metricsPort: UInt16?
        /// What the dashboard shows; nil where there is none.
        public var web: DashboardOptions?
        public init(
            manifest: String, parameters: JobParameters, corpus: StoredBytes, coordinator: CoordinatorOptions,
            out: String,
            threads: Int
        ) {
            self.manifest = manifest
            self.parameters = parameters
            self.corpus = corpus
            self.coordinator = coordinator
            self.out = out
            self.threads = threads
        }
    }
    public enum Result {
        case finished(RunReport)
        case failed(String)
        case interrupted
    }
    /// How far a job is that did not finish and can be resumed: the round in progress, and that of the newest checkpoint on disk.
    public private(set) var stoppedAt: (round: Int, checkpoint: Int?)?
    /// Other electors go on with the job.
    public private(set) var goesOn = false

    private let service = ServiceRun()
    private let journal = EventJournal()
    /// The job as its events tell it, with all that the report needs.
    private var view = JobView(limits: .report)
    private var trace = RunTrace()
    private var series: RunSeries?
    /// Called when `/metrics` is served.
    public var onMetrics: (Endpoint) -> Void = { _ in }
    /// Called once a second, for whoever shows what the daemon does.
    public var onSecond: (ControlService.Status) -> Void = { _ in }
    private var onEvent: (Event) -> Void = { _ in }
    private var end: JobEnd?
    private var interrupted = false
    private var ticker: EventLoop.Timer?
    private var checkpointRound: Int?
    private var dashboard: Dashboard?

    public init() {}

    public func run(
        _ setup: LiveDaemon.Setup, folder: DataFolder, _ options: Options, onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        try CheckpointFolders.requireSpace(options.parameters.model, out: options.out, data: folder.path)
        let (loop, key) = (service.loop, setup.key)
        let options = options.withScratch(in: folder.path)
        let overlay = OverlayArchive(folder, poolKey: setup.membership?.book.authority.bytes ?? setup.poolKey)
        var setup = setup
        setup.state = overlay.state
        let daemon = try LiveDaemon(loop, setup) { (now) throws(NodeError) in
            try Self.services(options, key, at: now)
        }
        checkpointRound = options.resuming?.checkpoint?.round
        let archive = JobArchive(folder, daemon)
        let origin = loop.now
        series = RunSeries(in: options.out, continuing: options.resuming != nil, origin: origin)
        self.onEvent = onEvent
        daemon.onEvent = { [unowned self] event in
            journal.note(event)
            tell(event)
        }
        daemon.onStore = { [unowned self, unowned daemon] request, service in
            if case .checkpoint(let job, let round, let states) = request {
                return store(states, round, job, folder.path, options, daemon) {
                    [unowned self, unowned daemon] outcome in
                    if case .stored = outcome { checkpointRound = round }
                    daemon.stored(request.ticket, outcome, for: service)
                }
            }
            archive.perform(request) { [unowned daemon] ticket, outcome in daemon.stored(ticket, outcome, for: service)
            }
        }
        daemon.onEnded = { [unowned self, unowned daemon] end in
            self.end = end
            daemon.windDown()
        }
        let stop = { [unowned self] in
            interrupted = true
            daemon.stop()
        }
        service.watchSignals(stop)
        let control = try ControlService(loop, daemon, in: folder.path, journal: journal, leave: stop)
        let metrics = try serveMetrics(control, options.metricsPort)
        try serveDashboard(control, daemon, options)
        ticker = EventLoop.Timer(loop) { [unowned self, unowned control] in tick(daemon, control) }
        ticker?.arm(at: loop.now + .seconds(1))
        tell(Event(.listening(endpoint: daemon.endpoint.description), at: loop.now))
        overlay.attach(to: daemon)
        daemon.start()
        service.turn(control)
        overlay.close()
        metrics?.close()
        dashboard?.close()
        control.close()
        ticker?.close()
        loop.close()
        noteHowFar(daemon)
        try writeRecord(of: daemon, options)
        return try result(of: daemon, folder.path, options, stretch: setup.emulation?.stretch ?? 1, origin: origin)
    }
    /// The result of a job that is over, from what was kept here before that was said: nothing is trained.
    public func collect(
        _ remains: JobRemains, in folder: String, key: SigningKey, _ options: Options,
        onEvent: @escaping (Event) -> Void
    ) throws(NodeError) -> Result {
        self.onEvent = onEvent
        let loop = service.loop
        defer { loop.close() }
        let coordinator: Coordinator
        do throws(MalformedBytes) {
            coordinator = try Coordinator(
                ofEnded: remains, key: key, content: options.corpus, options: options.coordinator,
                wall: WallClock(seconds: Int64(time(nil)), at: loop.now), at: loop.now,
                parse: JobParameters.init(manifest:))
        } catch {
            throw .badInput(error.description)
        }
        let report = try conclude(coordinator, remains.checkpoint!.states, options, stretch: 1, origin: loop.now)
        StateFile.erase(of: coordinator.job, in: folder)
        return .finished(report)
    }
    private static func services(
        _ options: Options, _ key: SigningKey, at now: Instant
    ) throws(NodeError) -> DaemonCore.Services {
        let initial = options.resuming?.checkpoint == nil ? try initial(options.model, options.coordinator.room) : []
        if options.refounds {
            return try .refounding(
                key: key, manifest: options.manifest, content: options.corpus, initial: initial,
                options: options.coordinator, options.resuming, options.certificate, options.grant, at: now)
        }
        return try .coordinator(
            key: key, manifest: options.manifest, content: options.corpus, initial: initial,
            options: options.coordinator, resuming: options.resuming,
            isCarriedByMany: options.parameters.isCarriedByMany,
            ballot: options.ballot, at: now)
    }
    private func noteHowFar(_ daemon: LiveDaemon) {
        if let elector = daemon.core.services.elector, !elector.isAlone, !elector.isOver {
            goesOn = true
        } else if let coordinator = daemon.core.services.coordinator, coordinator.isResumable {
            stoppedAt = (coordinator.state.round, checkpointRound)
        }
    }
    /// Of a run that failed or was stopped too: what there is of it.
    private func writeRecord(of daemon: LiveDaemon, _ options: Options) throws(NodeError) {
        guard let path = options.record, let coordinator = daemon.core.services.coordinator,
            let recorded = Topology.recorded(coordinator, view, trace)
        else { return }
        try writeFile(path, Array(recorded.text.utf8))
    }
    private func result(
        of daemon: LiveDaemon, _ folder: String, _ options: Options, stretch: Double, origin: Instant
    ) throws(NodeError) -> Result {
        if interrupted { return .interrupted }
        guard let end else { return .failed("the loop ended before the job") }
        switch end {
        case .failed(let why): return .failed(why)
        case .finished(let states):
            // Where another elector has led the job to its end, the books are in its record.
            let elector = daemon.core.services.elector
            guard
                let coordinator = daemon.core.services.coordinator
                    ?? elector?.coordinator(content: options.corpus, at: service.loop.now)
            else { return .failed("the loop ended before the job") }
            do throws(NodeError) {
                let report = try conclude(coordinator, states, options, stretch: stretch, origin: origin)
                StateFile.erase(of: coordinator.job, in: folder)
                return .finished(report)
            } catch {
                return .failed(
                    "\(error.description). The job is done and its weights are kept: the same command with --resume writes "
                        + "what is missing")
            }
        }
    }

    private static func initial(_ model: ContinuedModel?, _ room: (any ByteRoom)?) throws(NodeError) -> [UnitState] {
        guard let model else { return [] }
        do throws(CheckpointError) { return try model.states(in: room) } catch {
            throw .badInput(error.description)
        }
    }

    private func tell(_ event: Event) {
        view.apply(event)
        trace.hear(event)
        series?.note(event, view)
        dashboard?.hear(event)
        onEvent(event)
    }
    private func serveMetrics(_ control: ControlService, _ port: UInt16?) throws(NodeError) -> MetricsService? {
        (service.metricsPort, service.onMetrics) = (port, onMetrics)
        return try service.serveMetrics { [unowned self, unowned control] in
            control.status.metrics + view.metrics(at: service.loop.now)
        }
    }

    private func serveDashboard(
        _ control: ControlService, _ daemon: LiveDaemon, _ options: Options
    ) throws(NodeError) {
        service.web = options.web
        dashboard = try service.serveDashboard(
            control, manifest: options.manifest,
            coordinator: { [unowned daemon] in daemon.core.services.coordinator }, view: { [unowned self] in view })
        dashboard?.onLook = { [unowned daemon] in daemon.watchSteps() }
    }

    /// Once a second: who does what, for whoever watches.
    private func tick(_ daemon: LiveDaemon, _ control: ControlService) {
        ticker?.arm(at: service.loop.now + .seconds(1))
        if let coordinator = daemon.core.services.coordinator {
            tell(Event(status(coordinator), at: service.loop.now))
        }
        onSecond(control.status)
    }

    private func status(_ coordinator: Coordinator) -> Happening {
        let elapsed = view.trainingSince.map { (service.loop.now - $0).inSeconds } ?? 0
        return .status(
            of: coordinator.state, phase: coordinator.stage.word,
            members: coordinator.roster.joined.map { (name: $0.name, heartbeat: $0.heartbeat) },
            sentBytes: coordinator.roster.sentBytes,
            tokensPerSecond: elapsed > 0 ? Double(coordinator.tokensTrained) / elapsed : 0)
    }

    /// A checkpoint counts as stored when it is synced, renamed and read back: for readers of models, and for this job to go on from.
    private func store(
        _ states: [UnitState], _ round: Int, _ job: Digest256, _ dataFolder: String, _ options: Options,
        _ daemon: LiveDaemon, answer: @escaping (StorageOutcome) -> Void
    ) {
        let folder = options.out + "/checkpoints"
        let path = folder + "/round-\(round)"
        let (model, source, keep) = (options.parameters.model, options.model, options.keep)
        daemon.offLoop(
            { () -> StorageOutcome in
                guard let weights = ModelUnits(shape: model, states: states) else {
                    return .failed("the units of round \(round) do not fit the model")
                }
                do throws(NodeError) {
                    try StateFile.write(states, round: round, job: job, in: dataFolder)
                } catch {
                    return .failed(error.description)
                }
                do throws(NodeError) {
                    try requireSpace(
                        states.reduce(0) { $0 + $1.parameters.count }, in: folder,
                        for: "the checkpoint of round \(round)", .system)
                } catch {
                    return .failed(error.description)
                }
                do throws(CheckpointError) {
                    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
                    try Checkpoint.write(weights, to: path, like: source)
                    guard let digest = weights.weightsDigest, try Checkpoint.weightsDigest(of: path) == digest else {
                        return .failed("\(path) reads back otherwise than it was written. Look at the disk")
                    }
                    do throws(NodeError) { try CheckpointFolders.add(path, of: job, in: dataFolder, keep: keep) } catch
                    {
                        return .failed(error.description)
                    }
                    return .stored(path: path)
                } catch {
                    return .failed(error.description)
                }
            }, then: answer)
    }

    private func conclude(
        _ coordinator: Coordinator, _ states: [UnitState], _ options: Options, stretch: Double, origin: Instant
    ) throws(NodeError) -> RunReport {
        guard let weights = ModelUnits(shape: options.parameters.model, states: states),
            let digest = weights.weightsDigest
        else {
            throw .failed("the collected weights do not fit the model, or cannot be read back from this machine's disk")
        }
        tell(Event(.evaluating, at: service.loop.now))
        // It is the launcher's own file: somebody may have written to it since.
        guard ContentIndex(of: options.corpus)?.id == coordinator.record.genesis.content,
            let corpus = CorpusBytes(options.corpus)
        else {
            let checkpoint = try RunEnding.write(weights, to: options.out, like: options.model)
            throw .failed(
                "the job's text is not what it was when the job was launched, so that its loss cannot be told. The weights are "
                    + "in \(checkpoint); put the file back for the report")
        }
        let ending = RunEnding(
            corpus: corpus, dataTokens: options.parameters.dataTokens, sources: options.parameters.dataParts,
            fraction: options.parameters.validationFraction, out: options.out, threads: options.threads,
            prompt: options.samplePrompt, seed: options.parameters.seed, model: options.model
        ) { [self] in tell(Event($0, at: service.loop.now)) }
        let result = try ending.conclude(weights)
        let outcome = RunOutcome(
            validationLoss: result.loss, sourceLosses: result.sourceLosses, weights: digest,
            checkpoint: result.checkpoint,
            sample: result.sample, stretch: stretch)
        let report = RunReport(coordinator, view, outcome, origin: origin)
        try writeFile(options.out + "/report.json", Array(report.jsonText.utf8))
        return report
    }
}

public func makeFolder(_ path: String) throws(NodeError) {
    do {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
        throw .badInput("cannot make the folder \(path): \(foundationProblem(error)). Choose another with --out")
    }
}

extension LaunchRun.Options {
    /// What is collected is put down beside the rest of a daemon's folder.
    fileprivate func withScratch(in folder: String) -> LaunchRun.Options {
        var out = self
        out.coordinator.room = ScratchFolder(folder)
        return out
    }
}
