import Files
import Foundation
public import Lending
public import Primitives
public import Sensors
import Topologies

/// What a peer's owner has decided, in its folder: `peer.yaml`, which people write, and `limits.yaml`, which commands write.
public enum LimitFiles {
    public static let usual = "peer.yaml"
    /// What `atoll limits set` has written.
    public static let ofCommands = "limits.yaml"

    /// - Parameter mustExist: else a file that is not there says nothing. A link that leads nowhere is never nothing.
    public static func read(_ path: String, mustExist: Bool) throws(NodeError) -> PeerFile {
        guard mustExist || isThere(path) else { return PeerFile() }
        let bytes: [UInt8]
        do throws(NodeError) { bytes = try readFile(path, limit: 1 << 20) } catch {
            throw .badInput(.peerFile, "\(error). It says what this machine's owner allows: nothing is done without it")
        }
        do throws(FileProblem) { return try PeerFile(parsing: bytes, file: path) } catch {
            throw .badInput(.peerFile, error.description)
        }
    }

    /// Gives a limit by command where no daemon runs: from the next start on.
    ///
    /// - Parameter folder: the peer's; it must be one already.
    /// - Returns: what the owner should know of it, in a sentence.
    public static func set(_ name: String, to text: String, in folder: String) throws(NodeError) -> String {
        guard isThere(folder + "/key") else {
            throw .failed("\(folder) is no peer's folder. Where one has a folder of its own, name it with --data DIR")
        }
        let held = try DataFolder(folder)
        defer { held.close() }
        let byOwner = try read(folder + "/" + usual, mustExist: false).limits
        let byCommand = try read(folder + "/" + ofCommands, mustExist: false).limits
        var layers: LimitLayers
        do throws(LimitProblem) {
            layers = try LimitLayers([
                .init(name: usual, values: byOwner), .init(name: LimitLayers.byCommand, values: byCommand),
            ])
        } catch { throw .badInput(error.description) }
        let (key, _) = try change(&layers, name, to: text, in: folder, root: "")
        if key == .monthly {
            let usage = UsageFile(folder: folder)
            usage.forgive()
            try usage.save()
        }
        return "\(key.rawValue) is \(layers.limits.text(key)) from the next start on"
    }

    /// Checks a value, writes what commands have given, and takes it over.
    ///
    /// - Parameter root: before `/proc`; empty for this machine.
    /// - Returns: the limit, and the layer that still wins over it, if there is one.
    static func change(
        _ layers: inout LimitLayers, _ name: String, to text: String, in folder: String, root: String
    ) throws(NodeError) -> (LimitKey, winner: String?) {
        guard let key = LimitKey(rawValue: name) else { throw .badInput(unknown(name)) }
        var next = layers
        let winner: String?
        do throws(LimitProblem) { winner = try next.set(key, to: text) } catch { throw .badInput(error.description) }
        if key == .memory, text != "default", let given = next.limits.memory {
            try requireMemory(given, of: MachineMemory(root: root), source: "this")
        }
        try writeFile(folder + "/" + ofCommands, Array(next.commandFile.utf8), mode: 0o600)
        layers = next
        return (key, winner)
    }

    /// What nobody has cannot be offered. Where the system does not say what there is, its owner is believed.
    ///
    /// - Parameter source: where it was given, for people.
    public static func requireMemory(
        _ given: ByteCount, of machine: MachineMemory, source: String
    ) throws(NodeError) {
        guard let all = machine.read().value, given > all else { return }
        let group = machine.groupLimit == nil ? "" : ", as its control group allows"
        throw .badInput(
            .memoryBeyond,
            "\(given) would be offered to jobs (memory_mib, by \(source)), and this machine has \(all)\(group). Give less, or take "
                + "it back (`atoll limits set memory_mib default`, the line in peer.yaml, or --memory): without it half of what is left "
                + "is offered")
    }

    /// No limit has that name.
    public static func unknown(_ name: String) -> String {
        let names = LimitKey.allCases.map(\.rawValue)
        let meant = nearest(to: name, among: names).map { "Did you mean \($0)? " } ?? ""
        return "no limit is called \(name.prefix(40)). \(meant)There are \(names.joined(separator: ", "))"
    }
}
