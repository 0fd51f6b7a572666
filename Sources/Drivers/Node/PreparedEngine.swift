import CPU
internal import Compute
public import Primitives
import Worker

/// Where a peer's device steps are done.
public enum EngineKind: String, CaseIterable, Sendable {
    /// On this machine's processor, the same bits as anywhere.
    case cpu
    /// In a process with PyTorch: on a GPU, or wherever it computes.
    case torch
}

/// A device engine that has been started and looked at.
public final class PreparedEngine {
    let device: any DeviceEngine
    /// What it is, for people.
    public let name: String
    /// The device's own memory, where it has any.
    public let memory: ByteCount?

    /// - Parameters:
    ///   - device: for PyTorch: `auto`, `cpu`, `cuda:0`, `mps`.
    ///   - precision: for PyTorch: `fp32`, or `bf16` for matrix products.
    /// - Throws: where PyTorch is missing, or its gradients are not those of the processor's engine.
    public init(_ kind: EngineKind, device: String, precision: String, threads: Int) throws(NodeError) {
        switch kind {
        case .cpu:
            self.device = CPUEngine(threads: threads)
            name = "cpu/\(threads)"
            memory = nil
        case .torch:
            do throws(Refusal) {
                var worker = try TorchWorker.find()
                (worker.device, worker.precision, worker.threads) = (device, precision, threads)
                let engine = worker.engine()
                let check = try WorkerCheck.run(engine)
                guard check.isGood else {
                    throw Refusal("its gradients are wrong: \(check.text); this device cannot take part")
                }
                self.device = engine
                name = "\(engine.device), \(check.text)"
                memory = engine.memory
            } catch {
                throw .failed("--engine torch: \(error.reason)")
            }
        }
    }
}
