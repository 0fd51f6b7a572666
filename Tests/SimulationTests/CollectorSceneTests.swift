import Coordination
import Digests
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// The launcher is gone for good: whoever the manifest names has the result all the same.
@Suite struct `When somebody else collects the result` {
    /// The last host collects; it comes late, and has no part in the job.
    private static func scene(joins: Double) -> Scene {
        var scene = Scene(peers: 4, pipelines: 2, stages: 2, innerSteps: 2, steps: 12)
        for index in scene.hosts.indices { scene.hosts[index].flops = 2e7 }
        for name in ["desk", "archive"] {
            scene.hosts.append(
                Host(
                    name: name, role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                    down: .megabits(100)))
        }
        scene.job.electors.count = .fixed(3)
        scene.job.electors.collectors = [World.key(of: 5, seed: scene.seed).peerID]
        scene.realArithmetic = true
        scene.hasDisks = true
        scene.limit = .seconds(1200)
        scene.launcherPatience = .seconds(20)
        scene.absent = ["archive"]
        scene.faults = [Fault(.join, at: .seconds(joins), host: "archive")]
        return scene
    }
    private static func collect(_ scene: Scene) -> Outcome { scene.run { $0.collector = "archive" } }
    private struct Calm: Sendable {
        var collecting: Double
        var weights: Digest256
    }
    private static let calm: Calm? = {
        var scene = Self.scene(joins: 1190)
        scene.faults = []
        let outcome = scene.run()
        guard let weights = try? outcome.weightsDigest(), let at = outcome.events("collecting_weights").first?.at
        else { return nil }
        return Calm(collecting: at.seconds, weights: weights)
    }()
    private func deaths(_ seconds: [Double]) -> LeaderDeaths {
        LeaderDeaths(at: seconds.map { .nanoseconds(Int64($0 * 1e9)) }, away: nil)
    }

    /// It came while the job waited for its launcher, or long after another had led it to its end; and that one may be gone, too: what the
    /// others held last is enough.
    @Test(arguments: [(10.0, 0.0), (200.0, 0.0), (200.0, 150.0)])
    func `the launcher died before it had the weights, and they come from the peers`(
        joins: Double, leaderDies: Double
    ) throws {
        let calm = try #require(Self.calm)
        var scene = Self.scene(joins: calm.collecting + joins)
        let died = calm.collecting + 0.02
        scene.leaderDeaths = deaths(leaderDies > 0 ? [died, died + leaderDies] : [died])
        let outcome = Self.collect(scene)
        #expect(try outcome.weightsDigest() == calm.weights)
        let state = outcome.world.coordinator.state
        #expect(state.finished?.weights == calm.weights && outcome.events("launcher_awaited").count == 1)
        let killed = outcome.events("fault").filter { ($0.text("kind") ?? "").hasPrefix("kill") }
        #expect(killed.count == (leaderDies > 0 ? 2 : 1))
        // Nobody was asked for what it may not give.
        #expect(outcome.events("not_entitled").isEmpty && outcome.events("state_wrong").isEmpty)
    }

    @Test func `whoever the manifest does not name is told so, and gets nothing`() throws {
        let calm = try #require(Self.calm)
        for named in [[], [World.key(of: 0, seed: 1).peerID]] {
            var scene = Self.scene(joins: calm.collecting + 20)
            scene.job.electors.collectors = named
            let outcome = Self.collect(scene)
            guard case .failed(let why) = outcome.end else {
                Issue.record("it was collected")
                continue
            }
            #expect(why.contains("does not let \(World.key(of: 5, seed: 1).peerID.hex) collect"), "\(why)")
            #expect(why.contains(named.first?.short ?? "nobody"))
        }
    }
}
