internal import Primitives

/// A planned job as programs read it; keys as in `docs/COST.md`.
public struct PlanSummary: Hashable, Sendable, Codable {
    public struct Cost: Hashable, Sendable, Codable {
        /// Seconds: the objective.
        public var total: Double
        public var objective: String
    }
    public var pipelines: [Plan.Pipeline]
    public var spares: [String]
    public var innerSteps: Int
    public var batchTokens: Int
    public var codec: String
    /// Inner steps that hide the exchange.
    public var exchangeDelay: Int
    public var activations: String
    public var predicted: Prediction
    public var binding: Prediction.Binding
    public var cost: Cost
    public var alternatives: [PlannedJob.Alternative]
    public var explanation: [String]
    public var counterfactuals: [Counterfactual]
    /// nil where no pair of the plan is relayed.
    public var relayed: [RelayedPair]?
    /// What no plan can beat; nil where it was not looked for.
    public var bound: PlanBound?
    /// nil when nothing was changed.
    public var whatIf: WhatIfResult?

    /// What changes to the topology come to, planned anew.
    public struct WhatIfResult: Hashable, Sendable, Codable {
        public var changes: [String]
        public var totalSecondsBefore: Double
        public var totalSeconds: Double
        public init(changes: [String], totalSecondsBefore: Double, totalSeconds: Double) {
            self.changes = changes
            self.totalSecondsBefore = totalSecondsBefore
            self.totalSeconds = totalSeconds
        }
        enum CodingKeys: String, CodingKey {
            case changes, totalSecondsBefore = "total_seconds_before", totalSeconds = "total_seconds"
        }
    }

    enum CodingKeys: String, CodingKey {
        case whatIf = "what_if"
        case pipelines, spares, codec, exchangeDelay = "exchange_delay", activations, predicted, binding, cost,
            alternatives, explanation, counterfactuals, relayed, bound
        case innerSteps = "inner_steps", batchTokens = "batch_tokens"
    }

    public init(
        _ planned: PlannedJob, job: JobManifest, counterfactuals: [Counterfactual] = [], bound: PlanBound? = nil
    ) {
        self.bound = bound
        self.counterfactuals = counterfactuals
        pipelines = planned.plan.pipelines
        spares = planned.plan.spares
        innerSteps = planned.plan.innerSteps
        batchTokens = job.geometry(microBatchesPerVirtual: planned.plan.microBatchesPerVirtual).batchTokens
        codec = planned.plan.exchangeCodec.description
        exchangeDelay = planned.plan.exchangeDelay
        activations = planned.plan.activationCodec.description
        predicted = planned.prediction
        binding = planned.prediction.binding
        cost = Cost(total: planned.prediction.totalSeconds, objective: "time-to-loss")
        alternatives = planned.alternatives
        explanation = planned.explanation
        relayed = planned.relayed.isEmpty ? nil : planned.relayed
    }
}

/// A layout for the objective `dtfm` as programs read it: the keys of ``PlanSummary`` that it has.
public struct LayoutSummary: Hashable, Sendable, Encodable {
    public struct Cost: Hashable, Sendable, Encodable {
        public var total: Double
        public var objective: String
        public var dataParallel: Double
        /// Both directions.
        public var pipeline: Double
        enum CodingKeys: String, CodingKey { case total, objective, pipeline, dataParallel = "data_parallel" }
    }
    public struct Predicted: Hashable, Sendable, Encodable {
        public var stepSeconds: Double
        enum CodingKeys: String, CodingKey { case stepSeconds = "step_seconds" }
    }
    public var pipelines: [Plan.Pipeline]
    /// Seconds.
    public var cost: Cost
    public var predicted: Predicted
    /// Exchange of gradients against activations between stages; compute is not in this objective.
    public var binding: Prediction.Binding

    public init(_ plan: Plan, _ layout: Layout) {
        pipelines = plan.pipelines
        cost = Cost(
            total: layout.total, objective: Objective.dtfm.rawValue, dataParallel: layout.dataParallel,
            pipeline: layout.pipeline)
        predicted = Predicted(stepSeconds: layout.total)
        binding = Prediction.Binding()
        binding.exchange = layout.total > 0 ? layout.dataParallel / layout.total : 0
        binding.bandwidth = layout.total > 0 ? layout.pipeline / layout.total : 0
    }
}
