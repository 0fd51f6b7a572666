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

@Suite struct `Offers` {
    static let parse: Record.Parser = { (text) throws(MalformedBytes) in
        guard text.hasPrefix("good") else { throw MalformedBytes("the manifest is unreadable") }
        return Small.parameters()
    }

    /// A member whose owner accepts the launcher, its speed measured.
    private func member(accepting launchers: [PeerID] = [Small.launcher.peerID], memory: ByteCount = .mebibytes(64))
        -> Member
    {
        var member = Member(
            key: Small.key(1), terms: MemberTerms(name: "laptop", device: "", memory: memory, accepts: launchers),
            wall: WallClock(secondsAtZero: 1_000_000), at: .zero, parse: Self.parse)
        measure(&member)
        return member
    }
    /// Until its speed is known.
    @discardableResult
    private func measure(_ member: inout Member) -> [Happening] {
        var now = Instant.zero
        var said: [Happening] = []
        while let effect = member.poll() {
            switch effect {
            case .compute:
                now += .milliseconds(200)
                member.computed(.done, at: now)
            case .event(let event): said.append(event.what)
            default: break
            }
        }
        return said
    }
    private func genesis(
        _ manifest: String = "good", by key: SigningKey = Small.launcher, electors: [PeerID]? = nil,
        numerics: String = Record.numerics, bytes: Int = 1000, nonce: UInt8 = 1
    ) -> PBEnvelope {
        let genesis = Genesis(
            manifest: manifest, electors: electors ?? [key.peerID], numerics: numerics, content: sha256([1]),
            contentBytes: bytes, nonce: [UInt8](repeating: nonce, count: 32), lease: .seconds(15),
            silence: .seconds(5))
        return Record.sign(genesis, by: key)
    }
    private func id(_ genesis: PBEnvelope) throws -> Digest256 { try Record(genesis: genesis, parse: Self.parse).job }

    /// - Returns: the answer, and what was said beside it.
    private func answer(
        of member: inout Member, to genesis: PBEnvelope, from peer: PeerID = Small.launcher.peerID, term: Int = 1,
        at now: Instant = .zero + .seconds(1)
    ) throws -> (refusal: String?, others: [Message], events: [Happening]) {
        member.receive(Packet(term: term, .offer(Offer(genesis: genesis))), from: peer, endpoint: nil, at: now)
        var found: OfferAnswer?
        var others: [Message] = []
        var events: [Happening] = []
        while let effect = member.poll() {
            switch effect {
            case .send(let packet, let to):
                #expect(to == peer)
                if case .offerAnswer(let answer) = packet.message {
                    found = answer
                } else {
                    others.append(packet.message)
                }
            case .event(let event): events.append(event.what)
            default: break
            }
        }
        return (try #require(found).refusal, others, events)
    }
    private func hear(
        _ message: Message, _ member: inout Member, job: Digest256, term: Int = 1,
        from peer: PeerID = Small.launcher.peerID, at now: Instant
    ) -> [Happening] {
        member.receive(Packet(job: job, term: term, message), from: peer, endpoint: nil, at: now)
        return events(&member)
    }
    /// A node: it says at once that it computes nothing, has no use for a job that only its launcher carries, and is ready where the text is.
    @Test func `come to a member that computes nothing where several carry the record`() throws {
        var terms = MemberTerms(
            name: "lighthouse", device: "node", memory: .mebibytes(1), accepts: [Small.launcher.peerID])
        terms.computes = false
        func node(_ parse: @escaping Record.Parser) -> Member {
            Member(
                key: Small.key(1), terms: terms, wall: WallClock(secondsAtZero: 1_000_000), at: .zero, parse: parse)
        }
        var alone = node(Self.parse)
        #expect(alone.poll() == nil)
        alone.receive(Packet(.capabilityRequest), from: Small.launcher.peerID, endpoint: nil, at: .zero)
        guard case .send(let packet, _)? = alone.poll(), case .capability(let said) = packet.message else {
            Issue.record("it says nothing")
            return
        }
        #expect(said.flops == 0 && !said.computes && said.memory == .mebibytes(1))
        let why = try #require(try answer(of: &alone, to: genesis()).refusal)
        #expect(why == "lighthouse computes nothing, and only its launcher carries this job's record")

        var carried = node { (text) throws(MalformedBytes) in
            var out = try Self.parse(text)
            out.electors = 3
            return out
        }
        #expect(
            try #require(try answer(of: &carried, to: genesis(bytes: 2 << 20)).refusal).contains(
                "offers \(ByteCount.mebibytes(1))"))
        #expect(try answer(of: &carried, to: genesis()).refusal == nil)
        #expect(carried.isWorking)
    }

    @Test func `of a text that the disk has no room for are declined, with how much and where`() throws {
        var member = member()
        member.count(room: DiskRoom(free: .mebibytes(2), place: "/data/laptop"))
        let why = try #require(try answer(of: &member, to: genesis(bytes: 3 << 20)).refusal)
        #expect(why.contains("3.0 MiB") && why.contains("2.0 MiB") && why.contains("/data/laptop"), "\(why)")
        // Somebody made room.
        member.count(room: DiskRoom(free: .mebibytes(4), place: "/data/laptop"))
        #expect(try answer(of: &member, to: genesis(bytes: 3 << 20), at: .zero + .seconds(2)).refusal == nil)
    }

    private func events(_ member: inout Member) -> [Happening] {
        var out: [Happening] = []
        while let effect = member.poll() { if case .event(let event) = effect { out.append(event.what) } }
        return out
    }

    @Test func `of an accepted launcher are taken`() throws {
        var member = member()
        let answer = try answer(of: &member, to: genesis())
        #expect(answer.refusal == nil)
        #expect(member.isWorking)
        #expect(member.jobID == (try id(genesis())))
        #expect(member.jobName == "small")
        #expect(member.leader == Small.launcher.peerID)
        #expect(member.activity == .fetchingText(have: 0, of: 0))
        #expect(answer.others.contains(.indexRequest(content: sha256([1]), first: 0)))
        #expect(answer.others.contains(.readiness(.fetchingText)))
    }

    @Test func `of a launcher that the owner did not accept are declined`() throws {
        var member = member(accepting: [Small.peer(9)])
        let why = try #require(try answer(of: &member, to: genesis()).refusal)
        #expect(why.contains(Small.launcher.peerID.short))
        #expect(why.contains("laptop"))
        #expect(!member.isWorking)
        #expect(member.jobID == nil)
    }

    @Test func `that another peer passes on are declined`() throws {
        var member = member()
        #expect(try answer(of: &member, to: genesis(), from: Small.peer(9)).refusal != nil)
        #expect(!member.isWorking)
    }

    @Test func `of another elector of an accepted launcher's job are taken`() throws {
        var member = member()
        let genesis = genesis(electors: [Small.launcher.peerID, Small.peer(9)])
        #expect(try answer(of: &member, to: genesis, from: Small.peer(9), term: 4).refusal == nil)
        #expect(member.leader == Small.peer(9))
        // It leads by its newer term.
        #expect(try answer(of: &member, to: genesis, term: 3).refusal != nil)
        #expect(try answer(of: &member, to: genesis, term: 5).refusal == nil)
        #expect(member.leader == Small.launcher.peerID)
    }

    @Test func `with other numerics are declined, and the answer names both`() throws {
        var member = member()
        let why = try #require(try answer(of: &member, to: genesis(numerics: "atoll-99")).refusal)
        #expect(why.contains("atoll-99"))
        #expect(why.contains(Record.numerics))
        #expect(!member.isWorking)
    }

    @Test func `with a broken signature or an unreadable manifest are declined`() throws {
        var member = member()
        var broken = genesis()
        broken.sequence += 1
        #expect(try answer(of: &member, to: broken).refusal != nil)
        let unreadable = try #require(try answer(of: &member, to: genesis("name: [1")).refusal)
        #expect(unreadable.contains("manifest"))
        #expect(!member.isWorking)
    }

    @Test func `whose text is larger than the memory offered are declined`() throws {
        var member = member(memory: ByteCount(999))
        let why = try #require(try answer(of: &member, to: genesis()).refusal)
        #expect(why.contains("text"))
        #expect(why.contains("laptop"))
    }

    @Test func `of a second job are declined while the first one runs`() throws {
        var member = member(accepting: [Small.launcher.peerID, Small.peer(9)])
        #expect(try answer(of: &member, to: genesis()).refusal == nil)
        let second = try answer(of: &member, to: genesis(by: Small.key(9)), from: Small.peer(9))
        #expect(try #require(second.refusal).contains("works for job"))
    }

    /// Its launcher was started anew, and began another job: nobody leads the first one any more.
    @Test func `of a second job are taken at once from whoever leads the first one alone`() throws {
        var member = member()
        let (first, second) = (genesis(nonce: 1), genesis(nonce: 2))
        #expect(try answer(of: &member, to: first).refusal == nil)
        let taken = try answer(of: &member, to: second)
        #expect(taken.refusal == nil)
        #expect(member.jobID == (try id(second)))
    }

    @Test func `of the same job are taken again, and what the leader may have missed is said again`() throws {
        var member = member()
        #expect(try answer(of: &member, to: genesis()).refusal == nil)
        let again = try answer(of: &member, to: genesis())
        #expect(again.refusal == nil)
        #expect(again.others == [.readiness(.fetchingText)])
        #expect(again.events == [])
    }

    @Test func `of another job are taken when the leader of the first is silent beyond its lease`() throws {
        var member = member(accepting: [Small.launcher.peerID, Small.peer(9)])
        let (first, second) = (genesis(), genesis(by: Small.key(9)))
        #expect(try answer(of: &member, to: first).refusal == nil)
        member.wake(at: .zero + .seconds(16))
        #expect(!member.isWorking)
        #expect(member.jobID == (try id(first)))
        _ = events(&member)
        let taken = try answer(of: &member, to: second, from: Small.peer(9), at: .zero + .seconds(17))
        #expect(taken.refusal == nil)
        #expect(member.jobID == (try id(second)))
        #expect(taken.events.contains { if case .jobReleased = $0 { true } else { false } })
        // The first leader comes back too late.
        let lease = Lease(duration: .seconds(15), logLength: 1)
        _ = hear(.lease(lease), &member, job: try id(first), at: .zero + .seconds(18))
        #expect(member.jobID == (try id(second)))
        #expect(try answer(of: &member, to: first, at: .zero + .seconds(19)).refusal != nil)
    }

    @Test func `pause when the lease runs out, and last as long as the leader prolongs it`() throws {
        var member = member()
        let job = try id(genesis())
        _ = try answer(of: &member, to: genesis())
        member.wake(at: .zero + .milliseconds(15_999))
        #expect(member.isWorking)
        let lease = Message.lease(Lease(duration: .seconds(20), logLength: 1))
        // Only the leader prolongs it, and only of this job and its term.
        let almost = Instant.zero + .milliseconds(15_999)
        #expect(hear(lease, &member, job: job, from: Small.peer(9), at: almost) == [.notEntitled(message: "lease")])
        #expect(hear(lease, &member, job: job, term: 0, at: almost) == [.staleCommand(term: 0)])
        #expect(hear(lease, &member, job: sha256([9]), at: almost) == [])
        var other = member
        other.wake(at: .zero + .seconds(16))
        #expect(!other.isWorking)
        #expect(events(&other).contains { if case .workPaused = $0 { true } else { false } })
        // It comes back in time: everything is still here.
        #expect(hear(lease, &other, job: job, at: .zero + .seconds(300)) == [.rejoined])
        #expect(other.isWorking)
        #expect(hear(lease, &member, job: job, at: almost) == [])
        member.wake(at: .zero + .seconds(16))
        #expect(member.isWorking)
    }

    /// The launcher was stopped, and means to go on: no work, everything kept, and another job may have this member at once.
    @Test func `pause at a lease of nothing`() throws {
        var member = member()
        let job = try id(genesis())
        _ = try answer(of: &member, to: genesis())
        let nothing = Message.lease(Lease(duration: .zero, logLength: 1))
        for second in 1...3 {
            let said = hear(nothing, &member, job: job, at: .zero + .seconds(Int64(second)))
            #expect(said == (second == 1 ? [.workPaused(why: "its launcher has stopped for now")] : []))
            #expect(!member.isWorking && member.jobID == job)
        }
        // Its owner reads that it was stopped, and when; of a launcher that fell silent, how long nothing was heard of it.
        #expect(member.silence?.since == .zero + .seconds(1) && member.silence?.isStopped == true)
        var deserted = self.member()
        _ = try answer(of: &deserted, to: genesis())
        deserted.wake(at: .zero + .seconds(100))
        #expect(deserted.silence?.isStopped == false && deserted.silence?.since == .zero + .seconds(85))
        var other = member
        #expect(try answer(of: &other, to: genesis(nonce: 9)).refusal == nil)
        #expect(other.jobID != job)
        let lease = Message.lease(Lease(duration: .seconds(15), logLength: 1))
        #expect(hear(lease, &member, job: job, at: .zero + .seconds(300)) == [.rejoined])
        #expect(member.isWorking)
    }

    /// What it sends, and what it says of itself.
    private func effects(_ member: inout Member) -> (sent: [(Message, PeerID)], events: [Happening]) {
        var sent: [(Message, PeerID)] = []
        var events: [Happening] = []
        while let effect = member.poll() {
            switch effect {
            case .send(let packet, let peer): sent.append((packet.message, peer))
            case .event(let event): events.append(event.what)
            default: break
            }
        }
        return (sent, events)
    }

    @Test func `are declined while the owner's pause may still be a short one, and taken while a limit's may`() throws {
        var member = member()
        let now = Instant.zero + .seconds(2)
        member.heedOwner(.hold(.owner), at: now)
        #expect(try answer(of: &member, to: genesis(), at: now).refusal == "its owner has paused it")
        member.heedOwner(.work, at: now)
        // Who asked hears that it is over; it was never away.
        let told = effects(&member)
        #expect(told.sent.map(\.1) == [Small.launcher.peerID] && !told.events.contains(.ownerResumed))
        member.heedOwner(.hold(.limit), at: now)
        #expect(try answer(of: &member, to: genesis(), at: now).refusal == nil)
        // In a job it stays, whoever has it held.
        member.heedOwner(.hold(.owner), at: now)
        #expect(member.jobID != nil && !member.isPausedByOwner)
    }

    @Test func `are declined while the owner has paused it, and whoever made them hears when that is over`() throws {
        var member = member()
        let now = Instant.zero + .seconds(2)
        #expect(try answer(of: &member, to: genesis()).refusal == nil)
        member.pauseByOwner(at: now)
        let (sent, events) = effects(&member)
        #expect(sent.map(\.0) == [.farewell(reason: "its owner has paused it")])
        #expect(sent.map(\.1) == [Small.launcher.peerID])
        #expect(events.first == .ownerPaused && events.count == 2)
        #expect(member.isPausedByOwner && member.position == nil && member.jobID == nil)
        // Once more changes nothing.
        member.pauseByOwner(at: now)
        #expect(effects(&member).events.isEmpty)
        #expect(try answer(of: &member, to: genesis(), at: now).refusal == "its owner has paused it")
        // Another job, of another launcher: it waits, too.
        let other = Small.key(7)
        var both = self.member(accepting: [Small.launcher.peerID, other.peerID])
        both.pauseByOwner(at: now)
        for key in [Small.launcher, other, Small.launcher] {
            #expect(try answer(of: &both, to: genesis(by: key), from: key.peerID, at: now).refusal != nil)
        }
        both.resumeByOwner(at: now)
        let told = effects(&both)
        #expect(told.sent.map(\.1) == [Small.launcher.peerID, other.peerID])
        #expect(told.sent.allSatisfy { if case .capability = $0.0 { true } else { false } })
        #expect(told.events == [.ownerResumed])
        #expect(try answer(of: &both, to: genesis(), at: now).refusal == nil)
        member.resumeByOwner(at: now)
        #expect(effects(&member).sent.map(\.1) == [Small.launcher.peerID])
        #expect(try answer(of: &member, to: genesis(), at: now).refusal == nil)
    }

    @Test func `are over some time after the lease`() throws {
        var member = member()
        _ = try answer(of: &member, to: genesis())
        member.wake(at: .zero + .seconds(16))
        member.wake(at: .zero + .seconds(15) + MemberJob.keep)
        #expect(member.jobID != nil)
        _ = events(&member)
        member.wake(at: .zero + .seconds(16) + MemberJob.keep)
        #expect(member.jobID == nil)
        var isErased = false
        while let effect = member.poll() { if case .store(.erase) = effect { isErased = true } }
        #expect(isErased)
    }

    /// A machine sleeps over the end of a job: its leader is gone, and others of the job know.
    @Test func `end where a colleague has the log's last entry, though the leader is silent`() throws {
        var member = member()
        _ = try answer(of: &member, to: genesis())
        var script = try Record(genesis: genesis(), parse: Self.parse)
        func append(_ entry: Entry) throws { _ = try script.propose(entry, term: 1, by: Small.launcher) }
        try append(
            .members(
                MembersChange(
                    joined: [1, 2].map {
                        MembersChange.Joined(
                            peer: Small.peer($0), endpoint: Small.endpoint($0), name: "peer-\($0)", device: "",
                            memory: .mebibytes(64),
                            flops: 1e9)
                    }, round: 0)))
        _ = hear(
            .logEntries(LogEntries(Array(script.envelopes[1...]), length: 2)), &member, job: script.job,
            at: .zero + .seconds(2))
        var asked: [(Instant, PeerID)] = []
        for second in 3..<40 {
            let now = Instant.zero + .seconds(second)
            member.wake(at: now)
            while let effect = member.poll() {
                if case .send(let packet, let peer) = effect, case .readRequest(2) = packet.message {
                    asked.append((now, peer))
                }
            }
        }
        // Not while its leader is heard, then every five seconds, and never an elector.
        #expect(
            asked.count >= 3 && asked.allSatisfy { $0.1 == Small.peer(2) && $0.0 >= .zero + .seconds(16) }, "\(asked)")
        // What comes along with a colleague's answer makes nobody its leader.
        let before = script.length
        try append(.finish(Finish(reason: Finish.done)))
        let said = hear(
            .lease(Lease(duration: .zero, logLength: 3)), &member, job: script.job, from: Small.peer(2),
            at: .zero + .seconds(40))
        #expect(said.isEmpty && member.leader == Small.launcher.peerID)
        _ = hear(
            .logEntries(LogEntries(Array(script.envelopes[before...]), length: 3)), &member, job: script.job,
            from: Small.peer(2), at: .zero + .seconds(40))
        #expect(member.jobID == nil)
        // It takes another job at once.
        #expect(try answer(of: &member, to: genesis(nonce: 2), at: .zero + .seconds(41)).refusal == nil)
    }

    @Test func `end with a dismissal, for good or until they are made again`() throws {
        for kind in [Dismissal.Kind.jobEnded, .jobFailed, .removed] {
            var member = member()
            let job = try id(genesis())
            _ = try answer(of: &member, to: genesis())
            _ = events(&member)
            member.receive(
                Packet(job: job, term: 1, .dismissal(Dismissal(kind, reason: "so be it"))),
                from: Small.launcher.peerID, endpoint: nil, at: .zero + .seconds(2))
            var said: [Happening] = []
            var isErased = false
            while let effect = member.poll() {
                if case .event(let event) = effect { said.append(event.what) }
                if case .store(.erase) = effect { isErased = true }
            }
            #expect(said == [.jobReleased(job: job.short, why: "so be it")])
            #expect(isErased == (kind != .removed))
            #expect(!member.isWorking)
            #expect(member.jobID == nil && member.activity == .idle)
            // A command does not bring it back, an offer does.
            let lease = Message.lease(Lease(duration: .seconds(15), logLength: 1))
            _ = hear(lease, &member, job: job, at: .zero + .seconds(3))
            #expect(!member.isWorking)
            let again = try answer(of: &member, to: genesis(), at: .zero + .seconds(4))
            #expect(again.refusal == nil)
            #expect(member.isWorking)
        }
    }

    @Test func `come with answers about what a peer can do once that is measured`() throws {
        var member = Member(
            key: Small.key(1),
            terms: MemberTerms(name: "laptop", device: "cpu", memory: .mebibytes(64), accepts: [Small.peer(7)]),
            wall: WallClock(secondsAtZero: 0), at: .zero, parse: Self.parse)
        member.receive(Packet(.capabilityRequest), from: Small.peer(9), endpoint: nil, at: .zero)
        var now = Instant.zero
        var answers: [Capability] = []
        var flops: [Double] = []
        while let effect = member.poll() {
            switch effect {
            case .compute(.benchmark(let work)):
                flops.append(work)
                now += .nanoseconds(Int64(work))
                member.computed(.done, at: now)
            case .send(let packet, Small.peer(9)):
                if case .capability(let capability) = packet.message { answers.append(capability) }
            default: break
            }
        }
        // 1 GFLOP/s: the first measurement lasts long enough.
        #expect(flops == [Benchmark.flops / 8, Benchmark.flops])
        #expect(answers.count == 1)
        #expect(abs(answers[0].flops - 1e9) < 1e3)
        #expect(answers[0].accepts == [Small.peer(7)])
        #expect(answers[0].job == "")
    }
}
