/// A pre-tokenised `.bin` shard as llm.c, modded-nanogpt and nanochat's kin write it: 256 int32 (magic, version, n), then n
/// tokens: uint16 with magic 20240520 and version 1, uint32 with 20240801 and 7.
public struct TokenShard: @unchecked Sendable {
    public static let headerBytes = 1024
    public let path: String
    public let count: Int
    public let bytesPerToken: Int
    private let bytes: UnsafeRawBufferPointer

    /// Whether a file that begins so may be one.
    public static func begins(_ head: [UInt8]) -> Bool {
        head.count >= 8
            && [header(count: 1, wide: false), header(count: 1, wide: true)].contains { $0.starts(with: head[..<8]) }
    }

    /// Looks at the bytes of a file, which stay the caller's.
    public init(_ bytes: UnsafeRawBufferPointer, path: String) throws(DatasetError) {
        guard bytes.count >= Self.headerBytes else {
            throw .truncated(path: path, expected: Self.headerBytes, found: bytes.count)
        }
        let head = (0..<3).map { Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self)) }
        switch (head[0], head[1]) {
        case (20_240_520, 1): bytesPerToken = 2
        case (20_240_801, 7): bytesPerToken = 4
        default:
            throw .malformed(
                path: path,
                problem: "it begins with \(head[0]), \(head[1]); shards begin with 20240520, 1 (two bytes a token) or "
                    + "20240801, 7 (four)")
        }
        guard head[2] > 0 else { throw .malformed(path: path, problem: "\(head[2]) tokens are announced") }
        count = Int(head[2])
        self.path = path
        self.bytes = bytes
        let expected = Self.headerBytes + count * bytesPerToken
        guard bytes.count == expected else {
            if bytes.count < expected { throw .truncated(path: path, expected: expected, found: bytes.count) }
            throw .malformed(path: path, problem: "\(bytes.count - expected) bytes come after \(count) tokens")
        }
    }

    public subscript(index: Int) -> Int {
        precondition(index >= 0 && index < count, "token \(index) of \(count)")
        let offset = Self.headerBytes + index * bytesPerToken
        return bytesPerToken == 2
            ? Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
            : Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    /// A shard's first bytes.
    public static func header(count: Int32, wide: Bool) -> [UInt8] {
        var bytes: [UInt8] = []
        var words = [Int32](repeating: 0, count: 256)
        words[0] = wide ? 20_240_801 : 20_240_520
        words[1] = wide ? 7 : 1
        words[2] = count
        for word in words { withUnsafeBytes(of: word.littleEndian) { bytes += $0 } }
        return bytes
    }
}
