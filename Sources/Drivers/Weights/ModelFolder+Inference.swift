public import Checkpoints
import Digests
import Files
public import Inference
import Primitives

extension ModelFolder {
    /// All weights, for reading: in two bytes each where the files have them so. Checks what ``verify(progress:)`` checks on
    /// the way. `progress` is told units read and may answer false to stop; then the answer is nil.
    public func inferenceModel(
        progress: (_ done: Int, _ count: Int) -> Bool = { _, _ in true }
    ) throws(CheckpointError) -> InferenceModel? {
        try verifyCopies()
        let model = InferenceModel(shape, storage: isAllBF16 ? .bf16 : .fp32)
        var stream = SHA256Stream()
        for unit in shape.allUnits {
            guard progress(unit, shape.unitCount) else { return nil }
            let values = try self.unit(unit)
            values.withUnsafeBufferPointer { model.fill(unit: unit, $0) }
            if hasDigest { values.withUnsafeBytes { stream.update($0) } }
        }
        if hasDigest { try check(digest: stream.finish()) }
        return model
    }
}
