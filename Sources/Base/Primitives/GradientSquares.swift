/// What one averaging of contributions tells about their noise: sums over the values that were averaged.
public struct GradientSquares: Hashable, Sendable {
    /// Mean over the contributors, by weight, of Σ g².
    public var contributors: Double
    /// Σ of the squared average.
    public var mean: Double
    public init(contributors: Double = 0, mean: Double = 0) {
        self.contributors = contributors
        self.mean = mean
    }
    public static func += (sum: inout GradientSquares, other: GradientSquares) {
        sum.contributors += other.contributors
        sum.mean += other.mean
    }
    /// Whether it can be so: a squared mean is at most the mean of squares (rounding apart).
    public var isPlausible: Bool {
        contributors > 0 && contributors < 1e30 && mean >= 0 && mean <= contributors * 1.001
    }
}
