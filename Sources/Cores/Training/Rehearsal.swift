import Compute
import Primitives

/// A stage that is drawn only to see how fast the device does a job's own work: its kernels, at its shapes, with the threads that there
/// are and beside whatever else this machine does. Products of square matrices say little about that.
struct Rehearsal {
    let configuration: StageConfiguration
    private let device: any DeviceEngine
    private let input: FloatBuffer
    private let output: FloatBuffer
    /// Operations of one forward and backward, as they are modelled.
    private let each: Double

    /// - Parameter configuration: of a middle stage; its micro-batches are as many as are asked for.
    init(_ configuration: StageConfiguration, on device: any DeviceEngine, threads: Int) throws(Refusal) {
        guard !configuration.isFirst, !configuration.isLast else { throw Refusal("a rehearsal of the whole model") }
        try Stage.check(configuration, corpus: CorpusBytes([]))
        self.configuration = configuration
        self.device = device
        _ = try Stage(configuration, on: device, corpus: CorpusBytes([]), threads: threads)
        let count = configuration.geometry.tokensPerMicroBatch * configuration.model.hiddenSize
        input = FloatBuffer(count)
        output = FloatBuffer(count)
        // Neither zeros nor values so small that arithmetic slows down.
        for place in 0..<count { input.base[place] = Float(place % 7 - 3) / 4 }
        each = [ComputeJob.forward(Self.key(0), input: []), .backward(Self.key(0), gradient: [])].reduce(0) {
            $0 + modelledFLOPs(of: $1, configuration: configuration)
        }
    }
    private static func key(_ index: Int) -> MicroBatchKey { MicroBatchKey(step: 0, virtualPipeline: 0, index: index) }

    func perform(flops: Double) throws(Refusal) {
        let most = Double(configuration.geometry.microBatchesPerVirtual)
        let passes = Int(max(1, min(most, (flops / max(each, 1)).rounded())))
        for index in 0..<passes {
            _ = try device.forward(
                Self.key(index), text: nil, input: UnsafeBufferPointer(input.allValues), output: output.allValues)
            try device.backward(
                Self.key(index), gradient: UnsafeBufferPointer(input.allValues), inputGradient: output.allValues)
        }
        try device.dropWork()
    }
}
