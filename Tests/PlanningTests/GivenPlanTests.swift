import Compute
import Foundation
import Links
import Planning
import Primitives
import Testing
import Topologies

/// A plan that was made elsewhere: as JSON, as a record, and what keeps it from running.
@Suite struct `A given plan` {
    static let topology = Topology(
        name: "pool",
        hosts: (0..<4).map {
            Host(name: "h\($0)", flops: 3e9, memory: .mebibytes(64), up: .megabits(20), down: .megabits(50))
        } + [
            Host(
                name: "launcher", role: .coordinator, flops: 1e9, memory: .mebibytes(1), up: .megabits(9),
                down: .megabits(9))
        ],
        defaultLink: LinkProperties(latency: .milliseconds(7)), faults: [Fault(.join, at: .seconds(9), host: "h3")])
    static let job = JobManifest(
        name: "job",
        model: ModelShape(hiddenSize: 64, layers: 4, heads: 4, kvHeads: 2, intermediateSize: 192, context: 64),
        data: .path("x"), tokens: 100_000, virtualPipelines: 4, microBatch: 2)

    @Test func `is the same from a summary, a record and itself, with the same prediction`() throws {
        let planned = try Planner.plan(topology: Self.topology, job: Self.job, excluding: ["h3"], iterations: 100)
        let summary = try JSONDecoder().decode(
            PlanSummary.self, from: try JSONEncoder().encode(PlanSummary(planned, job: Self.job)))
        let itself = try JSONDecoder().decode(Plan.self, from: try JSONEncoder().encode(planned.plan))
        var written = Self.topology
        written.about = "A pool."
        written.expectation = "Nothing."
        written.record = RunRecord(
            job: "job", steps: 1, rounds: 1, innerSteps: planned.plan.innerSteps, predicted: RunRecord.Figures(),
            measured: RunRecord.Figures(), plan: planned.plan.recorded)
        let recorded = try #require(try Topology(parsing: written.text).record?.plan)
        for plan in [try Plan(summary, job: Self.job), try Plan(recorded), itself] {
            let given = try Planner.planned(plan, topology: Self.topology, job: Self.job)
            #expect(given.plan.pipelines == planned.plan.pipelines)
            #expect(given.prediction == planned.prediction)
        }
    }

    @Test func `that cannot run is refused by name`() throws {
        let planned = try Planner.plan(topology: Self.topology, job: Self.job, excluding: ["h3"], iterations: 100)
        func misfit(
            _ change: (inout Plan, inout Topology, inout JobManifest) -> Void
        ) -> String {
            var (plan, topology, job) = (planned.plan, Self.topology, Self.job)
            change(&plan, &topology, &job)
            return plan.misfit(topology, job: job) ?? "none"
        }
        let worker = planned.plan.workers[0]
        #expect(misfit { _, _, _ in } == "none")
        #expect(
            misfit { plan, _, _ in plan.pipelines[0].stages[0].peer = "h9" }.contains("topology pool has no host h9"))
        #expect(misfit { plan, _, _ in plan.pipelines[0].stages[0].peer = "launcher" }.contains("is a coordinator"))
        #expect(misfit { plan, _, _ in plan.pipelines[0].stages[0].peer = "h3" }.contains("joins later"))
        #expect(misfit { _, _, job in job.model.layers = 5 }.contains("none for job job: pipeline 0 ends at unit"))
        #expect(misfit { _, _, job in job.virtualPipelines = 5 }.contains("virtual pipeline 4 is nobody's"))
        #expect(misfit { _, _, job in job.innerSteps = .fixed(77) }.contains("asks for inner_steps 77"))
        #expect(
            misfit { _, topology, _ in
                let index = topology.index(of: worker)!
                topology.hosts[index].memory = .mebibytes(0.1)
            }.contains("host \(worker) of topology pool offers"))
        #expect(throws: PlanningError.self) {
            var plan = planned.plan.recorded
            plan.codec = "mp3"
            _ = try Plan(plan)
        }
    }
}
