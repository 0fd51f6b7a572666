import Primitives
import Wire

/// Every field of a protobuf message, each with every value that has ever broken a reader: numbers at the edges of their types, doubles
/// that are none, bytes that are empty, much too long, or a stranger's.
///
/// It works on the encoded bytes, so that no message and no field can be forgotten.
struct FieldMutation {
    static let integers: [UInt64] = [
        0, 1, .max, 1 << 31, 1 << 32, 1 << 63, .max >> 1, 1 << 31 - 1, 65_536, 4096, 9999,
    ]
    static let doubles: [Double] = [0, 1, -1, .nan, .infinity, -.infinity, 1e300, -1e300, 1e-300, -1e-300, 9.2e18]
    static let stranger = [UInt8](repeating: 0xAB, count: 32)

    /// All of them, in order: about fifteen for each field.
    static func all(of message: [UInt8], longest: Int = 1 << 20) -> [[UInt8]] {
        var out: [[UInt8]] = []
        guard let fields = Field.parse(message[...]) else { return [] }
        for index in fields.indices {
            for value in fields[index].mutations(longest: longest) {
                var changed = fields
                changed[index].value = value
                out.append(changed.flatMap(\.encoded))
            }
            // The field is missing, or there twice.
            out.append((fields[..<index] + fields[(index + 1)...]).flatMap(\.encoded))
            out.append((fields + [fields[index]]).flatMap(\.encoded))
        }
        return out
    }

    struct Field {
        enum Value {
            case varint(UInt64)
            case fixed64(UInt64)
            case fixed32(UInt32)
            case bytes([UInt8])
        }
        var number: UInt64
        var value: Value

        static func parse(_ bytes: ArraySlice<UInt8>) -> [Field]? {
            var rest = bytes
            var out: [Field] = []
            func varint() -> UInt64? {
                var value: UInt64 = 0
                for shift in stride(from: UInt64(0), to: 70, by: 7) {
                    guard let byte = rest.popFirst(), shift < 64 else { return nil }
                    value |= UInt64(byte & 127) << shift
                    if byte < 128 { return value }
                }
                return nil
            }
            func fixed(_ count: Int) -> UInt64? {
                guard rest.count >= count else { return nil }
                defer { rest = rest.dropFirst(count) }
                return rest.prefix(count).reversed().reduce(0) { $0 << 8 | UInt64($1) }
            }
            while !rest.isEmpty {
                guard let key = varint(), key >> 3 > 0, key >> 3 < 1000 else { return nil }
                switch key & 7 {
                case 0:
                    guard let value = varint() else { return nil }
                    out.append(Field(number: key >> 3, value: .varint(value)))
                case 1:
                    guard let value = fixed(8) else { return nil }
                    out.append(Field(number: key >> 3, value: .fixed64(value)))
                case 5:
                    guard let value = fixed(4) else { return nil }
                    out.append(Field(number: key >> 3, value: .fixed32(UInt32(value))))
                case 2:
                    guard let count = varint(), count <= UInt64(rest.count) else { return nil }
                    out.append(Field(number: key >> 3, value: .bytes(Array(rest.prefix(Int(count))))))
                    rest = rest.dropFirst(Int(count))
                default: return nil
                }
            }
            return out
        }

        private static func varint(_ value: UInt64) -> [UInt8] {
            var value = value
            var out: [UInt8] = []
            while value >= 128 {
                out.append(UInt8(value & 127) | 128)
                value >>= 7
            }
            return out + [UInt8(value)]
        }
        var encoded: [UInt8] {
            switch value {
            case .varint(let value): Self.varint(number << 3) + Self.varint(value)
            case .fixed64(let value):
                Self.varint(number << 3 | 1) + withUnsafeBytes(of: value.littleEndian) { Array($0) }
            case .fixed32(let value):
                Self.varint(number << 3 | 5) + withUnsafeBytes(of: value.littleEndian) { Array($0) }
            case .bytes(let bytes): Self.varint(number << 3 | 2) + Self.varint(UInt64(bytes.count)) + bytes
            }
        }

        func mutations(longest: Int) -> [Value] {
            switch value {
            case .varint: return integers.map { .varint($0) }
            case .fixed64: return doubles.map { .fixed64($0.bitPattern) }
            case .fixed32: return doubles.map { .fixed32(Float($0).bitPattern) }
            case .bytes(let bytes):
                var out: [Value] = [
                    .bytes([]), .bytes([0]), .bytes(stranger), .bytes(Array("\u{1B}[2J\u{7}\n\u{202E}".utf8)),
                    .bytes([UInt8](repeating: 0x41, count: longest)),
                ]
                // What may be a message is one level deeper the same.
                if !bytes.isEmpty, let inner = Self.parse(bytes[...]), !inner.isEmpty {
                    out += FieldMutation.all(of: bytes, longest: min(longest, 4096)).map { .bytes($0) }
                }
                return out
            }
        }
    }
}
