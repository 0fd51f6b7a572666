import Compute
import Kernels
import Primitives

/// One block, forward and backward, over one micro-batch.
///
/// Kept for backward are the input, queries, keys and values, the attention's result, the residual after it, gate and up, and
/// the norms' scales. What is cheap to make again (the norms' outputs, the gated product) is.
struct BlockArithmetic {
    let stage: StageArithmetic
    /// From 0.
    let layer: Int
    let saved: SavedActivations.Block
    /// Where documents begin; empty for none.
    let firstSeen: [Int32]
    let weights: UnsafePointer<Float>
    /// The block's part of the gradient; nil forward.
    let gradient: UnsafeMutablePointer<Float>?
    let sequences, length: Int

    private var shape: ModelShape { stage.shape }
    private var threads: Int32 { stage.threads }
    private var workspace: StageWorkspace { stage.workspace }
    private var d: Int { shape.hiddenSize }
    private var f: Int { shape.intermediateSize }
    /// Values of q, k and v of a token.
    private var width: Int { shape.querySize + 2 * shape.kvSize }
    private var turnedHeads: Int { shape.heads + shape.kvHeads }

    /// Without `output` only what backward needs.
    func forward(into output: FloatBuffer?) {
        for rows in workspace.attentionStretches(sequences: sequences, length: length) { forwardAttention(rows) }
        for rows in workspace.rowStretches(sequences * length) { forwardMLP(rows, into: output) }
    }

    /// From the gradient of the block's output, in `workspace.residual`, to that of its input, in the same place.
    func backward() {
        for rows in workspace.rowStretches(sequences * length) { backwardMLP(rows) }
        for rows in workspace.attentionStretches(sequences: sequences, length: length) { backwardAttention(rows) }
    }

    // MARK: attention

    private func forwardAttention(_ rows: Range<Int>) {
        let at = BlockOffsets(shape)
        let (first, count) = (rows.lowerBound, rows.count)
        let input = saved.input.base + first * d
        let qkv = saved.qkv.base + first * width
        let attended = saved.attended.base + first * shape.querySize
        let middle = saved.middle.base + first * d
        kernels_rmsnorm_forward(
            threads, count, d, shape.normEpsilon, input, weights, workspace.rowsA.base, saved.scale.base + first)
        stage.linear(workspace.rowsA.base, weights + at.qkv, qkv, count, d, width)
        if shape.projectionBias != .none {
            kernels_add_bias(threads, count, width, width, weights + at.qkvBias, qkv)
        }
        if shape.queryKeyNorm {
            for part in headNorms(at, first) {
                kernels_head_norm_forward(
                    threads, count, part.heads, shape.headSize, width, shape.normEpsilon, weights + part.gain,
                    qkv + part.column, part.raw, turnedHeads * shape.headSize, part.scale, turnedHeads)
            }
        }
        turn(qkv, count, backward: false)
        withAttention(rows) { kernels_attention_forward(threads, $0, qkv, attended) }
        middle.update(from: input, count: count * d)
        stage.linear(attended, weights + at.output, middle, count, shape.querySize, d, accumulate: true)
        if shape.projectionBias == .all {
            kernels_add_bias(threads, count, d, d, weights + at.outputBias, middle)
        }
    }

    private func backwardAttention(_ rows: Range<Int>) {
        let at = BlockOffsets(shape)
        let (first, count) = (rows.lowerBound, rows.count)
        let gradient = gradient!
        let w = workspace
        let input = saved.input.base + first * d
        let qkv = saved.qkv.base + first * width
        let attended = saved.attended.base + first * shape.querySize
        let residual = w.residual.base + first * d

        if shape.projectionBias == .all {
            kernels_add_rows(threads, count, d, d, residual, gradient + at.outputBias)
        }
        stage.linearInputGradient(residual, weights + at.output, w.attended.base, count, shape.querySize, d)
        stage.linearWeightGradient(residual, attended, gradient + at.output, count, shape.querySize, d)
        withAttention(rows) { kernels_attention_backward(threads, $0, qkv, w.attended.base, w.qkv.base) }
        turn(w.qkv.base, count, backward: true)
        if shape.queryKeyNorm {
            for part in headNorms(at, first) {
                kernels_head_norm_backward(
                    threads, count, part.heads, shape.headSize, width, weights + part.gain, part.raw,
                    turnedHeads * shape.headSize, part.scale, turnedHeads, w.qkv.base + part.column,
                    gradient + part.gain)
            }
        }
        if shape.projectionBias != .none {
            kernels_add_rows(threads, count, width, width, w.qkv.base, gradient + at.qkvBias)
        }
        kernels_rmsnorm_again(threads, count, d, input, weights, saved.scale.base + first, w.rowsA.base)
        stage.linearInputGradient(w.qkv.base, weights + at.qkv, w.rowsB.base, count, d, width)
        stage.linearWeightGradient(w.qkv.base, w.rowsA.base, gradient + at.qkv, count, d, width)
        kernels_rmsnorm_backward(
            threads, count, d, input, weights, saved.scale.base + first, w.rowsB.base, residual, gradient)
    }

    private func turn(_ qkv: UnsafeMutablePointer<Float>, _ rows: Int, backward: Bool) {
        guard shape.usesRope(layer: layer) else { return }
        kernels_rope(
            threads, rows, length, turnedHeads, shape.headSize, width, qkv, stage.rope.cosines.base,
            stage.rope.sines.base, backward)
    }

    private func withAttention(_ rows: Range<Int>, _ body: (kernels_attention) -> Void) {
        firstSeen.withUnsafeBufferPointer { starts in
            body(
                kernels_attention(
                    sequences: rows.count / length, length: length, heads: shape.heads, kv_heads: shape.kvHeads,
                    head_size: shape.headSize, first_seen: starts.isEmpty ? nil : starts.baseAddress! + rows.lowerBound)
            )
        }
    }

    /// The norms of queries and of keys: how many heads, where in a row they begin, their gain among the weights, and where what
    /// is kept of them begins.
    private func headNorms(_ at: BlockOffsets, _ first: Int) -> [HeadNorm] {
        let raw = saved.rawHeads!.base + first * turnedHeads * shape.headSize
        let scale = saved.headScale!.base + first * turnedHeads
        return [
            HeadNorm(heads: shape.heads, column: 0, gain: at.queryGain, raw: raw, scale: scale),
            HeadNorm(
                heads: shape.kvHeads, column: shape.querySize, gain: at.keyGain, raw: raw + shape.querySize,
                scale: scale + shape.heads),
        ]
    }
    private struct HeadNorm {
        let heads, column, gain: Int
        let raw, scale: UnsafeMutablePointer<Float>
    }

    // MARK: the gated product

    private func forwardMLP(_ rows: Range<Int>, into output: FloatBuffer?) {
        let at = BlockOffsets(shape)
        let (first, count) = (rows.lowerBound, rows.count)
        let middle = saved.middle.base + first * d
        let gateUp = saved.gateUp.base + first * 2 * f
        kernels_rmsnorm_forward(
            threads, count, d, shape.normEpsilon, middle, weights + at.middleGain, workspace.rowsA.base,
            saved.middleScale.base + first)
        stage.linear(workspace.rowsA.base, weights + at.gateUp, gateUp, count, d, 2 * f)
        guard let output else { return }
        let next = output.base + first * d
        kernels_swiglu_forward(threads, count, f, gateUp, workspace.gated.base)
        next.update(from: middle, count: count * d)
        stage.linear(workspace.gated.base, weights + at.down, next, count, f, d, accumulate: true)
    }

    private func backwardMLP(_ rows: Range<Int>) {
        let at = BlockOffsets(shape)
        let (first, count) = (rows.lowerBound, rows.count)
        let gradient = gradient!
        let w = workspace
        let middle = saved.middle.base + first * d
        let gateUp = saved.gateUp.base + first * 2 * f
        let scale = saved.middleScale.base + first
        let residual = w.residual.base + first * d

        kernels_swiglu_forward(threads, count, f, gateUp, w.gated.base)
        stage.linearWeightGradient(residual, w.gated.base, gradient + at.down, count, f, d)
        stage.linearInputGradient(residual, weights + at.down, w.gated.base, count, f, d)
        kernels_swiglu_backward(threads, count, f, gateUp, w.gated.base, w.gateUp.base)
        kernels_rmsnorm_again(threads, count, d, middle, weights + at.middleGain, scale, w.rowsA.base)
        stage.linearInputGradient(w.gateUp.base, weights + at.gateUp, w.rowsB.base, count, d, 2 * f)
        stage.linearWeightGradient(w.gateUp.base, w.rowsA.base, gradient + at.gateUp, count, d, 2 * f)
        kernels_rmsnorm_backward(
            threads, count, d, middle, weights + at.middleGain, scale, w.rowsB.base, residual,
            gradient + at.middleGain)
    }
}

/// Offsets within one block's parameters; the first norm's gain is at 0.
private struct BlockOffsets {
    let qkv, qkvBias, queryGain, keyGain, output, outputBias, middleGain, gateUp, down: Int

    init(_ shape: ModelShape) {
        let d = shape.hiddenSize
        let width = shape.querySize + 2 * shape.kvSize
        qkv = d
        qkvBias = qkv + width * d
        queryGain = qkvBias + (shape.projectionBias == .none ? 0 : width)
        keyGain = queryGain + (shape.queryKeyNorm ? shape.headSize : 0)
        output = keyGain + (shape.queryKeyNorm ? shape.headSize : 0)
        outputBias = output + d * shape.querySize
        middleGain = outputBias + (shape.projectionBias == .all ? d : 0)
        gateUp = middleGain + d
        down = gateUp + 2 * shape.intermediateSize * d
    }
}
