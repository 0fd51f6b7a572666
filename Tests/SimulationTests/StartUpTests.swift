import Coordination
import Links
import Primitives
import Simulation
import Testing
import Topologies

/// Somebody comes, goes or dies at every tenth of a second of a job's start-up: gathering, sharing, measuring, planning, the first
/// round. Never a crash, never a hang.
@Suite struct `While a job starts up` {
    /// Peers fast enough that all of it is over in four seconds.
    private func scene(_ fault: Fault.Kind, tenth: Int, host: String) -> Scene {
        var scene = Scene(peers: 4, pipelines: 2, stages: 1, innerSteps: 2, steps: 4)
        scene.hosts = (0..<4).map { Scene.host("peer-\($0)", flops: 2e9) }
        scene.faults = [Fault(fault, at: .seconds(Double(tenth) / 10), host: host)]
        scene.probeBytes = 32 << 10
        scene.seed = UInt64(tenth)
        scene.limit = .seconds(600)
        return scene
    }

    @Test(arguments: 0..<40) func `a peer that is killed stops nothing`(tenth: Int) throws {
        try check(scene(.kill, tenth: tenth, host: "peer-\(tenth % 4)").run())
    }
    @Test(arguments: 0..<40) func `a peer that leaves stops nothing`(tenth: Int) throws {
        try check(scene(.leave, tenth: tenth, host: "peer-\(tenth % 4)").run())
    }
    @Test(arguments: 0..<40) func `a peer that comes is taken in`(tenth: Int) throws {
        try check(scene(.join, tenth: tenth, host: "peer-\(tenth % 4)").run())
    }

    private func check(_ outcome: Outcome) throws {
        // Before enough have come the launcher may say so and end; nothing else ends it.
        if case .failed(let why) = outcome.end, why.contains("came in") { return }
        try outcome.checkFinished()
        #expect(outcome.events("entry_refused").isEmpty)
    }
}
