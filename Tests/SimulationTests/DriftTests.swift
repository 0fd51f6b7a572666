import Coordination
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

@Suite struct `When a peer is not as fast as planned` {
    private func scene(_ faults: [Fault]) -> Scene {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 2, steps: 60)
        // The spare is a little slower: it pays only when somebody gets much slower.
        scene.hosts[4] = Scene.host("spare", flops: 4e7)
        scene.faults = faults
        return scene
    }

    @Test func `the plan moves away from it, once, and rounds take what they took`() throws {
        let calm = scene([]).run()
        try calm.checkFinished()
        #expect(calm.events("speed_changed").isEmpty && calm.events("replanned").isEmpty)
        let slow = try #require(calm.workers.first)

        let outcome = scene([Fault(.slow(factor: 5), at: .progress(0.2), host: slow)]).run()
        try outcome.checkFinished()
        let changes = outcome.events("speed_changed")
        #expect(changes.map(\.peer) == [slow])
        let (planned, measured) = (
            changes.first?.real("planned_gflops") ?? 0, changes.first?.real("measured_gflops") ?? 1
        )
        #expect(abs(planned / measured - 5) < 0.1, "the engine's model is exact in virtual time")
        #expect(outcome.events("replanned").count == 1)
        #expect(!outcome.workers.contains(slow))
        #expect(outcome.totals.lost == 0)
        let rounds = outcome.events("round_sealed").compactMap { $0.real("seconds") }
        let usual = calm.events("round_sealed").compactMap { $0.real("seconds") }.sorted()[15]
        let worst = rounds.max() ?? 0
        #expect(worst > 2 * usual)
        #expect((rounds.suffix(5).max() ?? .infinity) < 1.35 * usual)
    }

    @Test func `a peer that becomes faster is planned with at its new speed`() throws {
        let outcome = scene([Fault(.slow(factor: 0.25), at: .progress(0.2), host: "peer-0")]).run()
        try outcome.checkFinished()
        let changes = outcome.events("speed_changed")
        #expect(changes.map(\.peer) == ["peer-0"])
        #expect(changes.allSatisfy { $0.real("measured_gflops")! > 3.9 * $0.real("planned_gflops")! })
    }

    @Test func `one slow round means nothing`() throws {
        let outcome = scene([Fault(.cut(seconds: 2), at: .progress(0.3), host: "peer-1")]).run()
        try outcome.checkFinished()
        #expect(outcome.events("speed_changed").isEmpty)
    }
}
