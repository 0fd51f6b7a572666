import Kernels

/// An exchange that inner steps hide: the contribution is taken some steps before the round ends, and what those steps have
/// changed is not lost when the outer weights come (Streaming DiLoCo, 2501.18512).
extension Stage {
    /// The contribution is of the weights as they are now; steps may follow.
    func keepSentWeights() {
        guard configuration.outer.delay > 0 else { return }
        let sent = sentWeights ?? buffers.takeZeroed()
        sent.copy(from: parameters)
        sentWeights = sent
    }

    /// The round is begun anew, or with other weights: it then begins with the outer weights themselves.
    func dropSentWeights() {
        guard let sent = sentWeights else { return }
        buffers.giveBack(sent)
        sentWeights = nil
    }

    /// The outer step is done: θ = Φ, or θ = Φ + c·(θ − s) where steps went on after the contribution was taken of s.
    func takeOuterWeights(_ outer: OuterState) {
        guard let sent = sentWeights else { return parameters.copy(from: outer.parameters) }
        kernels_subtract(threads, parameters.count, parameters.base, sent.base, parameters.base)
        kernels_scale(threads, parameters.count, configuration.outer.carry, parameters.base)
        kernels_add(threads, parameters.count, outer.parameters.base, parameters.base)
        dropSentWeights()
    }
}
