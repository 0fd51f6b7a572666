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

/// Who may say what to a member: strangers, who has left, members of other pipelines, another stage, another unit.
@Suite struct `What others may say to a member` {
    private func working() throws -> Village {
        let village = try Village(Small.parameters(tokens: 4000), seed: 2)
        try #require(try village.gather([1, 2, 3, 4]))
        try village.plan(Small.plan([[1, 2], [3]], innerSteps: 2))
        try #require(try village.train(until: 1))
        try village.leader.leave(4)
        try #require(
            try village.run(until: { village in
                guard let job = village.member(1).job, let held = job.holding.glance else { return false }
                return !job.record.state.isPresent(Small.peer(4)) && held.hasBegun && held.round > 0
            }))
        return village
    }
    /// What the member does when it hears this.
    private func reaction(
        of member: Member, to message: Message, from peer: PeerID, job: Digest256, term: Int = 1, at now: Instant
    ) -> (said: [Happening], sent: [Message]) {
        var member = member
        while member.poll() != nil {}
        member.receive(Packet(job: job, term: term, message), from: peer, endpoint: nil, at: now)
        var out: (said: [Happening], sent: [Message]) = ([], [])
        while let effect = member.poll() {
            switch effect {
            case .event(let event): out.said.append(event.what)
            case .send(let packet, _): out.sent.append(packet.message)
            default: break
            }
        }
        return out
    }
    private func work(_ village: Village) -> WorkKey {
        let round = village.member(1).job!.holding.work!.round
        return WorkKey(round: round, rank: 0, attempt: 0)
    }

    @Test func `nothing from strangers and from who has left`() throws {
        let village = try working()
        let (job, now, key) = (village.leader.record.job, village.now, work(village))
        let content = village.leader.record.genesis.content
        let messages: [Message] = [
            .activation(
                Activation(
                    work: key, part: .microBatch(step: 0, virtualPipeline: 0, index: 0, isGradient: true), payload: []),
                payload: []),
            .norms(Norms(work: key, step: 0, stage: 1, sumSquares: [1])),
            .exchangePart(
                ExchangePart(
                    work: key, group: GroupStamp(round: key.round, epoch: 1, version: 0), purpose: .contribution,
                    chunks: [])),
            .stateRequest(StateRequest(round: key.round, units: [0], moments: true)),
            .indexRequest(content: content, first: 0),
            .logEntries(LogEntries([], length: 9)),
            .lease(Lease(duration: .seconds(9), logLength: 1)),
            .group(GroupTerms(round: key.round, epoch: 1, version: 7, ranks: [0], way: .allGather)),
            .dismissal(Dismissal(.jobEnded, reason: "go")),
            .probeOrder(ProbeOrder(turn: 1, pings: [], bursts: [], senders: [], reportAfter: .seconds(1))),
            .probeBurst(ProbeBurst(turn: 1, part: 0, parts: 2, bytes: 9)),
        ]
        for message in messages {
            for peer in [Small.peer(4), Small.peer(9)] {
                let reaction = reaction(of: village.member(1), to: message, from: peer, job: job, at: now)
                #expect(reaction.said == [.notEntitled(message: message.kind)], "\(message.kind)")
                #expect(reaction.sent == [], "\(message.kind)")
            }
        }
        // Whoever is not in the log yet shall not wait: it is told that the chunk is not here.
        let asked = reaction(
            of: village.member(1), to: .chunkRequest(content: content, chunk: 0), from: Small.peer(9), job: job, at: now
        )
        #expect(asked.sent == [.chunkMissing(content: content, chunk: 0)])
        // Of another job it hears nothing.
        for message in messages {
            let reaction = reaction(of: village.member(1), to: message, from: Small.peer(9), job: sha256([3]), at: now)
            #expect(reaction.said.isEmpty && reaction.sent.isEmpty)
        }
    }

    @Test func `commands of members are not obeyed`() throws {
        let village = try working()
        let job = village.leader.record.job
        for message in [
            Message.lease(Lease(duration: .seconds(9), logLength: 1)), .dismissal(Dismissal(.removed, reason: "go")),
            .group(GroupTerms(round: work(village).round, epoch: 1, version: 7, ranks: [0], way: .allGather)),
        ] {
            let reaction = reaction(
                of: village.member(1), to: message, from: Small.peer(2), job: job, term: 9, at: village.now)
            #expect(reaction.said == [.notEntitled(message: message.kind)])
        }
    }

    @Test func `work of a stage only from that stage`() throws {
        let village = try working()
        let (job, now, key) = (village.leader.record.job, village.now, work(village))
        let step = village.member(1).job!.holding.work!.step ?? 0
        func gradient(_ virtualPipeline: Int, forward: Bool = false) -> Message {
            let part = Activation.Part.microBatch(
                step: step, virtualPipeline: virtualPipeline, index: 0, isGradient: !forward)
            return .activation(Activation(work: key, part: part, payload: [1]), payload: [1])
        }
        // Of pipeline 0, member 1 is the first stage, 2 the second; 3 is another pipeline.
        #expect(
            reaction(of: village.member(1), to: gradient(0), from: Small.peer(3), job: job, at: now).said == [
                .notEntitled(message: "activation")
            ])
        #expect(
            reaction(of: village.member(1), to: gradient(0, forward: true), from: Small.peer(2), job: job, at: now).said
                == [.notEntitled(message: "activation")])
        #expect(reaction(of: village.member(1), to: gradient(0), from: Small.peer(2), job: job, at: now).said == [])
        let norms = Message.norms(Norms(work: key, step: step, stage: 1, sumSquares: [1]))
        #expect(
            reaction(of: village.member(1), to: norms, from: Small.peer(3), job: job, at: now).said == [
                .notEntitled(message: "norms")
            ])
        #expect(reaction(of: village.member(1), to: norms, from: Small.peer(2), job: job, at: now).said == [])
        // A payload that is not what was sent.
        let part = Activation.Part.microBatch(step: step, virtualPipeline: 0, index: 0, isGradient: true)
        let corrupt = Message.activation(Activation(work: key, part: part, payload: [1]), payload: [2])
        #expect(
            reaction(of: village.member(1), to: corrupt, from: Small.peer(2), job: job, at: now).said == [
                .payloadCorrupt
            ])
    }

    @Test func `parts of an exchange only from who holds the unit`() throws {
        let village = try working()
        let (job, now) = (village.leader.record.job, village.now)
        let round = work(village).round
        func part(_ rank: Int, _ unit: Int) -> Message {
            .exchangePart(
                ExchangePart(
                    work: WorkKey(round: round, rank: rank, attempt: 0),
                    group: GroupStamp(round: round, epoch: 1, version: 0), purpose: .contribution,
                    chunks: [ExchangePart.Chunk(unit: unit, chunk: 0, bytes: [1])]))
        }
        // 2 holds units 2 and 3 of pipeline 0, 3 holds all of pipeline 1.
        #expect(reaction(of: village.member(3), to: part(0, 2), from: Small.peer(2), job: job, at: now).said == [])
        #expect(
            reaction(of: village.member(3), to: part(0, 0), from: Small.peer(2), job: job, at: now).said == [
                .notEntitled(message: "exchangePart")
            ])
        #expect(
            reaction(of: village.member(3), to: part(0, 0), from: Small.peer(3), job: job, at: now).said == [
                .notEntitled(message: "exchangePart")
            ])
        #expect(
            reaction(of: village.member(1), to: part(1, 0), from: Small.peer(2), job: job, at: now).said == [
                .notEntitled(message: "exchangePart")
            ])
        #expect(reaction(of: village.member(1), to: part(1, 0), from: Small.peer(3), job: job, at: now).said == [])
    }

    @Test func `one complaint in ten seconds is said, all are counted`() throws {
        let village = try working()
        var member = village.member(1)
        let before = member.job!.refused.notEntitled.count
        var said = 0
        for index in 0..<1000 {
            let now = village.now + .milliseconds(Int64(15 * index))
            member.receive(
                Packet(
                    job: village.leader.record.job, term: 1,
                    .norms(Norms(work: work(village), step: 0, stage: 1, sumSquares: []))),
                from: Small.peer(9), endpoint: nil, at: now)
            while let effect = member.poll() {
                if case .event(let event) = effect, case .notEntitled = event.what { said += 1 }
            }
        }
        #expect(member.job!.refused.notEntitled.count == before + 1000)
        #expect(said == 2)
    }

    /// Everything a member can hear, with absurd numbers, from every kind of sender: it never traps, and stays what it is.
    @Test func `absurd numbers do nothing`() throws {
        let village = try working()
        let job = village.leader.record.job
        let numbers = [0, 1, 4095, 1 << 20, (1 << 31) - 1]
        var member = village.member(1)
        while member.poll() != nil {}
        for a in numbers {
            for b in numbers {
                let key = WorkKey(round: a, rank: min(b, 4095), attempt: a)
                let stamp = GroupStamp(round: a, epoch: b, version: a)
                let messages: [Message] = [
                    .activation(Activation(work: key, part: .windows(a..<a + 1), payload: []), payload: []),
                    .activation(
                        Activation(
                            work: key,
                            part: .microBatch(
                                step: b, virtualPipeline: min(a, 65_535), index: min(b, 65_535), isGradient: true),
                            payload: []), payload: []),
                    .norms(Norms(work: key, step: b, stage: min(a, 65_535), sumSquares: [.nan])),
                    .exchangePart(
                        ExchangePart(
                            work: key, group: stamp, purpose: .aggregate,
                            chunks: [ExchangePart.Chunk(unit: min(a, 65_535), chunk: min(b, 1_048_575), bytes: [1])])),
                    .exchangePart(
                        ExchangePart(
                            work: key, group: stamp, purpose: .audit,
                            chunks: [ExchangePart.Chunk(unit: min(a, 65_535), chunk: min(b, 1_048_575), bytes: [1])])),
                    .stateRequest(StateRequest(round: a, units: [min(b, 65_535)], moments: true)),
                    .stateOffer(StateOffer(round: a, parts: [])),
                    .indexRequest(content: village.leader.record.genesis.content, first: min(a, 262_143)),
                    .chunkRequest(content: village.leader.record.genesis.content, chunk: min(b, 262_143)),
                    .group(
                        GroupTerms(
                            round: a, epoch: b, version: a, ranks: [min(b, 4095)], way: .reduceScatter, barred: [0])),
                    .auditOrder(
                        AuditOrder(group: stamp, unit: min(a, 65_535), chunk: min(b, 1_048_575), auditors: [0, 1])),
                    .lease(Lease(duration: .milliseconds(Int64(min(a, 86_399_999))), logLength: b)),
                    .logEntries(LogEntries([], length: a)),
                ]
                for message in messages {
                    for sender in [2, 3, 9, 250] {
                        member.receive(
                            Packet(job: job, term: 1, message), from: Small.peer(sender), endpoint: nil, at: village.now
                        )
                        while member.poll() != nil {}
                    }
                }
            }
        }
        #expect(member.jobID == job)
    }
}
