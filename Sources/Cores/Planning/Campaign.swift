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
    }
    let cost: CostModel
    let peers: [Int]
    let current: Plan?
    let seed: UInt64
    let iterations: Int
    let parallel: Parallel
    var outcomes: [Outcome] = []
    var kept = false
    private var currentUnits: [Int: Range<Int>] = [:]
    private var hint: PlanSearch.Partition?
    /// Neighbours next to each other.
    private let chain: [Int]

    /// A plan that runs is left only for one that is at least this much better, moving included.
    static let hysteresis = 0.03
    /// Seconds that any change of plan costs beside moving weights.
    static let changeSeconds = 2.0
    /// Among more peers than these the search judges by closed forms, and only what it ends with is simulated.
    static let mostSimulated = 40
    private var coarse: Bool { peers.count > Campaign.mostSimulated }

    init(cost: CostModel, peers: [Int], current: Plan?, seed: UInt64, iterations: Int, parallel: Parallel) {
        self.cost = cost
        self.peers = peers
        self.current = current
        self.seed = seed
        self.iterations = iterations
        self.parallel = parallel
        chain = cost.chain(peers)
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

    // MARK: the run

    mutating func run() throws(PlanningError) {
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        // First a look at everything, then what looks best again, with the H and the codecs that suit it.
        var looks: [Pacing] = []
        var counts: [Int] = []
        for usesRounds in modes {
            for count in pipelineCounts() {
                if coarse, let current, current.usesRounds != usesRounds || abs(current.pipelines.count - count) > 1 {
                    continue
                }
                guard let pacing = firstGuess(pipelines: count, usesRounds: usesRounds) else { continue }
                looks.append(pacing)
                counts.append(count)
            }
        }
        let look = max(24, iterations / 3 / max(1, looks.count))
        let (campaign, hint, first, widths) = (self, hint, looks, counts)
        outcomes = parallel.map(looks.count) {
            campaign.search(widths[$0], first[$0], iterations: look, hint: hint, keep: campaign.coarse ? 2 : 6)
        }.flatMap { $0 }
        sortOutcomes()
        let best = Array(outcomes.prefix(3))
        let again = parallel.map(best.count) { index in
            campaign.search(
                best[index].lanes.count, best[index].pacing,
                iterations: campaign.coarse && campaign.current == nil
                    ? campaign.iterations : campaign.iterations * 2 / 9,
                hint: best[index].partition, keep: 2)
        }
        outcomes += again.flatMap { $0 }
        sortOutcomes()
        finish()
        considerCurrent()
        guard !outcomes.isEmpty else { throw reason() }
        sortOutcomes()
    }

    /// What was judged by closed forms is simulated; the best are improved as whole plans, and H and codecs settled anew.
    private mutating func finish() {
        let campaign = self
        let candidates = coarse ? Array(outcomes.prefix(4)) : varied(14)
        let better = parallel.map(candidates.count) { campaign.polished(candidates[$0], kicks: false) }
        outcomes = better.flatMap { $0 } + (coarse ? [] : outcomes)
        sortOutcomes()
        let best = Array(outcomes.prefix(2))
        if !coarse { outcomes += parallel.map(best.count) { campaign.polished(best[$0], kicks: true) }.flatMap { $0 } }
        sortOutcomes()
        distinct()
    }

    /// What ``AnnealingBaseline`` finds in this campaign's place, H and codecs settled as here.
    func annealed(_ settings: AnnealingBaseline, evaluations: Int) -> Double {
        let counts = pipelineCounts()
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        var best = Double.infinity
        var random = SeededGenerator(seed: seed, stream: 0xA12)
        for usesRounds in modes {
            for count in counts {
                guard let pacing = firstGuess(pipelines: count, usesRounds: usesRounds) else { continue }
                var search = PlanSearch(
                    builder: PipelineBuilder(cost: cost, pacing: pacing), pacing: pacing, pipelines: count, seed: seed,
                    change: change)
                let found = search.annealed(
                    peers: peers, settings, evaluations: evaluations / counts.count / modes.count, random: &random)
                if let found { best = min(best, settle(found.lanes, usesRounds: usesRounds).seconds) }
            }
        }
        return best
    }

    /// The best two of each number of pipelines and kind of round, and of the rest the best, up to `count`.
    private func varied(_ count: Int) -> [Outcome] {
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
    private func polished(_ start: Outcome, kicks: Bool) -> [Outcome] {
        var outcome = coarse ? settle(start.lanes, usesRounds: start.pacing.usesRounds) : start
        var found = [outcome]
        for _ in 0..<2 {
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
    private func candidates(_ lanes: [Lane]) -> [Int] {
        guard coarse else { return peers }
        let used = Set(lanes.flatMap(\.hosts))
        let others = peers.filter { !used.contains($0) }.sorted {
            (cost.topology.hosts[$1].flops, $0) < (cost.topology.hosts[$0].flops, $1)
        }
        return used.sorted() + others.prefix(24)
    }
    /// How many whole plans may be simulated, a lane changed in each, for about as many events as `iterations` estimates cost.
    private func affordable(_ lanes: [Lane], _ iterations: Int) -> Int {
        let largest = lanes.map { $0.hosts.count * $0.share * microBatches }.max() ?? 1
        return max(16, min(iterations, iterations * 500 / (18 * largest)))
    }

    /// One outcome for each number of pipelines and kind of round: the best.
    private mutating func distinct() {
        var kept: [Outcome] = []
        for outcome in outcomes {
            let same = kept.contains {
                $0.lanes.count == outcome.lanes.count && $0.pacing.usesRounds == outcome.pacing.usesRounds
            }
            if !same { kept.append(outcome) }
        }
        outcomes = kept
    }

    private func search(
        _ pipelines: Int, _ pacing: Pacing, iterations: Int, hint: PlanSearch.Partition?, keep: Int
    ) -> [Outcome] {
        var search = PlanSearch(
            builder: PipelineBuilder(cost: cost, pacing: pacing, coarse: coarse), pacing: pacing,
            pipelines: pipelines, seed: seed, change: change)
        return search.run(chain: chain, iterations: iterations, hint: hint, keep: keep).map { found in
            var outcome =
                coarse
                ? Outcome(
                    lanes: found.lanes, pacing: pacing, seconds: found.seconds, score: found.score,
                    penalty: cost.penalty(pipelines: pipelines, pacing))
                : settle(found.lanes, usesRounds: pacing.usesRounds)
            outcome.partition = found.partition
            return outcome
        }
    }

    private mutating func considerCurrent() {
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
    private mutating func sortOutcomes() {
        let order = outcomes.indices.sorted {
            (outcomes[$0].score, outcomes[$0].lanes.count, $0) < (outcomes[$1].score, outcomes[$1].lanes.count, $1)
        }
        outcomes = order.map { outcomes[$0] }
        kept = outcomes.first?.isCurrent ?? false
    }

    /// Seconds until every peer has the units that `lanes` give it and that it has not yet.
    private var change: @Sendable ([Lane]) -> Double {
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

    private func pipelineCounts() -> [Int] {
        if let fixed = cost.job.pipelines.value { return fixed <= peers.count ? [fixed] : [] }
        let most = min(cost.job.virtualPipelines, peers.count)
        var counts: [Int] = []
        var count = 1
        while count <= most {
            counts.append(count)
            count += count < 12 ? 1 : count / 3
        }
        return counts
    }

    // MARK: H and the codecs

    private static let innerSteps = [
        2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500,
    ]
    private var microBatches: Int { cost.job.fixedMicroBatchesPerVirtual ?? 1 }

    private func exchangeCodecs(_ pipelines: Int) -> [Codec] {
        if let fixed = cost.job.exchangeCodec.value { return [fixed] }
        return pipelines == 1 ? [.fp32] : CostModel.codecs
    }
    private func activationCodecs(_ lanes: [Lane]?) -> [Codec] {
        if let fixed = cost.job.activationCodec.value { return [fixed] }
        if let lanes, lanes.allSatisfy({ $0.hosts.count == 1 }) { return [.fp32] }
        return [.fp32, .bf16, .int8]
    }
    private func stepsBetweenExchanges(_ usesRounds: Bool) -> [Int] {
        if let fixed = cost.job.innerSteps.value { return [fixed] }
        if !usesRounds { return [1] }
        let steps = cost.job.steps(microBatchesPerVirtual: microBatches)
        // At least twenty rounds: a loss costs at most a twentieth of the job, newcomers get in, and nobody has measured what
        // fewer exchanges do to the loss.
        return Campaign.innerSteps.filter { $0 <= max(2, steps / 20) }
    }
    /// Whether a pacing may be chosen: within the budget, or as good as it gets where the job leaves no choice.
    private func allowed(_ pacing: Pacing, pipelines: Int) -> Bool {
        let steps = cost.job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual)
        if cost.job.exchangeCodec == .auto,
            !LossPenalty.mayBeChosen(pacing.codec, innerSteps: pacing.innerSteps, steps: steps)
        {
            return false
        }
        let penalty = cost.penalty(pipelines: pipelines, pacing)
        if penalty <= cost.job.qualityBudget { return true }
        guard cost.job.innerSteps.value != nil else { return false }
        var least = pacing
        if cost.job.exchangeCodec == .auto { least.codec = .fp32 }
        if cost.job.activationCodec == .auto { least.activations = .fp32 }
        return penalty <= cost.penalty(pipelines: pipelines, least) + 0.01
            && cost.penalty(pipelines: pipelines, least) > cost.job.qualityBudget
    }

    /// What a search assumes before the lanes are known: the longest round within the budget, 8-bit codecs.
    private func firstGuess(pipelines: Int, usesRounds: Bool) -> Pacing? {
        for steps in stepsBetweenExchanges(usesRounds).reversed() {
            for codec in pipelines == 1 ? [.fp32] : [Codec.int8, .int4, .fp32] {
                for activations in [Codec.int8, .bf16, .fp32] {
                    let pacing = Pacing(
                        innerSteps: steps, microBatchesPerVirtual: microBatches,
                        codec: cost.job.exchangeCodec.value ?? codec,
                        activations: cost.job.activationCodec.value ?? activations)
                    if allowed(pacing, pipelines: pipelines) { return pacing }
                }
            }
        }
        // Codecs that are given and too coarse for any round: obeyed where the job asks for them.
        guard cost.job.exchangeCodec.value != nil || cost.job.activationCodec.value != nil else { return nil }
        return Pacing(
            innerSteps: stepsBetweenExchanges(usesRounds)[0], microBatchesPerVirtual: microBatches,
            codec: cost.job.exchangeCodec.value ?? .int8, activations: cost.job.activationCodec.value ?? .int8)
    }

    private func exact(_ lanes: [Lane], _ pacing: Pacing) -> Outcome {
        let seconds = cost.totalSeconds(cost.round(lanes, pacing), lanes, pacing)
        return Outcome(
            lanes: lanes, pacing: pacing, seconds: seconds, score: cost.score(seconds, lanes) + change(lanes),
            penalty: cost.penalty(pipelines: lanes.count, pacing))
    }

    /// The best H and codecs for lanes that are settled. A coarser choice must save at least 0.2 %.
    private func settle(_ lanes: [Lane], usesRounds: Bool) -> Outcome {
        var choices: [(pacing: Pacing, penalty: Double, seconds: Double)] = []
        for activations in activationCodecs(lanes) {
            // What a lane does does not depend on how its contribution is coded.
            var runs: [Int: [LaneRunKey: LaneRun]] = [:]
            for codec in exchangeCodecs(lanes.count) {
                var probe: (round: Round, steps: Int)?
                for steps in stepsBetweenExchanges(usesRounds) {
                    let pacing = Pacing(
                        innerSteps: steps, microBatchesPerVirtual: microBatches, codec: codec, activations: activations)
                    guard allowed(pacing, pipelines: lanes.count) else { continue }
                    if probe == nil || steps <= CostModel.simulatedSteps {
                        probe = (cost.round(lanes, pacing, &runs[steps, default: [:]]), steps)
                    }
                    guard let probe else { continue }
                    // From the second step on all steps take equally long.
                    var round = probe.round
                    round.seconds += Double(steps - probe.steps) * round.stepSeconds[round.slowest]
                    choices.append(
                        (pacing, cost.penalty(pipelines: lanes.count, pacing), cost.totalSeconds(round, lanes, pacing)))
                }
            }
        }
        let order = choices.indices.sorted { (choices[$0].penalty, $0) < (choices[$1].penalty, $1) }
        var best: Int?
        for index in order where choices[index].seconds < (best.map { choices[$0].seconds * 0.998 } ?? .infinity) {
            best = index
        }
        guard let best else {
            return exact(
                lanes,
                firstGuess(pipelines: lanes.count, usesRounds: usesRounds)
                    ?? Pacing(innerSteps: 1, microBatchesPerVirtual: microBatches, codec: .fp32, activations: .fp32))
        }
        return exact(lanes, choices[best].pacing)
    }

    // MARK: why not

    private func reason() -> PlanningError {
        let largest = peers.max { cost.topology.hosts[$0].memory < cost.topology.hosts[$1].memory } ?? peers[0]
        let offered = cost.topology.hosts[largest].memory
        let rounds = cost.job.innerSteps.value != 1 && cost.job.innerSteps != .auto
        if let fixed = cost.job.pipelines.value, fixed > peers.count {
            return .impossible(
                "\(fixed) pipelines are asked for, but only \(peers.count) peers are there. Ask for fewer.")
        }
        for unit in cost.model.allUnits {
            let need = cost.memory(unit..<unit + 1, rounds: rounds, kept: 1)
            if need > offered.bytes {
                return .unitTooLarge(
                    unit: unit, needs: ByteCount(need).description, peer: cost.topology.hosts[largest].name,
                    offers: offered.description)
            }
        }
        if cost.model.tieWordEmbeddings {
            return .impossible(
                "with tied embeddings one peer must hold the whole model, which needs "
                    + "\(ByteCount(cost.memory(cost.model.allUnits, rounds: rounds, kept: 1))); the largest peer, "
                    + "\(cost.topology.hosts[largest].name), offers \(offered). Set tie_word_embeddings: false, or add memory."
            )
        }
        if cost.job.pipelines.value != nil || cost.job.stages.value != nil {
            return .impossible(
                "no \(cost.job.pipelines.value.map(String.init) ?? "number of") pipelines of "
                    + "\(cost.job.stages.value.map(String.init) ?? "any number of") stages fit these peers' memory. "
                    + "Set parallel.pipelines and parallel.stages to auto.")
        }
        let all = peers.reduce(ByteCount(0)) { $0 + cost.topology.hosts[$1].memory }
        return .modelTooLarge(
            needs: ByteCount(cost.memory(cost.model.allUnits, rounds: rounds, kept: 1)).description,
            offered: all.description, peers: peers.count)
    }
}
