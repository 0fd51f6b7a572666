public import Topologies

/// What a plan does when: one step of every pipeline, stage by stage, and how a round is divided. Charts draw it.
public struct TimeLine: Hashable, Sendable {
    /// [pipeline]: what its stages do in a step that begins with all of them idle, in seconds from its start.
    public var pipelines: [[StageSpan]]
    /// One inner step of each pipeline in its steady state, in seconds.
    public var stepSeconds: [Double]
    /// From seal to seal.
    public var roundSeconds: Double
    public var validationSeconds: Double
    /// When the last pipeline has ended its last inner step, in seconds after the seal.
    public var trainedAt: Double
    public var innerSteps: Int
    public var usesRounds: Bool { innerSteps > 1 }
    /// When the longest pipeline's step ends.
    public var end: Double { pipelines.flatMap { $0.map(\.end) }.max() ?? 0 }

    /// - Precondition: as ``predict(plan:topology:job:)``.
    public init(_ plan: Plan, topology: Topology, job: JobManifest) {
        let cost = CostModel(topology: topology, job: job, codec: plan.exchangeCodec)
        let lanes = cost.lanes(plan)
        let pacing = cost.pacing(plan)
        pipelines = lanes.map { lane in
            PipelineSimulator.record(
                cost.timings(lane, pacing), microBatches: lane.share * pacing.microBatchesPerVirtual,
                updates: pacing.usesRounds
            ).spans
        }
        let round = cost.round(lanes, pacing)
        stepSeconds = round.stepSeconds
        roundSeconds = round.seconds
        validationSeconds = round.validationSeconds
        trainedAt = round.trainedAt
        innerSteps = pacing.innerSteps
    }
}

/// What happened on a stage.
public struct StageSpan: Hashable, Sendable {
    public enum Kind: Hashable, Sendable { case forward, head, backward, validate, update }
    public var stage: Int
    public var kind: Kind
    public var microBatch: Int
    /// Seconds.
    public var start: Double
    public var end: Double
}
