public import Compute
public import Exchange
internal import Kernels
public import Primitives
public import Topologies

/// What is wrong with a job file.
public typealias ManifestError = FileProblem

/// A value that the planner chooses unless the job gives it.
public enum Setting<Value: Hashable & Sendable>: Hashable, Sendable {
    case auto
    case fixed(Value)
    /// nil for `auto`.
    public var value: Value? {
        if case .fixed(let value) = self { return value }
        return nil
    }
}

/// Where the training text is.
public enum DataSource: Hashable, Sendable {
    /// A file at the launcher.
    case path(String)
    /// A content ID: 64 hexadecimal digits.
    case content(String)
    /// Several files at the launcher, in shares by weight.
    case mixture([MixedFile])

    public struct MixedFile: Hashable, Sendable {
        public var path: String
        public var weight: Double
        public init(path: String, weight: Double) {
            self.path = path
            self.weight = weight
        }
    }
}

/// A job as its launcher wrote it: an architecture and numbers, never code. `docs/TOPOLOGY.md` lists the keys.
///
/// The signed genesis manifest is ``canonicalText``.
public struct JobManifest: Hashable, Sendable {
    public typealias Schedule = InnerOptimizer.Schedule
    public enum Tokenizer: String, Hashable, Sendable, CaseIterable {
        /// One token a byte.
        case byte
        /// The data are files of tokens, or texts that the launcher makes into one.
        case ids
    }

    public var name: String
    public var model: ModelShape
    /// Where the model's first weights come from.
    public struct Beginning: Hashable, Sendable {
        /// A folder at the launcher whose model the job continues; no part of the signed text, which has ``units``.
        public var folder: String?
        /// Contents of the units that the job begins with, unit by unit; empty: they are drawn from the seed.
        public var units: [Digest256] = []
        public init() {}
    }
    public var beginning = Beginning()
    public var data: DataSource
    /// What the data are made of, as far as it is known.
    public struct Text: Hashable, Sendable {
        /// What the text's tokens are.
        public var tokenizer = Tokenizer.byte
        /// Of files of tokens, as signed: how many there are.
        public var tokens: Int?
        /// Of a mixture, as signed: its sources, one after the other; empty: there is one.
        public var parts: [DataPart] = []
        /// Of the whole text; it is no part of the manifest.
        public var bytes: Int?
        public init() {}
    }
    public var text = Text()
    /// f: the last ⌊n·f⌋ bytes are for validation, in 0…0.5.
    public var validationFraction: Double
    /// More tokens than these no job trains on.
    public static let mostTokens = 1_000_000_000_000_000
    /// How many tokens to train on, in all.
    public var tokens: Int
    /// Tokens of one step: a multiple of V·m·T.
    public var batchTokens: Setting<Int>
    /// B_c.
    public var criticalBatchTokens: Setting<Int> = .auto
    public var optimizer: InnerOptimizer.Kind
    public var learningRate: Double
    public var schedule: Schedule
    /// Tokens over which the learning rate rises to its peak.
    public var warmupTokens: Setting<Int>
    public var weightDecay: Double
    /// Largest global gradient norm; zero for no clipping.
    public var clip: Double
    /// What most jobs leave as it is.
    public var recipe = InnerOptimizer.Recipe()
    public var seed: UInt64
    /// V: a power of two is not needed.
    public var virtualPipelines: Int
    /// m, in sequences.
    public var microBatch: Int
    /// M.
    public var pipelines: Setting<Int>
    /// Stages of every pipeline.
    public var stages: Setting<Int>
    /// Whether stages keep the inputs of their blocks only, and run forward again; auto: those that fit no other way, where it
    /// pays.
    public var recompute: Setting<Bool> = .auto
    /// H.
    public var innerSteps: Setting<Int>
    public var exchangeCodec: Setting<Codec>
    /// τ: inner steps behind which the exchange is hidden.
    public var exchangeDelay: Setting<Int>
    /// How contributions become aggregates.
    public var exchangeWay: Setting<ExchangeWay> = .auto
    /// How much higher than with H = 1 in fp32 the predicted loss may be: 0.05 for 5 %.
    public var qualityBudget: Double
    public var activationCodec: Setting<Codec>
    /// Who carries the record of the job: how many machines (1, 3, 4 or 5), whose keys may found it anew beside the launcher's, and whose may
    /// collect its result.
    public struct Electors: Hashable, Sendable {
        public var count = Setting.fixed(1)
        public var recovery: RecoveryKeys?
        /// Ascending, at most ``mostCollectors``.
        public var collectors: [PeerID] = []
        public static let mostCollectors = 16
        public init() {}
    }
    public var electors = Electors()
    /// How often the whole model is collected, on how many peers outside a unit's layer group copies are to be, how many checkpoints the
    /// launcher keeps for readers of models, and when it is gone back to one.
    public struct Checkpoints: Hashable, Sendable {
        public var everyRounds = 10
        public var copies = 2
        /// Nil: all.
        public var keep: Int?
        /// What becomes of a job whose loss or gradient is not finite.
        public var onDivergence = OnDivergence.stop
        public enum OnDivergence: String, Hashable, Sendable, CaseIterable {
            /// It ends, and says why.
            case stop
            /// One more try from the last good round, at half the learning rate; then it ends.
            case retreat
        }
        public init() {}
    }
    public var checkpoint = Checkpoints()

    /// How many peers the shape that was asked for needs.
    public var neededPeers: Int { max(1, (pipelines.value ?? 1) * (stages.value ?? 1)) }

    /// The defaults are those of a job file that leaves the key out.
    public init(
        name: String, model: ModelShape, data: DataSource, tokens: Int, validationFraction: Double = 0.05,
        virtualPipelines: Int = 8, microBatch: Int = 4
    ) {
        self.name = name
        self.model = model
        self.data = data
        self.validationFraction = validationFraction
        self.tokens = tokens
        self.batchTokens = .auto
        self.optimizer = .adamw
        self.learningRate = 3e-3
        self.schedule = .cosine
        self.warmupTokens = .auto
        self.weightDecay = 0.1
        self.clip = 1
        self.seed = 1
        self.virtualPipelines = virtualPipelines
        self.microBatch = microBatch
        self.pipelines = .auto
        self.stages = .auto
        self.innerSteps = .auto
        self.exchangeCodec = .auto
        self.exchangeDelay = .auto
        self.qualityBudget = 0.05
        self.activationCodec = .auto
    }

    /// How the batch is cut with `k` micro-batches for each virtual pipeline.
    public func geometry(microBatchesPerVirtual k: Int) -> BatchGeometry {
        BatchGeometry(
            virtualPipelines: virtualPipelines, microBatch: microBatch, microBatchesPerVirtual: k,
            context: model.context)
    }
    /// k where the batch is given, else nil.
    public var fixedMicroBatchesPerVirtual: Int? {
        batchTokens.value.map { max(1, $0 / geometry(microBatchesPerVirtual: 1).batchTokens) }
    }
    /// B_c: given, or usual for a model of this size and so many tokens.
    public var criticalBatch: CriticalBatch {
        CriticalBatch(
            tokens: criticalBatchTokens.value.map { Double($0) }
                ?? JobManifest.usualCriticalBatch(parameters: model.parameters, tokens: tokens))
    }
    /// What a batch of `k` micro-batches for each virtual pipeline trains on: `tokens` where the batch is given or the smallest, and as
    /// much more as a larger one needs for the same loss where the planner may choose.
    public func tokens(microBatchesPerVirtual k: Int) -> Int {
        guard batchTokens == .auto, k > 1 else { return tokens }
        return criticalBatch.budget(
            tokens, batch: geometry(microBatchesPerVirtual: k).batchTokens,
            reference: geometry(microBatchesPerVirtual: 1).batchTokens)
    }
    /// Optimizer steps until the tokens are spent, at least one.
    public func steps(microBatchesPerVirtual k: Int) -> Int {
        let batch = geometry(microBatchesPerVirtual: k).batchTokens
        return max(1, (tokens(microBatchesPerVirtual: k) + batch - 1) / batch)
    }

    /// B_c where nobody gives or measured one: 2048 × .01361·N^.435 tokens, the best batch of a single pipeline after 20 tokens a parameter
    /// (Charles et al. 2025, 2503.09799, table of best batches, read as sequences of 2048), × (D ÷ 20N)^.47: it grows with the
    /// data (Zhang et al. 2024, 2410.21676).
    public static func usualCriticalBatch(parameters: Int, tokens: Int) -> Double {
        let (size, data) = (Double(max(1, parameters)), Double(max(1, tokens)))
        return max(1, 2048 * 0.01361 * kernels_pow(size, 0.435) * kernels_pow(data / (20 * size), 0.47))
    }
    /// Given, or a twentieth of the job.
    public var resolvedWarmupTokens: Int { warmupTokens.value ?? tokens / 20 }

    /// How a pipeline steps.
    public var innerOptimizer: InnerOptimizer {
        var out = InnerOptimizer(
            learningRate: Float(learningRate), clip: Float(clip), schedule: schedule,
            warmupTokens: resolvedWarmupTokens,
            totalTokens: tokens)
        out.weightDecay = Float(weightDecay)
        out.recipe = recipe
        out.recipe.kind = optimizer
        return out
    }
}
