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
        /// [R, d]: the block's input, its first norm, the attention's output, the residual after it, the second norm.
        let input, normed, attended, middle, middleNormed: FloatBuffer
        /// [R]: 1/rms of either norm.
        let scale, middleScale: FloatBuffer
        /// [R, d + 2·kv].
        let qkv: FloatBuffer
        /// [sequences, heads, length, length].
        let probabilities: FloatBuffer
        /// [R, 2F]: gate, up. [R, F]: their product.
        let gateUp, gated: FloatBuffer

        /// The same buffers with another input.
        func with(input: FloatBuffer) -> Block {
            Block(
                input: input, normed: normed, attended: attended, middle: middle, middleNormed: middleNormed,
                scale: scale, middleScale: middleScale, qkv: qkv, probabilities: probabilities, gateUp: gateUp,
                gated: gated)
        }
    }
    let blocks: [Block]
    /// [R, d]: what leaves the last block; the head's input on the last stage.
    let output: FloatBuffer
    /// [R, d] and [R]; [R, V]: logits, then their gradient; [R]. Only with the head.
    let headNormed, headScale, logits, losses: FloatBuffer?
    /// [R]; the first stage's and the last stage's.
    package var text = TokenText()

    /// Whether backward must run each forward again.
    let recomputes: Bool

    /// Room for `sequences` sequences of `length` tokens. With `recompute`, what can be shared is that of `other`, if there
    /// is one.
    init(
        shape: ModelShape, units: Range<Int>, sequences: Int, length: Int, recompute: Bool = false,
        sharing other: SavedActivations? = nil
    ) {
        let rows = sequences * length
        let d = shape.hiddenSize
        func buffer(_ width: Int) -> FloatBuffer { FloatBuffer(rows * width) }
        func block() -> Block {
            Block(
                input: buffer(d), normed: buffer(d), attended: buffer(d), middle: buffer(d), middleNormed: buffer(d),
                scale: buffer(1), middleScale: buffer(1), qkv: buffer(d + 2 * shape.kvSize),
                probabilities: FloatBuffer(sequences * shape.heads * length * length),
                gateUp: buffer(2 * shape.intermediateSize), gated: buffer(shape.intermediateSize))
        }
        var blocks: [Block] = []
        for unit in units where unit != 0 && unit != shape.layers + 1 {
            let common = recompute ? blocks.first ?? other?.blocks.first : nil
            blocks.append(common?.with(input: buffer(d)) ?? block())
        }
        self.blocks = blocks
        recomputes = recompute
        let shared = recompute ? other : nil
        let hasHead = units.contains(shape.layers + 1)
        // What leaves the last block is the head's input, and only of a head anything to keep.
        output = hasHead ? buffer(d) : shared?.output ?? buffer(d)
        headNormed = hasHead ? shared?.headNormed ?? buffer(d) : nil
        headScale = hasHead ? shared?.headScale ?? buffer(1) : nil
        logits = hasHead ? shared?.logits ?? buffer(shape.vocabulary) : nil
        losses = hasHead ? shared?.losses ?? buffer(1) : nil
    }

    /// Where the stage's input goes: the first block's, or straight to the output.
    var input: FloatBuffer { blocks.first?.input ?? output }

    /// Every buffer; with recomputation the shared ones too.
    var buffers: [FloatBuffer] {
        let own = blocks.flatMap {
            [
                $0.input, $0.normed, $0.attended, $0.middle, $0.middleNormed, $0.scale, $0.middleScale, $0.qkv,
                $0.probabilities, $0.gateUp, $0.gated,
            ]
        }
        return own + [output] + [headNormed, headScale, logits, losses].compactMap { $0 }
    }
}
