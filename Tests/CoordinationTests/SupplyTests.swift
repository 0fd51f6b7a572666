import Coordination
import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Testing

/// From where a job goes on, of what members say that they have.
@Suite struct `A supply of a round's start` {
    /// Two pipelines of two stages; rounds are sealed, and agreed on where that is said.
    private func script(_ rounds: Int, agreed: Set<Int>? = nil) throws -> Script {
        var script = try Script(Small.parameters(tokens: 100_000))
        try script.join([1, 2, 3, 4, 5])
        try script.plan(Small.plan([[1, 2], [3, 4]], innerSteps: 2, spares: [5]))
        for round in 1...rounds {
            try script.seal([0, 1])
            guard agreed?.contains(round) ?? true else { continue }
            let units = Small.model.allUnits.map { UnitRoots(unit: $0, parameters: sha(round, $0)) }
            try script.append(.states(States(round: round, units: units)))
        }
        return script
    }
    private func sha(_ round: Int, _ unit: Int) -> Digest256 {
        Digest256([UInt8(round), UInt8(unit)] + [UInt8](repeating: 0, count: 30))!
    }
    /// What the member of the plan has on its disk of these rounds.
    private func holder(_ number: Int, _ rounds: [Int], held: Int? = nil) -> Supply.Holder {
        let place = Small.plan([[1, 2], [3, 4]], innerSteps: 2).placement(of: Small.peer(number))!
        let units = Small.plan([[1, 2], [3, 4]], innerSteps: 2).pipelines[place.rank].stages[place.stage].units
        return Supply.Holder(
            peer: Small.peer(number),
            kept: rounds.map { KeptStage(round: $0, rank: place.rank, units: units, epoch: 1) },
            held: held)
    }
    private func newest(
        _ script: Script, _ holders: [Supply.Holder], checkpoint: Int? = nil, atMost limit: Int = .max
    ) -> Supply? {
        Supply.newest(
            script.state, holders, checkpoint: checkpoint, launcher: Small.launcher.peerID, atMost: limit)
    }

    @Test func `is the newest round of which every stage has its own`() throws {
        let script = try script(10)
        let found = try #require(newest(script, (1...4).map { holder($0, [4, 8]) }))
        #expect(found.round == 8 && found.isExact)
        #expect(found.plan == script.state.plan)
        for unit in Small.model.allUnits { #expect(found.sources[unit]?.count == 2) }
        // One has only the older one of them.
        let older = try #require(newest(script, [holder(1, [4])] + (2...4).map { holder($0, [4, 8]) }))
        #expect(older.round == 4 && older.isExact)
        // A limit is one.
        #expect(newest(script, (1...4).map { holder($0, [4, 8]) }, atMost: 7)?.round == 4)
    }

    @Test func `is one of others where somebody's is nowhere, and says so`() throws {
        let script = try script(10)
        let found = try #require(newest(script, [holder(1, [8]), holder(2, [8]), holder(3, [8])]))
        #expect(found.round == 8 && !found.isExact)
        // Where no pipeline has all of its units there is nothing.
        #expect(newest(script, [holder(1, [8]), holder(3, [8])]) == nil)
        // But the launcher's checkpoint.
        let checkpoint = try #require(newest(script, [holder(1, [8]), holder(3, [8])], checkpoint: 5))
        #expect(checkpoint.round == 5 && !checkpoint.isExact)
        #expect(checkpoint.sources[0] == [Small.launcher.peerID])
    }

    /// Another led than the launcher, and its checkpoint and its own unit were of one round.
    @Test func `names a leader that holds layers once`() throws {
        let script = try script(10)
        let holders = [holder(1, [8]), holder(2, [8]), holder(3, [8])]
        let found = try #require(
            Supply.newest(script.state, holders, checkpoint: 8, launcher: Small.peer(1), atMost: .max))
        #expect(found.round == 8)
        for unit in Small.model.allUnits {
            let sources = try #require(found.sources[unit])
            #expect(sources.contains(Small.peer(1)) && Set(sources).count == sources.count, "\(unit): \(sources)")
        }
    }

    @Test func `is rather exact than newer by few rounds, and rather newer by many`() throws {
        let script = try script(30)
        let all = (1...4).map { holder($0, [20]) }
        #expect(newest(script, all, checkpoint: 25)?.round == 20)
        #expect(newest(script, all, checkpoint: 28)?.isExact == true)
        let old = newest(script, (1...4).map { holder($0, [12]) }, checkpoint: 29)
        #expect(old?.round == 29 && old?.isExact == false)
    }

    @Test func `counts what is in memory only of the round in progress`() throws {
        let script = try script(10)
        let found = try #require(newest(script, (1...4).map { holder($0, [8], held: 10) }))
        #expect(found.round == 10 && found.isExact)
        // One was killed: it has nothing of round 10.
        let killed = (1...3).map { holder($0, [8], held: 10) } + [holder(4, [8])]
        #expect(newest(script, killed)?.round == 8)
        #expect(newest(script, (1...4).map { holder($0, [], held: 9) }) == nil)
    }

    /// Whoever held the last stage is gone for good; others had copied it.
    @Test func `is of copies where all who held a unit are gone, and says of which`() throws {
        let script = try script(10)
        let last = Small.plan([[1, 2], [3, 4]], innerSteps: 2).pipelines[0].stages[1].units
        func withCopy(_ number: Int, _ rounds: [Int], held: Int? = nil) -> Supply.Holder {
            var out = holder(number, [4, 8], held: held)
            out.kept += rounds.map { KeptStage(round: $0, rank: 0, units: last, epoch: 1, isCopy: true) }
            return out
        }
        let found = try #require(newest(script, [withCopy(1, [4, 8], held: 10), withCopy(3, [4], held: 10)]))
        #expect(found.round == 8 && !found.isExact && found.copied == Array(last))
        for unit in Small.model.allUnits {
            #expect(found.sources[unit] == (last.contains(unit) ? [1] : [1, 3]).map { Small.peer($0) })
        }
        // Of whoever has it with moments copies are not asked for; and it may be older by few rounds.
        let whole = try #require(newest(script, [withCopy(1, [4, 8]), withCopy(3, [4, 8]), holder(4, [8])]))
        #expect(whole.round == 8 && whole.copied.isEmpty && whole.sources[last.lowerBound] == [Small.peer(4)])
        let older = try #require(newest(script, [withCopy(1, [4, 8]), withCopy(3, [4, 8]), holder(4, [4])]))
        #expect(older.round == 4 && older.copied.isEmpty)
        // A copy is nobody's own stage.
        for isCopy in [false, true] {
            var fourth = holder(4, [])
            fourth.kept = [KeptStage(round: 8, rank: 1, units: last, epoch: 1, isCopy: isCopy)]
            #expect(newest(script, (1...3).map { holder($0, [8]) } + [fourth])?.isExact == !isCopy)
        }
    }

    @Test func `is of no round that holders have not agreed on`() throws {
        let script = try script(9, agreed: [1, 2, 3, 4, 5, 6, 7])
        #expect(newest(script, (1...4).map { holder($0, [4, 8], held: 9) })?.round == 4)
    }

    /// Whoever has the right units of another pipeline has another's moments.
    @Test func `is not exact where pipelines have changed places`() throws {
        let script = try script(10)
        var holders = (1...4).map { holder($0, [8]) }
        for index in holders.indices { holders[index].kept[0].rank = 1 - holders[index].kept[0].rank }
        let found = try #require(newest(script, holders))
        #expect(found.round == 8 && !found.isExact)
    }

    /// A plan that goes on after others may have a round done that was taken back: nothing of it may be called as it was then.
    @Test func `a plan that follows another counts its attempts on`() {
        var old = Small.plan([[1, 2], [3, 4]], innerSteps: 2)
        (old.pipelines[0].attempt, old.pipelines[1].attempt) = (2, 3)
        let next = Small.plan([[1], [2], [5]], innerSteps: 2).going(on: old, from: 7)
        #expect(next.round == 7 && next.pipelines.map(\.attempt) == [3, 3, 3])
    }
}
