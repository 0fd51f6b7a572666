import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// What storms have found, each as a scene of its own.
@Suite struct `What a storm has found` {
    private func run(_ script: StormScript, location: SourceLocation = #_sourceLocation) -> StormRun {
        let run = StormRun(script)
        #expect(run.violation == nil, sourceLocation: location)
        return run
    }
    private func moments(_ run: StormRun, _ kind: String, of peer: String? = nil) -> [Double] {
        run.events.filter { $0.event.kind == kind && (peer == nil || $0.event.peer == peer) }.map {
            $0.event.at.seconds
        }
    }

    /// Each knew the other at an address where nobody was any more, and nobody told them.
    @Test func `two stages of a pipeline that move at once find each other again`() {
        var script = StormScript.small(peers: 2, pipelines: 1, stages: 2)
        script.troubles = [
            script.trouble(.moved, 0, from: 25, until: 25), script.trouble(.moved, 1, from: 25.5, until: 25.5),
        ]
        let run = run(script)
        let seals = moments(run, "round_sealed")
        let pause = zip(seals, seals.dropFirst()).map { $1 - $0 }.max() ?? 99
        #expect(pause < 20, "\(pause)")
        #expect(run.state.members.allSatisfy { $0.endpoint.address.starts(with: [10, 9]) })
    }

    /// Rounds were shorter than a checkpoint takes to come in: each was given up for the next. And what holders had agreed on was
    /// forgotten after some rounds, so that nobody took the states of an older checkpoint.
    @Test func `a checkpoint comes in although rounds are shorter, and is good for going back to however old it is`() {
        var script = StormScript.small(
            peers: 3, pipelines: 1, stages: 2, innerSteps: 1, checkpointEvery: 1, rounds: 80)
        for index in 0..<3 { script = script.with(up: .megabits(index == 0 ? 0.5 : 50), of: index) }
        script.troubles = [script.trouble(.crash(otherPort: false), 1, from: 45, until: 60)]
        let run = run(script)
        #expect(moments(run, "checkpoint_saved").count > 3)
    }

    /// Everything is off, before the launcher has got its first checkpoint.
    @Test func `all who hold a stage lose their disks, and the job goes on from others' copies, which it says`() throws
    {
        var script = StormScript.small(peers: 5, pipelines: 2, stages: 2, checkpointEvery: 8)
        script = script.with(desk: .megabits(2))
        let calm = run(script)
        let plan = try #require(calm.state.plans.first)
        let copies = calm.events.filter { $0.event.kind == "copy_stored" && $0.event.integer("round") == 8 }
        // One of each stage of both pipelines.
        #expect(copies.count == 4)
        let moment = try #require(copies.map { $0.event.at.seconds }.max()) + 0.05
        try #require(moments(calm, "checkpoint_saved").first ?? 0 > moment)
        script.troubles = [script.trouble(.blackout, 0, from: moment, until: moment + 7)]
        for pipeline in plan.pipelines {
            let name = calm.state.name(of: pipeline.stages[1].peer)
            let host = try #require(script.topology.hosts.firstIndex { $0.name == name })
            script.troubles.append(script.trouble(.emptied, host, from: moment, until: moment + 7))
        }
        let run = run(script)
        let chosen = run.events.filter { $0.event.kind == "supply_chosen" }.map(\.event)
        let told = run.events.filter { $0.event.at.seconds >= moment && $0.host == "coordinator" }.map(\.event.line)
        #expect(chosen.count == 1 && chosen.first?.text("exact") == "no", "\(told.prefix(40))")
        let units = plan.pipelines[0].stages[1].units.map(String.init).joined(separator: ", ")
        #expect(chosen.first?.text("why")?.contains("units \(units) only from copies") == true, "\(chosen)")
        #expect(chosen.first?.integer("round") == 8)
        #expect(run.launches == 1 && run.totals.isBalanced)
    }

    @Test func `a launcher that is killed right after the beginning is taken for the same again`() {
        var script = StormScript.small(peers: 3)
        script.troubles = [script.trouble(.crash(otherPort: false), script.desk, from: 9.2, until: 9.4)]
        let run = run(script)
        // Its peers worked for the job of before until its lease was over.
        #expect(run.launches == 1 && moments(run, "round_sealed").first! < 45)
    }

    @Test func `all peers killed at once come back, and the job goes on from its last checkpoint`() {
        var script = StormScript.small(peers: 3, checkpointEvery: 3)
        script.troubles = (0..<3).map {
            script.trouble(.crash(otherPort: $0 == 1), $0, from: 30, until: 34 + Double($0))
        }
        let run = run(script)
        #expect(run.launches == 1)
        let back = run.events.filter { $0.event.kind == "rolled_back" }
        #expect(back.count == 1 && back[0].event.integer("round")! > 0)
        // Within a minute of being back, the time of measuring themselves included.
        #expect(moments(run, "round_sealed").contains { $0 > 34 && $0 < 100 })
    }

    /// A stage's only holder is off when the result is collected, and comes back with what is on its disk: the launcher waited for five minutes for
    /// what nobody had any more, and gave up.
    @Test func `a result that is lost with its holder is trained again from what is on disks`() throws {
        var script = StormScript.small(peers: 2, pipelines: 1, stages: 2, innerSteps: 1, checkpointEvery: 2, rounds: 9)
        let calm = run(script)
        let collecting = try #require(moments(calm, "collecting_weights").first)
        script.troubles = [
            script.trouble(.crash(otherPort: false), 0, from: collecting + 0.001, until: collecting + 10)
        ]
        let run = run(script)
        let back = run.events.filter { $0.event.kind == "rolled_back" }.map(\.event)
        #expect(back.count == 1 && back[0].integer("round")! >= 7, "\(back.map(\.line))")
        #expect(moments(run, "collecting_weights").count == 2 && run.launches == 1)
        #expect(moments(run, "collecting_weights")[1] < collecting + 60)
        #expect(run.state.finished?.weights == calm.state.finished?.weights)
    }

    /// Of a round holders were asked who had been left out of it, or had come back since: none of them said anything, so that nothing was
    /// agreed on and nobody could be given a state. And a launcher whose clock was wrong took no receipt.
    ///
    /// Whoever was left of a round fetched from one that had left, and all waited for it. A coordinator that heard only one that it had not
    /// taken in yet took its own line to be cut. Peers that worked for a launcher's last job declined its next one. A node that came back
    /// elsewhere than invites say was not found by those who came. What a slow device had begun stayed slow when it no longer was (60025). Who was back and heard one of all who had been away tried
    /// the others after pauses that had grown meanwhile, the launcher last (1400461).
    @Test(
        arguments: [
            (2017, [0, 1, 3]), (2038, [0]), (2044, [4]), (2067, [2, 3]), (3006, [2]), (7039, [5, 6]),
            (41114, [0, 1, 2]), (41137, [0, 3, 4, 5, 6]), (60025, [0, 1]), (400494, [3, 6, 7]), (1_400_461, [0]),
        ] as [(UInt64, [Int])])
    func `the job goes on in the worlds in which it once stood still`(seed: UInt64, kept: [Int]) {
        _ = run(StormScript(seed: seed).keeping(kept))
    }

    @Test func `who was started again is waited for with what it has kept`() throws {
        let run = run(StormScript(seed: 1_600_180).keeping([3, 4, 5]))
        #expect(moments(run, "interrupted").count == 1)
        // Of the round in progress nobody has anything; of the one before it all have their own. And what one of them says at once, to another who hears
        // of the plan a second later, is not taken for a word of its life before.
        let chosen = run.events.compactMap { heard -> (round: Int, isExact: Bool)? in
            if case .supplyChosen(let round, _, let isExact, _) = heard.event.what { (round, isExact) } else { nil }
        }
        #expect(chosen.count == 1 && chosen.allSatisfy { $0.round == 32 && $0.isExact })
        #expect(
            try #require(moments(run, "training_resumed").last) - (try #require(moments(run, "interrupted").first)) < 10
        )
    }

    /// Whoever is seen elsewhere by others doubts its connections, and dials: it took 5 s, and was given up by then.
    @Test func `a line with another address is noticed by those who see it there`() throws {
        let run = run(StormScript(seed: 1_601_207).keeping([0, 1, 3, 4]))
        #expect(moments(run, "rolled_back").isEmpty)
        let seen = try #require(moments(run, "external_address").last)
        let gone = run.events.filter { $0.event.kind == "connection_interrupted" && $0.event.at.seconds > seen }
        #expect(!gone.isEmpty && gone.allSatisfy { $0.event.at.seconds < seen + 2.5 })
    }

    @Test func `states do not queue up before a slow disk`() {
        let run = run(StormScript(seed: 1_600_423).keeping([2]))
        #expect(run.events.contains { $0.event.kind == "round_start_failed" })
    }

    /// A launcher that is not heard, sleeps, or sleeps while its line is away: members were given up when it was back, and a round was done again.
    @Test(
        arguments: [(315, [2]), (363, [0]), (443, [1]), (475, [1, 2]), (683, [2]), (80651, [0, 2])]
            as [(UInt64, [Int])])
    func `nobody is given up where only the launcher was away`(seed: UInt64, kept: [Int]) {
        let run = run(StormScript(seed: seed).keeping(kept))
        #expect(!run.events.contains { $0.event.kind == "peer_lost" })
    }

    @Test(arguments: [-86_400, 40_000_000]) func `a clock that is wrong changes nothing`(seconds: Int) {
        // Long enough that it pays to plan with it again when it is back.
        var script = StormScript.small(peers: 3, rounds: 80)
        script.troubles = [script.trouble(.crash(otherPort: false), 0, from: 30, until: 31)]
        let right = run(script)
        script.troubles.insert(script.trouble(.clock(seconds: seconds), 0, from: 1, until: 1), at: 0)
        let wrong = run(script)
        #expect(moments(wrong, "receipt_refused").isEmpty)
        #expect(wrong.state.seals.last?.contributions.count == 3)
        #expect(wrong.state.seals.map(\.contributions.count) == right.state.seals.map(\.contributions.count))
    }

    /// Its peers found other entries in the place of some that they had, put their logs aside, and told nobody: it waited for their work
    /// for ever. Now all leave it, and begin anew with the log that it has: as it has no plan yet, it gathers them again.
    @Test func `a launcher that is back without the end of its log goes on with the peers that it left`() {
        var script = StormScript.small(peers: 3, innerSteps: 1, rounds: 60)
        script.troubles = [
            script.trouble(.disk(.lies), script.desk, from: 22, until: 30),
            script.trouble(.powerCut, script.desk, from: 30, until: 30.4),
        ]
        let run = run(script)
        #expect(moments(run, "forked").count == 3 && run.launches == 1)
        let seals = moments(run, "round_sealed")
        let pause = zip(seals, seals.dropFirst()).map { $1 - $0 }.max() ?? 99
        #expect(pause < 30, "\(pause)")
    }

    @Test func `a job waits for as many peers as its shape needs`() {
        var script = StormScript.small(peers: 3, pipelines: 1, stages: 3)
        script.troubles = [script.trouble(.late, 0, from: 0, until: 30)]
        let run = run(script)
        #expect(run.launches == 1)
    }

    /// Whoever had it on its disk found it damaged, said so, and was waited for three times as long as a round may take.
    @Test func `where the start of a round to which all went back cannot be read, they go back to another`() throws {
        let run = run(StormScript(seed: 1_101_062).keeping([0, 3, 7]))
        let refused = try #require(moments(run, "round_start_refused").first)
        let again = try #require(moments(run, "rolled_back").first { $0 > refused })
        #expect(again - refused < 1)
    }

    /// It held the other units in memory, looked for the last with everybody but itself, and was the only one that had a copy.
    @Test func `what a member lacks of a round that it holds it reads from its own disk`() throws {
        let run = run(StormScript(seed: 1_102_903).keeping([1, 2, 4, 6]))
        #expect(run.launches == 1)
    }

    /// The disk kept those of the latest rounds, of which the job had gone back.
    @Test func `a checkpoint after the job has gone back takes the place of those that are void`() throws {
        let run = run(StormScript(seed: 1_102_903).keeping([0, 5, 6]))
        let back = try #require(moments(run, "rolled_back").last)
        #expect(moments(run, "checkpoint_saved").contains { $0 > back })
    }

    /// Those who had applied a seal died; who was left fetched it from each other, and a newcomer from them.
    @Test func `where all who are left fetch what nobody has they go back`() throws {
        let run = run(StormScript(seed: 1_102_726).keeping([1, 2]))
        let lost = try #require(moments(run, "peer_lost").last { $0 < 40 })
        #expect(try #require(moments(run, "rolled_back").first { $0 > lost }) - lost < 35)
    }

    /// It counted the time in which it slept itself, woke, and had given up.
    @Test func `a launcher that sleeps while it gathers gives others as long to come as one that does not`() {
        var script = StormScript.small(peers: 3, pipelines: 1, stages: 3)
        script.troubles = [
            script.trouble(.late, 0, from: 0, until: 150), script.trouble(.sleep, script.desk, from: 50, until: 145),
        ]
        #expect(run(script).launches == 1)
    }

    /// A member asked to be woken at a moment that had passed, for a state that it had no more use for: time stood still, and a daemon would have
    /// taken a whole processor.
    @Test func `nobody wants to be woken for what is over`() {
        let run = StormRun(StormScript(seed: 2_000_015, electors: nil))
        #expect(run.violation == nil)
    }

    /// Whoever had the units of a newcomer to the plan died as well; the leader's checkpoint of that round came in meanwhile, and nobody asked for it.
    @Test func `who fetches from somebody who leaves asks the leader, who may have it by now`() throws {
        let run = run(StormScript(seed: 5_002_593).keeping([2, 4]))
        let replaced = try #require(moments(run, "replaced").first)
        #expect(moments(run, "rolled_back").isEmpty)
        #expect(moments(run, "round_sealed").contains { $0 > replaced && $0 < replaced + 15 })
    }

    /// The log was on the disk again, receipts waited for some seconds more, and the power went meanwhile.
    @Test func `receipts that a disk did not take are there as soon as it takes the log`() throws {
        let run = run(StormScript(seed: 5_002_574).keeping([1, 6, 7]))
        let (log, receipts) = ("the job log", "receipts")
        let recovered = run.events.compactMap { moment -> (Double, String)? in
            guard case .storageRecovered(let what) = moment.event.what else { return nil }
            return (moment.event.at.seconds, what)
        }
        let taken = try #require(recovered.first { $0.1 == log }?.0)
        #expect(recovered.contains { $0.1 == receipts && $0.0 < taken + 1 })
    }

    /// It took the log for a moment, and receipts, which were to be tried later, no more.
    @Test func `receipts that a disk did not take go there before the next entries of the log`() {
        _ = run(StormScript(seed: 5_003_039).keeping([2, 3, 7]))
    }

    /// It was late for so long that it was waited for no more, and had to fetch each round's start, for which it was late.
    @Test func `who was slow for a while takes part again`() {
        _ = run(StormScript(seed: 5_003_015).keeping([2]))
    }

    /// It went on with the log of the one that had come to nothing, which says that it is over.
    @Test func `a job that came to nothing before there was a plan is launched anew, though electors carry it`() {
        var script = StormScript.small(peers: 3, pipelines: 1, stages: 3)
        script = script.with(electors: 3)
        script.troubles = [script.trouble(.late, 0, from: 0, until: 200)]
        #expect(run(script).launches == 2)
    }
}

extension StormScript {
    func with(electors count: Int) -> StormScript {
        var job = job
        job.electors.count = .fixed(count)
        return StormScript(seed: seed, topology: topology, job: job, corpus: corpus, troubles: troubles)
    }
    /// The launcher's own line.
    func with(desk rate: BitRate) -> StormScript {
        var topology = topology
        topology.hosts[desk].up = rate
        topology.hosts[desk].down = rate
        return StormScript(seed: seed, topology: topology, job: job, corpus: corpus, troubles: troubles)
    }
    func with(up: BitRate, of host: Int) -> StormScript {
        var topology = topology
        topology.hosts[host].up = up
        return StormScript(seed: seed, topology: topology, job: job, corpus: corpus, troubles: troubles)
    }
}
