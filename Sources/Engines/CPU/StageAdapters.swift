import Compute
import Kernels
import Primitives

/// The adapters of a stage's blocks within one round: factors, their gradients and moments.
///
/// A block computes with W + s·B·A, put together once for each pass; its weights' gradient G is that of any weights, and what
/// moves is dA = s·Bᵀ·G, dB = s·G·Aᵀ, a micro-batch at a time. So the arithmetic of a block knows nothing of adapters.
package final class StageAdapters {
    /// One matrix and its factors.
    private struct Pair {
        /// Of the tensor in the stage's layout.
        let number: Int
        let entry: StageLayout.Entry
        /// Where A [rank, columns] begins in the buffers; B [rows, rank] follows it.
        let start: Int
        let rows, columns, rank: Int
        var countA: Int { rank * columns }
        var count: Int { rank * (rows + columns) }
    }
    private let adapters: Adapters
    private let layout: StageLayout
    private let seed: UInt64
    private let threads: Int32
    private let scale: Float
    private var pairs: [Pair] = []
    /// A and B of all matrices; their gradients, summed; their moments.
    private let factors, gradients, first, second: FloatBuffer
    /// The gradient of one block's weights.
    private let room: FloatBuffer
    /// Steps since the factors began.
    private var steps = 0

    package init(_ adapters: Adapters, layout: StageLayout, shape: ModelShape, seed: UInt64, threads: Int32) {
        self.adapters = adapters
        self.layout = layout
        self.seed = seed
        self.threads = threads
        scale = Float(adapters.alpha / Double(adapters.rank))
        var start = 0
        for (number, entry) in layout.entries.enumerated()
        where (1...shape.layers).contains(entry.unit) && adapters.adapts(entry.tensor) {
            let pair = Pair(
                number: number, entry: entry, start: start, rows: entry.tensor.shape[0], columns: entry.tensor.shape[1],
                rank: adapters.rank)
            pairs.append(pair)
            start += pair.count
        }
        factors = FloatBuffer(start)
        gradients = FloatBuffer(start)
        first = FloatBuffer(start)
        second = FloatBuffer(start)
        let hasBlocks = !layout.units.clamped(to: 1..<shape.layers + 1).isEmpty
        room = FloatBuffer(hasBlocks ? shape.parameters(unit: 1) : 0)
    }

    var buffers: [FloatBuffer] { [factors, gradients, first, second, room] }

    private func a(_ pair: Pair, _ buffer: FloatBuffer) -> UnsafeMutablePointer<Float> { buffer.base + pair.start }
    private func b(_ pair: Pair, _ buffer: FloatBuffer) -> UnsafeMutablePointer<Float> {
        buffer.base + pair.start + pair.countA
    }
    /// A matrix' factors or the sums of their gradients, for tests.
    package func values(of tensor: String, gradient: Bool) -> (a: [Float], b: [Float])? {
        guard let pair = pairs.first(where: { $0.entry.tensor.name == tensor }) else { return nil }
        let buffer = gradient ? gradients : factors
        return (
            Array(UnsafeBufferPointer(start: a(pair, buffer), count: pair.countA)),
            Array(UnsafeBufferPointer(start: b(pair, buffer), count: pair.count - pair.countA))
        )
    }

    private func pairs(_ unit: Int) -> [Pair] { pairs.filter { $0.entry.unit == unit } }

    /// Adds s·B·A to a unit's weights.
    package func merge(unit: Int, into weights: UnsafeMutablePointer<Float>) {
        let start = layout.range(unit: unit).lowerBound
        for pair in pairs(unit) {
            // B is small: scaled where it is read.
            let target = weights + pair.entry.range.lowerBound - start
            var scaled = [Float](repeating: 0, count: pair.rows * pair.rank)
            for index in scaled.indices { scaled[index] = b(pair, factors)[index] * scale }
            kernels_sgemm(
                pair.rows, pair.columns, pair.rank, scaled, pair.rank, 1, a(pair, factors), pair.columns, 1, target,
                pair.columns, true, threads)
        }
    }

    /// A unit's weights are these now: its factors begin anew.
    package func begin(unit: Int, weights: UnsafePointer<Float>) {
        steps = 0
        let start = layout.range(unit: unit).lowerBound
        for pair in pairs(unit) {
            adapters.draw(
                pair.entry.tensor, weights: weights + pair.entry.range.lowerBound - start, seed: seed,
                into: a(pair, factors))
            b(pair, factors).update(repeating: 0, count: pair.count - pair.countA)
            for buffer in [gradients, first, second] { a(pair, buffer).update(repeating: 0, count: pair.count) }
        }
    }

    /// Zeros, for one block's gradient.
    package func openGradient() -> UnsafeMutablePointer<Float> {
        room.zero()
        return room.base
    }
    /// Adds what that gradient is to the factors.
    package func closeGradient(unit: Int) {
        let start = layout.range(unit: unit).lowerBound
        for pair in pairs(unit) {
            let gradient = room.base + pair.entry.range.lowerBound - start
            kernels_scale(threads, pair.rows * pair.columns, scale, gradient)
            // dA += Bᵀ·G, dB += G·Aᵀ.
            kernels_sgemm(
                pair.rank, pair.columns, pair.rows, b(pair, factors), 1, pair.rank, gradient, pair.columns, 1,
                a(pair, gradients), pair.columns, true, threads)
            kernels_sgemm(
                pair.rows, pair.rank, pair.columns, gradient, pair.columns, 1, a(pair, factors), 1, pair.columns,
                b(pair, gradients), pair.rank, true, threads)
        }
    }

    /// Divides the sums; their squares, one a tensor of the layout, zero where nothing moves.
    func finish(microBatches: Int) -> [Float] {
        kernels_scale(threads, gradients.count, 1 / Float(microBatches), gradients.base)
        var sums = [Float](repeating: 0, count: layout.entries.count)
        for pair in pairs { sums[pair.number] = kernels_sum_squares(pair.count, a(pair, gradients)) }
        return sums
    }

    /// AdamW on the factors. Their moments began with them.
    func step(_ step: DeviceStep, _ optimizer: InnerOptimizer) {
        steps += 1
        let recipe = optimizer.recipe
        let adamw = kernels_adamw_step(
            learning_rate: step.learningRate, beta1: recipe.beta1, beta2: recipe.beta2, epsilon: recipe.epsilon,
            weight_decay: optimizer.weightDecay,
            correction1: InnerOptimizer.biasCorrection(beta: recipe.beta1, steps: steps),
            correction2: InnerOptimizer.biasCorrection(beta: recipe.beta2, steps: steps),
            gradient_scale: step.gradientScale)
        kernels_adamw(threads, factors.count, adamw, gradients.base, factors.base, first.base, second.base)
    }

    func dropGradients() { gradients.zero() }
}
