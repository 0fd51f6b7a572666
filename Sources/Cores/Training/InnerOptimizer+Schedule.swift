public import Compute
import Kernels

extension InnerOptimizer {
    /// The learning rate of a step, where `tokens` are those counted once that step is done: with warm-up, asking
    /// before the first step with 0 answers 0. Linear warm-up, then constant, or cosine down to `finalShare` of the
    /// peak.
    public func learningRate(atTokens tokens: Int) -> Float {
        if tokens < warmupTokens { return Float(Double(learningRate) * Double(max(0, tokens)) / Double(warmupTokens)) }
        switch schedule {
        case .constant: return learningRate
        case .cosine:
            let span = max(1, totalTokens - warmupTokens)
            let progress = min(1, Double(tokens - warmupTokens) / Double(span))
            let share = Double(finalShare) + (1 - Double(finalShare)) * 0.5 * (1 + kernels_cos(progress * Double.pi))
            return Float(Double(learningRate) * share)
        }
    }
}

/// √Σ of the tensors' sums of squares, added in the order given, which must be canonical over all units of the model.
public func gradientNorm(_ sumSquares: some Sequence<Float>) -> Float {
    sumSquares.reduce(0, +).squareRoot()
}
