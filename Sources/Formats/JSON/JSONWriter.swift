extension JSONValue {
    /// UTF-8 bytes, members in their order. `indented` writes a member a line, else all is one line.
    public func bytes(indented: Bool = false) -> [UInt8] {
        var out: [UInt8] = []
        write(into: &out, indented: indented, level: 0)
        return out
    }

    /// ``bytes(indented:)`` as a text.
    public func written(indented: Bool = false) -> String { String(decoding: bytes(indented: indented), as: UTF8.self) }

    private func write(into out: inout [UInt8], indented: Bool, level: Int) {
        switch self {
        case .null: out += "null".utf8
        case .bool(let value): out += (value ? "true" : "false").utf8
        case .number(let number): out += number.text.utf8
        case .string(let text): JSONValue.write(text, into: &out)
        case .array(let values):
            // Numbers and words side by side, whatever holds more one below the other.
            let isFlat = !indented || values.allSatisfy { $0.array == nil && $0.object == nil }
            out.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { out += (isFlat && indented ? ", " : ",").utf8 }
                if !isFlat { JSONValue.newLine(into: &out, level: level + 1) }
                value.write(into: &out, indented: indented, level: level + 1)
            }
            if !isFlat, !values.isEmpty { JSONValue.newLine(into: &out, level: level) }
            out.append(UInt8(ascii: "]"))
        case .object(let object):
            out.append(UInt8(ascii: "{"))
            for (index, member) in object.members.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                if indented { JSONValue.newLine(into: &out, level: level + 1) }
                JSONValue.write(member.key, into: &out)
                out += (indented ? ": " : ":").utf8
                member.value.write(into: &out, indented: indented, level: level + 1)
            }
            if indented, !object.members.isEmpty { JSONValue.newLine(into: &out, level: level) }
            out.append(UInt8(ascii: "}"))
        }
    }

    private static func newLine(into out: inout [UInt8], level: Int) {
        out.append(10)
        out.append(contentsOf: repeatElement(32, count: 2 * level))
    }

    private static let digits = Array("0123456789abcdef".utf8)

    private static func write(_ text: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                out.append(UInt8(ascii: "\\"))
                out.append(byte)
            case 10: out += "\\n".utf8
            case 13: out += "\\r".utf8
            case 9: out += "\\t".utf8
            case 0..<32, 127: out += "\\u00".utf8 + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }
}
