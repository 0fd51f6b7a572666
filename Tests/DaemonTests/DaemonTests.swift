import Coordination
import Daemon
import Digests
import Exchange
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Wire

@Suite struct `What a daemon serves` {
    private func none() throws -> Bench { try Bench { _ in DaemonCore.Services() } }
    private func member(accepts: [PeerID] = [Small.launcher.peerID]) throws -> Bench {
        try Bench(Small.key(100)) {
            DaemonCore.Services(member: Bench.member(Small.key(100), accepts: accepts, at: $0))
        }
    }
    private func coordinator() throws -> Bench {
        try Bench(Small.launcher) { DaemonCore.Services(coordinator: try Bench.coordinator(Small.launcher, at: $0)) }
    }
    /// Its owner works for itself, too.
    private func both() throws -> Bench {
        try Bench(Small.launcher) {
            DaemonCore.Services(
                member: Bench.member(Small.launcher, accepts: [Small.launcher.peerID], at: $0),
                coordinator: try Bench.coordinator(Small.launcher, at: $0))
        }
    }
    private func capability(_ name: String) -> Capability {
        Capability(name: name, device: "cpu", memory: .mebibytes(64), flops: 1e9, numerics: Record.numerics)
    }

    /// A peer that connects, accepts, and says for six seconds that it is there.
    @discardableResult
    private func join(_ number: Int, _ bench: inout Bench) throws -> Digest256 {
        bench.connect(number)
        bench.say(number, Packet(.capability(capability("one"))))
        let job = try #require(bench.daemon.coordinator?.job)
        bench.say(number, Packet(job: job, term: 1, .offerAnswer(OfferAnswer(refusal: nil))))
        for _ in 0..<6 {
            bench.pass(.seconds(1))
            bench.say(number, Packet(job: job, .heartbeat(Heartbeat())))
        }
        return job
    }

    @Test func `pings are answered, whatever it serves`() throws {
        for var bench in [try none(), try member(), try coordinator(), try both()] {
            bench.connect(1)
            #expect(bench.isConnected(1))
            bench.say(1, Packet(job: sha256([4]), .ping(77)))
            let pongs = bench.heard(1, "pong")
            #expect(pongs == [Packet(job: sha256([4]), .pong(77))])
        }
    }

    @Test func `a member says what it can do when it knows, and a node says nothing`() throws {
        var node = try none()
        node.connect(1)
        node.say(1, Packet(.capabilityRequest))
        node.compute()
        #expect(node.heard(1, "capability").isEmpty)
        var bench = try member()
        bench.connect(1)
        bench.connect(2)
        for _ in 0..<3 { bench.say(1, Packet(.capabilityRequest)) }
        #expect(bench.heard(1, "capability").isEmpty)
        bench.compute()
        #expect(bench.heard(1, "capability").count == 1)
        bench.say(2, Packet(.capabilityRequest))
        guard case .capability(let said)? = bench.heard(2, "capability").first?.message else {
            Issue.record("nothing said")
            return
        }
        #expect(said.name == "bench" && said.flops > 0)
    }

    @Test func `a coordinator asks whoever connects, and offers to who can`() throws {
        var bench = try coordinator()
        let job = try #require(bench.daemon.coordinator?.job)
        bench.connect(1)
        #expect(bench.heard(1, "capabilityRequest").count == 1)
        bench.say(1, Packet(.capability(capability("one"))))
        #expect(bench.heard(1, "offer").map(\.job) == [job])
        // Commands are for members, and there is none here: another's leader says nothing to it.
        bench.say(1, Packet(job: job, term: 9, .dismissal(Dismissal(.jobEnded, reason: "no"))))
        #expect(bench.end == nil)
        #expect(bench.daemon.coordinator?.roster[Small.peer(1)]?.standing == .met)
        bench.say(1, Packet(job: job, term: 1, .offerAnswer(OfferAnswer(refusal: nil))))
        #expect(bench.daemon.coordinator?.roster[Small.peer(1)]?.standing == .accepted)
        #expect(bench.stored.allSatisfy { $0.service == .coordinator })
    }

    @Test func `a member takes an accepted launcher's offer and nobody else's`() throws {
        let coordinator = try Bench.coordinator(Small.launcher, at: .zero)
        let genesis = Offer(genesis: coordinator.record.envelopes[0])
        var bench = try member()
        bench.compute()
        bench.connect(1)
        bench.say(1, Packet(job: coordinator.job, term: 1, .offer(genesis)))
        guard case .offerAnswer(let refused)? = bench.heard(1, "offerAnswer").first?.message else {
            Issue.record("no answer")
            return
        }
        #expect(refused.refusal != nil && bench.daemon.member?.jobID == nil)
        // A report is for coordinators: it moves nothing here.
        bench.say(1, Packet(job: coordinator.job, term: 1, .farewell(reason: "I go")))
        #expect(bench.daemon.member?.jobID == nil)
        bench.connect(250)
        bench.say(250, Packet(job: coordinator.job, term: 1, .offer(genesis)))
        guard case .offerAnswer(let taken)? = bench.heard(250, "offerAnswer").first?.message else {
            Issue.record("no answer")
            return
        }
        #expect(taken.refusal == nil && bench.daemon.member?.jobID == coordinator.job)
        #expect(bench.stored.contains { $0.service == .member })
        // It asks its launcher for the text.
        #expect(bench.heard(250, "indexRequest").count == 1)
    }

    @Test func `what two services of one daemon say to each other does not leave it`() throws {
        var bench = try both()
        #expect(bench.daemon.coordinator?.roster[Small.launcher.peerID]?.standing == .met)
        bench.compute()
        for _ in 0..<6 { bench.pass(.seconds(1)) }
        let coordinator = try #require(bench.daemon.coordinator)
        #expect(coordinator.roster.isJoined(Small.launcher.peerID))
        #expect(bench.daemon.member?.jobID == coordinator.job)
        // The text is here, and the speed at this job's work is still to be measured.
        #expect(coordinator.roster[Small.launcher.peerID]?.readiness.hasText == false)
        let before = try #require(coordinator.roster[Small.launcher.peerID]?.capability?.flops)
        bench.rehearse(.seconds(2))
        let member = try #require(bench.daemon.coordinator?.roster[Small.launcher.peerID])
        #expect(member.readiness.hasText)
        #expect(try #require(member.capability?.flops) < before)
        #expect(bench.corpora == 1)
        #expect(bench.heard.isEmpty && bench.dials.isEmpty && bench.daemon.undelivered == 0)
        let services = Set(bench.stored.map(\.service))
        #expect(services == [.coordinator, .member])
    }

    @Test func `a content that two services have is given once`() throws {
        var bench = try both()
        bench.compute()
        let job = try join(1, &bench)
        let content = try #require(bench.daemon.coordinator?.record.genesis.content)
        bench.say(1, Packet(job: job, .indexRequest(content: content, first: 0)))
        #expect(bench.heard(1, "indexPart").count == 1)
        bench.say(1, Packet(job: job, .chunkRequest(content: content, chunk: 0)))
        #expect(bench.heard(1, "chunk").map(\.message) == [.chunk(content: content, chunk: 0, bytes: Bench.text)])
        bench.say(1, Packet(job: job, .chunkRequest(content: content, chunk: 99)))
        bench.say(1, Packet(job: job, .chunkRequest(content: sha256([1]), chunk: 0)))
        #expect(bench.heard(1, "chunkMissing").count == 2)
        // Of another job: nobody answers for it.
        bench.say(1, Packet(job: sha256([1]), .chunkRequest(content: content, chunk: 0)))
        #expect(bench.heard(1, "chunk").count == 1)
    }

    @Test func `bytes that are no packet are counted, and told of each sender once in ten seconds`() throws {
        var bench = try both()
        bench.connect(1)
        bench.connect(2)
        var generator = SeededGenerator(seed: 3, stream: 3)
        for _ in 0..<100 { bench.say(1, raw: (0..<20).map { _ in UInt8(generator.below(256)) } + [0xff, 0xff]) }
        #expect(bench.daemon.malformed == 100)
        let told = bench.events.count { if case .packetMalformed = $0 { true } else { false } }
        #expect(told == 1)
        // Each sender has its own first one.
        bench.say(2, raw: [0xff])
        #expect(bench.events.count { if case .packetMalformed = $0 { true } else { false } } == 2)
        #expect(bench.isConnected(1) && bench.isConnected(2))
    }

    /// Any message, from anybody, in any order: it moves nothing that it may not, and nothing traps.
    @Test(arguments: 0..<4 as Range<UInt64>)
    func `anything may be said to it by a stranger`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed, stream: 9)
        var bench = try seed % 2 == 0 ? both() : member()
        bench.compute()
        bench.connect(1)
        let job = bench.daemon.coordinator?.job ?? sha256([1])
        let work = WorkKey(round: 0, rank: 0, attempt: 0)
        let messages: [Message] = [
            .lease(Lease(duration: .seconds(9), logLength: 99)), .logEntries(LogEntries([PBEnvelope()], length: 3)),
            .group(GroupTerms(round: 0, epoch: 1, version: 1, ranks: [0], way: .allGather)),
            .dismissal(Dismissal(.jobEnded, reason: "x")), .heartbeat(Heartbeat()), .readiness(.hasText),
            .logRequest(from: 0), .receipt(PBEnvelope()), .held(Held(work: work, digests: [])),
            .applied(Applied(round: 0, units: [], compute: .zero, squares: nil)),
            .objection(Objection(work: work, why: "x")), .farewell(reason: "x"),
            .norms(Norms(work: work, step: 0, stage: 0, sumSquares: [1])),
            .stateRequest(StateRequest(round: 0, units: [0], moments: true)),
            .stateOffer(StateOffer(round: 0, parts: [], unavailable: "x")),
            .chunk(content: sha256([1]), chunk: 0, bytes: [1]), .pong(1), .capabilityRequest,
        ]
        let stage = bench.daemon.coordinator?.stage.word
        for _ in 0..<200 {
            let message = messages[generator.below(messages.count)]
            let said = generator.below(3) == 0 ? nil : job
            bench.say(1, Packet(job: said, term: generator.below(3), message))
        }
        #expect(bench.isConnected(1))
        #expect(bench.daemon.coordinator?.stage.word == stage)
        #expect(bench.daemon.coordinator?.roster.joined.map(\.peer) ?? [] == [])
        #expect(bench.heard(1, "logEntries").isEmpty)
        if seed % 2 == 1 { #expect(bench.daemon.member?.jobID == nil) }
    }

    @Test func `it wakes when the first of its parts has something to do`() throws {
        for var bench in [try none(), try member(), try coordinator(), try both()] {
            bench.connect(1)
            for _ in 0..<20 {
                let next = try #require(bench.daemon.nextWake)
                for due in [bench.daemon.member?.nextWake, bench.daemon.coordinator?.nextWake] {
                    if let due { #expect(next <= due) }
                }
                bench.pass(max(next - bench.now, .milliseconds(1)))
                // A wake-up leads on: nothing is due for ever.
                if let after = bench.daemon.nextWake { #expect(after > bench.now) }
            }
        }
    }

    /// It was killed, and starts again in a moment.
    @Test func `a coordinator looks for whoever it lost, where that was`() throws {
        var bench = try coordinator()
        bench.connect(1)
        bench.disconnect(1)
        bench.pass(.seconds(1))
        let place = Small.endpoint(1)
        #expect(bench.dials == [place])
        bench.failDial(refused: true)
        for _ in 0..<5 {
            bench.pass(.seconds(1))
            bench.failDial(refused: true)
        }
        #expect(bench.dials.count >= 3 && Set(bench.dials) == [place])
        // Not for ever.
        for _ in 0..<60 {
            bench.pass(.seconds(1))
            bench.failDial(refused: true)
        }
        let before = bench.dials.count
        for _ in 0..<60 { bench.pass(.seconds(1)) }
        #expect(bench.dials.count == before)
    }

    @Test func `after sleep, or in another network, everybody is dialled again at once`() throws {
        var bench = try coordinator()
        bench.connect(1)
        bench.disconnect(1)
        bench.pass(.seconds(1))
        func news(_ bench: Bench) -> Int { bench.events.count { if case .networkChanged = $0 { true } else { false } } }
        bench.failDial(refused: false)
        let before = bench.dials.count
        bench.pass(.seconds(8))
        #expect(news(bench) == 1)
        #expect(bench.dials.count > before)
        // A pause that has only begun ends, too.
        bench.failDial(refused: false)
        let then = bench.dials.count
        bench.changeNetwork()
        #expect(news(bench) == 2)
        #expect(bench.dials.count == then + 1)
        // What was overdue then is no other sleep: it is said once, however much comes before the first wake.
        for number in 2...5 { bench.connect(number) }
        bench.sleep(.seconds(20), hearing: [2, 3, 4, 5])
        #expect(news(bench) == 3)
        bench.pass(.zero)
        bench.sleep(.seconds(7), hearing: [2])
        #expect(news(bench) == 4)
    }

    /// What a second connection held up is due at once, and was due before: nobody has slept for that.
    @Test(arguments: 1...4) func `a connection that comes to nothing is no sleep`(number: Int) throws {
        var bench = try coordinator()
        bench.connect(number)
        for _ in 0..<20 {
            bench.say(number, Packet(.ping(1)))
            bench.brush(number)
            if let next = bench.daemon.nextWake { #expect(next >= bench.now) }
            bench.pass(.milliseconds(10))
            bench.pass(.seconds(1), forAll: true)
        }
        #expect(!bench.events.contains { if case .networkChanged = $0 { true } else { false } })
        #expect(bench.isConnected(number) && bench.connected.count == 1)
    }

    @Test func `its goodbye tells members that nothing is left of the job`() throws {
        var bench = try coordinator()
        try join(1, &bench)
        #expect(bench.daemon.coordinator?.roster.isJoined(Small.peer(1)) == true)
        bench.daemon.stop(at: bench.now)
        bench.pass(.milliseconds(1))
        #expect(bench.heard(1, "dismissal").count == 1)
        guard case .failed(let why)? = bench.end else {
            Issue.record("it goes on")
            return
        }
        #expect(why.contains("stopped"))
    }
}
