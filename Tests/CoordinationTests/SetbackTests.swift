import Coordination
import JobFixtures
import Messages
import Planning
import Primitives
import Record
import Telemetry
import Testing

/// Attempts of which the arithmetic itself says that they would fail again.
@Suite struct `A setback` {
    private func setback(_ round: Int, attempt: Int = 0, rank: Int = 0, diverges: Bool = true) -> Setback {
        Setback(
            work: WorkKey(round: round, rank: rank, attempt: attempt), stage: 0, step: 2 * round,
            why: "the loss is nan, in step \(2 * round + 1)", cause: diverges ? .notFinite : .refused)
    }

    @Test func `is answered once a plan, by one retreat, or by other attempts, and then by the end`() {
        var desk = Setbacks()
        func receive(_ setback: Setback, epoch: Int, halvings: Int = 0, _ policy: JobParameters.OnDivergence = .retreat)
            -> Setbacks.Verdict
        {
            desk.receive(
                setback, from: Small.peer(1), pipelines: 1, epoch: epoch, halvings: halvings, policy: policy,
                rate: 0.25, patience: .seconds(10), at: .zero)
        }
        #expect(receive(setback(5), epoch: 1) == .retreat)
        #expect(desk.limit == 5 && desk.halves)
        // The other pipeline says it, too.
        #expect(receive(setback(5, rank: 1), epoch: 1) == .known)
        desk.wentBack()
        #expect(desk.limit == nil && !desk.halves)
        guard case .end(let why) = receive(setback(7, attempt: 1), epoch: 2, halvings: 1) else {
            Issue.record("a second retreat")
            return
        }
        #expect(why.contains("round 7") && why.contains("0.125") && why.contains("half the learning rate"))
        guard case .end(let stop) = receive(setback(5), epoch: 3, .stop) else {
            Issue.record("no end")
            return
        }
        #expect(stop.contains("on_divergence: retreat") && stop.contains("0.25"))
        // What an engine refuses is tried twice more.
        #expect(receive(setback(9, diverges: false), epoch: 4) == .again)
        #expect(receive(setback(9, diverges: false), epoch: 5) == .again)
        guard case .end(let hopeless) = receive(setback(9, diverges: false), epoch: 6) else {
            Issue.record("for ever")
            return
        }
        #expect(hopeless.contains("round 9") && hopeless.contains("3 times"))
    }

    @Test func `by divergence is one member's word until another says it of the same round`() {
        var desk = Setbacks()
        func hears(_ peer: Int, _ round: Int, _ epoch: Int, at seconds: Double) -> Setbacks.Verdict {
            desk.receive(
                setback(round), from: Small.peer(peer), pipelines: 3, epoch: epoch, halvings: 0, policy: .stop,
                rate: 0.25, patience: .seconds(10), at: Instant(seconds: seconds))
        }
        func due(_ epoch: Int, at seconds: Double) -> Setbacks.Verdict? {
            desk.overdue(epoch: epoch, current: 5, at: Instant(seconds: seconds))?.verdict
        }
        func ends(_ verdict: Setbacks.Verdict) -> Bool { if case .end = verdict { true } else { false } }
        // The second says it under the same plan, or under the next.
        for epoch in [1, 2] {
            desk = Setbacks()
            #expect(hears(1, 5, 1, at: 0) == .doubted)
            #expect(hears(1, 5, 1, at: 1) == .known)
            #expect(desk.deadline == Instant(seconds: 10) && due(1, at: 9.9) == nil)
            if epoch == 2 { #expect(due(1, at: 10) == .again && desk.limit == 5 && desk.turns) }
            desk.wentBack()
            #expect(!desk.turns)
            #expect(ends(hears(2, 5, epoch, at: 11)))
            #expect(hears(3, 5, epoch, at: 12) == .known)
            #expect(desk.deadline == nil)
        }
        // One alone, attempt after attempt, is let go; then its word counts for nothing, also as a second.
        desk = Setbacks()
        for (epoch, verdict) in [Setbacks.Verdict.again, .again, .dismiss(Small.peer(1))].enumerated() {
            let start = Double(20 * epoch)
            #expect(hears(1, 5, epoch + 1, at: start) == .doubted)
            #expect(due(epoch + 1, at: start + 10) == verdict)
            desk.wentBack()
        }
        #expect(hears(1, 5, 4, at: 100) == .known)
        #expect(hears(2, 5, 5, at: 101) == .doubted)
        #expect(hears(1, 5, 5, at: 102) == .known)
        // Of another round it is another matter; a plan that came meanwhile is another attempt already.
        #expect(due(6, at: 200) == nil && desk.deadline == nil)
        #expect(hears(3, 6, 6, at: 200) == .doubted)
        #expect(ends(hears(2, 6, 6, at: 201)))
        // Nobody could be heard for a while.
        desk = Setbacks()
        #expect(hears(1, 5, 1, at: 0) == .doubted)
        desk.excuse(.seconds(30))
        #expect(due(1, at: 39) == nil && due(1, at: 40) == .again)
    }

    @Test func `of lost messages makes the pipeline begin the round anew, where nothing else has come of it`() throws {
        var pool = try pool(.stop)
        let (number, other) = (try pool.number(0), try pool.number(1))
        func lost(attempt: Int) -> Message {
            .setback(
                Setback(
                    work: WorkKey(round: 2, rank: 0, attempt: attempt), stage: 0, step: 4, why: "", cause: .messagesLost
                ))
        }
        // Of another's stage, and of an attempt that is over, nobody may say it.
        pool.say(other, lost(attempt: 0))
        pool.say(number, lost(attempt: 1))
        func pass(_ seconds: Int) {
            for _ in 0..<seconds {
                pool.pass(.seconds(1))
                for peer in [number, other] { pool.beat(peer) }
            }
        }
        pass(4)
        #expect(pool.happened("pipeline_restarted").isEmpty)
        pool.say(number, lost(attempt: 0))
        pass(2)
        #expect(pool.happened("pipeline_restarted").isEmpty)
        pass(2)
        #expect(pool.happened("pipeline_restarted").count == 1)
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.pipelines.map(\.attempt) == [1, 0] && plan.round == 2)
        #expect(plan.pipelines.flatMap { $0.stages.map(\.peer) }.count == 2)
        // The same once more is of the attempt that is over.
        pool.say(number, lost(attempt: 0))
        pass(4)
        #expect(pool.happened("pipeline_restarted").count == 1)
        try pool.round()
        #expect(pool.coordinator.state.round == 3 && pool.coordinator.state.finished == nil)
    }

    @Test func `of lost messages is heeded four times a round and member`() {
        var repairs = Repairs()
        for attempt in 0..<6 {
            repairs.note(WorkKey(round: 1, rank: 0, attempt: attempt), of: Small.peer(1), at: .zero)
            repairs.note(WorkKey(round: 1, rank: 0, attempt: attempt), of: Small.peer(1), at: .zero)
        }
        repairs.note(WorkKey(round: 1, rank: 1, attempt: 0), of: Small.peer(2), at: .zero)
        #expect(repairs.deadline == Instant(seconds: 3) && repairs.next(at: Instant(seconds: 2)) == nil)
        // Nobody could be heard for a while.
        repairs.excuse(.seconds(2))
        #expect(repairs.next(at: Instant(seconds: 4)) == nil)
        var count = 0
        while repairs.next(at: Instant(seconds: 5)) != nil { count += 1 }
        #expect(count == 5 && repairs.deadline == nil)
        repairs.note(WorkKey(round: 2, rank: 0, attempt: 0), of: Small.peer(1), at: .zero)
        #expect(repairs.deadline != nil)
    }

    private func pool(_ policy: JobManifest.Checkpoints.OnDivergence) throws -> FakePool {
        var job = FakePool.job()
        job.checkpoint.onDivergence = policy
        var pool = try FakePool(job: job)
        for round in 0..<2 {
            try pool.round()
            for rank in 0..<2 { pool.apply(try pool.number(rank), round: round, "same \(round)") }
        }
        return pool
    }

    @Test func `by divergence ends the job where nothing else was asked for, with its reason, for good`() throws {
        var pool = try pool(.stop)
        let number = try pool.number(1)
        // Only whose stage it is may say so, and only of the attempt under way.
        pool.say(try pool.number(0), .setback(setback(2, rank: 1)))
        pool.say(number, .setback(setback(2, attempt: 1, rank: 1)))
        #expect(pool.happened("diverged").isEmpty)
        pool.say(number, .setback(setback(2, rank: 1)))
        // One of two says it: nobody ends a job alone.
        #expect(pool.happened("diverged").isEmpty && pool.coordinator.state.finished == nil)
        pool.say(try pool.number(0), .setback(setback(2)))
        #expect(pool.happened("diverged").count == 1)
        #expect(pool.coordinator.state.finished?.reason.contains("diverged in round 2") == true)
        #expect(!pool.coordinator.isResumable)
        for _ in 0..<5 { pool.pass(.seconds(1)) }
        #expect(pool.end?.contains("learning_rate") == true)
        #expect(pool.sent.contains { if case .dismissal = $0.packet.message { true } else { false } })
    }

    @Test func `by divergence goes back once at half the learning rate, which the log says`() throws {
        var pool = try pool(.retreat)
        #expect(pool.coordinator.state.plan?.rateFactor == 1)
        let number = try pool.number(0)
        pool.say(number, .setback(setback(2)))
        pool.say(try pool.number(1), .setback(setback(2, rank: 1)))
        pool.waitForPlan([number, try pool.number(1)])
        let plan = try #require(pool.coordinator.state.plan)
        #expect(plan.halvings == 1 && plan.rateFactor == 0.5 && plan.round == 2)
        // Whoever reads the log later has it, too.
        let read = try Record.restoring(pool.coordinator.record.envelopes, parse: JobParameters.init(manifest:)).record
        #expect(read.state.plan?.halvings == 1)
        try pool.round()
        #expect(pool.coordinator.state.round == 3 && pool.coordinator.state.plan?.halvings == 1)
        pool.say(try pool.number(0), .setback(setback(3, attempt: 1)))
        #expect(pool.coordinator.state.finished == nil)
        pool.say(try pool.number(1), .setback(setback(3, attempt: 1, rank: 1)))
        #expect(pool.coordinator.state.finished?.reason.contains("half the learning rate") == true)
    }

    @Test func `by divergence that nobody else sees leads to two more attempts, then goes on without whoever sees it`()
        throws
    {
        var pool = try pool(.stop)
        let (liar, other) = (try pool.number(1), try pool.number(0))
        for attempt in 0..<3 {
            #expect(pool.coordinator.state.plan?.pipelines.count == 2)
            pool.say(liar, .setback(setback(2, attempt: attempt, rank: 1)))
            for _ in 0..<12 {
                pool.pass(.seconds(1))
                pool.beat(other)
                if attempt < 2 || pool.coordinator.roster.joinedCount == 2 { pool.beat(liar) }
            }
        }
        #expect(pool.coordinator.state.finished == nil && pool.happened("diverged").isEmpty)
        #expect(pool.coordinator.roster.joinedCount == 1)
        #expect(pool.happened("peer_lost").first?.line.contains("nobody else does") == true)
        #expect(pool.coordinator.state.wholeRanks == [0])
        #expect(pool.coordinator.state.plan?.halvings == 0)
    }
}
