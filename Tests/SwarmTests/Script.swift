import Digests
import Primitives
import Swarm
import Testing
import Training
import Wire

/// A job small enough to follow by hand: four units, micro-batches of eight tokens, four virtual pipelines.
enum Small {
    static let model = ModelShape(
        hiddenSize: 8, layers: 2, heads: 2, kvHeads: 1, intermediateSize: 8, context: 8)
    static let launcher = key(250)

    static func key(_ number: Int) -> SigningKey { SigningKey(seed: [UInt8](repeating: UInt8(number), count: 32))! }
    static func peer(_ number: Int) -> PeerID { key(number).peerID }
    static func endpoint(_ number: Int) -> Endpoint { Endpoint(ipv4: 10, 0, 0, UInt8(number), port: 4000) }

    static func parameters(tokens: Int = 10_000, virtualPipelines: Int = 4) -> JobParameters {
        JobParameters(
            name: "small", model: model, virtualPipelines: virtualPipelines, microBatch: 1, tokens: tokens,
            optimizer: InnerOptimizer(learningRate: 0.1, warmupTokens: 0, totalTokens: tokens), seed: 1,
            validationFraction: 0.1, checkpointRounds: 0)
    }

    /// Pipelines of the peers named, cut evenly; the virtual pipelines in order, as many for each.
    static func plan(
        _ pipelines: [[Int]], epoch: Int = 1, round: Int = 0, innerSteps: Int = 2, attempts: [Int] = [],
        spares: [Int] = [], virtualPipelines: Int = 4, inFlight: Int = 2, microBatchesPerVirtual: Int = 1,
        delay: Int = 0
    ) -> PlacedPlan {
        PlacedPlan(
            epoch: epoch, round: round,
            pipelines: pipelines.enumerated().map { rank, peers in
                PlacedPlan.Pipeline(
                    stages: peers.enumerated().map { stage, number in
                        let units = model.unitCount
                        return PlacedPlan.Stage(
                            peer: peer(number),
                            units: units * stage / peers.count..<units * (stage + 1) / peers.count)
                    },
                    virtualPipelines: Array(
                        virtualPipelines * rank / pipelines.count..<virtualPipelines * (rank + 1) / pipelines.count),
                    inFlight: inFlight, attempt: rank < attempts.count ? attempts[rank] : 0)
            }, spares: spares.map { peer($0) }, innerSteps: innerSteps, microBatchesPerVirtual: microBatchesPerVirtual,
            exchangeCodec: .fp32, activationCodec: .fp32, outer: OuterOptimizer(delay: delay))
    }
}

/// A job written by hand: entries and receipts are signed as the real ones are, and the ledger is told what the
/// coordinator tells it.
struct Script {
    var log: JobLog
    var state: JobState
    var ledger = Ledger()
    var receipts: [PBEnvelope] = []
    private var sequence: UInt64 = 0

    init(_ parameters: JobParameters = Small.parameters()) throws {
        let genesis = JobLog.genesis(
            manifest: "small", content: sha256([1]), contentBytes: 1, by: Small.launcher)
        log = try JobLog(genesis: genesis)
        state = JobState(parameters: parameters)
    }

    mutating func append(_ body: PBLogEntry.OneOf_Body) throws {
        let (_, entry) = log.append(body, epoch: 1, by: Small.launcher)
        try state.apply(entry)
    }
    mutating func join(_ numbers: [Int]) throws {
        var change = PBMembers()
        change.joined = numbers.map { number in
            var joined = PBMembers.Joined()
            joined.peer = bytesOf(Small.peer(number))
            joined.endpoint = bytesOf(Small.endpoint(number).compact)
            joined.name = "peer-\(number)"
            return joined
        }
        try append(.members(change))
    }
    mutating func leave(_ number: Int) throws {
        var change = PBMembers()
        var left = PBMembers.Left()
        left.peer = bytesOf(Small.peer(number))
        left.reason = "closed"
        change.left = [left]
        try append(.members(change))
    }
    /// A plan that is in force now.
    mutating func begin(_ plan: PlacedPlan) throws {
        try append(.plan(plan.message(reason: "test")))
        ledger.grant(state)
    }
    /// A plan for the round after the one in progress.
    mutating func announce(_ plan: PlacedPlan) throws { try append(.plan(plan.message(reason: "test"))) }
    mutating func rollBack(_ plan: PlacedPlan) throws {
        if plan.round < state.round { ledger.rollBack(to: plan.round) } else { ledger.abandon() }
        try append(.plan(plan.message(reason: "test", rolledBack: true)))
        ledger.grant(state)
    }

    func digests(rank: Int, attempt: Int, stage: PlacedPlan.Stage) -> [PBUnitDigest] {
        stage.units.map { unit in
            var entry = PBUnitDigest()
            entry.unit = UInt32(unit)
            entry.digest = bytesOf(sha256(Array("\(state.round) \(rank) \(attempt) \(unit)".utf8)))
            return entry
        }
    }
    func share(_ rank: Int) -> Int {
        let (plan, spec) = (state.plan!, state.spec!)
        return plan.pipelines[rank].virtualPipelines.count * plan.microBatchesPerVirtual * spec.steps
    }
    /// Receipts of every stage of a pipeline for the round in progress.
    mutating func report(_ rank: Int, numbers: [Int]) {
        let pipeline = state.plan!.pipelines[rank]
        for (index, stage) in pipeline.stages.enumerated() {
            var work = PBWork()
            work.work.round = UInt64(state.round)
            work.work.rank = UInt32(rank)
            work.work.attempt = UInt32(pipeline.attempt)
            work.stage = UInt32(index)
            work.microBatches = UInt32(share(rank))
            work.digests = digests(rank: rank, attempt: pipeline.attempt, stage: stage)
            sequence += 1
            let key = numbers.map { Small.key($0) }.first { $0.peerID == stage.peer }!
            receipts.append(PBEnvelope(work, type: .receipt, job: log.job, epoch: 1, sequence: sequence, by: key))
        }
    }
    func makeSeal(_ ranks: [Int]) -> PBSeal {
        let (plan, spec) = (state.plan!, state.spec!)
        var seal = PBSeal()
        seal.round = UInt64(spec.round)
        seal.firstStep = UInt64(spec.firstStep)
        seal.steps = UInt32(spec.steps)
        seal.contributions = ranks.map { rank in
            let pipeline = plan.pipelines[rank]
            var entry = PBSeal.Contribution()
            entry.rank = UInt32(rank)
            entry.attempt = UInt32(pipeline.attempt)
            entry.microBatches = UInt32(share(rank))
            entry.digests = pipeline.stages.flatMap { digests(rank: rank, attempt: pipeline.attempt, stage: $0) }
            return entry
        }
        let perMicroBatch = state.parameters.microBatch * state.parameters.model.context
        seal.tokens = UInt64(spec.sealedTokens + ranks.reduce(0) { $0 + share($1) } * perMicroBatch)
        return seal
    }
    mutating func seal(_ ranks: [Int]) throws {
        let broken = Set(state.plan!.pipelines.indices.filter { state.isBroken(rank: $0) })
        try append(.seal(makeSeal(ranks)))
        ledger.seal(state.seals.last!, broken: broken)
        ledger.grant(state)
    }
    mutating func finish() throws {
        ledger.abandon()
        var finish = PBFinish()
        finish.reason = "done"
        try append(.finish(finish))
    }

    func audit() throws(MalformedBytes) -> Ledger.Totals {
        try auditMicroBatches(log: log.envelopes, receipts: receipts, parameters: state.parameters)
    }
}
