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
    private let parameters: StoredBuffer
    private let firstMoment, secondMoment: KeptMoments
    private let orthogonaliser: Orthogonaliser?
    private let adapters: StageAdapters?
    private let weights: StageWeights
    private let room: FloatBuffer
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
        let recipe = configuration.optimizer.recipe
        parameters = StoredBuffer(count, format: recipe.kept.weights)
        firstMoment = .first(arithmetic.layout, configuration.optimizer)
        secondMoment = .second(arithmetic.layout, configuration.optimizer)
        let hasBlocks = !configuration.units.clamped(to: 1..<configuration.model.layers + 1).isEmpty
        orthogonaliser =
            recipe.kind == .muon && hasBlocks ? Orthogonaliser(configuration.model, threads: self.threads) : nil
        adapters = recipe.adapters.map { [arithmetic, threads = self.threads] in
            StageAdapters(
                $0, layout: arithmetic.layout, shape: configuration.model, seed: configuration.seed, threads: threads)
        }
        room = FloatBuffer(
            MemoryLaw.openedValues(
                configuration.model, units: configuration.units, kept: configuration.optimizer.kept))
        weights = StageWeights(
            parameters, layout: arithmetic.layout, shape: configuration.model, room: room, adapters: adapters)
        buffers = BufferPool(count: count)
    }

    private var layout: StageLayout { arithmetic.layout }
    private var geometry: BatchGeometry { configuration.geometry }
    private var activationCount: Int { geometry.tokensPerMicroBatch * configuration.model.hiddenSize }

    func read(
        _ quantity: DeviceQuantity, unit: Int, into values: UnsafeMutablePointer<Float>
    ) throws(Refusal) {
        let range = layout.range(unit: unit)
        let gradient: FloatBuffer?
        switch quantity {
        case .parameters:
            parameters.read(range, into: values)
            adapters?.merge(unit: unit, into: values)
            return
        case .firstMoment: return firstMoment.read(unit: unit, into: values)
        case .secondMoment: return secondMoment.read(unit: unit, into: values)
        case .gradient: gradient = ready
        case .share(let node): gradient = shares.first { $0.node == node }?.sum
        }
        guard let gradient else { throw Refusal("there is no \(quantity) on the device") }
        values.update(from: gradient.base + range.lowerBound, count: range.count)
    }

    func write(_ quantity: DeviceQuantity, unit: Int, from values: UnsafePointer<Float>) throws(Refusal) {
        let range = layout.range(unit: unit)
        switch quantity {
        case .parameters:
            parameters.write(range, from: values)
            adapters?.begin(unit: unit, weights: values)
        case .firstMoment: firstMoment.write(unit: unit, from: values)
        case .secondMoment: secondMoment.write(unit: unit, from: values)
        case .gradient: place(.gradient, unit: unit)!.update(from: values, count: range.count)
        case .share(let node): throw Refusal("the sum of node \(node) is the device's own")
        }
    }
    func place(_ quantity: DeviceQuantity, unit: Int) -> UnsafeMutablePointer<Float>? {
        let first = layout.range(unit: unit).lowerBound
        switch quantity {
        case .parameters: return adapters == nil ? parameters.plain.map { $0.base + first } : nil
        case .firstMoment: return firstMoment.plain(unit: unit)?.baseAddress
        case .secondMoment: return secondMoment.plain(unit: unit)?.baseAddress
        case .share(let node): return shares.first { $0.node == node }.map { $0.sum.base + first }
        case .gradient:
            let gradient = ready ?? buffers.take()
            ready = gradient
            return gradient.base + first
        }
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
        arithmetic.forwardBlocks(weights, saved, sequences: geometry.microBatch, length: geometry.context)
        if let output { leave(saved, rows: geometry.tokensPerMicroBatch, into: output.baseAddress!) }
        if configuration.endsWithLoss { runHead(key, saved) }
        inFlight[key] = saved
        return configuration.endsWithLoss ? meanLoss(saved) : 0
    }

    /// What goes on to the next stage: the last one's is what leaves the final norm.
    private func leave(_ saved: SavedActivations, rows: Int, into output: UnsafeMutablePointer<Float>) {
        if configuration.isLast {
            arithmetic.finalNorms(weights, saved, rows: rows, into: output)
        } else {
            output.update(from: saved.output.base, count: rows * configuration.model.hiddenSize)
        }
    }
    private func meanLoss(_ saved: SavedActivations) -> Float {
        let rows = geometry.tokensPerMicroBatch
        return kernels_sum(rows, saved.losses!.base) / Float(rows)
    }

    /// The head that is lent. The table's gradient is added here where this micro-batch is the next to be added anyway; else its
    /// backward makes the logits again, so that sums are in the order of a model that is not cut.
    func head(
        _ key: MicroBatchKey, input: UnsafeBufferPointer<Float>, gradient: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) -> Float {
        guard let saved = inFlight[key], let normed = saved.normed else {
            throw Refusal("the head of \(key.text) without its forward")
        }
        normed.base.update(from: input.baseAddress!, count: activationCount)
        var table: UnsafeMutablePointer<Float>?
        if adapters == nil, headAdded == nil, inFlight.count == 1, ready == nil, isNext(key) {
            headAdded = key
            lastAdded = key
            table = openShare(key.virtualPipeline).base
        }
        arithmetic.lentHead(
            weights, normed.base, saved, rows: geometry.tokensPerMicroBatch, inputGradient: gradient.baseAddress!,
            gradient: table)
        return meanLoss(saved)
    }

    /// The head goes backward with its forward where this micro-batch is the next to be added anyway, so that logits are
    /// computed once and kept nowhere; else its backward computes them again.
    private func runHead(_ key: MicroBatchKey, _ saved: SavedActivations) {
        let rows = geometry.tokensPerMicroBatch
        if headAdded == key || adapters != nil {
            // The head's weights stand still with adapters: there is nothing to add.
            arithmetic.head(weights, nil, saved, rows: rows, inputOnly: true)
        } else if inFlight.isEmpty, headAdded == nil, ready == nil, isNext(key) {
            headAdded = key
            lastAdded = key
            arithmetic.head(weights, openShare(key.virtualPipeline).base, saved, rows: rows)
        } else {
            arithmetic.head(weights, nil, saved, rows: rows)
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
        let sum: GradientSum
        if let adapters {
            sum = .adapters(adapters)
        } else {
            let share = openShare(key.virtualPipeline)
            sum = .whole(share.base)
            if headAdded == nil { addHead(saved, to: share.base) }
        }
        headAdded = nil
        lastAdded = key
        var outputGradient = gradient?.baseAddress
        if configuration.isLast, let normed = outputGradient {
            let share: UnsafeMutablePointer<Float>? = if case .whole(let base) = sum { base } else { nil }
            arithmetic.finalNormsBackward(weights, share, saved, rows: geometry.tokensPerMicroBatch, of: normed)
            outputGradient = nil
        }
        let found = arithmetic.backward(
            weights, sum, saved, outputGradient: outputGradient,
            sequences: geometry.microBatch, length: geometry.context)
        giveBack(saved)
        inputGradient?.baseAddress!.update(from: found, count: activationCount)
    }

    /// The head's part of a micro-batch's gradient, as far as it is here.
    private func addHead(_ saved: SavedActivations, to share: UnsafeMutablePointer<Float>) {
        let rows = geometry.tokensPerMicroBatch
        if configuration.endsWithLoss {
            arithmetic.head(weights, share, saved, rows: rows)
        } else if let normed = saved.normed {
            arithmetic.lentHead(weights, normed.base, saved, rows: rows, gradient: share)
        }
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
        arithmetic.forwardBlocks(weights, saved, sequences: sequences, length: geometry.context)
        if configuration.endsWithLoss {
            arithmetic.head(weights, nil, saved, rows: rows)
            output.baseAddress!.update(from: saved.losses!.base, count: rows)
        } else {
            leave(saved, rows: rows, into: output.baseAddress!)
        }
    }

    func evaluateHead(
        sequences: Int, text: TokenText, input: UnsafeBufferPointer<Float>, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        let saved = takeActivations()
        defer { giveBack(saved) }
        guard let losses = saved.losses else { throw Refusal("the head's table is on another stage") }
        saved.text = text
        let rows = sequences * geometry.context
        arithmetic.lentHead(weights, input.baseAddress!, saved, rows: rows)
        output.baseAddress!.update(from: losses.base, count: rows)
    }

    // MARK: gradients

    /// The sum that a micro-batch's gradient is added to: with rounds one for all, else one for each virtual pipeline;
    /// micro-batches from zero in the order they come.
    private func openShare(_ virtualPipeline: Int) -> FloatBuffer {
        if let open, open.virtualPipeline == virtualPipeline || configuration.mode == .rounds { return open.sum }
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
        if let adapters {
            guard lastAdded != nil else { throw Refusal("no micro-batch has been added") }
            return adapters.finish(microBatches: microBatches)
        }
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

    func optimizerStep(_ step: DeviceStep) throws(Refusal) {
        if let adapters {
            adapters.step(step, configuration.optimizer)
            return try dropWork()
        }
        guard let gradient = ready else { throw Refusal("no gradient is ready for an optimizer step") }
        for (number, entry) in layout.entries.enumerated() {
            let steps = step.steps[entry.unit - configuration.units.lowerBound]
            let own = gradient.base + entry.range.lowerBound
            if configuration.optimizer.orthogonalises(entry) {
                stepByMuon(step, entry, own, steps: steps)
            } else {
                stepByAdam(step, entry, own, steps: steps, secondAt: secondMoment.place(number))
            }
        }
        try dropWork()
    }

    private func stepByAdam(
        _ step: DeviceStep, _ entry: StageLayout.Entry, _ gradient: UnsafePointer<Float>, steps: Int, secondAt: Int
    ) {
        let optimizer = configuration.optimizer
        let recipe = optimizer.recipe
        let offset = entry.range.lowerBound
        let adamw = kernels_adamw_step(
            learning_rate: step.learningRate, beta1: recipe.beta1, beta2: recipe.beta2,
            epsilon: recipe.epsilon, weight_decay: decays(entry) ? optimizer.weightDecay : 0,
            correction1: InnerOptimizer.biasCorrection(beta: recipe.beta1, steps: steps),
            correction2: InnerOptimizer.biasCorrection(beta: recipe.beta2, steps: steps),
            gradient_scale: step.gradientScale)
        kernels_adamw_stored(
            threads, entry.range.count, adamw, roundingKey(entry, steps), gradient,
            parameters.stored(from: offset), firstMoment.kept.stored(from: offset),
            secondMoment.kept.stored(from: secondAt))
    }

    /// m ← µm + g, u = g + µm, W ← (1 − ηλ)W − 0.2·η·√max(rows, columns)·orthogonal(u).
    private func stepByMuon(
        _ step: DeviceStep, _ entry: StageLayout.Entry, _ gradient: UnsafePointer<Float>, steps: Int
    ) {
        let (rows, columns) = (entry.tensor.shape[0], entry.tensor.shape[1])
        let offset = entry.range.lowerBound
        let key = roundingKey(entry, steps)
        let update = orthogonaliser!.matrix.base
        kernels_momentum_stored(
            threads, entry.range.count, step.gradientScale, configuration.optimizer.recipe.momentum, key, gradient,
            firstMoment.kept.stored(from: offset), update)
        orthogonaliser!.run(rows: rows, columns: columns)
        let decay = decays(entry) ? configuration.optimizer.weightDecay : 0
        let size = 0.2 * Float(max(rows, columns)).squareRoot()
        kernels_move_stored(
            threads, entry.range.count, 1 - step.learningRate * decay, -step.learningRate * size, key, update,
            parameters.stored(from: offset))
    }

    /// Of the chances that numbers kept in bf16 are rounded by: the same wherever a tensor is held.
    private func roundingKey(_ entry: StageLayout.Entry, _ steps: Int) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325 ^ configuration.seed  // FNV-1a
        for byte in entry.tensor.name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash ^= UInt64(truncatingIfNeeded: steps) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash >> 30) &* 0xbf58_476d_1ce4_e5b9  // splitmix64
        hash = (hash ^ hash >> 27) &* 0x94d0_49bb_1331_11eb
        return hash ^ hash >> 31
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
        adapters?.dropGradients()
        for saved in inFlight.values { giveBack(saved) }
        inFlight = [:]
    }

    /// From now on; micro-batches in flight stay as they are.
    func recompute(_ recomputes: Bool) throws(Refusal) {
        configuration.recompute = recomputes
        spareActivations = []
        sharedActivations = nil
    }

    var keptBytes: Int {
        let recipe = configuration.optimizer.recipe
        return parameters.count * recipe.kept.weights.bytes
            + (firstMoment.kept.count + secondMoment.kept.count) * recipe.kept.state.bytes
    }
    var workingBytes: Int {
        var seen: Set<ObjectIdentifier> = []
        let kept = Array(inFlight.values) + spareActivations + (sharedActivations.map { [$0] } ?? [])
        return
            (kept.flatMap(\.buffers) + arithmetic.buffers + [room] + (orthogonaliser?.buffers ?? [])
            + (adapters?.buffers ?? [])).reduce(0) {
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
