import Consensus
import Coordination
import Digests
import JobFixtures
import Messages
import Planning
import Primitives
import Record
import Telemetry
import Testing
import Training
import Wire

@Suite struct `The coordinator` {
    @Test func `seals a round when both pipelines have computed and hold each other's part`() throws {
        var pool = try FakePool()
        #expect(pool.coordinator.state.plan?.pipelines.count == 2)
        try pool.report(pool.number(0))
        try pool.report(pool.number(1))
        pool.hold(try pool.number(0), rank: 1)
        #expect(pool.coordinator.state.round == 0)
        pool.hold(try pool.number(1), rank: 0)
        #expect(pool.coordinator.state.round == 1)
        #expect(pool.coordinator.stage.word == "training")
        #expect(pool.coordinator.state.sealedTokens == 64)
        #expect(try pool.audit() == pool.coordinator.record.ledger.totals)
    }

    @Test func `takes no receipt that does not fit what was granted`() throws {
        var pool = try FakePool()
        let number = try pool.number(0)
        try pool.report(number) { $0.microBatches += 1 }
        try pool.report(number) { $0.lossSum = .nan }
        try pool.report(number) { $0.evaluationSum = .infinity }
        try pool.report(number) { $0.work.round = 1 }
        try pool.report(number) { $0.work.rank = 1 }
        try pool.report(number) { $0.work.rank = 9 }
        try pool.report(number) { $0.stage = 1 }
        #expect(pool.coordinator.books.receipts.isEmpty)
        try pool.report(number)
        #expect(pool.coordinator.books.receipts.count == 1)
    }

    @Test func `takes a receipt once`() throws {
        var pool = try FakePool()
        try pool.report(pool.number(0))
        let envelope = try #require(pool.coordinator.books.receiptEnvelopes.first)
        pool.say(try pool.number(0), .receipt(envelope))
        pool.say(try pool.number(1), .receipt(envelope))
        #expect(pool.coordinator.books.receipts.count == 1)
    }

    @Test func `goes on with the others when one is lost`() throws {
        var pool = try FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.lose(second)
        #expect(pool.coordinator.state.isBroken(rank: 1))
        try pool.report(first)
        #expect(pool.coordinator.state.round == 2)
        #expect(pool.coordinator.record.ledger.totals.lost == 4)
        #expect(try pool.audit() == pool.coordinator.record.ledger.totals)
    }

    @Test func `waits two minutes when the last one is lost, and ends the job then`() throws {
        var pool = try FakePool()
        pool.lose(1)
        pool.lose(2)
        #expect(pool.events.last { $0.kind == "interrupted" } != nil)
        for _ in 0..<119 { pool.pass(.seconds(1)) }
        #expect(pool.end == nil)
        for _ in 0..<4 { pool.pass(.seconds(1)) }
        #expect(try #require(pool.end).contains("every peer left"))
        #expect(pool.coordinator.record.ledger.totals.isBalanced)
        #expect(try pool.audit() == pool.coordinator.record.ledger.totals)
    }

    /// `launch --wait 20` of a pool whose only peer is paused: it may be back before that is over.
    @Test func `waits to the end for who may think again, and gives up early only where nobody may`() throws {
        var options = CoordinatorOptions()
        options.gatherLimit = .seconds(20)
        func ended(accepts: [PeerID], _ refusal: String) throws -> (after: Int, why: String) {
            var pool = try FakePool([], options: options)
            pool.arrive(1, accepts: accepts, refusal: refusal)
            for second in 1...30 {
                pool.pass(.seconds(1))
                if let end = pool.end { return (second, end) }
            }
            return (99, "")
        }
        let launcher = Small.launcher.peerID
        let paused = try ended(accepts: [Small.peer(9), launcher], "its owner has paused it")
        #expect(paused.after == 20, "\(paused)")
        #expect(paused.why.contains("peer-1 declined: its owner has paused it"), "\(paused)")
        #expect(!paused.why.contains("add it to `accept`") && paused.why.contains("when they are free"))
        let stranger = try ended(accepts: [Small.peer(9)], "launcher is not among those the owner accepts")
        #expect(stranger.after < 15 && stranger.why.contains("add it to `accept`"), "\(stranger)")
        #expect(stranger.why.contains("the only peer found does not work"))
    }

    @Test func `tells of a round what was predicted of the plan under which it was done`() throws {
        var pool = try FakePool([1, 2], late: [])
        try pool.round()
        let first = try #require(pool.coordinator.answer?.roundSeconds)
        try pool.round()
        // Somebody comes: the next plan begins with the round after the one in which it is made.
        pool.arrive(3)
        pool.say(3, .readiness(.hasText))
        for _ in 0..<40 { pool.pass(.milliseconds(500)); for number in [1, 2, 3] { pool.beat(number) } }
        try pool.round()
        let told = pool.happened("round_sealed").compactMap { event -> Double? in
            if case .roundSealed(_, _, _, _, _, _, _, _, let predicted) = event.what { return predicted }
            return nil
        }
        #expect(told.count == 3 && told.allSatisfy { abs($0 - first) < 1e-12 }, "\(told) against \(first)")
        #expect(pool.coordinator.prediction(ofPlan: 1)?.roundSeconds == first)
    }

    @Test func `counts what members say that they have sent when the job is over`() throws {
        var job = FakePool.job()
        job.tokens = 64
        var pool = try FakePool(job: job)
        func beat(_ number: Int, _ bytes: Int) {
            var heartbeat = Heartbeat()
            heartbeat.sent = ByteCount(bytes)
            pool.say(number, .heartbeat(heartbeat))
        }
        for number in [1, 2] { beat(number, 5000 * number) }
        let before = pool.coordinator.roster.sentBytes
        pool.coordinator.cancel(at: pool.now)
        pool.drain()
        #expect(pool.end != nil)
        beat(1, 5600)
        beat(2, 10_001)
        #expect(pool.coordinator.roster.sentBytes == before + 601)
    }

    @Test func `gathers anew when all leave before there is a plan, whoever has planned meanwhile`() throws {
        var options = CoordinatorOptions()
        options.expectedPeers = 2
        // While the text is shared; while lines are measured.
        for hasText in [false, true] {
            var pool = try FakePool(options: options, hasText: hasText)
            pool.pass(.seconds(1))
            #expect(pool.coordinator.stage.word == (hasText ? "probing" : "sharing"))
            pool.lose(1)
            pool.lose(2)
            pool.pass(.seconds(1))
            #expect(pool.coordinator.stage.word == "gathering" && pool.end == nil)
            for number in [1, 2] {
                pool.arrive(number)
                pool.say(number, .readiness(.hasText))
            }
            for _ in 0..<60 where pool.coordinator.state.plan == nil {
                pool.pass(.seconds(1))
                for number in [1, 2] { pool.beat(number) }
            }
            #expect(pool.coordinator.state.plan != nil)
            try pool.round()
            #expect(pool.coordinator.state.round == 1)
        }
        // One of two leaves while lines are measured, and the job wants two pipelines: that, too, is waited for.
        var short = try FakePool(options: options)
        short.pass(.seconds(1))
        short.lose(1)
        for _ in 0..<30 {
            short.pass(.seconds(1))
            short.beat(2)
        }
        #expect(short.coordinator.stage.word == "gathering" && short.happened("planning").count == 1)
        short.arrive(1)
        short.say(1, .readiness(.hasText))
        for _ in 0..<60 where short.coordinator.state.plan == nil {
            short.pass(.seconds(1))
            for number in [1, 2] { short.beat(number) }
        }
        #expect(short.coordinator.state.plan != nil)
        // And gives up as at the beginning, when nobody comes.
        var pool = try FakePool(options: options)
        pool.pass(.seconds(1))
        pool.lose(1)
        pool.lose(2)
        for _ in 0..<119 { pool.pass(.seconds(1)) }
        #expect(pool.end == nil)
        for _ in 0..<5 { pool.pass(.seconds(1)) }
        #expect(pool.end?.contains("only 0 of the 2 peers wanted came") == true, "\(pool.end ?? "")")
    }

    @Test func `says nothing of an entry that waits for the lead to go elsewhere, and of a failure once`() throws {
        var pool = try FakePool()
        let last = pool.coordinator.record.length - 1
        pool.coordinator.refused(last, why: "not now", isPassing: true, at: pool.now)
        pool.drain()
        pool.pass(.seconds(2))
        #expect(pool.happened("storage_failed").isEmpty && pool.happened("storage_recovered").isEmpty)
        pool.coordinator.refused(last, why: "full", isPassing: false, at: pool.now)
        pool.drain()
        pool.pass(.seconds(3))
        #expect(pool.happened("storage_failed").count == 1 && pool.happened("storage_recovered").count == 1)
    }

    @Test func `goes on with whoever comes back after all have left`() throws {
        var pool = try FakePool()
        try pool.round()
        pool.lose(1)
        pool.lose(2)
        for _ in 0..<30 { pool.pass(.seconds(1)) }
        #expect(pool.coordinator.roster.joinedCount == 0 && pool.end == nil)
        pool.arrive(2)
        #expect(pool.coordinator.roster.joinedCount == 1)
        pool.say(2, .readiness(.hasText))
        // Nobody has the state of the round's start any more.
        #expect(pool.coordinator.state.round == 0)
        #expect(pool.coordinator.state.plan?.peers == [Small.peer(2)])
        try pool.report(2)
        #expect(pool.coordinator.state.round == 1)
        #expect(pool.coordinator.record.ledger.isBalanced)
    }

    @Test func `takes a newcomer in although the round does not end`() throws {
        var pool = try FakePool()
        pool.arrive(3)
        pool.say(3, .readiness(.hasText))
        #expect(!pool.coordinator.roster.isJoined(Small.peer(3)))
        for _ in 0..<11 {
            pool.pass(.seconds(1))
            for number in [1, 2, 3] { pool.beat(number) }
        }
        #expect(pool.coordinator.roster.isJoined(Small.peer(3)))
        #expect(pool.coordinator.state.round == 0)
        // It did not take itself for forgotten.
        #expect(!pool.heard(3, "lease").isEmpty)
    }

    @Test func `tells all others when a member is somewhere else`() throws {
        var pool = try FakePool()
        let before = pool.coordinator.record.length
        pool.coordinator.resumed(Small.peer(2), endpoint: Small.endpoint(77), at: pool.now)
        pool.drain()
        #expect(pool.coordinator.record.length == before + 1)
        #expect(pool.coordinator.state.member(Small.peer(2))?.endpoint == Small.endpoint(77))
        #expect(pool.coordinator.state.isPresent(Small.peer(2)))
        // Whoever moves all the time writes an entry in ten seconds.
        for port in 78..<90 {
            pool.coordinator.resumed(Small.peer(2), endpoint: Small.endpoint(port), at: pool.now)
            pool.drain()
        }
        #expect(pool.coordinator.record.length == before + 1)
        for _ in 0..<12 {
            pool.pass(.seconds(1))
            for number in [1, 2] { pool.beat(number) }
        }
        #expect(pool.coordinator.record.length == before + 2)
        #expect(pool.coordinator.state.member(Small.peer(2))?.endpoint == Small.endpoint(89))
    }

    @Test func `waits for as many peers as the shape needs`() throws {
        var options = CoordinatorOptions()
        options.neededPeers = 3
        #expect(FakePool.job().neededPeers == 2)
        var pool = try FakePool([], options: options)
        for number in [1, 2] { pool.arrive(number) }
        for _ in 0..<20 {
            pool.pass(.seconds(1))
            for number in [1, 2] { pool.beat(number) }
        }
        guard case .gathering = pool.coordinator.stage else {
            Issue.record("at \(pool.coordinator.stage)")
            return
        }
        pool.arrive(3)
        pool.pass(.seconds(4))
        #expect(pool.coordinator.roster.joinedCount == 3)
    }

    @Test func `counts a member lost that says nothing for five seconds`() throws {
        var pool = try FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        for _ in 0..<5 {
            pool.pass(.seconds(1))
            pool.beat(first)
        }
        #expect(pool.coordinator.roster.joined.count == 2)
        pool.pass(.milliseconds(10))
        #expect(pool.coordinator.roster.joined.map(\.peer) == [Small.peer(first)])
        #expect(!pool.coordinator.state.isPresent(Small.peer(second)))
    }

    /// Its share of the round is lost all the same: what it had computed is gone, or was never told.
    @Test func `counts the share of a member that leaves and returns within a round as lost, as the audit does`() throws
    {
        var pool = try FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.lose(second)
        pool.arrive(second)
        try pool.report(first)
        #expect(pool.coordinator.state.round == 2)
        #expect(pool.coordinator.state.isPresent(Small.peer(second)))
        #expect(pool.coordinator.record.ledger.totals.lost == 4)
        let audit = try pool.audit()
        #expect(audit == pool.coordinator.record.ledger.totals)
    }

    // MARK: what holders say that they hold

    @Test func `writes down what all holders agree on`() throws {
        var pool = try FakePool()
        try pool.round()
        pool.apply(try pool.number(0), round: 0, "same")
        #expect(!pool.coordinator.state.isAgreed(1))
        pool.apply(try pool.number(1), round: 0, "same")
        #expect(pool.coordinator.state.isAgreed(1))
        #expect(pool.happened("states_agreed").count == 1)
    }

    @Test func `expels nobody on a tie, and blames nobody`() throws {
        var pool = try FakePool()
        try pool.round()
        pool.apply(try pool.number(0), round: 0, "one")
        pool.apply(try pool.number(1), round: 0, "another")
        #expect(pool.coordinator.roster.joined.count == 2)
        #expect(!pool.coordinator.state.isAgreed(1))
        #expect(pool.happened("weights_differ").isEmpty)
        #expect(pool.happened("weights_disputed").count == Small.model.unitCount)
        // The next round is sealed all the same.
        try pool.round()
        #expect(pool.coordinator.state.round == 2)
    }

    @Test func `agrees without one who left before it spoke`() throws {
        var pool = try FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.apply(first, round: 0, "same")
        pool.lose(second)
        #expect(pool.coordinator.state.isAgreed(1))
    }

    // MARK: accusations

    @Test func `leaves nobody out, and expels nobody, for a single accuser's word`() throws {
        var pool = try FakePool()
        let (first, second) = (try pool.number(0), try pool.number(1))
        let work = WorkKey(round: 0, rank: 1, attempt: 0)
        for _ in 0..<5 { pool.say(first, .objection(Objection(work: work, why: "so it says"))) }
        #expect(pool.happened("contribution_refused").count == 1)
        #expect(pool.coordinator.roster.isJoined(Small.peer(second)))
        try pool.round()
        #expect(pool.coordinator.state.seals.last?.contributions.count == 2)
    }

    // MARK: two truths

    @Test func `plans with three when two were waited for and three are there`() throws {
        let pool = try FakePool([1, 2], late: [3])
        #expect(pool.end == nil)
        #expect(pool.coordinator.state.members.count == 3)
        #expect(pool.happened("entry_refused").isEmpty)
        #expect(pool.coordinator.state.plan.map { $0.peers.count + $0.spares.count } == 3)
    }

    @Test func `measures nothing while the text still travels`() throws {
        var job = FakePool.job()
        job.pipelines = .fixed(1)
        var pool = try FakePool([1], expected: 2, job: job)
        #expect(pool.coordinator.state.plan == nil)
        pool.arrive(2)
        pool.say(1, .readiness(.hasText))
        for _ in 0..<20 {
            pool.pass(.seconds(1))
            pool.beat(1)
            pool.say(2, .heartbeat(Self.fetching(pool.now)))
        }
        #expect(pool.coordinator.stage.word == "sharing")
        pool.say(2, .readiness(.hasText))
        #expect(pool.coordinator.stage.word == "probing")
    }
    private static func fetching(_ now: Instant) -> Heartbeat {
        var heartbeat = Heartbeat()
        heartbeat.activity = .fetchingText(have: Int(now.seconds), of: 100)
        return heartbeat
    }

    @Test func `goes on without a member that gets no further with the text`() throws {
        var pool = try FakePool([1, 2], expected: 3)
        pool.arrive(3)
        for number in [1, 2] { pool.say(number, .readiness(.hasText)) }
        for _ in 0..<100 where pool.coordinator.state.plan == nil {
            pool.pass(.seconds(1))
            for number in [1, 2, 3] { pool.beat(number) }
        }
        #expect(pool.coordinator.state.plan?.placement(of: Small.peer(3)) == nil)
        #expect(pool.coordinator.state.plan != nil)
    }

    // MARK: the disk
}
