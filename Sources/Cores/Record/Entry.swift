public import Digests
public import Messages
public import Primitives
public import Wire

/// What an entry of the log says.
public enum Entry: Hashable, Sendable {
    case genesis(Genesis)
    case members(MembersChange)
    case plan(PlanChange)
    case seal(Seal)
    case states(States)
    case finish(Finish)
    case opening(Opening)
    case electors(ElectorsChange)
}

/// What a job is: the SHA-256 of its bytes is the job's ID.
public struct Genesis: Hashable, Sendable {
    public var manifest: String
    public var electors: [PeerID]
    public var numerics: String
    public var content: Digest256
    public var contentBytes: Int
    /// 32 random bytes: no two runs are one job.
    public var nonce: [UInt8]
    /// A member that hears nothing of its leader for this long stops working; its state stays.
    public var lease: Duration
    /// A member of which nothing is heard for this long is lost.
    public var silence: Duration
    public init(
        manifest: String, electors: [PeerID], numerics: String = Record.numerics, content: Digest256, contentBytes: Int,
        nonce: [UInt8], lease: Duration, silence: Duration
    ) {
        precondition(nonce.count == 32, "a nonce has 32 bytes")
        self.manifest = manifest
        self.electors = electors
        self.numerics = numerics
        self.content = content
        self.contentBytes = contentBytes
        self.nonce = nonce
        self.lease = lease
        self.silence = silence
    }

    init(_ m: PBGenesis) throws(MalformedBytes) {
        guard m.manifest.utf8.count <= 1 << 17 else {
            throw MalformedBytes("a manifest of \(m.manifest.utf8.count) bytes")
        }
        manifest = m.manifest
        electors = try decode(m.electors, atMost: 7, "electors") { (raw) throws(MalformedBytes) in try key(raw) }
        guard !electors.isEmpty, Set(electors).count == electors.count else {
            throw MalformedBytes("a genesis without electors, or with one twice")
        }
        numerics = cleaned(m.numerics, bytes: Bounds.nameBytes)
        guard let content = Digest256(m.content), m.contentBytes < UInt64(Bounds.amount) else {
            throw MalformedBytes("a genesis without content")
        }
        self.content = content
        contentBytes = Int(m.contentBytes)
        guard m.nonce.count == 32 else { throw MalformedBytes("a genesis without a nonce") }
        nonce = [UInt8](m.nonce)
        guard (1...86_400_000).contains(m.leaseMilliseconds), (1...86_400_000).contains(m.silenceMilliseconds) else {
            throw MalformedBytes("a lease of \(m.leaseMilliseconds) ms, silence \(m.silenceMilliseconds) ms")
        }
        lease = .milliseconds(Int64(m.leaseMilliseconds))
        silence = .milliseconds(Int64(m.silenceMilliseconds))
    }
    var encoded: PBGenesis {
        var m = PBGenesis()
        m.manifest = manifest
        m.electors = electors.map { bytesOf($0) }
        m.numerics = numerics
        m.content = bytesOf(content)
        m.contentBytes = UInt64(contentBytes)
        m.nonce = bytesOf(nonce)
        m.leaseMilliseconds = UInt32(lease.wholeNanoseconds / 1_000_000)
        m.silenceMilliseconds = UInt32(silence.wholeNanoseconds / 1_000_000)
        return m
    }
}

/// Who came and who went.
public struct MembersChange: Hashable, Sendable {
    public struct Joined: Hashable, Sendable {
        public var peer: PeerID
        public var endpoint: Endpoint
        public var name: String
        public var device: String
        public var memory: ByteCount
        public var flops: Double
        public init(
            peer: PeerID, endpoint: Endpoint, name: String, device: String = "", memory: ByteCount = ByteCount(0),
            flops: Double = 0
        ) {
            self.peer = peer
            self.endpoint = endpoint
            self.name = name
            self.device = device
            self.memory = memory
            self.flops = flops
        }
    }
    public struct Left: Hashable, Sendable {
        public var peer: PeerID
        public var reason: String
        public init(peer: PeerID, reason: String) {
            self.peer = peer
            self.reason = reason
        }
    }
    public var joined: [Joined]
    public var left: [Left]
    /// The round in progress.
    public var round: Int
    public init(joined: [Joined] = [], left: [Left] = [], round: Int) {
        self.joined = joined
        self.left = left
        self.round = round
    }

    init(_ m: PBMembers) throws(MalformedBytes) {
        joined = try decode(m.joined, atMost: Bounds.rank, "newcomers") { (raw) throws(MalformedBytes) in
            guard let endpoint = Endpoint(compact: raw.endpoint) else { throw MalformedBytes("malformed member") }
            guard raw.memoryBytes < UInt64(Bounds.amount), raw.flops.isFinite, raw.flops >= 0 else {
                throw MalformedBytes("a member's capability is out of range")
            }
            return Joined(
                peer: try key(raw.peer), endpoint: endpoint, name: cleaned(raw.name, bytes: Bounds.nameBytes),
                device: cleaned(raw.device, bytes: Bounds.nameBytes), memory: ByteCount(Int(raw.memoryBytes)),
                flops: raw.flops)
        }
        left = try decode(m.left, atMost: Bounds.rank, "leavers") { (raw) throws(MalformedBytes) in
            Left(peer: try key(raw.peer), reason: cleaned(raw.reason, bytes: Bounds.reasonBytes))
        }
        round = try number(m.round, below: Bounds.round, "round")
    }
    var encoded: PBMembers {
        var m = PBMembers()
        m.joined = joined.map { member in
            var out = PBMembers.Joined()
            out.peer = bytesOf(member.peer)
            out.endpoint = bytesOf(member.endpoint.compact)
            out.name = member.name
            out.device = member.device
            out.memoryBytes = UInt64(member.memory.bytes)
            out.flops = member.flops
            return out
        }
        m.left = left.map { member in
            var out = PBMembers.Left()
            out.peer = bytesOf(member.peer)
            out.reason = member.reason
            return out
        }
        m.round = UInt64(round)
        return m
    }
}

/// A plan, from a round on.
public struct PlanChange: Hashable, Sendable {
    /// Its epoch is its place among the job's plans; what it says here is not looked at.
    public var plan: PlacedPlan
    public var reason: String
    /// Seals from the plan's round on are void.
    public var rolledBack: Bool
    public init(_ plan: PlacedPlan, reason: String, rolledBack: Bool = false) {
        self.plan = plan
        self.reason = reason
        self.rolledBack = rolledBack
    }
}

/// Ends a round: what counts of it.
public struct Seal: Hashable, Sendable {
    public struct Contribution: Hashable, Sendable {
        public var rank: Int
        public var attempt: Int
        public var microBatches: Int
        /// SHA-256 over the digests of its units, ascending: what the receipts of its stages say, in 32 bytes.
        public var digest: Digest256
        public init(rank: Int, attempt: Int, microBatches: Int, digest: Digest256) {
            self.rank = rank
            self.attempt = attempt
            self.microBatches = microBatches
            self.digest = digest
        }
    }
    public var round: Int
    public var firstStep: Int
    public var steps: Int
    public var contributions: [Contribution]
    /// Counted so far, this round included.
    public var tokens: Int
    /// Mean over the counted micro-batches, nats a token.
    public var trainLoss: Double
    /// Of the parameters that the round began with; nil when not evaluated.
    public var validationLoss: Double?
    public var validationTokens: Int
    /// Where owners add: what every member applies; else empty.
    public var aggregates: [UnitDigest]
    /// Where everybody adds: of each unit what is added, as ``part(_:)``; else empty.
    public var parts: [UnitDigest]
    public init(
        round: Int, firstStep: Int, steps: Int, contributions: [Contribution], tokens: Int, trainLoss: Double = 0,
        validationLoss: Double? = nil, validationTokens: Int = 0, aggregates: [UnitDigest] = [],
        parts: [UnitDigest] = []
    ) {
        self.round = round
        self.firstStep = firstStep
        self.steps = steps
        self.contributions = contributions
        self.tokens = tokens
        self.trainLoss = trainLoss
        self.validationLoss = validationLoss
        self.validationTokens = validationTokens
        self.aggregates = aggregates
        self.parts = parts
    }
    /// What a pipeline contributes: the digests of its units, ascending.
    public static func digest(_ units: [UnitDigest]) -> Digest256 { sha256(units.flatMap(\.bytes)) }
    /// What is added up for one unit: the contributions' digests of it, in the order of their ranks.
    public static func part(_ contributions: [[UInt8]]) -> Digest256 { sha256(contributions.flatMap(\.self)) }
    /// The same of all units.
    ///
    /// - Parameter contributions: of each, in the order of ranks, a digest of every unit, ascending.
    public static func parts(_ contributions: [[UnitDigest]]) -> [UnitDigest] {
        (contributions.first ?? []).indices.map { place in
            UnitDigest(contributions[0][place].unit, part(contributions.map { $0[place].bytes }).bytes)
        }
    }

    init(_ m: PBSeal) throws(MalformedBytes) {
        round = try number(m.round, below: Bounds.round, "round")
        firstStep = try number(m.firstStep, below: Bounds.step, "step")
        steps = try number(m.steps, below: Bounds.counter, "steps")
        contributions = try decode(m.contributions, atMost: Bounds.rank, "contributions") {
            (raw) throws(MalformedBytes) in
            Contribution(
                rank: try number(raw.rank, below: Bounds.rank, "rank"),
                attempt: try number(raw.attempt, below: Bounds.counter, "attempt"),
                microBatches: try number(raw.microBatches, below: Bounds.microBatches, "micro-batches"),
                digest: try whole(raw.digest))
        }
        tokens = try number(m.tokens, below: Bounds.amount, "tokens")
        guard m.trainLoss.isFinite, m.validationLoss.isFinite else { throw MalformedBytes("a loss that is not finite") }
        trainLoss = m.trainLoss
        validationTokens = try number(m.validationTokens, below: Bounds.amount, "tokens")
        validationLoss = validationTokens > 0 ? m.validationLoss : nil
        aggregates = try digests(m.aggregates)
        parts = try digests(m.parts)
        guard aggregates.isEmpty || parts.isEmpty else { throw MalformedBytes("a seal of sums and of parts") }
    }
    var encoded: PBSeal {
        var m = PBSeal()
        m.round = UInt64(round)
        m.firstStep = UInt64(firstStep)
        m.steps = UInt32(steps)
        m.contributions = contributions.map { contribution in
            var out = PBSeal.Contribution()
            out.rank = UInt32(contribution.rank)
            out.attempt = UInt32(contribution.attempt)
            out.microBatches = UInt32(contribution.microBatches)
            out.digest = bytesOf(contribution.digest)
            return out
        }
        m.tokens = UInt64(tokens)
        m.trainLoss = trainLoss
        m.validationLoss = validationLoss ?? 0
        m.validationTokens = UInt64(validationTokens)
        m.aggregates = aggregates.map { PBUnitDigest($0) }
        m.parts = parts.map { PBUnitDigest($0) }
        return m
    }
}

/// What the holders of each unit agree on as of the start of a round.
public struct States: Hashable, Sendable {
    public var round: Int
    public var units: [UnitRoots]
    public init(round: Int, units: [UnitRoots]) {
        self.round = round
        self.units = units
    }
    init(_ m: PBStates) throws(MalformedBytes) {
        round = try number(m.round, below: Bounds.round, "round")
        units = try decode(m.units, atMost: Bounds.unit, "units") { (raw) throws(MalformedBytes) in try UnitRoots(raw) }
    }
    var encoded: PBStates {
        var m = PBStates()
        m.round = UInt64(round)
        m.units = units.map(\.encoded)
        return m
    }
}

public struct Finish: Hashable, Sendable {
    public var reason: String
    /// SHA-256 of the final weights; nil without any.
    public var weights: Digest256?
    public init(reason: String, weights: Digest256? = nil) {
        self.reason = reason
        self.weights = weights
    }
    /// What a job that ended well says.
    public static let done = "done"
}

// MARK: entries as bytes

extension Entry {
    /// - Parameter plans: how many there are before this entry.
    init(_ m: PBLogEntry, parameters: JobParameters?, plans: Int) throws(MalformedBytes) {
        switch m.body {
        case .genesis(let body)?: self = .genesis(try Genesis(body))
        case .members(let body)?: self = .members(try MembersChange(body))
        case .plan(let body)?:
            guard let parameters else { throw MalformedBytes("a plan before the genesis") }
            let placed = try PlacedPlan(
                body, epoch: plans + 1, model: parameters.model,
                geometry: parameters.geometry(
                    microBatchesPerVirtual: max(1, Int(clamping: body.microBatchesPerVirtual))))
            self = .plan(
                PlanChange(placed, reason: cleaned(body.reason, bytes: Bounds.reasonBytes), rolledBack: body.rolledBack)
            )
        case .seal(let body)?: self = .seal(try Seal(body))
        case .states(let body)?: self = .states(try States(body))
        case .finish(let body)?:
            self = .finish(
                Finish(
                    reason: cleaned(body.reason, bytes: 4 * Bounds.reasonBytes), weights: Digest256(body.weights)))
        case .opening(let body)?: self = .opening(Opening(body))
        case .electors(let body)?: self = .electors(try ElectorsChange(body))
        case nil: throw MalformedBytes("log entry without a body")
        }
    }
    package var body: PBLogEntry.OneOf_Body {
        switch self {
        case .genesis(let genesis): .genesis(genesis.encoded)
        case .members(let change): .members(change.encoded)
        case .plan(let change): .plan(change.plan.message(reason: change.reason, rolledBack: change.rolledBack))
        case .seal(let seal): .seal(seal.encoded)
        case .states(let states): .states(states.encoded)
        case .finish(let finish): .finish(finish.encoded)
        case .opening(let opening): .opening(opening.encoded)
        case .electors(let change): .electors(change.encoded)
        }
    }
}
extension Finish {
    var encoded: PBFinish {
        var m = PBFinish()
        m.reason = reason
        if let weights { m.weights = bytesOf(weights) }
        return m
    }
}
extension PBUnitDigest {
    init(_ digest: UnitDigest) {
        self.init()
        unit = UInt32(digest.unit)
        self.digest = bytesOf(digest.bytes)
    }
}
