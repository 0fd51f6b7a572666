import Kernels
import Primitives

extension Codec {
    /// Shannon's limit for what a message says, in bits; nil where none is defined (fp32, bf16, fp16, lowrank).
    ///
    /// - sparse: Σ over tiles of log₂ C(m, E) + E times the bits of a symbol, for a tile of m values that sends E
    ///   entries (empty tiles counted as if they sent).
    /// - int8, int4: count × the order-0 entropy of the quantised values, and 32 bits a scale.
    public func entropyLimit(count: Int, message: ArraySlice<UInt8>) -> Double? {
        switch self {
        case .fp32, .bf16, .fp16, .lowrank: return nil
        case .sparse(let k, let values):
            let whole = count / Int(KERNELS_CODEC_TILE), rest = count % Int(KERNELS_CODEC_TILE)
            func tile(_ m: Int) -> Double {
                let entries = kernels_codec_sparse_tile_entries(m, k)
                return logBinomial(m, entries) + Double(entries * values.symbolBits)
            }
            return (whole > 0 ? Double(whole) * tile(Int(KERNELS_CODEC_TILE)) : 0) + (rest > 0 ? tile(rest) : 0)
        case .int8, .int4:
            let blocks = (count + Int(KERNELS_CODEC_BLOCK) - 1) / Int(KERNELS_CODEC_BLOCK)
            var counts = [Int](repeating: 0, count: 256)
            var left = count
            for byte in message.dropFirst(4 * blocks) {
                if self == .int8 {
                    counts[Int(byte)] += 1
                } else {
                    counts[Int(byte & 15)] += 1
                    if left > 1 { counts[Int(byte >> 4)] += 1 }
                    left -= 2
                }
            }
            var bits = 32 * Double(blocks)
            for times in counts where times > 0 { bits -= Double(times) * log2(Double(times) / Double(count)) }
            return bits
        }
    }
}

/// log₂ C(n, k).
private func logBinomial(_ n: Int, _ k: Int) -> Double {
    (0..<k).reduce(0) { $0 + log2(Double(n - $1) / Double($1 + 1)) }
}

private func log2(_ x: Double) -> Double { kernels_log(x) / 0.693_147_180_559_945_3 }
