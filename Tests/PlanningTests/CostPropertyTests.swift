import Exchange
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `What the planner says` {
    /// Each instance in one of four groups, so that they run side by side.
    @Test(arguments: 0..<4) func `is a whole plan, and costs what the documentation's formulas give, on hostile pools`(
        group: Int
    ) throws {
        var counts: [String: Int] = [:]
        func count(_ name: String, _ holds: Bool) { if holds { counts[name, default: 0] += 1 } }
        for seed in stride(from: group, to: 120, by: 4) {
            let instance = HostileInstance(seed: seed)
            let planned: PlannedJob
            do {
                planned = try Planner.plan(
                    topology: instance.topology, job: instance.job, excluding: instance.excluded, iterations: 30)
            } catch {
                #expect(!"\(error)".isEmpty)
                count("refused", true)
                continue
            }
            check(planned, instance, "instance \(seed)")
            let plan = planned.plan
            count("planned", true)
            count("several pipelines", plan.pipelines.count > 1)
            count("several stages", plan.pipelines.contains { $0.stages.count > 2 })
            count("every step", plan.innerSteps == 1 && plan.pipelines.count > 1)
            count("rounds", plan.innerSteps > 1 && plan.pipelines.count > 1)
            count("delay", plan.exchangeDelay > 0 && plan.pipelines.count > 1)
            let owned = NaiveCost(plan: plan, topology: instance.topology, job: instance.job).ownersRatio(0) != nil
            count("owners", owned)
            count("owners by choice", owned && instance.job.exchangeWay == .auto)
            count("caps", instance.topology.hasPairCaps)
            count("excluded", !instance.excluded.isEmpty)
        }
        print("hostile pools, group \(group): \(counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" })")
        // Refusing everything would be an easy way to be right.
        for name in [
            "planned", "several pipelines", "several stages", "every step", "rounds", "delay", "owners", "refused",
        ] {
            #expect(counts[name, default: 0] > 0, "nothing tested: \(name)")
        }
        #expect(counts["planned", default: 0] >= 15)
    }

    private func check(_ planned: PlannedJob, _ instance: HostileInstance, _ name: String) {
        let (plan, job, topology) = (planned.plan, instance.job, instance.topology)
        var workers: [String] = []
        var dealt: [Int] = []
        let cost = NaiveCost(plan: plan, topology: topology, job: job)
        for (p, pipeline) in plan.pipelines.enumerated() {
            #expect(pipeline.stages.flatMap { Array($0.units) } == Array(0..<job.model.layers + 2), "\(name)")
            #expect(!pipeline.virtualPipelines.isEmpty && pipeline.inFlight >= 1, "\(name)")
            dealt += pipeline.virtualPipelines
            for (s, stage) in pipeline.stages.enumerated() {
                workers.append(stage.peer)
                let host = topology.hosts.first { $0.name == stage.peer }
                #expect(host?.role == .peer, "\(name): \(stage.peer)")
                let need = cost.memory(p, s)
                #expect(need <= host?.memory.bytes ?? 0, "\(name): \(stage.peer)")
                #expect(planned.prediction.peers.first { $0.peer == stage.peer }?.memoryBytes == need, "\(name)")
            }
        }
        #expect(dealt == Array(0..<job.virtualPipelines), "\(name)")
        #expect(Set(workers + plan.spares).count == workers.count + plan.spares.count, "\(name)")
        #expect(instance.excluded.isDisjoint(with: workers + plan.spares), "\(name)")
        #expect(plan.innerSteps == job.innerSteps.value ?? plan.innerSteps, "\(name)")
        #expect(plan.exchangeCodec == job.exchangeCodec.value ?? plan.exchangeCodec, "\(name)")
        #expect(plan.pipelines.count == job.pipelines.value ?? plan.pipelines.count, "\(name)")
        compare(planned, cost, name)
    }

    private func compare(_ planned: PlannedJob, _ cost: NaiveCost, _ name: String) {
        let (stated, naive) = (planned.prediction, cost.answer())
        let scale = naive.roundSeconds
        /// Relative to the larger, and where both are differences of round times, to the round.
        func agree(_ a: Double, _ b: Double, _ what: String, of whole: Double = 0) {
            #expect(
                abs(a - b) <= 1e-9 * max(abs(a), abs(b), whole) && a.isFinite,
                "\(name), \(what): stated \(a), by the documentation \(b)")
        }
        agree(stated.roundSeconds, naive.roundSeconds, "round")
        agree(stated.stepSeconds, naive.stepSeconds, "step")
        agree(stated.exposedExchangeSeconds, naive.exposedSeconds, "exposed", of: scale)
        agree(stated.validationSeconds, naive.validationSeconds, "validation", of: scale)
        agree(stated.totalSeconds, naive.totalSeconds, "total")
        for (a, b) in zip(stated.pipelineStepSeconds, naive.pipelineStepSeconds) { agree(a, b, "step of a pipeline") }
        #expect(stated.pipelineStepSeconds.count == naive.pipelineStepSeconds.count, "\(name)")
        let shares = stated.binding
        let all = [
            shares.compute, shares.bandwidth, shares.latency, shares.bubble, shares.exchange, shares.validation,
        ]
        for (a, b) in zip(all, naive.binding) { agree(a, b, "share of a round", of: 1) }
        agree(stated.lossPenalty, NaivePenalty.relative(planned.plan, steps: stated.steps), "penalty", of: 1e-3)
        // 0.1 % × workers ÷ peers on top.
        let reluctance = 1 + 0.001 * Double(planned.plan.workers.count) / Double(cost.topology.peers.count)
        agree(planned.objectiveSeconds, naive.totalSeconds * reluctance, "objective")
    }
}
