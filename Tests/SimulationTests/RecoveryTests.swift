import Coordination
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

@Suite struct `When somebody leaves in the middle` {
    /// A worker of the plan that the same scene begins with, by its place in it.
    private func worker(_ scene: Scene, _ number: Int) throws -> String {
        let outcome = scene.run()
        if case .failed(let why) = outcome.end { Issue.record("the calm scene failed: \(why)") }
        let workers = outcome.workers
        return try #require(workers.indices.contains(number) ? workers[number] : nil)
    }

    @Test(arguments: [1, 2], [0, 1, 2, 3])
    func `a spare takes the place and nothing is lost`(innerSteps: Int, number: Int) throws {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: innerSteps, steps: 16)
        let name = try worker(scene, number)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == [name])
        #expect(outcome.events("replaced").map(\.peer) == [name])
        #expect(!outcome.workers.contains(name))
        #expect(outcome.totals.lost == 0)
        #expect(outcome.totals.superseded > 0)
        #expect(outcome.events("training_resumed").count == 1)
        #expect(outcome.world.coordinator.state.seals.allSatisfy { $0.contributions.count == 2 })
    }

    /// Two pipelines of two stages need four peers: with three, the shape asked for does not fit, and the best other is taken.
    @Test(arguments: [1, 2])
    func `the other pipeline goes on where there is no spare, and the next round is planned anew`(innerSteps: Int)
        throws
    {
        var scene = Scene(peers: 4, pipelines: 2, stages: 2, innerSteps: innerSteps, steps: 16)
        let name = try worker(scene, 0)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == [name])
        #expect(outcome.events("others_go_on").count == 1)
        #expect(!outcome.events("replanned").isEmpty)
        #expect(outcome.totals.lost > 0)
        #expect(!outcome.workers.contains(name))
    }

    @Test func `pipelines of one go on, and the share of the lost one is lost once`() throws {
        // Of four shares one peer has two: two peers with two each are as fast as the three were.
        var scene = Scene(peers: 3, pipelines: 3, stages: 1, innerSteps: 2, steps: 24)
        scene.job.pipelines = .auto
        let name = try worker(scene, 1)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("others_go_on").count + outcome.events("replaced").count == 1)
        #expect(!outcome.workers.contains(name))
    }

    /// Four equal peers with a pipeline each: three need twice the time for all of a batch, and a round's for three quarters of it.
    @Test func `nobody plans anew for less than the others do without whoever left`() throws {
        var scene = Scene(peers: 4, pipelines: 4, stages: 1, innerSteps: 2, steps: 40)
        scene.job.pipelines = .auto
        scene.job.stages = .auto
        let name = try worker(scene, 1)
        scene.faults = [Fault(.kill, at: .progress(0.3), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("replanned").isEmpty)
        #expect(outcome.events("plan_refused").count == 1)
        let seals = outcome.world.coordinator.state.seals
        #expect(seals.first?.contributions.count == 4 && seals.last?.contributions.count == 3)
    }

    @Test func `a goodbye is as good as a loss`() throws {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 2, steps: 16)
        let name = try worker(scene, 2)
        scene.faults = [Fault(.leave, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        // The world closes a connection's other end before what was written has arrived.
        #expect(outcome.events("peer_lost").first?.text("why") == "its owner stopped it")
        #expect(outcome.events("replaced").count == 1)
    }

    @Test func `two losses in one job are survived`() throws {
        var scene = Scene(peers: 6, pipelines: 2, stages: 2, innerSteps: 2, steps: 24)
        let names = [try worker(scene, 0), try worker(scene, 3)]
        scene.faults = [
            Fault(.kill, at: .progress(0.3), host: names[0]), Fault(.kill, at: .progress(0.6), host: names[1]),
        ]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("replaced").map(\.peer) == names)
        #expect(outcome.totals.lost == 0)
    }

    @Test func `two losses at once are survived`() throws {
        var scene = Scene(peers: 6, pipelines: 2, stages: 2, innerSteps: 2, steps: 16)
        let names = [try worker(scene, 0), try worker(scene, 3)]
        scene.faults = names.map { Fault(.kill, at: .progress(0.4), host: $0) }
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(Set(outcome.events("peer_lost").map(\.peer)) == Set(names))
    }

    /// The third computer has room for the embedding alone: it cannot take either place, but the job can be cut anew.
    private func onlyPipeline() -> Scene {
        var scene = Scene(peers: 2, pipelines: 1, stages: 2, innerSteps: 1, steps: 16)
        scene.realArithmetic = true
        let embedding = scene.job.model.memory(units: 0..<1, rounds: false, sequences: 1, inFlight: 8)
        scene.hosts.append(Scene.host("small", flops: 1e7, memory: embedding))
        return scene
    }

    @Test func `the only pipeline's loss takes everybody back to the beginning`() throws {
        var scene = onlyPipeline()
        let name = try worker(scene, 0)
        #expect(name != "small")
        scene.faults = [Fault(.kill, at: .progress(0.5), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        let rolledBack = outcome.events("rolled_back")
        #expect(rolledBack.count == 1)
        #expect(rolledBack.first?.integer("round") == 0)
        #expect(outcome.totals.superseded > 0)
        #expect(Set(outcome.workers).count == 2 && !outcome.workers.contains(name))
        // Begun anew from the seed, it ends where an undisturbed run does.
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }

    @Test func `with checkpoints, only back to the last one`() throws {
        var scene = onlyPipeline()
        scene.job.checkpoint.everyRounds = 3
        let name = try worker(scene, 0)
        scene.faults = [Fault(.kill, at: .progress(0.5), host: name)]
        scene.limit = .seconds(200)
        let outcome = scene.run()
        try outcome.checkFinished()
        let rolledBack = outcome.events("rolled_back")
        #expect(rolledBack.count == 1)
        let round = try #require(rolledBack.first?.integer("round"))
        #expect(round > 0 && round % 3 == 0)
        #expect(outcome.events("checkpoint_saved").contains { $0.integer("round") == round })
    }

    /// Two pipelines of three, of which the loss leaves one; the planner then gives a place to one who held nothing, and
    /// none to the only one who holds its units.
    @Test func `whoever becomes a spare still gives its units to whom takes them over`() throws {
        var scene = Scene(peers: 6, pipelines: 2, stages: 3, innerSteps: 3, steps: 36)
        scene.job.pipelines = .auto
        for (index, speed) in [7e7, 6e7, 8e7, 3e7, 6e7, 7e7].enumerated() { scene.hosts[index].flops = speed }
        scene.seed = 19
        scene.limit = .seconds(200)
        scene.faults = [Fault(.kill, at: .progress(0.72), host: "peer-5")]
        let outcome = scene.run()
        #expect(outcome.events("replanned").count == 1)
        try outcome.checkFinished()
    }

    /// Its neighbours hear of the roll-back first, and their work is there before the plan.
    @Test(arguments: [0, 1]) func `a roll-back reaches one peer later than its neighbours' work`(number: Int) throws {
        var scene = Scene(peers: 3, pipelines: 1, stages: 2, innerSteps: 2, steps: 16)
        scene.limit = .seconds(200)
        scene.hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        let spare = try #require((0..<3).first { !scene.run().workers.contains("peer-\($0)") })
        scene.links[Topology.Pair(3, spare)] = LinkProperties(latency: .milliseconds(900))
        let name = try worker(scene, number)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: name)]
        let outcome = scene.run()
        #expect(outcome.events("rolled_back").map { $0.integer("round") } == [0])
        try outcome.checkFinished()
    }

    @Test func `everybody's loss ends the job and says so`() throws {
        var scene = Scene(peers: 2, pipelines: 1, stages: 2, innerSteps: 2, steps: 16)
        scene.faults = ["peer-0", "peer-1"].map { Fault(.kill, at: .progress(0.4), host: $0) }
        let outcome = scene.run()
        guard case .failed(let why) = outcome.end else {
            Issue.record("finished without anybody")
            return
        }
        #expect(why.contains("every peer left"))
        // It may be resumed: what was under way is still open.
        #expect(outcome.world.coordinator.record.ledger.isBalanced)
    }
}

@Suite struct `Newcomers, dead lines and stragglers` {
    @Test func `a late joiner is taken in, and takes a place when one is free`() throws {
        var scene = Scene(peers: 3, pipelines: 2, stages: 1, innerSteps: 2, steps: 48)
        scene.faults = [Fault(.join, at: .progress(0.1), host: "peer-2")]
        let calm = scene.run()
        try calm.checkFinished()
        #expect(calm.events("peer_joined").last?.peer == "peer-2")
        let state = calm.world.coordinator.state
        #expect(state.members.map(\.name).contains("peer-2"))
        #expect(state.members.count == 3)
        #expect(calm.totals.lost == 0)

        let name = try #require(calm.workers.first)
        scene.faults.append(Fault(.kill, at: .progress(0.6), host: name))
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == [name])
        #expect(outcome.workers.contains("peer-2"))
    }

    @Test func `a line that is dead for a moment loses nothing`() throws {
        var scene = Scene(peers: 3, pipelines: 3, stages: 1, innerSteps: 2, steps: 24)
        scene.faults = [Fault(.cut(seconds: 2), at: .progress(0.4), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("fault").count == 1)
        #expect(outcome.events("peer_lost").isEmpty)
        #expect(outcome.totals.lost == 0)
    }

    @Test func `a line that is dead for long costs its peer the place, not the job`() throws {
        var scene = Scene(peers: 4, pipelines: 3, stages: 1, innerSteps: 2, steps: 40)
        scene.faults = [Fault(.cut(seconds: 30), at: .progress(0.3), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("peer_lost").map(\.peer) == ["peer-1"])
    }

    @Test func `a peer that comes back after a silence joins again`() throws {
        var scene = Scene(peers: 3, pipelines: 3, stages: 1, innerSteps: 32, steps: 32 * 8)
        for index in scene.hosts.indices { scene.hosts[index].flops = 1e7 }
        scene.faults = [Fault(.cut(seconds: 7), at: .progress(0.3), host: "peer-1")]
        let outcome = scene.run()
        #expect(outcome.events("peer_lost").map(\.peer) == ["peer-1"])
        try outcome.checkFinished()
        #expect(outcome.events("peer_joined").count == 4)
    }

    @Test func `a straggler is left out as late and the job goes on`() throws {
        var scene = Scene(peers: 3, pipelines: 3, stages: 1, innerSteps: 2, steps: 24)
        scene.faults = [Fault(.slow(factor: 200), at: .progress(0.4), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.totals.late > 0)
        #expect(outcome.totals.lost == 0)
        #expect(outcome.events("waiting_for").contains { $0.text("peers") == "peer-1" })
        #expect(outcome.world.coordinator.state.seals.last?.contributions.count == 2)
    }
}

/// Whatever happens to whom, whenever: a job ends, and everything adds up; where nothing was left out, the weights are
/// those of one process.
@Suite struct `Anything that may happen` {
    static func scene(_ seed: Int) -> Scene {
        var generator = SeededGenerator(seed: UInt64(seed), stream: 4242)
        let (pipelines, stages) = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (1, 3)][generator.below(6)]
        let innerSteps = 1 + generator.below(3)
        var scene = Scene(
            peers: pipelines * stages + 2 + generator.below(2), pipelines: pipelines, stages: stages,
            innerSteps: innerSteps, steps: 12 * innerSteps)
        scene.seed = UInt64(seed) + 1
        scene.realArithmetic = true
        scene.limit = .seconds(200)
        scene.job.checkpoint.everyRounds = generator.below(2) == 0 ? 3 : 1_000_000
        if generator.below(2) == 0 { scene.job.pipelines = .auto }
        for index in scene.hosts.indices { scene.hosts[index].flops = 1e7 * Double(2 + generator.below(8)) }
        var names = scene.hosts.map(\.name)
        generator.shuffle(&names)
        for name in names.prefix(1 + generator.below(2)) {
            let moment = Fault.Moment.progress(0.1 + 0.7 * generator.uniform())
            let kinds: [Fault.Kind] = [
                .kill, .leave, .join, .slow(factor: 3), .cut(seconds: 2), .cut(seconds: 12), .kill,
            ]
            scene.faults.append(Fault(kinds[generator.below(kinds.count)], at: moment, host: name))
        }
        return scene
    }

    @Test(arguments: 0..<40) func `is survived`(seed: Int) throws {
        let scene = Self.scene(seed)
        let outcome = scene.run()
        try outcome.checkFinished()
        let plain = outcome.world.coordinator.state.plan?.innerSteps == 1
        if plain, outcome.totals.late == 0, outcome.totals.lost == 0, scene.job.checkpoint.everyRounds > 12 {
            #expect(try outcome.weightsDigest() == scene.localDigest())
        }
    }
}
