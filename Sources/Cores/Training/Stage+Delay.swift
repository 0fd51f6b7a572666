import Compute
import Kernels

/// An exchange that inner steps hide: the contribution is taken some steps before the round ends, and what those steps have
/// changed is not lost when the outer weights come (Streaming DiLoCo, 2501.18512).
extension Stage {
    /// The contribution is of the weights as they are now; steps may follow. Plain averaging has no momentum: its buffer keeps
    /// them, so that a delay costs no memory.
    func keepSentWeights() throws(Refusal) {
        guard configuration.outer.delay > 0, let outer else { return }
        let sent = configuration.outer.momentum == 0 ? outer.momentum : sentWeights ?? device.idle.take()
        try read(.parameters, into: sent)
        sentWeights = sent
    }

    /// The round is begun anew, or with other weights: it then begins with the outer weights themselves.
    func dropSentWeights() {
        if configuration.outer.momentum != 0, let sent = sentWeights { device.idle.giveBack(sent) }
        sentWeights = nil
    }

    /// Φ −= rate·(Δ + …), then θ = Φ, or θ = Φ + c·(θ − s) where steps went on after the contribution was taken of s.
    func step(_ outer: OuterState, by delta: FloatBuffer) throws(Refusal) {
        var own: FloatBuffer?
        if let sent = sentWeights {
            let carried = device.idle.take()
            try read(.parameters, into: carried)
            kernels_subtract(threads, carried.count, carried.base, sent.base, carried.base)
            kernels_scale(threads, carried.count, configuration.outer.carry, carried.base)
            own = carried
            dropSentWeights()
        }
        kernels_outer_step(
            threads, delta.count, configuration.outer.learningRate, configuration.outer.momentum, delta.base,
            outer.momentum.base, outer.parameters.base)
        isAtOuterWeights = own == nil
        guard let own else { return try write(.parameters, from: outer.parameters) }
        kernels_add(threads, own.count, outer.parameters.base, own.base)
        try write(.parameters, from: own)
        device.idle.giveBack(own)
    }
}
