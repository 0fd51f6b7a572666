public import Channels
public import Paths
public import Primitives
public import Wire

/// What a packet belongs to: it decides to which part of a daemon the packet goes.
public enum Conversation: Hashable, Sendable {
    /// Peers that are not yet, or not only, in a job together.
    case meeting
    /// A leader to its members. Carries job and term; members obey the newest term.
    case command
    /// A member to its leader.
    case report
    /// Member to member: activations, norms, parts of exchanges.
    case work
    /// Contents and offers of states, between any two of a job.
    case content
    /// Between the electors of a job.
    case election
    /// Between relays, those whom they carry, and the ends of relayed sessions.
    case carriage
}

/// Everything that peers of a job say to each other, decoded once, where it arrives: every number in range, every text clean, every
/// list bounded. Whether the sender may say it is looked at by who is spoken to, against the record.
public enum Message: Hashable, Sendable {
    // Meeting
    case capabilityRequest
    case capability(Capability)
    case offer(Offer)
    case offerAnswer(OfferAnswer)
    case ping(UInt64)
    case pong(UInt64)
    case probeBurst(ProbeBurst)
    /// What there is of a job's log, from an entry on: asked by whoever only reads it.
    case readRequest(from: Int)
    // Commands
    case lease(Lease)
    case logEntries(LogEntries)
    case probeOrder(ProbeOrder)
    case group(GroupTerms)
    case auditOrder(AuditOrder)
    case dismissal(Dismissal)
    // Reports
    case heartbeat(Heartbeat)
    case readiness(Readiness)
    case kept([KeptStage])
    case fitness(Fitness)
    case logRequest(from: Int)
    case probeResult(ProbeResult)
    case paths(PeerPaths)
    case receipt(PBEnvelope)
    case held(Held)
    case gathered(Gathered)
    case applied(Applied)
    case objection(Objection)
    case setback(Setback)
    case audited(Audited)
    case farewell(reason: String)
    // Work
    case activation(Activation, payload: [UInt8])
    case norms(Norms)
    case exchangePart(ExchangePart)
    // Content
    case indexRequest(content: Digest256, first: Int)
    case indexPart(IndexPart)
    case chunkRequest(content: Digest256, chunk: Int)
    case chunk(content: Digest256, chunk: Int, bytes: [UInt8])
    case chunkMissing(content: Digest256, chunk: Int)
    case stateRequest(StateRequest)
    case stateOffer(StateOffer)
    // Electors
    case election(ElectionMessage)
    // Relays
    case carriage(CarriageMessage)

    public var conversation: Conversation {
        switch self {
        case .capabilityRequest, .capability, .offer, .offerAnswer, .ping, .pong, .probeBurst, .readRequest: .meeting
        case .lease, .logEntries, .probeOrder, .group, .auditOrder, .dismissal: .command
        case .heartbeat, .readiness, .kept, .fitness, .logRequest, .probeResult, .paths, .receipt, .held, .gathered,
            .applied,
            .objection, .setback, .audited, .farewell:
            .report
        case .activation, .norms, .exchangePart: .work
        case .indexRequest, .indexPart, .chunkRequest, .chunk, .chunkMissing, .stateRequest, .stateOffer: .content
        case .election: .election
        case .carriage: .carriage
        }
    }

    /// The channel it travels on: its priority.
    public var channel: Channel {
        switch self {
        case .activation: .activations
        case .exchangePart: .exchange
        case .chunk, .indexPart, .probeBurst, .carriage(.data), .carriage(.closed): .bulk
        default: .control
        }
    }

    /// For a transcript: what kind of message it is.
    public var kind: String { Mirror(reflecting: self).children.first?.label ?? "\(self)" }
}

/// A message with what it belongs to.
public struct Packet: Hashable, Sendable {
    /// Nil while peers only meet.
    public var job: Digest256?
    /// Of the leader, in commands; of the leader whom a report answers; else 0.
    public var term: Int
    public var message: Message
    public init(job: Digest256? = nil, term: Int = 0, _ message: Message) {
        self.job = job
        self.term = term
        self.message = message
    }

    /// Reads what came over a channel. Everything that is wrong with it is said in the error; nothing is kept of it.
    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        let framed = try FramedPacket(decoding: bytes)
        try self.init(framed.packet, payload: framed.payload)
    }
    public init(_ packet: PBPacket, payload: [UInt8] = []) throws(MalformedBytes) {
        job = try optionalDigest(packet.job)
        term = try bounded(packet.term, below: Bounds.counter, "term")
        message = try Message(packet, payload: payload)
    }
    /// For the wire.
    public var framed: FramedPacket {
        var packet = PBPacket()
        if let job { packet.job = bytesOf(job) }
        packet.term = UInt64(term)
        let payload = message.encode(into: &packet)
        return FramedPacket(packet, payload: payload)
    }
}
