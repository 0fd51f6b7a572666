import Compute
import Primitives

/// What the forward pass of one micro-batch keeps for backward, R = sequences · length rows. One exists for every
/// micro-batch in flight.
///
/// Where a stage recomputes (Chen et al. 2016, 1604.06174), only each block's and the head's input are a micro-batch's own:
/// all else is shared by the stage's micro-batches and holds what was computed last, so that backward first runs each block's
/// forward again.
package final class SavedActivations {
    /// One block's part.
    struct Block {
        /// [R, d]: the block's input, and the residual after the attention.
        let input, middle: FloatBuffer
        /// [R]: 1/rms of either norm.
        let scale, middleScale: FloatBuffer
        /// [R, q + 2·kv]: queries and keys as they meet. [R, q]: the attention's result.
        let qkv, attended: FloatBuffer
        /// [R, q + kv], [R, heads + kv heads]: queries and keys before their norms, and 1/rms; only where they have norms.
        let rawHeads, headScale: FloatBuffer?
        /// [R, 2F]: gate, up.
        let gateUp: FloatBuffer

        /// The same buffers with another input.
        func with(input: FloatBuffer) -> Block {
            Block(
                input: input, middle: middle, scale: scale, middleScale: middleScale, qkv: qkv, attended: attended,
                rawHeads: rawHeads, headScale: headScale, gateUp: gateUp)
        }
        var buffers: [FloatBuffer] {
            [input, middle, scale, middleScale, qkv, attended, gateUp] + [rawHeads, headScale].compactMap { $0 }
        }
    }
    let blocks: [Block]
    /// [R, d]: what leaves the last block; on the last stage the head's input, and then its gradient.
    let output: FloatBuffer
    /// [R]; only where the head's table is.
    let losses: FloatBuffer?
    /// [R, d]: what the last stage's final norm made, where only the head's table is here.
    let normed: FloatBuffer?
    /// [R]; the first stage's and the last stage's.
    package var text = TokenText()

    /// Whether backward must run each forward again.
    let recomputes: Bool

    /// Room for `sequences` sequences of `length` tokens. With `recompute`, what can be shared is that of `other`, if there
    /// is one.
    ///
    /// - Parameter output: where what leaves the last block goes, if nobody asks for it later: not on the last stage.
    init(
        shape: ModelShape, units: Range<Int>, sequences: Int, length: Int, output: FloatBuffer?,
        recompute: Bool = false, sharing other: SavedActivations? = nil
    ) {
        let rows = sequences * length
        func buffer(_ width: Int) -> FloatBuffer { FloatBuffer(rows * width) }
        func block() -> Block {
            let (q, kv) = (shape.querySize, shape.kvSize)
            return Block(
                input: buffer(shape.hiddenSize), middle: buffer(shape.hiddenSize), scale: buffer(1),
                middleScale: buffer(1), qkv: buffer(q + 2 * kv), attended: buffer(q),
                rawHeads: shape.queryKeyNorm ? buffer(q + kv) : nil,
                headScale: shape.queryKeyNorm ? buffer(shape.heads + shape.kvHeads) : nil,
                gateUp: buffer(2 * shape.intermediateSize))
        }
        var blocks: [Block] = []
        for _ in units.clamped(to: 1..<shape.layers + 1) {
            let common = recompute ? blocks.first ?? other?.blocks.first : nil
            blocks.append(common?.with(input: buffer(shape.hiddenSize)) ?? block())
        }
        self.blocks = blocks
        recomputes = recompute
        self.output = output ?? buffer(shape.hiddenSize)
        losses = shape.hasHeadTable(units) ? buffer(1) : nil
        normed = shape.lendsTable(units) ? buffer(shape.hiddenSize) : nil
    }

    /// Where the stage's input goes: the first block's, or straight to the output.
    var input: FloatBuffer { blocks.first?.input ?? output }

    /// Every buffer; with recomputation the shared ones too.
    var buffers: [FloatBuffer] { blocks.flatMap(\.buffers) + [output] + [losses, normed].compactMap { $0 } }
}
