internal import Primitives

/// Who works with whom, once more, from the best plan.
extension Campaign {
    /// Threshold accepting ends in the valley of its start; with fewer annealed evaluations plans for 16 peers on islands (seeds 1000 to
    /// 1005) were 2 % dearer, and as many in a longer search or in kicks gained less.
    private static let annealing = AnnealingBaseline(hot: 0.03, cold: 1e-3, restarts: 1, mix: 0.5, share: 1)
    private static let annealingBudget = 4
    private static let annealings = 3

    /// What annealing from an outcome's groups finds, again and again from the best so far, as found and improved as a whole plan.
    func annealed(_ start: Outcome) -> [Outcome] {
        var best = start
        var all: [Outcome] = []
        // One search for all runs: what it knows of pipelines makes the later ones cheap.
        var search = PlanSearch(
            builder: PipelineBuilder(cost: cost, pacing: start.pacing), pacing: start.pacing,
            pipelines: start.lanes.count, seed: seed, change: change)
        var random = SeededGenerator(seed: seed, stream: 0xA13)
        for _ in 0..<Campaign.annealings {
            let used = Set(best.lanes.flatMap(\.hosts))
            let groups = best.lanes.map { $0.hosts.sorted() } + [peers.filter { !used.contains($0) }]
            guard groups.count == start.lanes.count + 1,
                let found = search.annealed(
                    groups, Campaign.annealing, evaluations: iterations * Campaign.annealingBudget, random: &random)
            else { break }
            var outcome = settle(found.lanes, usesRounds: start.pacing.usesRounds)
            outcome.partition = found.partition
            all += [outcome] + polished(outcome, kicks: false)
            best = all.reduce(best) { $1.score < $0.score ? $1 : $0 }
        }
        return best.score < start.score ? all + polished(best, kicks: true) : all
    }
}

extension PlanSearch {
    /// Simulated annealing (Kirkpatrick et al. 1983) over partitions: anybody goes anywhere, temperatures are relative to the score.
    mutating func annealed(
        _ start: Partition, _ settings: AnnealingBaseline, evaluations: Int, random: inout SeededGenerator
    ) -> Candidate? {
        var current = evaluate(start)
        var best = current
        var temperature = settings.hot
        let factor = AnnealingBaseline.root(settings.cold / settings.hot, evaluations / 10)
        for step in 0..<evaluations {
            if step % 10 == 9 { temperature *= factor }
            guard let partition = neighbour(current, aimed: false, swaps: settings.mix) else { break }
            let next = evaluate(partition)
            let worse = next.score / current.score - 1
            if worse <= 0 || random.uniform() < AnnealingBaseline.exponential(-worse / temperature) { current = next }
            if current.score < best.score { best = current }
        }
        return best.seconds.isFinite ? best : nil
    }
}
