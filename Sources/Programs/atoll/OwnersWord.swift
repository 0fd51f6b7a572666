import Daemon
import Foundation
import Lending
import Node
import Primitives
import Sensors
import Telemetry
import Topologies

/// What the owner of a peer has decided, wherever it was said: flags win over the environment, that over `atoll limits set`, that over peer.yaml.
struct OwnersWord {
    let name: String?
    let accept: [PeerID]
    /// The router may be asked to let the port in.
    let mapsPorts: Bool
    /// From which level on events are printed, by peer.yaml.
    let log: LogLevel?
    private let layers: LimitLayers
    private let sensors: String
    var limits: OwnerLimits { layers.limits }

    /// - Parameters:
    ///   - folder: the peer's.
    ///   - config: a file in the place of the folder's peer.yaml.
    ///   - flags: `KEY=VALUE`.
    ///   - sensors: before `/proc` and `/sys`: for tests; empty for this machine.
    init(
        folder: String, config: String?, flags: [String], threads: Int?, memory: Double?, sensors: String
    ) throws(NodeError) {
        let file = try LimitFiles.read(config ?? folder + "/" + LimitFiles.usual, mustExist: config != nil)
        let commands = try LimitFiles.read(folder + "/" + LimitFiles.ofCommands, mustExist: false)
        let values = try Self.flags(flags, threads: threads, memory: memory)
        let given = try Self.environment(ProcessInfo.processInfo.environment)
        do throws(LimitProblem) {
            layers = try LimitLayers([
                .init(name: config ?? "peer.yaml", values: file.limits),
                .init(name: LimitLayers.byCommand, values: commands.limits),
                .init(name: "the environment", values: given), .init(name: "the command line", values: values),
            ])
        } catch {
            let place = values[error.key] != nil ? "the command line" : "ATOLL_LIMIT_" + error.key.rawValue.uppercased()
            throw .badInput("\(place): \(error)")
        }
        (name, accept, mapsPorts, log, self.sensors) = (file.name, file.accept, file.mapsPorts, file.log, sensors)
    }

    /// Each limit at most once: of two values nobody can know which one was meant.
    private static func flags(
        _ flags: [String], threads: Int?, memory: Double?
    ) throws(NodeError) -> [LimitKey: String] {
        var values: [LimitKey: String] = [:]
        if let threads { values[.threads] = "\(threads)" }
        if let memory { values[.memory] = fixed(memory, memory == memory.rounded() ? 0 : 3) }
        for flag in flags {
            let parts = flag.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw .badInput("--limit \(flag): KEY=VALUE expected, such as up_mbps=5")
            }
            guard let key = LimitKey(rawValue: String(parts[0])) else {
                throw .badInput("--limit \(flag): \(LimitFiles.unknown(String(parts[0])))")
            }
            if let before = values[key] {
                throw .badInput("--limit \(flag): \(key.rawValue) was given as \(before) already. Give it once")
            }
            values[key] = String(parts[1])
        }
        return values
    }
    static let prefix = "ATOLL_LIMIT_"
    private static func environment(_ all: [String: String]) throws(NodeError) -> [LimitKey: String] {
        var given: [LimitKey: String] = [:]
        for name in all.keys.sorted() where name.uppercased().hasPrefix(prefix) {
            let rest = String(name.dropFirst(prefix.count))
            guard name.hasPrefix(prefix), rest == rest.uppercased(), let key = LimitKey(rawValue: rest.lowercased())
            else {
                let key = LimitKey(rawValue: rest.lowercased())
                throw .badInput(
                    "\(name) in the environment: "
                        + (key.map { "write it \(prefix)\($0.rawValue.uppercased())" }
                            ?? LimitFiles.unknown(rest.lowercased())))
            }
            given[key] = all[name]
        }
        return given
    }

    /// Whether other programs take the processor.
    var processorWatch: ProcessorWatch { ProcessorWatch(sensors: sensors) }
    func keeper(_ folder: String) -> LimitKeeper {
        LimitKeeper(layers, folder: folder, sensors: MachineSensors(root: sensors))
    }

    /// What is offered: as the owner says, else half of what the system and the other peers of this machine leave.
    ///
    /// - Parameters:
    ///   - device: memory of the engine's own, where it has any.
    ///   - folder: this peer's: the others are those beside it.
    func memory(ofDevice device: ByteCount?, beside folder: String) throws(NodeError) -> ByteCount {
        if let given = limits.memory {
            if device == nil {
                try LimitFiles.requireMemory(
                    given, of: MachineMemory(root: sensors), source: layers.source(of: .memory) ?? "default")
            }
            // What is given is for all of the program; a little is its own.
            return ByteCount(given.bytes - min(Self.ownMemory, given.bytes / 8))
        }
        if let device { return ByteCount(device.bytes / 10 * 8) }
        guard case .value(let machine) = MachineMemory(root: sensors).read() else {
            throw .badInput("this system does not say how much memory it has: --memory MIB says what is offered")
        }
        let others = Self.offeredByOthers(than: folder)
        // A fifth is the system's.
        let left = machine.bytes / 10 * 8 - others.bytes
        guard left >= 64 << 20 else {
            throw .badInput(
                "other peers of this machine offer \(others) of its \(machine) already, and little is left. --memory MIB offers some all the same [MEM-001: atoll help MEM-001]"
            )
        }
        return ByteCount(left / 2)
    }
    /// Code, sockets, what is being sent: about so much beside what the memory law counts.
    private static let ownMemory = 80 << 20
    private static func offeredByOthers(than folder: String) -> ByteCount {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: Home.path)) ?? []
        var sum = ByteCount(0)
        for name in names.sorted() where Home.path + "/" + name != folder {
            guard let answer = try? ControlService.ask(.status, in: Home.path + "/" + name),
                let member = answer.answer.status?.daemon.member
            else { continue }
            sum += ByteCount.mebibytes(member.memoryMebibytes)
        }
        return sum
    }
}
