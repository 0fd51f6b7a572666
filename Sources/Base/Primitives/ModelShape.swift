/// The numbers that define a model of the Llama family: all a job may say about its architecture (no code crosses the wire).
/// With biases, norms of queries and keys, layers without positions or heads of their own size it is what Hugging Face calls
/// `qwen2`, `qwen3`, `smollm3`, `mistral`.
///
/// Units cut it: 0 = embedding, 1…layers = blocks, layers+1 = final norm and head. Everything here is arithmetic on the
/// shape, shared by the planner, the pacing of emulated devices and the simulator, so that they cannot disagree.
public struct ModelShape: Hashable, Sendable {
    public var hiddenSize: Int
    public var layers: Int
    public var heads: Int
    public var kvHeads: Int
    public var intermediateSize: Int
    /// T: tokens of one sequence.
    public var context: Int
    /// 256 for the byte tokenizer.
    public var vocabulary: Int
    public var tieWordEmbeddings: Bool
    /// Values of one head; even.
    public var headSize: Int
    public var projectionBias = ProjectionBias.none
    /// Whether each head's query and key go through an RMS norm with a gain of their own before they are turned.
    public var queryKeyNorm = false
    public var ropeTheta: Double = 10_000
    public var ropeScaling = RopeScaling.none
    /// Layers, from 0, whose queries and keys are not turned (NoPE, 2305.19466); ascending.
    public var layersWithoutRope: [Int] = []
    public var normEpsilon: Float = 1e-5

    /// Which of the attention's projections add a bias.
    public enum ProjectionBias: String, Hashable, Sendable, CaseIterable {
        case none
        /// Queries, keys and values (Qwen2).
        case queryKeyValue = "qkv"
        /// Those and the output (`attention_bias` of Llama).
        case all
    }

    /// How the turning frequencies are stretched for contexts longer than those a model was first trained on.
    public enum RopeScaling: Hashable, Sendable {
        case none
        /// All divided by `factor`.
        case linear(factor: Double)
        /// Llama 3.1: waves longer than `originalContext` ÷ `lowFactor` are divided by `factor`, those shorter than
        /// `originalContext` ÷ `highFactor` are left alone, and between them both are blended.
        case llama3(factor: Double, lowFactor: Double, highFactor: Double, originalContext: Int)
    }

    /// - Parameter headSize: nil for hidden size ÷ heads.
    public init(
        hiddenSize: Int, layers: Int, heads: Int, kvHeads: Int, intermediateSize: Int, context: Int,
        vocabulary: Int = 256, tieWordEmbeddings: Bool = false, headSize: Int? = nil
    ) {
        self.hiddenSize = hiddenSize
        self.layers = layers
        self.heads = heads
        self.kvHeads = kvHeads
        self.intermediateSize = intermediateSize
        self.context = context
        self.vocabulary = vocabulary
        self.tieWordEmbeddings = tieWordEmbeddings
        self.headSize = headSize ?? hiddenSize / max(1, heads)
    }

    /// Values of a token's queries, and of its keys or values.
    public var querySize: Int { heads * headSize }
    public var kvSize: Int { kvHeads * headSize }
    public var unitCount: Int { layers + 2 }
    public var allUnits: Range<Int> { 0..<unitCount }

    /// One weight tensor under its Hugging Face name; linear weights are [out, in].
    public struct Tensor: Hashable, Sendable {
        public let name: String
        public let shape: [Int]
        public var count: Int { shape.reduce(1, *) }
        public init(_ name: String, _ shape: [Int]) {
            self.name = name
            self.shape = shape
        }
    }

    /// The tensors of one unit in canonical order: the order of sums, hashes and wire messages.
    public func tensors(unit: Int) -> [Tensor] {
        let d = hiddenSize
        if unit == 0 { return [Tensor("model.embed_tokens.weight", [vocabulary, d])] }
        if unit == layers + 1 {
            let norm = Tensor("model.norm.weight", [d])
            return tieWordEmbeddings ? [norm] : [norm, Tensor("lm_head.weight", [vocabulary, d])]
        }
        let p = "model.layers.\(unit - 1)."
        let projections = [("q", querySize), ("k", kvSize), ("v", kvSize)]
        var out = [Tensor(p + "input_layernorm.weight", [d])]
        out += projections.map { Tensor(p + "self_attn.\($0)_proj.weight", [$1, d]) }
        if projectionBias != .none { out += projections.map { Tensor(p + "self_attn.\($0)_proj.bias", [$1]) } }
        if queryKeyNorm { out += ["q", "k"].map { Tensor(p + "self_attn.\($0)_norm.weight", [headSize]) } }
        out.append(Tensor(p + "self_attn.o_proj.weight", [d, querySize]))
        if projectionBias == .all { out.append(Tensor(p + "self_attn.o_proj.bias", [d])) }
        return out + [
            Tensor(p + "post_attention_layernorm.weight", [d]),
            Tensor(p + "mlp.gate_proj.weight", [intermediateSize, d]),
            Tensor(p + "mlp.up_proj.weight", [intermediateSize, d]),
            Tensor(p + "mlp.down_proj.weight", [d, intermediateSize]),
        ]
    }

    /// Whether a layer, from 0, turns its queries and keys.
    public func usesRope(layer: Int) -> Bool { !layersWithoutRope.contains(layer) }

    /// Values in the matrices of one block.
    var blockMatrices: Int {
        2 * hiddenSize * (querySize + kvSize) + 3 * intermediateSize * hiddenSize
    }
    /// The values of ``tensors(unit:)``, without their names.
    public func parameters(unit: Int) -> Int {
        if unit == 0 { return vocabulary * hiddenSize }
        if unit == layers + 1 { return hiddenSize + (tieWordEmbeddings ? 0 : vocabulary * hiddenSize) }
        let biases =
            (projectionBias == .none ? 0 : querySize + 2 * kvSize) + (projectionBias == .all ? hiddenSize : 0)
        return 2 * hiddenSize + blockMatrices + biases + (queryKeyNorm ? 2 * headSize : 0)
    }
    public func parameters(units: Range<Int>) -> Int {
        let blocks = units.clamped(to: 1..<layers + 1)
        var sum = blocks.isEmpty ? 0 : blocks.count * parameters(unit: 1)
        for unit in [0, layers + 1] where units.contains(unit) { sum += parameters(unit: unit) }
        return sum
    }
    public var parameters: Int { parameters(units: allUnits) }

    /// FLOPs of the forward pass of one unit over `sequences` full sequences: 2 per weight and token in the matrices, plus
    /// 2·T·heads·head size per token for the causal half of QKᵀ and PV. Backward is twice this; the embedding is a copy. The head is
    /// reckoned where its table is: to the embedding, where both are one.
    public func forwardFLOPs(unit: Int, sequences: Int) -> Double {
        let tokens = Double(sequences * context)
        let copy = tokens * Double(hiddenSize)
        if unit == 0 { return copy + (tieWordEmbeddings ? headFLOPs(sequences: sequences) : 0) }
        if unit == layers + 1 { return tieWordEmbeddings ? copy : headFLOPs(sequences: sequences) }
        return tokens * (2 * Double(blockMatrices) + 2 * Double(context * querySize))
    }
    public func forwardFLOPs(units: Range<Int>, sequences: Int) -> Double {
        units.reduce(0) { $0 + forwardFLOPs(unit: $1, sequences: sequences) }
    }
    /// Of the logits.
    public func headFLOPs(sequences: Int) -> Double {
        2 * Double(sequences * context) * Double(vocabulary * hiddenSize)
    }
    /// Of a stage's own forward: without the head that it lends to the last one.
    public func forwardFLOPs(stage units: Range<Int>, sequences: Int) -> Double {
        forwardFLOPs(units: units, sequences: sequences) - (lendsTable(units) ? headFLOPs(sequences: sequences) : 0)
    }
    /// Whether a stage of these units goes from its forward to its backward at once, having head and final norm.
    public func endsWithLoss(_ units: Range<Int>) -> Bool {
        units.upperBound == unitCount && (units.lowerBound == 0 || !tieWordEmbeddings)
    }
    /// Whether a stage of these units makes logits.
    public func hasHeadTable(_ units: Range<Int>) -> Bool {
        tieWordEmbeddings ? units.lowerBound == 0 : units.upperBound == unitCount
    }
    /// Whether a stage of these units holds embeddings that are the head too, and not the final norm before the head.
    public func lendsTable(_ units: Range<Int>) -> Bool {
        tieWordEmbeddings && units.lowerBound == 0 && units.upperBound < unitCount
    }

    /// Values in one activation (or its gradient) between two stages: [sequences, T, d].
    public func activationValues(sequences: Int) -> Int { sequences * context * hiddenSize }

    /// Bytes one stage needs, by ``MemoryLaw``.
    public func memory(
        units: Range<Int>, rounds: Bool, sequences: Int, inFlight: Int, recompute: Bool = false, share: Int = 1,
        kept: KeptFormats = KeptFormats()
    ) -> ByteCount {
        ByteCount(
            MemoryLaw(self, sequences: sequences, kept: kept).bytes(
                units: units, rounds: rounds, inFlight: inFlight, recompute: recompute, share: share))
    }
}

/// How a job's batch is cut. A job fixes it; plans only map virtual pipelines onto peers.
public struct BatchGeometry: Hashable, Sendable {
    /// V: fixed shares of each batch.
    public var virtualPipelines: Int
    /// m: sequences in one micro-batch.
    public var microBatch: Int
    /// k: micro-batches of each virtual pipeline in one step.
    public var microBatchesPerVirtual: Int
    /// T.
    public var context: Int
    public init(virtualPipelines: Int, microBatch: Int, microBatchesPerVirtual: Int, context: Int) {
        self.virtualPipelines = virtualPipelines
        self.microBatch = microBatch
        self.microBatchesPerVirtual = microBatchesPerVirtual
        self.context = context
    }
    public var tokensPerMicroBatch: Int { microBatch * context }
    public var microBatchesPerStep: Int { virtualPipelines * microBatchesPerVirtual }
    public var batchTokens: Int { microBatchesPerStep * tokensPerMicroBatch }
}
