import Compute
import Exchange
import Kernels
import Primitives
import Wire

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
        return try takeGradient { unit, target throws(Refusal) in
            let parts = messages[unit - configuration.units.lowerBound]
            if parts.count == 1 {
                try decode(parts[0].bytes, unit: unit, into: target)
            } else {
                let decoded = try parts.map { message throws(Refusal) in
                    let decoded = FloatBuffer(target.count)
                    try decode(message.bytes, unit: unit, into: decoded.allValues)
                    return (message.node, decoded)
                }
                let sum = tree.fold(decoded) { left, right in
                    kernels_add(threads, left.count, right.base, left.base)
                    return left
                }!
                target.baseAddress!.update(from: sum.base, count: target.count)
            }
            kernels_scale(threads, target.count, 1 / Float(microBatches), target.baseAddress!)
        }
    }

    /// Gives the device the gradient of the next optimizer step, unit by unit, and answers its sums of squares: here, so that
    /// they are the same for all.
    ///
    /// - Parameter fill: with a unit's gradient, every value; where the device takes it, if it can.
    func takeGradient(
        _ fill: (_ unit: Int, UnsafeMutableBufferPointer<Float>) throws(Refusal) -> Void
    ) throws(Refusal) -> ComputeResult {
        try dropWork()
        do throws(Refusal) {
            let sums = try gradientSums(fill)
            progress.hasGradient = true
            return .sumSquares(sums)
        } catch {
            try dropWork()
            throw error
        }
    }
    private func gradientSums(
        _ fill: (_ unit: Int, UnsafeMutableBufferPointer<Float>) throws(Refusal) -> Void
    ) throws(Refusal) -> [Float] {
        var sums: [Float] = []
        var room: FloatBuffer?
        defer { if let room { device.idle.giveBack(room) } }
        for unit in configuration.units {
            let range = layout.range(unit: unit)
            let place = device.place(.gradient, unit: unit)
            if place == nil, room == nil { room = device.idle.take() }
            let values = UnsafeMutableBufferPointer(start: place ?? room!.base, count: range.count)
            try fill(unit, values)
            if place == nil { try device.write(.gradient, unit: unit, from: UnsafeBufferPointer(values)) }
            sums += layout.entries(unit: unit).map {
                kernels_sum_squares($0.range.count, values.baseAddress! + $0.range.lowerBound - range.lowerBound)
            }
        }
        return sums
    }
}
