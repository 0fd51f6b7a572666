public import Coordination
import Exchange
import Messages
import Planning
public import Primitives
import Record
public import Telemetry

/// What the job left behind besides what its coordinator and its events know.
public struct RunOutcome: Sendable {
    public var validationLoss: Double
    /// Of a mixture: of each source.
    public var sourceLosses: [Double?]
    public var weights: Digest256
    public var checkpoint: String
    public var sample: String
    public var stretch: Double
    public init(
        validationLoss: Double, sourceLosses: [Double?] = [], weights: Digest256, checkpoint: String, sample: String,
        stretch: Double
    ) {
        self.validationLoss = validationLoss
        self.sourceLosses = sourceLosses
        self.weights = weights
        self.checkpoint = checkpoint
        self.sample = sample
        self.stretch = stretch
    }
}

extension RunReport {
    /// Plans, losses and books as the log has them; times and what happened as the events told them.
    /// - Parameters:
    ///   - view: with every round (``JobView/Limits/report``).
    ///   - origin: when the launch began.
    public init(_ coordinator: Coordinator, _ view: JobView, _ outcome: RunOutcome, origin: Instant) {
        let state = coordinator.state
        let parameters = state.parameters
        // Nil where another leader of the job has made its plans.
        let first = coordinator.predictionAtStart
        let plans = Self.plans(coordinator, first: first)
        let began = view.trainingSince ?? origin
        let totals = coordinator.record.ledger.totals
        let audited = try? auditMicroBatches(
            log: coordinator.record.envelopes, receipts: coordinator.books.receiptEnvelopes, parameters: parameters)
        self.init(
            job: coordinator.job.hex, name: parameters.name, seed: parameters.seed,
            parameters: parameters.model.parameters,
            plan: plans.last { $0.epoch == state.plan?.epoch } ?? plans[0], plans: plans,
            stepSeconds: Self.stepSeconds(view, first),
            criticalBatchTokens: coordinator.books.noise.criticalBatch?.tokens,
            initialValidationLoss: state.seals.first?.validationLoss, rounds: Self.rounds(state, view, outcome),
            final: Final(
                validationLoss: outcome.validationLoss,
                bitsPerByte: coordinator.parameters.dataTokens == nil ? outcome.validationLoss / ln2 : nil,
                tokens: state.sealedTokens, seconds: ((view.rounds.last?.at ?? began) - began).inSeconds,
                tokensSeen: Self.tokensSeen(state, view),
                sourceLosses: outcome.sourceLosses.isEmpty ? nil : outcome.sourceLosses),
            validationFraction: parameters.validationFraction, bytes: Self.bytes(coordinator),
            events: view.story.items.map { Told($0.event, since: origin) },
            eventsLeftOut: view.story.leftOut > 0 ? view.story.leftOut : nil,
            microBatches: MicroBatches(
                granted: totals.granted, counted: totals.counted, late: totals.late, lost: totals.lost,
                superseded: totals.superseded, auditAgrees: audited == totals && totals.isBalanced),
            speedupVsBestSinglePeer: first?.planned.prediction.speedupVersusBestSinglePeer,
            weightsSha256: outcome.weights.hex, checkpoint: outcome.checkpoint, stretch: outcome.stretch,
            sample: outcome.sample)
    }

    /// Every plan of the log, with what was predicted of it when it was made.
    private static func plans(_ coordinator: Coordinator, first: PlanAnswer?) -> [PlanPart] {
        let state = coordinator.state
        return state.plans.map { plan in
            let p = coordinator.prediction(ofPlan: plan.epoch) ?? first?.planned.prediction
            return PlanPart(
                epoch: plan.epoch,
                pipelines: plan.pipelines.map { pipeline in
                    Pipeline(
                        stages: pipeline.stages.map {
                            Stage(
                                peer: coordinator.roster.name(of: $0.peer),
                                units: [$0.units.lowerBound, $0.units.upperBound], recompute: $0.recompute)
                        }, virtualPipelines: pipeline.virtualPipelines, inFlight: pipeline.inFlight)
                }, spares: plan.spares.map { coordinator.roster.name(of: $0) }, innerSteps: plan.innerSteps,
                batchTokens: state.batchTokens(plan), codec: plan.exchangeCodec.description,
                activations: plan.activationCodec.description,
                predicted: p.map { p in
                    Predicted(
                        stepSeconds: p.roundSeconds / Double(plan.innerSteps), roundSeconds: p.roundSeconds,
                        tokensPerSecond: p.tokensPerSecond, totalSeconds: p.totalSeconds,
                        exposedExchangeSeconds: p.exposedExchangeSeconds, lossPenalty: p.lossPenalty)
                })
        }
    }

    private static func stepSeconds(_ view: JobView, _ first: PlanAnswer?) -> StepSeconds {
        var seconds = StepSeconds(
            predicted: first.map { $0.roundSeconds / Double($0.plan.innerSteps) }, measuredMedian: stepSeconds(view))
        // What a screen said last is said here, too; with somebody else in a place it is the same plan.
        if let plan = view.plan, plan.epoch > 1, plan.stepSeconds != seconds.predicted,
            view.rounds.items.contains(where: { $0.planEpoch == plan.epoch })
        {
            (seconds.lastEpoch, seconds.lastPredicted) = (plan.epoch, plan.stepSeconds)
            seconds.lastMeasuredMedian = view.stepSeconds
        }
        return seconds
    }
    /// What the first plan's prediction is about: undisturbed rounds of that plan, without the first one.
    private static func stepSeconds(_ view: JobView) -> Double? {
        let planned = view.rounds.items.filter { $0.planEpoch == 1 }
        let undisturbed = planned.dropFirst().filter(\.isUndisturbed)
        let usable = !undisturbed.isEmpty ? undisturbed : planned.isEmpty ? view.rounds.items : planned
        let perStep = usable.map { $0.seconds / Double(max(1, $0.steps)) }.sorted()
        return perStep.isEmpty ? nil : perStep[perStep.count / 2]
    }

    /// An earlier process of the launcher, or another leader, may have seen the first rounds: what was sealed from the first that was seen here to the
    /// last, whoever led in between. Nil where that is all.
    private static func tokensSeen(_ state: JobState, _ view: JobView) -> Int? {
        let seen = Set(view.rounds.items.map(\.round))
        guard state.seals.contains(where: { !seen.contains($0.round) }) else { return nil }
        // A seal has the tokens of all rounds up to its own.
        guard let first = state.seals.firstIndex(where: { seen.contains($0.round) }),
            let last = state.seals.lastIndex(where: { seen.contains($0.round) })
        else { return 0 }
        return state.seals[last].tokens - (first > 0 ? state.seals[first - 1].tokens : 0)
    }

    /// A round's validation loss is that of the weights it ended with: the next one's, or the final one.
    private static func rounds(_ state: JobState, _ view: JobView, _ outcome: RunOutcome) -> [Round] {
        var seconds: [Int: Double] = [:]
        for round in view.rounds.items { seconds[round.round] = round.seconds }
        return state.seals.enumerated().map { index, seal in
            Round(
                round: seal.round, tokens: seal.tokens, trainLoss: seal.trainLoss,
                validationLoss: index + 1 < state.seals.count
                    ? state.seals[index + 1].validationLoss : outcome.validationLoss,
                seconds: seconds[seal.round])
        }
    }

    private static func bytes(_ coordinator: Coordinator) -> Bytes {
        let state = coordinator.state
        var sent: [String: Int] = [:]
        for peer in coordinator.roster.all where state.member(peer.peer) != nil {
            sent[peer.name] = peer.sentBytes
        }
        let exchanged = coordinator.books.receipts.reduce(0) { $0 + $1.receipt.exchangeBytes }
        var everyStep = 0
        for seal in state.seals {
            guard seal.planEpoch >= 1, seal.planEpoch <= state.plans.count else { continue }
            let pipelines = state.plans[seal.planEpoch - 1].pipelines.count
            everyStep += 2 * (pipelines - 1) * 4 * state.parameters.model.parameters * seal.steps
        }
        return Bytes(sentByPeer: sent, exchangeSent: exchanged, fp32EveryStep: everyStep)
    }
}

extension RunReport.Told {
    init(_ event: Event, since origin: Instant) {
        self.init(
            atS: (event.at - origin).inSeconds, kind: event.kind, peer: event.peer,
            detail: Dictionary(
                event.fields.map { ($0.name, $0.value.description) }, uniquingKeysWith: { first, _ in first }))
    }
}
