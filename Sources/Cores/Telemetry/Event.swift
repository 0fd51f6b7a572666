public import Primitives

/// Something that happened, in the past tense: the one stream from which status, report, progress and transcript are folded.
public struct Event: Hashable, Sendable {
    /// A field's value; numbers keep their kind so that text and JSON agree everywhere.
    public enum Value: Hashable, Sendable, CustomStringConvertible {
        case integer(Int)
        case real(Double)
        case text(String)
        public var description: String {
            switch self {
            case .integer(let n): "\(n)"
            case .real(let x): fixed(x, 6)
            case .text(let s): s
            }
        }
    }
    public struct Field: Hashable, Sendable {
        public let name: String
        public let value: Value
    }

    /// A word in snake case, e.g. `peer_lost`; the list is in docs/EVENTS.md.
    public let kind: String
    public let at: Instant
    /// Whom it is about, by name or short ID; empty when about the job.
    public let peer: String
    public let fields: [Field]

    public init(_ kind: String, at: Instant, peer: String = "", _ fields: KeyValuePairs<String, Value> = [:]) {
        self.kind = kind
        self.at = at
        self.peer = peer
        self.fields = fields.map { Field(name: $0.key, value: $0.value) }
    }
    public init(_ kind: String, at: Instant, peer: String, fields: [(String, Value)]) {
        self.kind = kind
        self.at = at
        self.peer = peer
        self.fields = fields.map { Field(name: $0.0, value: $0.1) }
    }
    public subscript(_ name: String) -> Value? { fields.first { $0.name == name }?.value }
    public func integer(_ name: String) -> Int? { if case .integer(let n)? = self[name] { n } else { nil } }
    public func real(_ name: String) -> Double? {
        switch self[name] {
        case .real(let x)?: x
        case .integer(let n)?: Double(n)
        default: nil
        }
    }
    public func text(_ name: String) -> String? { if case .text(let s)? = self[name] { s } else { nil } }

    /// One line of a transcript: seconds with nanoseconds, kind, peer, fields in the order given.
    public var line: String {
        var out = "\(fixed(at.seconds, 9)) \(kind)"
        if !peer.isEmpty { out += " \(peer)" }
        for field in fields { out += " \(field.name)=\(field.value)" }
        return out
    }
}
