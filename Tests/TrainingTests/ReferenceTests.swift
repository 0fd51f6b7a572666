import Exchange
import Primitives
import Testing
import Training
import Wire

/// Loss and gradients against PyTorch's `LlamaForCausalLM` in double arithmetic, and against finite differences.
@Suite struct ReferenceTests {
    static let model = ModelShape(
        hiddenSize: 32, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 48, context: 16)
    static let corpus = Array(Small.corpus.prefix(400))

    /// The weights of Tools/engine/reference.py.
    static var parameters: ModelParameters {
        var number = 0
        let units = model.allUnits.map { unit in
            model.tensors(unit: unit).flatMap { tensor in
                defer { number += 1 }
                return (0..<tensor.count).map { index -> Float in
                    let hash = UInt32(truncatingIfNeeded: index * 2_654_435_761 + number * 40503)
                    return Float((Double(hash) / 4_294_967_296 - 0.5) / 4 + (tensor.shape.count == 1 ? 1 : 0))
                }
            }
        }
        return ModelParameters(shape: model, units: units)!
    }

    static func engine(_ parameters: ModelParameters) -> StageEngine {
        var configuration = Small.configuration(
            model: parameters.shape, virtualPipelines: 1, microBatches: 1, microBatch: 2)
        configuration.seed = 5
        configuration.validationFraction = 0
        let engine = StageEngine(corpus: corpus, threads: 1)
        #expect(engine.perform(.configure(configuration)) == .done)
        #expect(engine.perform(.importState(parameters.states)) == .done)
        return engine
    }

    static let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)

    static func loss(_ parameters: ModelParameters) -> Float {
        guard case .loss(let loss) = engine(parameters).perform(.forward(key, input: [])) else { return .nan }
        return loss
    }

    /// All gradients by tensor name.
    static func gradients(_ parameters: ModelParameters) -> [String: [Float]] {
        let engine = engine(parameters)
        _ = engine.perform(.forward(key, input: []))
        _ = engine.perform(.backward(key, gradient: []))
        guard case .contribution(let units) = engine.perform(.encodeContribution) else { return [:] }
        var gradients: [String: [Float]] = [:]
        for part in units {
            var rest = part.bytes.array[...]
            for tensor in parameters.shape.tensors(unit: part.unit) {
                rest = rest.dropFirst(4)
                gradients[tensor.name] = [Float](unsafeUninitializedCapacity: tensor.count) { values, count in
                    UnsafeMutableRawBufferPointer(values).copyBytes(from: rest.prefix(tensor.count * 4))
                    count = tensor.count
                }
                rest = rest.dropFirst(tensor.count * 4)
            }
        }
        return gradients
    }

    /// One tensor's gradient: its sum of squares, and its largest element.
    struct Gradient: Sendable {
        let name: String
        let sumSquares: Double
        let index: Int
        let value: Double
        init(_ name: String, _ sumSquares: Double, _ index: Int, _ value: Double) {
            self.name = name
            self.sumSquares = sumSquares
            self.index = index
            self.value = value
        }
    }

    /// Printed by Tools/engine/reference.py.
    static let expected = [
        Gradient("model.embed_tokens.weight", 1.517349929e-01, 2482, 4.918905502e-02),
        Gradient("model.layers.0.input_layernorm.weight", 5.154739408e-04, 0, 1.030640987e-02),
        Gradient("model.layers.0.self_attn.q_proj.weight", 1.771467789e-02, 785, 1.734670408e-02),
        Gradient("model.layers.0.self_attn.k_proj.weight", 1.677961886e-02, 433, 2.052445222e-02),
        Gradient("model.layers.0.self_attn.v_proj.weight", 1.342189910e-01, 131, 5.040054099e-02),
        Gradient("model.layers.0.self_attn.o_proj.weight", 7.254824288e-01, 209, -8.120175389e-02),
        Gradient("model.layers.0.post_attention_layernorm.weight", 4.722926826e-05, 8, -3.442283059e-03),
        Gradient("model.layers.0.mlp.gate_proj.weight", 1.087441311e-02, 1191, -1.699555525e-02),
        Gradient("model.layers.0.mlp.up_proj.weight", 9.845172823e-03, 1191, -1.374435733e-02),
        Gradient("model.layers.0.mlp.down_proj.weight", 1.094802381e-01, 856, -2.808645333e-02),
        Gradient("model.layers.1.input_layernorm.weight", 8.142435387e-05, 0, -5.059761403e-03),
        Gradient("model.layers.1.self_attn.q_proj.weight", 5.887412323e-04, 947, -2.718498549e-03),
        Gradient("model.layers.1.self_attn.k_proj.weight", 5.435926036e-04, 19, -3.579335809e-03),
        Gradient("model.layers.1.self_attn.v_proj.weight", 9.079177476e-02, 132, -3.486822363e-02),
        Gradient("model.layers.1.self_attn.o_proj.weight", 1.253535716e-02, 448, -1.384301643e-02),
        Gradient("model.layers.1.post_attention_layernorm.weight", 3.910058034e-05, 7, -3.548454737e-03),
        Gradient("model.layers.1.mlp.gate_proj.weight", 9.962061021e-03, 1191, -1.939528730e-02),
        Gradient("model.layers.1.mlp.up_proj.weight", 8.272152084e-03, 1191, -1.545279742e-02),
        Gradient("model.layers.1.mlp.down_proj.weight", 2.800313958e-02, 1006, -2.636790228e-02),
        Gradient("model.norm.weight", 4.981248316e-03, 13, -2.282662251e-02),
        Gradient("lm_head.weight", 9.431232215e-01, 2759, 1.184959884e-01),
    ]

    @Test func `the loss equals PyTorch's`() {
        #expect(abs(Self.loss(Self.parameters) - 5.374657522) < 5e-6)
    }

    @Test func `every tensor's gradient equals PyTorch's`() {
        let gradients = Self.gradients(Self.parameters)
        #expect(gradients.count == Self.expected.count)
        for tensor in Self.expected {
            let found = gradients[tensor.name]!
            let squares = found.reduce(0.0) { $0 + Double($1) * Double($1) }
            #expect(abs(squares / tensor.sumSquares - 1) < 2e-4, "\(tensor.name)")
            #expect(abs(Double(found[tensor.index]) / tensor.value - 1) < 2e-4, "\(tensor.name)")
        }
    }

    /// A few elements of every tensor; tied embeddings too, where the first tensor gets two gradients.
    @Test(arguments: [false, true])
    func `gradients are the slopes of the loss`(tied: Bool) {
        var model = Self.model
        model.tieWordEmbeddings = tied
        var units = Self.parameters.units
        if tied { units[model.layers + 1] = Array(units[model.layers + 1].prefix(model.hiddenSize)) }
        let parameters = ModelParameters(shape: model, units: units)!
        let gradients = Self.gradients(parameters)
        let width: Float = 0.01
        for unit in model.allUnits {
            var offset = 0
            for tensor in model.tensors(unit: unit) {
                let gradient = gradients[tensor.name]!
                let index = gradient.indices.max { abs(gradient[$0]) < abs(gradient[$1]) }!
                let losses = [width, -width].map { change -> Float in
                    var moved = units
                    moved[unit][offset + index] += change
                    return Self.loss(ModelParameters(shape: model, units: moved)!)
                }
                let slope = (losses[0] - losses[1]) / (2 * width)
                #expect(abs(slope - gradient[index]) < 2e-4 + 0.02 * abs(gradient[index]), "\(tensor.name)")
                offset += tensor.count
            }
        }
    }
}
