import JSON
import Primitives

/// Reads the keys of a config.json.
struct ConfigurationReader {
    let object: JSONObject
    let path: String

    /// Keys of `transformers` that say nothing about what the model computes.
    static let inert: Set<String> = [
        "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_flash_attn_2_enabled",
        "_name_or_path",
        "attn_implementation", "auto_map", "bad_words_ids", "begin_suppress_tokens", "bos_token_id",
        "chunk_size_feed_forward", "custom_pipelines", "decoder_start_token_id", "diversity_penalty", "do_sample",
        "early_stopping", "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty",
        "finetuning_task", "forced_bos_token_id", "forced_eos_token_id", "id2label", "initializer_range",
        "is_llama_config", "label2id", "length_penalty", "max_length", "max_window_layers", "min_length",
        "name_or_path",
        "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
        "output_hidden_states", "output_scores", "pad_token_id", "prefix", "problem_type", "remove_invalid_values",
        "repetition_penalty", "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens",
        "task_specific_params", "temperature", "tf_legacy_loss", "tie_encoder_decoder", "tokenizer_class", "top_k",
        "top_p", "torchscript", "transformers.js_config", "transformers_version", "typical_p", "unsloth_fixed",
        "unsloth_version", "use_cache",
    ]
    /// Keys that may only have one value, or be null.
    static let fixed: [(key: String, allowed: JSONValue)] = [
        ("hidden_act", "silu"), ("mlp_bias", false), ("attention_dropout", 0), ("pretraining_tp", 1),
        ("rope_interleaved", false), ("use_bfloat16", false), ("is_encoder_decoder", false),
        ("add_cross_attention", false), ("is_decoder", false), ("use_qk_norm", false), ("quantization_config", nil),
        ("partial_rotary_factor", 1), ("cross_attention_hidden_size", nil), ("pruned_heads", [:]),
    ]
    /// Keys that are read.
    static let read: Set<String> = [
        "architectures", "attention_bias", "dtype", "head_dim", "hidden_size", "intermediate_size", "layer_types",
        "max_position_embeddings", "model_type", "no_rope_layer_interval", "no_rope_layers", "num_attention_heads",
        "num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "rope_parameters", "rope_scaling", "rope_theta",
        "sliding_window", "tie_word_embeddings", "torch_dtype", "use_sliding_window", "vocab_size",
    ]

    func unsupported(_ key: String, _ found: JSONValue?, _ allowed: String) -> CheckpointError {
        .unsupported(path: path, key: key, found: found?.kind ?? "missing", allowed: allowed)
    }

    func integer(_ key: String, _ allowed: ClosedRange<Int>, otherwise: Int? = nil) throws(CheckpointError) -> Int {
        let value = object[key]
        if let otherwise, value?.isNull ?? true { return otherwise }
        guard let number = value?.integer, allowed.contains(number) else {
            throw unsupported(key, value, "a whole number from \(allowed.lowerBound) to \(allowed.upperBound)")
        }
        return number
    }

    func flag(_ key: String, otherwise: Bool) throws(CheckpointError) -> Bool {
        guard let value = object[key], !value.isNull else { return otherwise }
        guard let flag = value.flag else { throw unsupported(key, value, "true or false") }
        return flag
    }

    /// A positive finite number.
    func positive(_ value: JSONValue?, _ key: String, otherwise: Double?) throws(CheckpointError) -> Double {
        if let otherwise, value?.isNull ?? true { return otherwise }
        guard let number = value?.double, number > 0 else { throw unsupported(key, value, "a positive number") }
        return number
    }

    func type() throws(CheckpointError) -> ElementType? {
        let key = object["dtype"] == nil ? "torch_dtype" : "dtype"
        guard let value = object[key], !value.isNull else { return nil }
        guard let type = value.text.flatMap(ElementType.init(torchName:)) else {
            throw unsupported(key, value, ElementType.allCases.map(\.torchName).joined(separator: ", "))
        }
        return type
    }

    func shape() throws(CheckpointError) -> ModelShape {
        let families = ModelFamily.allCases.map(\.rawValue).joined(separator: ", ")
        guard let family = object["model_type"]?.text.flatMap(ModelFamily.init(rawValue:)) else {
            throw unsupported("model_type", object["model_type"], families)
        }
        try checkKeys(family)
        let hidden = try integer("hidden_size", 2...1 << 20)
        let heads = try integer("num_attention_heads", 1...hidden)
        let kvHeads = try integer("num_key_value_heads", 1...heads, otherwise: family.keyValueHeads ?? heads)
        guard heads % kvHeads == 0 else {
            throw .unsupported(
                path: path, key: "num_attention_heads", found: "\(heads) with \(kvHeads) key-value heads",
                allowed: "a multiple of num_key_value_heads")
        }
        let headSize = try headSize(family, hidden: hidden, heads: heads)
        var shape = ModelShape(
            hiddenSize: hidden, layers: try integer("num_hidden_layers", 1...4096), heads: heads, kvHeads: kvHeads,
            intermediateSize: try integer("intermediate_size", 1...1 << 22),
            context: try integer("max_position_embeddings", 1...1 << 24),
            vocabulary: try integer("vocab_size", 1...1 << 24),
            tieWordEmbeddings: try flag("tie_word_embeddings", otherwise: family.tiesEmbeddings), headSize: headSize)
        shape.projectionBias = family.bias(try flag("attention_bias", otherwise: false))
        shape.queryKeyNorm = family == .qwen3
        shape.normEpsilon = Float(
            try positive(object["rms_norm_eps"], "rms_norm_eps", otherwise: family.normEpsilon))
        guard shape.normEpsilon > 0 else { throw unsupported("rms_norm_eps", object["rms_norm_eps"], "at least 1e-38") }
        try readRope(family, &shape)
        try checkWindow(family, context: shape.context)
        if family == .smollm3 { shape.layersWithoutRope = try layersWithoutRope(shape.layers) }
        return shape
    }

    private func headSize(_ family: ModelFamily, hidden: Int, heads: Int) throws(CheckpointError) -> Int {
        let given = object["head_dim"]?.isNull ?? true ? family.headSize : try integer("head_dim", 2...1 << 16)
        guard given != nil || hidden % heads == 0 else {
            throw .unsupported(
                path: path, key: "num_attention_heads", found: "\(heads)",
                allowed: "a divisor of hidden_size \(hidden), or head_dim beside it")
        }
        let size = given ?? hidden / heads
        guard size % 2 == 0 else {
            throw .unsupported(
                path: path, key: "num_attention_heads", found: "\(heads) of size \(size)",
                allowed: "heads of an even size")
        }
        return size
    }

    /// Every key is read, has the one value that we can run, or changes nothing.
    private func checkKeys(_ family: ModelFamily) throws(CheckpointError) {
        for member in object.members {
            if let rule = Self.fixed.first(where: { $0.key == member.key }) {
                let isSame =
                    member.value == rule.allowed || member.value.double.map { $0 == rule.allowed.double } ?? false
                guard member.value.isNull || isSame else {
                    throw unsupported(member.key, member.value, rule.allowed.kind)
                }
            } else if !Self.read.contains(member.key), !Self.inert.contains(member.key) {
                throw unsupported(member.key, member.value, "no such key: what it means is not known here")
            }
        }
        if let value = object["architectures"], !value.isNull,
            value.array?.count != 1 || value.array?.first?.text != family.architecture
        {
            throw unsupported("architectures", value.array?.first ?? value, "[“\(family.architecture)”]")
        }
        if !family.hasBiasFlag, try flag("attention_bias", otherwise: family == .qwen2) != (family == .qwen2) {
            throw unsupported("attention_bias", object["attention_bias"], "\(family == .qwen2)")
        }
        if family != .smollm3 {
            for key in ["no_rope_layers", "no_rope_layer_interval"] {
                guard object[key]?.isNull ?? true else { throw unsupported(key, object[key], "a key of smollm3 only") }
            }
        }
    }

    // MARK: positions

    /// Both spellings: `rope_theta` beside `rope_scaling`, or `rope_parameters` with both in it.
    private func readRope(_ family: ModelFamily, _ shape: inout ModelShape) throws(CheckpointError) {
        let key = object["rope_parameters"]?.isNull ?? true ? "rope_scaling" : "rope_parameters"
        if key == "rope_parameters", !(object["rope_scaling"]?.isNull ?? true) {
            throw unsupported("rope_scaling", object["rope_scaling"], "null beside rope_parameters")
        }
        var theta = object["rope_theta"]
        if let value = object[key], !value.isNull {
            guard let rope = value.object else { throw unsupported(key, value, "an object") }
            if let inner = rope["rope_theta"] {
                guard theta?.isNull ?? true || theta?.double == inner.double else {
                    throw unsupported("rope_theta", theta, "\(inner.kind), as in \(key)")
                }
                theta = inner
            }
            shape.ropeScaling = try scaling(rope, key)
        }
        shape.ropeTheta = try positive(theta, "rope_theta", otherwise: family.ropeTheta)
    }

    private func scaling(_ rope: JSONObject, _ key: String) throws(CheckpointError) -> ModelShape.RopeScaling {
        let kind = rope["rope_type"] ?? rope["type"] ?? "default"
        if let old = rope["type"], let new = rope["rope_type"], old != new {
            throw unsupported("\(key).type", old, "\(new.kind), as rope_type")
        }
        var known = ["rope_type", "type", "rope_theta", "partial_rotary_factor"]
        func number(_ name: String) throws(CheckpointError) -> Double {
            try positive(rope[name], "\(key).\(name)", otherwise: nil)
        }
        let scaling: ModelShape.RopeScaling
        switch kind.text {
        case "default": scaling = .none
        case "linear":
            known.append("factor")
            scaling = .linear(factor: try number("factor"))
        case "llama3":
            known += ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
            let (low, high) = (try number("low_freq_factor"), try number("high_freq_factor"))
            guard high > low else {
                throw unsupported(
                    "\(key).high_freq_factor", rope["high_freq_factor"], "more than low_freq_factor \(low)")
            }
            let name = "original_max_position_embeddings"
            guard let original = rope[name]?.integer, (1...1 << 24).contains(original) else {
                throw unsupported("\(key).\(name)", rope[name], "a whole number from 1 to \(1 << 24)")
            }
            scaling = .llama3(
                factor: try number("factor"), lowFactor: low, highFactor: high, originalContext: original)
        default: throw unsupported("\(key).rope_type", kind, "default, linear or llama3")
        }
        for member in rope.members where !known.contains(member.key) && !member.value.isNull {
            throw unsupported("\(key).\(member.key)", member.value, "no such key beside \(kind.kind)")
        }
        guard rope["partial_rotary_factor"].map({ $0.isNull || $0.double == 1 }) ?? true else {
            throw unsupported("\(key).partial_rotary_factor", rope["partial_rotary_factor"], "1")
        }
        return scaling
    }

    /// A window that no position of the context sees the end of changes nothing; others are refused.
    private func checkWindow(_ family: ModelFamily, context: Int) throws(CheckpointError) {
        let isUsed = try flag("use_sliding_window", otherwise: !family.windowNeedsFlag)
        let value = object["sliding_window"]
        var window = value == nil ? family.window : nil
        if let value, !value.isNull {
            guard let number = value.integer, number > 0 else { throw unsupported("sliding_window", value, "null") }
            window = number
        }
        if isUsed, let window, window < context {
            throw .unsupported(
                path: path, key: "sliding_window", found: "\(window) of \(context) positions",
                allowed:
                    "null, or at least max_position_embeddings: lower that to \(window) to use the model without it")
        }
        if let types = object["layer_types"], !types.isNull {
            guard let list = types.array, list.allSatisfy({ $0.text == "full_attention" }) else {
                throw unsupported(
                    "layer_types", types.array?.first { $0.text != "full_attention" } ?? types,
                    "“full_attention” in each")
            }
        }
    }

    /// 1 for a layer that turns its queries and keys, or every so many-th does not.
    private func layersWithoutRope(_ layers: Int) throws(CheckpointError) -> [Int] {
        if let value = object["no_rope_layers"], !value.isNull {
            guard let list = value.array, list.count == layers, list.allSatisfy({ $0.integer == 0 || $0.integer == 1 })
            else { throw unsupported("no_rope_layers", value, "\(layers) numbers, each 0 or 1") }
            return (0..<layers).filter { list[$0].integer == 0 }
        }
        let interval = try integer("no_rope_layer_interval", 1...4096, otherwise: 4)
        return (0..<layers).filter { ($0 + 1) % interval == 0 }
    }
}
