internal import Primitives
internal import Topologies

/// One planning: every sensible number of pipelines, with and without rounds, then the best way to exchange for each, then
/// the choice.
struct Campaign {
    struct Outcome {
        /// Where the search for it ended; empty for the current plan.
        var partition: PlanSearch.Partition = []
        var lanes: [Lane]
        var pacing: Pacing
        var seconds: Double
        /// Seconds, and what changing over from the current plan costs.
        var score: Double
        var penalty: Double
        var isCurrent = false
        /// The running plan, mended.
        var isMended = false
    }
    let cost: CostModel
    let peers: [Int]
    let current: Plan?
    let seed: UInt64
    var iterations: Int
    /// As the caller gave them.
    let givenIterations: Int
    /// k: micro-batches of each virtual pipeline in a step, where nothing else is said.
    var microBatches: Int
    let parallel: Parallel
    /// Whether a running plan that lost peers is mended instead of planned anew.
    var repairs = true
    /// Whether the plan is the running one, mended.
    private(set) var wasRepaired = false
    /// Whether the mended plan is as good as the running one was before it lost anything, though many others are there.
    private var isFullyRepaired = false
    var outcomes: [Outcome] = []
    var kept = false
    private var currentUnits: [Int: Range<Int>] = [:]
    private var hint: PlanSearch.Partition?
    /// Pipelines that searches of this planning have built.
    var builders: [PipelineBuilder.Frame: PipelineBuilder] = [:]

    /// A plan that runs is left only for one that is at least this much better, moving included.
    static let hysteresis = 0.03
    /// Seconds that any change of plan costs beside moving weights.
    static let changeSeconds = 2.0
    /// Among more peers than these the search judges by closed forms, and only what it ends with is simulated.
    static let mostSimulated = 40
    /// Up to so many peers closed forms would gain nothing; between the two both ways are gone, and the better plan is taken.
    static let leastEstimated = 12
    /// A second look at each number of pipelines is with a batch so many times as large as the smallest.
    private static let secondLook = 4
    /// Whether this planning judges by closed forms.
    private(set) var coarse: Bool

    init(cost: CostModel, peers: [Int], current: Plan?, seed: UInt64, iterations: Int, parallel: Parallel) {
        self.cost = cost
        self.peers = peers
        coarse = peers.count > Campaign.mostSimulated
        self.current = current
        self.seed = seed
        self.iterations = iterations
        givenIterations = iterations
        microBatches = cost.job.fixedMicroBatchesPerVirtual ?? current?.microBatchesPerVirtual ?? 1
        self.parallel = parallel
        if let current { recordCurrent(current) }
    }

    private mutating func recordCurrent(_ plan: Plan) {
        var indices: [String: Int] = [:]
        for peer in peers { indices[cost.topology.hosts[peer].name] = peer }
        var groups: PlanSearch.Partition = []
        var used: Set<Int> = []
        for pipeline in plan.pipelines {
            var group: [Int] = []
            for stage in pipeline.stages {
                guard let peer = indices[stage.peer], used.insert(peer).inserted else { continue }
                currentUnits[peer] = stage.units
                group.append(peer)
            }
            if !group.isEmpty { groups.append(group.sorted()) }
        }
        hint = groups + [peers.filter { !used.contains($0) }]
    }

    // MARK: after a loss

    /// A mended plan is taken when its objective is at most so much above the running plan's, scaled by what is lost.
    static let repairTolerance = 0.02
    /// Of the evaluations that improve a plan, the part that a mended one gets where a search follows.
    private static let repairBudget = 8
    /// Up to so many peers a search follows, and the better plan is taken.
    private static let mostSearchedAnew = 128

    /// Mends the running plan; false when there is nothing to mend or only a full search will tell.
    private mutating func repaired() -> Bool {
        guard let current, !current.pipelines.isEmpty else { return false }
        let names = Set(peers.map { cost.topology.hosts[$0].name })
        let flaw = current.flaw(model: cost.model, virtualPipelines: cost.job.virtualPipelines)
        guard flaw != nil || !current.workers.allSatisfy(names.contains) else { return false }
        let known = flaw == nil && current.workers.allSatisfy { cost.topology.index(of: $0) != nil }
        let before = known ? cost.lanes(current) : nil
        var repair = PlanRepair(
            current, cost: cost, peers: peers, pool: candidates, focused: coarse, change: change)
        let limit = repair.scaled(before)
        let pacing = cost.pacing(current)
        let budget = before.map { affordable($0, iterations) } ?? iterations
        let share = peers.count > Campaign.mostSearchedAnew ? 1 : Campaign.repairBudget
        for (lanes, _) in repair.run(evaluations: max(16, budget / share)).prefix(2) {
            if isObeyed(pacing) { outcomes.append(exact(lanes, pacing)) }
            outcomes.append(settle(lanes, usesRounds: pacing.usesRounds))
        }
        sortOutcomes()
        for index in outcomes.indices { outcomes[index].isMended = true }
        guard let best = outcomes.first, best.seconds.isFinite, let limit else { return false }
        wasRepaired = best.score <= limit * (1 + Campaign.repairTolerance)
        isFullyRepaired = best.score <= (before.map(repair.score) ?? limit) * (1 + Campaign.repairTolerance)
        if wasRepaired { distinct() }
        return wasRepaired
    }
    /// Whether the job asks for nothing else.
    private func isObeyed(_ pacing: Pacing) -> Bool {
        let job = cost.job
        return pacing.innerSteps == job.innerSteps.value ?? pacing.innerSteps
            && pacing.codec == job.exchangeCodec.value ?? pacing.codec
            && pacing.activations == job.activationCodec.value ?? pacing.activations
            && pacing.microBatchesPerVirtual == microBatches
    }

    // MARK: the run

    mutating func run() throws(PlanningError) {
        if repairs, repaired() {
            // A search among few peers may find what is far better than the running plan ever was. Among many it is slow, and spares
            // make up for most losses; where they do not, another plan may.
            if peers.count > Campaign.mostSearchedAnew, isFullyRepaired { return }
        }
        let mended = outcomes
        if coarse || peers.count <= Campaign.leastEstimated {
            look()
        } else {
            var rough = self
            rough.coarse = true
            rough.look()
            iterations = max(1, iterations * Campaign.leastEstimated / peers.count)
            // The batch that suits by closed forms is where the other way begins.
            if let first = rough.outcomes.first { microBatches = first.pacing.microBatchesPerVirtual }
            look()
            outcomes += rough.outcomes
            outcomes.removeAll(where: \.isMended)
            outcomes += mended
            sortOutcomes()
            distinct()
        }
        considerCurrent()
        guard !outcomes.isEmpty else { throw reason() }
        sortOutcomes()
    }

    /// Every number of pipelines and kind of round, the promising ones longer, the best improved as whole plans.
    mutating func look() {
        let chain = cost.chain(peers)
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        // First a look at everything, then what looks best again, with the H and the codecs that suit it.
        var looks: [Search] = []
        for usesRounds in modes {
            for count in pipelineCounts() {
                if coarse, let current, current.usesRounds != usesRounds || abs(current.pipelines.count - count) > 1 {
                    continue
                }
                guard let pacing = firstGuess(pipelines: count, usesRounds: usesRounds) else { continue }
                looks.append(Search(pipelines: count, pacing: pacing, hint: hint))
                // Among many peers a larger batch makes other pipelines worth while, and more of them.
                guard coarse, usesRounds, let larger = batches.first(where: { $0 == Campaign.secondLook * batches[0] }),
                    let pacing = batch(larger).firstGuess(pipelines: count, usesRounds: true)
                else { continue }
                looks.append(Search(pipelines: count, pacing: pacing, hint: hint))
            }
        }
        let look = max(24, iterations / 3 / max(1, looks.count))
        outcomes += searched(looks, chain, iterations: look, keep: coarse ? 2 : 6)
        sortOutcomes()
        if coarse {
            // Many numbers of pipelines get a short search, a few of them a long one, each with the batch that suits it.
            rebatch()
            deepen(foremost(6), chain, iterations: iterations * 2 / 9)
            rebatch()
            deepen(foremost(3), chain, iterations: iterations * 5 / 9)
        } else {
            deepen(Array(outcomes.filter { !$0.isMended }.prefix(3)), chain, iterations: iterations * 2 / 9)
        }
        finish()
    }

    /// Searches on from what was found.
    private mutating func deepen(_ starts: [Outcome], _ chain: [Int], iterations: Int) {
        let searches = starts.map {
            Search(pipelines: $0.lanes.count, pacing: $0.pacing, hint: $0.partition)
        }
        outcomes += searched(searches, chain, iterations: iterations, keep: 2)
        sortOutcomes()
    }
    /// The best of each number of pipelines and kind of round that is not far behind.
    func foremost(_ count: Int, within factor: Double = 1.5) -> [Outcome] {
        let least = outcomes.first { !$0.isMended }?.score ?? 0
        var chosen: [Outcome] = []
        for outcome in outcomes where !outcome.isMended && outcome.score <= least * factor {
            let same = chosen.contains {
                $0.lanes.count == outcome.lanes.count && $0.pacing.usesRounds == outcome.pacing.usesRounds
            }
            if !same { chosen.append(outcome) }
        }
        return Array(chosen.prefix(count))
    }

    /// What was judged by closed forms is simulated; the best are improved as whole plans, and H and codecs settled anew.
    private mutating func finish() {
        let campaign = self
        // A mended plan is simulated already, and must not crowd out what a search found by closed forms.
        let mended = outcomes.filter(\.isMended)
        outcomes.removeAll(where: \.isMended)
        let candidates = coarse ? foremost(4) : varied(14)
        let better = parallel.map(candidates.count) {
            campaign.alike(candidates[$0]).polished(candidates[$0], kicks: false)
        }
        .flatMap { $0 }
        if coarse {
            outcomes = better
            sortOutcomes()
            // Once more by closed forms from what simulation liked, which they may take further.
            let starts = foremost(2).map { start in
                var start = start
                let used = Set(start.lanes.flatMap(\.hosts))
                start.partition = start.lanes.map { $0.hosts.sorted() } + [peers.filter { !used.contains($0) }]
                return start
            }
            outcomes = []
            deepen(starts, cost.chain(peers), iterations: iterations)
            let again = foremost(2)
            let second = self
            outcomes =
                better
                + parallel.map(again.count) { second.alike(again[$0]).polished(again[$0], kicks: false) }.flatMap { $0 }
        } else {
            outcomes += better
            sortOutcomes()
            let best = Array(outcomes.prefix(2))
            outcomes += parallel.map(best.count) { campaign.polished(best[$0], kicks: true) }.flatMap { $0 }
            sortOutcomes()
            // A job that runs does not wait for that.
            if current == nil, peers.count > Campaign.leastEstimated { outcomes += annealed() }
        }
        outcomes += mended
        sortOutcomes()
        distinct()
    }

    /// The best two of each number of pipelines and kind of round, and of the rest the best, up to `count`.
    func varied(_ count: Int) -> [Outcome] {
        var chosen: [Int] = []
        var rest: [Int] = []
        for (index, outcome) in outcomes.enumerated() {
            let alike = chosen.filter {
                outcomes[$0].lanes.count == outcome.lanes.count
                    && outcomes[$0].pacing.usesRounds == outcome.pacing.usesRounds
            }
            if alike.count < 2 { chosen.append(index) } else { rest.append(index) }
        }
        // Far from the best nothing small helps.
        chosen = chosen.filter { outcomes[$0].score <= outcomes[0].score * 1.5 }
        return (chosen + rest.prefix(max(0, count - chosen.count))).map { outcomes[$0] }
    }

    /// The outcome, simulated, and what became of it.
    func polished(_ start: Outcome, kicks: Bool) -> [Outcome] {
        var outcome = start
        if coarse {
            var polish = PlanPolish(
                cost: cost, pacing: start.pacing, peers: candidates(start.lanes),
                builder: PipelineBuilder(cost: cost, pacing: start.pacing, coarse: true), focused: true,
                estimates: true, change: change)
            let first = polish.improve(start.lanes, evaluations: iterations)
            outcome = settle(first.lanes, usesRounds: start.pacing.usesRounds)
        }
        var found = [outcome]
        for _ in 0..<(coarse ? 4 : 2) {
            var polish = PlanPolish(
                cost: cost, pacing: outcome.pacing, peers: candidates(outcome.lanes),
                builder: PipelineBuilder(cost: cost, pacing: outcome.pacing), focused: coarse, change: change)
            let (lanes, score) =
                kicks
                ? polish.kicked(outcome.lanes, score: outcome.score, seed: seed, evaluations: iterations * 2)
                : polish.improve(
                    outcome.lanes, evaluations: coarse ? affordable(outcome.lanes, iterations) : iterations / 2)
            guard score < outcome.score * (1 - 1e-12) else { break }
            outcome = settle(lanes, usesRounds: outcome.pacing.usesRounds)
            found.append(outcome)
            if kicks { break }
        }
        return found
    }

    /// Who may take part while whole plans are improved: among many peers those that work, and the fastest of the others.
    func candidates(_ lanes: [Lane]) -> [Int] {
        guard coarse else { return peers }
        let used = Set(lanes.flatMap(\.hosts))
        let others = peers.filter { !used.contains($0) }.sorted {
            (cost.topology.hosts[$1].flops, $0) < (cost.topology.hosts[$0].flops, $1)
        }
        return used.sorted() + others.prefix(24)
    }
    /// How many whole plans may be simulated, a lane changed in each, for about as many events as `iterations` estimates cost.
    func affordable(_ lanes: [Lane], _ iterations: Int) -> Int {
        let largest = lanes.map { $0.hosts.count * $0.share * microBatches }.max() ?? 1
        return max(16, min(iterations, iterations * 420 / (18 * largest)))
    }

    /// One outcome for each number of pipelines and kind of round: the best.
    mutating func distinct() {
        var kept: [Outcome] = []
        for outcome in outcomes {
            let same = kept.contains {
                $0.lanes.count == outcome.lanes.count && $0.pacing.usesRounds == outcome.pacing.usesRounds
            }
            if !same { kept.append(outcome) }
        }
        outcomes = kept
    }

    mutating func considerCurrent() {
        guard let current, current.flaw(model: cost.model, virtualPipelines: cost.job.virtualPipelines) == nil else {
            return
        }
        let names = Set(peers.map { cost.topology.hosts[$0].name })
        guard current.workers.allSatisfy(names.contains) else { return }
        let lanes = cost.lanes(current)
        guard lanes.allSatisfy({ cost.fits($0, rounds: current.usesRounds) }) else { return }
        var outcome = exact(lanes, cost.pacing(current))
        outcome.score = cost.score(outcome.seconds, lanes) * (1 - Campaign.hysteresis)
        outcome.isCurrent = true
        guard outcome.seconds.isFinite else { return }
        outcomes.append(outcome)
    }

    /// Best first: score, then fewer pipelines, so that ties are broken alike everywhere.
    mutating func sortOutcomes() {
        let order = outcomes.indices.sorted {
            (outcomes[$0].score, outcomes[$0].lanes.count, $0) < (outcomes[$1].score, outcomes[$1].lanes.count, $1)
        }
        outcomes = order.map { outcomes[$0] }
        kept = outcomes.first?.isCurrent ?? false
    }

    /// Seconds until every peer has the units that `lanes` give it and that it has not yet.
    var change: @Sendable ([Lane]) -> Double {
        guard current != nil else { return { @Sendable _ in 0 } }
        let (cost, held) = (cost, currentUnits)
        return { @Sendable lanes in
            var seconds = 0.0
            var changes = false
            for lane in lanes {
                for (s, host) in lane.hosts.enumerated() {
                    let units = lane.units(s)
                    let old = held[host] ?? 0..<0
                    if old != units { changes = true }
                    let missing = cost.parameters(units) - cost.parameters(units.clamped(to: old))
                    seconds = max(seconds, 16 * missing / cost.topology.hosts[host].down.bytesPerSecond)
                }
            }
            return changes ? seconds + Campaign.changeSeconds : 0
        }
    }

    func pipelineCounts() -> [Int] {
        let most = min(cost.job.virtualPipelines, peers.count)
        if let fixed = cost.job.pipelines.value { return (1...max(1, most)).contains(fixed) ? [fixed] : [] }
        var counts: [Int] = []
        var count = 1
        while count <= most {
            counts.append(count)
            count += count < 12 ? 1 : count / 3
        }
        return counts
    }
}
