import Exchange
import Primitives
import Testing

@Suite struct `The gradient noise scale` {
    /// Contributors of b tokens each see the gradient G and noise of variance Σ/b a value.
    static func measured(contributors: Int, tokens: Int, scale: Double, rounds: Int, repeats: Double = 1)
        -> GradientNoise
    {
        let values = 4000
        var random = SeededGenerator(seed: 7)
        // |G|² = values · 0.01, tr Σ = scale · |G|².
        let deviation = (scale * 0.01 / (Double(tokens) / Double(contributors))).squareRoot()
        func normal() -> Double { (0..<12).reduce(-6.0) { sum, _ in sum + random.uniform() } }
        var noise = GradientNoise()
        for _ in 0..<rounds {
            var squares = GradientSquares()
            for _ in 0..<values {
                let seen = (0..<contributors).map { _ in 0.1 + deviation * normal() }
                let mean = seen.reduce(0, +) / Double(contributors)
                squares.contributors += repeats * seen.reduce(0) { $0 + $1 * $1 } / Double(contributors)
                squares.mean += repeats * mean * mean
            }
            noise.add(squares, contributors: contributors, tokens: tokens)
        }
        return noise
    }

    @Test(arguments: [2, 3, 8], [500.0, 20_000]) func `is found from contributions and their average`(
        contributors: Int, scale: Double
    ) throws {
        let noise = Self.measured(contributors: contributors, tokens: 4096, scale: scale, rounds: 20)
        let found = try #require(noise.criticalBatch?.tokens)
        #expect(abs(found / scale - 1) < 0.2, "\(found), not \(scale)")
    }

    @Test func `does not depend on how often each value is counted`() throws {
        let once = try #require(Self.measured(contributors: 4, tokens: 1000, scale: 800, rounds: 6).criticalBatch)
        let thrice = try #require(
            Self.measured(contributors: 4, tokens: 1000, scale: 800, rounds: 6, repeats: 3).criticalBatch)
        #expect(abs(once.tokens / thrice.tokens - 1) < 1e-9)
    }

    @Test func `says nothing too early, of one contributor, or of what cannot be`() {
        #expect(Self.measured(contributors: 4, tokens: 1000, scale: 800, rounds: 4).criticalBatch == nil)
        #expect(Self.measured(contributors: 1, tokens: 1000, scale: 800, rounds: 9).rounds == 0)
        var noise = GradientNoise()
        for squares in [
            GradientSquares(contributors: .nan, mean: 1), GradientSquares(contributors: 1, mean: 2),
            GradientSquares(contributors: -1, mean: 0), GradientSquares(contributors: .infinity, mean: 1),
            GradientSquares(contributors: 1, mean: -.infinity), GradientSquares(),
        ] {
            #expect(!squares.isPlausible)
            for _ in 0..<9 { noise.add(squares, contributors: 4, tokens: 1000) }
        }
        #expect(noise == GradientNoise())
    }
}
