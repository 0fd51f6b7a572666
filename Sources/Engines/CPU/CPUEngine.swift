import Compute
import Kernels
import Primitives

/// The device steps on this machine's processor, over the C kernels: the same bits for any number of threads and any
/// instruction set, so any two of these agree (``DeviceEngine/isExact``).
package final class CPUEngine: DeviceEngine {
    private let threads: Int
    private let stretches: Stretches?
    private var stage: CPUStage?

    /// - Parameter stretches: how many rows are worked on at a time, where not as usual; the bits do not depend on it.
    package init(threads: Int, stretches: Stretches? = nil) {
        self.threads = max(1, threads)
        self.stretches = stretches
    }

    package var isExact: Bool { true }
    package var idle: BufferPool { stage?.buffers ?? BufferPool(count: 0) }
    /// Bytes of all activations that the stage keeps, and of its workspace.
    package var workingBytes: Int { stage?.workingBytes ?? 0 }

    /// Bytes of weights and moments.
    package var keptBytes: Int { stage?.keptBytes ?? 0 }

    package func configure(_ configuration: StageConfiguration) {
        // The old one goes first: both may not fit.
        stage = nil
        stage = CPUStage(configuration, threads: threads, stretches: stretches)
    }
    package func release() { stage = nil }
    package func recompute(_ recomputes: Bool) throws(Refusal) { try held.recompute(recomputes) }

    package func read(
        _ quantity: DeviceQuantity, unit: Int, into values: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        try held.read(quantity, unit: unit, into: values.baseAddress!)
    }
    package func write(
        _ quantity: DeviceQuantity, unit: Int, from values: UnsafeBufferPointer<Float>
    ) throws(Refusal) {
        try held.write(quantity, unit: unit, from: values.baseAddress!)
    }

    package func place(_ quantity: DeviceQuantity, unit: Int) -> UnsafeMutablePointer<Float>? {
        stage?.place(quantity, unit: unit)
    }

    package func forward(
        _ key: MicroBatchKey, text: TokenText?, input: UnsafeBufferPointer<Float>?,
        output: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) -> Float {
        try held.forward(key, text: text, input: input, output: output)
    }
    package func backward(
        _ key: MicroBatchKey, gradient: UnsafeBufferPointer<Float>?, inputGradient: UnsafeMutableBufferPointer<Float>?
    ) throws(Refusal) {
        try held.backward(key, gradient: gradient, inputGradient: inputGradient)
    }
    package func head(
        _ key: MicroBatchKey, input: UnsafeBufferPointer<Float>, gradient: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) -> Float {
        try held.head(key, input: input, gradient: gradient)
    }
    package func evaluateHead(
        sequences: Int, text: TokenText, input: UnsafeBufferPointer<Float>, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        try held.evaluateHead(sequences: sequences, text: text, input: input, output: output)
    }
    package func evaluate(
        sequences: Int, text: TokenText?, input: UnsafeBufferPointer<Float>?, output: UnsafeMutableBufferPointer<Float>
    ) throws(Refusal) {
        try held.evaluate(sequences: sequences, text: text, input: input, output: output)
    }

    package func completeShares() throws(Refusal) -> [Int] { try held.completeShares() }
    package func finishGradient(microBatches: Int) throws(Refusal) -> [Float] {
        try held.finishGradient(microBatches: microBatches)
    }
    package func optimizerStep(_ step: DeviceStep) throws(Refusal) { try held.optimizerStep(step) }
    package func dropWork() throws(Refusal) { try held.dropWork() }

    /// Products [256, 256]·[256, 256].
    package func benchmark(flops: Double) {
        let side = 256
        let a = FloatBuffer(side * side)
        let b = FloatBuffer(side * side)
        let c = FloatBuffer(side * side)
        a.allValues.update(repeating: 0.5)
        b.allValues.update(repeating: 0.25)
        let each = 2 * Double(side * side * side)
        for _ in 0..<max(1, Int(min(1e9, (flops / each).rounded()))) {
            kernels_sgemm(
                side, side, side, a.base, side, 1, b.base, side, 1, c.base, side, false, Int32(clamping: threads))
        }
    }

    private var held: CPUStage {
        get throws(Refusal) {
            guard let stage else { throw Refusal("no stage configured yet") }
            return stage
        }
    }
}
