import Digests
import Exchange
import Kernels
import Primitives

/// The state of one configured stage and its jobs: forward, backward, evaluation and the optimizer here, the rest in
/// extensions by subject.
final class Stage {
    private(set) var configuration: StageConfiguration
    let corpus: [UInt8]
    let threads: Int32
    let arithmetic: StageArithmetic
    let order: DataOrder
    let tree: GradientTree

    /// Current weights and Adam's moments, in the layout's order.
    let parameters, firstMoment, secondMoment: FloatBuffer
    /// Optimizer steps of each unit so far.
    /// Of the averaging done here since the last outer step.
    var squares = GradientSquares()
    var optimizerSteps: [Int]
    /// What a round goes back to; only with rounds.
    let outer: OuterState?
    /// Optimizer steps of each unit at round start.
    var outerSteps: [Int] = []
    /// What lossy codecs have not sent yet, by tree node (0 with rounds).
    var feedback: [Int: FloatBuffer] = [:]
    /// Where the low-rank codec begins, by tree node, one a tensor of the layout.
    var warmStarts: [Int: [WarmStart]] = [:]
    /// How each unit's contribution is cut.
    let chunkLayouts: [ChunkLayout]
    let meanWorkspace = MeanWorkspace()
    /// With a delay: the weights that the last contribution was taken from, while the round's steps go on.
    var sentWeights: FloatBuffer?
    /// The last encoded contribution, until the next one: it may be returned.
    var lastContribution: [UnitContribution] = []

    var buffers: BufferPool
    /// Sums of complete shares of this step: maximal subtrees, ascending.
    var shares: [(node: Int, sum: FloatBuffer)] = []
    /// The virtual pipeline being summed, and the last micro-batch added to it.
    var open: (last: MicroBatchKey, sum: FloatBuffer)?
    /// The last micro-batch added to any sum at hand.
    var lastAdded: MicroBatchKey?
    /// The averaged gradient, ready for an optimizer step.
    var ready: FloatBuffer?
    private var inFlight: [MicroBatchKey: SavedActivations] = [:]
    private var spareActivations: [SavedActivations] = []
    /// Where a stage recomputes: one whose buffers all others share.
    private var sharedActivations: SavedActivations?

    /// θ at round start and what belongs to it. Moments are kept too, so that a rewound round is the round itself
    /// again.
    struct OuterState {
        let parameters, momentum, firstMoment, secondMoment: FloatBuffer
    }

    init(_ configuration: StageConfiguration, corpus: [UInt8], threads: Int, recorded: RecordedOrder? = nil) {
        self.configuration = configuration
        chunkLayouts = configuration.units.map { configuration.chunkLayout(unit: $0) }
        self.corpus = corpus
        self.threads = Int32(clamping: threads)
        let geometry = configuration.geometry
        arithmetic = StageArithmetic(
            shape: configuration.model, units: configuration.units, sequences: geometry.microBatch,
            length: geometry.context, threads: threads)
        order = DataOrder(
            corpusCount: corpus.count, validationFraction: configuration.validationFraction, context: geometry.context,
            seed: configuration.seed, recorded: recorded)
        tree = GradientTree(virtualPipelines: geometry.virtualPipelines)
        let count = arithmetic.layout.count
        parameters = FloatBuffer(count)
        firstMoment = FloatBuffer(count)
        secondMoment = FloatBuffer(count)
        optimizerSteps = [Int](repeating: 0, count: configuration.units.count)
        buffers = BufferPool(count: count)
        for entry in arithmetic.layout.entries {
            initialise(
                parameters.values(entry.range), tensor: entry.tensor, shape: configuration.model,
                seed: configuration.seed)
        }
        guard configuration.mode == .rounds else {
            outer = nil
            return
        }
        let outer = OuterState(
            parameters: FloatBuffer(count), momentum: FloatBuffer(count), firstMoment: FloatBuffer(count),
            secondMoment: FloatBuffer(count))
        outer.parameters.copy(from: parameters)
        self.outer = outer
        outerSteps = optimizerSteps
    }

    var layout: StageLayout { arithmetic.layout }
    var geometry: BatchGeometry { configuration.geometry }
    /// Values of one micro-batch's activation.
    private var activationCount: Int { geometry.tokensPerMicroBatch * configuration.model.hiddenSize }

    // MARK: micro-batches

    func forward(_ key: MicroBatchKey, input: [UInt8]) throws(Refusal) -> ComputeResult {
        try check(key)
        if let old = inFlight.removeValue(forKey: key) { giveBack(old) }
        let saved = takeActivations()
        do throws(Refusal) {
            if configuration.isFirst {
                guard input.isEmpty else { throw Refusal("the first stage takes no input, \(input.count) bytes came") }
            } else {
                try decodeActivation(input, into: saved.input.values(0..<activationCount))
            }
        } catch {
            giveBack(saved)
            throw error
        }
        let first = DataOrder.firstSequence(key, geometry)
        let starts = (0..<geometry.microBatch).map { sequence in
            readsCorpus ? order.windowStart(step: key.step, sequence: first + sequence) : 0
        }
        readTokens(starts, into: saved)
        arithmetic.forwardBlocks(parameters.base, saved, sequences: geometry.microBatch, length: geometry.context)
        inFlight[key] = saved
        guard configuration.isLast else {
            let values = UnsafeBufferPointer(rebasing: saved.output.allValues[..<activationCount])
            return .activation(configuration.activationCodec.encode(values, feedback: nil))
        }
        let rows = geometry.tokensPerMicroBatch
        arithmetic.forwardHead(parameters.base, saved, rows: rows)
        return .loss(kernels_sum(rows, saved.losses!.base) / Float(rows))
    }

    func backward(_ key: MicroBatchKey, gradient: [UInt8]) throws(Refusal) -> ComputeResult {
        guard let saved = inFlight[key] else { throw Refusal("backward of \(key.text) without its forward") }
        try checkOrder(key)
        var outputGradient: FloatBuffer?
        if configuration.isLast {
            guard gradient.isEmpty else {
                throw Refusal("the last stage takes no gradient, \(gradient.count) bytes came")
            }
        } else {
            let decoded = FloatBuffer(activationCount)
            try decodeActivation(gradient, into: decoded.allValues)
            outputGradient = decoded
        }
        inFlight[key] = nil
        let sum = openShare(for: key)
        let inputGradient = arithmetic.backward(
            parameters.base, sum.base, saved, outputGradient: outputGradient.map { UnsafePointer($0.base) },
            sequences: geometry.microBatch, length: geometry.context)
        giveBack(saved)
        if configuration.isFirst { return .inputGradient([]) }
        let values = UnsafeBufferPointer(start: inputGradient, count: activationCount)
        return .inputGradient(configuration.activationCodec.encode(values, feedback: nil))
    }

    func evaluate(_ windows: Range<Int>, input: [UInt8]) throws(Refusal) -> ComputeResult {
        guard !windows.isEmpty, windows.lowerBound >= 0 else { throw Refusal("no validation windows in \(windows)") }
        if readsCorpus, windows.upperBound > order.validationWindows {
            throw Refusal("validation windows \(windows) wanted, there are \(order.validationWindows)")
        }
        let perWindow = geometry.context * configuration.model.hiddenSize
        let (values, overflow) = windows.count.multipliedReportingOverflow(by: perWindow)
        guard !overflow, configuration.isFirst || input.count <= configuration.activationCodec.maximumBytes(for: values)
        else { throw Refusal("\(input.count) bytes for \(windows.count) windows") }
        var activation: FloatBuffer?
        if configuration.isFirst {
            guard input.isEmpty else { throw Refusal("the first stage takes no input, \(input.count) bytes came") }
        } else {
            // A message much shorter than its windows is refused before memory for them is taken.
            do { try configuration.activationCodec.validate(input[...], count: values) } catch {
                throw Refusal("activation: \(error)")
            }
            let decoded = FloatBuffer(values)
            try decodeActivation(input, into: decoded.allValues)
            activation = decoded
        }
        // Those that all holders share; with a delay a round does not begin with them.
        let weights = outer?.parameters ?? parameters
        let output = configuration.isLast ? nil : FloatBuffer(values)
        let saved = takeActivations()
        defer { giveBack(saved) }
        var lossSum = 0.0
        for start in stride(from: windows.lowerBound, to: windows.upperBound, by: geometry.microBatch) {
            let chunk = start..<min(start + geometry.microBatch, windows.upperBound)
            let place = (start - windows.lowerBound) * perWindow
            if let activation { saved.input.base.update(from: activation.base + place, count: chunk.count * perWindow) }
            readTokens(chunk.map { readsCorpus ? order.validationStart(window: $0) : 0 }, into: saved)
            arithmetic.forwardBlocks(weights.base, saved, sequences: chunk.count, length: geometry.context)
            if let output {
                (output.base + place).update(from: saved.output.base, count: chunk.count * perWindow)
            } else {
                let rows = chunk.count * geometry.context
                arithmetic.forwardHead(weights.base, saved, rows: rows)
                for row in 0..<rows { lossSum += Double(saved.losses!.base[row]) }
            }
        }
        guard let output else { return .evaluation(lossSum: lossSum, tokens: windows.count * geometry.context) }
        return .activation(configuration.activationCodec.encode(UnsafeBufferPointer(output.allValues), feedback: nil))
    }

    // MARK: the optimizer

    func optimizerStep(norm: Float, learningRate: Float) throws(Refusal) -> ComputeResult {
        guard let gradient = ready else { throw Refusal("no gradient is ready for an optimizer step") }
        guard norm.isFinite, norm >= 0, learningRate.isFinite, learningRate >= 0 else {
            throw Refusal("gradient norm \(norm) and learning rate \(learningRate) for an optimizer step")
        }
        let optimizer = configuration.optimizer
        let clips = optimizer.clip > 0 && norm > optimizer.clip
        for index in optimizerSteps.indices { optimizerSteps[index] += 1 }
        for entry in layout.entries {
            let steps = optimizerSteps[entry.unit - configuration.units.lowerBound]
            let offset = entry.range.lowerBound
            let step = kernels_adamw_step(
                learning_rate: learningRate, beta1: optimizer.beta1, beta2: optimizer.beta2, epsilon: optimizer.epsilon,
                weight_decay: entry.isMatrix ? optimizer.weightDecay : 0,
                correction1: InnerOptimizer.biasCorrection(beta: optimizer.beta1, steps: steps),
                correction2: InnerOptimizer.biasCorrection(beta: optimizer.beta2, steps: steps),
                gradient_scale: clips ? optimizer.clip / norm : 1)
            kernels_adamw(
                threads, entry.range.count, step, gradient.base + offset, parameters.base + offset,
                firstMoment.base + offset, secondMoment.base + offset)
        }
        dropWork()
        return .done
    }

    // MARK: parts

    var readsCorpus: Bool { configuration.isFirst || configuration.isLast }

    /// Forgets gradients and saved activations; they belong to weights that are no more.
    func dropWork() {
        for share in shares { buffers.giveBack(share.sum) }
        shares = []
        if let sum = open?.sum { buffers.giveBack(sum) }
        open = nil
        lastAdded = nil
        if let gradient = ready { buffers.giveBack(gradient) }
        ready = nil
        for saved in inFlight.values { giveBack(saved) }
        inFlight = [:]
    }

    /// From now on; micro-batches in flight stay as they are.
    func recompute(_ recomputes: Bool) {
        configuration.recompute = recomputes
        spareActivations = []
        sharedActivations = nil
    }
    /// Bytes of all activations kept, of micro-batches in flight and for those to come.
    var activationBytes: Int {
        var seen: Set<ObjectIdentifier> = []
        let kept = Array(inFlight.values) + spareActivations + (sharedActivations.map { [$0] } ?? [])
        return kept.flatMap(\.buffers).reduce(0) { seen.insert(ObjectIdentifier($1)).inserted ? $0 + 4 * $1.count : $0 }
    }
    private func takeActivations() -> SavedActivations {
        if let spare = spareActivations.popLast() { return spare }
        let saved = arithmetic.makeSaved(recompute: configuration.recompute, sharing: sharedActivations)
        if configuration.recompute, sharedActivations == nil { sharedActivations = saved }
        return saved
    }
    private func giveBack(_ saved: SavedActivations) {
        if saved.recomputes == configuration.recompute { spareActivations.append(saved) }
    }

    private func readTokens(_ starts: [Int], into saved: SavedActivations) {
        guard readsCorpus else { return }
        saved.tokens.removeAll(keepingCapacity: true)
        saved.targets.removeAll(keepingCapacity: true)
        for start in starts {
            for position in start..<start + geometry.context {
                saved.tokens.append(Int32(corpus[position]))
                saved.targets.append(Int32(corpus[position + 1]))
            }
        }
    }

    private func decodeActivation(
        _ bytes: [UInt8], into values: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        do {
            try configuration.activationCodec.decode(bytes[...], into: values)
        } catch {
            throw Refusal("activation of \(values.count) values as \(configuration.activationCodec): \(error)")
        }
        guard kernels_all_finite(values.count, values.baseAddress!) else {
            throw Refusal("activation with values that are not finite")
        }
    }

    private func check(_ key: MicroBatchKey) throws(Refusal) {
        guard key.step >= 0, (0..<geometry.virtualPipelines).contains(key.virtualPipeline),
            (0..<geometry.microBatchesPerVirtual).contains(key.index)
        else { throw Refusal("\(key.text) is none of this job's micro-batches") }
    }
}

extension MicroBatchKey {
    /// For log lines.
    var text: String { "step \(step), virtual pipeline \(virtualPipeline), micro-batch \(index)" }
}
