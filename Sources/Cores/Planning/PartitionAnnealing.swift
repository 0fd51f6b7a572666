internal import Primitives
package import Topologies

/// Simulated annealing (Kirkpatrick et al. 1983) over partitions of peers into pipelines. Temperatures fall geometrically.
package struct PartitionAnnealing: Sendable {
    /// First and last temperature, relative to the score.
    package var hot: Double
    package var cold: Double
    /// Of the moves, those that exchange two peers; the others move one.
    package var swaps: Double
    /// Of the evaluations, the part that all numbers of pipelines share; the best two have the rest.
    package var share: Double

    package init(hot: Double, cold: Double, swaps: Double, share: Double) {
        self.hot = hot
        self.cold = cold
        self.swaps = swaps
        self.share = share
    }

    /// What it finds from a random start, as total seconds; infinite when nothing fits.
    package func seconds(_ topology: Topology, _ job: JobManifest, seed: UInt64, evaluations: Int) -> Double {
        let campaign = Campaign(
            cost: CostModel(topology: topology, job: job), peers: topology.peers, current: nil, seed: seed,
            iterations: evaluations, parallel: .serial)
        return campaign.annealed(self, evaluations: evaluations)
    }
}

extension PlanSearch {
    /// Simulated annealing (Kirkpatrick et al. 1983) over partitions: anybody goes anywhere, temperatures are relative to the score.
    mutating func annealed(
        _ start: Partition, _ settings: PartitionAnnealing, evaluations: Int, random: inout SeededGenerator
    ) -> Candidate? {
        var current = evaluate(start)
        var best = current
        var temperature = settings.hot
        let factor = Cooling.root(settings.cold / settings.hot, evaluations / 10)
        for step in 0..<evaluations {
            if step % 10 == 9 { temperature *= factor }
            guard let partition = neighbour(current, aimed: false, swaps: settings.swaps) else { break }
            // How much worse it may be is drawn now, so that beyond that nothing need be known of it.
            var ahead = random
            let most = temperature * Cooling.reach(ahead.uniform())
            let next = evaluate(partition, below: current.score * (1 + most) * (1 + 1e-9))
            let worse = next.score / current.score - 1
            if worse <= 0 || random.uniform() < Cooling.exponential(-worse / temperature) { current = next }
            if current.score < best.score { best = current }
        }
        return best.seconds.isFinite ? best : nil
    }
}

extension PlanSearch {
    /// The best partition of one annealing run.
    mutating func annealed(
        peers: [Int], _ settings: PartitionAnnealing, evaluations: Int, random: inout SeededGenerator
    ) -> Candidate? {
        var order = peers
        random.shuffle(&order)
        var start = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in order.enumerated() { start[index % pipelines].append(peer) }
        let most = cost.model.unitCount
        for g in 0..<pipelines where start[g].count > most {
            start[pipelines] += start[g].dropFirst(most)
            start[g] = Array(start[g].prefix(most))
        }
        return annealed(start.map { $0.sorted() }, settings, evaluations: evaluations, random: &random)
    }
}

extension Campaign {
    /// What annealing from random starts finds in this campaign's place, H and codecs settled as here: every number of pipelines, with and
    /// without rounds, then the best two again.
    func annealed(_ settings: PartitionAnnealing, evaluations: Int) -> Double {
        let counts = pipelineCounts()
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        let ways = modes.flatMap { mode in counts.map { (count: $0, usesRounds: mode) } }
        var random = SeededGenerator(seed: seed, stream: 0xA12)
        func run(_ way: (count: Int, usesRounds: Bool), _ evaluations: Int) -> Double {
            guard let pacing = firstGuess(pipelines: way.count, usesRounds: way.usesRounds) else { return .infinity }
            var search = PlanSearch(
                builder: PipelineBuilder(cost: cost, pacing: pacing), pacing: pacing, pipelines: way.count, seed: seed,
                change: change)
            let found = search.annealed(peers: peers, settings, evaluations: evaluations, random: &random)
            return found.map { settle($0.lanes, usesRounds: way.usesRounds).seconds } ?? .infinity
        }
        let first = ways.map { run($0, Int(settings.share * Double(evaluations)) / ways.count) }
        let best = first.min() ?? .infinity
        if settings.share >= 1 { return best }
        let order = ways.indices.sorted { (first[$0], $0) < (first[$1], $1) }.prefix(2)
        let again = order.map { run(ways[$0], Int((1 - settings.share) * Double(evaluations)) / order.count) }
        return min(best, again.min() ?? best)
    }
}
