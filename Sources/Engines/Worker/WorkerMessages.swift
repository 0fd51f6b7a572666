import Compute
import Primitives

/// What goes into a worker's messages.
enum WorkerMessages {
    static func key(_ key: MicroBatchKey) -> [Int] { [key.step, key.virtualPipeline, key.index] }

    static func name(_ quantity: DeviceQuantity) throws(Refusal) -> String {
        switch quantity {
        case .parameters: return "parameters"
        case .firstMoment: return "first_moment"
        case .secondMoment: return "second_moment"
        case .gradient: return "gradient"
        case .share: throw Refusal("a worker's gradients are not exchanged")
        }
    }

    /// A stage in numbers and words: no code, no names of files.
    static func stage(_ configuration: StageConfiguration) -> [String: Any] {
        let shape = configuration.model
        let model: [String: Any] = [
            "hidden_size": shape.hiddenSize, "layers": shape.layers, "heads": shape.heads, "kv_heads": shape.kvHeads,
            "head_size": shape.headSize, "intermediate_size": shape.intermediateSize, "vocabulary": shape.vocabulary,
            "tied": shape.tieWordEmbeddings, "norm_epsilon": Double(shape.normEpsilon),
            "projection_bias": shape.projectionBias.rawValue, "query_key_norm": shape.queryKeyNorm,
            "rope_theta": shape.ropeTheta, "rope_scaling": scaling(shape.ropeScaling),
            "layers_without_rope": shape.layersWithoutRope,
        ]
        let optimizer = configuration.optimizer
        let recipe = optimizer.recipe
        var steps: [String: Any] = [
            "kind": recipe.kind.rawValue, "momentum": Double(recipe.momentum), "beta1": Double(recipe.beta1),
            "beta2": Double(recipe.beta2), "epsilon": Double(recipe.epsilon),
            "weight_decay": Double(optimizer.weightDecay), "decays": recipe.decays.rawValue,
            "z_loss": Double(recipe.zLoss), "state": recipe.kept.state.rawValue,
            "weights": recipe.kept.weights.rawValue,
        ]
        if let adapters = recipe.adapters {
            steps["adapters"] =
                [
                    "rank": adapters.rank, "scale": adapters.alpha / Double(adapters.rank),
                    "targets": adapters.targets.map(\.rawValue),
                ] as [String: Any]
        }
        return [
            "model": model, "units": [configuration.units.lowerBound, configuration.units.upperBound],
            "steps": configuration.mode == .rounds, "context": configuration.geometry.context,
            "micro_batch": configuration.geometry.microBatch,
            "recompute": configuration.recompute, "seed": String(configuration.seed),
            "optimizer": steps,
        ]
    }

    private static func scaling(_ scaling: ModelShape.RopeScaling) -> [String: Any] {
        switch scaling {
        case .none: ["type": "none"]
        case .linear(let factor): ["type": "linear", "factor": factor]
        case .llama3(let factor, let low, let high, let original):
            [
                "type": "llama3", "factor": factor, "low_factor": low, "high_factor": high,
                "original_context": original,
            ]
        }
    }
}
