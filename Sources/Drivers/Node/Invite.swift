import Foundation
public import Primitives
import Yams

/// What lets a peer join: the pool's key, where to meet, and which launchers its pool accepts. Whoever holds it is in.
public struct Invite: Sendable {
    public var name: String
    public var poolKey: [UInt8]
    public var bootstrap: [Endpoint]
    public var accept: [PeerID]

    public init(name: String, poolKey: [UInt8], bootstrap: [Endpoint], accept: [PeerID]) {
        self.name = name
        self.poolKey = poolKey
        self.bootstrap = bootstrap
        self.accept = accept
    }

    public init(file path: String) throws(NodeError) {
        let bytes: [UInt8]
        do throws(NodeError) { bytes = try readFile(path, limit: 1 << 20) } catch {
            throw .badInput(.inviteMissing, error.description)
        }
        func bad(_ why: String) -> NodeError {
            .badInput(.inviteMalformed, "\(path): \(why). An invite is the file that `atoll node` prints the place of")
        }
        guard let text = String(bytes: bytes, encoding: .utf8) else { throw bad("not text") }
        let root: Node?
        do { root = try Yams.compose(yaml: text) } catch { throw bad("not YAML: \(error)") }
        guard let map = root?.mapping else { throw bad("keys pool, bootstrap and accept expected") }
        for key in map.keys {
            guard let word = key.string, ["name", "pool", "bootstrap", "accept"].contains(word) else {
                throw bad(
                    "line \(key.mark?.line ?? 0): unknown key \(key.string ?? "?"); allowed are name, pool, bootstrap, accept"
                )
            }
        }
        guard let pool = map["pool"]?.string, let key = [UInt8](hex: pool), key.count == 32 else {
            throw bad("`pool` must be 64 hexadecimal digits")
        }
        poolKey = key
        name = map["name"]?.string ?? "pool"
        bootstrap = []
        for entry in map["bootstrap"]?.array() ?? [] {
            guard let word = entry.string, let endpoint = Endpoint(word) else {
                throw bad("line \(entry.mark?.line ?? 0): bootstrap \(entry.string ?? "?") is not ADDRESS:PORT")
            }
            bootstrap.append(endpoint)
        }
        accept = []
        for entry in map["accept"]?.array() ?? [] {
            guard let word = entry.string, let peer = PeerID(hex: word) else {
                throw bad(
                    "line \(entry.mark?.line ?? 0): \(entry.string ?? "?") is not a launcher's key (64 hexadecimal digits)"
                )
            }
            accept.append(peer)
        }
    }

    public var text: String {
        var out = """
            # An Atoll invite. Whoever holds this file can join the pool: pass it on with care.
            name: \(name)
            pool: "\(poolKey.hex)"
            bootstrap:

            """
        for endpoint in bootstrap { out += "  - \"\(endpoint)\"\n" }
        out += "# Launchers that peers joining with this invite work for, unless their owner says otherwise.\naccept:\n"
        for launcher in accept { out += "  - \"\(launcher.hex)\"\n" }
        return out
    }
}
