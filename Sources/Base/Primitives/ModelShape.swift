/// The numbers that define a Llama-style model: all a job may say about its architecture (no code crosses the wire).
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
    public var ropeTheta: Double = 10_000
    public var normEpsilon: Float = 1e-5

    public init(
        hiddenSize: Int, layers: Int, heads: Int, kvHeads: Int, intermediateSize: Int, context: Int,
        vocabulary: Int = 256, tieWordEmbeddings: Bool = false
    ) {
        self.hiddenSize = hiddenSize
        self.layers = layers
        self.heads = heads
        self.kvHeads = kvHeads
        self.intermediateSize = intermediateSize
        self.context = context
        self.vocabulary = vocabulary
        self.tieWordEmbeddings = tieWordEmbeddings
    }

    public var headSize: Int { hiddenSize / heads }
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
        return [
            Tensor(p + "input_layernorm.weight", [d]),
            Tensor(p + "self_attn.q_proj.weight", [d, d]),
            Tensor(p + "self_attn.k_proj.weight", [kvSize, d]),
            Tensor(p + "self_attn.v_proj.weight", [kvSize, d]),
            Tensor(p + "self_attn.o_proj.weight", [d, d]),
            Tensor(p + "post_attention_layernorm.weight", [d]),
            Tensor(p + "mlp.gate_proj.weight", [intermediateSize, d]),
            Tensor(p + "mlp.up_proj.weight", [intermediateSize, d]),
            Tensor(p + "mlp.down_proj.weight", [d, intermediateSize]),
        ]
    }

    /// The values of ``tensors(unit:)``, without their names.
    public func parameters(unit: Int) -> Int {
        if unit == 0 { return vocabulary * hiddenSize }
        if unit == layers + 1 { return hiddenSize + (tieWordEmbeddings ? 0 : vocabulary * hiddenSize) }
        return 2 * hiddenSize + 2 * hiddenSize * hiddenSize + 2 * kvSize * hiddenSize + 3 * intermediateSize
            * hiddenSize
    }
    public func parameters(units: Range<Int>) -> Int {
        let blocks = units.clamped(to: 1..<layers + 1)
        var sum = blocks.isEmpty ? 0 : blocks.count * parameters(unit: 1)
        for unit in [0, layers + 1] where units.contains(unit) { sum += parameters(unit: unit) }
        return sum
    }
    public var parameters: Int { parameters(units: allUnits) }

    /// FLOPs of the forward pass of one unit over `sequences` full sequences: 2 per weight and token in the matrices, plus
    /// 2·T·d per token for the causal half of QKᵀ and PV. Backward is twice this; the embedding is a copy.
    public func forwardFLOPs(unit: Int, sequences: Int) -> Double {
        let tokens = Double(sequences * context)
        if unit == 0 { return tokens * Double(hiddenSize) }
        if unit == layers + 1 { return 2 * tokens * Double(vocabulary * hiddenSize) }
        let matrices = 2 * hiddenSize * hiddenSize + 2 * kvSize * hiddenSize + 3 * intermediateSize * hiddenSize
        return tokens * (2 * Double(matrices) + 2 * Double(context * hiddenSize))
    }
    public func forwardFLOPs(units: Range<Int>, sequences: Int) -> Double {
        units.reduce(0) { $0 + forwardFLOPs(unit: $1, sequences: sequences) }
    }

    /// Values in one activation (or its gradient) between two stages: [sequences, T, d].
    public func activationValues(sequences: Int) -> Int { sequences * context * hiddenSize }

    /// Optimizer state and weights: 16 bytes a parameter (fp32 weight, gradient, two Adam moments); 36 with rounds (besides,
    /// outer weights, outer momentum, error feedback, and the moments at the round's start, so that it can be begun anew).
    public static func stateBytesPerParameter(rounds: Bool) -> Int { rounds ? 36 : 16 }

    /// Bytes one stage needs: its state, the saved activations of `inFlight` micro-batches, and one workspace.
    ///
    /// A stage that recomputes (Chen et al. 2016, 1604.06174) saves of each micro-batch the input of each block and of the
    /// head only. What else their backward needs it has room for once: for one block, and for the head.
    public func memory(
        units: Range<Int>, rounds: Bool, sequences: Int, inFlight: Int, recompute: Bool = false
    ) -> ByteCount {
        let state = parameters(units: units) * Self.stateBytesPerParameter(rounds: rounds)
        let tokens = sequences * context
        let input = tokens * hiddenSize * 4
        var saved = 0
        var shared = 0
        var workspace = tokens * hiddenSize * 4 * 4
        let blocks = units.clamped(to: 1..<layers + 1).count
        if blocks > 0 {
            let rest =
                4 * tokens * (5 * hiddenSize + 2 * kvSize + 3 * intermediateSize)
                + 4 * sequences * heads * context * context
            saved += blocks * (recompute ? input : input + rest)
            if recompute { shared += rest }
            workspace = max(workspace, 4 * tokens * (4 * hiddenSize + 2 * kvSize + 3 * intermediateSize))
        }
        if units.contains(layers + 1) {
            let rest = input + tokens * vocabulary * 4
            saved += recompute ? input : input + rest
            if recompute { shared += rest }
        }
        return ByteCount(state + saved * max(1, inFlight) + shared + workspace)
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
