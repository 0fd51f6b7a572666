import Exchange
import Primitives
import Simulation
import Testing

@Suite struct `A group over shaped lines` {
    private func line(_ up: Double, _ down: Double) -> GroupWorld.Line {
        GroupWorld.Line(up: .megabits(up), down: .megabits(down))
    }

    /// The goal of docs/BENCHMARKS.md: at most a tenth above the bound, where one line is slow one way.
    @Test(arguments: [[100.0, 100, 100, 20], [100, 100, 100, 100], [50, 20, 80, 100, 10, 40]])
    func `takes at most a tenth longer than its bound`(up: [Double]) throws {
        let values = 2_000_000
        let lines = up.map { line($0, 100) }
        let best = ExchangeCost.ownerShares(
            contribution: Double(4 * values), aggregate: Double(4 * values), up: lines.map(\.up.bytesPerSecond),
            down: lines.map(\.down.bytesPerSecond))
        var world = GroupWorld(
            lines: lines, latency: .milliseconds(10), layout: ChunkLayout(tensors: [values], codec: .fp32),
            contributionBytes: { 4 * $0 }, aggregateBytes: { 4 * $0 }, shares: best.shares)
        let outcome = world.run()
        #expect(try #require(outcome.seconds) <= 1.1 * best.seconds)
        #expect(outcome.seconds! >= best.seconds)
    }

    @Test func `sends as much as an all-gather must, and is the same every time`() throws {
        let codec = Codec.sparse(k: 64)
        func run() -> GroupWorld.Outcome {
            var world = GroupWorld(
                lines: [GroupWorld.Line](repeating: line(20, 100), count: 5), latency: .milliseconds(20),
                layout: ChunkLayout(tensors: [3_000_000, 70_000], codec: codec),
                contributionBytes: { codec.expectedBytes(for: $0) }, aggregateBytes: { _ in 0 }, shares: [])
            return world.run()
        }
        let outcome = run()
        let bytes = Double(codec.expectedBytes(for: 3_070_000)) * 4
        for sent in outcome.sent { #expect(Double(sent) >= bytes && Double(sent) < 1.05 * bytes) }
        #expect(try #require(outcome.seconds) < 1.1 * bytes / 2_500_000 + 0.02)
        #expect(run() == outcome)
    }
}
