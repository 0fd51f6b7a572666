import Coordination
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

@Suite struct `A simulated world` {
    static var scene: Scene {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 2, steps: 16)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: "peer-1")]
        return scene
    }

    @Test func `tells the same story for the same seed, byte for byte`() throws {
        let (first, second) = (Self.scene.run(), Self.scene.run())
        try first.checkFinished()
        let transcript = first.world.transcript()
        #expect(transcript == second.world.transcript())
        #expect(first.world.transcriptDigest == second.world.transcriptDigest)
        #expect(transcript.hasPrefix("# atoll transcript 1: small, job "))
        #expect(transcript.split(separator: "\n").count > 50)
    }

    @Test func `tells another story for another seed`() throws {
        var other = Self.scene
        other.seed = 2
        let (first, second) = (Self.scene.run(), other.run())
        try second.checkFinished()
        #expect(first.world.transcript() != second.world.transcript())
        #expect(first.world.deliveredBytes != second.world.deliveredBytes)
    }

    @Test func `says who sent how much`() throws {
        let outcome = Self.scene.run()
        let sent = Dictionary(uniqueKeysWithValues: outcome.world.sentBytes().map { ($0.name, $0.bytes) })
        // Whoever holds layers sends more than its share of the text's few kilobytes.
        for worker in outcome.workers { #expect(sent[worker]! > 50_000) }
        #expect(outcome.world.deliveredBytes > 0)
        #expect(outcome.world.deliveries > 0)
    }

    @Test func `gives up at its limit and says so`() {
        var scene = Self.scene
        scene.limit = .seconds(5)
        let outcome = scene.run()
        guard case .failed(let why) = outcome.end else {
            Issue.record("finished in five seconds")
            return
        }
        #expect(why.contains("5 s of virtual time"))
    }
}

/// With one inner step and fp32, who computes what changes nothing: not the cut, not the mapping, not a replacement.
@Suite struct `Real arithmetic in a simulated world` {
    static func scene(peers: Int, pipelines: Int, stages: Int) -> Scene {
        var scene = Scene(peers: peers, pipelines: pipelines, stages: stages, innerSteps: 1, steps: 12)
        scene.realArithmetic = true
        return scene
    }

    @Test(arguments: [(1, 1), (1, 3), (2, 2), (4, 1)])
    func `ends with exactly the weights of one process`(pipelines: Int, stages: Int) throws {
        let scene = Self.scene(peers: pipelines * stages, pipelines: pipelines, stages: stages)
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(
            outcome.world.coordinator.state.plan?.pipelines.map(\.stages.count)
                == [Int](repeating: stages, count: pipelines))
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }

    @Test func `ends with them although a spare had to take a place`() throws {
        var scene = Self.scene(peers: 5, pipelines: 2, stages: 2)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: try Self.worker(scene))]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("replaced").count == 1)
        #expect(outcome.totals.lost == 0 && outcome.totals.late == 0)
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }

    @Test func `ends with other weights when micro-batches are lost`() throws {
        var scene = Self.scene(peers: 4, pipelines: 4, stages: 1)
        scene.faults = [Fault(.kill, at: .progress(0.4), host: "peer-2")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.totals.lost > 0)
        #expect(try outcome.weightsDigest() != scene.localDigest())
    }

    @Test func `learns`() throws {
        var scene = Self.scene(peers: 2, pipelines: 2, stages: 1)
        scene.job.tokens = 128 * 40
        let outcome = scene.run()
        try outcome.checkFinished()
        let seals = outcome.world.coordinator.state.seals
        let validation = seals.compactMap(\.validationLoss)
        #expect(validation.count == 4)
        #expect(abs(try #require(validation.first) - 5.545) < 0.1)
        #expect(try #require(seals.last).trainLoss < 5)
        #expect(try #require(validation.last) < validation[0] - 0.3)
    }

    /// Somebody who holds layers in the plan that an undisturbed run begins with.
    static func worker(_ scene: Scene) throws -> String { try #require(scene.run().workers.first) }
}
