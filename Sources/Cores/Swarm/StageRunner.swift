import Digests
import Exchange
import Primitives
import Training
import Wire

/// One stage of one pipeline through one round: the validation windows, H inner steps of synchronous 1F1B, and the
/// stage's contribution, taken at the end or, with a delay, some steps before it. It decides what the engine does next and what goes to its neighbours; it knows nobody's address.
///
/// One compute job is out at a time: which of several ready jobs comes next (a backward before a forward, Narayanan et al.
/// 2021, §2.2) is decided when the engine is free, not when the work arrives.
package struct StageRunner: Sendable {
    package enum Effect: Sendable {
        case compute(ComputeJob)
        /// To the stage after this one, or before it when `gradient`.
        case send(PBActivation, payload: [UInt8], toStage: Int)
        case norms(PBNorms)
        /// H = 1: the gradient, H > 1: the pseudo-gradient, by unit.
        case contribution([UnitContribution])
        /// All steps of the round are done and the contribution is encoded: time for a receipt.
        case finished
        /// The outer step (or, with H = 1, the optimizer step) is done; digests of the units, where the engine gave them.
        case applied([Int: UnitDigests]?, squares: GradientSquares? = nil)
        case refused(String)
    }

    package enum Phase: Hashable, Sendable {
        case evaluating, stepping, norms, updating, encoding, waitingForSeal, applying, done
    }

    let spec: RoundSpec
    let rank: Int
    let stage: Int
    let stageCount: Int
    let attempt: Int
    let mode: ExchangeMode
    let parameters: JobParameters
    private let microBatches: [(virtualPipeline: Int, index: Int)]
    private let inFlight: Int
    private let windows: [Range<Int>]

    package private(set) var phase: Phase
    /// Inner step within the round.
    package private(set) var innerStep = 0
    package private(set) var lossSum = 0.0
    package private(set) var lossCount = 0
    package private(set) var evaluationSum = 0.0
    package private(set) var evaluationTokens = 0
    package private(set) var engineBusy = false
    package private(set) var flops = 0.0

    private var nextWindow = 0
    private var nextForward = 0
    private var nextBackward = 0
    private var inputs: [MicroBatchKey: [UInt8]] = [:]
    private var gradients: [MicroBatchKey: [UInt8]] = [:]
    private var windowInputs: [Int: [UInt8]] = [:]
    private var norms: [Int: [Int: [Float]]] = [:]
    private let configuration: StageConfiguration
    private var effects = EffectQueue<Effect>()

    package init(
        spec: RoundSpec, plan: PlacedPlan, rank: Int, stage: Int, parameters: JobParameters, sampleWindows: [Int]
    ) {
        let pipeline = plan.pipelines[rank]
        self.spec = spec
        self.rank = rank
        self.stage = stage
        self.parameters = parameters
        stageCount = pipeline.stages.count
        attempt = pipeline.attempt
        mode = plan.mode
        inFlight = pipeline.inFlight
        let placed = pipeline.stages[stage]
        configuration = parameters.configuration(units: placed.units, plan: plan, recompute: placed.recompute)
        microBatches = pipeline.virtualPipelines.flatMap { share in
            (0..<plan.microBatchesPerVirtual).map { (share, $0) }
        }
        if spec.evaluates {
            let first = sampleWindows.count * rank / plan.pipelines.count
            let end = sampleWindows.count * (rank + 1) / plan.pipelines.count
            windows = sampleWindows[first..<end].map { $0..<$0 + 1 }
        } else {
            windows = []
        }
        phase = windows.isEmpty ? .stepping : .evaluating
    }

    package var isFirst: Bool { stage == 0 }
    package var isLast: Bool { stage == stageCount - 1 }
    package var step: Int { spec.firstStep + innerStep }
    package var microBatchesInRound: Int { microBatches.count * spec.steps }
    package var work: PBWorkKey {
        var key = PBWorkKey()
        key.round = UInt64(spec.round)
        key.rank = UInt32(rank)
        key.attempt = UInt32(attempt)
        return key
    }

    package mutating func poll() -> Effect? { effects.pop() }
    package mutating func start() { advance() }

    // MARK: inputs

    package mutating func receive(_ message: PBActivation, payload: [UInt8]) {
        if message.evaluation {
            let first = Int(clamping: message.firstWindow)
            guard !isFirst, windows.contains(where: { $0.lowerBound == first }) else { return }
            windowInputs[first] = payload
        } else {
            let key = MicroBatchKey(
                step: Int(clamping: message.step), virtualPipeline: Int(message.virtualPipeline),
                index: Int(message.index))
            guard key.step >= step, key.step < spec.firstStep + spec.steps,
                microBatches.contains(where: { $0.virtualPipeline == key.virtualPipeline && $0.index == key.index })
            else { return }
            if message.gradient { gradients[key] = payload } else { inputs[key] = payload }
        }
        advance()
    }

    package mutating func receive(_ message: PBNorms) {
        let step = Int(clamping: message.step)
        guard step >= self.step, step < spec.firstStep + spec.steps, Int(message.stage) < stageCount else { return }
        norms[step, default: [:]][Int(message.stage)] = message.sumSquares
        advance()
    }

    /// The seal is in: everybody's contributions, in rank order.
    package mutating func apply(_ contributions: [RankedContribution]) {
        apply(mode == .rounds ? .outerStep(contributions) : .aggregateGradients(contributions))
    }
    /// The seal is in: what the owners of the chunks made of the contributions.
    package mutating func apply(_ aggregates: [UnitAggregate], codec: Codec) {
        apply(.applyAggregates(aggregates, codec: codec))
    }

    private mutating func apply(_ job: ComputeJob) {
        precondition(phase == .waitingForSeal, "a seal is applied after the contribution is encoded, not in \(phase)")
        phase = .applying
        compute(job)
    }

    package mutating func computed(_ result: ComputeResult) {
        engineBusy = false
        switch (phase, result) {
        case (_, .refused(let reason)):
            effects.push(.refused(reason))
            return
        case (.evaluating, .activation(let bytes)):
            sendWindow(bytes)
            nextWindow += 1
        case (.evaluating, .evaluation(let sum, let tokens)):
            evaluationSum += sum
            evaluationTokens += tokens
            nextWindow += 1
        case (.stepping, .activation(let bytes)):
            send(key(nextForward - 1), bytes, gradient: false)
        case (.stepping, .loss(let loss)):
            lossSum += Double(loss)
            lossCount += 1
        case (.stepping, .inputGradient(let bytes)):
            if !isFirst { send(key(nextBackward - 1), bytes, gradient: true) }
        case (.stepping, .sumSquares(let sums)), (.applying, .sumSquares(let sums)):
            phase = .norms
            var message = PBNorms()
            message.work = work
            message.step = UInt64(step)
            message.stage = UInt32(stage)
            message.sumSquares = sums
            norms[step, default: [:]][stage] = sums
            if stageCount > 1 { effects.push(.norms(message)) }
        case (.updating, .done):
            norms[step] = nil
            if mode == .everyStep {
                phase = .done
                effects.push(.applied(nil))
            } else {
                innerStep += 1
                nextForward = 0
                nextBackward = 0
                phase = innerStep == contributesAfter ? .encoding : afterStep
                if phase == .waitingForSeal { effects.push(.finished) }
            }
        case (.encoding, .contribution(let units)):
            effects.push(.contribution(units))
            phase = afterStep
            if phase == .waitingForSeal { effects.push(.finished) }
        case (.applying, .digests(let digests, let squares)):
            phase = .done
            effects.push(.applied(digests, squares: squares))
        default:
            effects.push(.refused("engine answered \(result.kind) while \(phase)"))
        }
        advance()
    }

    // MARK: deciding

    /// Inner steps before the contribution is taken.
    private var contributesAfter: Int { configuration.outer.contributes(afterStep: spec.steps, isLast: spec.isLast) }
    private var afterStep: Phase { mode == .everyStep || innerStep == spec.steps ? .waitingForSeal : .stepping }

    private func key(_ position: Int) -> MicroBatchKey {
        MicroBatchKey(
            step: step, virtualPipeline: microBatches[position].virtualPipeline, index: microBatches[position].index)
    }

    private mutating func compute(_ job: ComputeJob) {
        engineBusy = true
        flops += modelledFLOPs(of: job, configuration: configuration)
        effects.push(.compute(job))
    }

    private mutating func advance() {
        guard !engineBusy else { return }
        switch phase {
        case .evaluating:
            guard nextWindow < windows.count else {
                phase = .stepping
                return advance()
            }
            let window = windows[nextWindow]
            if isFirst {
                compute(.evaluate(windows: window, input: []))
            } else if let input = windowInputs.removeValue(forKey: window.lowerBound) {
                compute(.evaluate(windows: window, input: input))
            }
        case .stepping: advanceStep()
        case .norms:
            guard let parts = norms[step], parts.count == stageCount else { return }
            let norm = gradientNorm((0..<stageCount).flatMap { parts[$0]! })
            let perStep = parameters.geometry(microBatchesPerVirtual: configuration.geometry.microBatchesPerVirtual)
                .batchTokens
            let rate = parameters.optimizer.learningRate(atTokens: spec.sealedTokens + (innerStep + 1) * perStep)
            phase = .updating
            compute(.optimizerStep(norm: norm, learningRate: rate))
        case .encoding: compute(.encodeContribution)
        case .updating, .waitingForSeal, .applying, .done: break
        }
    }

    private mutating func advanceStep() {
        if nextBackward < nextForward {
            let next = key(nextBackward)
            if isLast {
                nextBackward += 1
                return compute(.backward(next, gradient: []))
            }
            if let gradient = gradients.removeValue(forKey: next) {
                nextBackward += 1
                return compute(.backward(next, gradient: gradient))
            }
        }
        if nextForward < microBatches.count {
            let next = key(nextForward)
            if isFirst {
                guard nextForward - nextBackward < inFlight else { return }
                nextForward += 1
                return compute(.forward(next, input: []))
            }
            if let input = inputs.removeValue(forKey: next) {
                nextForward += 1
                return compute(.forward(next, input: input))
            }
            return
        }
        guard nextBackward == microBatches.count else { return }
        if mode == .rounds {
            compute(.finishGradient(microBatches: microBatches.count))
        } else {
            phase = .encoding
            compute(.encodeContribution)
        }
    }

    private mutating func send(_ key: MicroBatchKey, _ bytes: [UInt8], gradient: Bool) {
        var message = PBActivation()
        message.work = work
        message.step = UInt64(key.step)
        message.virtualPipeline = UInt32(key.virtualPipeline)
        message.index = UInt32(key.index)
        message.gradient = gradient
        effects.push(.send(message, payload: bytes, toStage: gradient ? stage - 1 : stage + 1))
    }

    private mutating func sendWindow(_ bytes: [UInt8]) {
        var message = PBActivation()
        message.work = work
        message.evaluation = true
        message.firstWindow = UInt32(windows[nextWindow].lowerBound)
        message.endWindow = UInt32(windows[nextWindow].upperBound)
        effects.push(.send(message, payload: bytes, toStage: stage + 1))
    }

    /// For status lines.
    var doing: String {
        switch phase {
        case .evaluating: "validating"
        case .stepping, .norms, .updating: "step \(innerStep + 1)/\(spec.steps)"
        case .encoding: "encoding"
        case .waitingForSeal: "exchanging"
        case .applying: "outer step"
        case .done: "done"
        }
    }
}

extension ComputeResult {
    /// The case's name, for a log line.
    var kind: String {
        switch self {
        case .done: "done"
        case .state: "state"
        case .activation: "activation"
        case .loss: "loss"
        case .inputGradient: "input gradient"
        case .evaluation: "evaluation"
        case .sumSquares: "sums of squares"
        case .contribution: "contribution"
        case .chunk: "chunk"
        case .chunkRefused: "refusal of a chunk"
        case .digests: "digests"
        case .refused: "refusal"
        }
    }
}
