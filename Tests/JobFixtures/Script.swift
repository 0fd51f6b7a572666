public import Digests
public import Messages
public import Primitives
public import Record
public import Wire

/// A job written by hand: entries and receipts are signed as the real ones are.
public struct Script {
    public private(set) var record: Record
    public var receipts: [PBEnvelope] = []

    public init(_ parameters: JobParameters = Small.parameters(), nonce: UInt8 = 1) throws(MalformedBytes) {
        let genesis = Genesis(
            manifest: "small", electors: [Small.launcher.peerID], content: sha256([1]), contentBytes: 1,
            nonce: [UInt8](repeating: nonce, count: 32), lease: .seconds(15), silence: .seconds(5))
        record = try Record(genesis: Record.sign(genesis, by: Small.launcher)) { _ in parameters }
    }
    public var state: JobState { record.state }
    public var ledger: Ledger { record.ledger }

    @discardableResult
    public mutating func append(_ entry: Entry) throws(MalformedBytes) -> PBEnvelope {
        try record.propose(entry, term: 1, by: Small.launcher)
    }
    public mutating func receive(_ envelope: PBEnvelope) throws(MalformedBytes) -> Record.Acceptance {
        try record.receive(envelope)
    }
    public mutating func stored(through length: Int) { record.stored(through: length) }
    public mutating func join(_ numbers: [Int]) throws(MalformedBytes) {
        try append(
            .members(
                MembersChange(
                    joined: numbers.map {
                        MembersChange.Joined(
                            peer: Small.peer($0), endpoint: Small.endpoint($0), name: "peer-\($0)", device: "cpu",
                            memory: .mebibytes(64), flops: 1e9)
                    }, round: state.round)))
    }
    public mutating func leave(_ number: Int) throws(MalformedBytes) {
        try append(
            .members(
                MembersChange(
                    left: [MembersChange.Left(peer: Small.peer(number), reason: "closed")], round: state.round)))
    }
    /// A plan that is in force now, or for the round after the one in progress.
    public mutating func plan(_ plan: PlacedPlan) throws(MalformedBytes) {
        try append(.plan(PlanChange(plan, reason: "test")))
    }
    public mutating func rollBack(_ plan: PlacedPlan) throws(MalformedBytes) {
        try append(.plan(PlanChange(plan, reason: "test", rolledBack: true)))
    }

    public func digests(rank: Int, attempt: Int, stage: PlacedPlan.Stage) -> [UnitDigest] {
        stage.units.map { UnitDigest($0, sha256(Array("\(state.round) \(rank) \(attempt) \($0)".utf8)).bytes) }
    }
    public func share(_ rank: Int) -> Int { state.plan!.share(rank: rank, steps: state.spec!.steps) }
    /// Receipts of every stage of a pipeline for the round in progress.
    public mutating func report(_ rank: Int, numbers: [Int]) {
        let pipeline = state.plan!.pipelines[rank]
        for (index, stage) in pipeline.stages.enumerated() {
            let receipt = Receipt(
                work: WorkKey(round: state.round, rank: rank, attempt: pipeline.attempt), stage: index,
                microBatches: share(rank), tokens: 0, firstStep: state.spec!.firstStep, steps: state.spec!.steps,
                digests: digests(rank: rank, attempt: pipeline.attempt, stage: stage))
            let key = numbers.map { Small.key($0) }.first { $0.peerID == stage.peer }!
            receipts.append(receipt.signed(job: record.job, epoch: 1, wall: 0, by: key))
        }
    }
    public func makeSeal(_ ranks: [Int]) -> Seal {
        let (plan, spec) = (state.plan!, state.spec!)
        let parts = ranks.map { rank in
            let pipeline = plan.pipelines[rank]
            return pipeline.stages.flatMap { digests(rank: rank, attempt: pipeline.attempt, stage: $0) }
        }
        let contributions = zip(ranks, parts).map { rank, digests in
            Seal.Contribution(
                rank: rank, attempt: plan.pipelines[rank].attempt, microBatches: share(rank),
                digest: Seal.digest(digests))
        }
        let perMicroBatch = state.parameters.microBatch * state.parameters.model.context
        return Seal(
            round: spec.round, firstStep: spec.firstStep, steps: spec.steps, contributions: contributions,
            tokens: spec.sealedTokens + ranks.reduce(0) { $0 + share($1) } * perMicroBatch,
            parts: Seal.parts(parts))
    }
    public mutating func seal(_ ranks: [Int]) throws(MalformedBytes) { try append(.seal(makeSeal(ranks))) }
    public mutating func finish() throws(MalformedBytes) { try append(.finish(Finish(reason: Finish.done))) }

    public func audit() throws(MalformedBytes) -> Ledger.Totals {
        try auditMicroBatches(log: record.envelopes, receipts: receipts, parameters: state.parameters)
    }
}
