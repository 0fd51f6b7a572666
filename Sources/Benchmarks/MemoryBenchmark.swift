internal import CPU
internal import Compute
public import Primitives
internal import Training
public import Wire

/// One stage through a step and, with rounds, an exchange with itself: so that a caller who can see the process' memory can hold
/// it against the law.
public struct MemoryBenchmark: Sendable {
    public var model: EngineBenchmark.Model
    public var units: Range<Int>
    /// T, where not the model's own.
    public var context: Int?
    public var sequences = 1
    public var inFlight = 1
    public var rounds = false
    public var recompute = false
    public var kept = KeptFormats()
    /// With rounds a lossy one, whose error feedback the law counts.
    public var codec: Codec { rounds ? .int4 : .fp32 }
    public init(model: EngineBenchmark.Model, units: Range<Int>? = nil) {
        self.model = model
        self.units = units ?? model.size.shape.allUnits
    }

    private var shape: ModelShape {
        var shape = model.size.shape
        shape.context = context ?? shape.context
        return shape
    }

    public var law: ByteCount {
        shape.memory(
            units: units, rounds: rounds, sequences: sequences, inFlight: inFlight, recompute: recompute, kept: kept)
    }

    /// Answers why it cannot be done; nil when it is done.
    /// - Parameter room: as a peer has it, where a round's first moments are.
    public func run(threads: Int, room: (any ByteRoom)?) -> String? {
        let shape = shape
        var optimizer = InnerOptimizer(learningRate: 1e-3, warmupTokens: 0, totalTokens: 1_000_000)
        optimizer.recipe.kept = kept
        optimizer.recipe.kind = kept.hasSecondMoments ? .adamw : .muon
        let configuration = StageConfiguration(
            model: shape, units: units,
            geometry: BatchGeometry(
                virtualPipelines: 1, microBatch: sequences, microBatchesPerVirtual: inFlight, context: shape.context),
            seed: 1, optimizer: optimizer, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9),
            mode: rounds ? .rounds : .everyStep, exchangeCodec: codec, activationCodec: .bf16, validationFraction: 0,
            recompute: recompute)
        var generator = SeededGenerator(seed: 1)
        let engine = StageEngine(
            corpus: generator.bytes(4 * shape.context + 2), on: CPUEngine(threads: threads), threads: threads,
            room: room)
        func activation() -> [UInt8] {
            [UInt8](repeating: 0, count: 2 * shape.activationValues(sequences: sequences))
        }
        var jobs: [ComputeJob] = [.configure(configuration)]
        let keys = (0..<inFlight).map { MicroBatchKey(step: 0, virtualPipeline: 0, index: $0) }
        jobs += keys.map { .forward($0, input: configuration.isFirst ? [] : activation()) }
        if configuration.lendsTable { jobs += keys.map { .head($0, input: activation()) } }
        jobs += keys.map { .backward($0, gradient: configuration.endsWithLoss ? [] : activation()) }
        if rounds { jobs += [.finishGradient(microBatches: inFlight), .optimizerStep(norm: 1, learningRate: 1e-3)] }
        for job in jobs {
            if case .refused(let why) = engine.perform(job) { return why }
        }
        guard case .contribution(let parts) = engine.perform(.encodeContribution) else { return "no contribution" }
        let all = [RankedContribution(rank: 0, microBatches: inFlight, units: parts)]
        let last: [ComputeJob] =
            rounds ? [.outerStep(all)] : [.aggregateGradients(all), .optimizerStep(norm: 1, learningRate: 1e-3)]
        for job in last {
            if case .refused(let why) = engine.perform(job) { return why }
        }
        return nil
    }
}
