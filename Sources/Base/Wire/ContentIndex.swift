public import Digests
public import Primitives

/// A file cut into chunks, each verified alone. Content ID = SHA-256 of the encoded list of (length, SHA-256 of each chunk), so that
/// every chunk may come from anyone.
public struct ContentIndex: Hashable, Sendable {
    /// All chunks but the last have this length.
    public static let chunkBytes = 256 << 10
    /// 64 GiB of content: the most an index may describe.
    public static let chunkLimit = 262_144
    /// Of the encoded list: u64 length, SHA-256.
    public static let entryBytes = 40

    public let bytes: Int
    private let digests: [Digest256]
    public let id: Digest256

    public var count: Int { digests.count }

    /// The index of bytes at hand.
    public init(of content: [UInt8]) { self = content.withUnsafeBytes { ContentIndex(of: $0) } }
    public init(of content: UnsafeRawBufferPointer) {
        var digests: [Digest256] = []
        digests.reserveCapacity(Self.count(ofBytes: content.count))
        var start = 0
        while start < content.count {
            let end = min(start + Self.chunkBytes, content.count)
            digests.append(sha256(UnsafeRawBufferPointer(rebasing: content[start..<end])))
            start = end
        }
        bytes = content.count
        self.digests = digests
        id = sha256(Self.encode(0..<digests.count, bytes: content.count, digests))
    }
    /// Read piece by piece. Nil where a store does not give them.
    public init?(of content: StoredBytes) { self.init(ofParts: [content]) }
    /// Of parts that follow each other, without putting them together. Nil where a store does not give them.
    public init?(ofParts parts: [StoredBytes]) {
        var stream = ContentIndexStream()
        for part in parts {
            guard part.eachPiece({ stream.update($0) }) else { return nil }
        }
        self = stream.finish()
    }
    fileprivate init(_ digests: [Digest256], bytes: Int) {
        self.bytes = bytes
        self.digests = digests
        id = sha256(Self.encode(0..<digests.count, bytes: bytes, digests))
    }
    /// A range of what parts that follow each other are together; nil where a store does not give it.
    public static func bytes(_ range: Range<Int>, ofParts parts: [StoredBytes]) -> [UInt8]? {
        var out: [UInt8] = []
        var start = 0
        for part in parts {
            let wanted = range.clamped(to: start..<start + part.count)
            defer { start += part.count }
            guard !wanted.isEmpty else { continue }
            guard let bytes = part.bytes(wanted.lowerBound - start..<wanted.upperBound - start) else { return nil }
            out = out.isEmpty ? bytes : out + bytes
        }
        return out
    }
    public static func id(of content: [UInt8]) -> Digest256 { ContentIndex(of: content).id }
    public static func id(of content: UnsafeRawBufferPointer) -> Digest256 { ContentIndex(of: content).id }

    /// An index from another peer: it must hash to the ID asked for.
    public init(encoded: [UInt8], id: Digest256) throws(MalformedBytes) {
        guard encoded.count % Self.entryBytes == 0, encoded.count / Self.entryBytes <= Self.chunkLimit else {
            throw MalformedBytes("content index of \(encoded.count) bytes")
        }
        guard sha256(encoded) == id else { throw MalformedBytes("content index does not hash to \(id.short)") }
        var reader = ByteReader(encoded)
        var bytes = 0
        var digests: [Digest256] = []
        digests.reserveCapacity(encoded.count / Self.entryBytes)
        while reader.remaining > 0 {
            let length = try reader.u64()
            let isLast = reader.remaining == 32
            guard length == UInt64(Self.chunkBytes) || (isLast && length > 0 && length < UInt64(Self.chunkBytes)) else {
                throw MalformedBytes("chunk of \(length) bytes")
            }
            bytes += Int(length)
            digests.append(Digest256(try reader.take(32))!)
        }
        self.bytes = bytes
        self.digests = digests
        self.id = id
    }

    public static func count(ofBytes bytes: Int) -> Int { (bytes + chunkBytes - 1) / chunkBytes }
    /// Where a chunk lies in the content.
    public func range(_ chunk: Int) -> Range<Int> {
        chunk * Self.chunkBytes..<min((chunk + 1) * Self.chunkBytes, bytes)
    }
    public func holds(_ bytes: [UInt8], chunk: Int) -> Bool {
        bytes.count == range(chunk).count && sha256(bytes) == digests[chunk]
    }

    /// The list that the content ID is the hash of.
    public var encoded: [UInt8] { encoded(from: 0, most: count) }
    /// Part of it.
    public func encoded(from first: Int, most: Int) -> [UInt8] {
        Self.encode(first..<min(count, first + most), bytes: bytes, digests)
    }
    private static func encode(_ chunks: Range<Int>, bytes: Int, _ digests: [Digest256]) -> [UInt8] {
        var writer = ByteWriter(capacity: chunks.count * entryBytes)
        for chunk in chunks {
            writer.u64(UInt64(min(chunkBytes, bytes - chunk * chunkBytes)))
            writer.raw(digests[chunk].bytes)
        }
        return writer.bytes
    }
}

/// The index of bytes that come one after the other.
public struct ContentIndexStream: ~Copyable {
    private var digests: [Digest256] = []
    private var stream = SHA256Stream()
    /// Bytes of the chunk that is not whole yet, and of all.
    private var open = 0
    private var bytes = 0
    public init() {}

    public mutating func update(_ piece: UnsafeRawBufferPointer) {
        var start = 0
        while start < piece.count {
            let end = min(piece.count, start + ContentIndex.chunkBytes - open)
            stream.update(UnsafeRawBufferPointer(rebasing: piece[start..<end]))
            open += end - start
            start = end
            if open == ContentIndex.chunkBytes { close() }
        }
        bytes += piece.count
    }
    private mutating func close() {
        digests.append(stream.finish())
        stream = SHA256Stream()
        open = 0
    }
    public mutating func finish() -> ContentIndex {
        if open > 0 { close() }
        return ContentIndex(digests, bytes: bytes)
    }
}
