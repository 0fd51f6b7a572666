import Primitives

/// `model_type` of a config.json that this program knows, and what its configuration leaves unsaid.
enum ModelFamily: String, CaseIterable {
    case llama, mistral, qwen2, qwen3, smollm3

    var architecture: String {
        switch self {
        case .llama: "LlamaForCausalLM"
        case .mistral: "MistralForCausalLM"
        case .qwen2: "Qwen2ForCausalLM"
        case .qwen3: "Qwen3ForCausalLM"
        case .smollm3: "SmolLM3ForCausalLM"
        }
    }

    // What `transformers` takes where the file says nothing.

    /// nil: as many as there are heads.
    var keyValueHeads: Int? {
        switch self {
        case .llama: nil
        case .mistral: 8
        case .qwen2, .qwen3: 32
        case .smollm3: 4
        }
    }
    /// nil: hidden size ÷ heads.
    var headSize: Int? { self == .qwen3 ? 128 : nil }
    var ropeTheta: Double { self == .smollm3 ? 2_000_000 : 10_000 }
    var tiesEmbeddings: Bool { self == .smollm3 }
    var normEpsilon: Double { 1e-6 }
    /// The attention window where the key is missing.
    var window: Int? { self == .mistral ? 4096 : nil }
    /// A window counts only where `use_sliding_window` says so.
    var windowNeedsFlag: Bool { self == .qwen2 || self == .qwen3 || self == .smollm3 }

    /// `attention_bias` false and true.
    func bias(_ flag: Bool) -> ModelShape.ProjectionBias {
        self == .qwen2 ? .queryKeyValue : flag ? .all : .none
    }
    /// Whether `attention_bias` is a key of it.
    var hasBiasFlag: Bool { self == .llama || self == .qwen3 || self == .smollm3 }

    /// The family that a shape is written as; nil where none has all of its features.
    init?(_ shape: ModelShape) {
        switch (shape.projectionBias, shape.queryKeyNorm, shape.layersWithoutRope.isEmpty) {
        case (.queryKeyValue, false, true): self = .qwen2
        case (.none, true, true), (.all, true, true): self = .qwen3
        case (.none, false, false), (.all, false, false): self = .smollm3
        case (.none, false, true), (.all, false, true): self = .llama
        default: return nil
        }
    }
}
