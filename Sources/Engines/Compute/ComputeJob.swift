public import Primitives

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

/// A piece of arithmetic for a stage: the only thing an engine does. Jobs of one stage are performed in the order
/// given.
public enum ComputeJob: Hashable, Sendable {
    /// Forget everything; parameters are drawn from the seed (a function of seed and tensor name, never of the cut).
    case configure(StageConfiguration)
    /// From now on ``StageConfiguration/recompute`` is this; nothing else changes.
    case recompute(Bool)
    /// Replaces the state of units this stage holds. Empty moments become zero and their bias correction starts again; an
    /// empty outer momentum becomes zero. Error feedback of these units becomes that of their residue, or zero; gradients and saved
    /// activations go.
    case importState([UnitState])
    /// Answers `.state`; in `rounds` mode that of the round's start, moments included. The residue is that of the moment: it is the
    /// round's start's before the first step.
    case exportState(units: Range<Int>, includeMoments: Bool, includeResidue: Bool = false)
    /// `input` is empty on the first stage (tokens come from the corpus), else the previous stage's encoded activation.
    /// Keeps what backward needs. The last stage answers `.loss`, the others `.activation`; where embeddings are tied and the
    /// first stage is another, the last one's activation is what leaves the final norm.
    case forward(MicroBatchKey, input: [UInt8])
    /// On the stage that lends its table (``StageConfiguration/lendsTable``), between a micro-batch's forward and its backward:
    /// `input` is the last stage's activation. Answers `.head`.
    case head(MicroBatchKey, input: [UInt8])
    /// `gradient` is empty on the last stage. Answers `.inputGradient` (empty bytes on the first stage). Called in key
    /// order; on the last stage none is left out whose forward came when no other was in flight.
    case backward(MicroBatchKey, gradient: [UInt8])
    /// Forward only, over validation windows `windows`, on the current parameters.
    case evaluate(windows: Range<Int>, input: [UInt8])
    /// The same of the head, on the stage that lends its table: `input` is the last stage's activation. Answers `.evaluation`.
    case evaluateHead(windows: Range<Int>, input: [UInt8])
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
    /// Spend about `flops` on forwards and backwards of a middle stage that is drawn for it, to be timed. Refused while another stage
    /// is configured. Zero: it is over, and what it took is given back.
    case rehearse(StageConfiguration, flops: Double)
}

public enum ComputeResult: Hashable, Sendable {
    case done
    case state([UnitState])
    /// Encoded activation [m, T, d] for the next stage.
    case activation([UInt8])
    /// Mean cross-entropy in nats over the micro-batch's tokens.
    case loss(Float)
    case inputGradient([UInt8])
    /// The loss as in `.loss`, and the encoded gradient of the last stage's activation, for that stage.
    case head(loss: Float, gradient: [UInt8])
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

extension ComputeResult {
    /// How a refusal ends whose cause is a number that is none.
    package static let notFinite = "not finite"
    /// Whether values have grown beyond all numbers: what training does when it diverges.
    package var isDivergence: Bool { if case .refused(let why) = self { why.hasSuffix(Self.notFinite) } else { false } }
}

/// Does compute jobs for one stage. Live peers run it on a compute thread; the simulator runs it inline, or merely
/// charges ``modelledFLOPs(of:configuration:)``.
public protocol Engine {
    mutating func perform(_ job: ComputeJob) -> ComputeResult
}

extension MicroBatchKey {
    /// For log lines.
    package var text: String { "step \(step), virtual pipeline \(virtualPipeline), micro-batch \(index)" }
}
