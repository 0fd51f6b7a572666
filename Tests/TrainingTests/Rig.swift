import Digests
import Primitives
import Training

/// Small jobs for tests, and pipelines of stage engines that pass bytes to each other as peers do.
enum Small {
    /// Grouped heads, odd sizes: nothing is a multiple of a vector.
    static let model = ModelShape(
        hiddenSize: 24, layers: 3, heads: 4, kvHeads: 2, intermediateSize: 40, context: 18)

    static let corpus: [UInt8] = (0..<3000).map { (i: Int) in UInt8((i * i * 7 + i * 3 + 11) % 97 + 32) }

    static func configuration(
        model: ModelShape = model, mode: ExchangeMode = .everyStep, codec: Codec = .fp32, activations: Codec = .fp32,
        virtualPipelines: Int = 5, microBatches: Int = 2, microBatch: Int = 2, outer: OuterOptimizer = OuterOptimizer()
    ) -> StageConfiguration {
        StageConfiguration(
            model: model, units: model.allUnits,
            geometry: BatchGeometry(
                virtualPipelines: virtualPipelines, microBatch: microBatch, microBatchesPerVirtual: microBatches,
                context: model.context),
            seed: 3,
            optimizer: InnerOptimizer(learningRate: 0.01, warmupTokens: 0, totalTokens: 100_000), outer: outer,
            mode: mode, exchangeCodec: codec, activationCodec: activations, validationFraction: 0.1)
    }
}

/// M pipelines, each cut into stages in its own way, training in step.
struct Rig {
    let configuration: StageConfiguration
    /// By pipeline, by stage.
    let engines: [[StageEngine]]
    /// The virtual pipelines of each pipeline.
    let virtuals: [[Int]]

    /// - Parameter recomputing: which stages, counted along all pipelines, recompute.
    init(
        _ configuration: StageConfiguration, cuts: [[Range<Int>]], virtuals: [[Int]], threads: Int = 1,
        recomputing: Set<Int> = []
    ) {
        self.configuration = configuration
        self.virtuals = virtuals
        var count = 0
        engines = cuts.map { stages in
            stages.map { units in
                var own = configuration
                own.units = units
                own.recompute = recomputing.contains(count)
                count += 1
                let corpus = own.isFirst || own.isLast ? Small.corpus : []
                let engine = StageEngine(corpus: corpus, threads: threads)
                let result = engine.perform(.configure(own))
                precondition(result == .done, "\(result)")
                return engine
            }
        }
    }

    /// All micro-batches of a pipeline's share; `inFlight` forwards run ahead of the backwards.
    func runMicroBatches(_ rank: Int, step: Int, inFlight: Int = 3) -> [Float] {
        let stages = engines[rank]
        let keys = virtuals[rank].flatMap { virtual in
            (0..<configuration.geometry.microBatchesPerVirtual).map {
                MicroBatchKey(step: step, virtualPipeline: virtual, index: $0)
            }
        }
        var losses: [Float] = []
        for (position, key) in keys.enumerated() {
            losses.append(forward(stages, key))
            if position + 1 >= inFlight { backward(stages, keys[position + 1 - inFlight]) }
        }
        for key in keys.suffix(min(inFlight - 1, keys.count)) { backward(stages, key) }
        return losses
    }

    /// Where embeddings are tied, what leaves the last stage goes round to the first, and its gradient back from there.
    func forward(_ stages: [StageEngine], _ key: MicroBatchKey) -> Float {
        var message: [UInt8] = []
        for stage in stages {
            switch stage.perform(.forward(key, input: message)) {
            case .activation(let bytes): message = bytes
            case .loss(let loss): return loss
            case let other: preconditionFailure("\(other)")
            }
        }
        guard case .head(let loss, let gradient) = stages[0].perform(.head(key, input: message)) else {
            preconditionFailure("no last stage")
        }
        headGradients.byKey[key] = gradient
        return loss
    }
    /// From first stages, for the last ones.
    private final class HeadGradients { var byKey: [MicroBatchKey: [UInt8]] = [:] }
    private let headGradients = HeadGradients()

    func backward(_ stages: [StageEngine], _ key: MicroBatchKey) {
        var message = headGradients.byKey.removeValue(forKey: key) ?? []
        for stage in stages.reversed() {
            guard case .inputGradient(let bytes) = stage.perform(.backward(key, gradient: message)) else {
                preconditionFailure("backward")
            }
            message = bytes
        }
    }

    /// Sum of losses and tokens of validation windows.
    func evaluate(_ windows: Range<Int>, rank: Int = 0) -> (sum: Double, tokens: Int) {
        var message: [UInt8] = []
        let jobs = engines[rank].map { ($0, false) } + [(engines[rank][0], true)]
        for (stage, isHead) in jobs {
            let result = stage.perform(
                isHead
                    ? .evaluateHead(windows: windows, input: message) : .evaluate(windows: windows, input: message))
            switch result {
            case .activation(let bytes): message = bytes
            case .evaluation(let sum, let tokens): return (sum, tokens)
            case let other: preconditionFailure("\(other)")
            }
        }
        preconditionFailure("no loss")
    }

    func contribution(_ rank: Int, microBatches: Int) -> RankedContribution {
        let units = engines[rank].flatMap { stage in
            guard case .contribution(let units) = stage.perform(.encodeContribution) else {
                preconditionFailure("encodeContribution")
            }
            return units
        }
        return RankedContribution(rank: rank, microBatches: microBatches, units: units)
    }

    /// Gradients are exchanged, then everybody takes the step. Answers the losses of all micro-batches.
    func step(_ step: Int, learningRate: Float = 0.01) -> [Float] {
        let losses = engines.indices.flatMap { runMicroBatches($0, step: step) }
        let contributions = engines.indices.map { rank in
            contribution(
                rank, microBatches: virtuals[rank].count * configuration.geometry.microBatchesPerVirtual)
        }
        for stages in engines {
            apply(stages, .aggregateGradients(contributions), learningRate: learningRate)
        }
        return losses
    }

    /// One inner step of one pipeline.
    @discardableResult func innerStep(_ rank: Int, step: Int, learningRate: Float = 0.01) -> [Float] {
        let microBatches = virtuals[rank].count * configuration.geometry.microBatchesPerVirtual
        let losses = runMicroBatches(rank, step: step)
        apply(engines[rank], .finishGradient(microBatches: microBatches), learningRate: learningRate)
        return losses
    }

    /// `innerSteps` steps for each pipeline on its own, then an outer step for all.
    func round(_ steps: Range<Int>, learningRate: Float = 0.01, isLast: Bool = false) -> [Float] {
        let taken = configuration.outer.contributes(afterStep: steps.count, isLast: isLast)
        var losses: [Float] = []
        var contributions: [RankedContribution] = []
        for rank in engines.indices {
            let microBatches = virtuals[rank].count * configuration.geometry.microBatchesPerVirtual
            for (done, step) in steps.enumerated() {
                losses += innerStep(rank, step: step, learningRate: learningRate)
                if done + 1 == taken {
                    contributions.append(contribution(rank, microBatches: microBatches * steps.count))
                }
            }
        }
        for stages in engines {
            for stage in stages {
                let result = stage.perform(.outerStep(contributions))
                guard case .digests = result else { preconditionFailure("\(result)") }
            }
        }
        return losses
    }

    private func apply(_ stages: [StageEngine], _ job: ComputeJob, learningRate: Float) {
        let sums = stages.flatMap { stage in
            guard case .sumSquares(let sums) = stage.perform(job) else { preconditionFailure("\(job)") }
            return sums
        }
        for stage in stages {
            let result = stage.perform(.optimizerStep(norm: gradientNorm(sums), learningRate: learningRate))
            precondition(result == .done, "\(result)")
        }
    }

    /// Digests of all units of one pipeline, by unit.
    func digests(_ rank: Int = 0) -> [UnitDigests] {
        var all: [Int: UnitDigests] = [:]
        for stage in engines[rank] {
            guard case .digests(let digests, _) = stage.perform(.digests) else { preconditionFailure("digests") }
            all.merge(digests) { first, _ in first }
        }
        return configuration.model.allUnits.map { all[$0]! }
    }
}

/// The reason of a refusal; nil for every other answer.
func refusal(_ result: ComputeResult) -> String? {
    if case .refused(let reason) = result { reason } else { nil }
}
