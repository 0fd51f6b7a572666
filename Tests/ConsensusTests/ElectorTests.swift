import Consensus
import Primitives
import Testing

@Suite struct `An elector` {
    private func peer(_ index: Int) -> PeerID { ElectorWorld.peer(index) }
    private func electors(_ count: Int) -> Electorate { Electorate(voters: (0..<count).map { peer($0) })! }
    private func settled(_ voters: Int, others: Int = 0, seed: UInt64 = 1) throws -> ElectorWorld {
        var world = ElectorWorld(voters: voters, others: others, seed: seed)
        try world.run(for: .seconds(20))
        return world
    }
    /// Everything an elector says, its writes answered.
    private func answered(_ elector: inout Elector, at now: Instant = .zero) -> [Elector.Effect] {
        var out: [Elector.Effect] = []
        while let effect = elector.poll() {
            out.append(effect)
            if case .store(let write) = effect { elector.stored(write.ticket, at: now) }
        }
        return out
    }

    @Test func `that is alone leads as soon as its vote is on disk, and commits what is on disk`() throws {
        var elector = Elector(peer(0), electors(1), seed: 1, at: .zero)
        elector.wake(at: elector.nextWake!)
        guard case .store(let vote)? = elector.poll() else { return #expect(Bool(false), "no vote is stored") }
        let more = elector.poll()
        #expect(vote.vote == peer(0) && vote.term == 1 && !elector.isLeading && more == nil)
        elector.stored(vote.ticket, at: .zero)
        let leads = elector.poll()
        #expect(leads == .leads(term: 1))
        try elector.propose([1, 2], at: .zero)
        guard case .store(let entry)? = elector.poll() else { return #expect(Bool(false), "no entry is stored") }
        #expect(elector.committed == 0 && elector.vouchable == nil)
        elector.stored(entry.ticket, at: .zero)
        let commits = elector.poll()
        #expect(commits == .committed(1))
        #expect(elector.vouchable == LogEnd(term: 1, count: 1))
    }

    @Test(arguments: [3, 4, 5, 7]) func `is one of some that elect one within seconds`(_ count: Int) throws {
        var world = ElectorWorld(voters: count, seed: 7)
        try world.run(for: .seconds(8))
        #expect(world.leaders.count == 1)
        #expect(world.machines.allSatisfy { $0.elector!.leader == peer(world.leader!) })
        try world.run(for: .seconds(60))
        #expect(world.changesOfLeader == 1)
    }

    @Test func `leads eight seconds at most after the one before it was killed, every minute for ten minutes`() throws {
        for seed in UInt64(1)...2 {
            var world = try settled(3, seed: seed)
            for _ in 0..<10 {
                let old = try #require(world.leader)
                try world.crash(old)
                let committed = world.checker.history.count
                try world.run(for: .seconds(8))
                let leader = world.leader
                let new = try #require(leader)
                #expect(new != old && world.machines[new].elector!.isEstablished)
                #expect(world.checker.history.count > committed)
                world.start(old)
                try world.run(for: .seconds(52))
                #expect(world.machines[old].elector!.leader == peer(new), "the old leader is told, and stands by")
            }
            try world.checker.finish()
        }
    }

    @Test func `whose disk stalls for four seconds is followed by one other, and nothing is lost`() throws {
        for seed in UInt64(1)...3 {
            var world = try settled(3, seed: seed)
            let before = world.changesOfLeader
            let leader = try #require(world.leader)
            world.stallDisk(of: leader, for: .seconds(4))
            try world.run(for: .seconds(30))
            #expect(world.changesOfLeader - before <= 1)
            world.stallDisk(of: world.machines.indices.first { $0 != world.leader }!, for: .seconds(4))
            try world.run(for: .seconds(30))
            #expect(world.changesOfLeader - before <= 1, "a follower's disk is nobody's affair")
        }
    }

    @Test func `that half hears the others for ten minutes costs one change of leader at most`() throws {
        for seed in UInt64(1)...1 {
            for isDeaf in [true, false] {
                for isLeader in [true, false] {
                    var world = try settled(3, seed: seed)
                    let leader = try #require(world.leader)
                    let odd = isLeader ? leader : (leader + 1) % 3
                    for other in 0..<3 where other != odd {
                        if isDeaf { world.cutLink(from: other, to: odd) } else { world.cutLink(from: odd, to: other) }
                    }
                    try world.run(for: .seconds(600))
                    #expect(world.changesOfLeader <= 2)
                    let committed = world.checker.history.count
                    try world.run(for: .seconds(10))
                    #expect(world.checker.history.count > committed, "the others go on")
                    world.healLinks()
                    try world.run(for: .seconds(30))
                    #expect(world.changesOfLeader <= 2, "who comes back disturbs nobody")
                }
            }
        }
    }

    @Test func `that can talk to one of two others only, as they to it, does not stall them`() throws {
        // The pair that everybody of a quorum must pass through: 0 and 2 do not hear each other, both hear 1.
        var world = try settled(3, seed: 4)
        world.cutLink(from: 0, to: 2)
        world.cutLink(from: 2, to: 0)
        try world.run(for: .seconds(60))
        let (committed, changes) = (world.checker.history.count, world.changesOfLeader)
        try world.run(for: .seconds(300))
        #expect(world.checker.history.count > committed + 100)
        #expect(world.changesOfLeader == changes, "the two do not take it from each other for ever")
    }

    /// Whoever may lead was away while the others committed entries, and they have lost what a leader needs: it lacks entries, so that nobody votes
    /// for it, and nobody else may lead.
    @Test func `that may not lead brings its log to one that may`() throws {
        for seed in UInt64(1)...4 {
            var world = try settled(3, seed: seed)
            let able = try #require(world.leader)
            try world.crash(able)
            try world.run(for: .seconds(20))
            let others = (0..<3).filter { $0 != able }
            for other in others {
                try world.crash(other)
                world.start(other)
                try world.stand(other, false)
            }
            world.start(able)
            let committed = world.checker.history.count
            try world.run(for: .seconds(15))
            #expect(world.leader == nil && world.checker.history.count == committed, "nobody may, yet")
            try world.run(for: .seconds(35))
            #expect(world.leader == able && world.checker.history.count > committed)
            // Alone among such, a caretaker leads nobody, until it may.
            try world.crash(able)
            try world.run(for: .seconds(60))
            let caretaker = try #require(world.leader)
            let before = world.checker.history.count
            #expect(world.machines[caretaker].elector!.leader == nil)
            #expect(throws: (any Error).self) {
                try world.propose([1], electorate: { _ in nil }, on: caretaker)
            }
            try world.stand(caretaker, true)
            try world.run(for: .seconds(20))
            let next = try #require(world.leader)
            #expect(next == caretaker && world.checker.history.count > before)
            try world.checker.finish()
        }
    }

    @Test func `that says goodbye is followed within a second`() throws {
        var world = try settled(5)
        let leader = try #require(world.leader)
        try world.handOver(from: leader)
        try world.run(for: .seconds(1))
        let next = try #require(world.leader)
        #expect(next != leader && world.machines[next].elector!.isEstablished)
    }

    @Test func `that is removed leads the change to its end, and another takes over`() throws {
        var world = try settled(3, others: 2)
        let leader = try #require(world.leader)
        let others = (0..<5).filter { $0 != leader }.map { peer($0) }
        for index in 0..<5 { for other in others { world.admit(other, to: index) } }
        try world.propose([9], electorate: { $0.changing(to: others) }, on: leader)
        try world.run(for: .seconds(10))
        let next = try #require(world.leader)
        #expect(next != leader)
        #expect(world.machines[next].elector!.electorate == Electorate(voters: others))
        try world.crash(next)
        try world.run(for: .seconds(20))
        #expect(world.leader.map { $0 != next && $0 != leader } == true, "two of the new four may be any but one")
    }

    /// It has nobody's votes but its own: newcomers vote for nobody before they know what is committed.
    @Test(arguments: [true, false])
    func `that loses its followers as they become voters leads again, if it had prepared them`(
        _ isPrepared: Bool
    ) throws {
        var world = try settled(1, others: 2)
        let newcomers = [peer(1), peer(2)]
        for index in 1...2 {
            try world.crash(index)
            world.start(index, isBlank: true)
            world.admit(peer(0), to: index)
        }
        if isPrepared {
            try world.prepare(newcomers, on: 0)
            try world.run(for: .seconds(5))
            world.isBusy = false
            try world.run(for: .seconds(1))
            let known = world.machines[1].elector!.committed
            #expect(known == world.checker.history.count && world.machines[1].elector!.electorate == electors(1))
        }
        for index in 1...2 {
            world.cutLink(from: 0, to: index)
            world.cutLink(from: index, to: 0)
        }
        try world.propose([9], electorate: { $0.changing(to: [peer(0)] + newcomers) }, on: 0)
        try world.run(for: .seconds(10))
        #expect(world.leaders.isEmpty, "no quorum of those who are to decide answers")
        world.healLinks()
        try world.run(for: .seconds(60))
        #expect(world.leader.map { world.machines[$0].elector!.electorate } == (isPrepared ? electors(3) : nil))
    }

    @Test func `counts what whoever is to become a voter says beside how far it is`() throws {
        var elector = Elector(peer(0), electors(1), seed: 1, at: .zero)
        elector.wake(at: elector.nextWake!)
        _ = answered(&elector)
        try elector.propose([1], at: .zero)
        _ = answered(&elector)
        elector.prepare([peer(1)], at: .zero)
        #expect(answered(&elector).contains { if case .send(_, to: peer(1)) = $0 { true } else { false } })
        elector.receive(
            ElectorMessage(term: 1, .vote(LogEnd(term: 0, count: 9), byRequest: true)), from: peer(1), at: .zero)
        elector.receive(ElectorMessage(term: 7, .appended(1)), from: peer(1), at: .zero)
        elector.receive(ElectorMessage(term: 1, .appended(1)), from: peer(2), at: .zero)
        #expect(elector.counts.strangers == 3 && elector.isLeading && answered(&elector).isEmpty)
        elector.receive(ElectorMessage(term: 1, .appended(1)), from: peer(1), at: .zero)
        #expect(answered(&elector).contains(.caughtUp(peer(1))))
        // It has no voice: what it has stored is not what decides.
        #expect(elector.electorate == electors(1))
        elector.prepare([], at: .zero)
        elector.receive(ElectorMessage(term: 1, .appended(1)), from: peer(1), at: .zero)
        #expect(elector.counts.strangers == 4)
    }

    @Test func `that only learns follows, and has no voice`() throws {
        var world = try settled(1, others: 2)
        try world.propose([9], electorate: { $0.changing(to: $0.voters, learners: [peer(1), peer(2)]) }, on: 0)
        try world.run(for: .seconds(10))
        world.isBusy = false
        try world.run(for: .seconds(2))
        for index in 1...2 {
            let learner = world.machines[index].elector!
            #expect(learner.committed == world.checker.history.count && learner.leader == peer(0))
        }
        try world.crash(0)
        try world.run(for: .seconds(60))
        #expect(world.leaders.isEmpty)
    }

    @Test func `counts strangers and numbers out of range, and nothing changes`() throws {
        var elector = Elector(peer(0), electors(3), seed: 1, at: .zero)
        let stranger = peer(9)
        let entry = ReplicatedEntry(term: 5, body: [1])
        let bodies: [ElectorMessage.Body] = [
            .canvass(LogEnd(term: 1, count: 1)), .vote(LogEnd(term: 1, count: 1), byRequest: true),
            .append(after: LogEnd(term: 0, count: 0), entries: [entry], committed: 1), .beat(committed: 0), .takeOver,
            .outdated, .voted(true), .canvassed(true), .appended(3), .refused(after: 1, hint: 0),
            .beaten(received: 1, stored: 1),
        ]
        for body in bodies { elector.receive(ElectorMessage(term: 5, body), from: stranger, at: .zero) }
        #expect(elector.counts.strangers == bodies.count)
        let unsound = [
            ElectorMessage(term: 0, .outdated), ElectorMessage(term: -4, .outdated),
            ElectorMessage(term: .max, .outdated),
            ElectorMessage(term: 5, .append(after: LogEnd(term: 6, count: 1), entries: [], committed: 0)),
            ElectorMessage(term: 4, .append(after: LogEnd(term: 0, count: 0), entries: [entry], committed: 0)),
            ElectorMessage(
                term: 9,
                .append(
                    after: LogEnd(term: 0, count: 0), entries: [entry, ReplicatedEntry(term: 4, body: [])], committed: 0
                )),
            ElectorMessage(
                term: 9,
                .append(
                    after: LogEnd(term: 0, count: 0), entries: Array(repeating: entry, count: 1025), committed: 0)),
            ElectorMessage(term: 5, .vote(LogEnd(term: 5, count: 3), byRequest: false)),
            ElectorMessage(term: 5, .beat(committed: -1)), ElectorMessage(term: 5, .beaten(received: 1, stored: 2)),
            ElectorMessage(term: 5, .refused(after: 1 << 40, hint: 0)),
        ]
        for message in unsound { elector.receive(message, from: peer(1), at: .zero) }
        #expect(elector.counts.unsound == unsound.count)
        let said = elector.poll()
        #expect(said == nil && elector.term == 0 && elector.entries.isEmpty)
    }

    @Test func `does not follow a second leader of a term, and gives up no committed entry to a liar`() throws {
        var elector = Elector(peer(0), electors(3), seed: 1, at: .zero)
        let start = LogEnd(term: 0, count: 0)
        elector.receive(
            ElectorMessage(term: 1, .append(after: start, entries: [.init(term: 1, body: [1])], committed: 1)),
            from: peer(1), at: .zero)
        _ = answered(&elector)
        #expect(elector.committed == 1)
        elector.receive(ElectorMessage(term: 1, .beat(committed: 0)), from: peer(2), at: .zero)
        #expect(elector.counts.contradictions == 1 && elector.leader == peer(1))
        elector.receive(
            ElectorMessage(term: 2, .append(after: start, entries: [.init(term: 2, body: [2])], committed: 0)),
            from: peer(2), at: .zero)
        #expect(elector.counts.contradictions == 2 && elector.entries.map(\.body) == [[1]])
    }

    @Test func `says nothing that rests on its disk before the disk has answered`() throws {
        var elector = Elector(peer(0), electors(3), seed: 1, at: .zero)
        elector.receive(
            ElectorMessage(term: 3, .vote(LogEnd(term: 1, count: 4), byRequest: false)), from: peer(1), at: .zero)
        let follows = elector.poll()
        #expect(follows == .follows(nil, term: 3))
        guard case .store(let vote)? = elector.poll() else { return #expect(Bool(false), "the vote is not stored") }
        let early = elector.poll()
        #expect(vote.vote == peer(1) && early == nil)
        elector.receive(
            ElectorMessage(
                term: 3, .append(after: LogEnd(term: 0, count: 0), entries: [.init(term: 3, body: [])], committed: 1)),
            from: peer(1), at: .zero)
        elector.receive(ElectorMessage(term: 3, .beat(committed: 0)), from: peer(1), at: .zero)
        var said: [ElectorMessage.Body] = []
        var ticket = vote.ticket
        while let effect = elector.poll() {
            if case .send(let message, _) = effect { said.append(message.body) }
            if case .store(let write) = effect { ticket = write.ticket }
        }
        #expect(said == [.beaten(received: 1, stored: 0)], "heartbeats are answered at once")
        elector.stored(ticket, at: .zero)
        let after = answered(&elector)
        #expect(after.contains(.send(ElectorMessage(term: 3, .voted(true)), to: peer(1))))
        #expect(after.contains(.send(ElectorMessage(term: 3, .appended(1)), to: peer(1))))
        #expect(elector.committed == 1)
    }

    @Test func `asks for votes of a term when its own vote is on disk, and leads with a quorum of them`() throws {
        var elector = Elector(peer(0), electors(3), seed: 1, at: .zero)
        elector.wake(at: elector.nextWake!)
        _ = answered(&elector)
        elector.receive(ElectorMessage(term: 1, .canvassed(true)), from: peer(1), at: .zero)
        var ticket = 0
        while let effect = elector.poll() {
            if case .send(let message, _) = effect { #expect(Bool(false), "says \(message) too early") }
            if case .store(let write) = effect { ticket = write.ticket }
        }
        elector.stored(ticket, at: .zero)
        let asked = answered(&elector).filter {
            if case .send(let message, _) = $0, case .vote = message.body { message.term == 1 } else { false }
        }
        #expect(asked.count == 2)
        elector.receive(ElectorMessage(term: 1, .voted(true)), from: peer(2), at: .zero)
        #expect(elector.isLeading && answered(&elector).contains(.leads(term: 1)))
    }

    /// Figure 8 of the paper: a majority has it, and it may yet be replaced.
    @Test func `commits no entry of an older term before one of its own`() throws {
        let memory = ElectorMemory(term: 3, entries: [ReplicatedEntry(term: 2, body: [1])])
        var elector = Elector(peer(0), electors(3), memory: memory, seed: 1, at: .zero)
        elector.wake(at: elector.nextWake!)
        _ = answered(&elector)
        elector.receive(ElectorMessage(term: 4, .canvassed(true)), from: peer(1), at: .zero)
        _ = answered(&elector)
        elector.receive(ElectorMessage(term: 4, .voted(true)), from: peer(1), at: .zero)
        _ = answered(&elector)
        elector.receive(ElectorMessage(term: 4, .appended(1)), from: peer(1), at: .zero)
        #expect(elector.isLeading && elector.committed == 0 && elector.vouchable == nil)
        try elector.propose([2], at: .zero)
        _ = answered(&elector)
        elector.receive(ElectorMessage(term: 4, .appended(2)), from: peer(1), at: .zero)
        #expect(elector.committed == 2 && elector.vouchable == LogEnd(term: 4, count: 2))
    }

    @Test func `commits as a follower only what it has compared with its leader's`() {
        let tail = (0..<4).map { ReplicatedEntry(term: 1, body: [$0]) }
        var elector = Elector(
            peer(0), electors(3), memory: ElectorMemory(term: 1, entries: tail), seed: 1, at: .zero)
        let first = ReplicatedEntry(term: 2, body: [9])
        elector.receive(
            ElectorMessage(term: 2, .append(after: LogEnd(term: 1, count: 1), entries: [tail[1]], committed: 4)),
            from: peer(1), at: .zero)
        _ = answered(&elector)
        #expect(elector.committed == 2, "its last two may be others than those committed")
        elector.receive(
            ElectorMessage(
                term: 2, .append(after: LogEnd(term: 1, count: 2), entries: [first, first], committed: 4)),
            from: peer(1), at: .zero)
        _ = answered(&elector)
        #expect(elector.committed == 4 && elector.entries.map(\.term) == [1, 1, 2, 2])
    }

    @Test func `refuses proposals that it cannot carry, and says why`() throws {
        var options = Elector.Options()
        options.backlogEntries = 3
        var world = ElectorWorld(voters: 3, options: options, seed: 1)
        world.isBusy = false
        try world.run(for: .seconds(20))
        let leader = try #require(world.leader)
        let follower = (leader + 1) % 3
        var elector = world.machines[leader].elector!
        var other = world.machines[follower].elector!
        #expect(throws: Elector.ProposalRefusal.notLeading(peer(leader))) { try other.propose([1], at: world.now) }
        let tooLong = [UInt8](repeating: 0, count: ElectorBounds.entryBytes + 1)
        #expect(throws: Elector.ProposalRefusal.tooLong(tooLong.count)) { try elector.propose(tooLong, at: world.now) }
        let jump = Electorate(voters: [peer(0), peer(4)])!
        #expect(throws: Elector.ProposalRefusal.electorate("it takes two steps to other voters")) {
            try elector.propose([1], electorate: jump, at: world.now)
        }
        let joint = try #require(elector.electorate.changing(to: [0, 1, 2, 4].map { peer($0) }))
        try elector.propose([1], electorate: joint, at: world.now)
        #expect(throws: Elector.ProposalRefusal.electorate("an entry before it is not committed yet")) {
            try elector.propose([1], electorate: joint.changed, at: world.now)
        }
        for _ in 0..<2 { try elector.propose([1], at: world.now) }
        #expect(throws: Elector.ProposalRefusal.backlog(3)) { try elector.propose([1], at: world.now) }
        let hands = elector.handOver(to: peer(follower), at: world.now)
        #expect(hands)
        #expect(throws: Elector.ProposalRefusal.handingOver) { try elector.propose([1], at: world.now) }
        let again = elector.handOver(to: peer(6), at: world.now)
        #expect(!again)
    }

    @Test func `sends long logs in bounded messages, and a newcomer gets it all`() throws {
        var options = Elector.Options()
        options.messageBytes = 2000
        options.messageEntries = 16
        var world = ElectorWorld(voters: 3, options: options, seed: 2)
        world.isBusy = false
        try world.run(for: .seconds(10))
        let leader = try #require(world.leader)
        let away = (leader + 1) % 3
        try world.crash(away)
        for size in 0..<300 {
            try world.propose([UInt8](repeating: 1, count: size), electorate: { _ in nil }, on: leader)
        }
        try world.run(for: .seconds(5))
        world.start(away)
        try world.run(for: .seconds(20))
        #expect(world.checker.history.count > 300)
        #expect(world.machines[away].elector!.committed == world.checker.history.count)
        #expect(world.longestMessage <= 2000 && world.mostEntries <= 16)
    }
}

@Suite struct `An electorate` {
    private func peers(_ indices: ClosedRange<Int>) -> [PeerID] { indices.map { ElectorWorld.peer($0) } }

    @Test func `decides by a majority of its voters, and while it changes of those of before, too`() throws {
        for count in 1...7 {
            let electorate = Electorate(voters: peers(1...count))!
            for set in 0..<(1 << count) {
                let agree = { (peer: PeerID) in set >> (ElectorWorld.index(peer) - 1) & 1 == 1 }
                #expect(electorate.decides(agree) == (2 * set.nonzeroBitCount > count))
            }
        }
        let joint = try #require(Electorate(voters: peers(1...3)).flatMap { $0.changing(to: peers(3...7)) })
        #expect(joint.isJoint && joint.allVoters == peers(1...7))
        #expect(!joint.decides { peers(3...7).contains($0) }, "one of the three of before is not two")
        #expect(joint.decides { peers(2...5).contains($0) })
        #expect(joint.changed == Electorate(voters: peers(3...7)) && joint.changing(to: peers(1...2)) == nil)
    }

    @Test func `is refused empty, too large, or with somebody twice`() {
        #expect(Electorate(voters: []) == nil)
        #expect(Electorate(voters: peers(0...7)) == nil)
        #expect(Electorate(voters: peers(1...2) + peers(2...3)) == nil)
        #expect(Electorate(voters: peers(1...2), learners: peers(2...3)) == nil)
        #expect(Electorate(voters: peers(1...2), learners: peers(3...19)) == nil)
        #expect([1, 2, 3, 4, 5, 7].map { Electorate.quorum(of: $0) } == [1, 2, 2, 3, 3, 4])
    }
}
