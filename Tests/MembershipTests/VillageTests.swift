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
import Wire

/// Whole members with real arithmetic: whatever order things arrive in, whoever leaves, comes or is silent, all holders end with the
/// same bits.
@Suite struct `A job among members` {
    static let parameters = Small.parameters(tokens: 4000)

    private func village(
        _ numbers: [Int], _ plan: PlacedPlan, seed: UInt64, leader: NaiveLeader? = nil, spares: [Int] = []
    ) throws -> Village {
        let village = try Village(Self.parameters, leader: leader, seed: seed)
        try #require(try village.gather(numbers + spares))
        try village.plan(plan)
        return village
    }
    /// What the holders of all units agree on at the start of a round, when nothing disturbs them.
    private func expected(_ numbers: [Int], _ plan: PlacedPlan, round: Int) throws -> [Int: UnitRoots] {
        let village = try village(numbers, plan, seed: 1)
        try #require(try village.train(until: round))
        return village.roots(round)
    }
    private func refusals(_ village: Village, _ numbers: [Int]) -> [Happening] {
        numbers.flatMap { village.events($0) }.filter {
            switch $0 {
            case .workRefused, .notEntitled, .payloadCorrupt, .staleCommand, .logEntryRefused, .contributionUnusable,
                .stateWrong, .chunkRefused, .contentRefused:
                true
            default: false
            }
        }
    }

    @Test(arguments: [1, 3], [ExchangeWay.allGather, .reduceScatter, .owner(.int8)])
    func `ends with the same weights whatever arrives first`(innerSteps: Int, way: ExchangeWay) throws {
        var plan = Small.plan([[1, 2], [3]], innerSteps: innerSteps)
        plan.exchangeWay = way
        var found: Set<[Int: UnitRoots]> = []
        for seed in 0..<4 as Range<UInt64> {
            let village = try village([1, 2, 3], plan, seed: seed)
            #expect(try village.train(until: 3))
            #expect(refusals(village, [1, 2, 3]) == [])
            #expect(village.leader.objections.isEmpty)
            found.insert(village.roots(3))
        }
        #expect(found.count == 1)
    }

    @Test func `a member whose owner wants it back leaves where a round begins, and nothing of its work is lost`()
        throws
    {
        let village = try village([1, 2, 3], Small.plan([[1], [2], [3]], innerSteps: 3), seed: 5)
        #expect(try village.train(until: 1))
        let round = village.leader.state.round
        #expect(village.member(3).position?.round == round)
        village.drain(3, by: .seconds(500))
        village.drain(3, by: .seconds(1))
        #expect(
            village.member(3).isLeavingByOwner && village.member(3).isWorking, "it works on, however often it is asked")
        #expect(try village.run(until: { $0.member(3).isPausedByOwner }))
        #expect(village.leader.state.round == round + 1 && village.leader.state.isAgreed(round + 1))
        #expect(
            village.leader.state.seals.last?.contributions.map(\.rank) == [0, 1, 2], "the round that it was in counts")
        #expect(village.events(3).contains(.ownerLeaves(round: round)) && village.events(3).contains(.ownerPaused))
        // Where the round does not end, it leaves in time all the same; who holds nothing leaves at once.
        let stuck = try self.village([1, 2], Small.plan([[1]], innerSteps: 3), seed: 5)
        #expect(try stuck.train(until: 1))
        stuck.leader.seals = false
        stuck.drain(2, by: .seconds(60))
        #expect(stuck.member(2).isPausedByOwner)
        stuck.drain(1, by: .seconds(60))
        #expect(try stuck.run(until: { $0.member(1).isPausedByOwner }))
        #expect(stuck.leader.state.round == 1)
    }

    @Test func `a member that alone holds something leaves when another has it`() throws {
        let village = try village([1, 2], Small.plan([[1]], innerSteps: 2, spares: [2]), seed: 5)
        #expect(try village.train(until: 1))
        let round = village.leader.state.round
        village.drain(1, by: .seconds(500))
        var next = Small.plan([[2]], round: round + 1, innerSteps: 2, spares: [1])
        for unit in Small.model.allUnits { next.sources[unit] = [Small.peer(1)] }
        try village.plan(next)
        #expect(try village.run(until: { $0.leader.state.round == round + 1 }))
        #expect(village.member(1).isLeavingByOwner && village.member(1).isWorking, "nobody has it yet")
        #expect(try village.run(until: { $0.member(1).isPausedByOwner }))
        #expect(village.leader.state.round == round + 2, "another has trained what it gave")
        #expect(village.member(2).position?.units == Small.model.allUnits)
        // Where nobody takes its place, it leaves all the same.
        let alone = try self.village([1, 2], Small.plan([[1]], innerSteps: 2, spares: [2]), seed: 5)
        #expect(try alone.train(until: 1))
        let since = alone.now
        alone.drain(1, by: .seconds(500))
        #expect(try alone.run(until: { $0.member(1).isPausedByOwner }))
        #expect(alone.now - since < .seconds(500) && alone.leader.state.round > 2)
    }

    @Test func `ends when its log does, and everything is erased`() throws {
        let village = try village([1, 2], Small.plan([[1], [2]]), seed: 3)
        #expect(try village.train(until: 2))
        try village.leader.propose(.finish(Finish(reason: Finish.done)))
        #expect(try village.run(until: { !$0.member(1).isWorking && !$0.member(2).isWorking }))
        _ = try village.run(for: .seconds(1), until: { _ in false })
        for number in [1, 2] {
            #expect(village.member(number).jobID == nil)
            #expect(village.member(number).activity == .idle)
            #expect(
                village.events(number).contains(.jobReleased(job: village.leader.record.job.short, why: "finished")))
            guard case .erase(village.leader.record.job, _)? = village.residents[Small.peer(number)]!.stored.last else {
                Issue.record("not erased")
                continue
            }
        }
    }

    @Test func `every entry and every chunk is on disk, in order`() throws {
        let village = try village([1, 2], Small.plan([[1], [2]]), seed: 4)
        #expect(try village.train(until: 2))
        _ = try village.run(for: .seconds(3), until: { _ in false })
        let length = village.leader.record.length
        for number in [1, 2] {
            var entries: [Int] = []
            var chunks: [Int] = []
            for request in village.residents[Small.peer(number)]!.stored {
                switch request {
                case .entry(_, let index, _): entries.append(index)
                case .chunk(_, let chunk, _): chunks.append(chunk)
                case .roundStart(let start, _): #expect(start.round % 4 == 0)
                case .checkpoint, .erase, .receipt, .certificate, .contradiction, .truncate, .ballot, .readRoundStart,
                    .eraseRoundStarts, .setLogAside:
                    Issue.record("\(request) is not a member's in a job")
                }
            }
            #expect(entries == Array(0..<length))
            #expect(chunks == [0])
        }
    }

    // MARK: who leaves and who comes

    /// H = 1: moments are everybody's, so that the weights must be those of an undisturbed run.
    @Test(arguments: 0..<6 as Range<UInt64>)
    func `goes on with a spare in the place of who was killed`(seed: UInt64) throws {
        let plan = Small.plan([[1, 2], [3]], innerSteps: 1, spares: [4])
        let village = try village([1, 2, 3], plan, seed: seed, spares: [4])
        #expect(try village.train(until: 2))
        village.kill(2)
        try village.leader.leave(2)
        var next = village.leader.state.plan!
        next.round = village.leader.state.round
        next.pipelines[0].stages[1].peer = Small.peer(4)
        next.pipelines[0].attempt += 1
        next.spares = []
        next.sources = Dictionary(uniqueKeysWithValues: Small.model.allUnits.map { ($0, [Small.peer(3)]) })
        try village.plan(next)
        #expect(try village.train(until: 5))
        #expect(village.roots(5) == (try expected([1, 2, 3], Small.plan([[1, 2], [3]], innerSteps: 1), round: 5)))
        let wanted = "\(Array(Small.model.unitCount / 2..<Small.model.unitCount))"
        #expect(village.events(4).contains { if case .stateRequested(wanted, _) = $0 { true } else { false } })
        #expect(refusals(village, [1, 3, 4]) == [])
    }

    /// The cut moves between rounds: each stage keeps what it held and fetches the rest from the other, moments included.
    @Test(arguments: [1, 2])
    func `moves units between members at a round's end`(innerSteps: Int) throws {
        for seed in 0..<4 as Range<UInt64> {
            let village = try village([1, 2], Small.plan([[1, 2]], innerSteps: innerSteps), seed: seed)
            #expect(try village.train(until: 1))
            let round = village.leader.state.round + 1
            var next = Small.plan([[1, 2]], round: round, innerSteps: innerSteps)
            next.pipelines[0].stages[0].units = 0..<1
            next.pipelines[0].stages[1].units = 1..<4
            for unit in Small.model.allUnits { next.sources[unit] = [Small.peer(unit < 2 ? 1 : 2)] }
            try village.plan(next)
            #expect(try village.train(until: round + 2))
            let still = Small.plan([[1, 2]], innerSteps: innerSteps)
            #expect(village.roots(round + 2) == (try expected([1, 2], still, round: round + 2)))
            #expect(refusals(village, [1, 2]) == [])
        }
    }

    /// Back to a round that is sealed already: what was made of void seals is not used.
    @Test(arguments: 0..<4 as Range<UInt64>)
    func `returns to its beginning when the log does`(seed: UInt64) throws {
        let plan = Small.plan([[1, 2], [3]], innerSteps: 2)
        let village = try village([1, 2, 3], plan, seed: seed)
        #expect(try village.train(until: 3))
        var back = Small.plan([[1, 2], [3]], innerSteps: 2, attempts: [1, 1])
        back.sources = [:]
        try village.plan(back, rolledBack: true)
        #expect(try village.run(until: { $0.leader.state.round == 0 || $0.leader.state.isAgreed(1) }))
        #expect(try village.train(until: 3))
        #expect(village.roots(3) == (try expected([1, 2, 3], plan, round: 3)))
        #expect(refusals(village, [1, 2, 3]) == [])
    }

    // MARK: leaders

    /// The leader is silent for longer than its lease, then comes back: nothing is computed meanwhile, nothing is lost.
    @Test(arguments: 0..<4 as Range<UInt64>)
    func `pauses when its leader is gone, and resumes where it was`(seed: UInt64) throws {
        let plan = Small.plan([[1, 2], [3]], innerSteps: 3)
        let village = try village([1, 2, 3], plan, seed: seed)
        #expect(try village.train(until: 1))
        village.leader.isSilent = true
        _ = try village.run(for: .seconds(20), until: { _ in false })
        for number in [1, 2, 3] {
            #expect(!village.member(number).isWorking)
            #expect(village.member(number).jobID == village.leader.record.job)
            #expect(village.events(number).contains { if case .workPaused = $0 { true } else { false } })
        }
        village.leader.isSilent = false
        village.leader.lease()
        #expect(try village.run(for: .seconds(5), until: { $0.member(1).isWorking && $0.member(3).isWorking }))
        #expect(try village.train(until: 4))
        #expect(village.roots(4) == (try expected([1, 2, 3], plan, round: 4)))
        for number in [1, 2, 3] { #expect(village.events(number).contains(.rejoined)) }
    }

    @Test func `is over some time after its leader was heard last`() throws {
        let village = try village([1], Small.plan([[1]]), seed: 1)
        #expect(try village.train(until: 1))
        village.leader.isSilent = true
        _ = try village.run(for: MemberJob.keep, until: { _ in false })
        #expect(village.member(1).jobID != nil)
        // It was looked for, ever more seldom.
        let sought = village.residents[Small.peer(1)]!.sought
        #expect(sought.allSatisfy { $0 == village.leader.key.peerID } && (8...24).contains(sought.count))
        _ = try village.run(for: .seconds(30), until: { _ in false })
        #expect(village.member(1).jobID == nil)
        guard case .erase? = village.residents[Small.peer(1)]!.stored.last else {
            Issue.record("not erased")
            return
        }
    }

    /// Another elector takes over with the log and nothing else: members say again what the round needs.
    @Test(arguments: 0..<6 as Range<UInt64>)
    func `goes on under a leader that knows only the log`(seed: UInt64) throws {
        let heir = Small.key(251)
        let plan = Small.plan([[1, 2], [3]], innerSteps: 2)
        let village = try village(
            [1, 2, 3], plan, seed: seed, leader: try NaiveLeader(Self.parameters, others: [heir]))
        #expect(try village.train(until: 1))
        // All reports of the round are in, but it is not sealed.
        village.leader.seals = false
        _ = try village.run(for: .seconds(5), until: { _ in false })
        let before = village.leader.key.peerID
        village.leader.succeed(heir)
        for number in [1, 2, 3] { village.reconnect(number, 251) }
        #expect(try village.train(until: 3))
        #expect(village.roots(3) == (try expected([1, 2, 3], plan, round: 3)))
        for number in [1, 2, 3] {
            #expect(village.member(number).leader == heir.peerID)
            #expect(village.events(number).contains(.leaderChanged(term: 2)))
            #expect(village.leader.readiness[Small.peer(number)] != nil)
            #expect(village.leader.speeds[Small.peer(number)] != nil)
        }
        // The one before commands nobody any more.
        let stale = Packet(
            job: village.leader.record.job, term: 1, .dismissal(Dismissal(.jobEnded, reason: "it was I who led")))
        var member = village.member(1)
        member.receive(stale, from: before, endpoint: nil, at: village.now)
        #expect(member.isWorking)
        var said: [Happening] = []
        while let effect = member.poll() { if case .event(let event) = effect { said.append(event.what) } }
        #expect(said.contains(.staleCommand(term: 1)))
    }

    // MARK: what goes wrong

    /// An engine's state is changed behind its back: the group agrees on another, and this member fetches it by itself.
    @Test(arguments: 0..<3 as Range<UInt64>)
    func `fetches what the group agreed on when its own differs`(seed: UInt64) throws {
        let plan = Small.plan([[1], [2], [3]], innerSteps: 2)
        let village = try village([1, 2, 3], plan, seed: seed)
        #expect(try village.train(until: 1))
        guard case .state(var states) = village.engine(2).perform(.exportState(units: 0..<4, includeMoments: true))
        else {
            Issue.record("no state")
            return
        }
        for index in states.indices { states[index].parameters.array[3] ^= 0x10 }
        _ = village.engine(2).perform(.importState(states))
        let round = village.leader.state.round
        #expect(try village.run(until: { $0.leader.state.isAgreed(round + 3) }))
        #expect(village.events(2).contains { if case .stateRequested = $0 { true } else { false } })
        #expect(village.events(2).contains { if case .stateReady(let at, _) = $0 { at > 0 } else { false } })
        let applied = try #require(village.leader.applied[round + 3])
        #expect(Set(applied.values.map(\.units)).count == 1)
    }

    /// Parts of the exchange to one member are lost: it waits a little for what the seal names, then fetches the result.
    @Test(arguments: 0..<4 as Range<UInt64>)
    func `fetches the result of a round whose parts did not arrive`(seed: UInt64) throws {
        let plan = Small.plan([[1], [2], [3]], innerSteps: 2)
        let village = try village([1, 2, 3], plan, seed: seed)
        #expect(try village.train(until: 1))
        village.leader.seals = false
        #expect(try village.run(until: { $0.leader.receipts.count { $0.key.round == 1 } == 3 }))
        village.leader.seals = true
        let round = village.leader.state.round
        village.delivers = { line, packet in
            guard line.to == Small.peer(3), case .exchangePart(let part) = packet.message else { return true }
            return part.work.round != round + 1
        }
        #expect(try village.run(until: { $0.leader.receipts.count { $0.key.round == round + 1 } == 3 }))
        try village.leader.seal([0, 1, 2])
        #expect(try village.run(until: { $0.leader.state.isAgreed(round + 3) }))
        #expect(village.events(3).contains(.sealIncompleteHere(round: round + 1)))
        let applied = try #require(village.leader.applied[round + 3])
        #expect(Set(applied.values.map(\.units)).count == 1)
        #expect(applied.count == 3)
    }

    /// A text on which the loss is not finite cannot be had by training, so the weights are made so: said once an attempt.
    @Test func `does not work for ever on a round that is not finite`() throws {
        let village = try village([1], Small.plan([[1]], innerSteps: 2), seed: 1)
        #expect(try village.train(until: 1))
        village.leader.seals = false
        #expect(
            try village.run(until: { $0.leader.receipts.contains { $0.key.round == $0.value[0]?.work.round ?? -1 } }))
        guard case .state(var states) = village.engine(1).perform(.exportState(units: 0..<4, includeMoments: true))
        else {
            return
        }
        // Finite, but so large that products are not.
        for index in states.indices {
            for position in stride(from: 3, to: states[index].parameters.count, by: 4) {
                states[index].parameters.array[position] = 0x7E
            }
        }
        _ = village.engine(1).perform(.importState(states))
        var next = Small.plan([[1]], round: village.leader.state.round, innerSteps: 2, attempts: [1])
        for unit in Small.model.allUnits { next.sources[unit] = [Small.peer(1)] }
        try village.plan(next)
        _ = try village.run(for: .seconds(30), until: { _ in false })
        let refused = village.events(1).filter { if case .workRefused = $0 { true } else { false } }
        #expect(refused.count == 1)
        guard case .workRefused(let why, _)? = refused.first else { return }
        #expect(why.contains("step") && why.contains("stage 1 of"), "\(why)")
        // The leader has heard it, as what it is.
        let said = try #require(village.leader.setbacks.last)
        #expect(said.isDivergence && said.work.rank == 0 && said.stage == 0 && said.why == why)
        next.pipelines[0].attempt = 2
        try village.plan(next)
        _ = try village.run(for: .seconds(30), until: { _ in false })
        #expect(village.events(1).count { if case .workRefused = $0 { true } else { false } } == 2)
    }

    /// All processes end in the middle of a round; others begin on what is on the disks. The leader goes back to the last round that all have.
    private func switchOff(_ numbers: [Int], _ village: Village, to round: Int, _ tamper: () -> Void = {}) throws {
        for number in numbers {
            village.kill(number)
            try village.leader.leave(number)
        }
        tamper()
        for number in numbers { village.add(number) }
        #expect(try village.gather(numbers))
        var next = village.leader.state.plan!
        next.round = round
        for rank in next.pipelines.indices { next.pipelines[rank].attempt += 1 }
        for unit in Small.model.allUnits { next.sources[unit] = next.holders(of: unit) }
        try village.plan(next, rolledBack: true)
    }

    @Test(arguments: [(1, Codec.int8), (2, .sparse(k: 8, values: .signMagnitude)), (3, .fp32)] as [(Int, Codec)])
    func `goes on to the same weights when everybody was off`(innerSteps: Int, codec: Codec) throws {
        var plan = Small.plan([[1, 2], [3]], innerSteps: innerSteps)
        plan.exchangeCodec = codec
        let whole = try expected([1, 2, 3], plan, round: 7)
        for seed in 0..<3 as Range<UInt64> {
            let village = try village([1, 2, 3], plan, seed: seed)
            #expect(try village.train(until: 5 + Int(seed) % 2))
            _ = try village.run(for: .milliseconds(20 * Int64(seed)), until: { _ in false })
            #expect((1...3).allSatisfy { village.starts($0)[4] != nil })
            try switchOff([1, 2, 3], village, to: 4)
            #expect(try village.train(until: 7))
            #expect(village.roots(7) == whole)
            for number in 1...3 {
                let events = village.events(number)
                #expect(events.contains { if case .roundStartFound(_, 4, _) = $0 { true } else { false } })
                #expect(events.contains { if case .roundStartRead(4, _, true) = $0 { true } else { false } })
            }
        }
    }

    @Test func `has from another's disk what is damaged on its own, and then all have the same`() throws {
        let village = try village([1, 2, 3], Small.plan([[1, 2], [3]], innerSteps: 2), seed: 1)
        #expect(try village.train(until: 5))
        try switchOff([1, 2, 3], village, to: 4) {
            village.tamper(2) { $0[4]![300] ^= 1 }
        }
        #expect(try village.train(until: 7))
        let applied = try #require(village.leader.applied[7])
        #expect(applied.count == 3)
        #expect(village.events(2).contains { if case .stateReady(4, _) = $0 { true } else { false } })
        #expect(village.events(2).contains { if case .stateRequested = $0 { true } else { false } })
        #expect(village.events(3).contains { if case .roundStartRead(4, _, true) = $0 { true } else { false } })
    }

    /// Whole, and of this job and round, and yet not what the log says: of a history that did not come to be.
    @Test func `does not take from its disk what the log does not say`() throws {
        let village = try village([1, 2, 3], Small.plan([[1, 2], [3]], innerSteps: 2), seed: 1)
        #expect(try village.train(until: 5))
        try switchOff([1, 2, 3], village, to: 4) {
            village.tamper(1) { starts in
                var start = try! RoundStart(decoding: starts[4]!)
                start.states[0].parameters.array[0] ^= 1
                starts[4] = start.encoded!
            }
        }
        #expect(try village.train(until: 6))
        #expect(
            village.events(1).contains {
                if case .roundStartRefused(_, let why) = $0 { why.contains("agreed") } else { false }
            })
        #expect(village.leader.state.isAgreed(6))
    }

    @Test func `keeps what is on its disk when it is left alone or stopped, and not when the job is over`() throws {
        let village = try village([1, 2], Small.plan([[1], [2]]), seed: 3)
        #expect(try village.train(until: 5))
        village.leader.isSilent = true
        _ = try village.run(for: .seconds(3700), until: { _ in false })
        #expect(village.member(1).jobID == nil && village.starts(1)[4] != nil)
        let other = try self.village([1, 2], Small.plan([[1], [2]]), seed: 3)
        #expect(try other.train(until: 5))
        #expect(other.starts(1)[4] != nil)
        try other.leader.propose(.finish(Finish(reason: Finish.done)))
        #expect(try other.run(until: { $0.starts(1).isEmpty && $0.starts(2).isEmpty }))
    }

    @Test func `says once a plan that its round starts do not fit on the disk, and works`() throws {
        let village = try village([1], Small.plan([[1]], innerSteps: 2), seed: 1)
        village.setRoom(1, DiskRoom(free: ByteCount(5000), place: "/data"))
        #expect(try village.train(until: 2))
        let said = village.events(1).filter { if case .roomShort(_, _, 5000, "/data") = $0 { true } else { false } }
        #expect(said.count == 1)
    }

    /// The only elector's disk has lost entries, and it writes others in their place: nobody could follow it any more.
    @Test func `begins anew with the log that there is when its launcher has lost what it had shown`() throws {
        let village = try village([1, 2], Small.plan([[1], [2]], innerSteps: 2), seed: 3)
        #expect(try village.train(until: 3))
        let shown = village.member(1).job!.record.length
        village.leader.lose(entries: 4)
        for number in [1, 2] {
            try village.leader.leave(number)
            village.leader.sendLog(to: Small.peer(number), from: 0)
        }
        #expect(try village.run(until: { $0.member(1).jobID == nil && $0.member(2).jobID == nil }))
        #expect(
            try village.run(until: { village in
                village.residents[Small.peer(1)]!.stored.contains { if case .setLogAside = $0 { true } else { false } }
            }))
        #expect(village.leader.record.length < shown)
        #expect(try village.gather([1, 2]))
        var next = village.leader.state.plan!
        next.round = 0
        for rank in next.pipelines.indices { next.pipelines[rank].attempt += 1 }
        try village.plan(next, rolledBack: true)
        #expect(try village.train(until: 2))
    }

    @Test func `says why a plan's units do not fit, once`() throws {
        let village = try Village(Self.parameters, seed: 1)
        village.add(1, memory: ByteCount(10_000))
        try #require(try village.gather([1]))
        try village.plan(Small.plan([[1]]))
        #expect(try village.run(for: .seconds(10), until: { !$0.leader.farewells.isEmpty }))
        #expect(village.leader.farewells[Small.peer(1)]!.contains("need"))
        _ = try village.run(for: .seconds(5), until: { _ in false })
        #expect(village.events(1).count { if case .placementRefused = $0 { true } else { false } } == 1)
    }
}
