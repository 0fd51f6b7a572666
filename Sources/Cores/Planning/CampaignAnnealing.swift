internal import Primitives

/// Who works with whom, once more, from the best plan.
extension Campaign {
    /// Threshold accepting ends in the valley of its start. Without this, plans for 16 peers on islands, seeds 1000 to 1003, were 2 %
    /// dearer in a quarter of the time; six times the iterations took about as long as this and gained 1.4 %, more kicks nothing.
    private static let annealing = PartitionAnnealing(hot: 0.03, cold: 1e-3, swaps: 0.5, share: 1)
    private static let annealingBudget = 4

    /// What annealing finds from the best of each of two numbers of pipelines or kinds of round, and twice more from the best of all.
    func annealed() -> [Outcome] {
        var all: [Outcome] = []
        var searches: [Int: PlanSearch] = [:]
        var random = SeededGenerator(seed: seed, stream: 0xA13)
        func run(_ start: Outcome) {
            // One search for all runs of a kind: what it knows of pipelines makes the later ones cheap.
            let kind = 2 * start.lanes.count + (start.pacing.usesRounds ? 1 : 0)
            var search =
                searches[kind]
                ?? PlanSearch(
                    builder: PipelineBuilder(cost: cost, pacing: start.pacing), pacing: start.pacing,
                    pipelines: start.lanes.count, seed: seed, change: change)
            defer { searches[kind] = search }
            let used = Set(start.lanes.flatMap(\.hosts))
            let groups = start.lanes.map { $0.hosts.sorted() } + [peers.filter { !used.contains($0) }]
            let evaluations = iterations * Campaign.annealingBudget
            guard let found = search.annealed(groups, Campaign.annealing, evaluations: evaluations, random: &random)
            else { return }
            var outcome = settle(found.lanes, usesRounds: start.pacing.usesRounds)
            outcome.partition = found.partition
            all += [outcome] + polished(outcome, kicks: false)
        }
        let starts = foremost(2)
        for start in starts { run(start) }
        for _ in 0..<2 {
            guard let best = (starts + all).min(by: { $0.score < $1.score }) else { break }
            run(best)
        }
        guard let best = all.min(by: { $0.score < $1.score }), best.score < starts[0].score else { return all }
        return all + polished(best, kicks: true)
    }
}
