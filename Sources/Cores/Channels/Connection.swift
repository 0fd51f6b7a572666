import Primitives

/// One secure byte stream below the channels, from the first dial to the last byte.
struct Connection: Sendable {
    enum Phase: Hashable, Sendable {
        /// The driver opens it.
        case dialing(until: Instant)
        /// Secure, and outvoted by a dial of ours that has yet to succeed.
        case held(until: Instant)
        /// Our hello is on its way; theirs is missing.
        case greeting(until: Instant)
        case open
    }
    /// Who it should be, then who it is.
    var peer: PeerID?
    var endpoint: Endpoint
    let openedHere: Bool
    var phase: Phase
    /// What carries its bytes.
    enum Carrier: Hashable, Sendable {
        /// A connection of its own.
        case connection
        /// Datagrams, to and from there.
        case flow(Endpoint)
        /// Another peer.
        case relay(PeerID)
    }
    var carrier = Carrier.connection
    /// Dialled to take the place of an open connection.
    var isMove = false
    /// Both ends dialled in one moment, after an introduction.
    var isPunch = false
    /// Dialled from another port than this side listens at.
    var isStray = false
    /// Of an inbound one: from where it was dialled.
    var source: Endpoint?
    var exporter: [UInt8] = []
    var isTLSClient = false
    var version: UInt16 = 0
    /// What our hello said, and theirs once it was read and found right.
    var said: SessionStanding?
    var hello: Hello?

    var parser = FrameParser()
    /// By channel: where in the other side's stream the next byte on this connection belongs.
    var offsets = PerChannel<UInt64>(repeating: 0)
    /// Small frames that go before all messages.
    var urgent: [UInt8] = []
    /// What the driver holds, to our knowledge.
    var unsent = 0
    var hold: HoldLimit
    var keepAlive: KeepAlive

    init(peer: PeerID?, endpoint: Endpoint, openedHere: Bool, phase: Phase, limits: ChannelLimits) {
        self.peer = peer
        self.endpoint = endpoint
        self.openedHere = openedHere
        self.phase = phase
        hold = HoldLimit(limits)
        keepAlive = KeepAlive(asksFirst: openedHere)
    }
    /// Who carries it; nil of a direct one.
    var relay: PeerID? { if case .relay(let peer) = carrier { peer } else { nil } }
    /// Where the datagrams of a flow go; nil of others.
    var flow: Endpoint? { if case .flow(let endpoint) = carrier { endpoint } else { nil } }
    /// How it is or was opened, or would be again.
    var address: Address {
        switch carrier {
        case .connection: .direct(endpoint)
        case .flow(let endpoint): .flow(endpoint)
        case .relay(let peer): .relayed(via: peer)
        }
    }
    var isOpen: Bool { if case .open = phase { true } else { false } }
    /// Changes nothing; a connection that may be changed is not copied to be asked.
    mutating func summary(_ limits: ChannelLimits) -> ConnectionSummary {
        ConnectionSummary(
            due: deadline ?? keepAlive.nextWake(limits), isUnproven: !openedHere && !isOpen, isSecure: isSecure,
            openPeer: isOpen ? peer : nil, hasRoom: unsent < hold.bytes, hasUrgent: !urgent.isEmpty)
    }
    /// Bytes of messages have come.
    mutating func took(_ bytes: Int, _ channel: Channel, at now: Instant, _ limits: ChannelLimits) {
        offsets[channel] += UInt64(bytes)
        keepAlive.used(at: now, limits)
    }
    /// The driver was handed bytes, the urgent ones first.
    mutating func wrote(_ bytes: Int, urgent: Int, at now: Instant, _ limits: ChannelLimits) {
        if urgent > 0 { keepAlive.handed(behind: unsent + urgent) }
        unsent += bytes
        if bytes > urgent { keepAlive.used(at: now, limits) }
    }
    /// So much is left of what the driver was handed.
    mutating func drained(to left: Int, at now: Instant, _ limits: ChannelLimits) {
        if left < unsent { keepAlive.drained(unsent - left, at: now) }
        hold.report(from: unsent, to: left, at: now, limits)
        unsent = left
    }
    var isHeld: Bool { if case .held = phase { true } else { false } }
    var isGreeting: Bool { if case .greeting = phase { true } else { false } }
    var isDialing: Bool { if case .dialing = phase { true } else { false } }
    var isSecure: Bool { !exporter.isEmpty }
    /// Whether it is the one that survives of two: the smaller peer opened it.
    func isPreferred(local: PeerID) -> Bool { peer.map { (local < $0) == openedHere } ?? false }
    var deadline: Instant? {
        switch phase {
        case .dialing(let until), .held(let until), .greeting(let until): until
        case .open: nil
        }
    }
}

/// What is asked of a connection again and again.
struct ConnectionSummary: Sendable {
    /// When something is to be done about it.
    var due: Instant?
    /// It came from outside and has yet to prove membership.
    var isUnproven = false
    var isSecure = false
    /// Whose it is, once it is open.
    var openPeer: PeerID?
    /// The driver may be handed more.
    var hasRoom = false
    /// Small frames wait.
    var hasUrgent = false
}
