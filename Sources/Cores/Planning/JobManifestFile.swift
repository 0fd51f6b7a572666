internal import Compute
internal import Exchange
public import Primitives
public import Topologies

private let trainKeys = [
    "tokens", "batch_tokens", "critical_batch_tokens", "optimizer", "learning_rate", "schedule", "warmup_tokens",
    "weight_decay", "clip", "seed", "beta1", "beta2", "epsilon", "decay", "final_share", "decay_tokens", "z_loss",
    "state", "weights", "momentum", "adapters", "on_divergence",
]

/// Reading a job file. Unknown keys, wrong types and numbers that do not go together are refused with their line.
extension JobManifest {
    /// The shape of the model in a folder; throws why it cannot be continued.
    public typealias FolderReader = (_ folder: String) throws(FolderProblem) -> ModelShape
    /// What is wrong with a model's folder, for people.
    public struct FolderProblem: Error, Hashable, Sendable {
        public let description: String
        public init(_ description: String) { self.description = description }
    }

    /// - Throws: ``ManifestError`` with file, line, key, what was found and what is allowed.
    public init(parsing text: String, file: String = "job.yaml") throws(ManifestError) {
        try self.init(parsing: Array(text.utf8), file: file)
    }
    /// - Parameter folders: reads `model.from`, which only a launcher's job file may have.
    /// - Throws: ``ManifestError``; never crashes, whatever the bytes are.
    public init(
        parsing bytes: [UInt8], file: String = "job.yaml", folders: FolderReader? = nil
    ) throws(ManifestError) {
        let root = try YAMLNode(parsing: bytes, file: file)
        let top = try root.mapping([
            "name", "model", "data", "train", "parallel", "exchange", "activations", "electors", "recovery",
            "collectors", "checkpoint",
        ])
        let model = try readModel(try top.required("model"), folders)
        let data = try top.required("data").mapping(["path", "content", "sources", "tokens", "validation_fraction"])
        let train = try top.required("train").mapping(trainKeys)
        self.init(
            name: try top.required("name").name(), model: model.shape, data: try readSource(data),
            tokens: try train.required("tokens").integer(1...JobManifest.mostTokens))
        text.tokenizer = model.tokenizer
        beginning.folder = model.folder
        beginning.units = model.units
        text.tokens = try readTokens(data, text.tokenizer)
        text.parts = try readParts(data, tokens: text.tokens)
        validationFraction = try data["validation_fraction"]?.number(0...0.5) ?? validationFraction
        if let node = top["parallel"] { try readParallel(node) }
        try readTraining(train)
        if let node = top["exchange"] {
            let entry = try node.mapping(["codec", "delay", "way", "quality_budget"])
            exchangeCodec = try readCodec(entry["codec"], sparse: true)
            exchangeWay = try readWay(entry["way"])
            if let node = entry["delay"] {
                exchangeDelay = try readCount(node, 0...Plan.mostDelay)
                if let delay = exchangeDelay.value, delay > 0, let steps = innerSteps.value, delay >= steps {
                    throw node.problem(.outOfRange, allowed: "fewer than the \(steps) inner steps of a round")
                }
            }
            qualityBudget = try entry["quality_budget"]?.number(0...10) ?? qualityBudget
        }
        if let node = top["activations"] {
            activationCodec = try readCodec(try node.mapping(["codec"])["codec"], sparse: false)
        }
        electors = try readElectors(top["electors"], recovery: top["recovery"])
        if let node = top["collectors"] { electors.collectors = try readCollectors(node) }
        if let node = top["checkpoint"] {
            let entry = try node.mapping(["every_rounds", "copies", "keep"])
            checkpoint.everyRounds = try entry["every_rounds"]?.integer(1...1_000_000_000) ?? checkpoint.everyRounds
            checkpoint.copies = try entry["copies"]?.integer(1...1000) ?? checkpoint.copies
            checkpoint.keep = try entry["keep"]?.integer(1...1_000_000_000)
        }
    }

    private mutating func readParallel(_ node: YAMLNode) throws(ManifestError) {
        let entry = try node.mapping([
            "virtual_pipelines", "micro_batch", "pipelines", "stages", "inner_steps", "recompute",
        ])
        virtualPipelines = try entry["virtual_pipelines"]?.integer(1...4096) ?? virtualPipelines
        microBatch = try entry["micro_batch"]?.integer(1...65_536) ?? microBatch
        guard microBatch * model.context <= 1 << 24 else {
            throw node.problem(
                .outOfRange, found: "micro-batches of \(microBatch * model.context) tokens",
                allowed: "at most 2^24 tokens")
        }
        pipelines = try readCount(entry["pipelines"], 1...4096)
        if let node = entry["pipelines"], let count = pipelines.value, count > virtualPipelines {
            throw node.problem(
                .outOfRange, allowed: "at most virtual_pipelines (\(virtualPipelines)): each pipeline needs a share")
        }
        guard model.activationEstimate(sequences: microBatch) < 1e14 else {
            throw node.problem(
                .outOfRange, found: "micro-batches whose activations take more than 100 TB",
                allowed: "a smaller micro_batch, context or model")
        }
        stages = try readCount(entry["stages"], 1...4096)
        if let node = entry["stages"], let count = stages.value, count > model.unitCount {
            throw node.problem(
                .outOfRange, allowed: "at most \(model.unitCount): the embedding, the layers and the head")
        }
        innerSteps = try readCount(entry["inner_steps"], 1...100_000)
        if let node = entry["recompute"] {
            switch try node.word(["auto", "true", "false"]) {
            case "auto": recompute = .auto
            case let word: recompute = .fixed(word == "true")
            }
        }
    }

    private mutating func readTraining(_ train: YAMLMapping) throws(ManifestError) {
        batchTokens = try readCount(train["batch_tokens"], 1...1_000_000_000_000)
        let unit = geometry(microBatchesPerVirtual: 1).batchTokens
        if let node = train["batch_tokens"], let batch = batchTokens.value, batch % unit != 0 {
            throw node.problem(
                .outOfRange, allowed: "auto, or a multiple of virtual_pipelines × micro_batch × context = \(unit)")
        }
        criticalBatchTokens = try readCount(train["critical_batch_tokens"], 1...1_000_000_000_000)
        if let word = try train["optimizer"]?.word(InnerOptimizer.Kind.allCases.map(\.rawValue)) {
            optimizer = InnerOptimizer.Kind(rawValue: word)!
        }
        learningRate = try train["learning_rate"]?.number(0...1000, open: true) ?? learningRate
        schedule = Schedule(rawValue: try train["schedule"]?.word(Schedule.allCases.map(\.rawValue)) ?? "") ?? schedule
        warmupTokens = try readCount(train["warmup_tokens"], 0...1_000_000_000_000_000)
        weightDecay = try train["weight_decay"]?.number(0...10) ?? weightDecay
        clip = try train["clip"]?.number(0...1e6) ?? clip
        if let word = try train["on_divergence"]?.word(Checkpoints.OnDivergence.allCases.map(\.rawValue)) {
            checkpoint.onDivergence = Checkpoints.OnDivergence(rawValue: word)!
        }
        try recipe.read(train)
        if let node = train["adapters"], innerSteps.value ?? 1 == 1 || optimizer != .adamw {
            throw node.problem(.outOfRange, allowed: "adapters with adamw and with inner_steps above 1 (in `parallel`)")
        }
        seed = UInt64(try train["seed"]?.integer(0...Int.max) ?? Int(seed))
    }

    private var divergenceText: String {
        checkpoint.onDivergence == .stop ? "" : "\n  on_divergence: \(checkpoint.onDivergence.rawValue)"
    }

    /// The text whose hash names the job: every key, in a fixed order; reads back equal.
    public var canonicalText: String {
        func show(_ setting: Setting<Int>) -> String { setting.value.map(String.init) ?? "auto" }
        func show(_ setting: Setting<Codec>) -> String { setting.value.map { yamlScalar($0.description) } ?? "auto" }
        return """
            name: \(yamlScalar(name))
            model:
              architecture: llama
              hidden_size: \(model.hiddenSize)
              layers: \(model.layers)
              heads: \(model.heads)
              kv_heads: \(model.kvHeads)
              intermediate_size: \(model.intermediateSize)
              context: \(model.context)
              tokenizer: \(text.tokenizer.rawValue)
              tie_word_embeddings: \(model.tieWordEmbeddings)
              rope_theta: \(yamlNumber(model.ropeTheta))
              norm_epsilon: \(yamlNumber(Double(model.normEpsilon)))\(model.unusualText)\(initialText)
            data:
              \(sourceText)
              validation_fraction: \(yamlNumber(validationFraction))
            train:
              tokens: \(tokens)
              batch_tokens: \(show(batchTokens))
              critical_batch_tokens: \(show(criticalBatchTokens))
              optimizer: \(optimizer.rawValue)
              learning_rate: \(yamlNumber(learningRate))
              schedule: \(schedule.rawValue)
              warmup_tokens: \(show(warmupTokens))
              weight_decay: \(yamlNumber(weightDecay))
              clip: \(yamlNumber(clip))\(recipe.unusualText)
              seed: \(seed)\(divergenceText)
            parallel:
              virtual_pipelines: \(virtualPipelines)
              micro_batch: \(microBatch)
              pipelines: \(show(pipelines))
              stages: \(show(stages))
              inner_steps: \(show(innerSteps))\(recompute.value.map { "\n  recompute: \($0)" } ?? "")
            exchange:
              codec: \(show(exchangeCodec))\(exchangeWay.value.map { "\n  way: \($0)" } ?? "")
              delay: \(show(exchangeDelay))
              quality_budget: \(yamlNumber(qualityBudget))
            activations:
              codec: \(show(activationCodec))
            electors: \(show(electors.count))\(recoveryText)\(collectorsText)
            checkpoint:
              every_rounds: \(checkpoint.everyRounds)
              copies: \(checkpoint.copies)\(checkpoint.keep.map { "\n  keep: \($0)" } ?? "")

            """
    }
}

extension JobManifest {
    private var sourceText: String {
        switch data {
        case .path(let path): return "path: \(yamlScalar(path))"
        case .mixture(let files):
            let lines = files.map { "\n    - {path: \(yamlScalar($0.path)), weight: \(yamlNumber($0.weight))}" }
            return "sources:" + lines.joined()
        case .content(let id):
            let parts = text.parts.map { "\n    - {tokens: \($0.tokens), weight: \(yamlNumber($0.weight))}" }
            return "content: \(id)" + (text.tokens.map { "\n  tokens: \($0)" } ?? "")
                + (parts.isEmpty ? "" : "\n  sources:" + parts.joined())
        }
    }
    private var recoveryText: String {
        guard let recovery = electors.recovery else { return "" }
        return
            "\nrecovery:\n  needed: \(recovery.needed)\n  keys: [\(recovery.keys.map(\.hex).joined(separator: ", "))]"
    }
    private var collectorsText: String {
        electors.collectors.isEmpty
            ? "" : "\ncollectors: [\(electors.collectors.map(\.hex).joined(separator: ", "))]"
    }
}

private func readElectors(_ count: YAMLNode?, recovery: YAMLNode?) throws(ManifestError) -> JobManifest.Electors {
    var out = JobManifest.Electors()
    if let count {
        let allowed = "1, 3, 4, 5 or auto"
        if (try? count.text(allowed)) == "auto" {
            out.count = .auto
        } else {
            let number = try count.integer(1...5, allowed)
            guard number != 2 else { throw count.problem(.outOfRange, allowed: allowed) }
            out.count = .fixed(number)
        }
    }
    guard let recovery else { return out }
    guard out.count != .fixed(1) else {
        throw recovery.problem(
            .outOfRange, found: "recovery keys of a job with one elector",
            allowed: "electors: 3, 4, 5 or auto, whose majority may be lost")
    }
    let entry = try recovery.mapping(["needed", "keys"])
    let list = try entry.required("keys")
    let keys = try readKeys(list)
    let needed = try entry.required("needed").integer(1...RecoveryKeys.most)
    guard let all = RecoveryKeys(needed: needed, of: keys) else {
        throw list.problem(
            .outOfRange, found: "\(keys.count) keys, of which \(needed) are needed",
            allowed: "\(needed) to \(RecoveryKeys.most) keys, none of them twice")
    }
    out.recovery = all
    return out
}

private func readKeys(_ list: YAMLNode) throws(ManifestError) -> [PeerID] {
    var keys: [PeerID] = []
    for node in try list.list() {
        guard let key = PeerID(hex: try node.text("a key of 64 hexadecimal digits")) else {
            throw node.problem(
                .outOfRange, allowed: "a key of 64 hexadecimal digits, as `atoll recovery key` prints it")
        }
        keys.append(key)
    }
    return keys
}

/// Whose keys may collect the result beside the launcher's.
private func readCollectors(_ list: YAMLNode) throws(ManifestError) -> [PeerID] {
    let keys = try readKeys(list)
    let most = JobManifest.Electors.mostCollectors
    guard (1...most).contains(keys.count), Set(keys).count == keys.count else {
        throw list.problem(
            .outOfRange, found: "\(keys.count) keys, \(Set(keys).count) of them different",
            allowed: "1 to \(most) keys, none of them twice")
    }
    return keys.sorted()
}

private func readSource(_ data: YAMLMapping) throws(ManifestError) -> DataSource {
    switch (data["path"], data["content"], data["sources"]) {
    case (let path?, nil, nil): return .path(try path.text("a path"))
    case (nil, nil, let sources?): return .mixture(try readMixture(sources))
    case (nil, let content?, _):
        let id = try content.text("64 hexadecimal digits")
        guard id.utf8.count == 64, id.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
            throw content.problem(.outOfRange, allowed: "64 lower-case hexadecimal digits")
        }
        return .content(id)
    default: throw data.place.problem(.missingKey, found: "not exactly one source", allowed: "path, sources or content")
    }
}

private let mostWeight = 1e6
/// As `Mixture` has it.
private let mostSources = 1024
private let mixtureText = "a list of 1 to \(mostSources) sources, each with a weight"

private func readMixture(_ node: YAMLNode) throws(ManifestError) -> [DataSource.MixedFile] {
    var out: [DataSource.MixedFile] = []
    for item in try node.list(mixtureText, most: mostSources) {
        let entry = try item.mapping(["path", "weight"])
        out.append(
            DataSource.MixedFile(
                path: try entry.required("path").text("a path"),
                weight: try entry.required("weight").number(0...mostWeight, open: true)))
    }
    try checkWeights(out.map(\.weight), node)
    return out
}

private func checkWeights(_ weights: [Double], _ node: YAMLNode) throws(ManifestError) {
    guard let largest = weights.max() else {
        throw node.problem(.outOfRange, found: "no source", allowed: mixtureText)
    }
    guard weights.allSatisfy({ $0 / largest > 1e-6 }) else {
        throw node.problem(
            .outOfRange, found: "a weight of less than a millionth of another",
            allowed: "weights nearer to each other, or that source left out")
    }
}

/// Of a content that is a mixture, as it is signed: how many tokens of each source it has.
private func readParts(_ data: YAMLMapping, tokens: Int?) throws(ManifestError) -> [DataPart] {
    guard data["content"] != nil, let node = data["sources"] else { return [] }
    var out: [DataPart] = []
    for item in try node.list(mixtureText, most: mostSources) {
        let entry = try item.mapping(["tokens", "weight"])
        out.append(
            DataPart(
                tokens: try entry.required("tokens").integer(2...1 << 40),
                weight: try entry.required("weight").number(0...mostWeight, open: true)))
    }
    try checkWeights(out.map(\.weight), node)
    let sum = out.reduce(0) { $0 + $1.tokens }
    if let tokens, tokens != sum {
        throw node.problem(
            .outOfRange, found: "sources of \(sum) tokens", allowed: "\(tokens) tokens, as the content has")
    }
    return out
}

/// How many tokens there are: of contents that are files of tokens, and only of these.
private func readTokens(
    _ data: YAMLMapping, _ tokenizer: JobManifest.Tokenizer
) throws(ManifestError) -> Int? {
    switch (data["tokens"], data["content"], tokenizer) {
    case (let node?, .some, .ids): return try node.integer(2...1 << 40)
    case (let node?, _, _):
        throw node.problem(.outOfRange, allowed: "tokens beside a content, with tokenizer: ids")
    case (nil, .some, .ids): throw data.place.problem(.missingKey, found: "a content without tokens", allowed: "tokens")
    case (nil, _, _): return nil
    }
}

/// nil and `auto` are the same.
private func readCount(_ node: YAMLNode?, _ range: ClosedRange<Int>) throws(ManifestError) -> Setting<Int> {
    guard let node else { return .auto }
    if node.isScalar, try node.text("auto or a whole number") == "auto" { return .auto }
    return .fixed(try node.integer(range, "auto, or a whole number from \(range.lowerBound) to \(range.upperBound)"))
}

private func readCodec(_ node: YAMLNode?, sparse: Bool) throws(ManifestError) -> Setting<Codec> {
    let allowed =
        "auto, fp32, bf16, fp16, int8, int4"
        + (sparse ? ", sparse:k=N[,values=sign|sign-magnitude|2-bit] with N from 1 to 1024, or lowrank:r=N" : "")
    guard let node else { return .auto }
    let text = try node.text(allowed)
    if text == "auto" { return .auto }
    guard let codec = Codec(text) else { throw node.problem(.outOfRange, allowed: allowed) }
    if !sparse, !codec.suitsActivations { throw node.problem(.outOfRange, allowed: allowed) }
    return .fixed(codec)
}

private func readWay(_ node: YAMLNode?) throws(ManifestError) -> Setting<ExchangeWay> {
    let allowed = "auto, all-gather, reduce-scatter or owner:CODEC"
    guard let node else { return .auto }
    let text = try node.text(allowed)
    if text == "auto" { return .auto }
    guard !text.isEmpty, let way = ExchangeWay(text) else { throw node.problem(.outOfRange, allowed: allowed) }
    return .fixed(way)
}

extension ModelShape {
    /// Bytes of the saved activations of one micro-batch, roughly: in floating point, so that no shape overflows.
    fileprivate func activationEstimate(sequences: Int) -> Double {
        let tokens = Double(sequences * context)
        let wide = Double(4 * hiddenSize + 3 * querySize + 2 * kvSize + 3 * intermediateSize)
        return 4 * tokens * wide * Double(layers)
    }
}
