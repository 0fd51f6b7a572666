public import Primitives

/// The gradient noise scale tr Σ ÷ |G|², which estimates the critical batch, from the exchange's own norms: those of contributions of
/// b tokens and that of their average over B (McCandlish et al. 2018, appendix A.1).
///
/// |G|² ≈ (B·|g_B|² − b·|g_b|²) ÷ (B − b) and tr Σ ≈ (|g_b|² − |g_B|²) ÷ (1/b − 1/B), averaged separately over rounds, then divided. With
/// H > 1 a round's pseudo-gradient counts as the gradient of one batch of all its tokens.
public struct GradientNoise: Hashable, Sendable {
    /// Of a new round in the running averages.
    static let share = 0.1
    /// Rounds before it says anything.
    static let leastRounds = 5
    private var signal = 0.0
    private var noise = 0.0
    public private(set) var rounds = 0

    public init() {}

    /// - Parameters:
    ///   - squares: over any part of the model that has the same contributors, however often each value is in it.
    ///   - contributors: at least 2, or it tells nothing.
    ///   - tokens: B, of all of them.
    public mutating func add(_ squares: GradientSquares, contributors: Int, tokens: Int) {
        guard contributors > 1, tokens > 0, squares.isPlausible else { return }
        let large = Double(tokens)
        let small = large / Double(contributors)
        let square = (large * squares.mean - small * squares.contributors) / (large - small)
        let trace = (squares.contributors - squares.mean) / (1 / small - 1 / large)
        // Rounds weigh alike until there are enough of them; relative to their size, so that a large one does not drown the others.
        let share = max(GradientNoise.share, 1 / Double(rounds + 1))
        signal += share * (square / squares.contributors - signal)
        noise += share * (trace / squares.contributors - noise)
        rounds += 1
    }

    /// nil before enough rounds, or where noise hides the gradient.
    public var criticalBatch: CriticalBatch? {
        guard rounds >= GradientNoise.leastRounds, signal > 0, noise > 0 else { return nil }
        let tokens = noise / signal
        return tokens >= 1 && tokens < 1e15 ? CriticalBatch(tokens: tokens) : nil
    }
}
