import Coordination
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing

/// Training that blows up, in earnest.
@Suite struct `Training that diverges` {
    @Test(arguments: [(JobManifest.Checkpoints.OnDivergence.stop, 2), (.retreat, 2), (.retreat, 1)])
    func `ends with its reason, after one retreat where that was asked for`(
        policy: JobManifest.Checkpoints.OnDivergence, innerSteps: Int
    ) {
        var scene = Scene(peers: 2, pipelines: 2, stages: 1, innerSteps: innerSteps, steps: 30)
        scene.realArithmetic = true
        scene.job.learningRate = 900
        scene.job.clip = 0
        scene.job.weightDecay = 10
        scene.job.checkpoint.onDivergence = policy
        let outcome = scene.run()
        guard case .failed(let why) = outcome.end else {
            Issue.record("it went on")
            return
        }
        #expect(why.contains("diverged") && why.contains("learning_rate"), "\(why)")
        let state = outcome.world.coordinator.state
        #expect(state.finished?.reason.contains("diverged") == true)
        #expect(state.plan?.halvings == (policy == .retreat ? 1 : 0))
        let said = outcome.world.events.filter { $0.event.kind == "diverged" }
        #expect(said.count == (policy == .retreat ? 2 : 1))
        #expect(outcome.world.virtualSeconds < 200)
    }
}
