import Exchange
import Messages
import Primitives
import Record
import Training

/// One stage of one pipeline through one round: the validation windows, H inner steps of synchronous 1F1B, and the
/// stage's contribution, taken at the end or, with a delay, some steps before it. It decides what the engine does next and what
/// goes to its neighbours; it knows nobody's address.
///
/// One compute job is out at a time: which of several ready jobs comes next (a backward before a forward, Narayanan et al.
/// 2021, §2.2) is decided when the engine is free, not when the work arrives.
package struct StageRunner: Sendable {
    package enum Effect: Sendable {
        case compute(ComputeJob)
        /// To the stage after this one, or before it when it is a gradient.
        case send(Activation, payload: [UInt8], toStage: Int)
        /// To all other stages.
        case norms(Norms)
        /// H = 1: the gradient, H > 1: the pseudo-gradient, by unit.
        case contribution([UnitContribution])
        /// All steps of the round are done and the contribution is encoded: time for a receipt.
        case finished
        /// The outer step (or, with H = 1, the optimizer step) is done; digests of the units, where the engine gave them.
        case applied([Int: UnitDigests]?, squares: GradientSquares? = nil)
        /// The attempt cannot go on: the engine refused a job, or a loss or norm is not finite.
        case refused(String, isDivergence: Bool)
    }
    package enum Phase: Hashable, Sendable {
        case evaluating, stepping, norms, updating, encoding, waitingForSeal, applying, done
        /// Nothing more comes of this attempt.
        case refused
    }
    /// What it adds up for the receipt.
    package struct Tally: Hashable, Sendable {
        /// Sum over micro-batches of the mean loss, nats a token.
        package var lossSum = 0.0
        package var lossCount = 0
        package var evaluationSum = 0.0
        package var evaluationTokens = 0
        /// Modelled.
        package var flops = 0.0
    }
    /// How far the step in progress is, in micro-batches; and windows.
    private struct Cursor: Sendable {
        var window = 0
        /// Of the windows whose head is lent here.
        var headWindow = 0
        var forward = 0
        var head = 0
        var backward = 0
    }
    /// What neighbours sent and is not used yet.
    private struct Inbox: Sendable {
        /// On the stage that lends its table: the last stage's activations.
        var inputs: [MicroBatchKey: [UInt8]] = [:]
        var gradients: [MicroBatchKey: [UInt8]] = [:]
        var windows: [Int: [UInt8]] = [:]
        /// By step and stage.
        var norms: [Int: [Int: [Float]]] = [:]
    }

    package let spec: RoundSpec
    package let work: WorkKey
    package let stage: Int
    package let stageCount: Int
    private let parameters: JobParameters
    private let configuration: StageConfiguration
    private let microBatches: [(virtualPipeline: Int, index: Int)]
    private let inFlight: Int
    /// Of the learning rate: half for each time that the job has gone back after a divergence.
    private let rateFactor: Float
    private let windows: [Range<Int>]

    package private(set) var phase: Phase
    /// Inner step within the round.
    package private(set) var innerStep = 0
    package private(set) var tally = Tally()
    package private(set) var engineBusy = false
    private var cursor = Cursor()
    private var inbox = Inbox()
    private var effects = EffectQueue<Effect>()

    package init(
        spec: RoundSpec, plan: PlacedPlan, rank: Int, stage: Int, parameters: JobParameters, sampleWindows: [Int]
    ) {
        let pipeline = plan.pipelines[rank]
        self.spec = spec
        self.stage = stage
        self.parameters = parameters
        stageCount = pipeline.stages.count
        work = WorkKey(round: spec.round, rank: rank, attempt: pipeline.attempt)
        inFlight = pipeline.inFlight
        rateFactor = plan.rateFactor
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

    private var mode: ExchangeMode { configuration.mode }
    package var isFirst: Bool { stage == 0 }
    package var isLast: Bool { stage == stageCount - 1 }
    /// The pipeline is a ring where embeddings are tied and cut from the final norm: what leaves that norm goes on to the first stage,
    /// whose table makes the loss of it, and the gradient comes back from there.
    private var isRing: Bool { configuration.model.tieWordEmbeddings && stageCount > 1 }
    private var lendsTable: Bool { configuration.lendsTable }
    /// Global.
    package var step: Int { spec.firstStep + innerStep }
    package var microBatchesInRound: Int { microBatches.count * spec.steps }

    package mutating func poll() -> Effect? { effects.pop() }
    package mutating func start() { advance() }

    // MARK: inputs

    /// What of the round may come now: of the step in progress, or of the next, whose first stages may be ahead by one.
    private func isDue(_ step: Int) -> Bool {
        step >= self.step && step <= self.step + 1 && step < spec.firstStep + spec.steps
    }

    package mutating func receive(_ message: Activation, payload: [UInt8]) {
        guard phase != .refused else { return }
        switch message.part {
        case .windows(let range):
            guard !isFirst || lendsTable, windows.contains(range) else { return }
            inbox.windows[range.lowerBound] = payload
        case .microBatch(let step, let virtualPipeline, let index, let isGradient):
            guard isDue(step),
                microBatches.contains(where: { $0.virtualPipeline == virtualPipeline && $0.index == index })
            else { return }
            let key = MicroBatchKey(step: step, virtualPipeline: virtualPipeline, index: index)
            if isGradient { inbox.gradients[key] = payload } else { inbox.inputs[key] = payload }
        }
        advance()
    }

    package mutating func receive(_ message: Norms) {
        guard phase != .refused, isDue(message.step), message.stage < stageCount, message.stage != stage else { return }
        inbox.norms[message.step, default: [:]][message.stage] = message.sumSquares
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
        case (_, .refused(let reason)): return refuse(reason, isDivergence: result.isDivergence)
        case (.evaluating, _): evaluated(result)
        case (.stepping, .loss(let loss)):
            guard loss.isFinite else {
                return refuse("the loss of micro-batch \(cursor.forward - 1) is \(loss)", isDivergence: true)
            }
            tally.lossSum += Double(loss)
            tally.lossCount += 1
        case (.stepping, .head(let loss, let gradient)):
            guard loss.isFinite else {
                return refuse("the loss of micro-batch \(cursor.head - 1) is \(loss)", isDivergence: true)
            }
            tally.lossSum += Double(loss)
            tally.lossCount += 1
            send(key(cursor.head - 1), gradient, isGradient: true)
        case (.stepping, .activation(let bytes)): send(key(cursor.forward - 1), bytes, isGradient: false)
        case (.stepping, .inputGradient(let bytes)):
            if !isFirst { send(key(cursor.backward - 1), bytes, isGradient: true) }
        case (.stepping, .sumSquares(let sums)), (.applying, .sumSquares(let sums)):
            phase = .norms
            inbox.norms[step, default: [:]][stage] = sums
            if stageCount > 1 { effects.push(.norms(Norms(work: work, step: step, stage: stage, sumSquares: sums))) }
        case (.updating, .done): updated()
        case (.encoding, .contribution(let units)):
            effects.push(.contribution(units))
            phase = afterStep
            if phase == .waitingForSeal { effects.push(.finished) }
        case (.applying, .digests(let digests, let squares)):
            phase = .done
            effects.push(.applied(digests, squares: squares))
        default: return refuse("engine answered \(result.kind) while \(phase)")
        }
        advance()
    }

    private mutating func evaluated(_ result: ComputeResult) {
        switch result {
        case .activation(let bytes):
            let part = Activation.Part.windows(windows[cursor.window])
            effects.push(.send(Activation(work: work, part: part, payload: bytes), payload: bytes, toStage: next))
            cursor.window += 1
        case .evaluation(let sum, let tokens):
            let window = lendsTable ? cursor.headWindow : cursor.window
            guard sum.isFinite else {
                return refuse("the loss of validation window \(window) is \(sum)", isDivergence: true)
            }
            tally.evaluationSum += sum
            tally.evaluationTokens += tokens
            if lendsTable { cursor.headWindow += 1 } else { cursor.window += 1 }
        default: return refuse("engine answered \(result.kind) while \(phase)")
        }
    }

    private mutating func updated() {
        inbox.norms[step] = nil
        guard mode == .rounds else {
            phase = .done
            return effects.push(.applied(nil))
        }
        innerStep += 1
        cursor.forward = 0
        cursor.head = 0
        cursor.backward = 0
        // What came twice.
        inbox.inputs = inbox.inputs.filter { $0.key.step >= step }
        inbox.gradients = inbox.gradients.filter { $0.key.step >= step }
        phase = innerStep == contributesAfter ? .encoding : afterStep
        if phase == .waitingForSeal { effects.push(.finished) }
    }

    /// Where the work stands is part of the reason: whoever reads it has a stage and a step to look at, counted from one as on screens.
    private mutating func refuse(_ reason: String, isDivergence: Bool = false) {
        guard phase != .refused else { return }
        phase = .refused
        inbox = Inbox()
        let place = "in step \(step + 1) at stage \(stage + 1) of pipeline \(work.rank + 1)"
        effects.push(.refused("\(reason), \(place)", isDivergence: isDivergence))
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
        tally.flops += modelledFLOPs(of: job, configuration: configuration)
        effects.push(.compute(job))
    }

    private mutating func advance() {
        guard !engineBusy else { return }
        switch phase {
        case .evaluating: advanceEvaluation()
        case .stepping: advanceStep()
        case .norms: takeStep()
        case .encoding: compute(.encodeContribution)
        case .updating, .waitingForSeal, .applying, .done, .refused: break
        }
    }

    private mutating func advanceEvaluation() {
        if lendsTable, cursor.headWindow < windows.count {
            let window = windows[cursor.headWindow]
            if let input = inbox.windows.removeValue(forKey: window.lowerBound) {
                return compute(.evaluateHead(windows: window, input: input))
            }
        }
        guard cursor.window < windows.count else {
            if lendsTable, cursor.headWindow < windows.count { return }
            phase = .stepping
            return advance()
        }
        let window = windows[cursor.window]
        if isFirst {
            compute(.evaluate(windows: window, input: []))
        } else if let input = inbox.windows.removeValue(forKey: window.lowerBound) {
            compute(.evaluate(windows: window, input: input))
        }
    }

    /// The norms of all stages are here: one optimizer step.
    private mutating func takeStep() {
        guard let parts = inbox.norms[step], parts.count == stageCount else { return }
        let norm = gradientNorm((0..<stageCount).flatMap { parts[$0]! })
        guard norm.isFinite else { return refuse("the norm of the gradient is \(norm)", isDivergence: true) }
        let perStep = parameters.geometry(microBatchesPerVirtual: configuration.geometry.microBatchesPerVirtual)
            .batchTokens
        let rate = parameters.optimizer.learningRate(atTokens: spec.sealedTokens + (innerStep + 1) * perStep)
        phase = .updating
        compute(.optimizerStep(norm: norm, learningRate: rateFactor * rate))
    }

    private mutating func advanceStep() {
        if cursor.backward < cursor.forward {
            let due = key(cursor.backward)
            if configuration.endsWithLoss {
                cursor.backward += 1
                return compute(.backward(due, gradient: []))
            }
            if let gradient = inbox.gradients.removeValue(forKey: due) {
                cursor.backward += 1
                return compute(.backward(due, gradient: gradient))
            }
        }
        // Before more goes forward: the whole pipeline's way back begins with it.
        if lendsTable, cursor.head < cursor.forward, let input = inbox.inputs.removeValue(forKey: key(cursor.head)) {
            let due = key(cursor.head)
            cursor.head += 1
            return compute(.head(due, input: input))
        }
        if cursor.forward < microBatches.count {
            let due = key(cursor.forward)
            if isFirst {
                guard cursor.forward - cursor.backward < inFlight else { return }
                cursor.forward += 1
                return compute(.forward(due, input: []))
            }
            if let input = inbox.inputs.removeValue(forKey: due) {
                cursor.forward += 1
                return compute(.forward(due, input: input))
            }
            return
        }
        guard cursor.backward == microBatches.count else { return }
        if mode == .rounds {
            compute(.finishGradient(microBatches: microBatches.count))
        } else {
            phase = .encoding
            compute(.encodeContribution)
        }
    }

    /// Of the step in progress, and windows: what has been begun.
    package var begun: Int { cursor.window + cursor.headWindow + cursor.forward + cursor.head + cursor.backward }
    package var nextStage: Int { next }
    package var previousStage: Int { previous }
    /// Whether a micro-batch could go forward here, or back, had it come.
    package var wanted: (input: Bool, gradient: Bool) {
        (
            !isFirst && cursor.forward < microBatches.count,
            cursor.backward < cursor.forward && !configuration.endsWithLoss
        )
    }
    package var stagesWithoutNorms: [Int] { (0..<stageCount).filter { inbox.norms[step]?[$0] == nil } }

    private var next: Int { isRing && isLast ? 0 : stage + 1 }
    private var previous: Int { isRing && isFirst ? stageCount - 1 : stage - 1 }

    /// The stage that such a part comes from.
    package func sender(of part: Activation.Part) -> Int {
        if case .microBatch(_, _, _, isGradient: true) = part { next } else { previous }
    }

    private mutating func send(_ key: MicroBatchKey, _ bytes: [UInt8], isGradient: Bool) {
        let part = Activation.Part.microBatch(
            step: key.step, virtualPipeline: key.virtualPipeline, index: key.index, isGradient: isGradient)
        effects.push(
            .send(
                Activation(work: work, part: part, payload: bytes), payload: bytes,
                toStage: isGradient ? previous : next))
    }

    package var activity: Activity {
        switch phase {
        case .evaluating: .validating
        case .stepping, .norms, .updating: .stepping(innerStep + 1, of: spec.steps)
        case .encoding: .encoding
        case .waitingForSeal: .exchanging
        case .applying: .applying
        case .done, .refused: .waiting
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
        case .head: "head"
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
