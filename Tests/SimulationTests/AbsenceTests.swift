import Coordination
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// Away is not dead: whoever cannot be reached for a while is there again when it can, and what was said meanwhile is not lost.
@Suite struct `Whoever is away for a while` {
    private func scene(peers: Int) -> Scene {
        var scene = Scene(peers: peers, pipelines: peers, stages: 1, innerSteps: 8, steps: 8 * 12)
        for index in scene.hosts.indices { scene.hosts[index].flops = 2e7 }
        scene.hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        scene.limit = .seconds(900)
        return scene
    }
    /// Moments of an event of a kind, about one peer or anybody, after the fault.
    private func moments(_ kind: String, _ outcome: Outcome, of peer: String? = nil) throws -> [Double] {
        let struck = try #require(outcome.events("fault").first?.at)
        return outcome.events(kind).filter { (peer == nil || $0.peer == peer) && $0.at > struck }
            .map { ($0.at - struck).inSeconds }
    }

    @Test(arguments: [8.0, 60.0])
    func `a coordinator whose line is cut waits and goes on, and loses nobody`(_ seconds: Double) throws {
        var scene = scene(peers: 3)
        scene.faults = [Fault(.cut(seconds: seconds), at: .progress(0.4), host: "desk")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").isEmpty)
        #expect(outcome.totals.lost == 0 && outcome.totals.late == 0)
        let sealed = try moments("round_sealed", outcome)
        #expect(sealed.contains { $0 < seconds + 5 && $0 > seconds }, "\(sealed)")
    }

    @Test(arguments: [8.0, 20.0, 100.0])
    func `a peer whose line is cut is a member again within seconds of its end`(_ seconds: Double) throws {
        var scene = scene(peers: 3)
        scene.job.tokens *= seconds > 60 ? 8 : 3
        scene.faults = [Fault(.cut(seconds: seconds), at: .progress(0.2), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == ["peer-1"])
        let joined = try moments("peer_joined", outcome, of: "peer-1")
        #expect(joined.count == 1 && joined[0] < seconds + 5, "\(joined)")
        #expect(outcome.workers.contains("peer-1"))
    }

    /// Its rounds are over before a newcomer could wait for anybody who has nothing to give, or be called late for those that it
    /// was away for.
    @Test func `a peer that comes back works with the others again, however short the rounds`() throws {
        var scene = scene(peers: 3)
        scene.job.innerSteps = .fixed(2)
        scene.job.checkpoint.everyRounds = 4
        scene.faults = [Fault(.cut(seconds: 15), at: .progress(0.2), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        let joined = try moments("peer_joined", outcome, of: "peer-1")
        #expect(joined.count == 1)
        #expect(outcome.world.coordinator.state.seals.last?.contributions.count == 3)
        let whole = outcome.events("round_sealed").filter { $0.integer("pipelines") == 3 }.map(\.at)
        let struck = try #require(outcome.events("fault").first?.at)
        let again = try #require(whole.first { ($0 - struck).inSeconds > joined[0] })
        #expect((again - struck).inSeconds - joined[0] < 10)
    }

    /// Four send the result over one line that needs a quarter of a minute for it. What is on its way is no more than a second's worth, so
    /// that each heartbeat is there before silence counts.
    @Test func `nobody is lost behind bytes on a slow line of the coordinator`() throws {
        var scene = Scene(peers: 4, pipelines: 4, stages: 1, innerSteps: 4, steps: 8)
        scene.job.model = ModelShape(
            hiddenSize: 128, layers: 4, heads: 4, kvHeads: 2, intermediateSize: 256, context: 32)
        scene.hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(0.2),
                down: .megabits(1)))
        scene.limit = .seconds(900)
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").isEmpty)
        let came = try #require(outcome.events("collection_progress").last?.at)
        let sealed = try #require(outcome.events("round_sealed").last?.at)
        #expect(came - sealed > .seconds(8), "the line is too fast to tell")
    }

    /// The only holder of a stage is not heard when the result is collected: what was trained to the end is waited for, however many have left.
    @Test(arguments: [1, 2]) func `a result is not given up because its holders are away for a moment`(away: Int) throws
    {
        var scene = Scene(peers: 2, pipelines: 1, stages: 2, innerSteps: 2, steps: 8)
        scene.limit = .seconds(400)
        let calm = scene.run()
        try calm.checkFinished()
        let collecting = try #require(calm.events("collecting_weights").first).at.seconds
        scene.faults = (0..<away).map {
            Fault(.cut(seconds: 30), at: .seconds(collecting + 0.001), host: "peer-\($0)")
        }
        let outcome = scene.run()
        try outcome.checkFinished()
        // Who hears nobody suspects itself.
        #expect(outcome.events("peer_lost").count == (away == 1 ? 1 : 0))
        #expect(outcome.events("rolled_back").isEmpty)
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
    }
}
