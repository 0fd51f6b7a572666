public import Digests
public import Exchange
public import Primitives
import Wire

/// Which micro-batch: a function of the job's geometry, never of who computes it.
public struct MicroBatchKey: Hashable, Comparable, Sendable {
    /// Global optimizer step, from 0.
    public var step: Int
    public var virtualPipeline: Int
    /// 0..<microBatchesPerVirtual.
    public var index: Int
    public init(step: Int, virtualPipeline: Int, index: Int) {
        self.step = step
        self.virtualPipeline = virtualPipeline
        self.index = index
    }
    public static func < (a: Self, b: Self) -> Bool {
        (a.step, a.virtualPipeline, a.index) < (b.step, b.virtualPipeline, b.index)
    }
}

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

/// AdamW with decoupled weight decay on matrices only (not on norms), and a learning-rate schedule counted in sealed
/// tokens.
public struct InnerOptimizer: Hashable, Sendable {
    public enum Schedule: String, Hashable, Sendable { case constant, cosine }
    public var learningRate: Float
    public var beta1: Float = 0.9
    public var beta2: Float = 0.95
    public var epsilon: Float = 1e-8
    public var weightDecay: Float = 0.1
    /// Largest global gradient norm; zero for no clipping.
    public var clip: Float = 1
    public var schedule: Schedule = .cosine
    /// Cosine decays to this share of the peak.
    public var finalShare: Float = 0.1
    public var warmupTokens: Int
    public var totalTokens: Int
    public init(learningRate: Float, clip: Float = 1, schedule: Schedule = .cosine, warmupTokens: Int, totalTokens: Int)
    {
        self.learningRate = learningRate
        self.clip = clip
        self.schedule = schedule
        self.warmupTokens = warmupTokens
        self.totalTokens = totalTokens
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
    public init(
        model: ModelShape, units: Range<Int>, geometry: BatchGeometry, seed: UInt64, optimizer: InnerOptimizer,
        outer: OuterOptimizer = OuterOptimizer(), mode: ExchangeMode, exchangeCodec: Codec, activationCodec: Codec,
        validationFraction: Double, recompute: Bool = false
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
    }
    /// How a unit's contribution is cut.
    public func chunkLayout(unit: Int) -> ChunkLayout {
        ChunkLayout(tensors: model.tensors(unit: unit).map(\.count), codec: exchangeCodec)
    }
    public var isFirst: Bool { units.lowerBound == 0 }
    public var isLast: Bool { units.upperBound == model.unitCount }
}

/// The weights and optimizer state of one unit: raw little-endian fp32, tensors concatenated in canonical order.
public struct UnitState: Hashable, Sendable {
    public var unit: Int
    /// Outer parameters in `rounds` mode; the parameters otherwise.
    public var parameters: [UInt8]
    /// Empty in `everyStep` mode, and where the outer step has none.
    public var outerMomentum: [UInt8]
    /// Adam's m and v; empty when left out.
    public var firstMoment: [UInt8]
    public var secondMoment: [UInt8]
    /// Optimizer steps taken so far (for bias correction).
    public var optimizerSteps: Int
    public init(
        unit: Int, parameters: [UInt8], outerMomentum: [UInt8], firstMoment: [UInt8], secondMoment: [UInt8],
        optimizerSteps: Int
    ) {
        self.unit = unit
        self.parameters = parameters
        self.outerMomentum = outerMomentum
        self.firstMoment = firstMoment
        self.secondMoment = secondMoment
        self.optimizerSteps = optimizerSteps
    }
}

/// What holders of a unit agree on: content IDs (``ContentIndex``) of the raw bytes that
/// ``ComputeJob/exportState(units:includeMoments:)`` gives for it, so that a state can be fetched in chunks, each checked alone.
public struct UnitDigests: Hashable, Sendable {
    public var parameters: Digest256
    /// Nil where the outer step keeps none.
    public var outerMomentum: Digest256?
    public init(parameters: Digest256, outerMomentum: Digest256? = nil) {
        self.parameters = parameters
        self.outerMomentum = outerMomentum
    }
    /// Of a state at hand.
    public init(of state: UnitState) {
        parameters = ContentIndex.id(of: state.parameters)
        outerMomentum = state.outerMomentum.isEmpty ? nil : ContentIndex.id(of: state.outerMomentum)
    }
}

/// One sum a pipeline contributes for one unit, encoded tensor by tensor (each as a u32 length and the codec's bytes).
///
/// In `rounds` mode there is one for each unit: the pseudo-gradient, `node` = 0. In `everyStep` mode there is one for
/// each maximal aligned subtree of the binary tree over virtual pipelines that the pipeline covers; `node` is the
/// subtree's heap index (1 = root, children 2n and 2n+1, leaves at 2^⌈log₂V⌉ + virtual pipeline). Sums are always
/// folded sibling with sibling, a missing sibling (lost, or beyond V) being skipped, so the result does not depend on
/// which pipeline held which share.
public struct UnitContribution: Hashable, Sendable {
    public var unit: Int
    public var node: Int
    public var bytes: [UInt8]
    public init(unit: Int, node: Int, bytes: [UInt8]) {
        self.unit = unit
        self.node = node
        self.bytes = bytes
    }
}

/// One pipeline's part of a round, as decoded by a receiver.
public struct RankedContribution: Hashable, Sendable {
    /// Position of the pipeline in the plan: the order of sums.
    public var rank: Int
    /// Micro-batches counted in it: the weight of an average.
    public var microBatches: Int
    public var units: [UnitContribution]
    public init(rank: Int, microBatches: Int, units: [UnitContribution]) {
        self.rank = rank
        self.microBatches = microBatches
        self.units = units
    }
}

/// The parts of one contributor to one chunk, as they travel: for each tree node a u32 node, a u32 length and the bytes of
/// the chunk's pieces.
public struct ChunkContribution: Hashable, Sendable {
    public var rank: Int
    public var microBatches: Int
    public var bytes: [UInt8]
    public init(rank: Int, microBatches: Int, bytes: [UInt8]) {
        self.rank = rank
        self.microBatches = microBatches
        self.bytes = bytes
    }
}

/// What a unit's owners made of all contributions: the averages of its chunks, as they travel.
public struct UnitAggregate: Hashable, Sendable {
    public var unit: Int
    public var chunks: [[UInt8]]
    public init(unit: Int, chunks: [[UInt8]]) {
        self.unit = unit
        self.chunks = chunks
    }
}

/// A piece of arithmetic for a stage: the only thing an engine does. Jobs of one stage are performed in the order
/// given.
public enum ComputeJob: Hashable, Sendable {
    /// Forget everything; parameters are drawn from the seed (a function of seed and tensor name, never of the cut).
    case configure(StageConfiguration)
    /// From now on ``StageConfiguration/recompute`` is this; nothing else changes.
    case recompute(Bool)
    /// Replaces the state of units this stage holds. Empty moments become zero and their bias correction starts again; an
    /// empty outer momentum becomes zero. Error feedback of these units becomes zero; gradients and saved activations go.
    case importState([UnitState])
    /// Answers `.state`; in `rounds` mode that of the round's start, moments included.
    case exportState(units: Range<Int>, includeMoments: Bool)
    /// `input` is empty on the first stage (tokens come from the corpus), else the previous stage's encoded activation.
    /// Keeps what backward needs. The last stage answers `.loss`, the others `.activation`.
    case forward(MicroBatchKey, input: [UInt8])
    /// `gradient` is empty on the last stage. Answers `.inputGradient` (empty bytes on the first stage). Called in key
    /// order.
    case backward(MicroBatchKey, gradient: [UInt8])
    /// Forward only, over validation windows `windows`, on the current parameters.
    case evaluate(windows: Range<Int>, input: [UInt8])
    /// `rounds`: fold this step's gradients and divide by `microBatches`. Answers `.sumSquares`.
    case finishGradient(microBatches: Int)
    /// `everyStep`: decode and fold all pipelines' gradients, divide by their micro-batches. Answers `.sumSquares`.
    case aggregateGradients([RankedContribution])
    /// One AdamW step. `norm` is the global gradient norm (``gradientNorm(_:)`` of all units' sums in order; clipping
    /// happens here). The rate is ``InnerOptimizer/learningRate(atTokens:)`` of the tokens counted once this step is done.
    /// Zeroes the gradient.
    case optimizerStep(norm: Float, learningRate: Float)
    /// Encode this stage's part of the round. Answers `.contribution`. In `everyStep` mode the sums are gone afterwards: to
    /// send the step again, do its micro-batches again or keep the answer.
    case encodeContribution
    /// The last contribution was left out: add its decoded message back to the error feedback. With rounds that is kept for
    /// codecs without feedback too, so that no work is lost.
    case returnContribution
    /// The round begins anew: the error feedback is what it was before ``encodeContribution``. Before ``rewind``.
    case withdrawContribution
    /// Whether another pipeline's part of the round would decode, and is finite. Answers `.done`, or `.refused`.
    case checkContribution(RankedContribution)
    /// `rounds`: decode in rank order, take the outer step, start the next round there. Answers `.digests`.
    case outerStep([RankedContribution])
    /// The average of one chunk in rank order, as ``outerStep(_:)`` and ``aggregateGradients(_:)`` would make it, encoded in
    /// `codec`. Answers `.chunk`, or `.chunkRefused` with the rank whose part does not decode.
    case averageChunk(unit: Int, chunk: Int, [ChunkContribution], codec: Codec)
    /// Goes on from the owners' averages, encoded in `codec`. `rounds`: the outer step; answers `.digests`. `everyStep`: the
    /// gradient; answers `.sumSquares`.
    case applyAggregates([UnitAggregate], codec: Codec)
    /// Back to the round's start, Adam's moments and step count included; gradients and saved activations are dropped.
    case rewind
    /// Answers `.digests` of the current outer parameters.
    case digests
    /// Spend about `flops` on matrix products, to be timed.
    case benchmark(flops: Double)
}

public enum ComputeResult: Hashable, Sendable {
    case done
    case state([UnitState])
    /// Encoded activation [m, T, d] for the next stage.
    case activation([UInt8])
    /// Mean cross-entropy in nats over the micro-batch's tokens.
    case loss(Float)
    case inputGradient([UInt8])
    /// Sum of losses in nats and tokens, over the windows given.
    case evaluation(lossSum: Double, tokens: Int)
    /// One a tensor, canonical order over this stage's units.
    case sumSquares([Float])
    case contribution([UnitContribution])
    case chunk([UInt8])
    case chunkRefused(rank: Int, String)
    /// Of each unit's state, by unit.
    /// After an outer step, what its averaging told about the contributions' noise, as far as it was done here.
    case digests([Int: UnitDigests], squares: GradientSquares? = nil)
    /// Bytes from outside that do not decode, or a job out of place; the state is unchanged.
    case refused(String)
}

/// Does compute jobs for one stage. Live peers run it on a compute thread; the simulator runs it inline, or merely
/// charges ``modelledFLOPs(of:configuration:)``.
public protocol Engine {
    mutating func perform(_ job: ComputeJob) -> ComputeResult
}
