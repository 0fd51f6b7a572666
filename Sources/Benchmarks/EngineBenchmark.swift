internal import Compute
internal import Kernels
public import Primitives
internal import Training

/// A training step (forward, backward, AdamW) of a fixed model, to be timed by the caller, who owns a clock.
public struct EngineBenchmark: Sendable {
    /// The models of `make bench-engine`.
    public enum Model: String, CaseIterable, Sendable {
        /// 1.1 M parameters: V 256, d 128, F 384, 5 layers, 4 heads; 16 sequences of 128.
        case small = "1m"
        /// 16.7 M parameters: V 8192, d 288, F 768, 12 layers, 6 heads; 8 sequences of 256.
        case medium = "15m"
        /// 134.5 M parameters, SmolLM2's shape: V 49152 (tied), d 576, F 1536, 30 layers, 9 heads on 3; 4 sequences of 256.
        case large = "134m"
    }
    public let model: Model
    public let shape: ModelShape
    public let sequences: Int
    private let engine: StageEngine
    private var step = 0

    public init(_ model: Model, threads: Int) {
        self.model = model
        (shape, sequences) = model.size
        var generator = SeededGenerator(seed: 1)
        engine = StageEngine(corpus: generator.bytes(100_000), threads: threads)
        let optimizer = InnerOptimizer(
            learningRate: 3e-4, clip: 0, schedule: .constant, warmupTokens: 0, totalTokens: 1_000_000)
        let configuration = StageConfiguration(
            model: shape, units: shape.allUnits,
            geometry: BatchGeometry(
                virtualPipelines: 1, microBatch: sequences, microBatchesPerVirtual: 1, context: shape.context),
            seed: 1, optimizer: optimizer, mode: .rounds, exchangeCodec: .fp32, activationCodec: .fp32,
            validationFraction: 0)
        let result = engine.perform(.configure(configuration))
        precondition(result == .done, "the benchmark's model was refused: \(result)")
    }

    public var parameters: Int { shape.parameters }
    /// Of one step: forward and backward.
    public var flops: Double { 3 * shape.forwardFLOPs(units: shape.allUnits, sequences: sequences) }

    /// One step; answers its loss.
    public mutating func runStep() -> Float {
        let key = MicroBatchKey(step: step, virtualPipeline: 0, index: 0)
        guard case .loss(let loss) = engine.perform(.forward(key, input: [])) else { preconditionFailure("forward") }
        _ = engine.perform(.backward(key, gradient: []))
        _ = engine.perform(.finishGradient(microBatches: 1))
        let result = engine.perform(.optimizerStep(norm: 1, learningRate: 3e-4))
        precondition(result == .done, "the benchmark's step was refused: \(result)")
        step += 1
        return loss
    }

    /// Which instructions the kernels use, for the report.
    public static var instructionSet: String {
        switch kernels_current_instruction_set() {
        case KERNELS_AVX512: "avx512"
        case KERNELS_AVX2: "avx2"
        case KERNELS_NEON: "neon"
        default: "scalar"
        }
    }

    /// Times `steps` steps with the caller's clock of process CPU seconds and answers one JSON line for each model.
    public static func run(
        models: [Model], threads: Int, steps: Int, cpuSeconds: () -> Double
    ) -> [String] {
        models.map { model in
            var benchmark = EngineBenchmark(model, threads: threads)
            var best = Double.infinity
            var loss = benchmark.runStep()
            for _ in 0..<max(1, steps) {
                let start = cpuSeconds()
                loss = benchmark.runStep()
                best = min(best, cpuSeconds() - start)
            }
            return """
                {"engine": "atoll", "model": "\(model.rawValue)", "parameters": \(benchmark.parameters), \
                "threads": \(threads), "instructions": "\(instructionSet)", \
                "cpu_milliseconds_per_step": \(fixed(best * 1e3, 2)), \
                "gflops": \(fixed(benchmark.flops / best / 1e9, 1)), "loss": \(fixed(Double(loss), 4))}
                """
        }
    }
}

extension EngineBenchmark.Model {
    /// Its shape, and how many sequences a step has.
    var size: (shape: ModelShape, sequences: Int) {
        switch self {
        case .small:
            (ModelShape(hiddenSize: 128, layers: 5, heads: 4, kvHeads: 4, intermediateSize: 384, context: 128), 16)
        case .medium:
            (
                ModelShape(
                    hiddenSize: 288, layers: 12, heads: 6, kvHeads: 6, intermediateSize: 768, context: 256,
                    vocabulary: 8192), 8
            )
        case .large:
            (
                ModelShape(
                    hiddenSize: 576, layers: 30, heads: 9, kvHeads: 3, intermediateSize: 1536, context: 256,
                    vocabulary: 49_152, tieWordEmbeddings: true), 4
            )
        }
    }
}
