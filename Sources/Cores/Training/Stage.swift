import CPU
import Compute
import Exchange
import Kernels
import Primitives
import Wire

/// One configured stage: a device engine that goes forward, backward and takes inner steps, and around it what all holders
/// must agree on to the bit. Micro-batches and steps here, the rest in extensions by subject.
///
/// What comes from outside is checked here, before the device is asked.
final class Stage {
    private(set) var configuration: StageConfiguration
    let device: any DeviceEngine
    /// What is learnt from: bytes, and what they are as a file of tokens, where they are one.
    private let source: (bytes: CorpusBytes, tokens: TokenCorpus?)
    let threads: Int32
    let room: Room
    let layout: StageLayout
    let order: DataOrder
    let tree: GradientTree

    /// Optimizer steps of each unit so far.
    var optimizerSteps: [Int]
    /// What a round goes back to; only with rounds.
    let outer: OuterState?
    /// Optimizer steps of each unit at round start.
    var outerSteps: [Int] = []
    /// Whether the device's weights are the outer ones; always without rounds.
    var isAtOuterWeights = true
    /// Of the averaging done here since the last outer step.
    var squares = GradientSquares()
    /// What lossy codecs have not sent yet, by tree node (0 with rounds).
    var feedback: [Int: StoredBuffer] = [:]
    /// Where the low-rank codec begins, by tree node, one a tensor of the layout.
    var warmStarts: [Int: [WarmStart]] = [:]
    /// How each unit's contribution is cut.
    let chunkLayouts: [ChunkLayout]
    /// With a delay: the weights that the last contribution was taken from, while the round's steps go on.
    var sentWeights: FloatBuffer?
    /// The last encoded contribution, until the next one: it may be returned.
    var lastContribution: [UnitContribution] = []
    var progress = StepProgress()
    /// [m, T, d]: an activation or its gradient between codec and device.
    lazy var activation = FloatBuffer(activationCount)

    /// θ at round start and what belongs to it. Moments are kept too, so that a rewound round is the round itself
    /// again.
    struct OuterState {
        let parameters, momentum: FloatBuffer
        let firstMoment, secondMoment: StartMoments
    }

    /// What it works with beside the device.
    struct Room {
        let mean = MeanWorkspace()
        /// Where states and contributions are put down; nil for memory.
        let store: (any ByteRoom)?
    }

    /// How far the device is within a step.
    struct StepProgress {
        var inFlight: Set<MicroBatchKey> = []
        /// Those of them whose head has been lent.
        var heads: Set<MicroBatchKey> = []
        /// The last micro-batch added to any sum at hand.
        var lastAdded: MicroBatchKey?
        /// Whether the averaged gradient is there, and an optimizer step is due.
        var hasGradient = false
    }

    /// Draws the weights from the seed.
    init(
        _ configuration: StageConfiguration, on device: any DeviceEngine, corpus: CorpusBytes,
        tokens: TokenCorpus? = nil,
        threads: Int, recorded: RecordedOrder? = nil, room: (any ByteRoom)? = nil
    ) throws(Refusal) {
        self.configuration = configuration
        self.room = Room(store: room)
        self.device = device
        source = (corpus, tokens)
        self.threads = Int32(clamping: threads)
        chunkLayouts = configuration.units.map { configuration.chunkLayout(unit: $0) }
        layout = StageLayout(shape: configuration.model, units: configuration.units)
        let geometry = configuration.geometry
        order = DataOrder(configuration, bytes: corpus.count, recorded: recorded)
        tree = GradientTree(virtualPipelines: geometry.virtualPipelines)
        optimizerSteps = [Int](repeating: 0, count: configuration.units.count)
        outerSteps = optimizerSteps
        let count = layout.count
        outer =
            configuration.mode == .everyStep
            ? nil
            : OuterState(
                parameters: FloatBuffer(count), momentum: FloatBuffer(count),
                firstMoment: StartMoments(
                    layout, room, inMemory: { [layout] in .first(layout, configuration.optimizer) },
                    isEmpty: configuration.optimizer.recipe.adapters != nil),
                secondMoment: StartMoments(
                    layout, room, inMemory: { [layout] in .second(layout, configuration.optimizer) },
                    isEmpty: configuration.optimizer.recipe.adapters != nil))
        try device.configure(configuration)
        for unit in configuration.units {
            let range = layout.range(unit: unit)
            let first = outer == nil ? range.lowerBound : 0
            let values = outer?.parameters ?? FloatBuffer(range.count)
            for entry in layout.entries(unit: unit) {
                initialise(
                    values.values(entry.range.lowerBound - first..<entry.range.upperBound - first),
                    tensor: entry.tensor, shape: configuration.model, seed: configuration.seed)
            }
            let drawn = values.values(range.lowerBound - first..<range.upperBound - first)
            try device.write(.parameters, unit: unit, from: UnsafeBufferPointer(drawn))
            withExtendedLifetime(values) {}
        }
    }

    var geometry: BatchGeometry { configuration.geometry }
    /// Values of one micro-batch's activation.
    private var activationCount: Int { geometry.tokensPerMicroBatch * configuration.model.hiddenSize }

    // MARK: micro-batches

    func forward(_ key: MicroBatchKey, input: [UInt8]) throws(Refusal) -> ComputeResult {
        try check(key)
        let values = activation.allValues
        if configuration.isFirst {
            guard input.isEmpty else { throw Refusal("the first stage takes no input, \(input.count) bytes came") }
        } else {
            try decodeActivation(input, into: values)
        }
        let text = try text(of: key)
        progress.inFlight.remove(key)
        progress.heads.remove(key)
        let loss = try device.forward(
            key, text: text, input: configuration.isFirst ? nil : UnsafeBufferPointer(values),
            output: configuration.endsWithLoss ? nil : values)
        progress.inFlight.insert(key)
        if configuration.endsWithLoss { return .loss(meanOfLearnt(loss, text)) }
        return .activation(configuration.activationCodec.encode(UnsafeBufferPointer(values), feedback: nil))
    }

    func backward(_ key: MicroBatchKey, gradient: [UInt8]) throws(Refusal) -> ComputeResult {
        guard progress.inFlight.contains(key) else { throw Refusal("backward of \(key.text) without its forward") }
        if configuration.lendsTable, !progress.heads.contains(key) {
            throw Refusal("backward of \(key.text) without its head")
        }
        try checkOrder(key)
        let values = activation.allValues
        if configuration.endsWithLoss {
            guard gradient.isEmpty else {
                throw Refusal("the last stage takes no gradient, \(gradient.count) bytes came")
            }
        } else {
            try decodeActivation(gradient, into: values)
        }
        progress.inFlight.remove(key)
        progress.heads.remove(key)
        try device.backward(
            key, gradient: configuration.endsWithLoss ? nil : UnsafeBufferPointer(values),
            inputGradient: configuration.isFirst ? nil : values)
        progress.lastAdded = key
        if configuration.isFirst { return .inputGradient([]) }
        return .inputGradient(configuration.activationCodec.encode(UnsafeBufferPointer(values), feedback: nil))
    }

    /// - Parameter progress: is told how many windows are done, of how many, every micro-batch.
    func evaluate(_ windows: Range<Int>, input: [UInt8], progress: ((Int, Int) -> Void)? = nil) throws(Refusal)
        -> ComputeResult
    {
        guard !windows.isEmpty, windows.lowerBound >= 0 else { throw Refusal("no validation windows in \(windows)") }
        if readsCorpus, windows.upperBound > order.validationWindows {
            throw Refusal("validation windows \(windows) wanted, there are \(order.validationWindows)")
        }
        let perWindow = geometry.context * configuration.model.hiddenSize
        let (count, overflow) = windows.count.multipliedReportingOverflow(by: perWindow)
        guard !overflow, configuration.isFirst || input.count <= configuration.activationCodec.maximumBytes(for: count)
        else { throw Refusal("\(input.count) bytes for \(windows.count) windows") }
        if configuration.isFirst {
            guard input.isEmpty else { throw Refusal("the first stage takes no input, \(input.count) bytes came") }
        } else {
            // A message much shorter than its windows is refused before memory for them is taken.
            do { try configuration.activationCodec.validate(input[...], count: count) } catch {
                throw Refusal("activation: \(error)")
            }
        }
        let values = FloatBuffer(configuration.isFirst && configuration.isLast ? 0 : count)
        if !configuration.isFirst { try decodeActivation(input, into: values.allValues) }
        let losses = FloatBuffer(configuration.endsWithLoss ? geometry.tokensPerMicroBatch : 0)
        var lossSum = 0.0
        var learnt = 0
        try withOuterWeights { () throws(Refusal) in
            for start in stride(from: windows.lowerBound, to: windows.upperBound, by: geometry.microBatch) {
                let chunk = start..<min(start + geometry.microBatch, windows.upperBound)
                let place = (start - windows.lowerBound) * perWindow
                let part =
                    configuration.isFirst && configuration.isLast
                    ? losses.allValues : values.values(place..<place + chunk.count * perWindow)
                let text = try text(validation: chunk)
                learnt += text?.learnt ?? 0
                try device.evaluate(
                    sequences: chunk.count, text: text,
                    input: configuration.isFirst ? nil : UnsafeBufferPointer(part),
                    output: configuration.endsWithLoss ? losses.allValues : part)
                progress?(chunk.upperBound - windows.lowerBound, windows.count)
                guard configuration.endsWithLoss else { continue }
                for row in 0..<chunk.count * geometry.context { lossSum += Double(losses.base[row]) }
            }
        }
        withExtendedLifetime((values, losses)) {}
        if configuration.endsWithLoss { return .evaluation(lossSum: lossSum, tokens: learnt) }
        return .activation(configuration.activationCodec.encode(UnsafeBufferPointer(values.allValues), feedback: nil))
    }

    /// On the weights that all holders share. With a delay a round does not begin with them, and within a round the device's
    /// have gone on.
    func withOuterWeights(_ body: () throws(Refusal) -> Void) throws(Refusal) {
        guard let outer, !isAtOuterWeights else { return try body() }
        let own = device.idle.take()
        defer { device.idle.giveBack(own) }
        try read(.parameters, into: own)
        try write(.parameters, from: outer.parameters)
        do throws(Refusal) { try body() } catch {
            try write(.parameters, from: own)
            throw error
        }
        try write(.parameters, from: own)
    }

    // MARK: the optimizer

    func optimizerStep(norm: Float, learningRate: Float) throws(Refusal) -> ComputeResult {
        guard progress.hasGradient else { throw Refusal("no gradient is ready for an optimizer step") }
        guard norm.isFinite, norm >= 0, learningRate.isFinite, learningRate >= 0 else {
            throw Refusal("gradient norm \(norm) and learning rate \(learningRate) for an optimizer step")
        }
        let clip = configuration.optimizer.clip
        for index in optimizerSteps.indices { optimizerSteps[index] += 1 }
        try device.optimizerStep(
            DeviceStep(
                learningRate: learningRate, gradientScale: clip > 0 && norm > clip ? clip / norm : 1,
                steps: optimizerSteps))
        progress = StepProgress()
        isAtOuterWeights = outer == nil
        return .done
    }

    // MARK: parts

    /// Where documents begin matters to all stages.
    var readsCorpus: Bool { configuration.isFirst || configuration.isLast || source.tokens != nil }

    /// Forgets gradients and saved activations; they belong to weights that are no more.
    func dropWork() throws(Refusal) {
        progress = StepProgress()
        try device.dropWork()
    }

    /// From now on; micro-batches in flight stay as they are.
    func recompute(_ recomputes: Bool) throws(Refusal) -> ComputeResult {
        configuration.recompute = recomputes
        try device.recompute(recomputes)
        return .done
    }

    /// All units of a quantity of the device, in the layout's order.
    func read(_ quantity: DeviceQuantity, into buffer: FloatBuffer) throws(Refusal) {
        for unit in configuration.units {
            try device.read(quantity, unit: unit, into: buffer.values(layout.range(unit: unit)))
        }
    }
    func write(_ quantity: DeviceQuantity, from buffer: FloatBuffer) throws(Refusal) {
        for unit in configuration.units {
            try device.write(
                quantity, unit: unit, from: UnsafeBufferPointer(buffer.values(layout.range(unit: unit))))
        }
    }

    /// The device's mean is over all places; some bear no loss.
    func meanOfLearnt(_ loss: Float, _ text: TokenText?) -> Float {
        let learnt = text?.learnt ?? 0
        let places = geometry.tokensPerMicroBatch
        return learnt == places || learnt == 0 ? loss : loss * Float(places) / Float(learnt)
    }

    func text(of key: MicroBatchKey) throws(Refusal) -> TokenText? {
        // A stage in the middle has no text, of which nothing could be drawn.
        guard readsCorpus else { return nil }
        let first = DataOrder.firstSequence(key, geometry)
        return try text((0..<geometry.microBatch).map { order.window(step: key.step, sequence: first + $0) })
    }

    func text(validation windows: Range<Int>) throws(Refusal) -> TokenText? {
        guard readsCorpus else { return nil }
        return try text(windows.map { DataOrder.Window(start: order.validationStart(window: $0), limit: .max) })
    }

    /// The tokens of sequences.
    private func text(_ windows: [DataOrder.Window]) throws(Refusal) -> TokenText {
        var text = TokenText()
        for window in windows {
            if let tokens = source.tokens {
                try tokens.append(
                    from: window.start, context: geometry.context, limit: window.limit,
                    vocabulary: configuration.model.vocabulary, to: &text)
                continue
            }
            // Only a mixture's windows may reach beyond their source's end.
            let end = min(source.bytes.count, window.limit)
            for position in window.start..<window.start + geometry.context {
                text.tokens.append(position < end ? Int32(source.bytes[position]) : 0)
                text.targets.append(position + 1 < end ? Int32(source.bytes[position + 1]) : -1)
            }
        }
        return text
    }

    func decodeActivation(
        _ bytes: [UInt8], into values: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        do {
            try configuration.activationCodec.decode(bytes[...], into: values)
        } catch CodecError.notFinite {
            // What training does that diverges, said as such: the loss is computed by another stage.
            throw Refusal("activation as \(configuration.activationCodec): values that are \(ComputeResult.notFinite)")
        } catch {
            throw Refusal("activation of \(values.count) values as \(configuration.activationCodec): \(error)")
        }
        guard kernels_all_finite(values.count, values.baseAddress!) else {
            throw Refusal("activation with values that are \(ComputeResult.notFinite)")
        }
    }

    private func check(_ key: MicroBatchKey) throws(Refusal) {
        guard key.step >= 0, (0..<geometry.virtualPipelines).contains(key.virtualPipeline),
            (0..<geometry.microBatchesPerVirtual).contains(key.index)
        else { throw Refusal("\(key.text) is none of this job's micro-batches") }
    }

    /// Whether a micro-batch may be added now: same step as the sums at hand, after all that are in them.
    private func checkOrder(_ key: MicroBatchKey) throws(Refusal) {
        guard !progress.hasGradient else {
            throw Refusal("backward of \(key.text) before the last gradient was applied")
        }
        guard let last = progress.lastAdded else { return }
        guard key.step == last.step else {
            throw Refusal("backward of \(key.text) among gradients of step \(last.step)")
        }
        guard key > last else { throw Refusal("backward of \(key.text) after \(last.text); key order is needed") }
    }
}
