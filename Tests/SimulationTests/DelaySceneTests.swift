import Coordination
import Exchange
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

@Suite struct `An exchange behind the last steps of a round` {
    /// Slow lines and a fat model for them: exchanges take longer than a step.
    private func scene(delay: Int, steps: Int = 24) -> Scene {
        var scene = Scene(peers: 5, pipelines: 2, stages: 2, innerSteps: 4, steps: steps)
        for index in scene.hosts.indices {
            scene.hosts[index].up = .megabits(1)
            scene.hosts[index].down = .megabits(4)
        }
        scene.job.exchangeDelay = .fixed(delay)
        return scene
    }
    private func median(_ outcome: Outcome) -> Double {
        let seconds = outcome.events("round_sealed").compactMap { $0.real("seconds") }.sorted()
        return seconds.isEmpty ? .infinity : seconds[seconds.count / 2]
    }

    @Test func `makes rounds shorter by what it hides, as predicted`() throws {
        let plain = scene(delay: 0).run()
        let hidden = scene(delay: 2).run()
        try plain.checkFinished()
        try hidden.checkFinished()
        #expect(median(hidden) < 0.9 * median(plain))
        for outcome in [plain, hidden] {
            let predicted = outcome.world.coordinator.predictionAtStart?.roundSeconds ?? .nan
            #expect(abs(predicted / median(outcome) - 1) < 0.1)
        }
        let predicted = [plain, hidden].map { $0.world.coordinator.predictionAtStart?.roundSeconds ?? .nan }
        #expect(abs(predicted[1] / predicted[0] - median(hidden) / median(plain)) < 0.05)
    }

    /// Real arithmetic: all holders agree, and what is trained is not what is trained without a delay.
    @Test func `ends with one set of weights at all holders`() throws {
        var digests: [String] = []
        for delay in [0, 1, 3] {
            var scene = scene(delay: delay, steps: 12)
            scene.realArithmetic = true
            let outcome = scene.run()
            try outcome.checkFinished()
            digests.append(try outcome.weightsDigest().hex)
            // Every round but the last has told about the gradients' noise.
            let sealed = outcome.world.coordinator.state.seals.count
            #expect(outcome.world.coordinator.books.noise.rounds == sealed - 1)
        }
        #expect(Set(digests).count == 3)
    }

    @Test(arguments: [0.3, 0.45, 0.6]) func `survives the loss of a peer in the middle`(progress: Double) throws {
        let calm = scene(delay: 2).run()
        let name = try #require(calm.workers.dropFirst().first)
        for peers in [4, 5] {
            var scene = scene(delay: 2)
            scene.hosts.removeLast(5 - peers)
            scene.realArithmetic = true
            scene.faults = [Fault(.kill, at: .progress(progress), host: name)]
            let outcome = scene.run()
            try outcome.checkFinished()
            #expect(outcome.events("peer_lost").map(\.peer) == [name])
        }
    }
}
