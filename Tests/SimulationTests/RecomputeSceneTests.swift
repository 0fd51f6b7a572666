import Coordination
import Digests
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

@Suite struct `A job that recomputes` {
    private func scene(_ recompute: Setting<Bool>, innerSteps: Int) -> Scene {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: innerSteps, steps: 12)
        scene.job.recompute = recompute
        scene.realArithmetic = true
        return scene
    }
    private func flags(_ outcome: Outcome) -> [Bool] {
        outcome.world.coordinator.state.plan?.pipelines.flatMap { $0.stages.map(\.recompute) } ?? []
    }
    /// With rounds the weights depend on who trains on which shares.
    private func shares(_ outcome: Outcome) -> [[Int]] {
        outcome.world.coordinator.state.plan?.pipelines.map(\.virtualPipelines) ?? []
    }

    @Test(arguments: [1, 3]) func `ends with the weights of one that does not, and takes longer`(innerSteps: Int) throws
    {
        let plain = scene(.fixed(false), innerSteps: innerSteps).run()
        let again = scene(.fixed(true), innerSteps: innerSteps).run()
        try plain.checkFinished()
        try again.checkFinished()
        #expect(flags(plain) == [false, false, false, false])
        #expect(flags(again) == [true, true, true, true])
        #expect(shares(plain) == shares(again))
        #expect(try plain.weightsDigest() == again.weightsDigest())
        let seconds = [plain, again].compactMap { $0.events("round_sealed").last?.at }
        #expect(seconds.count == 2 && seconds[0] < seconds[1])
        if innerSteps == 1 { #expect(try again.weightsDigest() == scene(.auto, innerSteps: 1).localDigest()) }
    }

    @Test func `goes on recomputing after a loss, with the same weights`() throws {
        let calm = scene(.fixed(true), innerSteps: 1).run()
        let name = try #require(calm.workers.first)
        var scene = scene(.fixed(true), innerSteps: 1)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == [name])
        #expect(flags(outcome).allSatisfy { $0 })
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
    }

    /// One pipeline of two stages on peers that can keep all activations of one micro-batch only, and wait for each other: auto
    /// chooses more of them in flight. Real members check the memory that they offer.
    @Test func `is planned so where memory is short and lines are long`() throws {
        var scene = Scene(peers: 2, pipelines: 1, stages: 2, innerSteps: 1, steps: 8)
        scene.realArithmetic = true
        scene.latency = .milliseconds(200)
        let model = scene.job.model
        let most = model.memory(units: 0..<3, rounds: false, sequences: 1, inFlight: 1)
        for index in scene.hosts.indices { scene.hosts[index].memory = most }
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(flags(outcome).contains(true))
        #expect(outcome.world.coordinator.state.plan?.pipelines[0].inFlight ?? 0 > 1)
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }
}
