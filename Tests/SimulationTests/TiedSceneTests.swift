import Coordination
import Digests
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies
import Training

/// Embeddings that are the head too, over pipelines that are cut: whole jobs, with real arithmetic.
@Suite struct `A job with tied embeddings` {
    private func scene(pipelines: Int = 2, stages: Int, innerSteps: Int, peers: Int = 5) -> Scene {
        var scene = Scene(peers: peers, pipelines: pipelines, stages: stages, innerSteps: innerSteps, steps: 12)
        scene.job.model.tieWordEmbeddings = true
        scene.realArithmetic = true
        return scene
    }
    private func losses(_ outcome: Outcome) -> [Double] { outcome.world.coordinator.state.seals.map(\.trainLoss) }

    @Test(arguments: [1, 2, 3]) func `ends with the weights of one process, however it is cut`(stages: Int) throws {
        let scene = scene(pipelines: stages == 3 ? 1 : 2, stages: stages, innerSteps: 1)
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.world.coordinator.state.plan?.pipelines.allSatisfy { $0.stages.count == stages } == true)
        #expect(try outcome.weightsDigest() == scene.localDigest())
        #expect(losses(outcome).allSatisfy { $0 > 1 && $0 < 7 })
        #expect(losses(outcome) == losses(self.scene(stages: 1, innerSteps: 1).run()))
    }

    @Test func `ends with the same weights over rounds, and reports the validation`() throws {
        let outcomes = [1, 2].map { scene(stages: $0, innerSteps: 3).run() }
        for outcome in outcomes { try outcome.checkFinished() }
        #expect(try outcomes[0].weightsDigest() == outcomes[1].weightsDigest())
        let validations = outcomes.map { $0.world.coordinator.state.seals.map(\.validationLoss) }
        #expect(validations[0] == validations[1] && validations[0].allSatisfy { $0 ?? 0 > 1 })
    }

    /// The stage that holds the table is lost, and the one that borrows it.
    @Test(arguments: [0, 1], [1, 3]) func `goes on after the loss of an end`(stage: Int, innerSteps: Int) throws {
        let calm = scene(stages: 2, innerSteps: innerSteps).run()
        try calm.checkFinished()
        let state = calm.world.coordinator.state
        let name = state.name(of: try #require(state.plan).pipelines[0].stages[stage].peer)
        var scene = scene(stages: 2, innerSteps: innerSteps)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == [name])
        if innerSteps == 1 { #expect(try outcome.weightsDigest() == calm.weightsDigest()) }
    }
}
