import Digests
import Exchange
import Foundation
import Planning
public import Primitives
public import Swarm
public import Telemetry
import Training
import Wire

/// `report.json`: what a run did, what was predicted before its first step, and whether its books balance. See docs/REPORT.md.
public struct RunReport: Codable, Sendable {
    public struct Stage: Codable, Sendable {
        public var peer: String
        public var units: [Int]
        public var recompute = false
    }
    public struct Pipeline: Codable, Sendable {
        public var stages: [Stage]
        public var virtualPipelines: [Int]
        public var inFlight: Int
    }
    public struct PlanPart: Codable, Sendable {
        public var epoch: Int
        public var pipelines: [Pipeline]
        public var spares: [String]
        public var innerSteps: Int
        public var batchTokens: Int
        public var codec: String
        public var activations: String
        public var predicted: Predicted?
    }
    public struct Predicted: Codable, Sendable {
        public var stepSeconds: Double
        public var roundSeconds: Double
        public var tokensPerSecond: Double
        public var totalSeconds: Double
        public var exposedExchangeSeconds: Double
        public var lossPenalty: Double
    }
    public struct StepSeconds: Codable, Sendable {
        public var predicted: Double?
        public var measuredMedian: Double?
    }
    public struct Round: Codable, Sendable {
        public var round: Int
        public var tokens: Int
        public var trainLoss: Double
        public var validationLoss: Double?
        public var seconds: Double?
    }
    public struct Final: Codable, Sendable {
        public var validationLoss: Double
        public var bitsPerByte: Double
        public var tokens: Int
        public var seconds: Double
    }
    public struct Bytes: Codable, Sendable {
        public var sentByPeer: [String: Int]
        public var exchangeSent: Int
        public var fp32EveryStep: Int
    }
    public struct Happening: Codable, Sendable {
        public var atS: Double
        public var kind: String
        public var peer: String
        public var detail: [String: String]
    }
    public struct MicroBatches: Codable, Sendable {
        public var granted: Int
        public var counted: Int
        public var late: Int
        public var lost: Int
        public var superseded: Int
        /// The independent audit of log and receipts came to the same numbers.
        public var auditAgrees: Bool
    }

    public var format = 1
    public var job: String
    public var name: String
    public var seed: UInt64
    public var parameters: Int
    /// The plan at the end; `plans` has all.
    public var plan: PlanPart
    public var plans: [PlanPart]
    public var stepSeconds: StepSeconds
    /// From the norms of the exchanges (``GradientNoise``).
    public var criticalBatchTokens: Double?
    public var initialValidationLoss: Double?
    public var rounds: [Round]
    public var final: Final
    public var validationFraction: Double
    public var validationNote = "rounds use 64 fixed windows, the final figure all complete windows"
    public var bytes: Bytes
    public var events: [Happening]
    public var microBatches: MicroBatches
    public var speedupVsBestSinglePeer: Double
    public var weightsSha256: String
    public var checkpoint: String
    public var stretch: Double
    public var sample: String

    public var jsonText: String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else { return "{}" }
        return String(decoding: data, as: UTF8.self) + "\n"
    }
}

/// What the job left behind besides what its coordinator knows.
public struct RunOutcome: Sendable {
    public var validationLoss: Double
    public var weights: Digest256
    public var checkpoint: String
    public var sample: String
    public var stretch: Double
    public var events: [Event]
    public init(
        validationLoss: Double, weights: Digest256, checkpoint: String, sample: String, stretch: Double, events: [Event]
    ) {
        self.validationLoss = validationLoss
        self.weights = weights
        self.checkpoint = checkpoint
        self.sample = sample
        self.stretch = stretch
        self.events = events
    }
}

extension RunReport {
    /// Folds a coordinator's state into a report.
    public init(_ coordinator: Coordinator, _ outcome: RunOutcome, origin: Instant) {
        let state = coordinator.state
        let parameters = state.parameters
        let first = coordinator.predictionAtStart!
        let names = { (peer: PeerID) in coordinator.candidates[peer]?.name ?? peer.short }
        func part(_ plan: PlacedPlan, _ answer: PlanAnswer) -> PlanPart {
            let p = answer.planned.prediction
            return PlanPart(
                epoch: plan.epoch,
                pipelines: plan.pipelines.map { pipeline in
                    Pipeline(
                        stages: pipeline.stages.map {
                            Stage(
                                peer: names($0.peer), units: [$0.units.lowerBound, $0.units.upperBound],
                                recompute: $0.recompute)
                        }, virtualPipelines: pipeline.virtualPipelines, inFlight: pipeline.inFlight)
                }, spares: plan.spares.map(names), innerSteps: plan.innerSteps, batchTokens: state.batchTokens(plan),
                codec: plan.exchangeCodec.description, activations: plan.activationCodec.description,
                predicted: Predicted(
                    stepSeconds: p.roundSeconds / Double(plan.innerSteps), roundSeconds: p.roundSeconds,
                    tokensPerSecond: p.tokensPerSecond, totalSeconds: p.totalSeconds,
                    exposedExchangeSeconds: p.exposedExchangeSeconds, lossPenalty: p.lossPenalty))
        }
        let latest = coordinator.answer ?? first
        plans = state.plans.map { part($0, $0.epoch == 1 ? first : latest) }
        plan = plans.first!
        if let current = state.plan { plan = part(current, current.epoch == 1 ? first : latest) }
        job = coordinator.jobID.hex
        name = parameters.name
        seed = parameters.seed
        self.parameters = parameters.model.parameters
        validationFraction = parameters.validationFraction

        // What the first plan's prediction is about: rounds of that plan.
        let planned = coordinator.roundTimes.filter { $0.planEpoch == 1 }
        let undisturbed = planned.dropFirst().filter(\.undisturbed)
        let usable = !undisturbed.isEmpty ? undisturbed : planned.isEmpty ? coordinator.roundTimes : planned
        let perStep = usable.map { $0.seconds / Double(max(1, $0.steps)) }.sorted()
        stepSeconds = StepSeconds(
            predicted: first.planned.prediction.roundSeconds / Double(first.plan.innerSteps),
            measuredMedian: perStep.isEmpty ? nil : perStep[perStep.count / 2])

        criticalBatchTokens = coordinator.noise.criticalBatch?.tokens
        initialValidationLoss = state.seals.first?.validationLoss
        var rounds: [Round] = []
        for (index, seal) in state.seals.enumerated() {
            let next = index + 1 < state.seals.count ? state.seals[index + 1].validationLoss : outcome.validationLoss
            rounds.append(
                Round(
                    round: seal.round, tokens: seal.tokens, trainLoss: seal.trainLoss, validationLoss: next,
                    seconds: coordinator.roundTimes.last { $0.round == seal.round }?.seconds))
        }
        self.rounds = rounds
        let began = coordinator.trainingStarted ?? origin
        let ended = coordinator.roundTimes.last?.at ?? began
        final = Final(
            validationLoss: outcome.validationLoss, bitsPerByte: outcome.validationLoss / 0.693_147_180_559_945_3,
            tokens: state.sealedTokens, seconds: (ended - began).inSeconds)

        var sent: [String: Int] = [:]
        for candidate in coordinator.candidates.values where state.member(candidate.peer) != nil {
            sent[candidate.name] = Int(clamping: candidate.heartbeat.sentBytes)
        }
        let exchanged = coordinator.receipts.reduce(0) { $0 + Int(clamping: $1.work.exchangeBytes) }
        var everyStep = 0
        for seal in state.seals {
            guard seal.planEpoch >= 1, seal.planEpoch <= state.plans.count else { continue }
            let pipelines = state.plans[seal.planEpoch - 1].pipelines.count
            everyStep += 2 * (pipelines - 1) * 4 * parameters.model.parameters * seal.steps
        }
        bytes = Bytes(sentByPeer: sent, exchangeSent: exchanged, fp32EveryStep: everyStep)
        let told: Set<String> = [
            "peer_found", "peer_joined", "peer_declined", "planned", "peer_lost", "training_resumed", "replaced",
            "replanned", "rolled_back", "others_go_on", "waiting_for", "weights_differ", "checkpoint_saved",
            "collecting_weights", "plan_refused", "speed_changed", "exchange_chosen", "exchange_regrouped",
            "contribution_refused", "owner_refuted",
        ]
        events = outcome.events.filter { told.contains($0.kind) }.map { event in
            Happening(
                atS: (event.at - origin).inSeconds, kind: event.kind, peer: event.peer,
                detail: Dictionary(
                    event.fields.map { ($0.name, $0.value.description) }, uniquingKeysWith: { first, _ in first }))
        }
        let totals = coordinator.ledger.totals
        let audited = try? auditMicroBatches(
            log: coordinator.log.envelopes, receipts: coordinator.receiptEnvelopes, parameters: parameters)
        microBatches = MicroBatches(
            granted: totals.granted, counted: totals.counted, late: totals.late, lost: totals.lost,
            superseded: totals.superseded, auditAgrees: audited == totals && totals.isBalanced)
        speedupVsBestSinglePeer = first.planned.prediction.speedupVersusBestSinglePeer
        weightsSha256 = outcome.weights.hex
        checkpoint = outcome.checkpoint
        stretch = outcome.stretch
        sample = outcome.sample
    }
}

func sha256Hex(_ text: String) -> String { sha256(Array(text.utf8)).hex }
