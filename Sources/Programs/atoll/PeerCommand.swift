import ArgumentParser
import Coordination
import Daemon
import Digests
import Foundation
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
    @Option(help: "Where to listen, UDP and TCP; port 0 takes a free one.") var listen = "0.0.0.0:0"
    @Option(help: "This peer's folder: key, lock, chunks.") var data: String?
    @Option(help: "A name for people (default: the folder's and the key's).") var name: String?
    @Option(help: "Memory offered to jobs, in MiB (default: half of this machine's).") var memory: Double?
    @Option(help: "Threads for arithmetic.") var threads = 1
    @Option(help: "Where to compute: cpu, or torch for a GPU (a Python with PyTorch, ATOLL_PYTHON, else python3).")
    var engine = EngineKind.cpu
    @Option(help: "PyTorch's device: auto, cpu, cuda:0, mps.") var torchDevice = "auto"
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
    @Flag(help: "Events as JSON lines.") var json = false

    func run() throws {
        dieWithParent()
        let invite = try Invite(file: invite)
        guard !invite.bootstrap.isEmpty else {
            throw NodeError.badInput(
                "\(self.invite) names no bootstrap address, so there is nobody to ask for the pool")
        }
        let listen = try endpoint(listen, option: "--listen")
        let seed = drawnSeed(seed)
        let emulation = try emulation(emulate, stretch: stretch, seed: seed)
        guard threads >= 1, threads <= 1024 else { throw NodeError.badInput("--threads \(threads): 1 to 1024") }
        if let memory, !(memory > 0 && memory < 1e9) {
            throw NodeError.badInput("--memory \(memory): MiB, more than 0")
        }
        let accepted = accept.isEmpty ? invite.accept : try accept.map(launcher)
        let folder = try Home.folder(data, name: "peer")
        var setup = LiveDaemon.Setup(
            key: folder.key, listen: listen, poolKey: invite.poolKey, bootstrap: invite.bootstrap, emulation: emulation,
            seed: seed)
        (setup.threads, setup.relaying) = (threads, try relay.limits(usual: .little))
        guard ["fp32", "bf16"].contains(torchPrecision) else {
            throw NodeError.badInput("--torch-precision \(torchPrecision): fp32 or bf16")
        }
        let engine = try PreparedEngine(engine, device: torchDevice, precision: torchPrecision, threads: threads)
        setup.engine = engine
        setup.device = engine.memory == nil ? "cpu/\(threads)" : "gpu"
        let name = name ?? emulation?.entry.name ?? "\(hostName())-\(folder.key.peerID.short)"
        let physical = ByteCount(Int(clamping: ProcessInfo.processInfo.physicalMemory))
        let offered =
            emulation?.entry.memory ?? memory.map { ByteCount.mebibytes($0) }
            ?? engine.memory.map { ByteCount($0.bytes / 10 * 8) } ?? ByteCount(physical.bytes / 2)
        var terms = MemberTerms(
            name: name,
            device: emulation?.entry.device ?? engine.memory.map { _ in engine.name }
                ?? "\(threads) of \(ProcessInfo.processInfo.processorCount) cores",
            memory: offered, accepts: accepted)
        let asJSON = json
        let remains = remains(in: folder)
        terms.refounds = try acceptRefound.map { try refounded($0, remains.logs) }
        let memberTerms = terms
        let end = try ServiceRun().run(setup, folder: folder) { (now) throws(NodeError) in
            let wall = WallClock(seconds: Int64(time(nil)), at: now)
            return DaemonCore.Services(
                member: Member(
                    key: folder.key, terms: memberTerms, remains: remains, wall: wall, at: now,
                    parse: JobParameters.init(manifest:)),
                elector: try JobArchive.elector(
                    in: folder, provisions: ElectorDesk.Provisions(wall: wall), at: now,
                    parse: JobParameters.init(manifest:)))
        } ready: { (daemon) throws(NodeError) in
            print("listening \(daemon.endpoint) id \(folder.key.peerID.hex)")
            if self.engine != .cpu { print("computes on \(engine.name)") }
            print("\(name) offers \(offered) to launchers \(accepted.map(\.short).joined(separator: ", "))")
            fflush(nil)
        } onEvent: { event in
            Self.show(event, asJSON)
        }
        try finish(end)
    }

    private static func show(_ event: Event, _ asJSON: Bool) {
        print(asJSON ? event.json : event.line)
        // Its owner can do something about it, and nobody else.
        if !asJSON, case .reachability = event.what, let sentence = event.sentence { print(sentence) }
        fflush(nil)
    }

    private func remains(in folder: DataFolder) -> MemberRemains {
        var out = RoundStartFile.remains(in: folder)
        out.logs = JobArchive.keptLogs(in: folder, parse: JobParameters.init(manifest:))
        return out
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

func hostName() -> String { ProcessInfo.processInfo.hostName.split(separator: ".").first.map(String.init) ?? "peer" }

extension EngineKind: ExpressibleByArgument {}
