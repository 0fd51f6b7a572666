import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Testing
import Wire

@Suite struct `The ledger and its audit` {
    static let everybody = Array(1...6)

    private func started(_ pipelines: [[Int]] = [[1, 2], [3, 4]]) throws -> Script {
        var script = try Script()
        try script.join(Self.everybody)
        try script.plan(Small.plan(pipelines, spares: [5, 6]))
        return script
    }
    /// The two agree, and so do the numbers expected.
    private func check(
        _ script: Script, granted: Int, counted: Int, late: Int = 0, lost: Int = 0, superseded: Int = 0,
        location: SourceLocation = #_sourceLocation
    ) throws {
        var expected = Ledger.Totals()
        expected.granted = granted
        expected.counted = counted
        expected.late = late
        expected.lost = lost
        expected.superseded = superseded
        #expect(script.ledger.totals == expected, sourceLocation: location)
        #expect(try script.audit() == expected, sourceLocation: location)
        if script.state.finished != nil { #expect(expected.isBalanced, sourceLocation: location) }
    }

    @Test func `agree when nothing happens`() throws {
        var script = try started()
        for _ in 0..<3 {
            for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
            try script.seal([0, 1])
        }
        // The fourth round is granted, and void when the job is stopped.
        try script.finish()
        try check(script, granted: 32, counted: 24, superseded: 8)
    }

    @Test func `agree on a job that ends with its tokens`() throws {
        var script = try Script(Small.parameters(tokens: 128))
        try script.join([1, 2])
        try script.plan(Small.plan([[1, 2]]))
        for _ in 0..<2 {
            script.report(0, numbers: Self.everybody)
            try script.seal([0])
        }
        #expect(script.state.spec == nil)
        try script.finish()
        try check(script, granted: 16, counted: 16)
    }

    @Test func `agree on a pipeline that is too late`() throws {
        var script = try started()
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        try script.finish()
        try check(script, granted: 16, counted: 4, late: 4, superseded: 8)
    }

    @Test func `agree on a pipeline that lost a member`() throws {
        var script = try started()
        try script.leave(4)
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        try script.finish()
        try check(script, granted: 16, counted: 4, lost: 4, superseded: 8)
    }

    @Test func `list one peer's work by how it ended, and follow a roll-back`() throws {
        var script = try started()
        for _ in 0..<2 {
            for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
            try script.seal([0, 1])
        }
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        try script.leave(4)
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        func outcomes(_ number: Int) -> [String] {
            script.record.listing(workOf: Small.peer(number)).ledger.endings.map {
                "\($0.round) \($0.outcome.rawValue) \($0.microBatches)"
            }
        }
        #expect(outcomes(1) == ["0 counted 4", "1 counted 4", "2 counted 4", "3 counted 4"])
        #expect(outcomes(3) == ["0 counted 4", "1 counted 4", "2 late 4", "3 lost 4"])
        #expect(outcomes(5) == [])
        var back = Small.plan([[1, 2], [3, 5]], epoch: 2, attempts: [1, 1], spares: [6])
        back.round = 1
        try script.rollBack(back)
        #expect(
            outcomes(1) == [
                "0 counted 4", "1 superseded 4", "2 superseded 4", "3 superseded 4", "4 superseded 4",
            ])
        #expect(outcomes(3).contains("0 counted 4") && outcomes(3).contains("2 late 4"))
        // Listed as it is written, it is the same; and nobody's totals change by being listed.
        let listed = script.record.listing(workOf: Small.peer(5))
        #expect(listed.ledger.totals == script.ledger.totals && listed.ledger.ownUnderWay == 4)
        #expect(script.record.ledger.endings.isEmpty && script.ledger.ownUnderWay == 0)
        for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
        try script.seal([0, 1])
        #expect(outcomes(5) == ["1 counted 4"])
        let ledger = script.record.listing(workOf: Small.peer(3)).ledger
        #expect(ledger.own(.counted) == 8 && ledger.own(.late) == 4 && ledger.own(.lost) == 4)
    }

    @Test func `agree on a spare that takes a lost member's place`() throws {
        var script = try started()
        try script.leave(2)
        try script.plan(Small.plan([[1, 5], [3, 4]], epoch: 2, attempts: [1, 0], spares: [6]))
        for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
        try script.seal([0, 1])
        try script.finish()
        try check(script, granted: 4 + 4 + 4 + 8, counted: 8, superseded: 4 + 8)
    }

    @Test func `agree on a roll-back, whose rounds are counted again`() throws {
        var script = try started()
        for _ in 0..<3 {
            for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
            try script.seal([0, 1])
        }
        try script.rollBack(Small.plan([[1, 3]], epoch: 2, round: 1, attempts: [1]))
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        try script.finish()
        // Three rounds and an open one before it, two of them void; then one counted and one open.
        try check(script, granted: 32 + 8 + 8, counted: 16, superseded: 8 + 16 + 8)
    }

    @Test func `agree on a new plan with fewer pipelines from the next round on`() throws {
        var script = try started([[1, 2], [3], [4]])
        try script.leave(2)
        try script.plan(Small.plan([[3], [4]], epoch: 2, round: 1, spares: [1, 5, 6]))
        script.report(1, numbers: Self.everybody)
        script.report(2, numbers: Self.everybody)
        try script.seal([1, 2])
        for rank in 0..<2 { script.report(rank, numbers: Self.everybody) }
        try script.seal([0, 1])
        try script.finish()
        try check(script, granted: 24, counted: 14, lost: 2, superseded: 8)
    }

    @Test func `the audit refuses a seal without receipts, or with other digests`() throws {
        var script = try started()
        script.report(0, numbers: Self.everybody)
        script.report(1, numbers: Self.everybody)
        try script.seal([0, 1])
        #expect(throws: Never.self) { try script.audit() }
        for missing in script.receipts.indices {
            var copy = script
            copy.receipts.remove(at: missing)
            #expect(throws: MalformedBytes.self) { try copy.audit() }
        }
        var forged = try started()
        forged.report(0, numbers: Self.everybody)
        forged.report(1, numbers: Self.everybody)
        var seal = forged.makeSeal([0, 1])
        let right = seal
        seal.contributions[1].digest = sha256([7])
        var other = forged
        try other.append(.seal(seal))
        #expect(throws: MalformedBytes.self) { try other.audit() }
        for place in right.parts.indices {
            var copy = forged
            seal = right
            seal.parts[place].bytes = sha256([7]).bytes
            try copy.append(.seal(seal))
            #expect(throws: MalformedBytes.self) { try copy.audit() }
        }
        try forged.append(.seal(right))
        #expect(throws: Never.self) { try forged.audit() }
    }

    /// Whoever signed twice cannot take away what was counted by what it signed first.
    @Test func `the audit finds the receipt that was counted among contradicting ones`() throws {
        var script = try started()
        script.report(0, numbers: Self.everybody)
        script.report(1, numbers: Self.everybody)
        for place in script.receipts.indices {
            var second = try Receipt.open(script.receipts[place], job: script.record.job, wall: nil)
            second.receipt.digests[0].bytes = sha256([UInt8(place)]).bytes
            let key = Self.everybody.map { Small.key($0) }.first { $0.peerID == second.signer }!
            script.receipts.insert(
                second.receipt.signed(job: script.record.job, epoch: 1, wall: 0, by: key), at: 2 * place % 3)
        }
        try script.seal([0, 1])
        #expect(throws: Never.self) { try script.audit() }
    }

    @Test func `the audit refuses an altered receipt`() throws {
        var script = try started()
        script.report(0, numbers: Self.everybody)
        try script.seal([0])
        #expect(throws: Never.self) { try script.audit() }
        script.receipts[1].sequence += 1
        #expect(throws: MalformedBytes.self) { try script.audit() }
    }

    /// A receipt is a peer's word about its own stage: another's word about it proves nothing.
    @Test func `the audit refuses a receipt that another peer signed`() throws {
        var script = try started()
        script.report(0, numbers: Self.everybody)
        let receipt = try Receipt.open(script.receipts[1], job: script.record.job, wall: nil).receipt
        script.receipts[1] = receipt.signed(job: script.record.job, epoch: 1, wall: 0, by: Small.key(9))
        try script.seal([0])
        #expect(throws: MalformedBytes.self) { try script.audit() }
    }

    /// Hundreds of jobs in which everything happens that may.
    @Test(arguments: 0..<40) func `agree whatever happens`(seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed), stream: 77)
        var script = try Script(Small.parameters(tokens: 640 + 8 * generator.below(40)))
        try script.join(Self.everybody)
        try script.plan(Small.plan([[1, 2], [3], [4]], spares: [5, 6]))
        var epoch = 1
        for _ in 0..<60 {
            guard let plan = script.state.plan, script.state.spec != nil else { break }
            let ranks = Array(plan.pipelines.indices)
            let whole = ranks.filter { !script.state.isBroken(rank: $0) }
            let present = Self.everybody.filter { script.state.isPresent(Small.peer($0)) }
            let away = Self.everybody.filter { !present.contains($0) }
            let idle = present.filter { plan.placement(of: Small.peer($0)) == nil }
            switch generator.below(10) {
            case 0: if present.count > 2 { try script.leave(present[generator.below(present.count)]) }
            case 1: if let back = away.first, plan.placement(of: Small.peer(back)) == nil { try script.join([back]) }
            case 2:
                guard let broken = ranks.first(where: { script.state.isBroken(rank: $0) }), let spare = idle.first
                else { continue }
                var next = plan
                epoch += 1
                next.epoch = epoch
                next.round = script.state.round
                for stage in next.pipelines[broken].stages.indices
                where !script.state.isPresent(next.pipelines[broken].stages[stage].peer) {
                    next.pipelines[broken].stages[stage].peer = Small.peer(spare)
                    break
                }
                next.pipelines[broken].attempt += 1
                try script.plan(next)
            case 3:
                guard script.state.nextPlan == nil else { continue }
                epoch += 1
                let cut = generator.below(present.count) + 1
                let pipelines = Array(present.prefix(min(4, cut))).map { [$0] }
                try script.plan(Small.plan(pipelines, epoch: epoch, round: script.state.round + 1))
            case 4 where generator.below(3) == 0:
                epoch += 1
                let attempt = (plan.pipelines.map(\.attempt).max() ?? 0) + 1
                try script.rollBack(
                    Small.plan(
                        [[present[0]], [present[1]]], epoch: epoch,
                        round: max(0, script.state.round - generator.below(3)), attempts: [attempt, attempt]))
            default:
                let done = whole.filter { _ in generator.below(4) > 0 }
                guard !done.isEmpty else { continue }
                for rank in done { script.report(rank, numbers: Self.everybody) }
                try script.seal(done)
            }
        }
        try script.finish()
        #expect(script.ledger.totals.isBalanced)
        #expect(script.ledger.totals.counted * 8 == script.state.sealedTokens)
        #expect(try script.audit() == script.ledger.totals)
    }
}
