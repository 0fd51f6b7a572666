import Exchange
import Kernels
import Primitives

/// Sums of gradients: micro-batches of a virtual pipeline in index order from zero, virtual pipelines by the tree.
extension Stage {
    /// Whether a micro-batch may be added now: same step as the sums at hand, after all that are in them.
    func checkOrder(_ key: MicroBatchKey) throws(Refusal) {
        guard ready == nil else { throw Refusal("backward of \(key.text) before the last gradient was applied") }
        guard let last = lastAdded else { return }
        guard key.step == last.step else {
            throw Refusal("backward of \(key.text) among gradients of step \(last.step)")
        }
        guard key > last else { throw Refusal("backward of \(key.text) after \(last.text); key order is needed") }
    }

    /// The sum that a micro-batch's gradient is added to.
    func openShare(for key: MicroBatchKey) -> FloatBuffer {
        if let current = open, current.last.virtualPipeline == key.virtualPipeline {
            open = (key, current.sum)
        } else {
            closeShare()
            open = (key, buffers.takeZeroed())
        }
        lastAdded = key
        return open!.sum
    }

    /// Puts the share being summed on the stack of complete ones.
    func closeShare() {
        guard let (last, sum) = open else { return }
        open = nil
        tree.push(sum, at: tree.leaf(last.virtualPipeline), onto: &shares, add: add)
    }

    func add(_ left: FloatBuffer, _ right: FloatBuffer) -> FloatBuffer {
        kernels_add(threads, left.count, right.base, left.base)
        buffers.giveBack(right)
        return left
    }

    func finishGradient(microBatches: Int) throws(Refusal) -> ComputeResult {
        guard configuration.mode == .rounds else { throw Refusal("gradients are exchanged every step in this job") }
        guard ready == nil else { throw Refusal("the gradient is finished already") }
        guard microBatches > 0 else { throw Refusal("a gradient of \(microBatches) micro-batches") }
        closeShare()
        guard let sum = tree.fold(shares, add: add) else { throw Refusal("no micro-batch has been added") }
        shares = []
        return finish(sum, microBatches: microBatches)
    }

    func aggregateGradients(_ contributions: [RankedContribution]) throws(Refusal) -> ComputeResult {
        guard configuration.mode == .everyStep else { throw Refusal("gradients are not exchanged in this job") }
        let messages = try parse(contributions)
        let microBatches = contributions.reduce(0) { $0 + $1.microBatches }
        dropWork()
        let gradient = buffers.takeZeroed()
        for unit in configuration.units {
            let range = layout.range(unit: unit)
            let parts = messages[unit - configuration.units.lowerBound].map { message in
                let decoded = FloatBuffer(range.count)
                decode(message, into: decoded)
                return (message.node, decoded)
            }
            let sum = tree.fold(parts) { left, right in
                kernels_add(threads, left.count, right.base, left.base)
                return left
            }
            if let sum { (gradient.base + range.lowerBound).update(from: sum.base, count: range.count) }
        }
        return finish(gradient, microBatches: microBatches)
    }

    /// The same average, as the owners of its chunks made it.
    func takeAggregates(_ averages: FloatBuffer) -> ComputeResult {
        dropWork()
        ready = averages
        return sumsOfSquares(averages)
    }

    /// Makes the average and answers its sums of squares, one a tensor.
    private func finish(_ sum: FloatBuffer, microBatches: Int) -> ComputeResult {
        kernels_scale(threads, sum.count, 1 / Float(microBatches), sum.base)
        ready = sum
        return sumsOfSquares(sum)
    }
    private func sumsOfSquares(_ sum: FloatBuffer) -> ComputeResult {
        .sumSquares(layout.entries.map { kernels_sum_squares($0.range.count, sum.base + $0.range.lowerBound) })
    }
}
