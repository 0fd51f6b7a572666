import Primitives

/// What the forward pass of one micro-batch keeps for backward, R = sequences · length rows. One exists for every
/// micro-batch in flight.
final class SavedActivations {
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
    }
    let blocks: [Block]
    /// [R, d]: what leaves the last block; the head's input on the last stage.
    let output: FloatBuffer
    /// [R, d] and [R]; [R, V]: logits, then their gradient; [R]. Only with the head.
    let headNormed, headScale, logits, losses: FloatBuffer?
    /// [R]; the first stage's and the last stage's.
    var tokens: [Int32] = []
    var targets: [Int32] = []

    /// Room for `sequences` sequences of `length` tokens.
    init(shape: ModelShape, units: Range<Int>, sequences: Int, length: Int) {
        let rows = sequences * length
        let d = shape.hiddenSize
        func buffer(_ width: Int) -> FloatBuffer { FloatBuffer(rows * width) }
        blocks = units.filter { $0 != 0 && $0 != shape.layers + 1 }.map { _ in
            Block(
                input: buffer(d), normed: buffer(d), attended: buffer(d), middle: buffer(d), middleNormed: buffer(d),
                scale: buffer(1), middleScale: buffer(1), qkv: buffer(d + 2 * shape.kvSize),
                probabilities: FloatBuffer(sequences * shape.heads * length * length),
                gateUp: buffer(2 * shape.intermediateSize), gated: buffer(shape.intermediateSize))
        }
        output = buffer(d)
        let hasHead = units.contains(shape.layers + 1)
        headNormed = hasHead ? buffer(d) : nil
        headScale = hasHead ? buffer(1) : nil
        logits = hasHead ? buffer(shape.vocabulary) : nil
        losses = hasHead ? buffer(1) : nil
    }

    /// Where the stage's input goes: the first block's, or straight to the output.
    var input: FloatBuffer { blocks.first?.input ?? output }
}
