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

/// Machines that carry one record, with disks that can fail and lines that can be cut. What they say goes through the wire's bytes.
struct Committee {
    struct Machine {
        var desk: ElectorDesk?
        var entries: [PBEnvelope] = []
        var receipts: [PBEnvelope] = []
        var ballot: Ballot?
        var isBroken = false
        var committed = 0
        var events: [String] = []
        var proofs: [Contradiction] = []
        var convicted: [PeerID] = []
        var lost: [PeerID] = []
        var refusals: [(why: String, isPassing: Bool)] = []
    }
    var machines: [Machine] = []
    var now = Instant.zero
    /// Who hears nobody, and is heard by nobody.
    var apart: Set<Int> = []
    private var mail: [(at: Instant, packet: [UInt8], from: Int, to: Int)] = []
    private var writes: [(at: Instant, request: StorageRequest, machine: Int)] = []
    /// Everybody knows who is an elector, as members of the job do.
    var admits = true

    static func key(_ index: Int) -> SigningKey { index == 0 ? Small.launcher : Small.key(index) }
    static let wall = WallClock(secondsAtZero: 1_000_000)

    init(_ count: Int) throws {
        let founder = try ElectorDesk(
            founding: "good", content: [1, 2, 3], nonce: [UInt8](repeating: 1, count: 32), key: Self.key(0),
            provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
        machines = [Machine(desk: founder)]
        for index in 1..<count {
            var desk = try ElectorDesk(
                genesis: founder.record.envelopes[0], key: Self.key(index),
                provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
            desk.stand(true, at: now)
            machines.append(Machine(desk: desk))
        }
        for index in machines.indices { drain(index) }
    }
    static let parse: Record.Parser = { (_) throws(MalformedBytes) in
        var parameters = Small.parameters()
        parameters.electors = 3
        return parameters
    }

    // MARK: running

    mutating func run(_ seconds: Double) {
        let end = now + .nanoseconds(Int64(seconds * 1e9))
        while true {
            let wakes = machines.compactMap { $0.desk?.nextWake.map { max($0, now) } }
            guard let next = (mail.map(\.at) + writes.map(\.at) + wakes).min(), next <= end else { break }
            now = next
            while let index = mail.firstIndex(where: { $0.at <= now }) { deliver(mail.remove(at: index)) }
            while let index = writes.firstIndex(where: { $0.at <= now }) { write(writes.remove(at: index)) }
            for index in machines.indices where machines[index].desk?.nextWake.map({ $0 <= now }) ?? false {
                machines[index].desk!.wake(at: now)
                drain(index)
            }
        }
        now = end
    }
    private mutating func deliver(_ letter: (at: Instant, packet: [UInt8], from: Int, to: Int)) {
        guard !apart.contains(letter.from), !apart.contains(letter.to), machines[letter.to].desk != nil,
            case .election(let message)? = try? Packet(decoding: letter.packet).message
        else { return }
        machines[letter.to].desk!.receive(message, from: Self.key(letter.from).peerID, isElector: admits, at: now)
        drain(letter.to)
    }
    private mutating func write(_ write: (at: Instant, request: StorageRequest, machine: Int)) {
        let index = write.machine
        guard machines[index].desk != nil else { return }
        let outcome: StorageOutcome = machines[index].isBroken ? .failed("full") : .stored(path: "")
        if case .stored = outcome { apply(write.request, to: &machines[index]) }
        machines[index].desk!.stored(write.request.ticket, outcome, at: now)
        drain(index)
    }
    private func apply(_ request: StorageRequest, to machine: inout Machine) {
        switch request {
        case .entry(_, let index, let envelope):
            guard index < machine.entries.count else { return machine.entries.append(envelope) }
            #expect(machine.entries[index] == envelope, "another entry is there")
        case .receipt(_, let index, let envelope):
            if index == machine.receipts.count { machine.receipts.append(envelope) }
        case .truncate(_, let length): machine.entries.removeLast(max(0, machine.entries.count - length))
        case .ballot(_, _, let ballot): machine.ballot = ballot
        case .contradiction(let proof): machine.proofs.append(proof)
        default: break
        }
    }
    mutating func drain(_ index: Int) {
        while let effect = machines[index].desk?.poll() {
            switch effect {
            case .send(let packet, let peer):
                let to = machines.indices.first { Self.key($0).peerID == peer }!
                mail.append((now + .milliseconds(10), packet.bytes, index, to))
            case .store(let request): writes.append((now + .milliseconds(3), request, index))
            case .committed(let count): machines[index].committed = count
            case .certified: break
            case .event(let event): machines[index].events.append(event.kind)
            case .lead: propose(.opening(Opening(reason: "elected")), on: index)
            case .unfit(let peer, .hasLied): machines[index].convicted.append(peer)
            case .unfit(let peer, .hasLostItsDisk): machines[index].lost.append(peer)
            case .refused(_, let why, let isPassing): machines[index].refusals.append((why, isPassing))
            case .standBy, .over, .caughtUp: break
            }
        }
    }

    // MARK: what happens to them

    var leader: Int? {
        machines.indices.filter { machines[$0].desk?.leading != nil && !apart.contains($0) }
            .max { machines[$0].desk!.term < machines[$1].desk!.term }
    }
    /// As a coordinator does.
    mutating func propose(_ entry: Entry, receipts: [PBEnvelope] = [], on index: Int) {
        for receipt in receipts { machines[index].desk!.carry(receipt: receipt) }
        var record = machines[index].desk!.record
        guard let envelope = try? record.propose(entry, term: machines[index].desk!.leading!, by: Self.key(index))
        else {
            return
        }
        machines[index].desk!.carry(envelope, at: record.length - 1, now: now)
        drain(index)
    }
    /// Both steps to these electors.
    mutating func change(to members: [Int]) throws {
        let index = try #require(leader)
        let next = machines[index].desk!.record.electorate.changing(to: members.map { Self.key($0).peerID })
        propose(.electors(ElectorsChange(try #require(next), reason: "chosen")), on: index)
        run(0.5)
        let proof = try #require(machines[index].desk!.certificate)
        propose(.electors(ElectorsChange(try #require(next).changed, proof: proof, reason: "agreed")), on: index)
        run(0.5)
    }
    mutating func kill(_ index: Int) {
        machines[index].desk = nil
        writes.removeAll { $0.machine == index }
    }
    mutating func restart(_ index: Int) throws {
        let remains = JobRemains(log: machines[index].entries, receipts: machines[index].receipts)
        machines[index].desk = try ElectorDesk(
            restoring: remains, ballot: machines[index].ballot, key: Self.key(index),
            provisions: ElectorDesk.Provisions(wall: Self.wall), at: now, parse: Self.parse)
        machines[index].desk!.stand(true, at: now)
        drain(index)
    }
    /// As a member's daemon does when it hears of an elector that it knows nothing of.
    mutating func restartBlank(_ index: Int) throws {
        machines[index].entries = []
        machines[index].receipts = []
        machines[index].ballot = nil
        machines[index].desk = try ElectorDesk(
            genesis: machines[0].entries[0], key: Self.key(index), provisions: ElectorDesk.Provisions(wall: Self.wall),
            isBlank: true, at: now, parse: Self.parse)
        machines[index].desk!.stand(true, at: now)
        drain(index)
    }
    func record(_ index: Int) -> Record { machines[index].desk!.record }
}

extension Packet {
    /// As a channel carries it.
    var bytes: [UInt8] {
        let framed = self.framed
        return framed.header + framed.payload
    }
}

@Suite struct `Electors that carry a record` {
    private func three() throws -> Committee {
        var committee = try Committee(3)
        committee.run(1)
        try committee.change(to: [0, 1, 2])
        return committee
    }
    private func news(_ number: Int) -> Entry { .members(MembersChange(round: number)) }
    private func receipt(_ number: Int, of job: Digest256) -> PBEnvelope {
        Receipt(
            work: WorkKey(round: number, rank: 0, attempt: 0), stage: 0, microBatches: 1, tokens: 8, firstStep: 0,
            steps: 1
        ).signed(job: job, epoch: 1, wall: 1_000_000, by: Small.key(1))
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
        let receipts = (0..<3).map { receipt($0, of: committee.record(0).job) }
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

    /// A job of a hundred thousand receipts: who takes over has opened them before, some at a time.
    @Test func `receipts are opened some at a time, and nobody leads before`() throws {
        var committee = try Committee(1)
        committee.run(1)
        let record = committee.record(0)
        let receipts = (0..<100).map { receipt($0, of: record.job) }
        var desk = try ElectorDesk(
            restoring: JobRemains(log: record.envelopes, receipts: receipts + receipts),
            ballot: committee.machines[0].ballot, key: Committee.key(0),
            provisions: ElectorDesk.Provisions(content: [1, 2, 3], wall: Committee.wall), at: committee.now,
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
        let coordinator = desk.coordinator(content: [], at: committee.now)
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
