public import Digests
import Foundation
public import Pools
public import Primitives
import Yams

/// What lets a peer join: where to meet, which launchers the pool accepts, and either the pool's key (whoever holds it is in) or, in a pool that
/// keeps members, an issuing key, with which a member of the pool is asked for the rest.
public struct Invite: Sendable {
    public var name: String
    /// 32 bytes; none where there is an issuing key.
    public var poolKey: [UInt8]
    public var issuing: Issuing?
    public var bootstrap: [Endpoint]
    /// Nodes by name, whose addresses may change.
    public var names: [HostName] = []
    public var accept: [PeerID]

    public init(name: String, poolKey: [UInt8], bootstrap: [Endpoint], accept: [PeerID]) {
        self.name = name
        self.poolKey = poolKey
        self.bootstrap = bootstrap
        self.accept = accept
    }

    /// There is nobody to ask.
    public var isWithoutNodes: Bool { bootstrap.isEmpty && names.isEmpty }
    /// Where its nodes are now; names that nobody knows at the moment are left out. Blocks while they are looked up.
    public var nodes: [Endpoint] {
        names.reduce(into: bootstrap) { all, name in all += name.resolve().filter { !all.contains($0) } }
    }

    /// An invite's own key, and what the pool's authority lets it do.
    public struct Issuing: Sendable {
        public var warrant: Warrant
        public var key: SigningKey
        public init(_ warrant: Warrant, _ key: SigningKey) { (self.warrant, self.key) = (warrant, key) }
    }
    public init(name: String, _ issuing: Issuing, bootstrap: [Endpoint], accept: [PeerID]) {
        self.init(name: name, poolKey: [], bootstrap: bootstrap, accept: accept)
        self.issuing = issuing
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
        let isMarked = try Self.isMarked(text, bad)
        let root: Node?
        // What is wrong is said without the line that it is in: a secret may be there.
        do { root = try Yams.compose(yaml: text) } catch let error as YamlError {
            throw bad(Self.place(of: error).map { "line \($0) is not YAML; the file may have been cut" } ?? "not YAML")
        } catch { throw bad("not YAML") }
        guard let map = root?.mapping else { throw bad("keys pool, bootstrap and accept expected") }
        try Self.requireKeys(map, isMarked, bad)
        if let warrant = map["warrant"]?.string {
            guard map["pool"] == nil else { throw bad("it has `pool` and `warrant`: an invite has one of them") }
            guard let bytes = [UInt8](hex: warrant), let read = try? Warrant(encoded: bytes), read.isSigned,
                let seed = map["issuer"]?.string.flatMap({ [UInt8](hex: $0) }), let key = SigningKey(seed: seed),
                key.peerID == read.issuer
            else { throw bad("`warrant` and `issuer` do not belong together, or were changed") }
            poolKey = []
            issuing = Issuing(read, key)
        } else {
            guard let pool = map["pool"]?.string, let key = [UInt8](hex: pool), key.count == 32 else {
                throw bad("`pool` must be 64 hexadecimal digits, or `warrant` and `issuer` be there")
            }
            poolKey = key
        }
        name = map["name"]?.string ?? "pool"
        bootstrap = []
        for entry in map["bootstrap"]?.array() ?? [] {
            if let endpoint = entry.string.flatMap({ Endpoint($0) }) {
                bootstrap.append(endpoint)
            } else if let name = entry.string.flatMap({ HostName($0) }) {
                names.append(name)
            } else {
                throw bad(
                    "line \(entry.mark?.line ?? 0): bootstrap \(entry.string ?? "?") is neither ADDRESS:PORT, such as 192.0.2.7:7070 or [2001:db8::7]:7070, nor NAME:PORT"
                )
            }
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

    private static func requireKeys(
        _ map: Node.Mapping, _ isMarked: Bool, _ bad: (String) -> NodeError
    ) throws(NodeError) {
        for key in map.keys {
            guard let word = key.string, words.contains(word) else {
                let shown = key.string.flatMap { $0.count <= 20 ? " " + $0 : nil } ?? ""
                throw bad(
                    "line \(key.mark?.line ?? 0): unknown key\(shown); allowed are \(words.joined(separator: ", "))"
                )
            }
        }
        for word in ["bootstrap", "accept"] where map[word] == nil || !isMarked && map[word]?.null != nil {
            throw bad("there is no `\(word)` in it, so the file was cut: ask for all of it again")
        }
    }
    /// Whether a file says where it begins (`---`) and ends (`...`): one that says the one and not the other was cut. Those of earlier versions say
    /// neither.
    private static func isMarked(_ text: String, _ bad: (String) -> NodeError) throws(NodeError) -> Bool {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
        let hasBegin = lines.contains("---")
        let hasEnd = lines.last { !$0.isEmpty } == "..."
        guard hasBegin == hasEnd else {
            throw bad(
                hasBegin
                    ? "its end is missing (the last line is “...”), so the file was cut: ask for all of it again"
                    : "its beginning is missing (a line “---”), so the file was cut: ask for all of it again")
        }
        return hasBegin
    }

    private static func place(of error: YamlError) -> Int? {
        switch error {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _): mark.line
        case .duplicatedKeysInMapping(_, let context): context.mark.line
        default: nil
        }
    }
    private static let words = ["name", "pool", "warrant", "issuer", "bootstrap", "accept"]

    public var text: String {
        var out: String
        if let issuing {
            let uses =
                issuing.warrant.uses.map { $0 == 1 ? "Whoever comes first" : "The first \($0) who come" }
                ?? "Whoever comes"
            out = """
                # An Atoll invite, \(issuing.warrant.id.short). \(uses) with this file can join the pool, as \(issuing.warrant.role.word): pass it on with care.
                ---
                name: \(name)
                warrant: "\(issuing.warrant.encoded.hex)"
                issuer: "\(issuing.key.seed.hex)"
                bootstrap:

                """
        } else {
            out = """
                # An Atoll invite. Whoever holds this file can join the pool: pass it on with care.
                ---
                name: \(name)
                pool: "\(poolKey.hex)"
                bootstrap:

                """
        }
        if isWithoutNodes { out.replaceEnd("\n", by: " []\n") }
        for endpoint in bootstrap { out += "  - \"\(endpoint)\"\n" }
        for name in names { out += "  - \"\(name)\"\n" }
        out += "# Launchers that peers joining with this invite work for, unless their owner says otherwise.\naccept:\n"
        if accept.isEmpty { out.replaceEnd("\n", by: " []\n") }
        for launcher in accept { out += "  - \"\(launcher.hex)\"\n" }
        return out + "...\n"
    }
}

extension String {
    fileprivate mutating func replaceEnd(_ end: String, by text: String) { self = dropLast(end.count) + text }
}
