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

extension FakePool {
    /// What the launcher has on disk.
    func remains(checkpoint: (round: Int, states: [UnitState])? = nil) -> JobRemains {
        JobRemains(
            log: Array(coordinator.record.envelopes[..<coordinator.record.committed]),
            receipts: coordinator.books.receiptEnvelopes, checkpoint: checkpoint)
    }
    /// Its process is gone, and another goes on from the disk.
    mutating func restart(_ remains: JobRemains, expected: Int? = nil) throws {
        var options = CoordinatorOptions()
        options.expectedPeers = expected
        try replace(
            Coordinator(
                key: Small.launcher, resuming: remains, content: StoredBytes([UInt8](repeating: 32, count: 1000)),
                options: options,
                wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:)))
    }
    /// Lets time pass, in which all say that they are there, until there is another plan.
    mutating func waitForPlan(_ present: [Int], seconds: Int = 100) {
        let before = coordinator.state.planCount
        for _ in 0..<seconds where coordinator.state.planCount == before && end == nil {
            pass(.seconds(1))
            for number in present { beat(number) }
        }
    }
}

@Suite struct `A launcher that was restarted` {
    /// Two rounds are sealed, and what they came to is agreed on.
    private func pool() throws -> FakePool {
        var pool = try FakePool()
        for round in 0..<2 {
            try pool.round()
            for rank in 0..<2 { pool.apply(try pool.number(rank), round: round, "same \(round)") }
        }
        try #require(pool.coordinator.state.round == 2 && pool.coordinator.state.isAgreed(2))
        return pool
    }
    private func back(_ pool: inout FakePool, _ numbers: [Int], holding round: Int?) {
        let epoch = pool.coordinator.state.planCount
        for number in numbers {
            pool.arrive(number)
            pool.say(number, .readiness(round.map { .atRound(epoch: epoch, round: $0) } ?? .hasText))
        }
    }

    @Test func `goes on at the round in progress with what members still hold`() throws {
        var pool = try pool()
        // One of them was in the middle of it.
        try pool.report(pool.number(0))
        let (first, second) = (try pool.number(0), try pool.number(1))
        try pool.restart(pool.remains())
        #expect(pool.coordinator.term == 2)
        #expect(pool.happened("job_resumed").count == 1)
        #expect(pool.coordinator.state.members.allSatisfy { !$0.present })
        back(&pool, [first, second], holding: 2)
        pool.waitForPlan([first, second])
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.round == 2 && pool.coordinator.state.round == 2)
        #expect(plan.pipelines.allSatisfy { $0.attempt == 1 })
        for unit in Small.model.allUnits {
            #expect(Set(plan.sources[unit] ?? []) == [Small.peer(first), Small.peer(second)])
        }
        #expect(pool.coordinator.stage.word == "preparing")
        // Members hear of all of it, from a newer term.
        #expect(pool.sent.last { $0.packet.message.kind == "logEntries" }?.packet.term == 2)
        try pool.round()
        #expect(pool.coordinator.state.round == 3)
        let totals = pool.coordinator.record.ledger.totals
        #expect(pool.coordinator.record.ledger.isBalanced)
        let audit = try pool.audit()
        #expect(audit == totals)
    }

    @Test func `goes back to the beginning where members have lost what they held, and there is no checkpoint`() throws
    {
        var pool = try pool()
        try pool.restart(pool.remains())
        back(&pool, [1, 2], holding: nil)
        pool.waitForPlan([1, 2])
        #expect(pool.coordinator.state.round == 0)
        #expect(pool.happened("rolled_back").count == 1)
        try pool.round()
        let audit = try pool.audit()
        #expect(audit == pool.coordinator.record.ledger.totals)
    }

    /// Six rounds, of which members have the start of the fourth on their disks.
    private func longPool() throws -> FakePool {
        var pool = try FakePool()
        for round in 0..<6 {
            try pool.round()
            for rank in 0..<2 { pool.apply(try pool.number(rank), round: round, "same \(round)") }
        }
        try #require(pool.coordinator.state.round == 6)
        return pool
    }
    private func kept(_ round: Int, rank: Int) -> Message {
        .kept([KeptStage(round: round, rank: rank, units: Small.model.allUnits, epoch: 1)])
    }

    @Test func `goes on from members' disks exactly as it was, where all have their own`() throws {
        var pool = try longPool()
        let numbers = [try pool.number(0), try pool.number(1)]
        let before = try #require(pool.coordinator.state.plan)
        try pool.restart(pool.remains())
        back(&pool, numbers, holding: nil)
        for (rank, number) in numbers.enumerated() { pool.say(number, kept(4, rank: rank)) }
        pool.waitForPlan(numbers)
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.round == 4 && pool.coordinator.state.round == 4)
        #expect(plan.pipelines.map { $0.stages.map(\.peer) } == before.pipelines.map { $0.stages.map(\.peer) })
        #expect(plan.pipelines.map(\.virtualPipelines) == before.pipelines.map(\.virtualPipelines))
        #expect(pool.happened("supply_chosen").first?.text("exact") == "yes")
        // It is in the log.
        let entry = pool.coordinator.record.envelopes.last {
            String(decoding: $0.body, as: UTF8.self).contains("exactly")
        }
        #expect(entry != nil)
        try pool.round()
        let audit = try pool.audit()
        #expect(audit == pool.coordinator.record.ledger.totals)
    }

    @Test func `says in the log that it is not exact where one has lost its disk`() throws {
        var pool = try longPool()
        let numbers = [try pool.number(0), try pool.number(1)]
        try pool.restart(pool.remains())
        back(&pool, numbers, holding: nil)
        pool.say(numbers[0], kept(4, rank: 0))
        pool.waitForPlan(numbers)
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.round == 4)
        #expect(plan.sources[0] == [Small.peer(numbers[0])])
        #expect(pool.happened("supply_chosen").first?.text("exact") == "no")
        #expect(
            pool.coordinator.record.envelopes.contains {
                String(decoding: $0.body, as: UTF8.self).contains("not all stages")
            })
    }

    @Test func `waits some seconds for all who were in the plan, and then goes on without`() throws {
        var pool = try longPool()
        let numbers = [try pool.number(0), try pool.number(1)]
        try pool.restart(pool.remains())
        back(&pool, [numbers[0]], holding: 6)
        for second in 0..<24 {
            #expect((pool.coordinator.stage.word == "gathering") == (second < 20), "\(second)")
            pool.pass(.seconds(1))
            pool.beat(numbers[0])
        }
    }

    @Test func `waits a minute for those who held the units`() throws {
        var pool = try pool()
        try pool.restart(pool.remains())
        pool.arrive(7)
        pool.say(7, .readiness(.hasText))
        for second in 0..<70 {
            #expect((pool.coordinator.stage.word == "gathering") == (second < 60), "\(second)")
            pool.pass(.seconds(1))
            pool.beat(7)
        }
    }

    @Test func `has the checkpoint of before`() throws {
        var pool = try FakePool()
        var states: [UnitState] = []
        for unit in Small.model.allUnits {
            let bytes = SeededGenerator.bytes(4 * Small.model.parameters(unit: unit), seed: 3, stream: UInt64(unit))
            states.append(
                UnitState(
                    unit: unit, parameters: bytes, outerMomentum: bytes, firstMoment: [], secondMoment: [],
                    optimizerSteps: 4))
        }
        try pool.round()
        let roots = states.map { state in
            let digests = UnitDigests(of: state)!
            return UnitRoots(
                unit: state.unit, parameters: digests.parameters, outerMomentum: digests.outerMomentum)
        }
        for rank in 0..<2 {
            pool.say(
                try pool.number(rank), .applied(Applied(round: 0, units: roots, compute: .zero, squares: nil)))
        }
        try pool.round()
        // It is at round 2, and has the state of round 1.
        let numbers = [try pool.number(0), try pool.number(1)]
        var damaged = states
        damaged[1].parameters.array[7] ^= 1
        for (checkpoint, isGood) in [(states, true), (damaged, false), (Array(states.dropLast()), false)] {
            var pool = pool
            try pool.restart(pool.remains(checkpoint: (1, checkpoint)))
            back(&pool, numbers, holding: nil)
            pool.waitForPlan(numbers)
            let plan = try #require(pool.coordinator.state.plan)
            #expect(plan.round == (isGood ? 1 : 0))
            #expect(plan.sources[0] ?? [] == (isGood ? [Small.launcher.peerID] : []))
            // It gives it away.
            let serves = pool.coordinator.serves(.stateRequest(StateRequest(round: 1, units: [0], moments: false)))
            #expect(serves == isGood)
        }
    }

    @Test func `is told why it cannot go on`() throws {
        var pool = try pool()
        let remains = pool.remains()
        func resume(_ remains: JobRemains, key: SigningKey = Small.launcher, byte: UInt8 = 32) throws {
            _ = try Coordinator(
                key: key, resuming: remains, content: StoredBytes([UInt8](repeating: byte, count: 1000)),
                options: CoordinatorOptions(), wall: WallClock(secondsAtZero: 0), at: .zero,
                parse: JobParameters.init(manifest:))
        }
        try resume(remains)
        #expect(throws: MalformedBytes.self) { try resume(JobRemains(log: [])) }
        #expect(throws: MalformedBytes.self) { try resume(remains, key: Small.key(1)) }
        #expect(throws: MalformedBytes.self) { try resume(remains, byte: 33) }
        // What is damaged is left out, with all that follows.
        var torn = remains
        torn.log[3].epoch += 1
        try pool.restart(torn)
        #expect(pool.coordinator.record.length <= 4)
        #expect(pool.happened("log_entry_refused").count == 1)
        // A job that is over stays over.
        var over = try Script()
        try over.finish()
        #expect(throws: MalformedBytes.self) {
            _ = try Coordinator(
                key: Small.launcher, resuming: JobRemains(log: over.record.envelopes), content: StoredBytes([1]),
                options: CoordinatorOptions(), wall: WallClock(secondsAtZero: 0), at: .zero,
                parse: { _ in Small.parameters() })
        }
    }

    @Test func `can be restarted again and again`() throws {
        var pool = try pool()
        for turn in 1...3 {
            let numbers = [try pool.number(0), try pool.number(1)]
            try pool.restart(pool.remains())
            #expect(pool.coordinator.term == turn + 1)
            back(&pool, numbers, holding: pool.coordinator.state.round)
            pool.waitForPlan(numbers)
            try pool.round()
            for rank in 0..<2 {
                pool.apply(try pool.number(rank), round: pool.coordinator.state.round - 1, "again \(turn)")
            }
        }
        #expect(pool.coordinator.state.round == 5)
        let audit = try pool.audit()
        #expect(audit == pool.coordinator.record.ledger.totals && pool.coordinator.record.ledger.isBalanced)
    }
}

@Suite struct `A launcher that stops` {
    @Test func `leaves a job with sealed rounds open, and its members with what they hold`() throws {
        var pool = try FakePool()
        try pool.round()
        pool.coordinator.cancel(at: pool.now)
        pool.drain()
        #expect(pool.end?.contains("stopped") == true)
        #expect(pool.coordinator.isResumable && pool.coordinator.state.finished == nil)
        for number in pool.numbers {
            #expect(pool.heard(number, "dismissal").isEmpty)
            guard case .lease(let lease)? = pool.heard(number, "lease").last else {
                Issue.record("no lease")
                return
            }
            #expect(lease.duration == .zero)
        }
    }
    @Test func `ends a job that has nothing to go on from`() throws {
        var pool = try FakePool()
        pool.coordinator.cancel(at: pool.now)
        pool.drain()
        #expect(!pool.coordinator.isResumable && pool.coordinator.state.finished != nil)
        #expect(pool.heard(pool.numbers[0], "dismissal").count == 1)
    }
    @Test func `leaves it open also when everybody has left`() throws {
        var pool = try FakePool()
        try pool.round()
        for number in pool.numbers { pool.lose(number) }
        for _ in 0..<130 { pool.pass(.seconds(1)) }
        #expect(pool.end?.contains("every peer left") == true)
        #expect(pool.coordinator.isResumable)
    }
    @Test func `keeps its receipts on disk, and stores again what failed`() throws {
        var pool = try FakePool()
        var stored: [Int] = []
        try pool.round()
        stored = pool.stored.compactMap { if case .receipt(_, let index) = $0 { index } else { nil } }
        #expect(stored == [0, 1])
        pool.disk = { if case .receipt = $0 { .failed("full") } else { .stored(path: "") } }
        try pool.round()
        #expect(pool.happened("storage_failed").count == 1)
        pool.disk = { _ in .stored(path: "") }
        for _ in 0..<3 {
            pool.pass(.seconds(1))
            for number in pool.numbers { pool.beat(number) }
        }
        stored = pool.stored.compactMap { if case .receipt(_, let index) = $0 { index } else { nil } }
        #expect(stored == [0, 1, 2, 3])
        #expect(pool.happened("storage_recovered").count == 1)
    }
}

extension FakePool {
    /// Another process in its place.
    mutating func replace(_ other: Coordinator) {
        coordinator = other
        drain()
    }
}
