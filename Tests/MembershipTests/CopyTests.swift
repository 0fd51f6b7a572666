import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training

/// Weights and outer momentum of a stage on the disks of peers that do not hold it.
@Suite struct `Copies of units that others hold` {
    /// Pools of all small shapes: each unit is at as many peers outside its layer group as asked for, or as there are.
    @Test func `are at as many peers as the job wants, or as there are, none of which holds the unit`() {
        for stages in 1...5 {
            for pipelines in 1...4 {
                for spares in 0...2 {
                    for copies in 0...6 { check(stages, pipelines, spares, copies) }
                }
            }
        }
    }
    private func check(_ stages: Int, _ pipelines: Int, _ spares: Int, _ copies: Int) {
        let units = 0..<7
        var plan = Small.plan([[1]], spares: (0..<spares).map { 100 + $0 })
        // Cut otherwise in each pipeline.
        plan.pipelines = (0..<pipelines).map { rank in
            let cuts = [0] + (1..<stages).map { min(7 - stages + $0, $0 + rank % 3) } + [7]
            return PlacedPlan.Pipeline(
                stages: zip(cuts, cuts.dropFirst()).enumerated().map { stage, cut in
                    PlacedPlan.Stage(peer: Small.peer(10 * rank + stage + 1), units: cut.0..<cut.1)
                }, virtualPipelines: [rank], inFlight: 2)
        }
        let possible = pipelines * min(4, stages - 1) + spares
        var keepers: [Int: Int] = [:]
        for peer in plan.peers + plan.spares {
            let runs = plan.copied(by: peer, copies: copies, units: units)
            #expect(runs.count <= 4 && Set(runs.flatMap { $0 }).count == runs.reduce(0) { $0 + $1.count })
            for unit in runs.flatMap({ $0 }) {
                #expect(!plan.holders(of: unit).contains(peer))
                keepers[unit, default: 0] += 1
            }
        }
        for unit in units { #expect(keepers[unit, default: 0] == min(copies, possible)) }
    }

    private static let parameters: JobParameters = {
        var out = Small.parameters(tokens: 100_000, checkpointRounds: 2)
        out.copies = 2
        return out
    }()
    private static let pair = Small.plan([[1, 2], [3, 4]], innerSteps: 2)

    /// Two pipelines of two stages, of which both second stages are lost for good, with what was on their disks.
    private func halved(_ seed: UInt64, newcomer: Int? = nil) throws -> (village: Village, round: Int) {
        let village = try Village(Self.parameters, seed: seed)
        village.prunes = true
        try #require(try village.gather([1, 2, 3, 4]))
        try village.plan(Self.pair)
        #expect(try village.train(until: 5 + Int(seed) % 2))
        for number in [2, 4] {
            village.kill(number)
            try village.leader.leave(number)
        }
        if let newcomer {
            village.add(newcomer)
            #expect(try village.gather([newcomer]))
        }
        let common = Set(village.copies(1).keys.map(\.round)).intersection(village.copies(3).keys.map(\.round))
        return (village, try #require(common.max()))
    }
    private func plan(_ peers: [Int], _ village: Village, round: Int) -> PlacedPlan {
        var next = Small.plan([peers], round: round, innerSteps: 2)
        next.pipelines[0].virtualPipelines = Array(0..<4)
        next.pipelines[0].attempt = (village.leader.state.plan!.pipelines.map(\.attempt).max() ?? 0) + 1
        for unit in Small.model.allUnits { next.sources[unit] = [1, 3].map { Small.peer($0) } }
        return next
    }

    private func picture(_ village: Village) -> String {
        "round \(village.leader.state.round); "
            + [1, 3, 5].filter { village.residents[Small.peer($0)] != nil }.map { number in
                "\(number): \(village.member(number).activity), \(village.events(number).suffix(10))"
            }.joined(separator: "; ")
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `are what the job goes on from when all who held a stage are gone`(seed: UInt64) throws {
        let (village, round) = try halved(seed)
        let agreed = village.roots(round)
        #expect(round > 0 && agreed.count == Small.model.unitCount)
        // Each has its own stage as of that round, too, however old it is.
        for number in [1, 3] { #expect(village.starts(number)[round] != nil) }
        let later = village.leader.state.round
        try village.plan(plan([1, 3], village, round: round), rolledBack: true)
        let goesOn = try village.train(until: later + 2)
        #expect(goesOn, "\(picture(village))")
        #expect(village.roots(round) == agreed)
        // Nothing had to come from anybody: the copy is on its own disk.
        #expect(!village.events(3).contains { if case .stateRequested(_, round) = $0 { true } else { false } })
        #expect(
            village.events(3).contains { if case .roundStartRead(round, "2..<4", false) = $0 { true } else { false } })
        #expect(village.events(1).contains { if case .copyStored(round, "2..<4") = $0 { true } else { false } })
    }

    /// The plan before named a holder that is gone; the one after it wants the same units of the same round.
    @Test(arguments: 0..<2 as Range<UInt64>)
    func `are read when a later plan says so to who waits for others already`(seed: UInt64) throws {
        let (village, round) = try halved(seed)
        let later = village.leader.state.round
        var first = plan([1, 3], village, round: round)
        for unit in 2..<4 { first.sources[unit] = [Small.peer(4)] }
        try village.plan(first, rolledBack: true)
        let goesOnAlone = try village.run(for: .seconds(20), until: { $0.leader.state.round > round })
        #expect(!goesOnAlone && village.leader.state.round == round)
        try village.plan(plan([1, 3], village, round: round), rolledBack: true)
        let goesOn = try village.train(until: later + 2)
        #expect(goesOn, "\(picture(village))")
        #expect(
            village.events(3).contains { if case .roundStartRead(round, "2..<4", false) = $0 { true } else { false } })
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `are given to a newcomer that takes the place`(seed: UInt64) throws {
        let (village, round) = try halved(seed, newcomer: 5)
        let later = village.leader.state.round
        try village.plan(plan([1, 5], village, round: round), rolledBack: true)
        let goesOn = try village.train(until: later + 2)
        #expect(goesOn, "\(picture(village))")
        #expect(village.events(5).contains { if case .stateReady(round, "2..<4") = $0 { true } else { false } })
    }

    @Test func `are not made where there is no memory for them, which is said once`() throws {
        let village = try Village(Self.parameters, seed: 1)
        let model = Self.parameters.model
        let needed = model.memory(
            units: 0..<2, rounds: true, sequences: 1, inFlight: 2, recompute: false,
            kept: Self.parameters.optimizer.kept)
        village.add(1, memory: needed + ByteCount(100))
        try #require(try village.gather([1, 2]))
        try village.plan(Small.plan([[1, 2]], innerSteps: 2))
        #expect(try village.train(until: 5))
        #expect(village.copies(1).isEmpty && !village.copies(2).isEmpty)
        #expect(village.events(1).count { if case .copySkipped("2..<4", _, 100) = $0 { true } else { false } } == 1)
    }
}
