public import Primitives
public import Telemetry
public import Topologies

/// `peer.yaml`: what the owner of a peer has decided. Unknown keys, wrong types and values out of range are refused with their line.
public struct PeerFile: Hashable, Sendable {
    public var name: String?
    /// Launchers that it works for; empty: those that the invite names.
    public var accept: [PeerID] = []
    /// The router may be asked to let the peer's port in.
    public var mapsPorts = true
    /// From which level on events are printed, where nobody says otherwise.
    public var log: LogLevel?
    public var limits: [LimitKey: String] = [:]

    public static let allowedName =
        "a name of 1 to \(peerNameBytes) bytes that can be seen, without control characters and blanks around it"

    public init() {}
    /// - Throws: ``FileProblem`` with file, line, key, what was found and what is allowed.
    public init(parsing bytes: [UInt8], file: String) throws(FileProblem) {
        // Comments alone decide nothing.
        guard !YAMLNode.isEmpty(bytes) else { return }
        let top = try YAMLNode(parsing: bytes, file: file).mapping(["name", "accept", "limits", "port_mapping", "log"])
        if let node = top["name"] {
            let text = try node.text(Self.allowedName)
            guard isPeerName(text) else { throw node.problem(.outOfRange, allowed: Self.allowedName) }
            name = text
        }
        mapsPorts = try top["port_mapping"]?.boolean() ?? true
        log = try (top["log"]?.word(LogLevel.allCases.map(\.word))).flatMap(LogLevel.init)
        for node in try top["accept"]?.list("a list of launchers' keys", most: 1000) ?? [] {
            let text = try node.text("a launcher's key")
            guard let key = PeerID(hex: text) else {
                throw node.problem(.outOfRange, allowed: "a launcher's key: 64 hexadecimal digits")
            }
            accept.append(key)
        }
        guard let node = top["limits"] else { return }
        let entries = try node.mapping(LimitKey.allCases.map(\.rawValue))
        var limits = OwnerLimits()
        for key in LimitKey.allCases {
            guard let entry = entries[key.rawValue] else { continue }
            let text = try entry.text(key.allowed)
            do throws(LimitProblem) { try limits.set(key, to: text) } catch {
                throw entry.problem(.outOfRange, allowed: error.allowed)
            }
            self.limits[key] = text
        }
    }
}
