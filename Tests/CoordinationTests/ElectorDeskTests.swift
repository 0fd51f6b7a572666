import Consensus
import Coordination
import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Wire

@Suite struct `Electors that carry a record` {
    private func three() throws -> Committee {
        var committee = try Committee(3)
        committee.run(1)
        try committee.change(to: [0, 1, 2])
        return committee
    }
    private func news(_ number: Int) -> Entry { .members(MembersChange(round: number)) }
    private func receipt(_ number: Int, of job: Digest256, by signer: Int = 1) -> PBEnvelope {
        Receipt(
            work: WorkKey(round: number, rank: 0, attempt: 0), stage: 0, microBatches: 1, tokens: 8, firstStep: 0,
            steps: 1
        ).signed(job: job, epoch: 1, wall: 1_000_000, by: Small.key(signer))
    }

    @Test func `alone the launcher leads, and what its disk has is for ever`() throws {
        var committee = try Committee(1)
        committee.run(1)
        let desk = try #require(committee.machines[0].desk)
        #expect(desk.leading == 1 && desk.isAlone)
        #expect(desk.record.length == 2 && committee.machines[0].committed == 2)
        #expect(committee.machines[0].entries == desk.record.envelopes)
        #expect(committee.machines[0].ballot == Ballot(term: 1, vote: Committee.key(0).peerID))
        #expect(desk.certified == 2)
    }

    @Test func `three have the same entries on disk, and a certificate of a quorum says so`() throws {
        var committee = try three()
        // Whoever does a round again, in another's place, signs the same.
        let receipts = [(0, 1), (1, 1), (2, 1), (1, 2)].map {
            receipt($0, of: committee.record(0).job, by: $1)
        }
        for number in 0..<5 { committee.propose(news(number), receipts: number == 2 ? receipts : [], on: 0) }
        committee.run(2)
        for index in 0..<3 {
            let record = committee.record(index)
            #expect(record.envelopes == committee.record(0).envelopes && record.committed == 9)
            #expect(committee.machines[index].entries == record.envelopes)
            #expect(committee.machines[index].receipts == receipts)
            let certificate = try #require(committee.machines[index].desk!.certificate)
            #expect(certificate.claim.size == 9)
            try certificate.check(job: record.job, record.electorate)
        }
    }

    @Test func `one of them leads in a term`() throws {
        var record = try three().record(0)
        let term = record.term
        func write(_ number: Int, term: Int, by index: Int) throws {
            _ = try record.propose(news(number), term: term, by: Committee.key(index))
        }
        #expect(throws: MalformedBytes.self) { try write(1, term: term, by: 1) }
        try write(1, term: term + 1, by: 1)
        #expect(throws: MalformedBytes.self) { try write(2, term: term + 1, by: 0) }
        try write(2, term: term + 1, by: 1)
        #expect(record.state.round == 0 && record.term == term + 1)
    }

    /// It was a member of the era before, and its disk had entries that the new one does not have: its batch was refused for ever, and what was
    /// not written counted as durable.
    @Test func `a disk with another end of the log keeps nobody from becoming an elector`() throws {
        var before = try Committee(1)
        before.run(1)
        for number in 8...9 { before.propose(news(number), on: 0) }
        before.run(1)
        var committee = try Committee(3)
        committee.machines[1].entries = before.machines[0].entries
        committee.run(1)
        try committee.change(to: [0, 1, 2])
        committee.run(3)
        #expect(committee.machines[1].asides == [2], "both begin with the same two")
        #expect(committee.machines[1].entries == committee.record(0).envelopes)
        #expect(committee.record(1).committed == committee.record(0).length)
    }

    /// Whoever was to be one, and is not: its log is the member's again, before it falls behind.
    @Test func `whoever is brought up to date and then is not chosen is not counted on any more`() throws {
        var committee = try Committee(2)
        committee.run(1)
        let other = Committee.key(1).peerID
        committee.machines[0].desk!.prepare([other], at: committee.now)
        committee.drain(0)
        committee.run(3)
        #expect(committee.record(1).length == committee.record(0).length)
        #expect(!committee.machines[1].desk!.isForsaken(at: committee.now))
        committee.machines[0].desk!.prepare([], at: committee.now)
        committee.drain(0)
        committee.propose(news(1), on: 0)
        committee.run(6)
        #expect(committee.record(1).length < committee.record(0).length)
        #expect(committee.machines[1].desk!.isForsaken(at: committee.now))
        #expect(!committee.machines[0].desk!.isForsaken(at: committee.now))
    }

    @Test func `one entry is not enough to become an elector, nor a leader's word to vote others out`() throws {
        var record = try three().record(0)
        let next = try #require(Electorate(voters: [Committee.key(0).peerID]))
        #expect(throws: MalformedBytes.self) {
            try record.propose(.electors(ElectorsChange(next, reason: "me")), term: 1, by: Committee.key(0))
        }
    }

    @Test func `when the leader is gone another leads within eight seconds, with all that was committed`() throws {
        var committee = try three()
        committee.propose(news(1), receipts: [receipt(1, of: committee.record(0).job)], on: 0)
        committee.run(1)
        let before = committee.record(0).envelopes
        committee.kill(0)
        committee.run(8)
        let leader = try #require(committee.leader)
        let record = committee.record(leader)
        #expect(Array(record.envelopes.prefix(before.count)) == before)
        #expect(record.term > 1 && record.committed == before.count + 1)
        #expect(committee.machines[leader].receipts.count == 1)
        #expect(committee.machines[leader].desk!.certified == before.count + 1)
        // What it left on disk is enough to come back, and be told.
        try committee.restart(0)
        committee.run(3)
        #expect(committee.leader == leader && committee.record(0).envelopes == record.envelopes)
        #expect(committee.machines[0].events.contains("leader_changed"))
    }

    /// Its members say it again, and the coordinator knows it already: it would never be counted with an entry.
    @Test func `a receipt that was counted in a term before goes with the first entry of the next one`() throws {
        var committee = try three()
        let receipt = receipt(1, of: committee.record(0).job)
        let term = committee.record(0).term
        committee.machines[0].desk!.carry(receipt: receipt)
        committee.machines[0].desk!.resign(at: committee.now)
        committee.drain(0)
        committee.run(8)
        let leader = try #require(committee.leader)
        if leader != 0 {
            committee.machines[leader].desk!.handOver(to: Committee.key(0).peerID, at: committee.now)
            committee.drain(leader)
            committee.run(8)
        }
        #expect(committee.leader == 0 && committee.record(0).term > term)
        for index in 0..<3 { #expect(committee.machines[index].receipts == [receipt]) }
    }

    @Test func `what a leader that was cut off wrote alone is taken back, on its disk too`() throws {
        var committee = try three()
        committee.apart = [0]
        committee.propose(news(7), on: 0)
        committee.propose(news(8), on: 0)
        committee.run(10)
        let leader = try #require(committee.leader)
        committee.propose(news(9), on: leader)
        committee.run(1)
        committee.apart = []
        committee.run(3)
        let agreed = committee.record(leader)
        #expect(committee.record(0).envelopes == agreed.envelopes && committee.record(0).committed == agreed.length)
        #expect(committee.machines[0].entries == agreed.envelopes)
        #expect(committee.record(0).state.round == agreed.state.round)
    }

    @Test func `nothing is acknowledged that is not on disk, and a disk that works again is enough`() throws {
        var committee = try three()
        let length = committee.record(0).length
        committee.kill(2)
        committee.machines[1].isBroken = true
        committee.propose(news(1), on: 0)
        committee.run(2)
        #expect(committee.record(0).committed == length)
        #expect(committee.machines[1].events.filter { $0 == "storage_failed" }.count == 1)
        committee.machines[1].isBroken = false
        committee.run(3)
        #expect(committee.record(0).committed == length + 1)
        #expect(committee.machines[1].events.contains("storage_recovered"))
    }

    @Test func `a peer that nobody has named is not heard`() throws {
        var committee = try three()
        committee.admits = false
        let stranger = Small.key(77)
        let before = committee.record(1)
        let claim = try #require(committee.machines[1].desk!.certificate?.claim)
        var forged = claim
        forged.root = sha256([9])
        let ack = Ack(forged, by: stranger)
        for message in [
            ElectionMessage.consensus(ElectorMessage(term: 9, .vote(LogEnd(term: 8, count: 99), byRequest: true))),
            .consensus(ElectorMessage(term: 9, .beat(committed: 50))), .ack(ack.claim, signature: ack.signature),
        ] {
            committee.machines[1].desk!.receive(message, from: stranger.peerID, isElector: false, at: committee.now)
            committee.drain(1)
        }
        committee.run(1)
        #expect(committee.record(1).envelopes == before.envelopes && committee.machines[1].desk!.term == 1)
        #expect(committee.machines[1].desk!.certificate?.claim == claim)
    }

    @Test func `an elector that lacks the text votes and follows, and does not lead`() throws {
        var committee = try three()
        committee.machines[1].desk!.stand(false, at: committee.now)
        committee.kill(0)
        committee.run(20)
        #expect(committee.leader == 2)
        committee.kill(2)
        committee.run(20)
        #expect(committee.leader == nil)
    }

    @Test func `an elector that signs two logs is convicted, by all who see both, and what it signed is on disk`()
        throws
    {
        var committee = try three()
        committee.propose(news(1), on: 0)
        committee.run(1)
        let own = try #require(committee.machines[0].desk!.certificate)
        let honest = try #require(
            own.acks.first { $0.signer == Committee.key(1).peerID || $0.signer == Committee.key(2).peerID })
        let liar = Committee.key(1).peerID == honest.signer ? 1 : 2
        var claim = honest.claim
        claim.root = sha256([9])
        let lie = Ack(claim, by: Committee.key(liar))
        // What it signs for the leader; with a term, a size, a job that are not its own: nobody's proof.
        var others = [claim, claim, claim]
        others[0].term += 1
        others[1].size += 7
        others[2].job = sha256([1])
        for other in others {
            let ack = Ack(other, by: Committee.key(liar))
            committee.machines[0].desk!.receive(
                .ack(ack.claim, signature: ack.signature), from: lie.signer, isElector: true, at: committee.now)
            committee.drain(0)
        }
        // A forged one: another has signed it.
        committee.machines[0].desk!.receive(
            .ack(claim, signature: Committee.key(0).sign(claim.signedBytes)), from: lie.signer, isElector: true,
            at: committee.now)
        committee.drain(0)
        #expect(committee.machines[0].convicted.isEmpty && committee.machines[0].proofs.isEmpty)
        for _ in 0..<2 {
            committee.machines[0].desk!.receive(
                .ack(claim, signature: lie.signature), from: lie.signer, isElector: true, at: committee.now)
            committee.drain(0)
        }
        committee.run(1)
        #expect(committee.machines[0].convicted == [lie.signer])
        #expect(committee.machines[0].events.filter { $0 == "electors_contradict" }.count == 1)
        let proof = try #require(committee.machines[0].proofs.first)
        #expect(committee.machines[0].proofs.count == 1 && proof.liars == [lie.signer])
        // An elector that has the honest one learns of the other by a certificate that somebody shows.
        let third = 3 - liar
        let shown = try #require(Certificate([lie]))
        committee.machines[third].desk!.heed(shown, at: committee.now)
        committee.drain(third)
        committee.run(1)
        #expect(committee.machines[third].proofs.count == 1)
        // The job goes on.
        committee.propose(news(2), on: 0)
        committee.run(2)
        #expect(committee.record(third).committed == committee.record(0).length)
    }

    @Test func `what waits for the lead to go elsewhere is no failure, and entries signed by a quorum are agreed on`()
        throws
    {
        var committee = try three()
        committee.machines[0].desk!.handOver(at: committee.now)
        committee.propose(news(1), on: 0)
        let refusal = try #require(committee.machines[0].refusals.last)
        #expect(refusal.isPassing && refusal.why == "this machine is handing the lead over")
        committee.run(2)
        for index in 0..<3 {
            let desk = committee.machines[index].desk!
            #expect(desk.agreed == desk.record.length && desk.certified <= desk.agreed)
        }
    }

    /// What only it and a leader that is gone had acknowledged may be committed: with its vote another could be elected who lacks that.
    @Test func `an elector whose disk is lost votes for nobody, and its leader knows`() throws {
        var committee = try three()
        committee.propose(news(1), on: 0)
        committee.run(1)
        // One more, which the third machine does not hear of.
        committee.apart = [2]
        committee.propose(news(2), on: 0)
        committee.run(0.5)
        #expect(committee.record(0).committed == committee.record(0).length)
        committee.kill(0)
        committee.kill(1)
        committee.apart = []
        try committee.restartBlank(1)
        committee.run(30)
        #expect(committee.leader == nil)
        // Who has it leads again, and says that the other has lost what it had.
        try committee.restart(0)
        committee.run(12)
        #expect(committee.leader == 0 && committee.record(2).envelopes == committee.record(0).envelopes)
        #expect(committee.machines[0].lost.isEmpty, "a new leader has it begin anew: \(committee.machines[0].lost)")
        committee.kill(1)
        try committee.restartBlank(1)
        committee.run(12)
        #expect(Set(committee.machines[0].lost) == [Committee.key(1).peerID])
    }

    @Test func `whoever is made an elector votes as soon as it has what is committed`() throws {
        var committee = try Committee(3)
        committee.kill(1)
        committee.kill(2)
        committee.run(1)
        for index in [1, 2] { try committee.restartBlank(index) }
        try committee.change(to: [0, 1, 2])
        committee.run(1)
        committee.kill(0)
        committee.run(8)
        #expect(committee.leader != nil)
    }

    /// A leader lost the only holder of a stage, said so in the log, and was gone before it went back.
    @Test func `a leader that finds no pipeline whole waits for whom it could go on with, and says so`() throws {
        func interruptions(_ plan: PlacedPlan) throws -> [String] {
            var script = try Script()
            try script.join([1, 2, 3])
            try script.plan(plan)
            try script.leave(2)
            var desk = try ElectorDesk(
                restoring: JobRemains(log: script.record.envelopes), ballot: nil, key: Small.launcher,
                provisions: ElectorDesk.Provisions(content: StoredBytes([1]), wall: Committee.wall), at: .zero,
                parse: { _ in Small.parameters() })
            desk.stand(true, at: .zero)
            for _ in 0..<100 where desk.leading == nil {
                while let effect = desk.poll() {
                    if case .store(let request) = effect {
                        desk.stored(request.ticket, .stored(path: ""), at: .zero)
                    }
                }
                desk.wake(at: desk.nextWake ?? .zero)
            }
            var coordinator = desk.coordinator(content: StoredBytes([1]), at: .zero)
            var said: [String] = []
            while let effect = coordinator.poll() {
                if case .event(let event) = effect, case .interrupted(let why) = event.what { said.append(why) }
            }
            return said
        }
        let broken = try interruptions(Small.plan([[1, 2]], innerSteps: 2, spares: [3]))
        #expect(broken.count == 1 && broken[0].contains("no pipeline is whole"))
        #expect(try interruptions(Small.plan([[1, 2], [3]], innerSteps: 2)).isEmpty)
    }

    /// A job of a hundred thousand receipts: who takes over has opened them before, some at a time.
    @Test func `receipts are opened some at a time, and nobody leads before`() throws {
        var committee = try Committee(1)
        committee.run(1)
        let record = committee.record(0)
        let receipts = (0..<100).map { receipt($0, of: record.job) }
        var desk = try ElectorDesk(
            restoring: JobRemains(log: record.envelopes, receipts: receipts + receipts),
            ballot: committee.machines[0].ballot, key: Committee.key(0),
            provisions: ElectorDesk.Provisions(content: StoredBytes([1, 2, 3]), wall: Committee.wall),
            at: committee.now,
            parse: Committee.parse)
        var wakes = 0
        while desk.leading == nil, wakes < 100 {
            let next = try #require(desk.nextWake)
            #expect(next - committee.now <= .milliseconds(1))
            committee.now = max(next, committee.now + .milliseconds(1))
            desk.wake(at: committee.now)
            while let effect = desk.poll() {
                if case .store(let request) = effect {
                    desk.stored(request.ticket, .stored(path: ""), at: committee.now)
                }
            }
            wakes += 1
        }
        #expect(wakes >= 3 && desk.leading != nil)
        let coordinator = desk.coordinator(content: StoredBytes(), at: committee.now)
        #expect(coordinator.books.receiptEnvelopes == receipts && coordinator.books.receipts.count == 100)
    }

    @Test func `a leader hands over when it goes`() throws {
        var committee = try three()
        let isBegun = committee.machines[0].desk!.handOver(at: committee.now)
        #expect(isBegun)
        committee.drain(0)
        committee.run(1)
        let leader = try #require(committee.leader)
        #expect(leader != 0 && committee.record(leader).term == 2)
    }
}
