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
            object.append((field.name, value))
        }
        return "{" + object.map { "\(quoted($0.0)):\($0.1)" }.joined(separator: ",") + "}"
    }

    /// Reads a line of ``json``; nil for anything else.
    public init?(json line: String) {
        guard let object = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any],
            let kind = object["kind"] as? String, let at = (object["at_s"] as? NSNumber)?.doubleValue
        else { return nil }
        var fields: [(String, Value)] = []
        for name in object.keys.sorted() where !["kind", "at_s", "peer"].contains(name) {
            if let text = object[name] as? String {
                fields.append((name, .text(text)))
            } else if let number = object[name] as? NSNumber {
                let value = number.doubleValue
                if value == value.rounded(), abs(value) < 1e15 {
                    fields.append((name, .integer(Int(value))))
                } else {
                    fields.append((name, .real(value)))
                }
            }
        }
        self.init(kind, at: Instant(seconds: at), peer: object["peer"] as? String ?? "", fields: fields)
    }
}

/// A JSON string literal.
func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": out += "\\\""
        case "\\": out += "\\\\"
        case "\n": out += "\\n"
        case "\r": out += "\\r"
        case "\t": out += "\\t"
        case _ where scalar.value < 0x20:
            let hex = String(scalar.value, radix: 16)
            out += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        default: out.unicodeScalars.append(scalar)
        }
    }
    return out + "\""
}
