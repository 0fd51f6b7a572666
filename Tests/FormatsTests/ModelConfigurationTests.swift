import Checkpoints
import JSON
import Primitives
import Testing

@Suite struct ModelConfigurationTests {
    static let llama: JSONValue = [
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 1000, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4, "max_position_embeddings": 512,
        "hidden_act": "silu", "rms_norm_eps": 1e-05, "torch_dtype": "bfloat16", "initializer_range": 0.02,
    ]
    static func shape(_ json: JSONValue) throws(CheckpointError) -> ModelShape {
        try ModelConfiguration(parsing: json.bytes(), path: "config.json").shape
    }
    static func with(_ changes: [(String, JSONValue?)]) -> JSONValue {
        changes.reduce(llama) { $0.setting($1.0, $1.1) }
    }
    static func family(_ name: String, _ architecture: String, _ more: [(String, JSONValue?)] = []) -> JSONValue {
        with([("model_type", .string(name)), ("architectures", [.string(architecture)])] + more)
    }

    @Test func `what is not said is what the family takes it to be`() throws {
        let llama = try Self.shape(Self.llama)
        #expect(llama.kvHeads == 4 && llama.headSize == 16 && llama.ropeTheta == 10_000 && !llama.tieWordEmbeddings)
        #expect(llama.normEpsilon == 1e-5)
        #expect(try Self.shape(Self.with([("rms_norm_eps", nil)])).normEpsilon == 1e-6)
        let qwen = try Self.shape(
            Self.family(
                "qwen2", "Qwen2ForCausalLM",
                [("num_key_value_heads", 2), ("sliding_window", 64), ("use_sliding_window", false)]))
        #expect(qwen.projectionBias == .queryKeyValue && qwen.kvHeads == 2)
        let smol = try Self.shape(Self.family("smollm3", "SmolLM3ForCausalLM"))
        #expect(smol.layersWithoutRope == [3, 7] && smol.ropeTheta == 2_000_000 && smol.tieWordEmbeddings)
        let mistral = try Self.shape(
            Self.family("mistral", "MistralForCausalLM", [("num_key_value_heads", 4), ("sliding_window", nil)]))
        #expect(mistral.kvHeads == 4)
        let qwen3 = try Self.shape(
            Self.family("qwen3", "Qwen3ForCausalLM", [("num_key_value_heads", 4), ("attention_bias", true)]))
        #expect(qwen3.queryKeyNorm && qwen3.headSize == 128 && qwen3.projectionBias == .all)
    }

    @Test func `positions are stretched in the old spelling and in the new`() throws {
        let llama3: JSONValue = [
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        ]
        let expected = ModelShape.RopeScaling.llama3(factor: 32, lowFactor: 1, highFactor: 4, originalContext: 8192)
        let old = try Self.shape(Self.with([("rope_scaling", llama3), ("rope_theta", 500_000.0)]))
        #expect(old.ropeScaling == expected && old.ropeTheta == 500_000)
        let new = try Self.shape(Self.with([("rope_parameters", llama3.setting("rope_theta", 500_000))]))
        #expect(new == old)
        for linear in [["type": "linear", "factor": 4.0], ["rope_type": "linear", "factor": 4]] as [JSONValue] {
            #expect(try Self.shape(Self.with([("rope_scaling", linear)])).ropeScaling == .linear(factor: 4))
        }
        #expect(try Self.shape(Self.with([("rope_scaling", ["rope_type": "default"])])).ropeScaling == .none)
    }

    @Test func `what is not known or not possible is refused by its name`() {
        let mistral = [("model_type", "mistral"), ("architectures", ["MistralForCausalLM"])] as [(String, JSONValue?)]
        let cases: [(changes: [(String, JSONValue?)], key: String)] = [
            ([("model_type", "gpt2")], "model_type"), ([("architectures", ["MistralForCausalLM"])], "architectures"),
            ([("hidden_act", "gelu")], "hidden_act"), ([("mlp_bias", true)], "mlp_bias"),
            ([("quantization_config", ["bits": 4])], "quantization_config"),
            ([("pretraining_tp", 2)], "pretraining_tp"),
            ([("attention_dropout", 0.1)], "attention_dropout"), ([("logit_scale", 0.5)], "logit_scale"),
            ([("residual_multiplier", 1)], "residual_multiplier"), ([("rope_interleaved", true)], "rope_interleaved"),
            ([("torch_dtype", "float64")], "torch_dtype"), ([("hidden_size", 63)], "num_attention_heads"),
            ([("num_key_value_heads", 3)], "num_attention_heads"), ([("head_dim", 15)], "num_attention_heads"),
            ([("rms_norm_eps", 0)], "rms_norm_eps"), ([("rope_theta", -1)], "rope_theta"),
            ([("rope_scaling", ["type": "dynamic", "factor": 2])], "rope_scaling.rope_type"),
            ([("rope_scaling", ["rope_type": "yarn", "factor": 2])], "rope_scaling.rope_type"),
            ([("rope_scaling", ["type": "linear"])], "rope_scaling.factor"),
            ([("rope_scaling", ["type": "linear", "factor": 2, "beta": 1])], "rope_scaling.beta"),
            ([("rope_scaling", ["type": "linear", "rope_type": "default", "factor": 2])], "rope_scaling.type"),
            ([("rope_parameters", ["rope_theta": 5]), ("rope_theta", 7)], "rope_theta"),
            ([("rope_parameters", ["partial_rotary_factor": 0.5])], "rope_parameters.partial_rotary_factor"),
            ([("layer_types", ["sliding_attention"])], "layer_types"), ([("sliding_window", 64)], "sliding_window"),
            (mistral + [("num_key_value_heads", 4), ("max_position_embeddings", 32_768)], "sliding_window"),
            ([("no_rope_layers", [1, 1])], "no_rope_layers"), ([("tie_word_embeddings", "yes")], "tie_word_embeddings"),
            ([("num_hidden_layers", 1e9)], "num_hidden_layers"), ([("vocab_size", nil)], "vocab_size"),
        ]
        for (changes, key) in cases {
            do throws(CheckpointError) {
                _ = try Self.shape(Self.with(changes))
                Issue.record("\(key) was read")
            } catch {
                guard case .unsupported(_, let found, _, _) = error, found == key else {
                    Issue.record("\(key): \(error)")
                    continue
                }
            }
        }
    }

    @Test func `a configuration comes out as it went in but for the type`() throws {
        let configuration = try ModelConfiguration(parsing: Self.llama.bytes(), path: "config.json")
        #expect(configuration.type == .bf16)
        #expect(JSONValue.object(configuration.json(type: .fp32)) == Self.llama.setting("torch_dtype", "float32"))
        let new = try ModelConfiguration(
            parsing: Self.with([("torch_dtype", nil), ("dtype", "float16")]).bytes(), path: "config.json")
        #expect(new.type == .fp16)
        #expect(new.json(type: .bf16)["dtype"] == "bfloat16")
        #expect(new.json(type: .bf16)["torch_dtype"] == nil)
    }
}
