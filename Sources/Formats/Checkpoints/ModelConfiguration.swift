public import JSON
public import Primitives

/// config.json: a model's shape in Hugging Face's words. Every key is either followed, known to change nothing, or refused
/// by name; what is carried through a job comes out as it went in.
public struct ModelConfiguration: Sendable {
    public let shape: ModelShape
    /// `torch_dtype`, or `dtype` since transformers 5; nil where the file does not say.
    public let type: ElementType?
    /// As read, or as made.
    public let json: JSONObject

    /// The configuration of a model of our own. nil where no family of Hugging Face's has all of its features.
    public init?(_ shape: ModelShape, type: ElementType) {
        guard let family = ModelFamily(shape) else { return nil }
        self.shape = shape
        self.type = type
        var json: JSONObject = JSONObject()
        json["architectures"] = [.string(family.architecture)]
        json["model_type"] = .string(family.rawValue)
        json["vocab_size"] = JSONValue(shape.vocabulary)
        json["hidden_size"] = JSONValue(shape.hiddenSize)
        json["intermediate_size"] = JSONValue(shape.intermediateSize)
        json["num_hidden_layers"] = JSONValue(shape.layers)
        json["num_attention_heads"] = JSONValue(shape.heads)
        json["num_key_value_heads"] = JSONValue(shape.kvHeads)
        json["head_dim"] = JSONValue(shape.headSize)
        json["hidden_act"] = "silu"
        json["max_position_embeddings"] = JSONValue(shape.context)
        json["rms_norm_eps"] = .number(JSONNumber(shortest: shape.normEpsilon))
        json["rope_theta"] = JSONValue(shape.ropeTheta)
        json["rope_scaling"] = Self.written(shape.ropeScaling)
        json["tie_word_embeddings"] = .bool(shape.tieWordEmbeddings)
        if family.hasBiasFlag { json["attention_bias"] = .bool(shape.projectionBias == .all) }
        if family == .llama || family == .smollm3 { json["mlp_bias"] = false }
        if family == .smollm3 {
            json["no_rope_layers"] = .array((0..<shape.layers).map { JSONValue(shape.usesRope(layer: $0) ? 1 : 0) })
        }
        if family.windowNeedsFlag { json["use_sliding_window"] = false }
        json["torch_dtype"] = .string(type.torchName)
        json["use_cache"] = true
        for key in ["bos_token_id", "eos_token_id", "pad_token_id"] { json[key] = .null }
        self.json = json
    }

    private static func written(_ scaling: ModelShape.RopeScaling) -> JSONValue {
        switch scaling {
        case .none: nil
        case .linear(let factor): ["rope_type": "linear", "type": "linear", "factor": JSONValue(factor)]
        case .llama3(let factor, let low, let high, let original):
            [
                "rope_type": "llama3", "factor": JSONValue(factor), "low_freq_factor": JSONValue(low),
                "high_freq_factor": JSONValue(high), "original_max_position_embeddings": JSONValue(original),
            ]
        }
    }

    /// As it is written beside weights of `type`: the file's own keys, with that one changed.
    public func json(type: ElementType) -> JSONObject {
        var changed = json
        let key = json["dtype"] != nil ? "dtype" : "torch_dtype"
        changed[key] = .string(type.torchName)
        return changed
    }

    private init(_ shape: ModelShape, _ type: ElementType?, _ json: JSONObject) {
        self.shape = shape
        self.type = type
        self.json = json
    }
    /// The same model with a head of its own.
    public var untied: ModelConfiguration {
        var (shape, json) = (shape, json)
        shape.tieWordEmbeddings = false
        json["tie_word_embeddings"] = .bool(false)
        return ModelConfiguration(shape, type, json)
    }

    /// Token IDs of the keys, which may be one or several.
    public func tokens(_ key: String) -> [Int] {
        guard let value = json[key] else { return [] }
        return value.integer.map { [$0] } ?? value.array?.compactMap(\.integer) ?? []
    }

    /// Reads the file's bytes.
    public init(parsing bytes: [UInt8], path: String) throws(CheckpointError) {
        guard bytes.count <= 1 << 20 else { throw .malformed(path: path, problem: "\(bytes.count) bytes are too many") }
        let value: JSONValue
        do throws(JSONError) { value = try JSONValue(parsing: bytes, maximumDepth: 16) } catch {
            throw .malformed(path: path, problem: error.description)
        }
        guard let object = value.object else { throw .malformed(path: path, problem: "not a JSON object") }
        let reader = ConfigurationReader(object: object, path: path)
        shape = try reader.shape()
        type = try reader.type()
        json = object
    }
}
