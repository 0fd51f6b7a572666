import Compute
import Kernels
import Primitives

/// Forward and backward of consecutive units. Knows nothing of jobs, optimizers or bytes.
///
/// Weights and gradients are flat buffers in ``StageLayout``'s order. q, k and v lie side by side there, as do gate and
/// up, so each group is one matrix product.
package final class StageArithmetic {
    let shape: ModelShape
    let units: Range<Int>
    package let layout: StageLayout
    let threads: Int32
    /// Largest number of sequences and tokens of one call.
    let sequences, length: Int
    /// [length, headSize/2].
    private let cosines, sines: FloatBuffer
    private lazy var workspace = Workspace(shape: shape, rows: sequences * length)

    /// Gradients on their way down, R rows.
    private struct Workspace {
        /// [R, d]: gradient of the residual stream, of a norm's output, of the attention's output.
        let residual, normed, attended: FloatBuffer
        /// [R, d + 2·kv], [R, F], [R, 2F].
        let qkv, gated, gateUp: FloatBuffer
        init(shape: ModelShape, rows: Int) {
            let d = shape.hiddenSize
            residual = FloatBuffer(rows * d)
            normed = FloatBuffer(rows * d)
            attended = FloatBuffer(rows * d)
            qkv = FloatBuffer(rows * (d + 2 * shape.kvSize))
            gated = FloatBuffer(rows * shape.intermediateSize)
            gateUp = FloatBuffer(rows * 2 * shape.intermediateSize)
        }
    }

    package init(shape: ModelShape, units: Range<Int>, sequences: Int, length: Int, threads: Int) {
        self.shape = shape
        self.units = units
        self.sequences = sequences
        self.length = length
        self.threads = Int32(clamping: max(1, threads))
        layout = StageLayout(shape: shape, units: units)
        cosines = FloatBuffer(length * shape.headSize / 2)
        sines = FloatBuffer(length * shape.headSize / 2)
        kernels_rope_tables(length, shape.headSize, shape.ropeTheta, cosines.base, sines.base)
    }

    var hasEmbedding: Bool { units.lowerBound == 0 }
    var hasHead: Bool { units.upperBound == shape.unitCount }
    private var blockUnits: [Int] { units.filter { $0 != 0 && $0 != shape.layers + 1 } }

    /// What one micro-batch in flight needs; with `recompute` most of it is shared with `other`.
    package func makeSaved(recompute: Bool = false, sharing other: SavedActivations? = nil) -> SavedActivations {
        SavedActivations(
            shape: shape, units: units, sequences: sequences, length: length, recompute: recompute, sharing: other)
    }

    // MARK: forward

    /// From the stage's input (`saved.text.tokens`, or `saved.input` filled by the caller) to `saved.output`.
    package func forwardBlocks(
        _ parameters: UnsafePointer<Float>, _ saved: SavedActivations, sequences: Int, length: Int
    ) {
        if hasEmbedding {
            kernels_embedding_forward(
                sequences * length, shape.hiddenSize, parameters, saved.text.tokens, saved.input.base)
        }
        for index in saved.blocks.indices {
            forwardBlock(parameters, saved, index, sequences: sequences, length: length)
        }
    }
    private func forwardBlock(
        _ parameters: UnsafePointer<Float>, _ saved: SavedActivations, _ index: Int, sequences: Int, length: Int
    ) {
        let next = index + 1 < saved.blocks.count ? saved.blocks[index + 1].input : saved.output
        forwardBlock(
            parameters + layout.range(unit: blockUnits[index]).lowerBound, saved.blocks[index], into: next,
            sequences: sequences, length: length)
    }

    /// Norm, head and cross-entropy over `saved.output`: fills `saved.losses`, and `saved.logits` with the gradient of
    /// the mean loss.
    func forwardHead(_ parameters: UnsafePointer<Float>, _ saved: SavedActivations, rows: Int) {
        let logits = headLogits(parameters, saved, rows: 0..<rows)
        kernels_cross_entropy(
            threads, rows, shape.vocabulary, logits, saved.text.targets, 1 / Float(rows), saved.losses!.base)
    }

    /// The logits [rows, V] of some rows of `saved.output`.
    package func headLogits(
        _ parameters: UnsafePointer<Float>, _ saved: SavedActivations, rows: Range<Int>
    ) -> UnsafeMutablePointer<Float> {
        let d = shape.hiddenSize
        kernels_rmsnorm_forward(
            threads, rows.count, d, shape.normEpsilon, saved.output.base + rows.lowerBound * d, finalGain(parameters),
            saved.headNormed!.base, saved.headScale!.base)
        linear(saved.headNormed!.base, headWeight(parameters), saved.logits!.base, rows.count, d, shape.vocabulary)
        return saved.logits!.base
    }

    private func forwardBlock(
        _ weights: UnsafePointer<Float>, _ saved: SavedActivations.Block, into output: FloatBuffer, sequences: Int,
        length: Int
    ) {
        let rows = sequences * length
        let d = shape.hiddenSize
        let f = shape.intermediateSize
        let at = BlockOffsets(shape)
        let width = d + 2 * shape.kvSize
        kernels_rmsnorm_forward(
            threads, rows, d, shape.normEpsilon, saved.input.base, weights, saved.normed.base, saved.scale.base)
        linear(saved.normed.base, weights + at.qkv, saved.qkv.base, rows, d, width)
        kernels_rope(
            threads, rows, length, shape.heads + shape.kvHeads, shape.headSize, width, saved.qkv.base, cosines.base,
            sines.base, false)
        kernels_attention_forward(
            threads, attention(sequences, length), saved.qkv.base, saved.probabilities.base, saved.attended.base)
        saved.middle.base.update(from: saved.input.base, count: rows * d)
        linear(saved.attended.base, weights + at.output, saved.middle.base, rows, d, d, accumulate: true)
        kernels_rmsnorm_forward(
            threads, rows, d, shape.normEpsilon, saved.middle.base, weights + at.middleGain, saved.middleNormed.base,
            saved.middleScale.base)
        linear(saved.middleNormed.base, weights + at.gateUp, saved.gateUp.base, rows, d, 2 * f)
        kernels_swiglu_forward(threads, rows, f, saved.gateUp.base, saved.gated.base)
        output.base.update(from: saved.middle.base, count: rows * d)
        linear(saved.gated.base, weights + at.down, output.base, rows, f, d, accumulate: true)
    }

    // MARK: backward

    /// Adds the weights' gradients to `gradient` and answers the gradient of the stage's input [R, d], valid until the
    /// next call. `outputGradient` is that of `saved.output`; nil on the last stage, where the loss' is in
    /// `saved.logits`. What `saved` shares with other micro-batches is computed again first: the same bits, the weights being
    /// the same.
    func backward(
        _ parameters: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>, _ saved: SavedActivations,
        outputGradient: UnsafePointer<Float>?, sequences: Int, length: Int
    ) -> UnsafeMutablePointer<Float> {
        let rows = sequences * length
        let residual = workspace.residual.base
        if let outputGradient {
            residual.update(from: outputGradient, count: rows * shape.hiddenSize)
        } else {
            residual.update(repeating: 0, count: rows * shape.hiddenSize)
            if saved.recomputes { forwardHead(parameters, saved, rows: rows) }
            backwardHead(parameters, gradient, saved, rows: rows)
        }
        for (index, unit) in blockUnits.enumerated().reversed() {
            let offset = layout.range(unit: unit).lowerBound
            if saved.recomputes { forwardBlock(parameters, saved, index, sequences: sequences, length: length) }
            backwardBlock(
                parameters + offset, gradient + offset, saved.blocks[index], sequences: sequences, length: length)
        }
        if hasEmbedding {
            kernels_embedding_backward(threads, rows, shape.hiddenSize, saved.text.tokens, residual, gradient)
        }
        return residual
    }

    private func backwardHead(
        _ parameters: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>, _ saved: SavedActivations,
        rows: Int
    ) {
        let d = shape.hiddenSize
        let logits = saved.logits!.base
        let weightGradient = shape.tieWordEmbeddings ? gradient : gradient + headOffset + d
        linearInputGradient(logits, headWeight(parameters), workspace.normed.base, rows, d, shape.vocabulary)
        linearWeightGradient(logits, saved.headNormed!.base, weightGradient, rows, d, shape.vocabulary)
        kernels_rmsnorm_backward(
            threads, rows, d, saved.output.base, finalGain(parameters), saved.headScale!.base, workspace.normed.base,
            workspace.residual.base, gradient + headOffset)
    }

    private func backwardBlock(
        _ weights: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>, _ saved: SavedActivations.Block,
        sequences: Int, length: Int
    ) {
        let rows = sequences * length
        let d = shape.hiddenSize
        let f = shape.intermediateSize
        let width = d + 2 * shape.kvSize
        let at = BlockOffsets(shape)
        let w = workspace
        let residual = w.residual.base

        linearInputGradient(residual, weights + at.down, w.gated.base, rows, f, d)
        linearWeightGradient(residual, saved.gated.base, gradient + at.down, rows, f, d)
        kernels_swiglu_backward(threads, rows, f, saved.gateUp.base, w.gated.base, w.gateUp.base)
        linearInputGradient(w.gateUp.base, weights + at.gateUp, w.normed.base, rows, d, 2 * f)
        linearWeightGradient(w.gateUp.base, saved.middleNormed.base, gradient + at.gateUp, rows, d, 2 * f)
        kernels_rmsnorm_backward(
            threads, rows, d, saved.middle.base, weights + at.middleGain, saved.middleScale.base, w.normed.base,
            residual, gradient + at.middleGain)

        linearInputGradient(residual, weights + at.output, w.attended.base, rows, d, d)
        linearWeightGradient(residual, saved.attended.base, gradient + at.output, rows, d, d)
        kernels_attention_backward(
            threads, attention(sequences, length), saved.qkv.base, saved.probabilities.base, w.attended.base, w.qkv.base
        )
        kernels_rope(
            threads, rows, length, shape.heads + shape.kvHeads, shape.headSize, width, w.qkv.base, cosines.base,
            sines.base, true)
        linearInputGradient(w.qkv.base, weights + at.qkv, w.normed.base, rows, d, width)
        linearWeightGradient(w.qkv.base, saved.normed.base, gradient + at.qkv, rows, d, width)
        kernels_rmsnorm_backward(
            threads, rows, d, saved.input.base, weights, saved.scale.base, w.normed.base, residual, gradient)
    }

    // MARK: parts

    /// Offsets within one block's parameters; the first norm's gain is at 0.
    private struct BlockOffsets {
        let qkv, output, middleGain, gateUp, down: Int
        init(_ shape: ModelShape) {
            let d = shape.hiddenSize
            qkv = d
            output = qkv + (d + 2 * shape.kvSize) * d
            middleGain = output + d * d
            gateUp = middleGain + d
            down = gateUp + 2 * shape.intermediateSize * d
        }
    }

    private var headOffset: Int { layout.range(unit: shape.layers + 1).lowerBound }
    private func finalGain(_ parameters: UnsafePointer<Float>) -> UnsafePointer<Float> { parameters + headOffset }
    private func headWeight(_ parameters: UnsafePointer<Float>) -> UnsafePointer<Float> {
        shape.tieWordEmbeddings ? parameters : parameters + headOffset + shape.hiddenSize
    }
    private func attention(_ sequences: Int, _ length: Int) -> kernels_attention {
        kernels_attention(
            sequences: sequences, length: length, heads: shape.heads, kv_heads: shape.kvHeads, head_size: shape.headSize
        )
    }

    /// y[rows, out] = x[rows, in] · weight[out, in]ᵀ, added to y if `accumulate`.
    private func linear(
        _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int, accumulate: Bool = false
    ) {
        kernels_sgemm(rows, outputs, inputs, x, inputs, 1, weight, 1, inputs, y, outputs, accumulate, threads)
    }
    /// dx[rows, in] = dy[rows, out] · weight[out, in].
    private func linearInputGradient(
        _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) {
        kernels_sgemm(rows, inputs, outputs, dy, outputs, 1, weight, inputs, 1, dx, inputs, false, threads)
    }
    /// dweight[out, in] += dy[rows, out]ᵀ · x[rows, in].
    private func linearWeightGradient(
        _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ dweight: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) {
        kernels_sgemm(outputs, inputs, rows, dy, 1, outputs, x, inputs, 1, dweight, inputs, true, threads)
    }
}
