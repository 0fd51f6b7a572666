import Compute
import Kernels
import Primitives

/// Forward and backward of consecutive units. Knows nothing of jobs, optimizers or bytes.
///
/// Weights and gradients are flat buffers in ``StageLayout``'s order. q, k and v lie side by side there, as do gate and
/// up, so each group is one matrix product.
///
/// Rows are worked on in stretches (``StageWorkspace``), so that what is needed for a moment does not grow with the
/// micro-batch. Every sum over rows goes on where the stretch before it ended: the bits do not depend on the cut.
package final class StageArithmetic {
    let shape: ModelShape
    let units: Range<Int>
    package let layout: StageLayout
    let threads: Int32
    /// Largest number of sequences and tokens of one call.
    let sequences, length: Int
    let rope: RopeTables
    /// What the squared log of the softmax's sum weighs in the gradient.
    var zLoss: Float = 0
    private let stretches: Stretches
    lazy var workspace = StageWorkspace(
        shape: shape, units: units, tokens: sequences * length, stretches: stretches)

    package init(
        shape: ModelShape, units: Range<Int>, sequences: Int, length: Int, threads: Int, stretches: Stretches? = nil
    ) {
        self.shape = shape
        self.units = units
        self.sequences = sequences
        self.length = length
        self.threads = Int32(clamping: max(1, threads))
        self.stretches = stretches ?? Stretches(shape, sequences: sequences, length: length)
        layout = StageLayout(shape: shape, units: units)
        let hasBlocks = !units.clamped(to: 1..<shape.layers + 1).isEmpty
        rope = RopeTables(shape: shape, length: hasBlocks ? length : 0)
    }

    var hasEmbedding: Bool { units.lowerBound == 0 }
    private var blockUnits: [Int] { units.filter { $0 != 0 && $0 != shape.layers + 1 } }

    /// Those that every micro-batch uses.
    var buffers: [FloatBuffer] { workspace.buffers + [rope.cosines, rope.sines] }

    /// What one micro-batch in flight needs; with `recompute` most of it is shared with `other`.
    package func makeSaved(recompute: Bool = false, sharing other: SavedActivations? = nil) -> SavedActivations {
        SavedActivations(
            shape: shape, units: units, sequences: sequences, length: length, output: workspace.output,
            recompute: recompute, sharing: other)
    }

    // MARK: forward

    /// From the stage's input (`saved.text`, or `saved.input` filled by the caller) to `saved.output`.
    func forwardBlocks(_ weights: StageWeights, _ saved: SavedActivations, sequences: Int, length: Int) {
        if hasEmbedding { weights.embed(saved.text.tokens, into: saved.input.base) }
        for index in saved.blocks.indices {
            let next = index + 1 < saved.blocks.count ? saved.blocks[index + 1].input : saved.output
            let block = block(weights, nil, saved, index, sequences: sequences, length: length)
            block.forward(into: next)
        }
    }

    /// Norm, head and cross-entropy of the first `rows` rows of `saved.output`: fills `saved.losses`.
    ///
    /// With `gradient`, adds the head's weights' gradients of the mean loss to it, and `saved.output` becomes the gradient of
    /// itself: stretch by stretch, so that there are never logits of all rows. With `inputOnly` it does so without the weights'.
    func head(
        _ weights: StageWeights, _ gradient: UnsafeMutablePointer<Float>?, _ saved: SavedActivations, rows: Int,
        inputOnly: Bool = false
    ) {
        let d = shape.hiddenSize
        let w = workspace
        for part in stretches(rows) {
            finalNorm(weights, saved, rows: part, into: w.rowsA.base)
            crossEntropy(weights, w.rowsA.base, saved, rows: part, of: rows)
            guard gradient != nil || inputOnly else { continue }
            normedGradient(weights, rows: part.count, into: w.rowsB.base)
            if let gradient {
                let table = shape.tieWordEmbeddings ? gradient : gradient + headOffset + d
                linearWeightGradient(w.logits.base, w.rowsA.base, table, part.count, d, shape.vocabulary)
            }
            finalNormBackward(weights, gradient, saved, rows: part, of: w.rowsB.base)
        }
    }

    /// The logits [rows, V] of some rows of `saved.output`, at most ``StageWorkspace/headRows``; the rows' norm is in
    /// `workspace.rowsA`.
    func headLogits(
        _ weights: StageWeights, _ saved: SavedActivations, rows: Range<Int>
    ) -> UnsafeMutablePointer<Float> {
        finalNorm(weights, saved, rows: rows, into: workspace.rowsA.base)
        return logits(weights, workspace.rowsA.base, rows: rows.count)
    }

    // MARK: backward

    /// Adds the weights' gradients to `gradient` and answers the gradient of the stage's input [R, d], valid until the
    /// next call. `outputGradient` is that of `saved.output`; nil on the last stage, where ``head`` has left it there. What
    /// `saved` shares with other micro-batches is computed again first: the same bits, the weights being the same.
    func backward(
        _ weights: StageWeights, _ gradient: GradientSum, _ saved: SavedActivations,
        outputGradient: UnsafePointer<Float>?, sequences: Int, length: Int
    ) -> UnsafeMutablePointer<Float> {
        let rows = sequences * length
        let residual = workspace.residual.base
        residual.update(from: outputGradient ?? UnsafePointer(saved.output.base), count: rows * shape.hiddenSize)
        for index in saved.blocks.indices.reversed() {
            let unit = blockUnits[index]
            let block = block(
                weights, gradient.open(layout.range(unit: unit)), saved, index, sequences: sequences, length: length)
            if saved.recomputes { block.forward(into: nil) }
            block.backward()
            gradient.close(unit: unit)
        }
        if hasEmbedding, case .whole(let sum) = gradient {
            kernels_embedding_backward(threads, rows, shape.hiddenSize, saved.text.tokens, residual, sum)
        }
        return residual
    }

    // MARK: parts

    private func block(
        _ weights: StageWeights, _ gradient: UnsafeMutablePointer<Float>?, _ saved: SavedActivations, _ index: Int,
        sequences: Int, length: Int
    ) -> BlockArithmetic {
        let unit = blockUnits[index]
        return BlockArithmetic(
            stage: self, layer: unit - 1, saved: saved.blocks[index], firstSeen: saved.text.firstSeen,
            weights: weights.block(unit: unit), gradient: gradient, sequences: sequences,
            length: length)
    }

    var headOffset: Int { layout.range(unit: shape.layers + 1).lowerBound }

    /// y[rows, out] = x[rows, in] · weight[out, in]ᵀ, added to y if `accumulate`.
    func linear(
        _ x: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int, accumulate: Bool = false
    ) {
        kernels_sgemm(rows, outputs, inputs, x, inputs, 1, weight, 1, inputs, y, outputs, accumulate, threads)
    }
    /// dx[rows, in] = dy[rows, out] · weight[out, in].
    func linearInputGradient(
        _ dy: UnsafePointer<Float>, _ weight: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) {
        kernels_sgemm(rows, inputs, outputs, dy, outputs, 1, weight, inputs, 1, dx, inputs, false, threads)
    }
    /// dweight[out, in] += dy[rows, out]ᵀ · x[rows, in].
    func linearWeightGradient(
        _ dy: UnsafePointer<Float>, _ x: UnsafePointer<Float>, _ dweight: UnsafeMutablePointer<Float>, _ rows: Int,
        _ inputs: Int, _ outputs: Int
    ) {
        kernels_sgemm(outputs, inputs, rows, dy, 1, outputs, x, inputs, 1, dweight, inputs, true, threads)
    }
}

/// Where a micro-batch's gradient goes: a sum of all weights, in the layout's order, or the factors of adapters.
enum GradientSum {
    case whole(UnsafeMutablePointer<Float>)
    case adapters(StageAdapters)

    /// Of one block: what its gradient is added to.
    func open(_ range: Range<Int>) -> UnsafeMutablePointer<Float> {
        switch self {
        case .whole(let sum): sum + range.lowerBound
        case .adapters(let adapters): adapters.openGradient()
        }
    }
    func close(unit: Int) {
        if case .adapters(let adapters) = self { adapters.closeGradient(unit: unit) }
    }
}

/// cos and sin of each position's turns, [length, headSize/2] each.
struct RopeTables {
    let cosines, sines: FloatBuffer

    init(shape: ModelShape, length: Int) {
        let half = shape.headSize / 2
        cosines = FloatBuffer(length * half)
        sines = FloatBuffer(length * half)
        let frequencies = (0..<half).map { Self.frequency($0, shape) }
        kernels_rope_tables(length, half, frequencies, cosines.base, sines.base)
    }

    /// Turn a token of pair `index`, in radians: θ^(−2i/headSize), stretched as the shape says (Su et al. 2021; Llama 3.1's
    /// blend as in its reference code).
    static func frequency(_ index: Int, _ shape: ModelShape) -> Double {
        let plain = kernels_pow(shape.ropeTheta, -2.0 * Double(index) / Double(shape.headSize))
        switch shape.ropeScaling {
        case .none: return plain
        case .linear(let factor): return plain / factor
        case .llama3(let factor, let lowFactor, let highFactor, let originalContext):
            let waves = Double(originalContext) * plain / (2 * Double.pi)
            if waves > highFactor { return plain }
            if waves < lowFactor { return plain / factor }
            let blend = (waves - lowFactor) / (highFactor - lowFactor)
            return (1 - blend) * plain / factor + blend * plain
        }
    }
}
