import Foundation
import Primitives
public import Telemetry

extension Event {
    /// One line of JSON: `at_s`, `kind`, `peer`, then the fields under their names.
    public var json: String {
        var object: [(String, String)] = [("at_s", fixed(at.seconds, 6)), ("kind", quoted(kind))]
        if !peer.isEmpty { object.append(("peer", quoted(peer))) }
        for field in fields {
            let value =
                switch field.value {
                case .integer(let n): "\(n)"
                case .real(let x): x.isFinite ? fixed(x, 9) : "null"
                case .text(let text): quoted(text)
                }
            object.append((Self.key(field.name), value))
        }
        return "{" + object.map { "\(quoted($0.0)):\($0.1)" }.joined(separator: ",") + "}"
    }

    /// Reads a line of ``json``; nil for anything else, and for kinds that this build does not know.
    public init?(json line: String) {
        guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
            let kind = object["kind"] as? String, let at = (object["at_s"] as? NSNumber)?.doubleValue, abs(at) < 1e9,
            let what = Happening(
                kind: kind,
                field: { name in
                    let value = object[Self.key(name)]
                    if let text = value as? String { return .text(text) }
                    if let whole = value as? Int { return .integer(whole) }
                    return (value as? Double).map { .real($0) }
                })
        else { return nil }
        self.init(what, at: Instant(seconds: at), peer: object["peer"] as? String ?? "")
    }
}

extension Event {
    /// What every line has; a field of such a name gets another.
    private static func key(_ field: String) -> String {
        ["at_s", "kind", "peer"].contains(field) ? field + "_" : field
    }
}

/// A JSON string literal; what a terminal could take for more than text is escaped, too.
func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": out += "\\\""
        case "\\": out += "\\\\"
        case "\n": out += "\\n"
        case "\r": out += "\\r"
        case "\t": out += "\\t"
        case _ where isDangerous(scalar):
            for unit in String(scalar).utf16 {
                let hex = String(unit, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            }
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out + "\""
}
