/// What a stage's memory goes to, for one model and size of micro-batch: state, what micro-batches in flight keep, and what is
/// needed once. The engine allocates by the same figures (`StageWorkspace`, `SavedActivations`), and a test holds them together.
///
/// A stage that recomputes (Chen et al. 2016, 1604.06174) saves of each micro-batch the input of each block and of the
/// head only. What else their backward needs it has room for once: for one block.
public struct MemoryLaw: Sendable {
    private let shape: ModelShape
    private let kept: KeptFormats
    private let cut: Stretches
    /// R: tokens of a micro-batch.
    private let tokens: Int

    public init(_ shape: ModelShape, sequences: Int, kept: KeptFormats = KeptFormats()) {
        self.shape = shape
        self.kept = kept
        tokens = sequences * shape.context
        cut = Stretches(shape, sequences: sequences, length: shape.context)
    }

    /// - Parameters:
    ///   - inFlight: micro-batches that are kept for backward at a time, at least one.
    ///   - share: virtual pipelines that are summed on their own where gradients are exchanged every step, as the order of
    ///     sums wants (`GradientTree`): each doubling takes one more gradient.
    public func bytes(units: Range<Int>, rounds: Bool, inFlight: Int, recompute: Bool, share: Int = 1) -> Int {
        let sums = rounds ? 0 : 4 * (Int.bitWidth - 1 - max(1, share).leadingZeroBitCount)
        let each = Self.stateBytesPerParameter(rounds: rounds, kept: kept) + sums
        let none = kept.hasSecondMoments ? 0 : secondMoments(units)
        let working = values(units: units, inFlight: max(1, inFlight), recompute: recompute)
        return shape.parameters(units: units) * each - none + 4 * working
    }

    /// Optimizer state and weights: 16 bytes a parameter in fp32 (weight, gradient, two moments); 28 with rounds (besides,
    /// outer weights, outer momentum, error feedback). The moments at the round's start, with which it can be begun anew, are on the
    /// disk; where that has no room, they take as much memory again as the moments.
    public static func stateBytesPerParameter(rounds: Bool, kept: KeptFormats = KeptFormats()) -> Int {
        if kept.adapters != nil {
            // Weights; outer weights and momentum, error feedback, and room for the change.
            return kept.weights.bytes + (rounds ? 4 + 4 + kept.state.bytes + 4 : 0)
        }
        let own = kept.weights.bytes + 4 + 2 * kept.state.bytes
        return rounds ? own + 4 + 4 + kept.state.bytes : own
    }

    /// Values of the largest part of weights that is opened at a time: a block that is kept in bf16 or has adapters, some rows of
    /// the head's table in bf16.
    public static func openedValues(_ shape: ModelShape, units: Range<Int>, kept: KeptFormats) -> Int {
        let isNarrow = kept.weights != .fp32
        let hasBlocks = !units.clamped(to: 1..<shape.layers + 1).isEmpty
        let block = hasBlocks && (isNarrow || kept.adapters != nil) ? shape.parameters(unit: 1) : 0
        let hasTable = shape.hasHeadTable(units) && isNarrow
        return max(block, hasTable ? min(openedRows, shape.vocabulary) * shape.hiddenSize : 0)
    }
    /// Values that the orthogonalisation of a block's largest matrix [r, c], r ≤ c, works with: two of [r, c], two of [r, r].
    public static func orthogonalisation(_ shape: ModelShape) -> Int {
        let matrices = shape.tensors(unit: 1).map(\.shape).filter { $0.count == 2 }
        let side = matrices.map { $0.min()! }.max()!
        return 2 * matrices.map { $0[0] * $0[1] }.max()! + 2 * side * side
    }
    /// Rows of a table opened at a time.
    public static let openedRows = 4096

    /// Bytes that second moments of the blocks' matrices would take.
    private func secondMoments(_ units: Range<Int>) -> Int {
        let blocks = units.clamped(to: 1..<shape.layers + 1).count
        return blocks * shape.blockMatrices * kept.state.bytes
    }

    /// Activations and workspace, in values.
    private func values(units: Range<Int>, inFlight: Int, recompute: Bool) -> Int {
        let (d, q, kv, f) = (shape.hiddenSize, shape.querySize, shape.kvSize, shape.intermediateSize)
        let blocks = units.clamped(to: 1..<shape.layers + 1).count
        let hasNorm = units.upperBound == shape.unitCount
        // The gradient of the residual stream; an activation between codec and device; what leaves the last block.
        var once = 3 * tokens * d
        var own = 0
        var widest = 0
        if blocks > 0 {
            let norms = shape.queryKeyNorm ? q + kv + shape.heads + shape.kvHeads : 0
            let rest = tokens * (d + q + (q + 2 * kv) + 2 * f + 2 + norms)
            own += blocks * tokens * d + (recompute ? 0 : blocks * rest)
            if recompute { once += rest }
            once += cut.attentionRows * (2 * q + 2 * kv) + cut.rows * 3 * f
            once += shape.context * shape.headSize + Stretches.scores(length: shape.context)
            widest = max(cut.rows, cut.attentionRows)
        }
        if hasNorm {
            // The output is each micro-batch's own here.
            once -= tokens * d
            own += tokens * d
            once += cut.headRows * (d + 1) + d
            widest = max(widest, cut.headRows)
        }
        if shape.hasHeadTable(units) {
            // A loss a row, and logits; where the norm is elsewhere, what came of it.
            own += tokens * (shape.lendsTable(units) ? d + 1 : 1)
            once += cut.headRows * shape.vocabulary
        }
        if !kept.hasSecondMoments, blocks > 0 { once += Self.orthogonalisation(shape) }
        once += Self.openedValues(shape, units: units, kept: kept)
        if let adapters = kept.adapters, blocks > 0 {
            // Factors, their gradient and moments; the gradient of a block's weights.
            once += 4 * blocks * adapters.parameters(shape) + shape.parameters(unit: 1)
        }
        return inFlight * own + once + 2 * widest * d
    }
}

/// How many rows are worked on at a time, where that does not matter for the result: so many that products run at full speed,
/// so few that memory does not grow with the micro-batch or the vocabulary.
public struct Stretches: Hashable, Sendable {
    /// Of the gated product.
    public let rows: Int
    /// Of the attention: whole sequences.
    public let attentionRows: Int
    /// Of logits.
    public let headRows: Int

    public init(_ shape: ModelShape, sequences: Int, length: Int) {
        let tokens = sequences * length
        rows = min(tokens, Self.usualRows)
        attentionRows = min(tokens, max(1, Self.usualRows / max(1, length)) * length)
        headRows = min(tokens, max(64, Self.logits / max(1, shape.vocabulary)))
    }
    public init(rows: Int, attentionRows: Int, headRows: Int) {
        self.rows = rows
        self.attentionRows = attentionRows
        self.headRows = headRows
    }

    private static let usualRows = 1024
    /// 64 MiB of logits.
    private static let logits = 1 << 24
    /// Values of one thread's attention scores and their gradient: 64 queries at a time.
    public static func scores(length: Int) -> Int { 2 * 64 * (length + 31) }
}
