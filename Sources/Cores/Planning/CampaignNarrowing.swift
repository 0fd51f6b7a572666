internal import Primitives

/// Searches among fewer peers: what a plan leaves out may have kept its search from a better one.
extension Campaign {
    /// Of pools up to so many peers each spare is left out by itself, up to `mostLeftOut` of them; of larger ones up to `mostNarrowed` the
    /// slowest alone.
    private static let leastNarrowed = 9
    private static let mostLeftOut = 4
    private static let mostNarrowed = 24
    /// Passes, of which each begins where the one before gained.
    private static let passes = 3

    /// Plans anew among the peers of the best plan, and without some of its spares, as long as that gains.
    ///
    /// Where few peers are left every partition is looked at, and among more a search with fewer of them is a longer one. Nobody who runs
    /// a job waits for that.
    mutating func narrow() {
        guard current == nil else { return }
        var tried = [peers]
        for _ in 0..<Campaign.passes {
            guard let best = outcomes.first else { return }
            let pools = pools(best).filter { !tried.contains($0) }
            if pools.isEmpty { return }
            tried += pools
            let campaign = self
            let found = parallel.map(pools.count) { campaign.planned(among: pools[$0]) }.joined()
            guard let least = found.map(\.score).min(), least < best.score * (1 - 1e-6) else { return }
            outcomes += found
            sortOutcomes()
            distinct()
        }
    }

    /// Pools without some of a plan's spares.
    private func pools(_ best: Outcome) -> [[Int]] {
        let used = Set(best.lanes.flatMap(\.hosts))
        let spares = peers.filter { !used.contains($0) }.sorted { (cost.speeds[$0], $0) < (cost.speeds[$1], $1) }
        guard !spares.isEmpty else { return [] }
        var pools: [[Int]] = []
        if used.count <= (coarse ? Campaign.leastEstimated : Campaign.mostSimulated) { pools.append(used.sorted()) }
        if Campaign.leastNarrowed...Campaign.mostNarrowed ~= peers.count {
            let most = peers.count <= Campaign.leastEstimated ? Campaign.mostLeftOut : 1
            for spare in spares.prefix(most) { pools.append(peers.filter { $0 != spare }) }
        }
        return pools
    }

    private func planned(among pool: [Int]) -> [Outcome] {
        var other = Campaign(
            cost: cost, peers: pool, current: nil, seed: seed, iterations: givenIterations, parallel: .serial)
        do throws(PlanningError) { try other.run() } catch { return [] }
        if cost.job.batchTokens == .auto { other.rebatchBest() }
        return Array(other.outcomes.prefix(2))
    }
}
