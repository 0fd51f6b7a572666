public import Compute
import Kernels

extension InnerOptimizer {
    /// The learning rate of a step, where `tokens` are those counted once that step is done: with warm-up, asking
    /// before the first step with 0 answers 0. Linear warm-up, then constant, or down to the recipe's `finalShare` of the peak.
    public func learningRate(atTokens tokens: Int) -> Float {
        if tokens < warmupTokens { return Float(Double(learningRate) * Double(max(0, tokens)) / Double(warmupTokens)) }
        let final = Double(recipe.finalShare)
        func progress(since start: Int) -> Double {
            min(1, max(0, Double(tokens - start)) / Double(max(1, totalTokens - start)))
        }
        let share: Double
        switch schedule {
        case .constant: return learningRate
        case .cosine:
            share = final + (1 - final) * 0.5 * (1 + kernels_cos(progress(since: warmupTokens) * Double.pi))
        case .linear: share = 1 - (1 - final) * progress(since: warmupTokens)
        case .wsd:
            let decay = recipe.decayTokens > 0 ? recipe.decayTokens : totalTokens / 5
            share = 1 - (1 - final) * progress(since: max(warmupTokens, totalTokens - decay))
        }
        return Float(Double(learningRate) * share)
    }
}

/// √Σ of the tensors' sums of squares, added in the order given, which must be canonical over all units of the model.
public func gradientNorm(_ sumSquares: some Sequence<Float>) -> Float {
    sumSquares.reduce(0, +).squareRoot()
}
