import Kernels
public import Primitives

/// Encoding and decoding of one tensor at a time. Formats: `docs/WIRE.md`, “Codecs”. A message is self-contained except
/// for its count of values, which the receiver knows: nothing in it decides how much memory is taken.
///
/// Where values + feedback is not finite (infinite, or not a number), the message is one that every receiver refuses,
/// and the feedback there becomes zero; elsewhere it stays finite, but what it holds is then not specified for the
/// lossy codecs.
extension Codec {
    /// Encodes one tensor: flat, row-major, `values.count` numbers.
    ///
    /// With `feedback` (same count) it encodes values + feedback and leaves what was not sent in `feedback`. `sparse`
    /// first multiplies it by `decay`. The decoded message plus the new feedback is the input plus the old feedback, to
    /// rounding.
    ///
    /// - Parameters:
    ///   - shape: of the tensor, for `lowrank`; one dimension where left out.
    ///   - warmStart: where `lowrank` begins, and keeps where it ended.
    public func encode(
        _ values: UnsafeBufferPointer<Float>, shape: [Int] = [], feedback: UnsafeMutableBufferPointer<Float>? = nil,
        decay: Float = Codec.feedbackDecay, warmStart: WarmStart? = nil
    ) -> [UInt8] {
        if case .lowrank(let rank) = self {
            if let (rows, columns) = Codec.matrix(shape, rank: rank), rows * columns == values.count {
                return LowRank(rows: rows, columns: columns, rank: rank).encode(
                    values, feedback: feedback, warmStart: warmStart)
            }
            return Codec.fp32.encode(values, feedback: feedback)
        }
        // Sparse bytes are written eight at a time, and its bound is above what is used: the copy that trims is small.
        if case .sparse = self {
            let room = maximumBytes(for: values.count) + 16
            return withUnsafeTemporaryAllocation(byteCount: room, alignment: 8) { out in
                Array(
                    UnsafeRawBufferPointer(
                        rebasing: out[..<encode(values, feedback: feedback, decay: decay, into: out)]))
            }
        }
        return Array(unsafeUninitializedCapacity: maximumBytes(for: values.count)) { out, count in
            count = encode(values, feedback: feedback, into: UnsafeMutableRawBufferPointer(out))
        }
    }

    /// Encodes into memory of the caller's, at least ``maximumBytes(for:)`` + 16 bytes for `sparse` and without the 16
    /// for the others; not for `lowrank`. Answers the bytes used.
    public func encode(
        _ values: UnsafeBufferPointer<Float>, feedback: UnsafeMutableBufferPointer<Float>?,
        decay: Float = Codec.feedbackDecay, into out: UnsafeMutableRawBufferPointer
    ) -> Int {
        let count = values.count
        precondition(feedback == nil || feedback!.count == count, "feedback of another count than the values")
        guard count > 0, let numbers = values.baseAddress else { return 0 }
        let room = maximumBytes(for: count)
        let kept = feedback?.baseAddress
        guard let bytes = out.baseAddress?.assumingMemoryBound(to: UInt8.self), out.count >= room else {
            preconditionFailure("\(out.count) bytes of room, \(room) needed")
        }
        switch self {
        case .fp32: kernels_codec_fp32_encode(numbers, kept, count, bytes)
        case .bf16: kernels_codec_bf16_encode(numbers, kept, count, bytes)
        case .fp16: kernels_codec_fp16_encode(numbers, kept, count, bytes)
        case .int8: kernels_codec_int8_encode(numbers, kept, count, bytes)
        case .int4: kernels_codec_int4_encode(numbers, kept, count, bytes)
        case .sparse(let k, let kind):
            precondition(out.count >= room + 16, "\(out.count) bytes of room, \(room + 16) needed")
            return kernels_codec_sparse_encode(numbers, kept, count, k, kind.kernel, decay, bytes)
        case .lowrank: preconditionFailure("lowrank has a message of its own memory")
        }
        return room
    }

    /// Decodes; overwrites `into` (`sparse` fills what was not sent with zeros). Throws before anything is written.
    public func decode(
        _ bytes: ArraySlice<UInt8>, shape: [Int] = [], into target: UnsafeMutableBufferPointer<Float>
    ) throws(CodecError) {
        let message = try Message(bytes, codec: self, count: target.count, shape: shape)
        guard let values = target.baseAddress else { return }
        message.decode(into: values)
    }

    /// The same, for a caller that states the count; another count than `into` has is refused.
    public func decode(
        _ bytes: ArraySlice<UInt8>, count: Int, into target: UnsafeMutableBufferPointer<Float>
    ) throws(CodecError) {
        guard count == target.count else {
            throw CodecError.malformed("\(count) values expected, room for \(target.count)")
        }
        try decode(bytes, into: target)
    }

    /// For the contributor-mean: sum[i] += weight · value and weights[i] += weight for every entry that was sent (for
    /// the dense codecs: for all). Throws before anything is written.
    public func decodeAccumulate(
        _ bytes: ArraySlice<UInt8>, shape: [Int] = [], weight: Float, into sum: UnsafeMutableBufferPointer<Float>,
        weights: UnsafeMutableBufferPointer<Float>
    ) throws(CodecError) {
        precondition(sum.count == weights.count, "\(sum.count) sums but \(weights.count) weights")
        let message = try Message(bytes, codec: self, count: sum.count, shape: shape)
        guard let sums = sum.baseAddress, let totals = weights.baseAddress else { return }
        message.accumulate(weight: weight, into: sums, weights: totals)
    }

    /// Whether ``decode(_:into:)`` would accept the bytes for `count` values.
    public func validate(_ bytes: ArraySlice<UInt8>, count: Int, shape: [Int] = []) throws(CodecError) {
        _ = try Message(bytes, codec: self, count: count, shape: shape)
    }

    /// The largest acceptable message for `count` values, to be asked before memory is taken. Exact for the dense
    /// codecs.
    public func maximumBytes(for count: Int, shape: [Int] = []) -> Int {
        let scales = 4 * ((count + Int(KERNELS_CODEC_BLOCK) - 1) / Int(KERNELS_CODEC_BLOCK))
        switch self {
        case .fp32: return 4 * count
        case .bf16, .fp16: return 2 * count
        case .int8: return scales + count
        case .int4: return scales + (count + 1) / 2
        case .sparse(let k, let kind):
            precondition((1...1024).contains(k), "sparse:k=\(k); k is 1 to 1024")
            return kernels_codec_sparse_maximum_bytes(count, k, kind.kernel)
        case .lowrank(let rank):
            guard let (rows, columns) = Codec.matrix(shape, rank: rank), rows * columns == count else {
                return 4 * count
            }
            return 4 * rank * (rows + columns)
        }
    }
}

extension SparseValues {
    var kernel: Int32 {
        switch self {
        case .sign: Int32(KERNELS_CODEC_SIGN)
        case .signMagnitude: Int32(KERNELS_CODEC_SIGN_MAGNITUDE)
        case .twoBit: Int32(KERNELS_CODEC_TWO_BIT)
        }
    }
}

extension ChunkLayout {
    /// The most bytes that the pieces `range` take, lengths included: asked before memory is taken.
    public func maximumBytes(_ range: Range<Int>, codec: Codec) -> Int {
        range.reduce(0) { $0 + 4 + codec.maximumBytes(for: pieces[$1].count) }
    }
}
