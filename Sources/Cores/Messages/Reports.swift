public import Digests
public import Exchange
import FoundationEssentials
public import Primitives
public import Wire

/// What a member is at, for whoever watches. Nothing is decided by it.
public enum Activity: Hashable, Sendable {
    case idle
    /// How fast it computes, at blocks of the job's model.
    case measuring
    /// Chunks.
    case fetchingText(have: Int, of: Int)
    case waiting
    case spare
    case fetchingState(have: Int, of: Int)
    case validating
    /// Inner step, from 1.
    case stepping(Int, of: Int)
    case encoding, exchanging, applying

    init(_ m: PBActivity) throws(MalformedBytes) {
        let have = try bounded(m.have, below: Bounds.amount, "progress")
        let total = try bounded(m.total, below: Bounds.amount, "progress")
        switch m.kind {
        case .idle: self = .idle
        case .fetchingText: self = .fetchingText(have: have, of: total)
        case .waiting: self = .waiting
        case .spare: self = .spare
        case .fetchingState: self = .fetchingState(have: have, of: total)
        case .validating: self = .validating
        case .stepping: self = .stepping(have, of: total)
        case .encoding: self = .encoding
        case .exchanging: self = .exchanging
        case .applying: self = .applying
        case .measuring: self = .measuring
        case .UNRECOGNIZED: self = .waiting
        }
    }
    var encoded: PBActivity {
        var m = PBActivity()
        func set(_ kind: PBActivity.Kind, _ have: Int = 0, _ total: Int = 0) {
            m.kind = kind
            m.have = UInt64(have)
            m.total = UInt64(total)
        }
        switch self {
        case .idle: set(.idle)
        case .fetchingText(let have, let total): set(.fetchingText, have, total)
        case .waiting: set(.waiting)
        case .spare: set(.spare)
        case .fetchingState(let have, let total): set(.fetchingState, have, total)
        case .validating: set(.validating)
        case .stepping(let step, let total): set(.stepping, step, total)
        case .encoding: set(.encoding)
        case .exchanging: set(.exchanging)
        case .applying: set(.applying)
        case .measuring: set(.measuring)
        }
        return m
    }
    /// For people.
    public var text: String {
        switch self {
        case .idle: "free"
        case .measuring: "measuring its speed"
        case .fetchingText(let have, let total): total > 0 ? "text \(have)/\(total)" : "text"
        case .waiting: "waiting"
        case .spare: "spare"
        case .fetchingState(let have, let total): total > 0 ? "fetching weights \(have)/\(total)" : "fetching weights"
        case .validating: "validating"
        case .stepping(let step, let total): "step \(step)/\(total)"
        case .encoding: "encoding"
        case .exchanging: "exchanging"
        case .applying: "outer step"
        }
    }
}

public struct Heartbeat: Hashable, Sendable {
    /// Whom the exchange waits for at the sender, and for what.
    public struct Waiting: Hashable, Sendable {
        public var peer: PeerID
        public var units: Range<Int>
        /// A contribution; else a sum.
        public var isContribution: Bool
        /// That came from it in this exchange; nil: nothing yet.
        public var rate: BitRate?
        public init(peer: PeerID, units: Range<Int>, isContribution: Bool, rate: BitRate?) {
            self.peer = peer
            self.units = units
            self.isContribution = isContribution
            self.rate = rate
        }
    }
    public var logLength = 0
    public var round = 0
    public var step = 0
    public var activity = Activity.idle
    /// Counted at the socket since start.
    public var sent = ByteCount(0)
    public var received = ByteCount(0)
    public var waiting: Waiting?
    /// Its owner has it leave where a round begins: others are to take its place.
    public var isLeaving = false
    /// It computes nothing any more: the round is begun anew with somebody in its place, who fetches from it what it holds.
    public var isYielding: Bool { isLeaving && activity == .idle }
    /// Of the step that a lease named, once.
    public var trace: StepReport?
    /// Of the processor time that it asked for lately, what other programs of its machine left it, 0...1; nil where that is enough, or not known.
    public var processorShare: Double?
    public init() {}

    init(_ m: PBHeartbeat) throws(MalformedBytes) {
        logLength = try bounded(m.logLength, below: Bounds.counter, "log length")
        round = try bounded(m.round, below: Bounds.round, "round")
        step = try bounded(m.step, below: Bounds.step, "step")
        activity = try Activity(m.activity)
        sent = ByteCount(try bounded(m.sentBytes, below: Bounds.amount, "bytes sent"))
        received = ByteCount(try bounded(m.receivedBytes, below: Bounds.amount, "bytes received"))
        isLeaving = m.leaving
        trace = m.hasTrace ? try StepReport(m.trace) : nil
        let permille = try bounded(UInt64(m.processorPermille), below: 1001, "share of the processor")
        processorShare = permille > 0 ? Double(permille) / 1000 : nil
        guard m.hasWaiting else { return }
        let first = try bounded(m.waiting.firstUnit, below: Bounds.unit, "unit")
        let end = try bounded(m.waiting.endUnit, below: Bounds.unit + 1, "unit")
        let bits = try bounded(m.waiting.bitsPerSecond, below: Bounds.amount, "rate")
        guard first <= end else { throw MalformedBytes("units \(first)..<\(end)") }
        waiting = Waiting(
            peer: try peerID(m.waiting.peer), units: first..<end, isContribution: m.waiting.contribution,
            rate: bits > 0 ? BitRate(bitsPerSecond: Double(bits)) : nil)
    }
    var encoded: PBHeartbeat {
        var m = PBHeartbeat()
        m.logLength = UInt64(logLength)
        m.round = UInt64(round)
        m.step = UInt64(step)
        m.activity = activity.encoded
        m.sentBytes = UInt64(sent.bytes)
        m.receivedBytes = UInt64(received.bytes)
        m.leaving = isLeaving
        if let trace { m.trace = trace.encoded }
        if let processorShare { m.processorPermille = UInt32(max(1, min(1000, processorShare * 1000))) }
        if let waiting {
            m.waiting.peer = bytesOf(waiting.peer)
            m.waiting.firstUnit = UInt32(waiting.units.lowerBound)
            m.waiting.endUnit = UInt32(waiting.units.upperBound)
            m.waiting.contribution = waiting.isContribution
            m.waiting.bitsPerSecond = UInt64(waiting.rate?.bitsPerSecond ?? 0)
        }
        return m
    }
}

/// How far a member is. What the leader waits for is this, said on every change and again to a newer leader.
public enum Readiness: Hashable, Sendable {
    case fetchingText
    /// Complete and verified.
    case hasText
    /// What plan `epoch` gives it.
    case fetchingState(epoch: Int)
    /// It holds what plan `epoch` gives it, as of the start of `round`.
    case atRound(epoch: Int, round: Int)

    init(_ m: PBReadiness) throws(MalformedBytes) {
        let epoch = try bounded(m.epoch, below: Bounds.counter, "epoch")
        let round = try bounded(m.round, below: Bounds.round, "round")
        switch m.state {
        case .fetchingText: self = .fetchingText
        case .hasText: self = .hasText
        case .fetchingState: self = .fetchingState(epoch: epoch)
        case .atRound: self = .atRound(epoch: epoch, round: round)
        case .UNRECOGNIZED: throw MalformedBytes("an unknown state of readiness")
        }
    }
    var encoded: PBReadiness {
        var m = PBReadiness()
        switch self {
        case .fetchingText: m.state = .fetchingText
        case .hasText: m.state = .hasText
        case .fetchingState(let epoch):
            m.state = .fetchingState
            m.epoch = UInt64(epoch)
        case .atRound(let epoch, let round):
            m.state = .atRound
            m.epoch = UInt64(epoch)
            m.round = UInt64(round)
        }
        return m
    }
    /// The text is here, whatever comes after.
    public var hasText: Bool { self != .fetchingText }
}

/// What a member measured in one turn of a survey.
public struct ProbeResult: Hashable, Sendable {
    public struct RoundTrip: Hashable, Sendable {
        public var peer: PeerID
        public var time: Duration
        public init(peer: PeerID, time: Duration) {
            self.peer = peer
            self.time = time
        }
    }
    /// Bytes that came in some time, without a slow start.
    public struct Arrival: Hashable, Sendable {
        public var sender: PeerID
        /// At most ``mostBitsPerSecond``.
        public var bitsPerSecond: Double
        public init(sender: PeerID, bitsPerSecond: Double) {
            self.sender = sender
            self.bitsPerSecond = bitsPerSecond
        }
    }
    /// Nobody's line carries more: what is said beyond it is a lie or a clock.
    public static let mostBitsPerSecond = 400e9
    public static let longestTrip = Duration.seconds(60)

    public var turn: UInt64
    public var roundTrips: [RoundTrip]
    public var arrivals: [Arrival]
    /// All senders at once, where there are several: bits a second.
    public var together: Double?
    public init(turn: UInt64, roundTrips: [RoundTrip], arrivals: [Arrival], together: Double?) {
        self.turn = turn
        self.roundTrips = roundTrips
        self.arrivals = arrivals
        self.together = together
    }

    /// Figures that cannot be are left out, the others count; a peer counts once.
    init(_ m: PBProbeResult) throws(MalformedBytes) {
        turn = m.turn
        guard m.roundTrips.count <= 4096, m.arrivals.count <= 64 else {
            throw MalformedBytes("\(m.roundTrips.count) round trips, \(m.arrivals.count) arrivals")
        }
        var seen: Set<PeerID> = []
        roundTrips = []
        for trip in m.roundTrips
        where trip.nanoseconds > 0 && trip.nanoseconds < UInt64(Self.longestTrip.wholeNanoseconds) {
            guard let peer = PeerID(trip.peer), seen.insert(peer).inserted else { continue }
            roundTrips.append(RoundTrip(peer: peer, time: .nanoseconds(Int64(trip.nanoseconds))))
        }
        seen = []
        arrivals = []
        for arrival in m.arrivals {
            guard let rate = Self.rate(arrival), let sender = PeerID(arrival.sender), seen.insert(sender).inserted
            else {
                continue
            }
            arrivals.append(Arrival(sender: sender, bitsPerSecond: rate))
        }
        together = m.hasTogether ? Self.rate(m.together) : nil
    }
    private static func rate(_ arrival: PBProbeResult.Arrival) -> Double? {
        guard arrival.bytes > 0, arrival.nanoseconds > 0 else { return nil }
        let rate = Double(arrival.bytes) * 8e9 / Double(arrival.nanoseconds)
        return rate <= mostBitsPerSecond ? rate : nil
    }
    /// On the wire a rate is bytes in a time: one second's worth is enough for four digits from 1 kbit/s on.
    private static func arrival(_ bitsPerSecond: Double, from sender: PeerID?) -> PBProbeResult.Arrival {
        var m = PBProbeResult.Arrival()
        if let sender { m.sender = bytesOf(sender) }
        m.bytes = UInt64(max(1, (bitsPerSecond * 8).rounded()))
        m.nanoseconds = 64_000_000_000
        return m
    }
    var encoded: PBProbeResult {
        var m = PBProbeResult()
        m.turn = turn
        m.roundTrips = roundTrips.map { trip in
            var out = PBProbeResult.RoundTrip()
            out.peer = bytesOf(trip.peer)
            out.nanoseconds = UInt64(max(0, trip.time.wholeNanoseconds))
            return out
        }
        m.arrivals = arrivals.map { Self.arrival($0.bitsPerSecond, from: $0.sender) }
        if let together { m.together = Self.arrival(together, from: nil) }
        return m
    }
}

/// A digest of a unit, or the first eight bytes of the digest of each of its chunks.
public struct UnitDigest: Hashable, Sendable {
    public var unit: Int
    public var bytes: [UInt8]
    public init(_ unit: Int, _ bytes: [UInt8]) {
        self.unit = unit
        self.bytes = bytes
    }
    init(_ m: PBUnitDigest) throws(MalformedBytes) {
        unit = try bounded(m.unit, below: Bounds.unit, "unit")
        bytes = try Messages.bytes(m.digest, atMost: 8 * Bounds.chunk, "digests of a unit")
    }
    var encoded: PBUnitDigest {
        var m = PBUnitDigest()
        m.unit = UInt32(unit)
        m.digest = bytesOf(bytes)
        return m
    }
    /// In order of units, each once.
    static func list(_ raw: [PBUnitDigest]) throws(MalformedBytes) -> [UnitDigest] {
        let out = try Messages.list(raw, atMost: 4096, "digests") { (raw) throws(MalformedBytes) in try UnitDigest(raw)
        }
        guard Set(out.map(\.unit)).count == out.count else { throw MalformedBytes("two digests of one unit") }
        return out
    }
    /// Of one chunk: eight bytes, where there are so many.
    public func chunk(_ index: Int) -> [UInt8]? {
        bytes.count >= 8 * (index + 1) ? Array(bytes[8 * index..<8 * index + 8]) : nil
    }
}
extension [UnitDigest] {
    public subscript(unit unit: Int) -> UnitDigest? { first { $0.unit == unit } }
}

/// The sender holds a pipeline's part of a round whole, and it decodes.
public struct Held: Hashable, Sendable {
    public var work: WorkKey
    public var digests: [UnitDigest]
    public init(work: WorkKey, digests: [UnitDigest]) {
        self.work = work
        self.digests = digests
    }
    init(_ m: PBHeld) throws(MalformedBytes) {
        work = try WorkKey(m.round, m.rank, m.attempt)
        digests = try UnitDigest.list(m.digests)
    }
    var encoded: PBHeld {
        var m = PBHeld()
        m.round = UInt64(work.round)
        m.rank = UInt32(work.rank)
        m.attempt = UInt32(work.attempt)
        m.digests = digests.map(\.encoded)
        return m
    }
}

/// All sums of the sender's units are there.
public struct Gathered: Hashable, Sendable {
    public var group: GroupStamp
    public var aggregates: [UnitDigest]
    /// The first eight bytes of each chunk's SHA-256.
    public var chunks: [UnitDigest]
    public init(group: GroupStamp, aggregates: [UnitDigest], chunks: [UnitDigest]) {
        self.group = group
        self.aggregates = aggregates
        self.chunks = chunks
    }
    init(_ m: PBGathered) throws(MalformedBytes) {
        group = try GroupStamp(m.round, m.epoch, m.version)
        aggregates = try UnitDigest.list(m.aggregates)
        guard aggregates.allSatisfy({ $0.bytes.count == 32 }) else { throw MalformedBytes("a digest that is none") }
        chunks = try UnitDigest.list(m.chunks)
    }
    var encoded: PBGathered {
        var m = PBGathered()
        m.round = UInt64(group.round)
        m.epoch = UInt64(group.epoch)
        m.version = UInt32(group.version)
        m.aggregates = aggregates.map(\.encoded)
        m.chunks = chunks.map(\.encoded)
        return m
    }
}

/// Content IDs of a unit's bytes.
public struct UnitRoots: Hashable, Sendable {
    public var unit: Int
    public var parameters: Digest256
    /// Nil where there is none.
    public var outerMomentum: Digest256?
    public init(unit: Int, parameters: Digest256, outerMomentum: Digest256? = nil) {
        self.unit = unit
        self.parameters = parameters
        self.outerMomentum = outerMomentum
    }
    public init(_ m: PBUnitRoots) throws(MalformedBytes) {
        unit = try bounded(m.unit, below: Bounds.unit, "unit")
        parameters = try digest(m.parameters)
        outerMomentum = try optionalDigest(m.outerMomentum)
    }
    public var encoded: PBUnitRoots {
        var m = PBUnitRoots()
        m.unit = UInt32(unit)
        m.parameters = bytesOf(parameters)
        if let outerMomentum { m.outerMomentum = bytesOf(outerMomentum) }
        return m
    }
}

/// What the sender holds after a round's seal.
public struct Applied: Hashable, Sendable {
    public var round: Int
    /// As of the start of the next round.
    public var units: [UnitRoots]
    /// How long its engine worked for the round.
    public var compute: Duration
    public var squares: GradientSquares?
    public init(round: Int, units: [UnitRoots], compute: Duration, squares: GradientSquares?) {
        self.round = round
        self.units = units
        self.compute = compute
        self.squares = squares
    }
    init(_ m: PBApplied) throws(MalformedBytes) {
        round = try bounded(m.round, below: Bounds.round, "round")
        units = try list(m.units, atMost: 4096, "units") { (raw) throws(MalformedBytes) in try UnitRoots(raw) }
        guard Set(units.map(\.unit)).count == units.count else { throw MalformedBytes("a unit twice") }
        compute = .nanoseconds(Int64(try finite(m.computeSeconds, in: 0...1e6, "seconds") * 1e9))
        let squares = GradientSquares(
            contributors: try finite(m.contributorSquares, in: Bounds.squares, "squares"),
            mean: try finite(m.meanSquares, in: Bounds.squares, "squares"))
        self.squares = squares.isPlausible ? squares : nil
    }
    var encoded: PBApplied {
        var m = PBApplied()
        m.round = UInt64(round)
        m.units = units.map(\.encoded)
        m.computeSeconds = compute.inSeconds
        m.contributorSquares = squares?.contributors ?? 0
        m.meanSquares = squares?.mean ?? 0
        return m
    }
}

/// A contribution that the sender cannot use: it does not decode, or is not finite.
public struct Objection: Hashable, Sendable {
    public var work: WorkKey
    public var why: String
    public init(work: WorkKey, why: String) {
        self.work = work
        self.why = why
    }
    init(_ m: PBObjection) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        why = cleaned(m.why, bytes: Bounds.reasonBytes)
    }
    var encoded: PBObjection {
        var m = PBObjection()
        m.work = work.encoded
        m.why = why
        return m
    }
}

/// An auditor's, or the owner's own, account of a chunk. Digests are the first eight bytes of SHA-256.
public struct Audited: Hashable, Sendable {
    public var group: GroupStamp
    public var unit: Int
    public var chunk: Int
    /// Of each contribution, in rank order.
    public var inputs: [UInt8]
    public var sum: [UInt8]
    public init(group: GroupStamp, unit: Int, chunk: Int, inputs: [UInt8], sum: [UInt8]) {
        self.group = group
        self.unit = unit
        self.chunk = chunk
        self.inputs = inputs
        self.sum = sum
    }
    init(_ m: PBAudited) throws(MalformedBytes) {
        group = try GroupStamp(m.round, m.epoch, m.version)
        unit = try bounded(m.unit, below: Bounds.unit, "unit")
        chunk = try bounded(m.chunk, below: Bounds.chunk, "chunk")
        inputs = try bytes(m.inputs, atMost: 8 * Bounds.rank, "digests")
        sum = try bytes(m.sum, atMost: 8, "a digest")
    }
    var encoded: PBAudited {
        var m = PBAudited()
        m.round = UInt64(group.round)
        m.epoch = UInt64(group.epoch)
        m.version = UInt32(group.version)
        m.unit = UInt32(unit)
        m.chunk = UInt32(chunk)
        m.inputs = bytesOf(inputs)
        m.sum = bytesOf(sum)
        return m
    }
}
