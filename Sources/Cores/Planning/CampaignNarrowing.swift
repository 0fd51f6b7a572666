internal import Primitives

/// A search among the peers of a plan alone.
extension Campaign {
    /// Passes, of which each begins where the one before gained.
    private static let passes = 2

    /// Plans anew among the peers of the best plan, up to twelve, as long as that gains: where so few are left nearly every partition is looked
    /// at, and everything is simulated. Nobody who runs a job waits for that.
    mutating func narrow() {
        guard current == nil else { return }
        for _ in 0..<Campaign.passes {
            guard let best = outcomes.first else { return }
            let pool = Set(best.lanes.flatMap(\.hosts)).sorted()
            guard pool.count < peers.count, pool.count <= Campaign.leastEstimated else { return }
            let found = planned(among: pool)
            guard let least = found.map(\.score).min(), least < best.score * (1 - 1e-6) else { return }
            outcomes += found
            sortOutcomes()
            distinct()
        }
    }

    private func planned(among pool: [Int]) -> [Outcome] {
        var other = Campaign(
            cost: cost, peers: pool, current: nil, seed: seed, iterations: givenIterations, parallel: parallel)
        do throws(PlanningError) { try other.run() } catch { return [] }
        if cost.job.batchTokens == .auto { other.rebatchBest() }
        return Array(other.outcomes.prefix(2))
    }
}
