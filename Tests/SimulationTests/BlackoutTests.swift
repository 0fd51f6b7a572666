import Digests
import Exchange
import JobFixtures
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// The launcher, the node and all peers lose their power at one moment, and begin again in their folders. The arithmetic is done in earnest.
@Suite struct `Everything that is switched off` {
    struct Case: Hashable, CustomTestStringConvertible {
        var innerSteps: Int
        var codec: Codec
        var delay = 0
        var testDescription: String { "H \(innerSteps), \(codec), delay \(delay)" }
    }
    /// What becomes of the job of most tests here when nothing happens to it.
    private static let sparse = Case(innerSteps: 2, codec: .sparse(k: 8, values: .signMagnitude))
    private static let calm = StormRun(script(sparse))
    private static func script(_ job: Case) -> StormScript {
        var scene = Scene(peers: 4, pipelines: 2, stages: 2, innerSteps: job.innerSteps, steps: 14 * job.innerSteps)
        scene.job.exchangeCodec = .fixed(job.codec)
        scene.job.exchangeDelay = .fixed(job.delay)
        scene.job.exchangeWay = .fixed(.allGather)
        let topology = Topology(
            name: "small", hosts: scene.hosts, defaultLink: LinkProperties(latency: .milliseconds(5)))
        return StormScript(
            seed: 1, topology: topology, job: scene.job, corpus: Scene.corpus, realArithmetic: true, troubles: [])
    }
    private func seals(_ run: StormRun) -> [Double] {
        run.events.filter { $0.event.kind == "round_sealed" }.map { $0.event.at.seconds }
    }

    /// In the middle of rounds, early and late, before the first round start is on a disk and after.
    @Test(arguments: [
        Case(innerSteps: 2, codec: .sparse(k: 8, values: .signMagnitude)), Case(innerSteps: 1, codec: .int8),
        Case(innerSteps: 3, codec: .lowrank(rank: 2), delay: 1),
    ])
    func `goes on to the same weights`(job: Case) throws {
        let script = Self.script(job)
        let calm = job == Self.sparse ? Self.calm : StormRun(script)
        #expect(calm.violation == nil)
        let weights = try #require(calm.state.finished?.weights)
        let times = seals(calm)
        for round in [2, 6, 11] {
            var script = script
            let moment = times[round] + 0.4 * (times[round + 1] - times[round])
            script.troubles = [script.trouble(.blackout, 0, from: moment, until: moment + 7)]
            let run = StormRun(script)
            #expect(run.violation == nil)
            #expect(run.state.finished?.weights == weights, "switched off in round \(round + 1)")
            let chosen = run.events.filter { $0.event.kind == "supply_chosen" }.map(\.event)
            guard round > 4 else { continue }
            #expect(chosen.count == 1 && chosen[0].text("exact") == "yes")
            // Every second round is written: of those that were done at most as many are done again, and one that was under way.
            let again = try #require(chosen.first?.integer("of")) - #require(chosen.first?.integer("round"))
            #expect(again <= 2)
        }
    }

    /// Whoever joins again reads in the log that it once went back: what was written since is good.
    @Test func `goes on to the same weights however often`() throws {
        var script = Self.script(Self.sparse)
        let calm = Self.calm
        let times = seals(calm)
        // In round 6, and again some rounds later, and once more: a pause of 7 s takes some more to come back from.
        let first = times[5] + 0.05
        for moment in [first, first + 20, first + 40] {
            script.troubles.append(script.trouble(.blackout, 0, from: moment, until: moment + 7))
        }
        let run = StormRun(script)
        #expect(run.violation == nil && run.launches == 1)
        #expect(run.state.finished?.weights == calm.state.finished?.weights)
        let chosen = run.events.filter { $0.event.kind == "supply_chosen" }.map(\.event)
        #expect(chosen.count > 1 && chosen.allSatisfy { $0.text("exact") == "yes" })
        // It came further each time.
        let rounds = chosen.compactMap { $0.integer("round") }
        #expect(zip(rounds, rounds.dropFirst()).allSatisfy { $0 < $1 }, "\(rounds)")
    }

    /// Whoever finds its file damaged has its units from others: the job goes on, and says that it is not exact.
    @Test func `goes on with others' weights where a file is damaged, and says so`() throws {
        var script = Self.script(Case(innerSteps: 2, codec: .fp32))
        let times = seals(StormRun(script))
        let moment = times[6] + 0.01
        script.troubles = [
            script.trouble(.disk(.failsToSync), 1, from: 0.5, until: moment - 0.001),
            script.trouble(.blackout, 0, from: moment, until: moment + 7),
        ]
        let run = StormRun(script)
        #expect(run.violation == nil)
        #expect(run.events.contains { $0.host == "peer-1" && $0.event.kind == "round_start_failed" })
        let chosen = try #require(run.events.first { $0.event.kind == "supply_chosen" }).event
        #expect(chosen.text("exact") == "no")
        #expect(run.state.plans.contains { $0.round == chosen.integer("round") })
    }
}
