internal import Primitives
internal import Topologies

/// How large the batch is, where the job leaves it open: a larger one waits less and needs more tokens (``CriticalBatch``).
extension Campaign {
    /// So many steps at least: what fewer do to the loss nobody has measured.
    static let leastSteps = 40
    static let mostMicroBatches = 64
    /// A batch that is so much worse with pipelines as they are is not searched for its own.
    private var hope: Double { coarse ? 1.03 : 1.15 }

    /// Doubles the batch as long as the job ends sooner: first the best plans as they are, with more in flight, then, among few peers, a
    /// search of their own.
    mutating func enlarge() {
        while microBatches < Campaign.mostMicroBatches, let best = outcomes.first,
            cost.job.steps(microBatchesPerVirtual: 2 * microBatches) >= Campaign.leastSteps
        {
            var larger = self
            larger.microBatches *= 2
            larger.iterations = max(1, iterations / 3)
            larger.outcomes = outcomes.prefix(4).compactMap { larger.deepened($0) }
            larger.sortOutcomes()
            guard let first = larger.outcomes.first, first.score < best.score * hope else { return }
            let seen = larger.outcomes
            if larger.coarse {
                let polished = larger
                larger.outcomes += larger.parallel.map(min(2, seen.count)) {
                    polished.polished(seen[$0], kicks: false)
                }.flatMap { $0 }
            } else {
                larger.look()
                larger.outcomes += seen
            }
            larger.sortOutcomes()
            larger.distinct()
            guard let next = larger.outcomes.first, next.score < best.score * 0.998 else { return }
            // The best of the smaller batch stays in sight.
            let rest = outcomes.prefix(1)
            microBatches = larger.microBatches
            outcomes = larger.outcomes + rest
            sortOutcomes()
        }
    }

    /// An outcome's pipelines with this batch, as deep as memory allows, H and codecs settled anew.
    private func deepened(_ outcome: Outcome) -> Outcome? {
        var pacing = outcome.pacing
        pacing.microBatchesPerVirtual = microBatches
        let polish = PlanPolish(
            cost: cost, pacing: pacing, peers: peers,
            builder: PipelineBuilder(cost: cost, pacing: pacing, coarse: coarse),
            change: change)
        let lanes = outcome.lanes.compactMap { polish.deepest($0) }
        guard lanes.count == outcome.lanes.count else { return nil }
        var found = settle(lanes, usesRounds: pacing.usesRounds)
        found.partition = outcome.partition
        return found.seconds.isFinite ? found : nil
    }

    /// Why the batch is what it is; nil where the job gives it.
    func batchChoice(_ plan: Plan) -> String? {
        guard cost.job.batchTokens == .auto else { return nil }
        let k = plan.microBatchesPerVirtual
        let (batch, smallest) = (
            cost.job.geometry(microBatchesPerVirtual: k).batchTokens,
            cost.job.geometry(microBatchesPerVirtual: 1).batchTokens
        )
        let critical = "critical batch \(fixed(cost.job.criticalBatch.tokens, 0))"
        let excess = 100 * (cost.job.criticalBatch.excess(batch: batch, reference: smallest) - 1)
        let isShort = cost.job.steps(microBatchesPerVirtual: 2 * k) < Campaign.leastSteps
        let larger =
            isShort
            ? "twice that would leave fewer than \(Campaign.leastSteps) steps" : "a larger one needs more than it saves"
        return k == 1
            ? "Batch \(batch) tokens, the smallest; \(larger) (\(critical))."
            : "Batch \(batch) tokens: it needs \(fixed(excess, 0)) % more of them than \(smallest), and waits less; \(larger) (\(critical))."
    }
}
