import Compute
import Exchange
import Kernels
import Primitives

/// Averages of gradients: of this pipeline's own (rounds), or of all pipelines' (every step).
extension Stage {
    func finishGradient(microBatches: Int) throws(Refusal) -> ComputeResult {
        guard configuration.mode == .rounds else { throw Refusal("gradients are exchanged every step in this job") }
        guard !progress.hasGradient else { throw Refusal("the gradient is finished already") }
        guard microBatches > 0 else { throw Refusal("a gradient of \(microBatches) micro-batches") }
        guard progress.lastAdded != nil else { throw Refusal("no micro-batch has been added") }
        let sums = try device.finishGradient(microBatches: microBatches)
        progress.hasGradient = true
        return .sumSquares(sums)
    }

    /// Folds everybody's sums by the tree and divides by their micro-batches.
    func aggregateGradients(_ contributions: [RankedContribution]) throws(Refusal) -> ComputeResult {
        guard configuration.mode == .everyStep else { throw Refusal("gradients are not exchanged in this job") }
        let messages = try parse(contributions)
        let microBatches = contributions.reduce(0) { $0 + $1.microBatches }
        return try takeGradient { unit, count in
            let parts = messages[unit - configuration.units.lowerBound].map { message in
                let decoded = FloatBuffer(count)
                decode(message, into: decoded)
                return (message.node, decoded)
            }
            let sum = tree.fold(parts) { left, right in
                kernels_add(threads, left.count, right.base, left.base)
                return left
            }!
            kernels_scale(threads, count, 1 / Float(microBatches), sum.base)
            return sum
        }
    }

    /// Gives the device the gradient of the next optimizer step, unit by unit, and answers its sums of squares: here, so that
    /// they are the same for all.
    func takeGradient(_ gradient: (_ unit: Int, _ count: Int) -> FloatBuffer) throws(Refusal) -> ComputeResult {
        try dropWork()
        var sums: [Float] = []
        for unit in configuration.units {
            let range = layout.range(unit: unit)
            let values = gradient(unit, range.count)
            try device.write(.gradient, unit: unit, from: UnsafeBufferPointer(values.allValues))
            sums += layout.entries(unit: unit).map {
                kernels_sum_squares($0.range.count, values.base + $0.range.lowerBound - range.lowerBound)
            }
        }
        progress.hasGradient = true
        return .sumSquares(sums)
    }
}
