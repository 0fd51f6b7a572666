internal import Primitives

/// Searches that share what they build: a pipeline depends on its peers and its share, not on how many others there are.
extension Campaign {
    /// One search over partitions.
    struct Search {
        var pipelines: Int
        var pacing: Pacing
        var hint: PlanSearch.Partition?
    }

    /// What the searches find, in their order.
    ///
    /// Among few peers those that agree on what pipelines depend on go one after the other and use each other's, which spares most of
    /// the work; among many, where searches hardly meet the same groups, all go side by side.
    mutating func searched(_ searches: [Search], _ chain: [Int], iterations: Int, keep: Int) -> [Outcome] {
        let campaign = self
        if coarse {
            return parallel.map(searches.count) { index in
                let one = searches[index]
                return campaign.search(
                    one, chain, campaign.builder(one.pacing), iterations: iterations, keep: keep
                ).outcomes
            }.flatMap { $0 }
        }
        var frames: [PipelineBuilder.Frame] = []
        for one in searches where !frames.contains(PipelineBuilder.Frame(one.pacing)) {
            frames.append(PipelineBuilder.Frame(one.pacing))
        }
        let order = frames
        let found = parallel.map(order.count) { place in
            var builder: PipelineBuilder?
            var outcomes: [Int: [Outcome]] = [:]
            for (index, one) in searches.enumerated() where PipelineBuilder.Frame(one.pacing) == order[place] {
                let (next, used) = campaign.search(
                    one, chain, builder ?? campaign.builder(one.pacing), iterations: iterations, keep: keep)
                (outcomes[index], builder) = (next, used)
            }
            return (outcomes: outcomes, builder: builder)
        }
        for (place, frame) in order.enumerated() { builders[frame] = found[place].builder }
        return searches.indices.flatMap { index in found.compactMap { $0.outcomes[index] }.joined() }
    }

    private func builder(_ pacing: Pacing) -> PipelineBuilder {
        if !coarse, let known = builders[PipelineBuilder.Frame(pacing)] { return known }
        return PipelineBuilder(cost: cost, pacing: pacing, coarse: coarse)
    }

    private func search(
        _ one: Search, _ chain: [Int], _ builder: PipelineBuilder, iterations: Int, keep: Int
    ) -> (outcomes: [Outcome], builder: PipelineBuilder) {
        var pacing = one.pacing
        func fresh(_ builder: PipelineBuilder) -> PlanSearch {
            PlanSearch(builder: builder, pacing: pacing, pipelines: one.pipelines, seed: seed, change: change)
        }
        var search = fresh(builder)
        // Which H and codecs suit is known only once there are lanes.
        let alike = batch(pacing.microBatchesPerVirtual)
        if coarse, let first = search.first(chain, one.hint),
            let suits = alike.estimated(first.lanes, pacing.usesRounds),
            suits != pacing
        {
            pacing = suits
            search = fresh(self.builder(pacing))
        }
        let found = search.run(chain: chain, iterations: iterations, hint: one.hint, keep: keep).map { found in
            var outcome =
                coarse
                ? Outcome(
                    lanes: found.lanes, pacing: pacing, seconds: found.seconds, score: found.score,
                    penalty: cost.penalty(pipelines: one.pipelines, pacing))
                : alike.settle(found.lanes, usesRounds: pacing.usesRounds)
            outcome.partition = found.partition
            return outcome
        }
        return (found, search.builder)
    }
}
