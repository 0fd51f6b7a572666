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

@Suite struct `A coordinator whose disk, line or clock fails` {
    /// Weeks apart, to either side; and then a receipt that is too old by the clock of who signed it.
    @Test(arguments: [-40_000_000, 0, 40_000_000] as [Int64])
    func `takes receipts of a member whose clock is wrong, and none that has expired by it`(lead: Int64) throws {
        var pool = try FakePool()
        let number = try pool.number(0)
        let wall = 100_000_000 + lead
        try pool.report(number, wall: wall)
        #expect(pool.coordinator.books.receipts.count == 1 && pool.happened("receipt_refused").isEmpty)
        try pool.report(pool.number(1))
        pool.hold(number, rank: 1)
        try pool.hold(pool.number(1), rank: 0)
        try #require(pool.coordinator.state.round == 1)
        let before = pool.coordinator.books.receipts.count
        try pool.report(number, wall: wall - Receipt.life - 60)
        #expect(pool.happened("receipt_refused").count == 1 && pool.coordinator.books.receipts.count == before)
        try pool.report(number, wall: wall)
        #expect(pool.happened("receipt_refused").count == 1 && pool.coordinator.books.receipts.count == before + 1)
        // It is back, perhaps in another process with another clock.
        var roster = pool.coordinator.roster
        roster.joins(Small.peer(number))
        #expect(roster[Small.peer(number)]?.clockLead == nil)
    }

    @Test func `tells whose processor other programs take, and no more often than is of use`() throws {
        var pool = try FakePool([1, 2])
        var starved = Heartbeat()
        starved.processorShare = 0.005
        pool.say(1, .heartbeat(starved))
        pool.say(1, .heartbeat(starved))
        #expect(pool.happened("processor_taken").count == 1)
        // It says now this and now that.
        for _ in 0..<50 {
            pool.beat(1)
            pool.say(1, .heartbeat(starved))
        }
        #expect(pool.happened("processor_taken").count == 1 && pool.happened("processor_back").isEmpty)
        for _ in 0..<31 {
            pool.pass(.seconds(1))
            for number in [1, 2] { pool.beat(number) }
        }
        #expect(pool.happened("processor_back").count == 1)
    }

    @Test func `plans a member away that leaves, and others have what it holds before it is gone`() throws {
        var pool = try FakePool([1, 2, 3])
        try pool.round()
        let leaver = try pool.number(0)
        let peer = Small.peer(leaver)
        var leaving = Heartbeat()
        leaving.isLeaving = true
        pool.say(leaver, .heartbeat(leaving))
        #expect(pool.coordinator.state.plan?.placement(of: peer) != nil, "the round in progress is done first")
        try pool.round()
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.round == pool.coordinator.state.round && plan.pipelines.count == 2)
        #expect(plan.placement(of: peer) == nil && plan.spares.contains(peer))
        #expect(plan.sources.values.allSatisfy { $0.contains(peer) })
        #expect(pool.coordinator.state.isPresent(peer) && pool.happened("peer_lost").isEmpty)
        #expect(pool.happened("rolled_back").isEmpty)
        // It takes nobody's place meanwhile; whoever stays after all is planned with again.
        #expect(pool.coordinator.roster[peer]?.isPlannable == false)
        let asked = pool.happened("planning").count
        pool.beat(leaver)
        #expect(pool.coordinator.roster[peer]?.isPlannable == true)
        // Whoever says now this and now that does not have the leader plan all day.
        for _ in 0..<100 {
            pool.say(leaver, .heartbeat(leaving))
            pool.beat(leaver)
        }
        #expect(pool.happened("planning").count < asked + 20)
    }

    @Test func `gives no place to a spare that computes nothing for the moment`() throws {
        var job = FakePool.job()
        job.pipelines = .fixed(1)
        var pool = try FakePool([1, 2, 3], job: job)
        let first = try pool.number(0)
        try pool.report(first)
        pool.hold(first, rank: 0)
        let plan = try #require(pool.coordinator.state.plan)
        let spares = plan.spares
        try #require(spares.count == 2)
        let held = try #require((1...3).first { Small.peer($0) == spares[0] })
        var heartbeat = Heartbeat()
        heartbeat.isLeaving = true
        let asked = pool.happened("planning").count
        pool.say(held, .heartbeat(heartbeat))
        #expect(pool.happened("planning").count == asked, "it changes nothing now")
        pool.lose(try pool.number(0))
        #expect(pool.coordinator.state.plan?.placement(of: spares[0]) == nil)
        #expect(pool.coordinator.state.plan?.placement(of: spares[1]) != nil)
        // So often, and for so long that it is heard again: it is over.
        for _ in 0..<40 {
            pool.say(held, .heartbeat(heartbeat))
            pool.beat(held)
        }
        for _ in 0..<700 {
            for number in 1...3 where number != held && pool.coordinator.state.isPresent(Small.peer(number)) {
                pool.beat(number)
            }
            pool.say(held, .heartbeat(pool.coordinator.roster[spares[0]]!.heartbeat))
            pool.pass(.seconds(1))
        }
        pool.say(held, .heartbeat(heartbeat))
        #expect(pool.coordinator.roster[spares[0]]?.isPlannable == false)
        pool.beat(held)
        #expect(pool.coordinator.roster[spares[0]]?.isPlannable == true)
    }

    @Test func `begins the round anew with others where a sole holder computes nothing any more, and no sealed one`()
        throws
    {
        var job = FakePool.job()
        job.pipelines = .fixed(1)
        var pool = try FakePool([1, 2], job: job)
        func hasPlaced(_ peer: PeerID) -> Bool { pool.coordinator.state.plan?.placement(of: peer) != nil }
        func round() throws {
            let number = try pool.number(0)
            try pool.report(number)
            pool.hold(number, rank: 0)
        }
        try round()
        try round()
        let (number, round2) = (try pool.number(0), pool.coordinator.state.round)
        try #require(round2 == 2)
        let peer = Small.peer(number)
        // The start of this round is not agreed on yet: going back now would do a sealed round again.
        var yields = Heartbeat()
        yields.isLeaving = true
        pool.say(number, .heartbeat(yields))
        #expect(hasPlaced(peer) && pool.happened("rolled_back").isEmpty)
        pool.apply(number, round: round2 - 1, "two")
        let back = try #require(pool.happened("rolled_back").first)
        #expect(back.what == .rolledBack(round: 2, from: 2, why: "peer-\(number) is wanted by its owner"))
        let plan = try #require(pool.coordinator.state.plan)
        #expect(!hasPlaced(peer) && plan.round == 2 && plan.sources.values.allSatisfy { $0 == [peer] })
        #expect(pool.coordinator.state.isPresent(peer) && pool.happened("peer_lost").isEmpty)
        // Others train what it gave, and it leaves.
        try round()
        #expect(pool.coordinator.state.round == 3)
        pool.say(number, .farewell(reason: "its owner has it leave"))
        #expect(pool.happened("peer_lost").count == 1 && pool.happened("rolled_back").count == 1)
        #expect(pool.coordinator.state.round == 3)
        // Where others hold the same, nobody goes back: the next plan is without it.
        var two = try FakePool([1, 2, 3])
        try two.round()
        let leaver = try two.number(0)
        two.apply(leaver, round: 0, "one")
        two.apply(try two.number(1), round: 0, "one")
        two.say(leaver, .heartbeat(yields))
        #expect(two.happened("rolled_back").isEmpty)
    }

    @Test func `says that training goes on when somebody has got further who knows of the loss`() throws {
        var pool = try FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.lose(second)
        var heartbeat = Heartbeat()
        (heartbeat.step, heartbeat.logLength) = (9, 1)
        // It was on its way when the other one went.
        pool.say(first, .heartbeat(heartbeat))
        #expect(pool.happened("training_resumed").isEmpty)
        heartbeat.logLength = pool.coordinator.record.length
        pool.say(first, .heartbeat(heartbeat))
        #expect(pool.happened("training_resumed").count == 1)
    }

    @Test func `shows nobody what is not stored, says that the disk fails, and goes on when it works again`() throws {
        var pool = try FakePool()
        let shown = pool.heard(1, "logEntries").count
        pool.disk = { _ in .failed("no space left") }
        try pool.round()
        #expect(pool.coordinator.state.round == 1 && pool.coordinator.record.committed < pool.coordinator.record.length)
        #expect(pool.heard(1, "logEntries").count == shown)
        // The log, and the receipts beside it: each is told once.
        #expect(pool.happened("storage_failed").count == 2)
        pool.disk = { _ in .stored(path: "") }
        for _ in 0..<12 {
            pool.pass(.seconds(1))
            for number in pool.numbers { pool.beat(number) }
        }
        #expect(pool.coordinator.record.committed == pool.coordinator.record.length)
        #expect(pool.heard(1, "logEntries").count > shown)
        #expect(pool.happened("storage_recovered").count == 2)
    }

    @Test func `alone as an elector vouches for its log every few seconds, by a certificate that anybody can check`()
        throws
    {
        var pool = try FakePool()
        func check(_ certificate: Certificate) throws {
            let record = pool.coordinator.record
            try certificate.check(job: record.job, try #require(Electorate(voters: record.electors)))
            var tree = MerkleFrontier()
            for envelope in record.envelopes.prefix(certificate.claim.size) {
                tree.append(MerkleFrontier.leaf(envelope.body))
            }
            #expect(certificate.claim.root == tree.root)
        }
        try pool.round()
        let before = pool.certificates.count
        #expect(before > 0)
        // Rounds follow each other at once: it is too soon.
        try pool.round()
        #expect(pool.certificates.count <= before + 1)
        pool.pass(.seconds(6))
        for number in pool.numbers { pool.beat(number) }
        try pool.round()
        let newest = try #require(pool.certificates.last)
        #expect(newest.claim.size > pool.coordinator.record.length - 4 && newest.claim.term == 1)
        for certificate in pool.certificates { try check(certificate) }
    }

    @Test func `says once that its certificate cannot be stored, and stores the next`() throws {
        var pool = try FakePool()
        pool.disk = { if case .certificate = $0 { .failed("full") } else { .stored(path: "") } }
        for _ in 0..<3 {
            pool.pass(.seconds(6))
            for number in pool.numbers { pool.beat(number) }
            try pool.round()
        }
        #expect(pool.happened("storage_failed").count == 1)
        let before = pool.certificates.count
        pool.disk = { _ in .stored(path: "") }
        pool.pass(.seconds(6))
        for number in pool.numbers { pool.beat(number) }
        try pool.round()
        #expect(pool.certificates.count == before + 1)
        #expect(pool.happened("storage_recovered").count == 1)
    }

    // MARK: one's own isolation

    @Test func `suspects its own line when it hears nobody`() throws {
        var pool = try FakePool()
        try pool.round()
        // They were heard last at different moments.
        pool.beat(1)
        pool.pass(.milliseconds(900))
        pool.beat(2)
        for _ in 0..<30 { pool.pass(.milliseconds(2100)) }
        #expect(pool.coordinator.roster.joined.count == 2)
        #expect(pool.happened("resumed").isEmpty)
        #expect(pool.happened("interrupted").count == 1)
        // The first session that goes on says nothing against those whose lines take some seconds longer.
        pool.coordinator.resumed(
            Small.peer(1), endpoint: Endpoint(ipv4: 10, 0, 0, 1, port: 1), at: pool.now)
        for _ in 0..<4 { pool.pass(.seconds(1)) }
        #expect(pool.happened("resumed").count == 1)
        #expect(pool.coordinator.roster.joined.count == 2)
        for number in pool.numbers { pool.beat(number) }
        pool.pass(.seconds(1))
        for number in pool.numbers { pool.beat(number) }
        try pool.round()
        #expect(pool.coordinator.state.round == 2)
    }

    @Test func `whoever is back before there is a plan without it is waited for, as it may have what nobody else has`()
        throws
    {
        var job = FakePool.job()
        job.pipelines = .fixed(1)
        var pool = try FakePool(job: job)
        let worker = try pool.number(0)
        try pool.report(worker)
        #expect(pool.coordinator.state.round == 1)
        pool.thinks = true
        pool.lose(worker)
        #expect(pool.happened("interrupted").isEmpty)
        pool.arrive(worker)
        pool.answer()
        #expect(pool.happened("interrupted").count == 1)
        // It is taken in, has lost everything, and the job begins anew: once.
        for _ in 0..<25 where pool.happened("rolled_back").isEmpty {
            pool.pass(.seconds(1))
            for number in pool.numbers { pool.beat(number) }
        }
        #expect(pool.coordinator.roster.isJoined(Small.peer(worker)))
        #expect(pool.happened("rolled_back").count == 1 && pool.coordinator.state.round == 0)
    }

    @Test func `blames nobody for the time it slept itself`() throws {
        var pool = try FakePool()
        try pool.round()
        pool.pass(.seconds(600))
        #expect(pool.coordinator.roster.joined.count == 2)
    }

    /// A spare takes a place, and whoever it would have fetched from leaves, too.
    @Test(arguments: [false, true])
    func `asks nobody for weights who was given a place a moment ago, until it has them`(hasFetched: Bool) throws {
        var pool = try FakePool([1, 2, 3])
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        for number in [first, second] { pool.apply(number, round: 0, "same") }
        let spare = 6 - first - second
        try #require(pool.coordinator.state.isAgreed(1))
        pool.lose(second)
        try #require(pool.happened("replaced").count == 1)
        let epoch = try #require(pool.coordinator.state.plan).epoch
        if hasFetched { pool.say(spare, .readiness(.atRound(epoch: epoch, round: 1))) }
        pool.lose(first)
        let targets = pool.events.compactMap { event -> Int? in
            if case .rolledBack(let round, _, _) = event.what { round } else { nil }
        }
        #expect(targets == (hasFetched ? [] : [0]))
        #expect(pool.coordinator.state.round == (hasFetched ? 1 : 0) && pool.end == nil)
    }
}
