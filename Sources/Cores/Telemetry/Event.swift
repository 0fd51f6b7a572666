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
        public init(name: String, value: Value) {
            self.name = name
            self.value = value
        }
    }

    public let what: Happening
    public let at: Instant
    /// Whom it is about, by name or short ID; empty when about the job.
    public let peer: String

    public init(_ what: Happening, at: Instant, peer: String = "") {
        self.what = what
        self.at = at
        self.peer = peer
    }

    /// A word in snake case, e.g. `peer_lost`; the list is in docs/EVENTS.md.
    public var kind: String { what.kind }
    public var fields: [Field] { what.fields }

    // By name, where a case would have to be spelt out for one field of it.
    public subscript(_ name: String) -> Value? { fields.first { $0.name == name }?.value }
    public func integer(_ name: String) -> Int? { if case .integer(let n)? = self[name] { n } else { nil } }
    public func real(_ name: String) -> Double? { if case .real(let x)? = self[name] { x } else { nil } }
    public func text(_ name: String) -> String? { if case .text(let s)? = self[name] { s } else { nil } }

    /// One line of a transcript: seconds with nanoseconds, kind, peer, fields in the order given.
    public var line: String { "\(fixed(at.seconds, 9)) \(words)" }

    /// The same without its time.
    public var words: String {
        let (name, fields) = what.reading
        var out = name.kind
        if !peer.isEmpty { out += " \(escaped(peer))" }
        for field in fields { out += " \(field.name)=\(escaped(field.value.description))" }
        return out
    }
}

/// Text of others once more on its way out: control characters and marks that turn the direction of writing are written as
/// `\u{…}`; everything else stays.
public func escaped(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isDangerous) else { return text }
    var out = ""
    for scalar in text.unicodeScalars {
        if isDangerous(scalar) {
            out += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
            out.unicodeScalars.append(scalar)
        }
    }
    return out
}

/// Whether a scalar does more at a terminal than to be seen: control characters, marks that turn the direction of writing, what
/// is invisible.
public func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x00...0x1F, 0x7F...0x9F, 0x061C, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF, 0xFFF9...0xFFFB,
        0xE0000...0xE0FFF:
        true
    default: false
    }
}
