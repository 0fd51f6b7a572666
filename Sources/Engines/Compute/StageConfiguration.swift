public import Primitives

/// How often peers exchange.
public enum ExchangeMode: Hashable, Sendable {
    /// H = 1: gradients are averaged, then one optimizer step.
    case everyStep
    /// H > 1: pseudo-gradients after H inner steps, then an outer step.
    case rounds
}

public struct OuterOptimizer: Hashable, Sendable {
    /// 1 and 0: plain averaging of the pipelines' weights. Nesterov momentum as in DiLoCo (2311.08105) otherwise.
    public var learningRate: Float
    public var momentum: Float
    /// What the error feedback of a sparse codec is multiplied by each round.
    public var feedbackDecay: Float
    /// τ: so many inner steps before a round's end the contribution is taken and sent, and the steps go on while it travels
    /// (Streaming DiLoCo, 2501.18512, §2.3; Eager Updates, 2502.12996). 0: nothing is hidden behind steps.
    public var delay: Int
    /// With a delay: the share of what those steps have changed that a pipeline keeps. (The published blend
    /// θ ← α·θ + (1 − α)·Φ also pulls back what the outer step has just moved, and costs several times as much loss here:
    /// docs/BENCHMARKS.md.)
    public var carry: Float
    public init(
        learningRate: Float = 1, momentum: Float = 0, feedbackDecay: Float = Codec.feedbackDecay, delay: Int = 0,
        carry: Float = OuterOptimizer.usualCarry
    ) {
        self.learningRate = learningRate
        self.momentum = momentum
        self.feedbackDecay = feedbackDecay
        self.delay = delay
        self.carry = carry
    }
    public static let usualCarry: Float = 0.5

    /// After how many of a round's inner steps its contribution is taken: at least one, and all of them in the job's last round,
    /// after which nothing travels any more.
    public func contributes(afterStep steps: Int, isLast: Bool) -> Int {
        isLast ? steps : max(1, steps - delay)
    }
}

/// AdamW or Muon with decoupled weight decay, and a learning-rate schedule counted in sealed tokens.
public struct InnerOptimizer: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        case adamw
        /// The blocks' matrices move along their orthogonalised momentum (Jordan 2024), scaled so that AdamW's learning rates
        /// serve (Liu et al. 2025, 2502.16982, §2.2); everything else by AdamW.
        case muon
    }
    /// What follows the warm-up.
    public enum Schedule: String, Hashable, Sendable, CaseIterable {
        case constant, cosine, linear
        /// Constant, and linear over the last ``InnerOptimizer/Recipe/decayTokens`` (warm-up, stable, decay).
        case wsd
    }
    public var learningRate: Float
    public var weightDecay: Float = 0.1
    /// Largest global gradient norm; zero for no clipping.
    public var clip: Float = 1
    public var schedule: Schedule
    public var warmupTokens: Int
    public var totalTokens: Int
    public var recipe = Recipe()
    public init(
        learningRate: Float, clip: Float = 1, schedule: Schedule = .cosine, warmupTokens: Int, totalTokens: Int
    ) {
        self.learningRate = learningRate
        self.clip = clip
        self.schedule = schedule
        self.warmupTokens = warmupTokens
        self.totalTokens = totalTokens
    }

    /// What a stage keeps for it.
    public var kept: KeptFormats {
        var out = recipe.kept
        out.hasSecondMoments = recipe.kind == .adamw
        out.adapters = recipe.adapters
        return out
    }

    /// What most jobs leave as it is.
    public struct Recipe: Hashable, Sendable {
        public var kind = Kind.adamw
        /// Of Muon.
        public var momentum: Float = 0.95
        public var beta1: Float = 0.9
        public var beta2: Float = 0.95
        public var epsilon: Float = 1e-8
        public var decays = DecayTargets.matrices
        /// The share of the peak that the learning rate falls to.
        public var finalShare: Float = 0.1
        /// Of `wsd`: so many tokens before the end it begins to fall. Zero: a fifth of all.
        public var decayTokens: Int = 0
        /// What the squared logarithm of the softmax's sum weighs in the gradient (PaLM, 2204.02311, §5); reported losses are
        /// without.
        public var zLoss: Float = 0
        /// bf16 is rounded to by chance, drawn from the job's seed.
        public var kept = KeptFormats()
        /// Only these move. With rounds, and AdamW.
        public var adapters: Adapters?
        public init() {}
    }

    /// What weight decay pulls at; never at biases and norms' gains but with `all`.
    public enum DecayTargets: String, Hashable, Sendable, CaseIterable {
        case matrices
        /// Matrices of the blocks: neither embeddings nor the head (OLMo 2, SmolLM3).
        case blocks
        case all
    }
}

/// One source of a mixture: so many tokens of the corpus, which follow those of the source before.
public struct DataPart: Hashable, Sendable {
    /// Bytes, where each is a token.
    public var tokens: Int
    /// What its share of the sequences is by, beside the others' weights; above 0.
    public var weight: Double
    public init(tokens: Int, weight: Double) {
        self.tokens = tokens
        self.weight = weight
    }
}

/// Everything a stage's arithmetic depends on, besides the corpus and the jobs themselves.
public struct StageConfiguration: Hashable, Sendable {
    public var model: ModelShape
    public var units: Range<Int>
    public var geometry: BatchGeometry
    public var seed: UInt64
    public var optimizer: InnerOptimizer
    public var outer: OuterOptimizer
    public var mode: ExchangeMode
    public var exchangeCodec: Codec
    public var activationCodec: Codec
    public var validationFraction: Double
    /// Whether only the inputs of blocks are kept for backward, which runs their forward again. Never changes the bits.
    public var recompute: Bool
    /// Where the corpus is a file of tokens: how many; nil: every byte of it is a token.
    public var dataTokens: Int?
    /// Where the corpus is a mixture: its sources; empty: it is one.
    public var dataParts: [DataPart] = []
    public init(
        model: ModelShape, units: Range<Int>, geometry: BatchGeometry, seed: UInt64, optimizer: InnerOptimizer,
        outer: OuterOptimizer = OuterOptimizer(), mode: ExchangeMode, exchangeCodec: Codec, activationCodec: Codec,
        validationFraction: Double, recompute: Bool = false, dataTokens: Int? = nil
    ) {
        self.model = model
        self.units = units
        self.geometry = geometry
        self.seed = seed
        self.optimizer = optimizer
        self.outer = outer
        self.mode = mode
        self.exchangeCodec = exchangeCodec
        self.activationCodec = activationCodec
        self.validationFraction = validationFraction
        self.recompute = recompute
        self.dataTokens = dataTokens
    }
    /// How a unit's contribution is cut.
    public func chunkLayout(unit: Int) -> ChunkLayout {
        ChunkLayout(tensors: model.tensors(unit: unit).map(\.count), codec: exchangeCodec)
    }
    public var isFirst: Bool { units.lowerBound == 0 }
    public var isLast: Bool { units.upperBound == model.unitCount }
    /// Whether the loss is computed with this stage's last unit: on the last stage, unless the head's table is that of embeddings
    /// which another stage holds.
    public var endsWithLoss: Bool { model.endsWithLoss(units) }
    /// Whether the embeddings are here and the model's head too, and the final norm is on another stage: what leaves that norm comes
    /// round to this stage, whose table makes the loss of it. So a tied table is one parameter in one place, wherever the model is cut.
    public var lendsTable: Bool { model.lendsTable(units) }
}

extension InnerOptimizer {
    /// 1/(1 − βᵗ): Adam's bias correction, by repeated squaring.
    package static func biasCorrection(beta: Float, steps: Int) -> Float {
        var power = 1.0
        var square = Double(beta)
        var rest = steps
        while rest > 0 {
            if rest & 1 == 1 { power *= square }
            square *= square
            rest >>= 1
        }
        return Float(1 / (1 - power))
    }
}
