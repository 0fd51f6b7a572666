import Compute
import Primitives

/// What a stage needs for the moment: gradients on their way down, and stretches of rows being worked on. One for the stage,
/// whatever is in flight (``MemoryLaw`` counts it).
struct StageWorkspace {
    /// Rows of a stretch of the gated product and of the head's logits; the attention's are whole sequences.
    let rows, headRows: Int
    /// [R, d]: the gradient of the residual stream.
    let residual: FloatBuffer
    /// [R, d]: what leaves the last block, where nobody asks for it later: not on the last stage.
    let output: FloatBuffer?
    /// [stretch, d] each.
    let rowsA, rowsB, rowsC: FloatBuffer
    /// Of the attention's stretch: [·, q + 2·kv], [·, q].
    let qkv, attended: FloatBuffer
    /// [stretch, F], [stretch, 2F].
    let gated, gateUp: FloatBuffer
    /// [headRows, V], [headRows].
    let logits, headScale: FloatBuffer
    /// [d]: a sum that nobody asked for.
    let unwanted: FloatBuffer
    private let attentionRows: Int

    init(shape: ModelShape, units: Range<Int>, tokens: Int, stretches cut: Stretches) {
        let d = shape.hiddenSize
        rows = cut.rows
        headRows = cut.headRows
        attentionRows = cut.attentionRows
        let hasBlocks = !units.clamped(to: 1..<shape.layers + 1).isEmpty
        // One holds the final norm, one the head's table, where they are not on one stage.
        let hasNorm = units.upperBound == shape.unitCount
        let hasTable = shape.hasHeadTable(units)
        let wide = max(hasBlocks ? max(rows, attentionRows) : 0, hasNorm ? headRows : 0)
        residual = FloatBuffer(tokens * d)
        output = hasNorm ? nil : FloatBuffer(tokens * d)
        rowsA = FloatBuffer(wide * d)
        rowsB = FloatBuffer(wide * d)
        rowsC = FloatBuffer(hasNorm ? cut.headRows * d : 0)
        qkv = FloatBuffer(hasBlocks ? attentionRows * (shape.querySize + 2 * shape.kvSize) : 0)
        attended = FloatBuffer(hasBlocks ? attentionRows * shape.querySize : 0)
        gated = FloatBuffer(hasBlocks ? rows * shape.intermediateSize : 0)
        gateUp = FloatBuffer(hasBlocks ? rows * 2 * shape.intermediateSize : 0)
        logits = FloatBuffer(hasTable ? headRows * shape.vocabulary : 0)
        headScale = FloatBuffer(hasNorm ? headRows : 0)
        unwanted = FloatBuffer(hasNorm ? d : 0)
    }

    var buffers: [FloatBuffer] {
        [residual, rowsA, rowsB, rowsC, qkv, attended, gated, gateUp, logits, headScale, unwanted]
            + (output.map { [$0] } ?? [])
    }

    func rowStretches(_ count: Int) -> [Range<Int>] { Self.stretches(count, by: rows) }
    /// Whole sequences, as many as fit a stretch.
    func attentionStretches(sequences: Int, length: Int) -> [Range<Int>] {
        Self.stretches(sequences * length, by: max(1, attentionRows / length) * length)
    }
    private static func stretches(_ count: Int, by step: Int) -> [Range<Int>] {
        stride(from: 0, to: count, by: step).map { $0..<min(count, $0 + step) }
    }
}
