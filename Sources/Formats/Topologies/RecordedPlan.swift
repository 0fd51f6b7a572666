internal import Primitives

/// The plan that a run began with, by the names of its topology: `record.plan` of a record's file. Whether it is one, who plans says.
public struct RecordedPlan: Hashable, Sendable {
    public struct Stage: Hashable, Sendable {
        /// A host of the same file.
        public var host: String
        /// First, and one after the last.
        public var units: Range<Int>
        public var recompute: Bool
        public init(host: String, units: Range<Int>, recompute: Bool = false) {
            self.host = host
            self.units = units
            self.recompute = recompute
        }
    }
    public struct Pipeline: Hashable, Sendable {
        public var stages: [Stage]
        /// How many of the virtual pipelines, in order.
        public var share: Int
        public var inFlight: Int
        public init(stages: [Stage], share: Int, inFlight: Int) {
            self.stages = stages
            self.share = share
            self.inFlight = inFlight
        }
    }
    public var pipelines: [Pipeline]
    /// H, k and τ.
    public var innerSteps: Int
    public var microBatches: Int
    public var delay: Int
    /// By name.
    public var codec: String
    public var activations: String
    public var outerLearningRate: Double
    public var outerMomentum: Double

    public init(
        pipelines: [Pipeline], innerSteps: Int, microBatches: Int, delay: Int, codec: String, activations: String,
        outerLearningRate: Double, outerMomentum: Double
    ) {
        self.pipelines = pipelines
        self.innerSteps = innerSteps
        self.microBatches = microBatches
        self.delay = delay
        self.codec = codec
        self.activations = activations
        self.outerLearningRate = outerLearningRate
        self.outerMomentum = outerMomentum
    }
    /// The same with other names.
    public func renamed(_ name: (String) -> String) -> RecordedPlan {
        var out = self
        for p in pipelines.indices {
            for s in pipelines[p].stages.indices { out.pipelines[p].stages[s].host = name(pipelines[p].stages[s].host) }
        }
        return out
    }
}

extension RecordedPlan {
    private static let most = 20_000

    init(_ node: YAMLNode) throws(FileProblem) {
        let top = try node.mapping([
            "inner_steps", "micro_batches", "delay", "codec", "activations", "outer_learning_rate", "outer_momentum",
            "pipelines",
        ])
        var pipelines: [Pipeline] = []
        for item in try top.required("pipelines").list("a list of pipelines", most: RecordedPlan.most) {
            let entry = try item.mapping(["share", "in_flight", "stages"])
            var stages: [Stage] = []
            for item in try entry.required("stages").list("a list of stages", most: RecordedPlan.most) {
                stages.append(try RecordedPlan.stage(item))
            }
            pipelines.append(
                Pipeline(
                    stages: stages, share: try entry.required("share").integer(1...1_000_000),
                    inFlight: try entry.required("in_flight").integer(1...1_000_000)))
        }
        self.init(
            pipelines: pipelines, innerSteps: try top.required("inner_steps").integer(1...100_000),
            microBatches: try top.required("micro_batches").integer(1...1_000_000),
            delay: try top["delay"]?.integer(0...64) ?? 0, codec: try top.required("codec").text(),
            activations: try top.required("activations").text(),
            outerLearningRate: try top["outer_learning_rate"]?.number(0...1000) ?? 1,
            outerMomentum: try top["outer_momentum"]?.number(0...1) ?? 0)
    }
    private static func stage(_ node: YAMLNode) throws(FileProblem) -> Stage {
        let entry = try node.mapping(["host", "units", "recompute"])
        let units = try entry.required("units")
        let ends = try units.list("the first unit, and one after the last")
        guard ends.count == 2 else {
            throw units.problem(.wrongType, allowed: "the first unit, and one after the last")
        }
        let (first, end) = (try ends[0].integer(0...1_000_000), try ends[1].integer(0...1_000_000))
        guard first < end else { throw units.problem(.outOfRange, allowed: "the first unit, and one after the last") }
        return Stage(
            host: try entry.required("host").text(), units: first..<end,
            recompute: try entry["recompute"]?.boolean() ?? false)
    }

    /// As the file has it, below `record:`.
    var text: String {
        var out = "  plan:\n    inner_steps: \(innerSteps)\n    micro_batches: \(microBatches)\n    delay: \(delay)\n"
        out += "    codec: \(yamlScalar(codec))\n    activations: \(yamlScalar(activations))\n"
        out += "    outer_learning_rate: \(yamlNumber(outerLearningRate))\n"
        out += "    outer_momentum: \(yamlNumber(outerMomentum))\n    pipelines:\n"
        for pipeline in pipelines {
            let stages = pipeline.stages.map { stage in
                "{host: \(yamlScalar(stage.host)), units: [\(stage.units.lowerBound), \(stage.units.upperBound)]"
                    + (stage.recompute ? ", recompute: true}" : "}")
            }
            out += "      - {share: \(pipeline.share), in_flight: \(pipeline.inFlight), stages: ["
            out += stages.joined(separator: ", ") + "]}\n"
        }
        return out
    }
}
