import Digests
import Planning
import Primitives
import Swarm
import Testing
import Wire

/// A launcher among members that exist only as packets: they accept, say what a test wants them to, and sign receipts.
struct FakePool {
    var coordinator: Coordinator
    var now = Instant.zero
    private(set) var end: String?
    private var sequence: UInt64 = 0
    let numbers: [Int]

    /// Two pipelines of one stage each, two inner steps.
    init(_ numbers: [Int] = [1, 2]) {
        var job = JobManifest(
            name: "small", model: Small.model, data: .path("text"), tokens: 10_000, virtualPipelines: 4, microBatch: 1)
        job.batchTokens = .fixed(32)
        job.pipelines = .fixed(2)
        job.stages = .fixed(1)
        job.innerSteps = .fixed(2)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.qualityBudget = 10
        job.checkpointEveryRounds = 1000
        var options = CoordinatorOptions()
        options.expectedPeers = numbers.count
        self.numbers = numbers
        coordinator = Coordinator(
            key: Small.launcher, manifest: job.canonicalText, parameters: JobParameters(job),
            content: [UInt8](repeating: 32, count: 1000), options: options, at: now)
        for number in numbers { arrive(number) }
        for number in numbers { beat(number) }
        // Nobody measures anything: the coordinator goes on without, and plans.
        for _ in 0..<40 where coordinator.phase != .preparing {
            pass(.seconds(1))
            for number in numbers { beat(number) }
        }
    }

    mutating func receive(_ number: Int, _ change: (inout PBPacket) -> Void) {
        var packet = PBPacket()
        change(&packet)
        coordinator.receive(packet, payload: [], from: Small.peer(number), at: now)
        drain()
    }
    mutating func arrive(_ number: Int) {
        coordinator.established(Small.peer(number), endpoint: Small.endpoint(number), at: now)
        receive(number) {
            $0.capability.name = "peer-\(number)"
            $0.capability.numerics = JobLog.numerics
            $0.capability.flops = 1e9
            $0.capability.memoryBytes = 64 << 20
        }
        receive(number) { $0.offerAnswer.accepted = true }
    }
    mutating func beat(_ number: Int) { receive(number) { $0.heartbeat.doing = "ready" } }
    mutating func lose(_ number: Int) {
        coordinator.lost(Small.peer(number), reason: "closed", at: now)
        drain()
    }
    mutating func pass(_ time: Duration) {
        now += time
        coordinator.wake(at: now)
        drain()
    }
    private mutating func drain() {
        while let effect = coordinator.poll() {
            switch effect {
            case .plan(let question):
                coordinator.planned(question.answered(iterations: 200), at: now)
            case .ended(.failed(let why)): end = why
            case .ended: end = "finished"
            default: break
            }
        }
    }

    /// The number of the peer that is pipeline `rank`.
    func number(_ rank: Int) throws -> Int {
        let peer = coordinator.state.plan?.pipelines[rank].stages[0].peer
        return try #require(numbers.first { Small.peer($0) == peer })
    }
    /// A signed receipt of the round in progress.
    mutating func report(_ number: Int, _ change: (inout PBWork) -> Void = { _ in }) throws {
        let state = coordinator.state
        let plan = try #require(state.plan)
        let spec = try #require(state.spec)
        let place = try #require(plan.placement(of: Small.peer(number)))
        var work = PBWork()
        work.work.round = UInt64(spec.round)
        work.work.rank = UInt32(place.rank)
        work.work.attempt = UInt32(plan.pipelines[place.rank].attempt)
        work.firstStep = UInt64(spec.firstStep)
        work.steps = UInt32(spec.steps)
        work.microBatches = UInt32(plan.pipelines[place.rank].virtualPipelines.count * spec.steps)
        work.digests = Small.model.allUnits.map { unit in
            var entry = PBUnitDigest()
            entry.unit = UInt32(unit)
            entry.digest = bytesOf(sha256(Array("\(spec.round) \(place.rank) \(unit)".utf8)))
            return entry
        }
        change(&work)
        sequence += 1
        let envelope = PBEnvelope(
            work, type: .receipt, job: coordinator.jobID, epoch: 1, sequence: sequence, by: Small.key(number))
        receive(number) { $0.receipt.envelope = envelope }
    }
    mutating func hold(_ number: Int, rank: Int) {
        let state = coordinator.state
        receive(number) {
            $0.held.round = UInt64(state.round)
            $0.held.rank = UInt32(rank)
            $0.held.attempt = UInt32(state.plan!.pipelines[rank].attempt)
        }
    }
    /// Both pipelines do their round.
    mutating func round() throws {
        for rank in 0..<2 { try report(number(rank)) }
        hold(try number(0), rank: 1)
        hold(try number(1), rank: 0)
    }
    func audit() throws(MalformedBytes) -> Ledger.Totals {
        try auditMicroBatches(
            log: coordinator.log.envelopes, receipts: coordinator.receiptEnvelopes,
            parameters: coordinator.state.parameters)
    }
}

@Suite struct `The coordinator` {
    @Test func `seals a round when both pipelines have computed and hold each other's part`() throws {
        var pool = FakePool()
        #expect(pool.coordinator.state.plan?.pipelines.count == 2)
        try pool.report(pool.number(0))
        try pool.report(pool.number(1))
        pool.hold(try pool.number(0), rank: 1)
        #expect(pool.coordinator.state.round == 0)
        pool.hold(try pool.number(1), rank: 0)
        #expect(pool.coordinator.state.round == 1)
        #expect(pool.coordinator.phase == .training)
        #expect(pool.coordinator.state.sealedTokens == 64)
        #expect(try pool.audit() == pool.coordinator.ledger.totals)
    }

    @Test func `takes no receipt that does not fit what was granted`() throws {
        var pool = FakePool()
        let number = try pool.number(0)
        try pool.report(number) { $0.microBatches += 1 }
        try pool.report(number) { $0.lossSum = .nan }
        try pool.report(number) { $0.evaluationSum = .infinity }
        try pool.report(number) { $0.work.round = 1 }
        try pool.report(number) { $0.work.rank = 1 }
        try pool.report(number) { $0.work.rank = 9 }
        try pool.report(number) { $0.stage = 1 }
        #expect(pool.coordinator.receipts.isEmpty)
        try pool.report(number)
        #expect(pool.coordinator.receipts.count == 1)
    }

    @Test func `takes a receipt once`() throws {
        var pool = FakePool()
        try pool.report(pool.number(0))
        let envelope = try #require(pool.coordinator.receiptEnvelopes.first)
        pool.receive(try pool.number(0)) { $0.receipt.envelope = envelope }
        pool.receive(try pool.number(1)) { $0.receipt.envelope = envelope }
        #expect(pool.coordinator.receipts.count == 1)
    }

    @Test func `goes on with the others when one is lost`() throws {
        var pool = FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.lose(second)
        #expect(pool.coordinator.state.isBroken(rank: 1))
        try pool.report(first)
        #expect(pool.coordinator.state.round == 2)
        #expect(pool.coordinator.ledger.totals.lost == 4)
        #expect(try pool.audit() == pool.coordinator.ledger.totals)
    }

    @Test func `ends the job when the last one is lost`() throws {
        var pool = FakePool()
        pool.lose(1)
        pool.lose(2)
        #expect(try #require(pool.end).contains("every peer left"))
        #expect(pool.coordinator.ledger.totals.isBalanced)
        #expect(try pool.audit() == pool.coordinator.ledger.totals)
    }

    @Test func `counts a member lost that says nothing for five seconds`() throws {
        var pool = FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        for _ in 0..<5 {
            pool.pass(.seconds(1))
            pool.beat(first)
        }
        #expect(pool.coordinator.members.count == 2)
        pool.pass(.milliseconds(10))
        #expect(pool.coordinator.members.map(\.peer) == [Small.peer(first)])
        #expect(!pool.coordinator.state.isPresent(Small.peer(second)))
    }

    /// Its share of the round is lost all the same: what it had computed is gone, or was never told.
    @Test func `counts the share of a member that leaves and returns within a round as lost, as the audit does`() throws
    {
        var pool = FakePool()
        try pool.round()
        let (first, second) = (try pool.number(0), try pool.number(1))
        pool.lose(second)
        pool.arrive(second)
        try pool.report(first)
        #expect(pool.coordinator.state.round == 2)
        #expect(pool.coordinator.state.isPresent(Small.peer(second)))
        #expect(pool.coordinator.ledger.totals.lost == 4)
        let audit = try pool.audit()
        #expect(audit == pool.coordinator.ledger.totals)
    }

    @Test func `asks members whose weights differ from the group's to leave`() throws {
        var pool = FakePool([1, 2, 3])
        try pool.round()
        func applied(_ number: Int, _ text: String) {
            pool.receive(number) {
                var entry = PBUnitDigest()
                entry.unit = 1
                entry.digest = bytesOf(sha256(Array(text.utf8)))
                $0.applied.round = 0
                $0.applied.digests = [entry]
            }
        }
        let (first, second) = (try pool.number(0), try pool.number(1))
        applied(first, "same")
        #expect(pool.coordinator.members.count == 3)
        applied(second, "other")
        // One against one: the lower rank is believed.
        #expect(pool.coordinator.members.count == 2)
        #expect(pool.coordinator.members.contains { $0.peer == Small.peer(first) })
    }
}
