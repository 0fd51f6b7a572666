internal import Compute
internal import Primitives
public import Topologies

/// A plan that somebody else made: of a file, or of a run's record.
extension Plan {
    /// - Throws: ``PlanningError/impossible(_:)`` where a codec has no such name.
    public init(_ recorded: RecordedPlan) throws(PlanningError) {
        func codec(_ name: String) throws(PlanningError) -> Codec {
            guard let codec = Codec(name) else { throw .impossible("the plan's codec \(name) is none that there is.") }
            return codec
        }
        var next = 0
        let pipelines = recorded.pipelines.map { pipeline in
            defer { next += pipeline.share }
            return Pipeline(
                stages: pipeline.stages.map { Stage(peer: $0.host, units: $0.units, recompute: $0.recompute) },
                virtualPipelines: Array(next..<next + pipeline.share), inFlight: pipeline.inFlight)
        }
        self.init(
            pipelines: pipelines, innerSteps: recorded.innerSteps, microBatchesPerVirtual: recorded.microBatches,
            exchangeCodec: try codec(recorded.codec), activationCodec: try codec(recorded.activations), spares: [],
            outerLearningRate: recorded.outerLearningRate, outerMomentum: recorded.outerMomentum,
            exchangeDelay: recorded.delay)
    }
    /// As a record has it.
    public var recorded: RecordedPlan {
        RecordedPlan(
            pipelines: pipelines.map { pipeline in
                RecordedPlan.Pipeline(
                    stages: pipeline.stages.map {
                        RecordedPlan.Stage(host: $0.peer, units: $0.units, recompute: $0.recompute)
                    }, share: pipeline.virtualPipelines.count, inFlight: pipeline.inFlight)
            }, innerSteps: innerSteps, microBatches: microBatchesPerVirtual, delay: exchangeDelay,
            codec: exchangeCodec.description, activations: activationCodec.description,
            outerLearningRate: outerLearningRate, outerMomentum: outerMomentum)
    }
    /// - Parameter job: what `atoll plan --json` leaves out of a summary: the micro-batches that its batch has.
    /// - Throws: ``PlanningError/impossible(_:)`` that says what does not go together.
    public init(_ summary: PlanSummary, job: JobManifest) throws(PlanningError) {
        let unit = job.geometry(microBatchesPerVirtual: 1).batchTokens
        guard summary.batchTokens >= unit, summary.batchTokens % unit == 0 else {
            throw .impossible(
                "the plan's batch of \(summary.batchTokens) tokens is no multiple of the job's smallest, \(unit).")
        }
        guard let codec = Codec(summary.codec), let activations = Codec(summary.activations) else {
            throw .impossible(
                "the plan's codecs, \(summary.codec) and \(summary.activations), are none that there are.")
        }
        self.init(
            pipelines: summary.pipelines, innerSteps: summary.innerSteps,
            microBatchesPerVirtual: summary.batchTokens / unit, exchangeCodec: codec, activationCodec: activations,
            spares: summary.spares, exchangeDelay: summary.exchangeDelay)
    }

    /// Why this plan cannot run a job on a topology: names what is missing, or too small; nil when it can.
    public func misfit(_ topology: Topology, job: JobManifest) -> String? {
        if let flaw = flaw(model: job.model, virtualPipelines: job.virtualPipelines) {
            return "the plan is none for job \(job.name): \(flaw)"
        }
        let late = topology.lateJoiners
        for (p, pipeline) in pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                guard let index = topology.index(of: stage.peer) else {
                    let meant = likely(stage.peer, topology)
                    return "topology \(topology.name) has no host \(stage.peer), which the plan gives units "
                        + "\(stage.units.lowerBound) to \(stage.units.upperBound - 1)\(meant)"
                }
                let host = topology.hosts[index]
                guard host.role == .peer else {
                    return
                        "host \(stage.peer) of topology \(topology.name) is a \(host.role.rawValue), and trains nothing"
                }
                if late.contains(stage.peer) {
                    return
                        "host \(stage.peer) of topology \(topology.name) joins later; a plan begins with who is there"
                }
                let needs = memory(
                    pipeline: p, stage: s, model: job.model, microBatch: job.microBatch, kept: job.innerOptimizer.kept)
                if needs > host.memory {
                    return "units \(stage.units.lowerBound) to \(stage.units.upperBound - 1) need \(needs), host "
                        + "\(stage.peer) of topology \(topology.name) offers \(host.memory)"
                }
            }
        }
        return contradiction(job)
    }
    /// What the job asks for and the plan has otherwise.
    private func contradiction(_ job: JobManifest) -> String? {
        let settings: [(what: String, asked: String?, has: String)] = [
            ("micro-batches", job.fixedMicroBatchesPerVirtual.map { "\($0)" }, "\(microBatchesPerVirtual)"),
            ("pipelines", job.pipelines.value.map { "\($0)" }, "\(pipelines.count)"),
            ("inner_steps", job.innerSteps.value.map { "\($0)" }, "\(innerSteps)"),
            ("exchange.codec", job.exchangeCodec.value?.description, exchangeCodec.description),
            ("exchange.delay", job.exchangeDelay.value.map { "\($0)" }, "\(exchangeDelay)"),
            ("activations.codec", job.activationCodec.value?.description, activationCodec.description),
        ]
        for setting in settings {
            guard let asked = setting.asked, asked != setting.has else { continue }
            return "job \(job.name) asks for \(setting.what) \(asked), the plan has \(setting.has)"
        }
        return nil
    }
}

private func likely(_ name: String, _ topology: Topology) -> String {
    let known = topology.peers.prefix(2000).map { topology.hosts[$0].name }
    return Topologies.nearest(to: name, among: known).map { "; did you mean \($0)?" } ?? ""
}

extension Planner {
    /// A plan that is given, with its prediction in place of a search.
    ///
    /// - Throws: ``PlanningError/impossible(_:)`` that names what does not fit.
    public static func planned(_ plan: Plan, topology: Topology, job: JobManifest) throws(PlanningError) -> PlannedJob {
        if let misfit = plan.misfit(topology, job: job) { throw .impossible(misfit + ".") }
        var plan = plan
        let used = Set(plan.workers)
        plan.spares = topology.peers.map { topology.hosts[$0].name }.filter { !used.contains($0) }
        let prediction = predict(plan: plan, topology: topology, job: job)
        guard prediction.totalSeconds.isFinite else {
            throw .impossible("some pair of the plan's peers has no link in topology \(topology.name).")
        }
        let count = plan.pipelines.count
        let relayed = RelayedPair.all(of: plan, topology: topology, job: job)
        return PlannedJob(
            plan: plan, prediction: prediction, objectiveSeconds: prediction.totalSeconds, alternatives: [],
            explanation: [
                "The plan is given: \(count) pipeline\(count == 1 ? "" : "s"), H = \(plan.innerSteps), "
                    + "\(plan.exchangeCodec), activations \(plan.activationCodec): \(fixed(prediction.totalSeconds, 1)) s."
            ] + RelayedPair.sentences(relayed), relayed: relayed)
    }
}
