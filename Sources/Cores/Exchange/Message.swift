import Kernels
import Primitives

/// A message that has been checked whole, and can therefore be applied without failing.
final class Message {
    private let codec: Codec
    private let count: Int
    private let bytes: ArraySlice<UInt8>
    /// Only for `sparse`: the entries and levels.
    let unpacked: SparseBuffer?
    /// Only for a matrix of `lowrank`.
    private let factors: LowRank?

    /// `buffer` is used by no other message that is still needed. `shape` matters to `lowrank`.
    init(
        _ bytes: ArraySlice<UInt8>, codec: Codec, count: Int, shape: [Int] = [], buffer: SparseBuffer? = nil
    ) throws(CodecError) {
        self.count = count
        self.bytes = bytes
        guard case .sparse(let k, let kind) = codec else {
            unpacked = nil
            let expected = codec.maximumBytes(for: count, shape: shape)
            if case .lowrank(let rank) = codec {
                let matrix = Codec.matrix(shape, rank: rank)
                factors = matrix.map { LowRank(rows: $0.rows, columns: $0.columns, rank: rank) }
                self.codec = factors == nil ? .fp32 : codec
            } else {
                factors = nil
                self.codec = codec
            }
            guard bytes.count >= expected else { throw CodecError.truncated(expected: expected, found: bytes.count) }
            guard bytes.count <= expected else { throw CodecError.trailingBytes(bytes.count - expected) }
            try checkDense()
            return
        }
        self.codec = codec
        factors = nil
        let room = buffer ?? SparseBuffer()
        unpacked = room
        let limit = codec.maximumBytes(for: count)
        guard bytes.count <= limit else { throw CodecError.trailingBytes(bytes.count - limit) }
        room.reserve(count: count, k: k)
        let problem = withPointer { [count] start in
            kernels_codec_sparse_parse(start, bytes.count, count, k, kind.kernel, room.entries, room.levels)
        }
        switch Int(problem.status) {
        case KERNELS_CODEC_OK: break
        case KERNELS_CODEC_TRUNCATED: throw CodecError.truncated(expected: problem.detail + 1, found: problem.detail)
        case KERNELS_CODEC_TRAILING: throw CodecError.trailingBytes(problem.detail)
        case KERNELS_CODEC_INDEX: throw CodecError.indexOutOfRange(problem.detail, limit: problem.limit)
        case KERNELS_CODEC_NOT_FINITE: throw CodecError.notFinite
        default: throw CodecError.malformed("sparse: a header or padding that no encoder writes")
        }
    }

    private var entries: UnsafeMutablePointer<UInt16> { unpacked!.entries }
    private var levels: UnsafeMutablePointer<Float> { unpacked!.levels }

    /// The bytes' start. Never called with an empty message but for a zero count, where the address is not read.
    func withPointer<Result>(_ body: (UnsafePointer<UInt8>) -> Result) -> Result {
        bytes.withUnsafeBufferPointer { buffer in
            if let start = buffer.baseAddress { return body(start) }
            return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1) { body(UnsafePointer($0.baseAddress!)) }
        }
    }

    private func checkDense() throws(CodecError) {
        switch codec {
        case .fp32: guard withPointer({ kernels_codec_fp32_finite($0, count) }) else { throw .notFinite }
        case .bf16: guard withPointer({ kernels_codec_bf16_finite($0, count) }) else { throw .notFinite }
        case .fp16: guard withPointer({ kernels_codec_fp16_finite($0, count) }) else { throw .notFinite }
        case .lowrank:
            guard let factors else { return }
            if let problem = withPointer({ factors.problem($0) }) { throw problem }
        case .int8: try checkScales()
        case .int4:
            try checkScales()
            guard count % 2 == 0 || bytes.last! >> 4 == 0 else {
                throw .malformed("int4: a last half that is not empty")
            }
        case .sparse: break
        }
    }

    /// Scales lie in 0…2¹²⁰, so that no product overflows.
    private func checkScales() throws(CodecError) {
        let blocks = (count + Int(KERNELS_CODEC_BLOCK) - 1) / Int(KERNELS_CODEC_BLOCK)
        let worst = bytes.withUnsafeBytes { raw in
            var worst: Float = 0
            for block in 0..<blocks {
                let scale = Float(bitPattern: raw.loadUnaligned(fromByteOffset: 4 * block, as: UInt32.self))
                guard scale.isFinite else { return scale }
                if scale.sign == .minus || scale > 0x1p120 { worst = scale }
            }
            return worst
        }
        guard worst.isFinite else { throw .notFinite }
        guard worst == 0, worst.sign == .plus else { throw .malformed("a scale of \(worst); 0 to 2^120 allowed") }
    }

    func decode(into values: UnsafeMutablePointer<Float>) {
        withPointer { start in
            switch codec {
            case .fp32: kernels_codec_fp32_decode(start, count, values)
            case .bf16: kernels_codec_bf16_decode(start, count, values)
            case .fp16: kernels_codec_fp16_decode(start, count, values)
            case .lowrank: factors?.decode(start, into: values)
            case .int8: kernels_codec_int8_decode(start, count, values)
            case .int4: kernels_codec_int4_decode(start, count, values)
            case .sparse(let k, _): kernels_codec_sparse_scatter(entries, levels, count, k, values)
            }
        }
    }

    /// `weights` may be left out. The dense codecs but `lowrank` can take a part of the values, from a multiple of 256 on; `sum` and
    /// `weights` start there.
    func accumulate(
        weight: Float, part: Range<Int>? = nil, into sum: UnsafeMutablePointer<Float>,
        weights: UnsafeMutablePointer<Float>?
    ) {
        let first = part?.lowerBound ?? 0, some = part?.count ?? count
        withPointer { start in
            switch codec {
            case .fp32: kernels_codec_fp32_accumulate(start, count, first, some, weight, sum, weights)
            case .bf16: kernels_codec_bf16_accumulate(start, count, first, some, weight, sum, weights)
            case .fp16: kernels_codec_fp16_accumulate(start, count, first, some, weight, sum, weights)
            case .lowrank: accumulateDecoded(weight: weight, into: sum, weights: weights)
            case .int8: kernels_codec_int8_accumulate(start, count, first, some, weight, sum, weights)
            case .int4: kernels_codec_int4_accumulate(start, count, first, some, weight, sum, weights)
            case .sparse(let k, _): kernels_codec_sparse_accumulate(entries, levels, count, k, weight, sum, weights)
            }
        }
    }

    private func accumulateDecoded(
        weight: Float, into sum: UnsafeMutablePointer<Float>, weights: UnsafeMutablePointer<Float>?
    ) {
        withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { decoded in
            guard let start = decoded.baseAddress, count > 0 else { return }
            decode(into: start)
            kernels_codec_fp32_accumulate(
                UnsafeRawPointer(start).assumingMemoryBound(to: UInt8.self), count, 0, count, weight, sum, weights)
        }
    }

    /// Multiplies what the entries of a `sparse` message stand for; the dense codecs take the factor with the weight.
    func scaleLevels(by factor: Float) {
        guard case .sparse = codec else { return }
        for index in 0..<4 * kernels_codec_sparse_tiles(count) { levels[index] *= factor }
    }

    func sumOfSquares() -> Double {
        guard case .sparse(let k, _) = codec else {
            return withUnsafeTemporaryAllocation(of: Float.self, capacity: count) { values in
                guard let start = values.baseAddress, count > 0 else { return 0 }
                decode(into: start)
                return kernels_codec_sum_of_squares(start, count)
            }
        }
        return kernels_codec_sparse_sum_of_squares(entries, levels, count, k)
    }
}
