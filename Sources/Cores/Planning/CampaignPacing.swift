internal import Primitives
internal import Topologies

/// H and the codecs: what may be chosen, what a search assumes, and what is best for lanes that are settled.
extension Campaign {
    private static let innerSteps = [
        2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300, 500,
    ]
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
    /// Steps that may hide the exchange of a round of `steps`.
    private func delays(_ steps: Int, _ pipelines: Int) -> [Int] {
        if let fixed = cost.job.exchangeDelay.value { return fixed < steps || fixed == 0 ? [fixed] : [] }
        return pipelines == 1 ? [0] : [0, 1, 2].filter { $0 == 0 || $0 < steps }
    }
    /// Whether a pacing may be chosen: within the budget; where the job gives H, also codecs that take the loss a hundredth beyond what H, so
    /// many pipelines and the delay do by themselves. The more budget, the more is allowed.
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
        return penalty <= cost.penalty(pipelines: pipelines, least) + Campaign.besidesGivenSteps
    }
    /// What codecs may add to the loss where H is given, relatively, whatever the budget.
    private static let besidesGivenSteps = 0.01

    /// Every H, codec and delay that a plan of so many pipelines may have with this batch, of either kind of round.
    func choices(pipelines: Int) -> [Pacing] {
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        return modes.flatMap { usesRounds in
            var found: [Pacing] = []
            for steps in stepsBetweenExchanges(usesRounds) {
                for codec in exchangeCodecs(pipelines) {
                    for activations in activationCodecs(nil) {
                        for delay in delays(steps, pipelines) {
                            let pacing = Pacing(
                                innerSteps: steps, microBatchesPerVirtual: microBatches, codec: codec,
                                activations: activations, delay: delay)
                            if allowed(pacing, pipelines: pipelines) { found.append(pacing) }
                        }
                    }
                }
            }
            return found.isEmpty ? [firstGuess(pipelines: pipelines, usesRounds: usesRounds)].compactMap { $0 } : found
        }
    }

    /// What a search assumes before the lanes are known: the longest round within the budget, 8-bit codecs.
    func firstGuess(pipelines: Int, usesRounds: Bool) -> Pacing? {
        for steps in stepsBetweenExchanges(usesRounds).reversed() {
            for codec in pipelines == 1 ? [.fp32] : [Codec.int8, .int4, .fp32] {
                for activations in [Codec.int8, .bf16, .fp32] {
                    let pacing = Pacing(
                        innerSteps: steps, microBatchesPerVirtual: microBatches,
                        codec: cost.job.exchangeCodec.value ?? codec,
                        activations: cost.job.activationCodec.value ?? activations,
                        delay: delays(steps, pipelines).first ?? 0)
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

    /// By closed forms, the H and codecs that suit lanes (of codecs for activations only another pacing's, where it is given); nil where
    /// none is allowed. Of each codec only the longest rounds are tried.
    func estimated(_ lanes: [Lane], _ usesRounds: Bool, like other: Pacing? = nil) -> Pacing? {
        if lanes.isEmpty { return nil }
        let steps = stepsBetweenExchanges(usesRounds)
        var best: (pacing: Pacing, seconds: Double)?
        for activations in other.map({ [$0.activations] }) ?? activationCodecs(lanes) {
            for codec in exchangeCodecs(lanes.count) {
                var tried = 0
                for innerSteps in steps.reversed() where tried < (other == nil ? 8 : 2) {
                    var isAllowed = false
                    for delay in delays(innerSteps, lanes.count) {
                        let pacing = Pacing(
                            innerSteps: innerSteps, microBatchesPerVirtual: microBatches, codec: codec,
                            activations: activations, delay: delay)
                        guard allowed(pacing, pipelines: lanes.count) else { continue }
                        isAllowed = true
                        let seconds = cost.totalSeconds(cost.estimatedRound(lanes, pacing), lanes, pacing)
                        if seconds < (best?.seconds ?? .infinity) * 0.998 { best = (pacing, seconds) }
                    }
                    if isAllowed { tried += 1 }
                }
            }
        }
        return best?.pacing
    }

    func exact(_ lanes: [Lane], _ pacing: Pacing) -> Outcome {
        let seconds = cost.totalSeconds(cost.round(lanes, pacing), lanes, pacing)
        return Outcome(
            lanes: lanes, pacing: pacing, seconds: seconds, score: cost.score(seconds, lanes) + change(lanes),
            penalty: cost.penalty(pipelines: lanes.count, pacing))
    }

    /// The best H and codecs for lanes that are settled. A coarser choice must save at least 0.2 %.
    func settle(_ lanes: [Lane], usesRounds: Bool) -> Outcome {
        var choices: [(pacing: Pacing, penalty: Double, seconds: Double)] = []
        for activations in activationCodecs(lanes) {
            // What a lane does does not depend on how its contribution is coded.
            var runs: [Int: [LaneRunKey: LaneRun]] = [:]
            for codec in exchangeCodecs(lanes.count) {
                // From the second step on all steps take equally long: one simulation for each delay will do.
                var probes: [Int: (round: Round, steps: Int)] = [:]
                for steps in stepsBetweenExchanges(usesRounds) {
                    for delay in delays(steps, lanes.count) {
                        // Where nothing is left to hide, more delay hides nothing.
                        if delay > 0, let less = probes[delay - 1], less.round.exposedShare < 0.004 { break }
                        let pacing = Pacing(
                            innerSteps: steps, microBatchesPerVirtual: microBatches, codec: codec,
                            activations: activations, delay: delay)
                        guard allowed(pacing, pipelines: lanes.count) else { continue }
                        if probes[delay] == nil || steps <= CostModel.simulatedSteps {
                            probes[delay] = (cost.round(lanes, pacing, &runs[steps, default: [:]]), steps)
                        }
                        guard let probe = probes[delay] else { continue }
                        var round = probe.round
                        round.seconds += Double(steps - probe.steps) * round.stepSeconds[round.slowest]
                        choices.append(
                            (
                                pacing, cost.penalty(pipelines: lanes.count, pacing),
                                cost.totalSeconds(round, lanes, pacing)
                            ))
                    }
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
}
