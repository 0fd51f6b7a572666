internal import Compute
internal import Exchange
internal import Primitives
internal import Topologies

private let modelKeys = [
    "architecture", "hidden_size", "layers", "heads", "kv_heads", "intermediate_size", "context", "tokenizer",
    "tie_word_embeddings", "rope_theta", "norm_epsilon", "head_dim", "projection_bias", "qk_norm", "rope_scaling",
    "layers_without_rope", "vocabulary", "units",
]

/// The `model` part of a job file.
struct ModelEntry {
    var shape: ModelShape
    var tokenizer = JobManifest.Tokenizer.byte
    /// Where the weights lie at the launcher.
    var folder: String?
    var units: [Digest256] = []
}

func readModel(_ node: YAMLNode, _ folders: JobManifest.FolderReader?) throws(ManifestError) -> ModelEntry {
    let entry = try node.mapping(modelKeys + ["from"])
    if let from = entry["from"] { return try readFolder(from, node, folders) }
    _ = try entry["architecture"]?.word(["llama"])
    let words = JobManifest.Tokenizer.allCases.map(\.rawValue)
    var out = ModelEntry(shape: try readShape(entry))
    out.tokenizer =
        try entry["tokenizer"].map { node throws(ManifestError) in
            JobManifest.Tokenizer(rawValue: try node.word(words))!
        } ?? .byte
    if let node = entry["vocabulary"] {
        guard out.tokenizer == .ids else {
            throw node.problem(.outOfRange, allowed: "vocabulary with tokenizer: ids")
        }
        out.shape.vocabulary = try node.integer(2...1 << 24)
    } else if out.tokenizer == .ids {
        _ = try entry.required("vocabulary")
    }
    if let node = entry["units"] { out.units = try readUnits(node, out.shape.unitCount) }
    return out
}

/// `from` says all about the model but how much of a text it reads at once, and whether its two ends stay one.
private func readFolder(
    _ from: YAMLNode, _ node: YAMLNode, _ folders: JobManifest.FolderReader?
) throws(ManifestError) -> ModelEntry {
    let entry = try node.mapping(["from", "context", "tie_word_embeddings"])
    guard let folders else { throw from.problem(.outOfRange, allowed: "from in a launcher's own job file") }
    let folder = try from.text("a model's folder")
    var shape: ModelShape
    do throws(JobManifest.FolderProblem) { shape = try folders(folder) } catch {
        throw from.problem(.outOfRange, found: error.description, allowed: "a folder whose model can be trained")
    }
    if let node = entry["context"] { shape.context = try node.integer(2...shape.context) }
    if let node = entry["tie_word_embeddings"] {
        let ties = try node.boolean()
        guard shape.tieWordEmbeddings || !ties else {
            throw node.problem(.outOfRange, allowed: "false: the folder's model has a head of its own")
        }
        shape.tieWordEmbeddings = ties
    }
    return ModelEntry(shape: shape, tokenizer: .ids, folder: folder)
}

private func readUnits(_ node: YAMLNode, _ count: Int) throws(ManifestError) -> [Digest256] {
    var out: [Digest256] = []
    for item in try node.list("\(count) content IDs, one a unit", most: count) {
        let text = try item.text("64 lower-case hexadecimal digits")
        guard let bytes = [UInt8](hex: text), let id = Digest256(bytes), id.hex == text else {
            throw item.problem(.outOfRange, allowed: "64 lower-case hexadecimal digits")
        }
        out.append(id)
    }
    guard out.count == count else {
        throw node.problem(.outOfRange, found: "\(out.count)", allowed: "\(count) content IDs, one a unit")
    }
    return out
}

private func readShape(_ entry: YAMLMapping) throws(ManifestError) -> ModelShape {
    let hidden = try entry.required("hidden_size").integer(2...65_536)
    let heads = try entry.required("heads").integer(1...1024)
    let headSize = try entry["head_dim"]?.integer(2...1024)
    if let node = entry["head_dim"], let headSize, headSize % 2 != 0 {
        throw node.problem(.outOfRange, allowed: "an even number: halves of a head are turned together")
    }
    guard headSize != nil || hidden % heads == 0 && hidden / heads % 2 == 0 else {
        throw try entry.required("hidden_size").problem(
            .outOfRange,
            allowed: "a multiple of 2 × heads (\(2 * heads)), or head_dim: the size of a head must be whole and even")
    }
    let kvHeads = try entry["kv_heads"]?.integer(1...heads) ?? heads
    guard heads % kvHeads == 0 else {
        throw try entry.required("kv_heads").problem(.outOfRange, allowed: "a divisor of heads (\(heads))")
    }
    var model = ModelShape(
        hiddenSize: hidden, layers: try entry.required("layers").integer(1...1024), heads: heads, kvHeads: kvHeads,
        intermediateSize: try entry.required("intermediate_size").integer(1...1_048_576),
        context: try entry.required("context").integer(2...65_536),
        tieWordEmbeddings: try entry["tie_word_embeddings"]?.boolean() ?? false, headSize: headSize)
    model.ropeTheta = try entry["rope_theta"]?.number(1...1e12) ?? model.ropeTheta
    if let node = entry["norm_epsilon"] { model.normEpsilon = Float(try node.number(1e-12...1)) }
    if let word = try entry["projection_bias"]?.word(ModelShape.ProjectionBias.allCases.map(\.rawValue)) {
        model.projectionBias = ModelShape.ProjectionBias(rawValue: word)!
    }
    model.queryKeyNorm = try entry["qk_norm"]?.boolean() ?? false
    if let node = entry["rope_scaling"] { model.ropeScaling = try readScaling(node) }
    if let node = entry["layers_without_rope"] { model.layersWithoutRope = try readLayers(node, of: model.layers) }
    return model
}

extension JobManifest {
    /// A line of a canonical job file for the weights that a job begins with.
    var initialText: String {
        beginning.units.isEmpty ? "" : "\n  units: [" + beginning.units.map(\.hex).joined(separator: ", ") + "]"
    }
}

private func readScaling(_ node: YAMLNode) throws(ManifestError) -> ModelShape.RopeScaling {
    let entry = try node.mapping(["type", "factor", "low_factor", "high_factor", "original_context"])
    let kind = try entry.required("type").word(["linear", "llama3"])
    let factor = try entry.required("factor").number(1...1e6)
    guard kind == "llama3" else {
        for key in ["low_factor", "high_factor", "original_context"] {
            if let node = entry[key] { throw node.problem(.outOfRange, allowed: "type: llama3 with it") }
        }
        return .linear(factor: factor)
    }
    let low = try entry.required("low_factor").number(1e-3...1e6)
    let high = try entry.required("high_factor").number(1e-3...1e6)
    guard low < high else {
        throw try entry.required("high_factor").problem(.outOfRange, allowed: "more than low_factor (\(low))")
    }
    return .llama3(
        factor: factor, lowFactor: low, highFactor: high,
        originalContext: try entry.required("original_context").integer(1...16_777_216))
}

private func readLayers(_ node: YAMLNode, of layers: Int) throws(ManifestError) -> [Int] {
    var found: [Int] = []
    for item in try node.list("a list of layers, from 0", most: layers) {
        let layer = try item.integer(0...layers - 1)
        guard found.last.map({ $0 < layer }) ?? true else {
            throw item.problem(.outOfRange, allowed: "layers in ascending order, each once")
        }
        found.append(layer)
    }
    return found
}

extension ModelShape {
    /// Lines of a canonical job file for what most models do not have.
    var unusualText: String {
        var out = ""
        if vocabulary != 256 { out += "\n  vocabulary: \(vocabulary)" }
        if headSize * heads != hiddenSize { out += "\n  head_dim: \(headSize)" }
        if projectionBias != .none { out += "\n  projection_bias: \(projectionBias.rawValue)" }
        if queryKeyNorm { out += "\n  qk_norm: true" }
        switch ropeScaling {
        case .none: break
        case .linear(let factor): out += "\n  rope_scaling: {type: linear, factor: \(yamlNumber(factor))}"
        case .llama3(let factor, let low, let high, let original):
            out +=
                "\n  rope_scaling: {type: llama3, factor: \(yamlNumber(factor)), low_factor: \(yamlNumber(low)), "
                + "high_factor: \(yamlNumber(high)), original_context: \(original)}"
        }
        if !layersWithoutRope.isEmpty {
            out += "\n  layers_without_rope: [\(layersWithoutRope.map(String.init).joined(separator: ", "))]"
        }
        return out
    }
}

extension InnerOptimizer.Recipe {
    /// From the `train` part of a job file.
    mutating func read(_ train: YAMLMapping) throws(ManifestError) {
        func number(_ key: String, _ range: ClosedRange<Double>, _ usual: Float) throws(ManifestError) -> Float {
            try train[key].map { node throws(ManifestError) in Float(try node.number(range)) } ?? usual
        }
        beta1 = try number("beta1", 0...0.9999, beta1)
        beta2 = try number("beta2", 0...0.999_999, beta2)
        epsilon = try number("epsilon", 1e-16...1, epsilon)
        momentum = try number("momentum", 0...0.9999, momentum)
        finalShare = try number("final_share", 0...1, finalShare)
        zLoss = try number("z_loss", 0...1, zLoss)
        decayTokens = try train["decay_tokens"]?.integer(0...1_000_000_000_000_000) ?? decayTokens
        if let word = try train["decay"]?.word(InnerOptimizer.DecayTargets.allCases.map(\.rawValue)) {
            decays = InnerOptimizer.DecayTargets(rawValue: word)!
        }
        if let node = train["adapters"] { adapters = try readAdapters(node) }
        let formats = NumberFormat.allCases.map(\.rawValue)
        if let word = try train["state"]?.word(formats) { kept.state = NumberFormat(rawValue: word)! }
        if let word = try train["weights"]?.word(formats) { kept.weights = NumberFormat(rawValue: word)! }
    }

    /// Lines of a canonical job file for what is not as usual.
    var unusualText: String {
        let usual = Self()
        func line(_ key: String, _ own: Float, _ usual: Float) -> String {
            // The shortest digits that read back as this number.
            own == usual ? "" : "\n  \(key): \(yamlNumber(Double("\(own)")!))"
        }
        return line("beta1", beta1, usual.beta1) + line("beta2", beta2, usual.beta2)
            + line("epsilon", epsilon, usual.epsilon) + line("momentum", momentum, usual.momentum)
            + (decays == usual.decays ? "" : "\n  decay: \(decays.rawValue)")
            + line("final_share", finalShare, usual.finalShare)
            + (decayTokens == usual.decayTokens ? "" : "\n  decay_tokens: \(decayTokens)")
            + line("z_loss", zLoss, usual.zLoss)
            + (adapters?.text ?? "")
            + (kept.state == usual.kept.state ? "" : "\n  state: \(kept.state.rawValue)")
            + (kept.weights == usual.kept.weights ? "" : "\n  weights: \(kept.weights.rawValue)")
    }
}

private func readAdapters(_ node: YAMLNode) throws(ManifestError) -> Adapters {
    let entry = try node.mapping(["rank", "alpha", "targets"])
    let rank = try entry.required("rank").integer(1...4096)
    let alpha = try entry["alpha"]?.number(0...1e6, open: true) ?? Double(2 * rank)
    guard let list = entry["targets"] else { return Adapters(rank: rank, alpha: alpha) }
    let words = Adapters.Target.allCases.map(\.rawValue)
    var targets: [Adapters.Target] = []
    for item in try list.list("a list of \(words.joined(separator: ", "))", most: words.count) {
        targets.append(Adapters.Target(rawValue: try item.word(words))!)
    }
    guard !targets.isEmpty else { throw list.problem(.outOfRange, allowed: "at least one target") }
    return Adapters(rank: rank, alpha: alpha, targets: targets)
}

extension Adapters {
    /// A line of a canonical job file.
    fileprivate var text: String {
        let names = targets.map(\.rawValue).joined(separator: ", ")
        return "\n  adapters: {rank: \(rank), alpha: \(yamlNumber(alpha)), targets: [\(names)]}"
    }
}
