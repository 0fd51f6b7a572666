import Digests
import JobFixtures
import Messages
import Primitives
import Record
import Testing
import Training
import Wire

@Suite struct `The job state` {
    private func started(_ pipelines: [[Int]] = [[1, 2], [3, 4]], spares: [Int] = [5]) throws -> Script {
        var script = try Script()
        try script.join([1, 2, 3, 4, 5])
        try script.plan(Small.plan(pipelines, spares: spares))
        return script
    }

    @Test func `counts rounds, steps and tokens by the seals`() throws {
        var script = try started()
        #expect(script.state.spec?.steps == 2)
        #expect(script.state.spec?.firstStep == 0)
        try script.seal([0, 1])
        // Two steps of four micro-batches of eight tokens.
        #expect(script.state.round == 1)
        #expect(script.state.sealedTokens == 64)
        #expect(script.state.spec?.firstStep == 2)
        try script.seal([1])
        #expect(script.state.round == 2)
        #expect(script.state.sealedTokens == 96)
        #expect(script.state.seals.map { $0.contributions.map(\.rank) } == [[0, 1], [1]])
    }

    @Test func `the last round is as short as the tokens left, and then there is none`() throws {
        var script = try Script(Small.parameters(tokens: 90))
        try script.join([1])
        try script.plan(Small.plan([[1]]))
        try script.seal([0])
        #expect(script.state.spec?.steps == 1)
        try script.seal([0])
        #expect(script.state.spec == nil)
        #expect(script.state.sealedTokens == 96)
    }

    @Test func `a plan for the next round waits for the seal`() throws {
        var script = try started()
        let next = Small.plan([[3, 4]], epoch: 2, round: 1, spares: [1, 2, 5])
        try script.plan(next)
        #expect(script.state.plan?.pipelines.count == 2)
        #expect(script.state.nextPlan == next)
        try script.seal([0, 1])
        #expect(script.state.plan == next)
        #expect(script.state.nextPlan == nil)
        #expect(script.state.planCount == 2)
    }

    @Test func `a plan for any other round is refused`() throws {
        var script = try started()
        try script.seal([0, 1])
        for round in [0, 3, 9] {
            var copy = script
            let before = copy.state
            #expect(throws: MalformedBytes.self) { try copy.plan(Small.plan([[1]], epoch: 2, round: round)) }
            #expect(copy.state.plan == before.plan)
            #expect(copy.state.planCount == before.planCount)
        }
    }

    @Test func `a plan that names a stranger is refused`() throws {
        var script = try started()
        #expect(throws: MalformedBytes.self) { try script.plan(Small.plan([[1, 9]], epoch: 2, round: 1)) }
        #expect(throws: MalformedBytes.self) {
            try script.plan(Small.plan([[1, 2]], epoch: 2, round: 1, spares: [9]))
        }
        #expect(script.state.nextPlan == nil)
    }

    /// What a member measures itself at is the job's own shape, and of a large model little enough for a slow machine.
    @Test func `a rehearsal is some blocks of the job's model, and bounded`() {
        let one = Small.model.parameters(units: 1..<2)
        for blocks in 1...Small.model.layers {
            let sample = Small.parameters().rehearsal(parameters: blocks * one)
            #expect(sample.model == Small.model && sample.units == 1..<1 + min(4, blocks))
        }
        let small = Small.parameters().rehearsal(most: 1, parameters: .max)
        #expect(small.units == 1..<2)
        #expect(small.geometry.microBatch == 1)
        var large = Small.parameters()
        large.model = ModelShape(
            hiddenSize: 4096, layers: 32, heads: 32, kvHeads: 8, intermediateSize: 11_008, context: 8192)
        large.microBatch = 16
        let sample = large.rehearsal(parameters: .max)
        #expect(sample.geometry.microBatch == 1 && sample.geometry.context == sample.model.context)
        #expect((128...8192).contains(sample.geometry.context))
        #expect(3 * sample.model.forwardFLOPs(units: sample.units, sequences: 1) <= 4e11)
    }

    @Test func `a seal that does not fit is refused and nothing changes`() throws {
        let script = try started()
        let right = script.makeSeal([0, 1])
        func isRefused(_ change: (inout Seal) -> Void) -> Bool {
            var seal = right
            change(&seal)
            var copy = script
            do throws(MalformedBytes) {
                try copy.append(.seal(seal))
                return false
            } catch {
                return copy.state.round == 0 && copy.state.seals.isEmpty && copy.state.sealedTokens == 0
                    && copy.record.length == script.record.length && copy.ledger == script.ledger
            }
        }
        #expect(!isRefused { _ in })
        #expect(isRefused { $0.tokens += 1 })
        #expect(isRefused { $0.tokens -= 8 })
        #expect(isRefused { $0.contributions[0].microBatches += 1 })
        #expect(isRefused { $0.round = 1 })
        #expect(isRefused { $0.steps = 1 })
        #expect(isRefused { $0.firstStep = 2 })
        #expect(isRefused { $0.contributions.swapAt(0, 1) })
        #expect(isRefused { $0.contributions[1].rank = 0 })
        #expect(isRefused { $0.contributions[1].rank = 2 })
        #expect(isRefused { $0.tokens = .max })
        #expect(isRefused { $0.contributions[0].attempt += 1 })
        #expect(isRefused { $0.contributions = [] })
        #expect(isRefused { $0.parts[0].unit = 9999 })
        #expect(isRefused { $0.aggregates = [UnitDigest(9999, [])] })
    }

    @Test func `a roll-back voids the seals from its round on`() throws {
        var script = try started()
        for _ in 0..<4 { try script.seal([0, 1]) }
        try script.plan(Small.plan([[3, 4]], epoch: 2, round: 5))
        try script.rollBack(Small.plan([[1, 2]], epoch: 3, round: 2, attempts: [1]))
        #expect(script.state.round == 2)
        #expect(script.state.seals.map(\.round) == [0, 1])
        #expect(script.state.sealedTokens == 128)
        #expect(script.state.spec?.firstStep == 4)
        #expect(script.state.nextPlan == nil)
        #expect(script.state.plan?.epoch == 3)
        #expect(throws: MalformedBytes.self) { try script.rollBack(Small.plan([[1, 2]], epoch: 4, round: 3)) }
        try script.rollBack(Small.plan([[1, 2]], epoch: 4, round: 0, attempts: [2]))
        #expect(script.state.sealedTokens == 0)
        #expect(script.state.nextStep == 0)
    }

    @Test func `a pipeline is broken as long as one of its members is away`() throws {
        var script = try started()
        #expect([0, 1].map { script.state.isBroken(rank: $0) } == [false, false])
        try script.leave(5)
        #expect(!script.state.isBroken(rank: 0))
        try script.leave(4)
        #expect([0, 1].map { script.state.isBroken(rank: $0) } == [false, true])
        #expect(!script.state.isPresent(Small.peer(4)))
        #expect(script.state.member(Small.peer(4))?.name == "peer-4")
        try script.plan(Small.plan([[1, 2], [3, 5]], epoch: 2))
        #expect(script.state.isBroken(rank: 1))
        try script.join([5])
        #expect(!script.state.isBroken(rank: 1))
        #expect(script.state.isBroken(rank: 2))
    }

    @Test func `validation is every round with inner steps, every tenth without`() throws {
        var script = try Script()
        try script.join([1])
        try script.plan(Small.plan([[1]], innerSteps: 1))
        var evaluated: [Int] = []
        for round in 0..<25 {
            if script.state.spec!.evaluates { evaluated.append(round) }
            try script.seal([0])
        }
        #expect(evaluated == [0, 10, 20])
    }

    @Test func `a finished job has no round in progress`() throws {
        var script = try started()
        try script.finish()
        #expect(script.state.finished?.reason == "done")
        #expect(script.state.spec == nil)
    }
}

@Suite struct `Placed plans` {
    /// Through the log: as a follower reads what an elector signs.
    private func read(_ change: PBPlanChange) throws(MalformedBytes) -> PlacedPlan {
        var script = try Script()
        try script.join(Array(1...8))
        for _ in 0..<4 { if change.round > 0 { try advance(&script) } }
        var entry = PBLogEntry()
        entry.index = UInt64(script.record.length)
        let last = script.record.envelopes.last!
        entry.previous = bytesOf(sha256([0] + [UInt8](last.body)))
        entry.term = 1
        entry.plan = change
        let envelope = PBEnvelope(
            entry, type: .logEntry, job: script.record.job, epoch: 1, sequence: entry.index, by: Small.launcher)
        guard case .appended = try script.receive(envelope), let plan = script.state.nextPlan ?? script.state.plan
        else {
            throw MalformedBytes("not appended")
        }
        return plan
    }
    /// To round 3, in which a plan for it may come back.
    private func advance(_ script: inout Script) throws(MalformedBytes) {
        if script.state.plan == nil { return try script.plan(Small.plan([[1]])) }
        try script.seal([0])
    }

    @Test func `come back from the log as they were`() throws {
        var plan = Small.plan([[1, 2], [3], [4, 5]], round: 3, attempts: [0, 2, 1], spares: [7, 8])
        plan.sources = [0: [Small.peer(1)], 2: [Small.peer(2), Small.peer(3)]]
        plan.exchangeCodec = .sparse(k: 64)
        plan.activationCodec = .int8
        plan.outer.learningRate = 0.7
        plan.outer.momentum = 0.9
        let change = plan.message(reason: "r", rolledBack: true)
        #expect(change.rolledBack)
        var back = try read(change)
        back.epoch = plan.epoch
        #expect(back == plan)
    }

    @Test func `know who holds what`() {
        let plan = Small.plan([[1, 2], [3]], spares: [7])
        #expect(plan.peers == [1, 2, 3].map { Small.peer($0) })
        #expect(plan.holders(of: 0) == [Small.peer(1), Small.peer(3)])
        #expect(plan.holders(of: 3) == [Small.peer(2), Small.peer(3)])
        #expect(plan.placement(of: Small.peer(2))?.stage == 1)
        #expect(plan.placement(of: Small.peer(7)) == nil)
    }

    private static let flaws: [(String, @Sendable (inout PBPlanChange) -> Void)] = [
        ("a gap between stages", { $0.pipelines[0].stages[1].firstUnit += 1 }),
        ("a unit held twice in a pipeline", { $0.pipelines[0].stages[1].firstUnit -= 1 }),
        ("the last unit missing", { $0.pipelines[0].stages.removeLast() }),
        ("a unit too many", { $0.pipelines[1].stages[1].endUnit += 1 }),
        ("an empty stage", { $0.pipelines[0].stages[0].endUnit = 0 }),
        ("no stages", { $0.pipelines[0].stages = [] }),
        ("two stages for a peer", { $0.pipelines[1].stages[0].peer = $0.pipelines[0].stages[1].peer }),
        ("a peer that is no key", { $0.pipelines[0].stages[0].peer = bytesOf([1, 2, 3]) }),
        ("a virtual pipeline mapped twice", { $0.pipelines[1].virtualPipelines = [1, 3] }),
        ("a virtual pipeline twice in a pipeline", { $0.pipelines[1].virtualPipelines = [2, 2] }),
        ("virtual pipelines out of order", { $0.pipelines[1].virtualPipelines = [3, 2] }),
        ("a virtual pipeline beyond the job's", { $0.pipelines[1].virtualPipelines = [2, 4] }),
        ("a pipeline without a share", { $0.pipelines[1].virtualPipelines = [] }),
        ("an unknown exchange codec", { $0.exchangeCodec = "fp8" }),
        ("an unknown activation codec", { $0.activationCodec = "" }),
        ("no inner steps", { $0.innerSteps = 0 }),
        ("too many inner steps", { $0.innerSteps = 10_001 }),
        ("no micro-batches", { $0.microBatchesPerVirtual = 0 }),
    ]
    @Test(arguments: 0..<flaws.count) func `with a flaw are refused`(number: Int) {
        let right = Small.plan([[1, 2], [3, 4]]).message(reason: "")
        #expect(throws: Never.self) { try read(right) }
        var change = right
        Self.flaws[number].1(&change)
        #expect(throws: MalformedBytes.self, "\(Self.flaws[number].0)") { try read(change) }
    }

    @Test func `without pipelines or with a virtual pipeline that is nobody's`() {
        // Both would leave part of each batch undone: the planner never makes them, so a verifier should not take them.
        var change = Small.plan([[1, 2], [3, 4]]).message(reason: "")
        change.pipelines[1].virtualPipelines = [2]
        #expect(throws: MalformedBytes.self) { try read(change) }
        change.pipelines = []
        #expect(throws: MalformedBytes.self) { try read(change) }
    }
}
