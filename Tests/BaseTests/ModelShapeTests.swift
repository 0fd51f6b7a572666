import Primitives
import Testing

@Suite struct `Model shapes` {
    static let shapes = [
        ModelShape(hiddenSize: 32, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 64, context: 32),
        ModelShape(
            hiddenSize: 24, layers: 3, heads: 4, kvHeads: 1, intermediateSize: 40, context: 18, tieWordEmbeddings: true),
        ModelShape(
            hiddenSize: 48, layers: 1, heads: 6, kvHeads: 6, intermediateSize: 100, context: 8, vocabulary: 1000),
        shape(headSize: 20) { $0.projectionBias = .queryKeyValue },
        shape(headSize: 6) {
            $0.projectionBias = .all
            $0.queryKeyNorm = true
            $0.layersWithoutRope = [1]
            $0.ropeScaling = .linear(factor: 4)
        },
    ]

    static func shape(headSize: Int?, _ change: (inout ModelShape) -> Void = { _ in }) -> ModelShape {
        var shape = ModelShape(
            hiddenSize: 40, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 52, context: 12, headSize: headSize)
        change(&shape)
        return shape
    }

    /// The formula of Llama's architecture, by hand, beside the sum over tensors.
    @Test(arguments: shapes) func `have as many parameters as their tensors`(shape: ModelShape) {
        let (d, f) = (shape.hiddenSize, shape.intermediateSize)
        let (q, kv) = (shape.heads * shape.headSize, shape.kvHeads * shape.headSize)
        let biases = shape.projectionBias == .none ? 0 : q + 2 * kv + (shape.projectionBias == .all ? d : 0)
        let norms = 2 * d + (shape.queryKeyNorm ? 2 * shape.headSize : 0)
        let layer = norms + biases + 2 * d * q + 2 * kv * d + 3 * d * f
        let tables = shape.vocabulary * d * (shape.tieWordEmbeddings ? 1 : 2)
        #expect(shape.parameters == tables + d + shape.layers * layer)
        let tensors = shape.allUnits.flatMap { shape.tensors(unit: $0) }
        #expect(shape.parameters == tensors.reduce(0) { $0 + $1.count })
        #expect(Set(tensors.map(\.name)).count == tensors.count)
        for unit in shape.allUnits {
            #expect(shape.parameters(unit: unit) == shape.tensors(unit: unit).reduce(0) { $0 + $1.count })
        }
    }

    @Test func `heads have the size given, else a share of the hidden size`() {
        #expect(Self.shape(headSize: nil).headSize == 10)
        let shape = Self.shapes.last!
        #expect((shape.headSize, shape.querySize, shape.kvSize) == (6, 24, 12))
        #expect(shape.usesRope(layer: 0) && !shape.usesRope(layer: 1))
        #expect(
            shape.tensors(unit: 2).map(\.name)
                == [
                    "input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.k_proj.weight",
                    "self_attn.v_proj.weight", "self_attn.q_proj.bias", "self_attn.k_proj.bias",
                    "self_attn.v_proj.bias",
                    "self_attn.q_norm.weight", "self_attn.k_norm.weight", "self_attn.o_proj.weight",
                    "self_attn.o_proj.bias", "post_attention_layernorm.weight", "mlp.gate_proj.weight",
                    "mlp.up_proj.weight", "mlp.down_proj.weight",
                ].map { "model.layers.1." + $0 })
        #expect(shape.tensors(unit: 2)[9].shape == [40, 24])
    }

    @Test(arguments: shapes) func `any cut into runs of units covers the model`(shape: ModelShape) {
        #expect(shape.allUnits == 0..<shape.layers + 2)
        for cut in 0...shape.unitCount {
            #expect(
                shape.parameters(units: 0..<cut) + shape.parameters(units: cut..<shape.unitCount) == shape.parameters)
            let flops = { shape.forwardFLOPs(units: $0, sequences: 3) }
            #expect(abs(flops(0..<cut) + flops(cut..<shape.unitCount) - flops(shape.allUnits)) < 1)
        }
        let layers = shape.allUnits.flatMap { unit in
            shape.tensors(unit: unit).filter { $0.name.hasSuffix("q_proj.weight") }.map { _ in unit }
        }
        #expect(layers == Array(1...shape.layers))
        #expect(shape.tensors(unit: 0).map(\.name) == ["model.embed_tokens.weight"])
    }

    @Test(arguments: shapes) func `FLOPs are proportional to sequences and head the tokens`(shape: ModelShape) {
        let one = shape.forwardFLOPs(units: shape.allUnits, sequences: 1)
        #expect(abs(shape.forwardFLOPs(units: shape.allUnits, sequences: 5) - 5 * one) < 1)
        #expect(one > 0)
    }

    @Test(arguments: shapes) func `memory grows with what is held and what is in flight`(shape: ModelShape) {
        func memory(_ units: Range<Int>, _ rounds: Bool, _ inFlight: Int) -> ByteCount {
            shape.memory(units: units, rounds: rounds, sequences: 2, inFlight: inFlight)
        }
        let all = shape.allUnits
        #expect(memory(all, false, 1) < memory(all, true, 1))
        #expect(memory(all, true, 1) < memory(all, true, 2))
        #expect(memory(0..<1, true, 1) < memory(0..<2, true, 1))
        #expect(memory(all, true, 0) == memory(all, true, 1))
        #expect(
            memory(all, true, 1).bytes - memory(all, false, 1).bytes
                == shape.parameters
                * (MemoryLaw.stateBytesPerParameter(rounds: true) - MemoryLaw.stateBytesPerParameter(rounds: false)))
    }

    @Test(arguments: shapes) func `memory with recomputation is never more, and grows by inputs alone`(
        shape: ModelShape
    ) {
        let rows = 2 * shape.context
        for first in shape.allUnits {
            for end in first + 1...shape.unitCount {
                func memory(_ inFlight: Int, _ recompute: Bool) -> Int {
                    shape.memory(
                        units: first..<end, rounds: true, sequences: 2, inFlight: inFlight, recompute: recompute
                    ).bytes
                }
                #expect(memory(1, true) <= memory(1, false))
                #expect(memory(4, true) <= memory(4, false))
                let blocks = (first..<end).clamped(to: 1..<shape.layers + 1).count
                // The last stage keeps what goes to the head; whoever has the head's table a loss a row, and, of a table that is lent, what came.
                let (begins, ends) = (first == 0, end == shape.unitCount)
                let hasTable = shape.tieWordEmbeddings ? begins : ends
                let head = (ends ? shape.hiddenSize : 0) + (hasTable ? (ends ? 1 : shape.hiddenSize + 1) : 0)
                #expect(memory(4, true) - memory(1, true) == 3 * 4 * rows * (blocks * shape.hiddenSize + head))
                // One block or the head alone, once: nothing to share.
                if end == first + 1 { #expect(memory(1, true) == memory(1, false)) }
            }
        }
    }

    @Test func `memory does not grow with the square of the context, nor with rows times vocabulary`() {
        func memory(_ context: Int, vocabulary: Int = 256, sequences: Int = 1) -> Int {
            let shape = ModelShape(
                hiddenSize: 576, layers: 1, heads: 9, kvHeads: 3, intermediateSize: 1536, context: context,
                vocabulary: vocabulary)
            return shape.memory(units: 1..<3, rounds: false, sequences: sequences, inFlight: 1).bytes
                - 16 * shape.parameters(units: 1..<3)
        }
        #expect(memory(16_384) < 2 * memory(8192))
        // One layer of SmolLM2-135M at 8192 tokens: what it keeps, and all it works with.
        let shape = ModelShape(hiddenSize: 576, layers: 2, heads: 9, kvHeads: 3, intermediateSize: 1536, context: 8192)
        func bytes(_ units: Range<Int>) -> Int {
            shape.memory(units: units, rounds: false, sequences: 1, inFlight: 1).bytes - 16
                * shape.parameters(units: units)
        }
        #expect(bytes(1..<3) - bytes(1..<2) < 200_000_000)
        #expect(bytes(1..<2) < 400_000_000)
        #expect(memory(2048, vocabulary: 49_152, sequences: 4) - memory(2048, sequences: 4) < 70_000_000)
    }

    @Test func `sums of more virtual pipelines take more where gradients are exchanged every step`() {
        let shape = Self.shapes[0]
        let law = MemoryLaw(shape, sequences: 1)
        func bytes(_ share: Int, rounds: Bool) -> Int {
            law.bytes(units: shape.allUnits, rounds: rounds, inFlight: 1, recompute: false, share: share)
        }
        #expect(bytes(1, rounds: true) == bytes(8, rounds: true))
        for (share, sums) in [(1, 0), (2, 1), (3, 1), (4, 2), (8, 3), (9, 3)] {
            #expect(bytes(share, rounds: false) - bytes(1, rounds: false) == 4 * sums * shape.parameters)
        }
    }

    @Test func `a batch is cut into micro-batches without a rest`() {
        let geometry = BatchGeometry(virtualPipelines: 5, microBatch: 3, microBatchesPerVirtual: 2, context: 16)
        #expect(geometry.tokensPerMicroBatch == 48)
        #expect(geometry.microBatchesPerStep == 10)
        #expect(geometry.batchTokens == 480)
    }
}
