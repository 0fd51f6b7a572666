import Consensus
import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

@Suite struct `A job that is founded anew` {
    @Test func `has the electors that the root key names, and those of before write nothing more`() throws {
        let before = try Carried(entries: 3)
        var after = try before.refounded()
        #expect(after.record.era == 1 && after.record.electors == [Small.launcher.peerID])
        #expect(after.record.foundings == [before.record.length] && after.record.founder == Small.launcher.peerID)
        #expect(after.record.era(at: before.record.length) == 0)
        let term = Era.firstTerm(of: 1)
        // A former elector; the launcher with a term of the era before.
        for (who, term) in [(1, term + 1), (0, 5)] {
            let forged = after.forged(.members(MembersChange(round: 1)), term: term, by: Carried.key(who))
            #expect(throws: MalformedBytes.self) { try after.record.receive(forged) }
        }
        try after.append(.opening(Opening(reason: "elected")), term: term + 1)
        // Whoever has the genesis alone can follow how it came, and what was certified when.
        let first = try Record(genesis: after.record.envelopes[0], parse: Carried.parse)
        let succession = try first.electors(after: after.record.electorChanges)
        #expect(succession.electors == [Small.launcher.peerID] && succession.era == 1)
        #expect(succession.foundedAt == [before.record.length])
        // The certificates of both eras are told apart.
        try after.record.check(after.certificate(by: 0))
        try after.record.check(after.certificate(of: before.record.length, by: 1, 2))
        var claim = after.certificate(by: 0).claim
        claim.era = 0
        let old = try #require(Certificate([Ack(claim, by: Small.launcher)]))
        #expect(throws: MalformedBytes.self) { try after.record.check(old) }
        // Once more.
        let again = after.founded(2, after: after.certificate(by: 0))
        try after.append(again, term: Era.firstTerm(of: 2))
        #expect(after.record.era == 2 && after.record.foundings.count == 2)
    }

    /// An elector learns from signatures that an entry is for ever before a leader tells it so; whoever asks is told all of it.
    @Test func `is read as far as it is certified, whatever its owner knew of that`() throws {
        let log = try Carried(entries: 3)
        var behind = try Record(genesis: log.record.envelopes[0], parse: log.parse)
        for envelope in log.record.envelopes.dropFirst() { _ = try behind.receive(envelope) }
        behind.commit(through: 2)
        let certificate = log.certificate(by: 1, 2)
        let reading = JobReading(behind, certificate, lease: .zero, term: 1)
        #expect(reading.record.committed == certificate.claim.size)
        #expect(reading.record.entries(from: 0)?.entries.count == certificate.claim.size)
        #expect(JobReading(behind, nil, lease: .zero, term: 1).record.committed == 2)
        #expect(JobReading(behind, log.certificate(of: 3, by: 1, 2), lease: .zero, term: 1).record.committed == 3)
    }

    @Test func `is not where a stranger, or an elector, signs it, or what is certified is left out`() throws {
        var log = try Carried(entries: 3)
        let length = log.record.length
        let term = Era.firstTerm(of: 1)
        let whole = log.certificate(by: 1, 2)
        let good = log.founded(after: whole)
        func refused(_ entry: Entry, term: Int, by key: SigningKey) {
            let forged = log.forged(entry, term: term, by: key)
            #expect(throws: MalformedBytes.self) { try log.record.receive(forged) }
        }
        refused(good, term: term, by: Small.key(50))
        refused(good, term: term, by: Carried.key(1))
        // Of fewer entries than there are before it; of electors that are none; of another log.
        refused(log.founded(after: log.certificate(of: length - 1, by: 1, 2)), term: term, by: Small.launcher)
        refused(log.founded(after: log.certificate(by: 1)), term: term, by: Small.launcher)
        refused(log.founded(after: log.certificate(by: 5, 6)), term: term, by: Small.launcher)
        let other = try Carried(entries: 4)
        refused(log.founded(after: other.certificate(by: 1, 2)), term: term, by: Small.launcher)
        refused(
            .electors(ElectorsChange(Carried.electorate(0), reason: "without any")), term: term, by: Small.launcher)
        // An era is left out; a term of the era before, or one that others may have had.
        refused(log.founded(2, after: whole), term: Era.firstTerm(of: 2), by: Small.launcher)
        refused(good, term: 7, by: Small.launcher)
        refused(good, term: term + 1, by: Small.launcher)
        // A term of an era that has not begun.
        refused(.members(MembersChange(round: 9)), term: term, by: Small.launcher)
        #expect(log.record.length == length && log.record.era == 0)
        try log.append(good, term: term)
        #expect(log.record.era == 1)
        // Its shape survives the wire, and a log that was founded anew is taken back to any length.
        #expect(try Record.restoring(log.record.envelopes, parse: Carried.parse).refused == nil)
        #expect(log.record.truncated(to: length).era == 0)
    }

    @Test func `is founded by whoever so many recovery keys have signed for, and by nobody else`() throws {
        var log = try Carried(entries: 3, recovery: Carried.recovery)
        let term = Era.firstTerm(of: 1)
        let founder = Small.key(50)
        func refused(_ grant: RecoveryGrant?, by key: SigningKey = founder, _ log: Carried) {
            var record = log.record
            let forged = log.forged(log.founded(by: key, grant), term: term, by: key)
            #expect(throws: MalformedBytes.self) { try record.receive(forged) }
        }
        let good = log.grant(for: founder, by: 61, 63)
        refused(nil, log)
        refused(log.grant(for: founder, by: 61), log)
        refused(log.grant(for: founder, by: 61, 64), log)
        refused(good, by: Small.key(51), log)
        refused(log.grant(for: founder, era: 2, by: 61, 63), log)
        // For entries that are not there; for others; for a job without recovery keys.
        refused(log.grant(for: founder, size: 8, by: 61, 63), log)
        refused(log.grant(for: founder, size: 5, root: sha256([9]), by: 61, 63), log)
        let without = try Carried(entries: 3)
        refused(without.grant(for: founder, by: 61, 63), without)
        // For fewer than are certified now, which all stay.
        for size in [5, log.record.length] {
            var log = log
            try log.append(
                log.founded(by: founder, log.grant(for: founder, size: size, by: 61, 63)), term: term, by: founder)
            #expect(
                log.record.era == 1 && log.record.founder == founder.peerID && log.record.electors == [founder.peerID])
            let first = try Record(genesis: log.record.envelopes[0], parse: log.parse)
            #expect(try first.electors(after: log.record.electorChanges).electors == [founder.peerID])
            #expect(try Record.restoring(log.record.envelopes, parse: log.parse).refused == nil)
        }
        // The root key may still do it alone.
        try log.append(log.founded(after: log.certificate(by: 1, 2)), term: term)
        #expect(log.record.founder == Small.launcher.peerID)
    }

    @Test func `is followed by members that have no more than it keeps, whatever was not certified`() throws {
        let before = try Carried(entries: 3)
        var longer = before
        try longer.append(.members(MembersChange(round: 7)))
        let after = try before.refounded()
        var desk = LogDesk(try Record(genesis: before.record.envelopes[0], parse: Carried.parse))
        #expect(
            desk.receive(before.entries(from: 1, by: 0, 2), from: Small.peer(1), isLeader: true, at: .zero).count == 6)
        // One more, which nobody has signed for.
        #expect(desk.receive(longer.entries(from: 7), from: Small.peer(1), isLeader: true, at: .zero).isEmpty)
        #expect(desk.record.length == before.record.length)
        #expect(desk.receive(after.entries(from: 7, by: 0), from: Small.peer(1), isLeader: false, at: .zero).count == 1)
        #expect(desk.record.era == 1 && desk.proof?.claim.era == 1)
        // The old era once more.
        #expect(desk.receive(longer.entries(from: 7, by: 1, 2), from: Small.peer(1), isLeader: true, at: .zero).isEmpty)
        #expect(desk.record.envelopes == after.record.envelopes)
    }

    @Test func `is not followed where more is certified: here, or at this machine's elector`() throws {
        let before = try Carried(entries: 3)
        var longer = before
        try longer.append(.members(MembersChange(round: 7)))
        let after = try before.refounded()
        var desk = LogDesk(try Record(genesis: before.record.envelopes[0], parse: Carried.parse))
        _ = desk.receive(longer.entries(from: 1, by: 1, 2), from: Small.peer(1), isLeader: true, at: .zero)
        #expect(desk.record.length == longer.record.length)
        #expect(desk.receive(after.entries(from: 7, by: 0), from: Small.peer(1), isLeader: true, at: .zero).isEmpty)
        #expect(desk.record.envelopes == longer.record.envelopes)
        // The elector knows of one entry more than the member.
        var second = LogDesk(try Record(genesis: before.record.envelopes[0], parse: Carried.parse))
        _ = second.receive(before.entries(from: 1, by: 0, 2), from: Small.peer(1), isLeader: true, at: .zero)
        second.certifiedHere = longer.record.length
        #expect(second.receive(after.entries(from: 7, by: 0), from: Small.peer(1), isLeader: true, at: .zero).isEmpty)
        #expect(second.record.era == 0)
        var said: [Happening] = []
        while let effect = second.poll() { if case .event(let what, _) = effect { said.append(what) } }
        #expect(said == [.refoundingRefused(entries: 7, certified: 8)])
    }
}

@Suite struct `Members and eras` {
    /// What a member answers to an offer, and whether it asked for its log to be put aside.
    private struct Peer {
        var member: Member
        init(_ logs: [KeptLog] = [], refounds: [Digest256] = []) {
            var terms = MemberTerms(
                name: "laptop", device: "", memory: .mebibytes(64), accepts: [Small.launcher.peerID])
            terms.refounds = refounds
            var remains = MemberRemains()
            remains.logs = logs
            member = Member(
                key: Small.key(9), terms: terms, remains: remains, wall: WallClock(secondsAtZero: 1_000_000), at: .zero,
                parse: Carried.parse)
            _ = drain()
        }
        mutating func drain() -> (answer: OfferAnswer?, setsAside: Bool) {
            var out: (OfferAnswer?, Bool) = (nil, false)
            while let effect = member.poll() {
                switch effect {
                case .compute: member.computed(.done, at: .zero + .milliseconds(200))
                case .send(let packet, _): if case .offerAnswer(let answer) = packet.message { out.0 = answer }
                case .store(.setLogAside): out.1 = true
                default: break
                }
            }
            return out
        }
        /// - Parameter number: who offers.
        mutating func offer(_ log: Carried, from number: Int = 0, term: Int) throws -> (
            refusal: String?, setsAside: Bool
        ) {
            let offer = Offer(genesis: log.record.envelopes[0], electors: log.record.electorChanges)
            member.receive(
                Packet(job: log.record.job, term: term, .offer(offer)), from: Carried.key(number).peerID, endpoint: nil,
                at: .zero + .seconds(1))
            let (answer, setsAside) = drain()
            return (try #require(answer).refusal, setsAside)
        }
        mutating func tell(_ entries: LogEntries, _ log: Carried, from number: Int, term: Int) {
            member.receive(
                Packet(job: log.record.job, term: term, .logEntries(entries)), from: Carried.key(number).peerID,
                endpoint: nil,
                at: .zero + .seconds(2))
            _ = drain()
        }
    }
    private let newTerm = Era.firstTerm(of: 1) + 1

    @Test func `an offer of the new era is taken, and one of the old is refused from then on`() throws {
        let before = try Carried(entries: 2)
        let after = try before.refounded()
        var peer = Peer()
        #expect(try peer.offer(before, from: 1, term: 3).refusal == nil)
        peer.tell(before.entries(from: 1, by: 0, 1), before, from: 1, term: 3)
        #expect(peer.member.leader == Carried.key(1).peerID)
        // A term of an era that it does not know makes nobody its leader.
        peer.member.receive(
            Packet(job: before.record.job, term: newTerm, .lease(Lease(duration: .seconds(9), logLength: 6))),
            from: Small.launcher.peerID, endpoint: nil, at: .zero + .seconds(2))
        #expect(peer.member.leader == Carried.key(1).peerID)
        #expect(try peer.offer(after, term: newTerm).refusal == nil)
        #expect(peer.member.leader == Small.launcher.peerID)
        peer.tell(after.entries(from: 6, by: 0), after, from: 0, term: newTerm)
        let refusal = try peer.offer(before, from: 1, term: 900).refusal
        #expect(refusal?.contains("founded anew since") == true, "\(refusal ?? "")")
        #expect(peer.member.leader == Small.launcher.peerID)
    }

    @Test func `what drops entries that are certified here waits for the owner's word`() throws {
        let before = try Carried(entries: 2)
        var longer = before
        try longer.append(.members(MembersChange(round: 7)))
        let after = try before.refounded()
        // In the job, and after a restart.
        var working = Peer()
        #expect(try working.offer(longer, from: 1, term: 3).refusal == nil)
        working.tell(longer.entries(from: 1, by: 0, 1), longer, from: 1, term: 3)
        var restarted = Peer([longer.kept(by: 0, 1)])
        for refusal in [
            try working.offer(after, term: newTerm).refusal, try restarted.offer(after, term: newTerm).refusal,
        ] {
            #expect(refusal?.contains("after 6 entries, and 7 are certified at laptop") == true, "\(refusal ?? "")")
            #expect(refusal?.contains("--accept-refound") == true)
        }
        #expect(working.member.leader == Carried.key(1).peerID)
        // Less is certified here: nothing is lost.
        var shorter = Peer([before.kept(by: 0, 1)])
        #expect(try shorter.offer(after, term: newTerm).refusal == nil)
        // The owner has said so.
        var told = Peer([longer.kept(by: 0, 1)], refounds: [before.record.job])
        let (refusal, setsAside) = try told.offer(after, term: newTerm)
        #expect(refusal == nil && setsAside)
        // And an era that is over is refused after a restart, too.
        var newer = Peer([try #require(KeptLog(after.record.envelopes, after.certificate(by: 0), parse: Carried.parse))]
        )
        #expect(try newer.offer(before, from: 1, term: 3).refusal?.contains("founded anew since") == true)
    }
}

/// Whoever has the root key, some peers of the pool, and what they tell.
@Suite struct `Founding a job anew` {
    private struct Desk {
        var refounding: Refounding
        var now = Instant.zero
        /// What each peer has; nil: nothing of this job.
        var peers: [PeerID: JobReading] = [:]
        var stored: [StorageRequest] = []
        var founded: [PBEnvelope]?
        var failure: String?
        var events: [Happening] = []

        init(
            _ own: Carried? = nil, key: SigningKey = Small.launcher, certificate: Certificate? = nil,
            grant: RecoveryGrant? = nil, parse: @escaping Record.Parser = Carried.parse
        ) {
            let own = Refounding.Own(
                key: key, manifest: "good", content: sha256([1]), log: own?.record.envelopes ?? [],
                certificate: certificate, grant: grant)
            refounding = Refounding(own, patience: .seconds(60), at: now, parse: parse)
        }
        mutating func add(_ number: Int, _ log: Carried, by numbers: Int..., lease: Duration = .zero, term: Int = 1) {
            var record = log.record
            record.commit(through: record.length)
            let proof = Certificate(numbers.map { number in log.certificate(by: number).acks[0] })
            peers[Small.peer(number)] = JobReading(record, proof, lease: lease, term: term)
        }
        mutating func run(_ seconds: Int) {
            for peer in peers.keys.sorted() { refounding.established(peer, at: now) }
            for _ in 0..<seconds * 4 {
                drain()
                now += .milliseconds(250)
                refounding.wake(at: now)
            }
            drain()
        }
        private mutating func drain() {
            while let effect = refounding.poll() {
                switch effect {
                case .send(let packet, let peer): answer(packet, peer)
                case .store(let request):
                    stored.append(request)
                    refounding.stored(request.ticket, .stored(path: ""), at: now)
                case .event(let event): events.append(event.what)
                case .founded(let log): founded = log
                case .failed(let why): failure = why
                }
            }
        }
        private mutating func answer(_ packet: Packet, _ peer: PeerID) {
            guard case .readRequest(let from) = packet.message, let reading = peers[peer] else { return }
            let job = reading.record.job
            var entries = reading.record.entries(from: from) ?? LogEntries([], length: reading.record.committed)
            entries.certificate = reading.certificate
            let lease = Lease(duration: reading.lease, logLength: reading.record.committed)
            for message in [Message.logEntries(entries), .lease(lease)] {
                let sent = try! Packet(decoding: Packet(job: job, term: reading.term, message).bytes)
                refounding.receive(sent, from: peer, at: now)
            }
        }
    }

    @Test func `takes the longest certified log of whoever can be reached, and stores the new era first`() throws {
        let short = try Carried(entries: 2)
        var long = short
        for number in 0..<300 { try long.append(.members(MembersChange(round: number))) }
        // On its own disk: less that is certified, and an entry that nobody has signed for.
        var own = short
        try own.append(.members(MembersChange(round: 99)))
        var desk = Desk(own, certificate: short.certificate(by: 0, 1))
        desk.add(3, short, by: 0, 1)
        desk.add(4, long, by: 1, 2)
        // Signed by one: no quorum. And a peer that has another job.
        var more = long
        try more.append(.members(MembersChange(round: 5)))
        desk.add(5, more, by: 1)
        desk.run(40)
        let log = try #require(desk.founded, "\(desk.failure ?? "nothing came of it")")
        #expect(log.count == long.record.length + 1 && Array(log.dropLast()) == long.record.envelopes)
        let record = try Record.restoring(log, parse: Carried.parse).record
        #expect(record.era == 1 && record.electors == [Small.launcher.peerID])
        // What its disk had beyond is cut off, what it had stays, what is new is written, and then its ballot.
        guard case .truncate(_, short.record.length)? = desk.stored.first,
            case .ballot(_, _, let ballot)? = desk.stored.last
        else { return #expect(Bool(false), "\(desk.stored.map(\.ticket))") }
        #expect(ballot == Ballot(term: Era.firstTerm(of: 1), vote: nil))
        #expect(desk.stored.count == 2 + log.count - short.record.length)
        #expect(desk.events.contains { if case .jobRefounded(1, long.record.length, _) = $0 { true } else { false } })
    }

    @Test func `another machine does it with what recovery keys have signed, and is told why not`() throws {
        let log = try Carried(entries: 2, recovery: Carried.recovery)
        let founder = Small.key(50)
        func outcome(_ grant: RecoveryGrant?, _ log: Carried, key: SigningKey = founder) -> (
            log: [PBEnvelope]?, why: String?
        ) {
            var desk = Desk(key: key, grant: grant, parse: log.parse)
            desk.add(3, log, by: 1, 2)
            desk.run(70)
            return (desk.founded, desk.failure)
        }
        let founded = try #require(outcome(log.grant(for: founder, by: 62, 63), log).log)
        let record = try Record.restoring(founded, parse: log.parse).record
        #expect(record.era == 1 && record.founder == founder.peerID && record.length == log.record.length + 1)
        for (grant, words) in [
            (log.grant(for: founder, by: 62), "1 of 3 recovery keys have signed, 2 have to"),
            (log.grant(for: founder, era: 2, by: 62, 63), "for era 2, not 1"),
            (log.grant(for: Small.key(51), by: 62, 63), "not \(founder.peerID.short)"),
            (log.grant(for: founder, size: 99, by: 62, 63), "only 6 that are certified could be reached"),
        ] {
            let (founded, why) = outcome(grant, log)
            #expect(founded == nil && why?.contains(words) == true, "\(why ?? "")")
        }
        let without = try Carried(entries: 2)
        #expect(outcome(without.grant(for: founder, by: 62, 63), without).why?.contains("no recovery keys") == true)
        #expect(outcome(nil, log).log == nil)
    }

    @Test func `with the key alone it reads everything from others`() throws {
        let log = try Carried(entries: 2)
        var desk = Desk()
        desk.add(3, log, by: 1, 2)
        desk.run(20)
        #expect(try #require(desk.founded).count == log.record.length + 1)
    }

    @Test func `a newer era counts for more than a longer log, and who only says that there is one changes nothing`()
        throws
    {
        let before = try Carried(entries: 2)
        var longer = before
        try longer.append(.members(MembersChange(round: 7)))
        let after = try before.refounded()
        var desk = Desk(longer, certificate: longer.certificate(by: 0, 1))
        desk.add(3, after, by: 0)
        desk.run(60)
        let record = try Record.restoring(try #require(desk.founded), parse: Carried.parse).record
        #expect(record.era == 2 && record.foundings == [before.record.length, after.record.length])
        // A certificate of an era that never began.
        var liar = Desk(longer, certificate: longer.certificate(by: 0, 1))
        liar.add(3, longer, by: 0, 1)
        var claim = longer.certificate(by: 1).claim
        claim.era = 5
        liar.peers[Small.peer(4)] = JobReading(
            liar.peers[Small.peer(3)]!.record, Certificate([Ack(claim, by: Carried.key(1))]), lease: .zero, term: 1)
        liar.run(60)
        #expect(try #require(liar.founded).count == longer.record.length + 1)
    }

    /// Whoever decides alone takes all that is stored for committed: what was not signed for yet is cut off all the same.
    @Test func `of one elector is kept as far as it is certified`() throws {
        var alone = try Carried(entries: 3).refounded()
        let certified = alone.record.length
        let proof = alone.certificate(by: 0)
        for number in 4..<6 { try alone.append(.members(MembersChange(round: number)), term: Era.firstTerm(of: 1)) }
        let kept = try #require(KeptLog(alone.record.envelopes, proof, parse: Carried.parse))
        #expect(kept.record.length == certified && kept.record.committed == certified)
        // Where some of it is lost nothing proves the rest.
        #expect(KeptLog(Array(alone.record.envelopes.prefix(certified - 1)), proof, parse: Carried.parse) == nil)
    }

    @Test func `is refused while somebody leads, without the root key, and where nobody has the log`() throws {
        let log = try Carried(entries: 2)
        var led = Desk(log, certificate: log.certificate(by: 0, 1))
        led.add(3, log, by: 0, 1, lease: .seconds(15), term: 4)
        led.run(70)
        #expect(led.founded == nil && led.stored.isEmpty)
        #expect(led.failure?.contains("has a leader, of term 4") == true, "\(led.failure ?? "")")
        var stranger = Desk(key: Small.key(50))
        stranger.add(3, log, by: 0, 1)
        stranger.run(70)
        #expect(stranger.founded == nil && stranger.failure?.contains("nobody who has the log") == true)
        // It has the log, and not the key.
        var thief = Desk(log, key: Small.key(50), certificate: log.certificate(by: 0, 1))
        thief.add(3, log, by: 0, 1)
        thief.run(70)
        #expect(thief.founded == nil && thief.stored.isEmpty, "\(thief.failure ?? "")")
    }
}

extension Packet {
    /// As a channel carries it.
    fileprivate var bytes: [UInt8] {
        let framed = self.framed
        return framed.header + framed.payload
    }
}
