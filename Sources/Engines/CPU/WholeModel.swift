import Compute
import Primitives

/// All units of a model on this processor, forward only: to continue texts.
package final class WholeModel {
    private let arithmetic: StageArithmetic
    private let weights: StageWeights
    private let saved: SavedActivations
    private let shape: ModelShape

    /// - Parameter units: the values of each unit, canonical order.
    package init(_ shape: ModelShape, units: [[Float]], threads: Int) {
        self.shape = shape
        arithmetic = StageArithmetic(
            shape: shape, units: shape.allUnits, sequences: 1, length: shape.context, threads: threads)
        let kept = StoredBuffer(arithmetic.layout.count, format: .fp32)
        for (unit, values) in units.enumerated() { kept.write(arithmetic.layout.range(unit: unit), from: values) }
        weights = StageWeights(kept, layout: arithmetic.layout, shape: shape, room: FloatBuffer(0))
        saved = arithmetic.makeSaved()
    }

    /// [V]: of what follows the last of at most T tokens; valid until the next call.
    package func logits(after tokens: [Int32]) -> UnsafeBufferPointer<Float> {
        precondition(
            (1...shape.context).contains(tokens.count), "\(tokens.count) tokens for a context of \(shape.context)")
        saved.text.tokens = tokens
        arithmetic.forwardBlocks(weights, saved, sequences: 1, length: tokens.count)
        let logits = arithmetic.headLogits(weights, saved, rows: tokens.count - 1..<tokens.count)
        return UnsafeBufferPointer(start: logits, count: shape.vocabulary)
    }
}
