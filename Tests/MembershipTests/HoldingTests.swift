import Digests
import Exchange
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training

@Suite struct `What the engine holds` {
    private static let pair = [[1, 2], [3, 4]]

    private func begun(_ plan: PlacedPlan = Small.plan(pair), seed: UInt64 = 1) throws -> HoldingWorld {
        var world = try HoldingWorld(seed: seed)
        try world.enter(.plan(PlanChange(plan, reason: "test")))
        world.settle()
        return world
    }
    private func seal(_ world: inout HoldingWorld, withMine: Bool) throws -> Entry {
        let seal = world.makeSeal(withMine: withMine)
        return .seal(try #require(seal))
    }
    /// Through a round with everybody.
    private func sealRound(_ world: inout HoldingWorld) throws {
        world.sendParts()
        world.settle()
        try world.enter(seal(&world, withMine: true))
        world.settle()
    }

    @Test func `is drawn from the seed at the start, and the round is begun`() throws {
        let world = try begun()
        #expect(world.events.contains(.stateReady(round: 0, units: "0..<2")))
        #expect(world.holding.readiness(world.job) == .atRound(epoch: 1, round: 0))
        #expect(world.holding.work?.phase == .waitingForSeal)
        #expect(world.holding.activity == .exchanging)
        #expect(world.engine.complaints == [])
    }

    @Test func `goes on with each seal`() throws {
        var world = try begun()
        for round in 1...5 {
            try sealRound(&world)
            world.check()
            #expect(world.holding.stock == .here(0..<2, round: round))
            #expect(world.holding.readiness(world.job) == .atRound(epoch: 1, round: round))
        }
        #expect(world.complaints == [])
        #expect(world.applied.map(\.round) == [0, 1, 2, 3, 4])
        #expect(world.applied.allSatisfy { $0.units.map(\.unit) == [0, 1] })
        #expect(!world.events.contains { if case .stateRequested = $0 { true } else { false } })
    }

    @Test func `takes the outer step although its own pipeline was left out`() throws {
        var world = try begun()
        world.sendParts()
        world.settle()
        try world.enter(seal(&world, withMine: false))
        world.settle()
        world.check()
        #expect(world.complaints == [])
        #expect(world.holding.stock == .here(0..<2, round: 1))
        #expect(world.applied.count == 1)
    }

    @Test func `waits for parts that a seal names, then fetches the result`() throws {
        var world = try begun()
        try world.enter(seal(&world, withMine: true))
        world.follow()
        let due = try #require(world.holding.nextWake)
        #expect(due == world.now + Holding.patience)
        #expect(!world.events.contains(.sealIncompleteHere(round: 0)))
        // In time.
        var other = world
        other.pass(.seconds(1))
        try #require(other.job.round == 1)
        world.settle(for: .seconds(4))
        #expect(world.events.contains(.sealIncompleteHere(round: 0)))
        #expect(world.holding.readiness(world.job) == .fetchingState(epoch: 1))
        try world.agree()
        world.settle()
        world.check()
        #expect(world.complaints == [])
        #expect(world.holding.stock == .here(0..<2, round: 1))
    }

    /// Others send nothing of a round to whom they have left out of it.
    @Test func `waits for no parts where it was left out, and the others have gone on`() throws {
        var world = try begun()
        try world.enter(seal(&world, withMine: false))
        world.follow()
        #expect(world.holding.nextWake == world.now + Holding.patience)
        try world.enter(seal(&world, withMine: false))
        world.follow()
        #expect(world.holding.readiness(world.job) == .fetchingState(epoch: 1))
    }

    @Test func `is refused where it does not fit, once a plan, and not tried again`() throws {
        var world = try HoldingWorld(seed: 1)
        world.holding = Holding(
            StageContext(
                me: HoldingWorld.me, parameters: HoldingWorld.parameters, memory: ByteCount(1000), contentBytes: 1000),
            RoundStarts(job: world.script.record.job))
        try world.enter(.plan(PlanChange(Small.plan([[1], [3]]), reason: "test")))
        for _ in 0..<10 { world.pass(.seconds(1)) }
        #expect(world.farewells.count == 1)
        #expect(world.farewells[0].contains("need"))
        #expect(world.events.count { if case .placementRefused = $0 { true } else { false } } == 1)
        #expect(world.jobs.isEmpty)
        // Another plan is another question.
        try world.enter(.plan(PlanChange(Small.plan([[1], [3]], attempts: [1]), reason: "test")))
        world.follow()
        #expect(world.farewells.count == 2)
    }

    /// A text that is too short for a window, say: the same answer every time.
    @Test func `that an engine cannot be configured for is refused once`() throws {
        var world = try HoldingWorld(seed: 1)
        try world.enter(.plan(PlanChange(Small.plan([[1], [3]]), reason: "test")))
        world.follow()
        world.compute(refuses: true)
        world.settle()
        for _ in 0..<10 { world.pass(.seconds(1)) }
        #expect(world.farewells == ["on purpose"])
        #expect(world.jobs.isEmpty)
        #expect(world.holding.stock == .nothing)
    }

    @Test func `that an engine does not take is fetched again after a pause`() throws {
        var world = try HoldingWorld(seed: 1)
        try world.enter(.plan(PlanChange(Small.plan([[1], [3]]), reason: "test")))
        world.follow()
        world.compute()
        world.compute(refuses: true)
        #expect(world.holding.stock == .nothing)
        #expect(world.holding.nextWake == world.now + Holding.pause)
        #expect(world.jobs.isEmpty)
        world.settle()
        #expect(world.holding.stock == .here(0..<4, round: 0))
    }

    @Test func `moves to other units of the same round, keeping what it held`() throws {
        var world = try begun()
        try sealRound(&world)
        var next = Small.plan(Self.pair, round: 1, attempts: [1, 0])
        next.pipelines[0].stages[0].units = 0..<3
        next.pipelines[0].stages[1].units = 3..<4
        for unit in 0..<4 { next.sources[unit] = [Small.peer(3), Small.peer(4)] }
        try world.enter(.plan(PlanChange(next, reason: "test")))
        try world.agree()
        world.settle()
        world.check()
        #expect(world.complaints == [])
        #expect(world.holding.stock == .here(0..<3, round: 1))
        #expect(world.events.contains(.stateRequested(units: "[2]", round: 1)))
        #expect(!world.events.contains(.stateRequested(units: "[0, 1, 2]", round: 1)))
    }

    /// A member of no pipeline any more keeps the round's start, without the steps it had taken, and may be placed again.
    @Test func `stays as of the round's start in a spare`() throws {
        var world = try begun()
        try sealRound(&world)
        try world.enter(
            .plan(PlanChange(Small.plan([[5, 2], [3, 4]], round: 1, attempts: [1, 0]), reason: "test")))
        world.settle()
        world.check()
        #expect(world.holding.stock == .here(0..<2, round: 1))
        #expect(world.holding.work == nil)
        #expect(world.holding.readiness(world.job) == .hasText)
        #expect(world.events.contains(.roundRewound(round: 1)))
        var again = world
        try again.enter(.plan(PlanChange(Small.plan(Self.pair, round: 1, attempts: [2, 0]), reason: "test")))
        again.settle()
        again.check()
        #expect(again.holding.readiness(again.job) == .atRound(epoch: 3, round: 1))
        #expect(!again.events.contains { if case .stateRequested = $0 { true } else { false } })
        // The round passes without it: what it has is of no use.
        try world.enter(seal(&world, withMine: false))
        world.settle()
        #expect(world.holding.stock == .nothing)
        #expect(world.complaints == [] && again.complaints == [])
    }

    /// Rolled back and sealed anew in one batch: the same round number, other weights.
    @Test func `made of seals that are void is dropped although the round's number fits`() throws {
        var world = try begun()
        try sealRound(&world)
        let back = world.rollBack(Small.plan(Self.pair, attempts: [1, 1]))
        var entries = [back]
        try world.script.append(back)
        entries.append(try seal(&world, withMine: false))
        try world.script.append(entries[1])
        for entry in entries { world.holding.entered(entry, at: world.now) }
        world.follow()
        #expect(world.holding.readiness(world.job) == .fetchingState(epoch: 2))
        try world.agree()
        world.settle()
        world.check()
        #expect(world.complaints == [])
        #expect(world.holding.stock == .here(0..<2, round: 1))
    }

    @Test func `is fetched when the group has agreed on something else`() throws {
        var world = try begun()
        try sealRound(&world)
        let other = (0..<4).map { RememberingEngine.roots($0, 12345) }
        try world.enter(.states(States(round: 1, units: other)))
        world.follow()
        #expect(world.holding.readiness(world.job) == .fetchingState(epoch: 1))
        #expect(world.events.contains { if case .stateRequested = $0 { true } else { false } })
    }

    @Test func `agrees with what the group agreed on, and nothing happens`() throws {
        var world = try begun()
        try sealRound(&world)
        let before = world.events.count
        try world.agree()
        world.follow()
        #expect(world.events.count == before)
        #expect(world.holding.stock == .here(0..<2, round: 1))
    }

    /// With H = 1 the step needs the norms of all stages: one that has left never sends them.
    @Test func `is fetched when a neighbour leaves while the seal is applied`() throws {
        var world = try HoldingWorld(seed: 1)
        try world.enter(.plan(PlanChange(Small.plan(Self.pair, innerSteps: 2), reason: "test")))
        world.settle()
        try sealRound(&world)
        #expect(world.holding.stock == .here(0..<2, round: 1))
    }

    @Test func `a pipeline that has lost a stage waits for the log`() throws {
        var world = try HoldingWorld(seed: 1)
        try world.enter(
            .members(MembersChange(left: [MembersChange.Left(peer: Small.peer(2), reason: "gone")], round: 0)))
        try world.enter(.plan(PlanChange(Small.plan(Self.pair), reason: "test")))
        world.settle()
        #expect(world.holding.stock == .here(0..<2, round: 0))
        #expect(world.holding.work?.hasBegun == false)
        try world.enter(.plan(PlanChange(Small.plan([[1, 5], [3, 4]], attempts: [1, 0]), reason: "test")))
        world.settle()
        #expect(world.holding.work?.hasBegun == true)
    }

    /// Everything at once, in any order: legal jobs only, never another lineage's weights, and when the world has calmed down it works.
    @Test(arguments: 0..<150 as Range<UInt64>)
    func `is what the log says, whatever happens`(seed: UInt64) throws {
        var world = try HoldingWorld(seed: seed)
        var generator = SeededGenerator(seed: seed, stream: 5)
        world.losses = generator.below(2) == 0 ? 0 : 0.1
        try world.enter(.plan(PlanChange(Small.plan(Self.pair), reason: "test")))
        var attempt = 0
        for _ in 0..<250 {
            switch generator.below(40) {
            case 0..<16: world.compute(refuses: generator.below(60) == 0)
            case 16..<28: world.deliver()
            case 28..<31: world.sendParts()
            case 31: world.pass(.milliseconds(Int64(generator.below(4000))))
            case 32, 33:
                guard let seal = world.makeSeal(withMine: generator.below(4) > 0) else { continue }
                try world.enter(.seal(seal))
            case 34: try world.agree()
            case 35, 36:
                attempt += 1
                let plan = plan(&generator, round: world.job.round, attempt: attempt)
                try world.enter(.plan(PlanChange(plan, reason: "test")))
            case 37:
                attempt += 1
                let round = max(0, world.job.round - generator.below(3))
                let back = world.rollBack(plan(&generator, round: round, attempt: attempt))
                try world.enter(back)
            case 38:
                let peer = Small.peer(2 + generator.below(5))
                let isPresent = world.job.isPresent(peer)
                let change =
                    isPresent
                    ? MembersChange(left: [MembersChange.Left(peer: peer, reason: "gone")], round: world.job.round)
                    : MembersChange(
                        joined: [MembersChange.Joined(peer: peer, endpoint: Small.endpoint(1), name: "back")],
                        round: world.job.round)
                try world.enter(.members(change))
            default: world.follow()
            }
            world.follow()
            world.check()
        }
        #expect(world.complaints == [], "seed \(seed)")
        try calmDown(&world, attempt: attempt + 1)
        #expect(world.complaints == [], "seed \(seed)")
        #expect(
            world.holding.readiness(world.job) == .atRound(epoch: world.job.planCount, round: world.job.round),
            "seed \(seed)")
        let before = world.job.round
        try sealRound(&world)
        world.check()
        #expect(world.complaints == [])
        #expect(world.holding.stock == .here(0..<2, round: before + 1), "seed \(seed)")
    }
    /// One of a few cuts, with or without this member.
    private func plan(_ generator: inout SeededGenerator, round: Int, attempt: Int) -> PlacedPlan {
        let layouts = [[[1, 2], [3, 4]], [[1], [3, 4]], [[3, 4], [1, 2]], [[5, 2], [3, 4]], [[1, 6], [3]]]
        var plan = Small.plan(layouts[generator.below(layouts.count)], round: round, attempts: [attempt, attempt])
        if generator.below(3) == 0, plan.pipelines[0].stages.count == 2 {
            plan.pipelines[0].stages[0].units = 0..<1
            plan.pipelines[0].stages[1].units = 1..<4
        }
        plan.pipelines[0].stages[0].recompute = generator.below(2) == 0
        if round > 0 { for unit in 0..<4 { plan.sources[unit] = [Small.peer(3), Small.peer(4), Small.peer(6)] } }
        return plan
    }
    private func calmDown(_ world: inout HoldingWorld, attempt: Int) throws {
        world.losses = 0
        let joined = (2...6).map {
            MembersChange.Joined(peer: Small.peer($0), endpoint: Small.endpoint($0), name: "peer-\($0)")
        }
        try world.enter(.members(MembersChange(joined: joined, round: world.job.round)))
        var plan = Small.plan(Self.pair, round: world.job.round, attempts: [attempt, attempt])
        if world.job.round > 0 { for unit in 0..<4 { plan.sources[unit] = [Small.peer(3), Small.peer(4)] } }
        try world.enter(.plan(PlanChange(plan, reason: "calm")))
        try world.agree()
        world.settle(for: .seconds(120))
    }
}
