import Foundation
import Primitives

/// config.json: the shape in Hugging Face's words.
enum Configuration {
    static func object(of shape: ModelShape) -> [String: Any] {
        [
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": shape.vocabulary,
            "hidden_size": shape.hiddenSize, "intermediate_size": shape.intermediateSize,
            "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kvHeads, "head_dim": shape.headSize, "hidden_act": "silu",
            "max_position_embeddings": shape.context, "rms_norm_eps": NSDecimalNumber(string: "\(shape.normEpsilon)"),
            "rope_theta": shape.ropeTheta, "tie_word_embeddings": shape.tieWordEmbeddings, "attention_bias": false,
            "mlp_bias": false, "torch_dtype": "float32", "use_cache": true, "bos_token_id": NSNull(),
            "eos_token_id": NSNull(), "pad_token_id": NSNull(),
        ]
    }

    /// The shape, if this program can run it.
    static func shape(from path: String) throws(CheckpointError) -> ModelShape {
        let data = try contents(of: path)
        guard data.count <= 1 << 20 else { throw .malformed(path: path, problem: "\(data.count) bytes are too many") }
        guard let object = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] else {
            throw .malformed(path: path, problem: "not a JSON object")
        }
        func integer(_ key: String, _ allowed: ClosedRange<Int>) throws(CheckpointError) -> Int {
            guard let number = object[key] as? NSNumber, number.doubleValue == Double(number.intValue),
                allowed.contains(number.intValue)
            else {
                throw .unsupported(
                    path: path, key: key, found: text(object[key]),
                    allowed: "a whole number from \(allowed.lowerBound) to \(allowed.upperBound)")
            }
            return number.intValue
        }
        func expect(_ key: String, _ allowed: String, optional: Bool = true) throws(CheckpointError) {
            let found = object[key]
            if optional, found == nil || found is NSNull { return }
            guard text(found) == allowed else {
                throw .unsupported(path: path, key: key, found: text(found), allowed: allowed)
            }
        }
        try expect("model_type", "llama", optional: false)
        try expect("hidden_act", "silu")
        try expect("attention_bias", "false")
        try expect("mlp_bias", "false")
        let hidden = try integer("hidden_size", 2...1 << 20)
        let heads = try integer("num_attention_heads", 1...hidden)
        let kvHeads = object["num_key_value_heads"] == nil ? heads : try integer("num_key_value_heads", 1...heads)
        guard hidden % heads == 0, heads % kvHeads == 0, hidden / heads % 2 == 0 else {
            throw .unsupported(
                path: path, key: "num_attention_heads", found: "\(heads) with \(kvHeads) key-value heads",
                allowed: "a divisor of hidden_size \(hidden) that leaves heads of an even size")
        }
        try expect("head_dim", "\(hidden / heads)")
        var shape = ModelShape(
            hiddenSize: hidden, layers: try integer("num_hidden_layers", 1...4096), heads: heads, kvHeads: kvHeads,
            intermediateSize: try integer("intermediate_size", 1...1 << 22),
            context: try integer("max_position_embeddings", 1...1 << 24),
            vocabulary: try integer("vocab_size", 1...1 << 24))
        shape.tieWordEmbeddings = text(object["tie_word_embeddings"]) == "true"
        if let epsilon = object["rms_norm_eps"] as? NSNumber { shape.normEpsilon = epsilon.floatValue }
        // transformers 5 moved theta into an object; other kinds of scaling are not ours.
        let rope = (object["rope_parameters"] ?? object["rope_scaling"]) as? [String: Any]
        if let kind = rope?["rope_type"], text(kind) != "default" {
            throw .unsupported(path: path, key: "rope_type", found: text(kind), allowed: "default")
        }
        if let theta = (object["rope_theta"] ?? rope?["rope_theta"]) as? NSNumber {
            shape.ropeTheta = theta.doubleValue
        }
        guard shape.ropeTheta > 0, shape.ropeTheta.isFinite, shape.normEpsilon > 0, shape.normEpsilon.isFinite else {
            throw .malformed(path: path, problem: "rope_theta and rms_norm_eps must be positive")
        }
        return shape
    }

    private static func text(_ value: Any?) -> String {
        switch value {
        case nil: "missing"
        case let text as String: text
        case let number as NSNumber where isBoolean(number): number.boolValue ? "true" : "false"
        case let number as NSNumber: number.stringValue
        case is NSNull: "null"
        default: "of another kind"
        }
    }

    /// JSON's booleans arrive as numbers whose type says so.
    private static func isBoolean(_ number: NSNumber) -> Bool { String(cString: number.objCType) == "c" }
}
