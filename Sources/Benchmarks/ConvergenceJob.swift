internal import Compute
internal import Exchange
public import Primitives
public import Training

/// What compression and rare exchange cost in loss: a small job whose weights, sequences and validation windows were
/// written down by another program (`Tools/exchange/export_reference.py`), run by ``LocalTrainer`` with the real engine
/// and the real codecs. Each worker is a pipeline of one stage with Adam moments of its own.
public struct ConvergenceJob: Sendable {
    public var corpus: [UInt8]
    public var initial: ModelParameters
    /// The windows of each step's sequences, worker by worker.
    public var order: RecordedOrder
    /// First bytes of the windows that the final loss is taken over; a multiple of ``validationBatch`` of them.
    public var validationStarts: [Int]
    public var workers: Int
    public var learningRate: Float
    public var warmupSteps: Int
    /// Of the inner steps.
    public var optimizer = InnerOptimizer.Kind.adamw

    public init(
        corpus: [UInt8], initial: ModelParameters, order: RecordedOrder, validationStarts: [Int], workers: Int,
        learningRate: Float, warmupSteps: Int
    ) {
        self.corpus = corpus
        self.initial = initial
        self.order = order
        self.validationStarts = validationStarts
        self.workers = workers
        self.learningRate = learningRate
        self.warmupSteps = warmupSteps
    }

    /// Windows of one forward pass of the final evaluation.
    public static let validationBatch = 16

    public struct Outcome: Hashable, Sendable {
        /// Nats a byte over the validation windows, on the outer parameters.
        public var loss: Double
        public var rounds: Int
        /// Bytes that one worker encodes in all, one copy, lengths of the tensors' messages included.
        public var payloadBytes: Int
        /// fp32 gradients every step ÷ payload.
        public var bytesRatio: Double
        public var parameters: Int
        public var weightsDigest: String
    }

    /// - Parameters:
    ///   - innerSteps: H; 1 exchanges gradients, unless `localSteps` asks for rounds of one step.
    ///   - onRound: steps done and the round's mean training loss.
    public func run(
        codec: Codec, innerSteps: Int, outer: OuterOptimizer, localSteps: Bool = false, threads: Int = 1,
        onRound: (Int, Float) -> Void = { _, _ in }
    ) throws(TrainingError) -> Outcome {
        let perWorker = order.sequencesPerStep / workers
        let geometry = BatchGeometry(
            virtualPipelines: workers, microBatch: perWorker, microBatchesPerVirtual: 1, context: initial.shape.context)
        var optimizer = InnerOptimizer(
            learningRate: learningRate, warmupTokens: warmupSteps * geometry.batchTokens,
            totalTokens: order.steps * geometry.batchTokens)
        optimizer.recipe.kind = self.optimizer
        let configuration = StageConfiguration(
            model: initial.shape, units: initial.shape.allUnits, geometry: geometry, seed: 0, optimizer: optimizer,
            outer: outer, mode: innerSteps == 1 && !localSteps ? .everyStep : .rounds, exchangeCodec: codec,
            activationCodec: .fp32, validationFraction: 0)
        var trainer = LocalTrainer(
            configuration: configuration, pipelines: (0..<workers).map { [$0] }, innerSteps: innerSteps,
            totalSteps: order.steps)
        trainer.validationEvery = 0
        trainer.initial = initial
        trainer.recorded = order
        var rounds = 0, payload = 0
        let final = try trainer.run(corpus: CorpusBytes(corpus), threads: threads) { report in
            rounds += 1
            payload += report.contributionBytes
            onRound(report.steps, report.trainLoss)
            return true
        }
        let everyStep = 4 * Double(initial.shape.parameters) * Double(order.steps)
        return Outcome(
            loss: try validationLoss(final, configuration, threads: threads), rounds: rounds, payloadBytes: payload,
            bytesRatio: everyStep / Double(max(1, payload)), parameters: initial.shape.parameters,
            weightsDigest: final.weightsDigest.hex)
    }

    /// The mean over the validation windows, which are read as training windows of an engine that never steps.
    private func validationLoss(
        _ parameters: ModelParameters, _ configuration: StageConfiguration, threads: Int
    ) throws(TrainingError) -> Double {
        let batch = Self.validationBatch
        var configuration = configuration
        configuration.geometry = BatchGeometry(
            virtualPipelines: 1, microBatch: batch, microBatchesPerVirtual: 1, context: initial.shape.context)
        let windows = RecordedOrder(starts: validationStarts, sequencesPerStep: batch)
        let engine = StageEngine(corpus: corpus, threads: threads, recorded: windows)
        for job in [.configure(configuration), .importState(parameters.states)] as [ComputeJob] {
            if case .refused(let reason) = engine.perform(job) { throw .refused(reason) }
        }
        var sum = 0.0
        for step in 0..<windows.steps {
            let key = MicroBatchKey(step: step, virtualPipeline: 0, index: 0)
            guard case .loss(let loss) = engine.perform(.forward(key, input: [])) else {
                throw .unexpected(job: "forward")
            }
            sum += Double(loss)
            _ = engine.perform(.rewind)
        }
        return sum / Double(windows.steps)
    }
}
