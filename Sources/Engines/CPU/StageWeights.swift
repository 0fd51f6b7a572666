import Compute
import Kernels
import Primitives

/// A stage's weights as the arithmetic reads them: where they are kept in fp32, or opened part by part into a workspace.
struct StageWeights {
    private let kept: StoredBuffer
    private let layout: StageLayout
    private let shape: ModelShape
    /// Room for the largest part that is opened at a time; empty for fp32.
    private let room: FloatBuffer
    private let finalGainRoom: FloatBuffer
    private let adapters: StageAdapters?

    init(
        _ kept: StoredBuffer, layout: StageLayout, shape: ModelShape, room: FloatBuffer, adapters: StageAdapters? = nil
    ) {
        self.adapters = adapters
        self.kept = kept
        self.layout = layout
        self.shape = shape
        self.room = room
        finalGainRoom = FloatBuffer(kept.plain == nil ? shape.hiddenSize : 0)
    }

    /// All tensors of a block; valid until the next part is opened.
    func block(unit: Int) -> UnsafePointer<Float> {
        let range = layout.range(unit: unit)
        if adapters == nil, let plain = kept.plain { return UnsafePointer(plain.base + range.lowerBound) }
        kept.read(range, into: room.base)
        adapters?.merge(unit: unit, into: room.base)
        return UnsafePointer(room.base)
    }

    /// The final norm's gain.
    var finalGain: UnsafePointer<Float> {
        let first = layout.range(unit: shape.layers + 1).lowerBound
        if let plain = kept.plain { return UnsafePointer(plain.base + first) }
        kept.read(first..<first + shape.hiddenSize, into: finalGainRoom.base)
        return UnsafePointer(finalGainRoom.base)
    }

    /// The head's table [V, d], a stretch of rows at a time: all at once where it lies in fp32.
    func headTable(_ body: (_ rows: Range<Int>, UnsafePointer<Float>) -> Void) {
        let d = shape.hiddenSize
        let first = shape.tieWordEmbeddings ? 0 : layout.range(unit: shape.layers + 1).lowerBound + d
        if let plain = kept.plain { return body(0..<shape.vocabulary, UnsafePointer(plain.base + first)) }
        for start in stride(from: 0, to: shape.vocabulary, by: MemoryLaw.openedRows) {
            let rows = start..<min(shape.vocabulary, start + MemoryLaw.openedRows)
            kept.read(first + rows.lowerBound * d..<first + rows.upperBound * d, into: room.base)
            body(rows, UnsafePointer(room.base))
        }
    }

    /// The embedding's rows of some tokens.
    func embed(_ tokens: [Int32], into output: UnsafeMutablePointer<Float>) {
        let d = shape.hiddenSize
        if let plain = kept.plain { return kernels_embedding_forward(tokens.count, d, plain.base, tokens, output) }
        for (row, token) in tokens.enumerated() {
            kept.read(Int(token) * d..<(Int(token) + 1) * d, into: output + row * d)
        }
    }
}
