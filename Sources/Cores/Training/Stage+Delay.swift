import Kernels

/// An exchange that inner steps hide: the contribution is taken some steps before the round ends, and what those steps have
/// changed is not lost when the outer weights come (Streaming DiLoCo, 2501.18512).
extension Stage {
    /// The contribution is of the weights as they are now; steps may follow. Plain averaging has no momentum: its buffer keeps
    /// them, so that a delay costs no memory.
    func keepSentWeights() {
        guard configuration.outer.delay > 0, let outer else { return }
        let sent = configuration.outer.momentum == 0 ? outer.momentum : sentWeights ?? buffers.takeZeroed()
        sent.copy(from: parameters)
        sentWeights = sent
    }

    /// The round is begun anew, or with other weights: it then begins with the outer weights themselves.
    func dropSentWeights() {
        if configuration.outer.momentum != 0, let sent = sentWeights { buffers.giveBack(sent) }
        sentWeights = nil
    }

    /// Φ −= rate·(Δ + …), then θ = Φ, or θ = Φ + c·(θ − s) where steps went on after the contribution was taken of s.
    func step(_ outer: OuterState, by delta: FloatBuffer) {
        let carries = sentWeights != nil
        if let sent = sentWeights {
            kernels_subtract(threads, parameters.count, parameters.base, sent.base, parameters.base)
            kernels_scale(threads, parameters.count, configuration.outer.carry, parameters.base)
            dropSentWeights()
        }
        kernels_outer_step(
            threads, delta.count, configuration.outer.learningRate, configuration.outer.momentum, delta.base,
            outer.momentum.base, outer.parameters.base)
        if carries {
            kernels_add(threads, parameters.count, outer.parameters.base, parameters.base)
        } else {
            parameters.copy(from: outer.parameters)
        }
    }
}
