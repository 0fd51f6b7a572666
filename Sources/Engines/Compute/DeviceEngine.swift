/// What an engine must do of a stage's work where it runs on a device of its own kind: forward, backward, gradients' sums and
/// inner steps. Everything that all peers must agree on to the bit (contributions, outer steps, digests, the order of data,
/// codecs) is done by whoever holds the port, the same for every kind of device.
///
/// Weights, moments and gradients cross as raw fp32, one unit at a time, in ``StageLayout``'s order; activations as fp32
/// [m, T, d]; texts as tokens. Calls come one at a time and in an order that makes sense: the caller has checked keys, sizes and
/// that values are finite. A call that a device cannot do throws; the stage is then as it was, or must be configured anew.
package protocol DeviceEngine: AnyObject {
    /// Whether any two such engines give the same bits for the same calls (``CPUEngine``). What others compute is compared by
    /// tolerance.
    var isExact: Bool { get }
    /// Buffers of the stage's size that are free between calls, for whoever holds the port to borrow.
    var idle: BufferPool { get }

    /// Forgets everything and takes another stage. Its weights are whatever is written next; moments are zero.
    func configure(_ configuration: StageConfiguration) throws(Refusal)
    /// From now on, for micro-batches to come.
    func recompute(_ recomputes: Bool) throws(Refusal)
    /// Of one unit, canonical order.
    func read(_ quantity: DeviceQuantity, unit: Int, into values: UnsafeMutableBufferPointer<Float>) throws(Refusal)
    func write(_ quantity: DeviceQuantity, unit: Int, from values: UnsafeBufferPointer<Float>) throws(Refusal)
    /// Where a unit's values lie, of a device that has them as fp32 in this process's memory: they are read and written there without being copied.
    /// Nil where they have to be read, or written.
    func place(_ quantity: DeviceQuantity, unit: Int) -> UnsafeMutablePointer<Float>?

    /// Keeps what backward needs. `text` is nil on middle stages, `input` on the first. Fills `output` (which may be the memory
    /// of `input`) on all stages but one that ends with the loss, which answers that: the mean of the micro-batch in nats.
    func forward(
        _ key: MicroBatchKey, text: TokenText?, input: UnsafeBufferPointer<Float>?,
        output: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) -> Float
    /// Adds the micro-batch's gradient to its virtual pipeline's sum. `gradient` is nil where the stage ends with the loss; `inputGradient` (which
    /// may be the memory of `gradient`) on the first. After the micro-batch's forward, in key order.
    func backward(
        _ key: MicroBatchKey, gradient: UnsafeBufferPointer<Float>?, inputGradient: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal)
    /// On the stage that lends its table: the mean loss of a micro-batch in nats from what left the final norm on the last stage,
    /// and the gradient of that, which fills `gradient` (which may be the memory of `input`). The table's own gradient is added by
    /// the micro-batch's backward at the latest. After its forward, whose text it uses.
    func head(
        _ key: MicroBatchKey, input: UnsafeBufferPointer<Float>, gradient: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) -> Float
    /// The head's losses of `sequences` sequences, one a token, from what left the final norm; nothing is kept.
    func evaluateHead(
        sequences: Int, text: TokenText, input: UnsafeBufferPointer<Float>, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal)
    /// Forward of `sequences` sequences, at most a micro-batch's, on the current weights; nothing is kept. Fills `output` with
    /// the activation, or with the loss of each token where the stage ends with it.
    func evaluate(
        sequences: Int, text: TokenText?, input: UnsafeBufferPointer<Float>?, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal)

    /// The nodes of ``GradientTree`` whose sums are complete, ascending: `.share` of each can be read until ``dropWork()``.
    func completeShares() throws(Refusal) -> [Int]
    /// Folds all sums, divides by `microBatches`: the gradient of the next ``optimizerStep(_:)``. Answers the sum of squares of
    /// each tensor.
    func finishGradient(microBatches: Int) throws(Refusal) -> [Float]
    /// One step along the gradient, which is gone afterwards, as are saved activations.
    func optimizerStep(_ step: DeviceStep) throws(Refusal)
    /// Forgets gradients and saved activations.
    func dropWork() throws(Refusal)
    /// About so many operations of matrix products, to be timed.
    func benchmark(flops: Double) throws(Refusal)
    /// Forgets the stage, and gives back what it took, as far as that can be done before the next.
    func release()
}
extension DeviceEngine {
    package func release() {}
    package func place(_ quantity: DeviceQuantity, unit: Int) -> UnsafeMutablePointer<Float>? { nil }
}

/// What can be read from and written to a device, unit by unit.
package enum DeviceQuantity: Hashable, Sendable {
    case parameters, firstMoment, secondMoment
    /// The averaged gradient. Written, it is what the next optimizer step takes.
    case gradient
    /// A sum of gradients by its node in the tree over virtual pipelines; read only.
    case share(node: Int)
}

/// One inner step, clipped and with the schedule applied.
package struct DeviceStep: Hashable, Sendable {
    package var learningRate: Float
    /// The gradient is multiplied by this first.
    package var gradientScale: Float
    /// Optimizer steps of each unit, this one included: for bias correction.
    package var steps: [Int]
    package init(learningRate: Float, gradientScale: Float, steps: [Int]) {
        self.learningRate = learningRate
        self.gradientScale = gradientScale
        self.steps = steps
    }
}

/// The tokens of some sequences, [sequences, T], and those that follow each.
package struct TokenText: Hashable, Sendable {
    package var tokens: [Int32] = []
    /// Below zero where a token bears no loss.
    package var targets: [Int32] = []
    /// The first position of its sequence that each token sees, where documents follow each other; never falling along a
    /// sequence. Empty: 0 for all.
    package var firstSeen: [Int32] = []
    package init() {}
    /// Tokens that bear loss.
    package var learnt: Int { targets.count { $0 >= 0 } }
}

/// Why a job was not done. Always an ordinary answer.
package struct Refusal: Error, Hashable, Sendable {
    package let reason: String
    package init(_ reason: String) { self.reason = reason }
}
