internal import Primitives
internal import Topologies

/// How large the batch is, where the job leaves it open: a larger one waits less and needs more tokens (``CriticalBatch``).
extension Campaign {
    /// So many steps at least: what fewer do to the loss nobody has measured.
    static let leastSteps = 40
    static let mostMicroBatches = 64
    /// A batch that is so much worse with pipelines as they are is not searched for its own.
    private var hope: Double { coarse ? 1.03 : 1.15 }

    /// Every k that the job allows, ascending.
    var batches: [Int] {
        guard cost.job.batchTokens == .auto, current == nil else { return [microBatches] }
        var found = [1]
        while let last = found.last, last < Campaign.mostMicroBatches,
            cost.job.steps(microBatchesPerVirtual: 2 * last) >= Campaign.leastSteps
        {
            found.append(2 * last)
        }
        return found
    }
    /// The same planning with that k.
    func batch(_ microBatches: Int) -> Campaign {
        var other = self
        other.microBatches = microBatches
        return other
    }
    /// The same planning with an outcome's k.
    func alike(_ outcome: Outcome) -> Campaign { batch(outcome.pacing.microBatchesPerVirtual) }

    // MARK: by closed forms

    /// Beside the best of each number of pipelines and kind of round the same pipelines with the batch that suits them, by closed forms.
    mutating func rebatch() {
        let batches = batches
        guard batches.count > 1 else { return }
        let campaign = self
        let starts = foremost(outcomes.count, within: Campaign.mostGained)
        outcomes += parallel.map(starts.count) { campaign.rebatched(starts[$0], batches) }.compactMap { $0 }
        sortOutcomes()
    }
    /// What is so many times worse than the best no batch makes the best of all.
    private static let mostGained = 4.0

    /// Up from its own k, or else down, as long as that gains, over one step that does not; nil where nothing does.
    private func rebatched(_ start: Outcome, _ batches: [Int]) -> Outcome? {
        let own = start.pacing.microBatchesPerVirtual
        for some in [batches.filter { $0 > own }, batches.filter { $0 < own }.reversed()] {
            var best = start
            var idle = 0
            for k in some where idle < 2 {
                if let next = batch(k).estimated(start), next.score < best.score {
                    (best, idle) = (next, 0)
                } else {
                    idle += 1
                }
            }
            if best.pacing.microBatchesPerVirtual != own { return best }
        }
        return nil
    }
    /// An outcome's pipelines with this batch, by closed forms, H and delay settled anew.
    private func estimated(_ outcome: Outcome) -> Outcome? {
        guard let lanes = deepened(outcome.lanes, outcome.pacing, coarse: true),
            let pacing = estimated(lanes, outcome.pacing.usesRounds, like: outcome.pacing)
        else { return nil }
        var found = outcome
        found.lanes = PlanPolish.ordered(lanes)
        found.pacing = pacing
        found.seconds = cost.totalSeconds(cost.estimatedRound(found.lanes, pacing), found.lanes, pacing)
        found.score = cost.score(found.seconds, found.lanes) + change(found.lanes)
        found.penalty = cost.penalty(pipelines: lanes.count, pacing)
        return found.seconds.isFinite ? found : nil
    }

    // MARK: by simulation

    /// Doubles the batch from the best plan's on as long as the job ends sooner, or else halves it.
    mutating func rebatchBest() {
        guard let first = outcomes.first else { return }
        microBatches = first.pacing.microBatchesPerVirtual
        let batches = batches
        if !climbs(batches.filter { $0 > microBatches }) { _ = climbs(batches.filter { $0 < microBatches }.reversed()) }
    }

    /// One batch after the other as long as the job ends sooner: first the best plans as they are, as deep as memory allows, then, among few
    /// peers, a search of their own.
    ///
    /// - Returns: whether any ends sooner.
    private mutating func climbs(_ batches: [Int]) -> Bool {
        var gains = false
        for k in batches {
            guard let best = outcomes.first else { break }
            var other = batch(k)
            other.iterations = max(1, iterations / 3)
            other.outcomes = outcomes.prefix(4).compactMap { other.deepened($0) }
            other.sortOutcomes()
            guard let first = other.outcomes.first, first.score < best.score * hope else { break }
            let seen = other.outcomes
            if other.coarse {
                let polished = other
                other.outcomes += other.parallel.map(min(2, seen.count)) {
                    polished.polished(seen[$0], kicks: false)
                }.flatMap { $0 }
            } else {
                other.look()
                other.outcomes += seen
            }
            other.sortOutcomes()
            other.distinct()
            guard let next = other.outcomes.first, next.score < best.score * 0.998 else { break }
            // The best of the batch before stays in sight.
            let rest = outcomes.prefix(1)
            microBatches = k
            outcomes = other.outcomes + rest
            sortOutcomes()
            gains = true
        }
        return gains
    }

    /// An outcome's pipelines with this batch, as deep as memory allows, H and codecs settled anew.
    private func deepened(_ outcome: Outcome) -> Outcome? {
        guard let lanes = deepened(outcome.lanes, outcome.pacing, coarse: coarse) else { return nil }
        var found = settle(lanes, usesRounds: outcome.pacing.usesRounds)
        found.partition = outcome.partition
        return found.seconds.isFinite ? found : nil
    }
    private func deepened(_ lanes: [Lane], _ pacing: Pacing, coarse: Bool) -> [Lane]? {
        var pacing = pacing
        pacing.microBatchesPerVirtual = microBatches
        let polish = PlanPolish(
            cost: cost, pacing: pacing, peers: peers,
            builder: PipelineBuilder(cost: cost, pacing: pacing, coarse: coarse), change: change)
        let deep = lanes.compactMap { polish.deepest($0) }
        return deep.count == lanes.count ? deep : nil
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
