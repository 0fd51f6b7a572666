import Digests
import Primitives

/// What all holders of a unit have: SHA-256 over the SHA-256 of its chunks, and these.
package struct ChunkedDigest: Hashable, Sendable {
    package let unit: Digest256
    package let chunks: [Digest256]
    package init(_ chunks: [[UInt8]]) { self.init(chunks.map { sha256($0) }) }
    /// - Parameter chunks: of each its SHA-256.
    package init(_ chunks: [Digest256]) {
        self.chunks = chunks
        unit = sha256(chunks.flatMap(\.bytes))
    }
    /// The first eight bytes of each chunk's.
    package var short: [UInt8] { chunks.flatMap { $0.bytes.prefix(8) } }
}
