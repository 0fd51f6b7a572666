public import Digests
public import Primitives

/// Bytes cut into chunks, each verified alone: texts, units' states, checkpoints. Content ID = SHA-256 of the encoded list of
/// (u64 length, SHA-256) of each 256 KiB chunk; that of no bytes is the SHA-256 of nothing.
public struct ContentIndex: Hashable, Sendable {
    public static let chunkBytes = 256 << 10
    /// 64 GiB of content: the most an index may describe.
    static let chunkLimit = 262_144

    public let lengths: [Int]
    public let digests: [Digest256]
    public let id: Digest256

    public var count: Int { lengths.count }
    public var bytes: Int { lengths.reduce(0, +) }

    /// The index of bytes at hand.
    public init(of content: [UInt8]) { self = content.withUnsafeBytes { ContentIndex(of: $0) } }
    public init(of content: UnsafeRawBufferPointer) {
        var lengths: [Int] = []
        var digests: [Digest256] = []
        var start = 0
        while start < content.count {
            let end = min(start + Self.chunkBytes, content.count)
            lengths.append(end - start)
            digests.append(sha256(UnsafeRawBufferPointer(rebasing: content[start..<end])))
            start = end
        }
        self.lengths = lengths
        self.digests = digests
        id = sha256(Self.encode(lengths, digests))
    }

    /// The content ID of bytes whose chunks nobody asks for.
    public static func id(of bytes: [UInt8]) -> Digest256 { ContentIndex(of: bytes).id }
    public static func id(of bytes: UnsafeRawBufferPointer) -> Digest256 { ContentIndex(of: bytes).id }

    /// An index from another peer: it must hash to the ID asked for.
    public init(encoded: [UInt8], id: Digest256) throws(MalformedBytes) {
        guard sha256(encoded) == id else { throw MalformedBytes("content index does not hash to \(id.short)") }
        guard encoded.count % 40 == 0, encoded.count / 40 <= Self.chunkLimit else {
            throw MalformedBytes("content index of \(encoded.count) bytes")
        }
        var reader = ByteReader(encoded)
        var lengths: [Int] = []
        var digests: [Digest256] = []
        while reader.remaining > 0 {
            let length = try reader.u64()
            guard length > 0, length <= Self.chunkBytes else { throw MalformedBytes("chunk of \(length) bytes") }
            lengths.append(Int(length))
            digests.append(Digest256(try reader.take(32))!)
        }
        self.lengths = lengths
        self.digests = digests
        self.id = id
    }

    public var encoded: [UInt8] { Self.encode(lengths, digests) }

    private static func encode(_ lengths: [Int], _ digests: [Digest256]) -> [UInt8] {
        var writer = ByteWriter(capacity: lengths.count * 40)
        for (length, digest) in zip(lengths, digests) {
            writer.u64(UInt64(length))
            writer.raw(digest.bytes)
        }
        return writer.bytes
    }
}
