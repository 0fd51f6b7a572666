public import Primitives

/// The Merkle tree hash (RFC 6962, §2.1) of a list that only grows, in memory of O(log n): the roots of the full subtrees that it consists
/// of, the largest first. Their sizes are the ones of the count in binary.
public struct MerkleFrontier: Hashable, Sendable {
    public private(set) var count = 0
    private var peaks: [Digest256] = []
    public init() {}

    /// - Parameter leaf: the hash of an entry (``leaf(_:)``).
    public mutating func append(_ leaf: Digest256) {
        var subtree = leaf
        var size = count
        while size & 1 == 1 {
            subtree = Self.node(peaks.removeLast(), subtree)
            size >>= 1
        }
        peaks.append(subtree)
        count += 1
    }

    public var root: Digest256 {
        guard var root = peaks.last else { return sha256([]) }
        for peak in peaks.dropLast().reversed() { root = Self.node(peak, root) }
        return root
    }

    public static func leaf(_ entry: some Collection<UInt8>) -> Digest256 { sha256([0] + entry) }
    static func node(_ left: Digest256, _ right: Digest256) -> Digest256 { sha256([1] + left.bytes + right.bytes) }
}
