public import Digests
public import Primitives
public import Wire

/// A stage's signed statement of its work on a round. Which statement it is, its body says: pipeline, attempt, stage.
public struct Receipt: Hashable, Sendable {
    public var work: WorkKey
    public var stage: Int
    public var microBatches: Int
    public var tokens: Int
    public var firstStep: Int
    public var steps: Int
    /// Last stage: sum over micro-batches of the mean loss, nats a token.
    public var lossSum: Double
    public var evaluationSum: Double
    public var evaluationTokens: Int
    /// Modelled, of the round.
    public var flops: Double
    /// Sent for exchanges since the receipt before.
    public var exchangeBytes: Int
    /// Of each unit's contribution, and of its chunks.
    public var digests: [UnitDigest]
    public var chunks: [UnitDigest]

    public init(
        work: WorkKey, stage: Int, microBatches: Int, tokens: Int, firstStep: Int, steps: Int, lossSum: Double = 0,
        evaluationSum: Double = 0, evaluationTokens: Int = 0, flops: Double = 0, exchangeBytes: Int = 0,
        digests: [UnitDigest] = [], chunks: [UnitDigest] = []
    ) {
        self.work = work
        self.stage = stage
        self.microBatches = microBatches
        self.tokens = tokens
        self.firstStep = firstStep
        self.steps = steps
        self.lossSum = lossSum
        self.evaluationSum = evaluationSum
        self.evaluationTokens = evaluationTokens
        self.flops = flops
        self.exchangeBytes = exchangeBytes
        self.digests = digests
        self.chunks = chunks
    }

    /// Seconds for which a receipt can be handed in.
    public static let life: Int64 = 7 * 86_400

    public func signed(job: Digest256, epoch: Int, wall: Int64, by key: SigningKey) -> PBEnvelope {
        PBEnvelope(
            encoded, type: .receipt, job: job, epoch: UInt64(epoch), sequence: 0,
            expiry: UInt64(max(0, wall + Self.life)), by: key)
    }
    /// When it says that it was signed, in seconds since 1970 of its signer's clock; nil where it does not expire.
    public static func signingTime(of envelope: PBEnvelope) -> Int64? {
        envelope.expiry == 0 ? nil : Int64(clamping: envelope.expiry) - life
    }
    /// Verifies and reads one.
    /// - Parameter wall: seconds since 1970; nil in an audit after the fact, which takes what was counted then.
    public static func open(
        _ envelope: PBEnvelope, job: Digest256, wall: Int64?
    ) throws(MalformedBytes) -> (signer: PeerID, receipt: Receipt) {
        let statement = try envelope.open(.receipt, job: job, wall: wall, as: PBWork.self)
        return (statement.signer, try Receipt(statement.body))
    }

    init(_ m: PBWork) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        stage = try bounded(m.stage, below: Bounds.unit, "stage")
        microBatches = try bounded(m.microBatches, below: Bounds.microBatches, "micro-batches")
        tokens = try bounded(m.tokens, below: Bounds.amount, "tokens")
        firstStep = try bounded(m.firstStep, below: Bounds.step, "step")
        steps = try bounded(m.steps, below: Bounds.counter, "steps")
        lossSum = try finite(m.lossSum, in: Bounds.lossSum, "loss")
        evaluationSum = try finite(m.evaluationSum, in: Bounds.lossSum, "loss")
        evaluationTokens = try bounded(m.evaluationTokens, below: Bounds.step, "tokens")
        flops = try finite(m.flops, in: 0...1e27, "work")
        exchangeBytes = try bounded(m.exchangeBytes, below: Bounds.step, "bytes")
        digests = try UnitDigest.list(m.digests)
        guard digests.allSatisfy({ $0.bytes.count == 32 }) else { throw MalformedBytes("a digest that is none") }
        chunks = try UnitDigest.list(m.chunks)
    }
    var encoded: PBWork {
        var m = PBWork()
        m.work = work.encoded
        m.stage = UInt32(stage)
        m.microBatches = UInt32(microBatches)
        m.tokens = UInt64(tokens)
        m.firstStep = UInt64(firstStep)
        m.steps = UInt32(steps)
        m.lossSum = lossSum
        m.evaluationSum = evaluationSum
        m.evaluationTokens = UInt64(evaluationTokens)
        m.flops = flops
        m.exchangeBytes = UInt64(exchangeBytes)
        m.digests = digests.map(\.encoded)
        m.chunks = chunks.map(\.encoded)
        return m
    }
}
