/// How a unit's values are cut for the exchange. A *piece* is a stretch of one tensor and one codec message; a *chunk* is a
/// run of pieces and has one owner. In a contribution the pieces follow each other, each as a u32 length and its bytes.
///
/// Pieces begin at multiples of what the codec treats together (256 values of a dense codec, 65 536 of `sparse`: its group
/// of sixteen tiles), so a cut tensor decodes to the same values as a whole one. `lowrank` needs its matrices whole: there a
/// piece is a tensor. The cut hangs on the codec alone, so a round may change its way of exchanging while it runs.
public struct ChunkLayout: Hashable, Sendable {
    /// In values from the unit's first.
    public let pieces: [Range<Int>]
    /// In pieces.
    public let chunks: [Range<Int>]

    /// Most values of a piece: what sixteen tiles hold.
    public static let pieceValues = 65_536
    /// Least values of a piece of a long dense tensor.
    public static let leastValues = 4096
    /// Chunks a unit is cut into when it is large enough: enough for shares within two per cent, and for a pipeline of
    /// receiving, adding and sending.
    public static let chunksWanted = 64

    /// - Parameter tensors: count of values of each of the unit's tensors, canonical order.
    public init(tensors: [Int], codec: Codec) {
        let size = Self.size(total: tensors.reduce(0, +), codec: codec)
        let isCut = if case .lowrank = codec { false } else { true }
        var pieces: [Range<Int>] = []
        var start = 0
        for count in tensors {
            for first in stride(from: 0, to: count, by: isCut ? size : max(1, count)) {
                pieces.append(start + first..<start + (isCut ? min(count, first + size) : count))
            }
            start += count
        }
        var chunks: [Range<Int>] = []
        var first = 0
        for index in pieces.indices {
            let values = pieces[index].upperBound - pieces[first].lowerBound
            if values > size, index > first {
                chunks.append(first..<index)
                first = index
            }
        }
        if first < pieces.count { chunks.append(first..<pieces.count) }
        self.pieces = pieces
        self.chunks = chunks
    }

    private static func size(total: Int, codec: Codec) -> Int {
        switch codec {
        case .sparse, .lowrank: return pieceValues
        default:
            let even = (total / chunksWanted + leastValues - 1) / leastValues * leastValues
            return max(leastValues, min(pieceValues, even))
        }
    }

    /// Values of a chunk, from the unit's first.
    public func values(_ chunk: Int) -> Range<Int> {
        pieces[chunks[chunk].lowerBound].lowerBound..<pieces[chunks[chunk].upperBound - 1].upperBound
    }
    public var sizes: [Int] { chunks.indices.map { values($0).count } }

    /// Cuts the bytes of a whole unit into those of its chunks; nil where lengths and bytes do not fit each other.
    public func cut(_ bytes: ArraySlice<UInt8>) -> [ArraySlice<UInt8>]? {
        var rest = bytes
        var out: [ArraySlice<UInt8>] = []
        out.reserveCapacity(chunks.count)
        for chunk in chunks {
            var count = 0
            for _ in chunk {
                let head = rest.dropFirst(count)
                guard head.count >= 4 else { return nil }
                let length = head.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
                guard length <= head.count - 4 else { return nil }
                count += 4 + length
            }
            out.append(rest.prefix(count))
            rest = rest.dropFirst(count)
        }
        return rest.isEmpty ? out : nil
    }
}
