import Coordination
import Digests
import FoundationEssentials
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// Three machines carry the record, and whoever leads may die: the job goes on, and the weights are those of an undisturbed run.
@Suite struct `When whoever leads dies` {
    private static func scene(electors: Int = 3) -> Scene {
        var scene = Scene(peers: 4, pipelines: 2, stages: 2, innerSteps: 2, steps: 12)
        for index in scene.hosts.indices { scene.hosts[index].flops = 2e7 }
        scene.hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        scene.job.electors.count = .fixed(electors)
        scene.realArithmetic = true
        scene.hasDisks = true
        scene.limit = .seconds(1200)
        return scene
    }
    /// The run in which nothing happens: when what did, in seconds, and what it ends with.
    private struct Calm: Sendable {
        var moments: [String: [Double]] = [:]
        var seconds: Double
        var weights: Digest256
    }
    private static let calm: Calm? = {
        let outcome = scene().run()
        guard let weights = try? outcome.weightsDigest() else { return nil }
        var calm = Calm(seconds: outcome.world.virtualSeconds, weights: weights)
        for (_, event) in outcome.world.events { calm.moments[event.kind, default: []].append(event.at.seconds) }
        return calm
    }()
    private func moment(_ kind: String, _ number: Int = 0) throws -> Double {
        let moments = try #require(Self.calm).moments[kind] ?? []
        return try #require(moments.indices.contains(number) ? moments[number] : nil)
    }
    private func deaths(_ seconds: Double..., away: Duration?) -> LeaderDeaths {
        LeaderDeaths(at: seconds.map { .nanoseconds(Int64($0 * 1e9)) }, away: away)
    }
    /// Nothing that was accepted is lost, and the weights are those of a run in which nothing happened.
    private func check(_ outcome: Outcome) throws {
        try outcome.checkFinished()
        #expect(try outcome.weightsDigest() == Self.calm?.weights)
        let totals = outcome.totals
        #expect(totals.lost == 0 && totals.late == 0 && totals.superseded == 0, "\(totals)")
        #expect(outcome.events("rolled_back").isEmpty && outcome.events("peer_lost").isEmpty)
    }

    @Test func `three electors end with the weights of one, and have chosen who they are`() throws {
        let three = Self.scene().run()
        try check(three)
        #expect(try Self.scene(electors: 1).run().weightsDigest() == Self.calm?.weights)
        #expect(three.events("electors_chosen").count == 1)
        let electors = three.world.electors
        #expect(electors.count == 3 && electors.contains { $0.name == "desk" })
        // A node computes nothing, and is always on: it is taken before all who hold layers.
        let node = try #require(three.world.topology.hosts.first { $0.role == .bootstrap }?.name)
        #expect(electors.contains { $0.name == node } && !three.workers.contains(node))
        let state = three.world.coordinator.state
        let place = try #require(state.members.first { $0.name == node })
        #expect(place.flops == 0 && state.plan?.spares.contains(place.peer) == false)
        // Nobody leads but the launcher, and a certificate of a quorum is of nearly all.
        #expect(three.world.coordinator.term == 1 && three.events("leadership_taken").isEmpty)
        #expect(electors.allSatisfy { $0.certified >= $0.entries - 1 }, "\(electors)")
    }

    /// The next leader never had a connection with the process of before: it took the new one for the member that the log names, and waited
    /// 90 seconds for it, round after round.
    @Test func `a member that dies with it and is back before another leads is taken in again`() throws {
        let moment = try moment("round_sealed", 2) + 0.05
        var scene = Self.scene()
        scene.leaderDeaths = deaths(moment, away: nil)
        scene.launcherPatience = .seconds(1)
        // Whoever holds layers, and carries no record.
        let calm = Self.scene().run()
        let electors = calm.world.electors.map(\.name)
        let worker = try #require(calm.workers.first { !electors.contains($0) })
        scene.faults = [
            Fault(.kill, at: .seconds(moment + 0.01), host: worker),
            Fault(.join, at: .seconds(moment + 0.5), host: worker),
        ]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("leadership_taken").count == 1)
        let seals = outcome.events("round_sealed").map(\.at.seconds)
        let pause = zip(seals, seals.dropFirst()).map { $1 - $0 }.max() ?? 99
        #expect(pause < 20, "\(pause)")
    }

    /// While lines are measured, when there is a plan, at a seal, within a round, while holders agree, at the end.
    @Test(arguments: [
        ("electors_chosen", 0, 0.3), ("planned", 0, 0.001), ("round_sealed", 2, 0.001), ("round_sealed", 2, 0.9),
        ("states_agreed", 2, 0.001), ("collecting_weights", 0, 0.02),
    ])
    func `the launcher dies at any moment, is back after a while, and collects the weights of an undisturbed run`(
        _ kind: String, _ number: Int, _ after: Double
    ) throws {
        var scene = Self.scene()
        scene.leaderDeaths = deaths(try moment(kind, number) + after, away: .seconds(12))
        let outcome = scene.run()
        try check(outcome)
        let struck = try #require(outcome.events("fault").first?.at.seconds)
        let taken = try #require(outcome.events("leadership_taken").first)
        #expect(taken.at.seconds - struck <= 8, "\(taken.line)")
        // The others go on; who comes back is told, stands by, and leads again when there is a result.
        #expect(outcome.world.coordinator.term >= 2)
        let length = outcome.world.coordinator.record.length
        #expect(outcome.world.electors.contains { $0.name == "desk" && $0.entries == length })
    }

    /// The result was on its disk before anybody was told that the job is over.
    @Test func `the launcher dies when it has just said that the job is over, and has the result all the same`() throws
    {
        var scene = Self.scene()
        scene.leaderDeaths = deaths(try #require(Self.calm).seconds - 0.001, away: .seconds(12))
        let outcome = scene.run()
        #expect(outcome.events("fault").count == 1)
        #expect(try outcome.weightsDigest() == Self.calm?.weights)
    }

    @Test func `the launcher never comes back: another elector collects the weights after a while`() throws {
        var scene = Self.scene()
        scene.launcherPatience = .seconds(20)
        scene.leaderDeaths = deaths(try moment("round_sealed", 1) + 0.5, away: nil)
        let outcome = scene.run()
        try check(outcome)
        #expect(outcome.events("launcher_awaited").count == 1)
        // Training itself hardly noticed: rounds are as long as before, but for the one that was sealed late.
        let sealed = outcome.events("round_sealed").map(\.at.seconds)
        let gaps = zip(sealed.dropFirst(), sealed).map { $0 - $1 }.sorted()
        #expect(gaps.dropLast().allSatisfy { $0 < 2.5 } && gaps.last! < 10, "\(gaps)")
    }

    /// Its copy of the log was its elector's, to which nobody sends what is new, for the rest of the job.
    @Test func `whoever has lost its seat keeps the log as all members do`() throws {
        var scene = Self.scene()
        scene.hosts = (0..<3).map { Scene.host("peer-\($0)", flops: 6e6) } + scene.hosts.suffix(1)
        scene.job.stages = .fixed(1)
        scene.job.innerSteps = .fixed(1)
        scene.job.tokens = 128 * 64
        scene.realArithmetic = false
        let node = try #require(scene.run().world.topology.hosts.first { $0.role == .bootstrap }?.name)
        scene.faults = [
            Fault(.kill, at: .seconds(30), host: node), Fault(.join, at: .seconds(100), host: node),
        ]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("electors_chosen").count == 2)
        let electors = outcome.world.electors.map(\.name)
        #expect(electors.count == 3 && !electors.contains(node))
        let length = outcome.world.coordinator.record.length
        let stored = try #require(outcome.world.logOnDisk(of: node))
        #expect(stored >= length - 2, "\(stored) of \(length) entries")
    }

    /// Whoever leads: first the launcher, then peers that hold layers. Each is back after twenty seconds, on what its disk has. H = 1: a
    /// spare takes the place of a peer, and the weights do not depend on who computes which share.
    @Test func `whoever leads dies every minute, and the weights are those of an undisturbed run`()
        throws
    {
        let count = ProcessInfo.processInfo.environment["ATOLL_LEADER_DEATHS"].flatMap { Int($0) } ?? 3
        func scene() -> Scene {
            var scene = Self.scene()
            scene.hosts = (0..<6).map { Scene.host("peer-\($0)", flops: 6e6) } + scene.hosts.suffix(1)
            scene.job.stages = .fixed(1)
            scene.job.innerSteps = .fixed(1)
            scene.job.tokens = 128 * (16 * count + 10)
            scene.limit = .seconds(4000)
            return scene
        }
        let calm = scene().run()
        var disturbed = scene()
        disturbed.leaderDeaths = LeaderDeaths(at: (0..<count).map { .seconds(63 + 60 * $0) }, away: .seconds(20))
        let outcome = disturbed.run()
        try outcome.checkFinished()
        #expect(try outcome.weightsDigest() == calm.weightsDigest())
        #expect(outcome.totals.lost == 0 && outcome.totals.late == 0, "\(outcome.totals)")
        let deaths = outcome.events("fault").map(\.at.seconds)
        let taken = outcome.events("leadership_taken").map(\.at.seconds)
        #expect(deaths.count == count)
        for death in deaths { #expect(taken.contains { $0 > death && $0 - death <= 8 }, "\(death): \(taken)") }
    }
}
