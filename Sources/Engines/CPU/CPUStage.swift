import Compute
import Kernels
import Primitives

/// What a stage holds on this processor: weights, moments, sums of gradients, activations in flight.
final class CPUStage {
    private var configuration: StageConfiguration
    private let threads: Int32
    private let arithmetic: StageArithmetic
    private let tree: GradientTree

    /// Current weights and Adam's moments, in the layout's order.
    private let parameters, firstMoment, secondMoment: FloatBuffer
    let buffers: BufferPool
    /// Sums of complete shares of this step: maximal subtrees, ascending.
    private var shares: [(node: Int, sum: FloatBuffer)] = []
    /// The virtual pipeline being summed, and its sum so far.
    private var open: (virtualPipeline: Int, sum: FloatBuffer)?
    /// The averaged gradient, ready for an optimizer step.
    private var ready: FloatBuffer?
    /// The last micro-batch added to any sum at hand; and the one whose head is added, while the rest is due.
    private var lastAdded, headAdded: MicroBatchKey?
    private var inFlight: [MicroBatchKey: SavedActivations] = [:]
    private var spareActivations: [SavedActivations] = []
    /// Where a stage recomputes: one whose buffers all others share.
    private var sharedActivations: SavedActivations?

    init(_ configuration: StageConfiguration, threads: Int, stretches: Stretches?) {
        self.configuration = configuration
        self.threads = Int32(clamping: threads)
        let geometry = configuration.geometry
        arithmetic = StageArithmetic(
            shape: configuration.model, units: configuration.units, sequences: geometry.microBatch,
            length: geometry.context, threads: threads, stretches: stretches)
        arithmetic.zLoss = configuration.optimizer.recipe.zLoss
        tree = GradientTree(virtualPipelines: geometry.virtualPipelines)
        let count = arithmetic.layout.count
        parameters = FloatBuffer(count)
        firstMoment = FloatBuffer(count)
        secondMoment = FloatBuffer(count)
        buffers = BufferPool(count: count)
    }

    private var layout: StageLayout { arithmetic.layout }
    private var geometry: BatchGeometry { configuration.geometry }
    private var activationCount: Int { geometry.tokensPerMicroBatch * configuration.model.hiddenSize }

    /// Where a unit's values of a quantity lie.
    func place(_ quantity: DeviceQuantity, unit: Int) throws(Refusal) -> (FloatBuffer, Range<Int>) {
        let buffer: FloatBuffer? =
            switch quantity {
            case .parameters: parameters
            case .firstMoment: firstMoment
            case .secondMoment: secondMoment
            case .gradient: ready
            case .share(let node): shares.first { $0.node == node }?.sum
            }
        guard let buffer else { throw Refusal("there is no \(quantity) on the device") }
        return (buffer, layout.range(unit: unit))
    }

    // MARK: micro-batches

    func forward(
        _ key: MicroBatchKey, text: TokenText?, input: UnsafeBufferPointer<Float>?,
        output: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) -> Float {
        if let old = inFlight.removeValue(forKey: key) { giveBack(old) }
        let saved = takeActivations()
        if let input { saved.input.base.update(from: input.baseAddress!, count: activationCount) }
        saved.text = text ?? TokenText()
        arithmetic.forwardBlocks(parameters.base, saved, sequences: geometry.microBatch, length: geometry.context)
        if let output { output.baseAddress!.update(from: saved.output.base, count: activationCount) }
        if configuration.isLast { runHead(key, saved) }
        inFlight[key] = saved
        guard configuration.isLast else { return 0 }
        let rows = geometry.tokensPerMicroBatch
        return kernels_sum(rows, saved.losses!.base) / Float(rows)
    }

    /// The head goes backward with its forward where this micro-batch is the next to be added anyway, so that logits are
    /// computed once and kept nowhere; else its backward computes them again.
    private func runHead(_ key: MicroBatchKey, _ saved: SavedActivations) {
        let rows = geometry.tokensPerMicroBatch
        if headAdded == key {
            arithmetic.head(parameters.base, nil, saved, rows: rows, inputOnly: true)
        } else if inFlight.isEmpty, headAdded == nil, ready == nil, isNext(key) {
            headAdded = key
            lastAdded = key
            arithmetic.head(parameters.base, openShare(key.virtualPipeline).base, saved, rows: rows)
        } else {
            arithmetic.head(parameters.base, nil, saved, rows: rows)
        }
    }
    private func isNext(_ key: MicroBatchKey) -> Bool { lastAdded.map { $0.step == key.step && $0 < key } ?? true }

    func backward(
        _ key: MicroBatchKey, gradient: UnsafeBufferPointer<Float>?, inputGradient: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) {
        guard let saved = inFlight[key] else { throw Refusal("backward of \(key.text) without its forward") }
        if let headAdded, headAdded != key {
            throw Refusal("backward of \(key.text) while that of \(headAdded.text) is due")
        }
        inFlight[key] = nil
        let sum = openShare(key.virtualPipeline)
        if configuration.isLast, headAdded == nil {
            arithmetic.head(parameters.base, sum.base, saved, rows: geometry.tokensPerMicroBatch)
        }
        headAdded = nil
        lastAdded = key
        let found = arithmetic.backward(
            parameters.base, sum.base, saved, outputGradient: gradient?.baseAddress,
            sequences: geometry.microBatch, length: geometry.context)
        giveBack(saved)
        inputGradient?.baseAddress!.update(from: found, count: activationCount)
    }

    func evaluate(
        sequences: Int, text: TokenText?, input: UnsafeBufferPointer<Float>?, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        let saved = takeActivations()
        defer { giveBack(saved) }
        let rows = sequences * geometry.context
        let count = rows * configuration.model.hiddenSize
        if let input { saved.input.base.update(from: input.baseAddress!, count: count) }
        saved.text = text ?? TokenText()
        arithmetic.forwardBlocks(parameters.base, saved, sequences: sequences, length: geometry.context)
        if configuration.isLast {
            arithmetic.head(parameters.base, nil, saved, rows: rows)
            output.baseAddress!.update(from: saved.losses!.base, count: rows)
        } else {
            output.baseAddress!.update(from: saved.output.base, count: count)
        }
    }

    // MARK: gradients

    /// The sum that a micro-batch's gradient is added to: micro-batches of a virtual pipeline from zero in the order they come.
    private func openShare(_ virtualPipeline: Int) -> FloatBuffer {
        if let open, open.virtualPipeline == virtualPipeline { return open.sum }
        closeShare()
        let sum = buffers.takeZeroed()
        open = (virtualPipeline, sum)
        return sum
    }

    /// Puts the share being summed on the stack of complete ones.
    private func closeShare() {
        guard let (virtualPipeline, sum) = open else { return }
        open = nil
        tree.push(sum, at: tree.leaf(virtualPipeline), onto: &shares, add: add)
    }

    private func add(_ left: FloatBuffer, _ right: FloatBuffer) -> FloatBuffer {
        kernels_add(threads, left.count, right.base, left.base)
        buffers.giveBack(right)
        return left
    }

    func completeShares() throws(Refusal) -> [Int] {
        try checkNothingDue()
        closeShare()
        return shares.map(\.node)
    }

    func finishGradient(microBatches: Int) throws(Refusal) -> [Float] {
        try checkNothingDue()
        closeShare()
        guard let sum = tree.fold(shares, add: add) else { throw Refusal("no micro-batch has been added") }
        shares = []
        kernels_scale(threads, sum.count, 1 / Float(microBatches), sum.base)
        ready = sum
        return layout.entries.map { kernels_sum_squares($0.range.count, sum.base + $0.range.lowerBound) }
    }

    private func checkNothingDue() throws(Refusal) {
        if let headAdded { throw Refusal("the backward of \(headAdded.text) is due") }
    }

    /// Room for a gradient from elsewhere.
    func takeGradient() throws(Refusal) { if ready == nil { ready = buffers.take() } }

    func optimizerStep(_ step: DeviceStep) throws(Refusal) {
        guard let gradient = ready else { throw Refusal("no gradient is ready for an optimizer step") }
        let optimizer = configuration.optimizer
        let recipe = optimizer.recipe
        for entry in layout.entries {
            let steps = step.steps[entry.unit - configuration.units.lowerBound]
            let offset = entry.range.lowerBound
            let adamw = kernels_adamw_step(
                learning_rate: step.learningRate, beta1: recipe.beta1, beta2: recipe.beta2,
                epsilon: recipe.epsilon, weight_decay: decays(entry) ? optimizer.weightDecay : 0,
                correction1: InnerOptimizer.biasCorrection(beta: recipe.beta1, steps: steps),
                correction2: InnerOptimizer.biasCorrection(beta: recipe.beta2, steps: steps),
                gradient_scale: step.gradientScale)
            kernels_adamw(
                threads, entry.range.count, adamw, gradient.base + offset, parameters.base + offset,
                firstMoment.base + offset, secondMoment.base + offset)
        }
        try dropWork()
    }

    private func decays(_ entry: StageLayout.Entry) -> Bool {
        switch configuration.optimizer.recipe.decays {
        case .matrices: entry.isMatrix
        case .blocks: entry.isMatrix && (1...configuration.model.layers).contains(entry.unit)
        case .all: true
        }
    }

    // MARK: what is kept

    /// Forgets gradients and saved activations; they belong to weights that are no more.
    func dropWork() throws(Refusal) {
        for share in shares { buffers.giveBack(share.sum) }
        shares = []
        if let sum = open?.sum { buffers.giveBack(sum) }
        open = nil
        if let gradient = ready { buffers.giveBack(gradient) }
        ready = nil
        lastAdded = nil
        headAdded = nil
        for saved in inFlight.values { giveBack(saved) }
        inFlight = [:]
    }

    /// From now on; micro-batches in flight stay as they are.
    func recompute(_ recomputes: Bool) throws(Refusal) {
        configuration.recompute = recomputes
        spareActivations = []
        sharedActivations = nil
    }

    var workingBytes: Int {
        var seen: Set<ObjectIdentifier> = []
        let kept = Array(inFlight.values) + spareActivations + (sharedActivations.map { [$0] } ?? [])
        return (kept.flatMap(\.buffers) + arithmetic.buffers).reduce(0) {
            seen.insert(ObjectIdentifier($1)).inserted ? $0 + 4 * $1.count : $0
        }
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
}
