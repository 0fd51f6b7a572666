public import Primitives
public import Wire

/// What a peer can do and for whom it works: its own word.
public struct Capability: Hashable, Sendable {
    public var name: String
    public var device: String
    public var memory: ByteCount
    /// FLOP/s, measured when it started; zero of a peer that computes nothing and only carries jobs' records.
    public var flops: Double
    public var computes: Bool { flops > 0 }
    public var numerics: String
    /// Launchers its owner accepted: no more than so many of them are said.
    public static let mostAccepted = 256
    public var accepts: [PeerID]
    /// The job it works for, by short ID; empty when free.
    public var job: String
    public init(
        name: String, device: String, memory: ByteCount, flops: Double, numerics: String, accepts: [PeerID] = [],
        job: String = ""
    ) {
        self.name = name
        self.device = device
        self.memory = memory
        self.flops = flops
        self.numerics = numerics
        self.accepts = accepts
        self.job = job
    }

    init(_ m: PBCapability) throws(MalformedBytes) {
        name = cleaned(m.name, bytes: Bounds.nameBytes)
        device = cleaned(m.device, bytes: Bounds.nameBytes)
        memory = ByteCount(try bounded(m.memoryBytes, below: Bounds.amount, "memory"))
        flops = m.flops == 0 ? 0 : try finite(m.flops, in: Bounds.flops, "speed")
        numerics = cleaned(m.numerics, bytes: Bounds.nameBytes)
        accepts = try list(m.accepts, atMost: 256, "accepted launchers", peerID)
        job = cleaned(m.job, bytes: Bounds.nameBytes)
    }
    var encoded: PBCapability {
        var m = PBCapability()
        m.name = name
        m.device = device
        m.memoryBytes = UInt64(memory.bytes)
        m.flops = flops
        m.numerics = numerics
        m.accepts = accepts.map { bytesOf($0) }
        m.job = job
        return m
    }
}

/// An offer of a job: its signed genesis, and why the sender leads it.
public struct Offer: Hashable, Sendable {
    public var genesis: PBEnvelope
    /// Entries by which others than the genesis says became electors, in order. Empty where nobody did.
    public var electors: [PBEnvelope]
    /// Electors change seldom.
    public static let mostChanges = 256
    public init(genesis: PBEnvelope, electors: [PBEnvelope] = []) {
        self.genesis = genesis
        self.electors = electors
    }
    init(_ m: PBOffer) throws(MalformedBytes) {
        guard m.genesis.body.count <= 1 << 18 else {
            throw MalformedBytes("a genesis of \(m.genesis.body.count) bytes")
        }
        genesis = m.genesis
        electors = try list(m.electors, atMost: Self.mostChanges, "changes of electors") {
            (raw) throws(MalformedBytes) in
            guard raw.body.count <= 1 << 12 else {
                throw MalformedBytes("a change of electors of \(raw.body.count) bytes")
            }
            return raw
        }
    }
    var encoded: PBOffer {
        var m = PBOffer()
        m.genesis = genesis
        m.electors = electors
        return m
    }
}

public struct OfferAnswer: Hashable, Sendable {
    /// Nil: accepted; else why not.
    public var refusal: String?
    public init(refusal: String?) { self.refusal = refusal }
    init(_ m: PBOfferAnswer) throws(MalformedBytes) {
        refusal = m.accepted ? nil : cleaned(m.reason, bytes: Bounds.reasonBytes)
    }
    var encoded: PBOfferAnswer {
        var m = PBOfferAnswer()
        m.accepted = refusal == nil
        m.reason = refusal ?? ""
        return m
    }
}

/// One part of a burst that measures a line.
public struct ProbeBurst: Hashable, Sendable {
    public var turn: UInt64
    public var part: Int
    public var parts: Int
    /// Of filler.
    public var bytes: Int
    public init(turn: UInt64, part: Int, parts: Int, bytes: Int) {
        self.turn = turn
        self.part = part
        self.parts = parts
        self.bytes = bytes
    }
    init(_ m: PBProbeBurst, bytes: Int) throws(MalformedBytes) {
        turn = m.turn
        parts = try bounded(m.parts, below: 65_536, "parts")
        part = try bounded(m.part, below: max(1, parts), "part")
        self.bytes = bytes
    }
    var encoded: PBProbeBurst {
        var m = PBProbeBurst()
        m.turn = turn
        m.part = UInt32(part)
        m.parts = UInt32(parts)
        return m
    }
}
