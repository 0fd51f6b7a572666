import ArgumentParser
import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Lending
import Membership
import Node
import Paths
import Primitives
import Record
import Telemetry
import Topologies

/// `atoll peer`: a volunteer's daemon.
struct PeerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "peer", abstract: "Offer this computer to the jobs of a pool.")

    @Option(help: "The pool's invite.") var invite: String
    @OptionGroup var door: DoorOptions
    @Option(help: "This peer's folder: key, lock, chunks.") var data: String?
    @Option(help: "A name for people (default: the folder's and the key's).") var name: String?
    @Option(help: "Memory offered to jobs, in MiB (default: half of what is left for it).") var memory: Double?
    @Option(help: "Threads for arithmetic (default: 1).") var threads: Int?
    @Option(help: "A limit, as KEY=VALUE, such as up_mbps=5; may be repeated. `atoll limits` lists them.") var limit:
        [String] = []
    @Option(help: "The owner's decisions (default: peer.yaml in the peer's folder, where there is one).") var config:
        String?
    @Option(help: "Where to compute: cpu, or torch for a GPU (a Python with PyTorch, ATOLL_PYTHON, else python3).")
    var engine = EngineKind.cpu
    @Option(help: "PyTorch's device: auto, cpu, cuda:0, mps; several together as cuda:0,cuda:1, or all.")
    var torchDevice = "auto"
    @Option(help: "Of matrix products in PyTorch: fp32 or bf16.") var torchPrecision = "fp32"
    @Option(help: "A launcher's key to work for, instead of those in the invite; may be repeated.") var accept:
        [String] = []
    @OptionGroup var relay: RelayOptions
    @Option(
        name: .customLong("accept-refound"),
        help: "Follow this job also where it was founded anew without entries that are certified here; may be repeated."
    )
    var acceptRefound: [String] = []
    @Option(help: ArgumentHelp("Pretend to be TOPOLOGY#HOST.", visibility: .hidden)) var emulate: String?
    @Option(help: ArgumentHelp("Slow all emulated time down.", visibility: .hidden)) var stretch = 1.0
    @Option(help: "Seed of timers and emulated links.") var seed: UInt64?
    @OptionGroup var serving: ServingOptions
    @OptionGroup var log: LogOptions
    @OptionGroup var look: ScreenOptions

    /// Of a long host name as much as leaves room for what tells two peers of one machine apart.
    private static func usualName(_ key: String) -> String {
        cleaned(hostName(), bytes: peerNameBytes - key.utf8.count - 1) + "-" + key
    }
    func validate() throws {
        if let name, !isPeerName(name) {
            throw ValidationError("--name “\(escaped(name))”: it should be \(PeerFile.allowedName)")
        }
    }
    func run() throws {
        dieWithParent()
        let invite = try Invite(file: invite)
        guard !invite.isWithoutNodes else {
            throw NodeError.badInput(
                .inviteWithoutBootstrap,
                "\(self.invite) names no bootstrap address, so there is nobody to ask for the pool")
        }
        let listen = try endpoint(door.listen, option: "--listen")
        let seed = drawnSeed(seed)
        let emulation = try emulation(emulate, stretch: stretch, seed: seed)
        let folder = try Home.folder(data, name: "peer")
        try PoolEntry.requireMember(invite, key: folder.key, folder: folder.path, to: "work for them")
        let owner = try OwnersWord(
            folder: folder.path, config: config, flags: limit, threads: threads, memory: memory,
            sensors: ProcessInfo.processInfo.environment["ATOLL_SENSORS_ROOT"] ?? "")
        let threads = owner.limits.threads ?? 1
        var setup = try LiveDaemon.Setup(
            through: invite, key: folder.key, folder: folder.path, listen: listen, emulation: emulation, seed: seed,
            tell: complain)
        (setup.threads, setup.relaying) = (threads, try relay.limits(usual: .little))
        // A pretended machine is not behind this one's router.
        setup.router = door.router.choice(isWanted: owner.mapsPorts && emulation == nil)
        guard ["fp32", "bf16"].contains(torchPrecision) else {
            throw NodeError.badInput("--torch-precision \(torchPrecision): fp32 or bf16")
        }
        let engine = try PreparedEngine(engine, device: torchDevice, precision: torchPrecision, threads: threads)
        setup.engine = engine
        setup.device = engine.memory == nil ? "cpu/\(threads)" : "gpu"
        var terms = MemberTerms(
            name: name ?? owner.name ?? emulation?.entry.name ?? Self.usualName(folder.key.peerID.short),
            device: emulation?.entry.device ?? engine.memory.map { _ in engine.name }
                ?? "\(threads) of \(ProcessInfo.processInfo.processorCount) cores",
            memory: try emulation?.entry.memory ?? owner.memory(ofDevice: engine.memory, beside: folder.path),
            accepts: try accepted(owner, invite))
        let room = ScratchFolder(folder.path)
        (setup.room, terms.room) = (room, room)
        let remains = memberRemains(in: folder)
        terms.refounds = try acceptRefound.map { try refounded($0, remains.logs) }
        // A pretended machine has no battery.
        let keeper = emulation == nil ? owner.keeper(folder.path) : nil
        let processor = emulation == nil && terms.computes ? owner.processorWatch : nil
        try finish(run(setup, folder, terms, remains, (keeper, processor), try log.log(owner: owner.log), engine.name))
    }

    private func run(
        _ setup: LiveDaemon.Setup, _ folder: DataFolder, _ terms: MemberTerms, _ remains: MemberRemains,
        _ owners: (keeper: LimitKeeper?, processor: ProcessorWatch?), _ log: EventLog, _ engineName: String
    ) throws -> RunEnd {
        let screen = PeerScreen(log, folder: folder.path)
        let command = OwnCommandWatch(folder: folder.path)
        defer { screen.end() }
        let service = ServiceRun()
        service.onSecond = screen.show
        (service.keeper, service.processor) = owners
        (service.metricsPort, service.onMetrics) = (serving.metrics, tellMetrics)
        service.web = serving.web.map { port in
            DashboardOptions(port: port, sentence: \.sentence, onAddress: tellDashboard) { status, _ in
                let hasJob = status.daemon.member?.job != nil
                return (
                    PeerStory(status: status, command: command.now).paragraphs,
                    status.limits.map { LimitText.reasons($0, hasJob: hasJob) } ?? []
                )
            }
        }
        let end = try service.run(setup, folder: folder) { (now) throws(NodeError) in
            try memberServices(terms, folder, remains, now)
        } ready: { (daemon) throws(NodeError) in
            if log.asJSON {
                return screen.show(Event(.listening(endpoint: "\(daemon.endpoint)"), at: service.loop.now))
            }
            log.say("listening \(daemon.endpoint) id \(folder.key.peerID.hex)")
            if self.engine != .cpu { log.say("computes on \(engineName)") }
            let launchers = terms.accepts.map(\.short).joined(separator: ", ")
            log.say(escaped("\(terms.name) offers \(terms.memory) to launchers \(launchers)"))
        } onEvent: { event in
            screen.show(event)
        }
        return end
    }

    private func accepted(_ owner: OwnersWord, _ invite: Invite) throws -> [PeerID] {
        if !accept.isEmpty { return try accept.map(launcher) }
        return owner.accept.isEmpty ? invite.accept : owner.accept
    }

    /// A job's ID, or as many of its first digits as one log here has.
    private func refounded(_ text: String, _ logs: [KeptLog]) throws -> Digest256 {
        if let job = Digest256(hex: text) { return job }
        let meant = logs.map(\.job).filter { text.count >= 6 && $0.hex.hasPrefix(text.lowercased()) }
        guard meant.count == 1 else {
            throw NodeError.badInput(
                "--accept-refound \(text): a job's ID, or at least six of its first digits, expected; logs of jobs here: "
                    + (logs.isEmpty ? "none" : logs.map(\.job.hex).joined(separator: ", ")))
        }
        return meant[0]
    }

    private func launcher(_ hex: String) throws -> PeerID {
        guard let key = PeerID(hex: hex) else {
            throw NodeError.badInput("--accept \(hex): 64 hexadecimal digits of a launcher's key expected")
        }
        return key
    }
}

/// What earlier processes have left in a folder.
func memberRemains(in folder: DataFolder) -> MemberRemains {
    var out = RoundStartFile.remains(in: folder)
    out.logs = JobArchive.keptLogs(in: folder, parse: JobParameters.init(manifest:))
    return out
}

/// A member, and the elector that it was before it was started again.
func memberServices(
    _ terms: MemberTerms, _ folder: DataFolder, _ remains: MemberRemains, _ now: Instant
) throws(NodeError) -> DaemonCore.Services {
    let wall = WallClock(seconds: Int64(time(nil)), at: now)
    return DaemonCore.Services(
        member: Member(
            key: folder.key, terms: terms, remains: remains, wall: wall, at: now,
            parse: JobParameters.init(manifest:)),
        elector: try JobArchive.elector(
            in: folder, provisions: ElectorDesk.Provisions(wall: wall), at: now,
            parse: JobParameters.init(manifest:)))
}

func hostName() -> String { ProcessInfo.processInfo.hostName.split(separator: ".").first.map(String.init) ?? "peer" }

extension EngineKind: ExpressibleByArgument {}
