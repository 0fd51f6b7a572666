/// Writes bencode front to back (BEP 3). The caller opens and closes and gives dictionary keys in byte order; what comes
/// out is only as canonical as that order, which the tests check by reading it back strictly.
public struct BencodeWriter: Sendable {
    public private(set) var bytes: [UInt8] = []
    public init(capacity: Int = 256) { bytes.reserveCapacity(capacity) }

    public mutating func beginDictionary() { bytes.append(UInt8(ascii: "d")) }
    public mutating func beginList() { bytes.append(UInt8(ascii: "l")) }
    /// Closes the innermost list or dictionary.
    public mutating func end() { bytes.append(UInt8(ascii: "e")) }
    public mutating func key(_ name: String) {
        length(name.utf8.count)
        bytes.append(contentsOf: name.utf8)
    }
    public mutating func string(_ content: some Collection<UInt8>) {
        length(content.count)
        bytes.append(contentsOf: content)
    }
    /// Only the length and the colon; exactly `count` bytes must follow through ``raw(_:)``.
    public mutating func stringHeader(count: Int) { length(count) }
    public mutating func integer(_ value: Int64) {
        bytes.append(UInt8(ascii: "i"))
        bytes.append(contentsOf: String(value).utf8)
        bytes.append(UInt8(ascii: "e"))
    }
    /// Bytes that are already encoded.
    public mutating func raw(_ encoded: some Collection<UInt8>) { bytes.append(contentsOf: encoded) }

    private mutating func length(_ count: Int) {
        if count < 10 {
            bytes.append(UInt8(ascii: "0") + UInt8(count))
        } else {
            bytes.append(contentsOf: String(count).utf8)
        }
        bytes.append(UInt8(ascii: ":"))
    }
}

/// A bencoded value as a tree, for records that people's code builds. Encoding sorts the keys.
public enum BencodeValue: Hashable, Sendable {
    case integer(Int64)
    case string([UInt8])
    case list([BencodeValue])
    case dictionary([String: BencodeValue])

    public static func text(_ text: String) -> BencodeValue { .string(Array(text.utf8)) }

    /// The canonical encoding.
    public var encoded: [UInt8] {
        var writer = BencodeWriter()
        write(to: &writer)
        return writer.bytes
    }
    private func write(to writer: inout BencodeWriter) {
        switch self {
        case .integer(let value): writer.integer(value)
        case .string(let bytes): writer.string(bytes)
        case .list(let members):
            writer.beginList()
            for member in members { member.write(to: &writer) }
            writer.end()
        case .dictionary(let entries):
            writer.beginDictionary()
            for (key, value) in entries.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
                writer.key(key)
                value.write(to: &writer)
            }
            writer.end()
        }
    }
}
