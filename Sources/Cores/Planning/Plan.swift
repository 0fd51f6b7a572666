public import Primitives

/// Which peer holds which units, how virtual pipelines map onto pipelines, and how often what is exchanged.
///
/// Peers are named as in the topology. A plan is a value: the job log carries it, both drivers follow it.
public struct Plan: Hashable, Sendable {
    public struct Stage: Hashable, Sendable, Codable {
        /// A host's name.
        public var peer: String
        /// Encoded as [first, end).
        public var units: Range<Int>
        /// Whether it keeps the inputs of its blocks only, and runs their forward again before their backward.
        public var recompute: Bool
        public init(peer: String, units: Range<Int>, recompute: Bool = false) {
            self.peer = peer
            self.units = units
            self.recompute = recompute
        }
        public init(from decoder: any Decoder) throws {
            let box = try decoder.container(keyedBy: CodingKeys.self)
            self.init(
                peer: try box.decode(String.self, forKey: .peer),
                units: try box.decode(Range<Int>.self, forKey: .units),
                recompute: try box.decodeIfPresent(Bool.self, forKey: .recompute) ?? false)
        }
    }
    public struct Pipeline: Hashable, Sendable, Codable {
        /// In unit order: together they hold every unit once.
        public var stages: [Stage]
        /// Ascending and contiguous.
        public var virtualPipelines: [Int]
        /// Micro-batches between the start of their forward and the end of their backward on the first stage, at most.
        public var inFlight: Int
        public init(stages: [Stage], virtualPipelines: [Int], inFlight: Int) {
            self.stages = stages
            self.virtualPipelines = virtualPipelines
            self.inFlight = inFlight
        }
        /// Micro-batches whose activations stage `index` must keep: one that ends with the loss goes backward at once.
        public func kept(stage index: Int, of model: ModelShape) -> Int {
            model.endsWithLoss(stages[index].units) ? 1 : inFlight
        }

        enum CodingKeys: String, CodingKey {
            case stages, inFlight = "in_flight", virtualPipelines = "virtual_pipelines"
        }
    }
    /// In rank order.
    public var pipelines: [Pipeline]
    /// H.
    public var innerSteps: Int
    /// k: micro-batches of each virtual pipeline in a step.
    public var microBatchesPerVirtual: Int
    public var exchangeCodec: Codec
    /// τ: inner steps that go on while a contribution travels, before a round's end.
    public var exchangeDelay: Int
    public static let mostDelay = 64
    public var activationCodec: Codec
    /// Members without layers, in file order.
    public var spares: [String]
    public var outerLearningRate: Double
    public var outerMomentum: Double

    public init(
        pipelines: [Pipeline], innerSteps: Int, microBatchesPerVirtual: Int, exchangeCodec: Codec,
        activationCodec: Codec,
        spares: [String], outerLearningRate: Double = 1, outerMomentum: Double = 0, exchangeDelay: Int = 0
    ) {
        self.exchangeDelay = exchangeDelay
        self.pipelines = pipelines
        self.innerSteps = innerSteps
        self.microBatchesPerVirtual = microBatchesPerVirtual
        self.exchangeCodec = exchangeCodec
        self.activationCodec = activationCodec
        self.spares = spares
        self.outerLearningRate = outerLearningRate
        self.outerMomentum = outerMomentum
    }

    /// Whether peers keep outer weights, outer momentum and error feedback.
    public var usesRounds: Bool { innerSteps > 1 }
    /// Peers that hold layers, by pipeline and stage.
    public var workers: [String] { pipelines.flatMap { $0.stages.map(\.peer) } }

    /// Where a peer works; nil for spares and strangers.
    public func position(of peer: String) -> (pipeline: Int, stage: Int)? {
        for (p, pipeline) in pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() where stage.peer == peer { return (p, s) }
        }
        return nil
    }
    /// Which pipeline computes a virtual pipeline.
    public func pipeline(of virtualPipeline: Int) -> Int? {
        pipelines.firstIndex { $0.virtualPipelines.contains(virtualPipeline) }
    }
    /// What a stage needs: the memory law of ``ModelShape`` for the micro-batches it keeps.
    public func memory(
        pipeline: Int, stage: Int, model: ModelShape, microBatch: Int, kept: KeptFormats = KeptFormats()
    ) -> ByteCount {
        let placed = pipelines[pipeline].stages[stage]
        return model.memory(
            units: placed.units, rounds: usesRounds, sequences: microBatch,
            inFlight: pipelines[pipeline].kept(stage: stage, of: model), recompute: placed.recompute, kept: kept)
    }

    /// Why this is not a plan for `model` and `virtualPipelines`; nil when it is one. Plans from elsewhere go through it.
    public func flaw(model: ModelShape, virtualPipelines: Int) -> String? {
        guard !pipelines.isEmpty else { return "no pipeline" }
        guard (1...100_000).contains(innerSteps), (1...1_000_000).contains(microBatchesPerVirtual) else {
            return "inner steps or micro-batches out of range"
        }
        guard exchangeDelay == 0 || (1..<max(2, innerSteps)).contains(exchangeDelay) else {
            return "the exchange's delay is not less than the inner steps"
        }
        var seen: Set<String> = []
        var next = 0
        for (p, pipeline) in pipelines.enumerated() {
            guard !pipeline.stages.isEmpty, pipeline.inFlight >= 1 else { return "pipeline \(p) is empty" }
            var unit = 0
            for stage in pipeline.stages {
                guard stage.units.lowerBound == unit, !stage.units.isEmpty else {
                    return "pipeline \(p) misses unit \(unit)"
                }
                unit = stage.units.upperBound
                guard seen.insert(stage.peer).inserted else { return "peer \(stage.peer) has two stages" }
            }
            guard unit == model.unitCount else { return "pipeline \(p) ends at unit \(unit) of \(model.unitCount)" }
            guard !pipeline.virtualPipelines.isEmpty else { return "pipeline \(p) has no share of the batch" }
            for share in pipeline.virtualPipelines {
                guard share == next else { return "virtual pipeline \(next) is not where it should be" }
                next += 1
            }
        }
        for spare in spares where !seen.insert(spare).inserted { return "spare \(spare) is named twice" }
        return next == virtualPipelines ? nil : "virtual pipeline \(next) is nobody's"
    }
}

extension Plan: Codable {
    enum CodingKeys: String, CodingKey {
        case pipelines, spares
        case innerSteps = "inner_steps"
        case microBatchesPerVirtual = "micro_batches_per_virtual_pipeline"
        case exchangeCodec = "codec"
        case exchangeDelay = "exchange_delay"
        case activationCodec = "activations"
        case outerLearningRate = "outer_learning_rate"
        case outerMomentum = "outer_momentum"
    }
    public init(from decoder: any Decoder) throws {
        let box = try decoder.container(keyedBy: CodingKeys.self)
        func codec(_ key: CodingKeys) throws -> Codec {
            let text = try box.decode(String.self, forKey: key)
            guard let codec = Codec(text) else {
                throw DecodingError.dataCorruptedError(
                    forKey: key, in: box, debugDescription: "no codec is called \(text)")
            }
            return codec
        }
        self.init(
            pipelines: try box.decode([Pipeline].self, forKey: .pipelines),
            innerSteps: try box.decode(Int.self, forKey: .innerSteps),
            microBatchesPerVirtual: try box.decode(Int.self, forKey: .microBatchesPerVirtual),
            exchangeCodec: try codec(.exchangeCodec), activationCodec: try codec(.activationCodec),
            spares: try box.decode([String].self, forKey: .spares),
            outerLearningRate: try box.decode(Double.self, forKey: .outerLearningRate),
            outerMomentum: try box.decode(Double.self, forKey: .outerMomentum),
            exchangeDelay: try box.decodeIfPresent(Int.self, forKey: .exchangeDelay) ?? 0)
    }
    public func encode(to encoder: any Encoder) throws {
        var box = encoder.container(keyedBy: CodingKeys.self)
        try box.encode(pipelines, forKey: .pipelines)
        try box.encode(innerSteps, forKey: .innerSteps)
        try box.encode(microBatchesPerVirtual, forKey: .microBatchesPerVirtual)
        try box.encode(exchangeCodec.description, forKey: .exchangeCodec)
        try box.encode(exchangeDelay, forKey: .exchangeDelay)
        try box.encode(activationCodec.description, forKey: .activationCodec)
        try box.encode(spares, forKey: .spares)
        try box.encode(outerLearningRate, forKey: .outerLearningRate)
        try box.encode(outerMomentum, forKey: .outerMomentum)
    }
}
