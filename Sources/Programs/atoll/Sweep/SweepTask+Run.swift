import Coordination
import Experiments
import Node
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Topologies

extension SweepPoint {
    /// The same whoever computes it, and beside whatever else.
    func computed() -> SweepResult {
        switch task.run {
        case .plan: planned()
        case .replay: replayed()
        }
    }

    private func planned() -> SweepResult {
        var result = result
        do throws(PlanningError) {
            let planned = try Planner.plan(
                topology: topology, job: job, excluding: Set(task.excluding).union(topology.lateJoiners),
                seed: result.seed, iterations: task.iterations)
            let (plan, prediction) = (planned.plan, planned.prediction)
            func percent(_ name: String, _ share: Double) -> SweepResult.Measure { .init(name, "%", 100 * share) }
            result.measures = [
                .init("total", "s", prediction.totalSeconds), .init("step", "s", prediction.stepSeconds),
                .init("round", "s", prediction.roundSeconds),
                .init("exposed_exchange", "s", prediction.exposedExchangeSeconds),
                .init("rate", "tokens/s", prediction.tokensPerSecond), percent("loss_penalty", prediction.lossPenalty),
                .init("pipelines", "1", Double(plan.pipelines.count)),
                .init("peers", "1", Double(plan.workers.count)), .init("inner_steps", "1", Double(plan.innerSteps)),
                .init(
                    "batch", "tokens",
                    Double(job.geometry(microBatchesPerVirtual: plan.microBatchesPerVirtual).batchTokens)),
                .init("speedup_vs_best_single_peer", "1", prediction.speedupVersusBestSinglePeer),
                percent("bound_by_compute", prediction.binding.compute),
                percent("bound_by_bandwidth", prediction.binding.bandwidth),
                percent("bound_by_latency", prediction.binding.latency),
                percent("bound_by_bubble", prediction.binding.bubble),
                percent("bound_by_exchange", prediction.binding.exchange),
                percent("bound_by_validation", prediction.binding.validation),
            ]
        } catch {
            result.failed = error.description
        }
        return result
    }

    private func replayed() -> SweepResult {
        var result = result
        var options = WorldOptions()
        options.seed = result.seed
        options.realArithmetic = task.isReal
        options.plan = task.plan
        guard let corpus = try? content?.inMemory() ?? [] else {
            result.failed = JobContent.unreadable.description
            return result
        }
        let world = World(
            topology: topology.keeping { !task.excluding.contains(topology.hosts[$0].name) },
            manifest: job.canonicalText, parameters: JobParameters(job), corpus: corpus,
            options: options)
        let end = world.run()
        if case .failed(let why) = end { result.failed = why }
        guard world.hasLed else { return result }
        var view = JobView(limits: .report)
        for (host, event) in world.events { view.apply(event, from: host) }
        let totals = world.coordinator.record.ledger.totals
        var measures: [SweepResult.Measure] = [
            .init("virtual_time", "s", world.virtualSeconds),
            .init("rounds", "1", Double(world.coordinator.state.seals.count)),
            .init("trained", "tokens", Double(world.coordinator.state.sealedTokens)),
            .init("micro_batches_counted", "1", Double(totals.counted)),
            .init("micro_batches_lost", "1", Double(totals.lost + totals.late + totals.superseded)),
            .init("sent", "MiB", Double(world.sentBytes().reduce(0) { $0 + $1.bytes }) / 1_048_576),
        ]
        if let run = RunRecord(world.coordinator, view) {
            func add(_ name: String, _ value: Double?) { if let value { measures.append(.init(name, "s", value)) } }
            add("step", run.measured.stepSeconds)
            add("round", run.measured.roundSeconds)
            add("total", run.measured.totalSeconds)
            add("predicted_step", run.predicted.stepSeconds)
            add("predicted_total", run.predicted.totalSeconds)
            let recovery = run.recoverySeconds
            if !recovery.isEmpty { add("recovery", recovery.reduce(0, +) / Double(recovery.count)) }
        }
        // Where nothing was computed there is no loss.
        if task.isReal, let loss = view.rounds.items.last(where: { $0.validationLoss != nil })?.validationLoss {
            measures.append(.init("validation_loss", "nat", loss))
        }
        result.measures = measures
        return result
    }
}
