import Compute
import Digests
import Exchange
import FoundationEssentials
import JobFixtures
import Messages
import Primitives
import Record
import Testing
import Wire

@Suite struct `The record` {
    private func kind(_ acceptance: Record.Acceptance) -> String {
        switch acceptance {
        case .appended(let entry): "appended \(Mirror(reflecting: entry).children.first?.label ?? "?")"
        case .known: "known"
        case .gap(let from): "gap from \(from)"
        case .fork(let index): "fork at \(index)"
        }
    }
    /// A writer with some entries, and a follower that has its genesis.
    private func pair() throws -> (writer: Script, follower: Record) {
        var writer = try Script()
        try writer.join([1, 2, 3])
        try writer.plan(Small.plan([[1, 2]], spares: [3]))
        for _ in 0..<3 { try writer.seal([0]) }
        let follower = try Record(genesis: writer.record.envelopes[0]) { _ in Small.parameters() }
        return (writer, follower)
    }

    @Test func `a follower that is sent every entry holds the same log, state and ledger`() throws {
        var (writer, follower) = try pair()
        for envelope in writer.record.envelopes.dropFirst() {
            #expect(kind(try follower.receive(envelope)).hasPrefix("appended"))
        }
        #expect(follower.envelopes == writer.record.envelopes)
        #expect(follower.job == writer.record.job)
        #expect(follower.state.round == 3 && follower.state.sealedTokens == writer.state.sealedTokens)
        #expect(follower.ledger == writer.ledger)
        #expect(follower.term == 1)
    }

    /// Its own plan had lines of a fraction of a bit a second, all others' had whole bits: of owners that were nearly alike it named another, so that
    /// an audit waited for a report that nobody sent.
    @Test func `a writer goes by what the others read, to the bit`() throws {
        var writer = try Script()
        try writer.join(Array(1...4))
        var plan = Small.plan((1...4).map { [$0] }, virtualPipelines: 4)
        for rank in plan.pipelines.indices {
            plan.pipelines[rank].stages[0].up = BitRate(bitsPerSecond: 48_771_083.4 + Double(rank * 37 % 8) / 9)
            plan.pipelines[rank].stages[0].down = BitRate(bitsPerSecond: 97_304_771.2 + Double(rank * 53 % 8) / 7)
        }
        plan.exchangeWay = .owner(.int8)
        try writer.plan(plan)
        var follower = try Record(genesis: writer.record.envelopes[0]) { _ in Small.parameters() }
        for envelope in writer.record.envelopes.dropFirst() { _ = try follower.receive(envelope) }
        let (mine, theirs) = (try #require(writer.state.plan), try #require(follower.state.plan))
        #expect(mine == theirs)
        #expect(mine.pipelines[1].stages[0].up == BitRate(bitsPerSecond: 48_771_083))
        for unit in Small.model.allUnits {
            func owners(_ plan: PlacedPlan) -> [Int] {
                let layout = Small.parameters().configuration(units: unit..<unit + 1, plan: plan).chunkLayout(
                    unit: unit)
                return GroupTerms(round: 0, plan: plan).owners(plan, unit: unit, layout: layout, model: Small.model)
            }
            #expect(owners(mine) == owners(theirs))
        }
    }

    @Test func `each entry names the hash of the one before it, without its signature`() throws {
        let writer = try pair().writer
        for index in 1..<writer.record.length {
            let entry = try writer.record.envelopes[index].open(
                .logEntry, job: writer.record.job, wall: nil, as: PBLogEntry.self
            ).body
            #expect([UInt8](entry.previous) == sha256([0] + [UInt8](writer.record.envelopes[index - 1].body)).bytes)
        }
    }

    @Test func `an entry seen before changes nothing, and a gap says from where entries are missing`() throws {
        var (writer, follower) = try pair()
        let entries = writer.record.envelopes
        #expect(kind(try follower.receive(entries[3])) == "gap from 1")
        #expect(kind(try follower.receive(entries[1])) == "appended members")
        #expect(kind(try follower.receive(entries[1])) == "known")
        #expect(kind(try follower.receive(entries[0])) == "known")
        #expect(kind(try follower.receive(entries[3])) == "gap from 2")
        #expect(follower.length == 2)
    }

    @Test func `another entry in the place of one that is here is told as a fork`() throws {
        var (writer, follower) = try pair()
        _ = try follower.receive(writer.record.envelopes[1])
        var other = try Script()
        let fork = try other.append(.members(MembersChange(round: 0)))
        #expect(kind(try follower.receive(fork)) == "fork at 1")
        #expect(follower.length == 2)
    }

    @Test func `what a stranger signed, what does not follow, and what is of another run is refused`() throws {
        let (writer, original) = try pair()
        func entry(_ previous: Digest256, by key: SigningKey, job: Digest256, term: UInt64 = 1) -> PBEnvelope {
            var entry = PBLogEntry()
            entry.index = 1
            entry.previous = bytesOf(previous)
            entry.term = term
            entry.members = PBMembers()
            return PBEnvelope(entry, type: .logEntry, job: job, epoch: 1, sequence: 1, by: key)
        }
        var follower = original
        let (job, first) = (original.job, original.job)
        #expect(throws: MalformedBytes.self) { try follower.receive(entry(first, by: Small.key(3), job: job)) }
        #expect(throws: MalformedBytes.self) { try follower.receive(entry(sha256([0]), by: Small.launcher, job: job)) }
        #expect(throws: MalformedBytes.self) {
            try follower.receive(entry(first, by: Small.launcher, job: job, term: .max))
        }
        // The same launcher, manifest and text, launched again: another job.
        var again = try Script(nonce: 2)
        #expect(again.record.job != writer.record.job)
        let foreign = try again.append(.members(MembersChange(round: 0)))
        #expect(throws: MalformedBytes.self) { try follower.receive(foreign) }
        #expect(follower.length == 1)
        #expect(kind(try follower.receive(entry(first, by: Small.launcher, job: job))) == "appended members")
    }

    @Test func `an entry of an older term is refused`() throws {
        var script = try Script()
        _ = try script.append(.members(MembersChange(round: 0)))
        var record = script.record
        _ = try record.propose(.members(MembersChange(round: 0)), term: 5, by: Small.launcher)
        #expect(throws: MalformedBytes.self) {
            try record.propose(.members(MembersChange(round: 0)), term: 4, by: Small.launcher)
        }
        #expect(record.length == 3 && record.term == 5)
    }

    private func genesis(
        numerics: String = Record.numerics, electors: [PeerID] = [Small.launcher.peerID], nonce: Int = 32,
        index: UInt64 = 0, by key: SigningKey = Small.launcher
    ) -> PBEnvelope {
        var entry = PBLogEntry()
        entry.index = index
        entry.genesis.manifest = "m"
        entry.genesis.numerics = numerics
        entry.genesis.electors = electors.map { bytesOf($0) }
        entry.genesis.content = bytesOf(sha256([1]))
        entry.genesis.nonce = bytesOf([UInt8](repeating: 7, count: nonce))
        entry.genesis.leaseMilliseconds = 1000
        entry.genesis.silenceMilliseconds = 1000
        let nobody = Digest256([UInt8](repeating: 0, count: 32))!
        return PBEnvelope(entry, type: .logEntry, job: nobody, epoch: 0, sequence: 0, by: key)
    }
    @Test func `a genesis must fit this build and its signer, and have a nonce`() throws {
        func open(_ envelope: PBEnvelope) throws { _ = try Record(genesis: envelope) { _ in Small.parameters() } }
        #expect(throws: Never.self) { try open(genesis()) }
        #expect(throws: MalformedBytes.self) { try open(genesis(numerics: "atoll-0")) }
        #expect(throws: MalformedBytes.self) { try open(genesis(electors: [])) }
        #expect(throws: MalformedBytes.self) { try open(genesis(electors: [Small.peer(1)])) }
        #expect(throws: MalformedBytes.self) { try open(genesis(nonce: 31)) }
        #expect(throws: MalformedBytes.self) { try open(genesis(index: 1)) }
        #expect(throws: MalformedBytes.self) { try open(genesis(by: Small.key(1))) }
        #expect(throws: MalformedBytes.self) { try open(pair().writer.record.envelopes[1]) }
    }

    // MARK: storing

    @Test func `only what is stored is committed, and only that is shown`() throws {
        var writer = try pair().writer
        #expect(writer.record.committed == 0 && writer.record.entries(from: 0) == nil)
        writer.stored(through: 2)
        #expect(writer.record.committed == 2)
        #expect(writer.record.entries(from: 0)?.entries == Array(writer.record.envelopes[..<2]))
        #expect(writer.record.entries(from: 2) == nil)
        // A stale answer takes nothing back, and none reaches beyond the log.
        writer.stored(through: 1)
        writer.stored(through: 1000)
        #expect(writer.record.committed == writer.record.length)
    }

    @Test func `a long log is shown in pieces that follow each other`() throws {
        var script = try Script()
        for _ in 0..<3000 { try script.append(.members(MembersChange(round: 0))) }
        script.stored(through: script.record.length)
        var seen = 0
        while let part = script.record.entries(from: seen) {
            #expect(part.entries.count <= LogEntries.most && part.length == script.record.length)
            #expect(part.entries == Array(script.record.envelopes[seen..<seen + part.entries.count]))
            seen += part.entries.count
        }
        #expect(seen == 3001)
    }

    @Test func `what was stored gives the same record, up to the first entry that does not hold`() throws {
        let writer = try pair().writer
        let whole = try Record.restoring(writer.record.envelopes) { _ in Small.parameters() }
        #expect(whole.refused == nil)
        #expect(whole.record.envelopes == writer.record.envelopes && whole.record.ledger == writer.ledger)
        #expect(whole.record.committed == writer.record.length)
        var damaged = writer.record.envelopes
        damaged[4].body[10] ^= 1
        let part = try Record.restoring(damaged) { _ in Small.parameters() }
        #expect(part.refused != nil && part.record.length == 4)
    }

    // MARK: agreed states

    @Test func `agreed states are known for the last rounds, and are not agreed on otherwise`() throws {
        var script = try pair().writer
        func roots(_ text: String) -> [UnitRoots] {
            Small.model.allUnits.map {
                UnitRoots(unit: $0, parameters: sha256(Array("\(text)\($0)".utf8)), outerMomentum: nil)
            }
        }
        #expect(!script.state.isAgreed(3) && script.state.isAgreed(0))
        try script.append(.states(States(round: 3, units: roots("a"))))
        #expect(script.state.isAgreed(3))
        #expect(throws: MalformedBytes.self) { try script.append(.states(States(round: 3, units: roots("b")))) }
        #expect(throws: MalformedBytes.self) { try script.append(.states(States(round: 4, units: roots("a")))) }
        for _ in 0..<12 { try script.seal([0]) }
        #expect(!script.state.isAgreed(3))
    }

    /// Random entries, most of which break a rule: what is refused has changed neither log nor state nor ledger, and a follower of
    /// what was taken holds the same.
    @Test(arguments: 0..<20) func `refuses without a trace, whatever comes`(seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed), stream: 5)
        var script = try Script(Small.parameters(tokens: 400))
        try script.join([1, 2, 3])
        var follower = try Record(genesis: script.record.envelopes[0]) { _ in Small.parameters(tokens: 400) }
        var refused = 0
        for _ in 0..<120 {
            let before = script.record
            let entry = anything(script, &generator)
            do throws(MalformedBytes) { try script.append(entry) } catch {
                refused += 1
                let after = script.record
                #expect(after.length == before.length && after.envelopes == before.envelopes)
                #expect(after.state.round == before.state.round && after.state.plan == before.state.plan)
                #expect(after.state.nextPlan == before.state.nextPlan && after.state.seals == before.state.seals)
                #expect(after.state.members == before.state.members && after.ledger == before.ledger)
                #expect(after.state.agreed == before.state.agreed && after.term == before.term)
            }
        }
        for envelope in script.record.envelopes.dropFirst() { _ = try follower.receive(envelope) }
        #expect(follower.ledger == script.ledger && follower.state.seals == script.state.seals)
        #expect(refused > 10)
    }

    private func anything(_ script: Script, _ generator: inout SeededGenerator) -> Entry {
        let state = script.state
        let round = max(0, state.round + generator.below(4) - 2)
        switch generator.below(9) {
        case 0:
            return .members(
                MembersChange(
                    left: [MembersChange.Left(peer: Small.peer(1 + generator.below(5)), reason: "x")], round: round))
        case 1:
            let number = 1 + generator.below(5)
            return .members(
                MembersChange(
                    joined: [
                        MembersChange.Joined(
                            peer: Small.peer(number), endpoint: Small.endpoint(number), name: "n")
                    ], round: round))
        case 2:
            return .plan(
                PlanChange(
                    Small.plan([[1 + generator.below(5)], [1 + generator.below(5)]], round: round), reason: "r",
                    rolledBack: generator.below(2) == 0))
        case 3:
            var plan = Small.plan([[1, 2]], round: round)
            plan.innerSteps = generator.below(3) - 1
            return .plan(PlanChange(plan, reason: "r"))
        case 4:
            return .states(
                States(
                    round: round,
                    units: [
                        UnitRoots(
                            unit: generator.below(6), parameters: sha256([UInt8(generator.below(2))]),
                            outerMomentum: nil)
                    ]))
        case 5 where generator.below(20) == 0: return .finish(Finish(reason: "r"))
        default:
            guard state.plan != nil, state.spec != nil else {
                return .plan(PlanChange(Small.plan([[1], [2]], round: state.round), reason: "r"))
            }
            var seal = script.makeSeal(Array(state.plan!.pipelines.indices.prefix(1 + generator.below(2))))
            switch generator.below(6) {
            case 0: seal.tokens += generator.below(3) - 1
            case 1: seal.round += 1
            case 2: seal.contributions = seal.contributions.reversed()
            case 3: if !seal.contributions.isEmpty { seal.contributions[0].rank = generator.below(4) }
            default: break
            }
            return .seal(seal)
        }
    }
}
