import Kernels
public import Primitives

/// Which contribution of several was refused, and why. Nothing has been written when it is thrown.
public struct RefusedContribution: Error, Hashable, Sendable {
    /// Position in the list given.
    public var position: Int
    public var reason: CodecError
    public init(position: Int, reason: CodecError) {
        self.position = position
        self.reason = reason
    }
}

/// One contributor's message for a tensor, its weight in the mean, and what clipping leaves of its values.
public struct WeightedMessage: Hashable, Sendable {
    public var bytes: ArraySlice<UInt8>
    /// What the average weighs by: counted tokens, or micro-batches.
    public var weight: Float
    /// Factor on the values, at most 1 (``normClip(norms:)``); it does not change the weight.
    public var clip: Float
    public init(bytes: ArraySlice<UInt8>, weight: Float, clip: Float = 1) {
        self.bytes = bytes
        self.weight = weight
        self.clip = clip
    }
}

extension Codec {
    /// The mean of several contributions, entry by entry over those who sent it, in the order given: target[i] = Σ
    /// weight · value ÷ Σ weight, and 0 where nobody sent anything. For the dense codecs everybody sends all.
    ///
    /// Without clipping it is bit for bit what ``decodeAccumulate(_:weight:into:weights:)`` in that order and a
    /// division give; it works tile by tile and writes the result once. Weights are finite and above 0.
    public func contributorMean(
        of contributions: [WeightedMessage], shape: [Int] = [], into target: UnsafeMutableBufferPointer<Float>,
        workspace: MeanWorkspace = MeanWorkspace()
    ) throws(RefusedContribution) {
        let count = target.count
        var messages: [Message] = []
        messages.reserveCapacity(contributions.count)
        for (position, contribution) in contributions.enumerated() {
            precondition(contribution.weight > 0 && contribution.weight.isFinite, "weight \(contribution.weight)")
            do throws(CodecError) {
                let buffer = isSparse ? workspace.buffer(position) : nil
                messages.append(
                    try Message(contribution.bytes, codec: self, count: count, shape: shape, buffer: buffer))
            } catch {
                throw RefusedContribution(position: position, reason: error)
            }
        }
        guard let values = target.baseAddress else { return }
        for (message, contribution) in zip(messages, contributions) where contribution.clip != 1 {
            message.scaleLevels(by: contribution.clip)
        }
        guard case .sparse(let k, _) = self else { return denseMean(messages, contributions, count, into: values) }
        // The pointers outlive the call because `messages` does.
        withExtendedLifetime(messages) {
            let entries = messages.map { $0.unpacked.map { UnsafePointer($0.entries) } }
            let levels = messages.map { $0.unpacked.map { UnsafePointer($0.levels) } }
            let weights = contributions.map(\.weight)
            kernels_codec_sparse_mean(entries, levels, weights, messages.count, count, k, values)
        }
    }

    private func denseMean(
        _ messages: [Message], _ contributions: [WeightedMessage], _ count: Int,
        into values: UnsafeMutablePointer<Float>
    ) {
        let total = contributions.reduce(0) { $0 + $1.weight }
        let weights = contributions.map { $0.weight * $0.clip }
        switch self {
        case .int8 where !messages.isEmpty:
            withPointers(messages[...]) {
                kernels_codec_int8_mean($0, weights, weights.count, count, total, values)
            }
            return
        case .int4 where !messages.isEmpty:
            withPointers(messages[...]) {
                kernels_codec_int4_mean($0, weights, weights.count, count, total, values)
            }
            return
        case .lowrank:
            values.update(repeating: 0, count: count)
            for (message, weight) in zip(messages, weights) {
                message.accumulate(weight: weight, into: values, weights: nil)
            }
            if total > 0 { kernels_codec_divide(values, count, total) }
            return
        default: break
        }
        // Part by part, so that a part's sum stays in the cache until all have been added to it.
        for start in stride(from: 0, to: count, by: 4096) {
            let part = start..<min(count, start + 4096), sum = values + start
            sum.update(repeating: 0, count: part.count)
            for (message, weight) in zip(messages, weights) {
                message.accumulate(weight: weight, part: part, into: sum, weights: nil)
            }
            if total > 0 { kernels_codec_divide(sum, part.count, total) }
        }
    }
}

/// The starts of all messages' bytes, valid within `body`.
private func withPointers(
    _ messages: ArraySlice<Message>, before: [UnsafePointer<UInt8>?] = [], _ body: ([UnsafePointer<UInt8>?]) -> Void
) {
    guard let first = messages.first else { return body(before) }
    first.withPointer { withPointers(messages.dropFirst(), before: before + [$0], body) }
}
