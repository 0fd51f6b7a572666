import Paths
public import Pools
public import Primitives

/// Everything about connections between this peer and others, above a secure byte stream and below messages.
///
/// It dials with back-off, breaks ties between simultaneous connections, has membership of the pool proven before anything else
/// is read, cuts messages into frames with priorities and credit, keeps alive and notices silence. It holds no socket: the
/// driver performs ``Effect``s and reports what happened.
///
/// What two peers say to each other belongs to a *session*, which outlives connections: whichever side can opens the next
/// one, from and to whatever address, and every channel goes on where it was; nothing is lost, nothing comes twice. A
/// session ends with a goodbye, a broken rule, a restart of either process, or when no connection could be made for
/// ``SessionLimits/timeout``. What was under way then is lost; messages are made to be sent again.
///
/// Of two connections between the same peers the one that the smaller peer opened survives. A connection that loses the tie
/// while the other is still being dialled is held for `DialLimits.grace`, and used if the dial fails: a peer
/// behind a router can be reached only by its own connection.
public struct Channels: Core {
    public enum Effect: Hashable, Sendable {
        /// Open a secure connection; report ``Channels/secured(_:peer:exporter:remote:inbound:isTLSClient:at:)`` or
        /// ``Channels/dialFailed(_:refused:at:)``. Where the peer is known its key must be pinned.
        case dial(ConnectionID, Endpoint, expecting: PeerID?)
        /// The same from the listening port and no other: the other end dials, too, and its router lets in what comes from there.
        case punch(ConnectionID, Endpoint, expecting: PeerID)
        /// The same over a flow, to the other end's datagram port.
        case flow(ConnectionID, Endpoint, expecting: PeerID?)
        /// The same through a relay, with which there is a session.
        case open(ConnectionID, via: PeerID, to: PeerID)
        /// Report ``Channels/writable(_:unsent:at:)`` when less than ``ChannelLimits/unsentBytes`` is left of it.
        case write(ConnectionID, [UInt8])
        /// Send what was written, then close. Reports about this connection are ignored from here on.
        case close(ConnectionID)
        /// A session has begun: messages can be exchanged. The endpoint is where the peer can be dialled, as far as we know.
        case established(PeerID, Endpoint)
        case message(PeerID, Channel, [UInt8])
        /// The session has no connection now. What is sent waits; ``resumed`` or ``lost`` follows.
        case interrupted(PeerID, LossReason)
        /// The session goes on over another connection, after an interruption or instead of one.
        case resumed(PeerID, Endpoint)
        /// Nothing comes over the connection of a session, which goes on: perhaps another way is better (``Channels/move(_:to:at:)-(_,Address,_)``). The address is
        /// that of the connection.
        case quiet(PeerID, Address)
        /// Ends what ``established`` began, or a ``Channels/connect(to:at:now:)`` that did not succeed.
        case lost(PeerID, LossReason)
        /// An endpoint whose peer was unknown could not be reached in some tries.
        case unreachable(Endpoint, LossReason)
        /// A connection was turned away before it was established. Counted in ``Channels/refusals``.
        case refused(Endpoint, Refusal)
        /// What is known of the pool's members has changed: ``Channels/book`` is to be kept.
        case bookChanged
        /// What is new of the pool's members; of a flood of it, a part.
        case news(PoolStatement)
        /// Of a pool that keeps members, now and then: whether too few of them are connected to hear of others, or nobody who could renew this
        /// peer's certificate.
        case seekMembers(Bool)
    }

    public let local: PeerID
    public let limits: ChannelLimits
    /// Where others may dial this peer; told in hellos.
    public private(set) var port: UInt16
    let poolKey: [UInt8]?
    /// What tells this process from others of this peer; known with the first connection.
    var process: [UInt8]?
    var effects = EffectQueue<Effect>()
    var peers = PeerTable()
    var connections: ConnectionTable
    /// Whom to dial, and where; it numbers the connections that are opened here.
    var dialer: Dialer
    /// Inbound connections that have not said hello.
    var waiting: WaitingRoom
    /// Open connections by whom they are charged to.
    var openFrom: [SourceAddress: Int] = [:]
    /// Sessions without a connection, by when they end; some have one again.
    var away = TimedQueue<PeerID>()
    /// How many they are.
    var awayCount = 0
    var pacing: Pacing
    var reassembly = Reassembly()
    /// Of a pool that keeps members.
    var pool: PoolDoor?
    /// Connections turned away, by why; and those of members who broke the rules.
    public internal(set) var refusals: [Refusal: Int] = [:]
    public internal(set) var violations = 0

    /// - Parameters:
    ///   - port: where this peer listens, told to others in the hello.
    ///   - poolKey: 32 bytes, or nil for a pool without a key.
    ///   - seed: varies the pauses between dials.
    public init(
        local: PeerID, listening port: UInt16, poolKey: [UInt8]?, limits: ChannelLimits = ChannelLimits(), seed: UInt64
    ) {
        precondition(poolKey.map { $0.count == 32 } ?? true, "a pool key has 32 bytes")
        precondition(
            limits.frameBytes > 32 && limits.frameBytes <= Frame.maxBytes, "frames of \(limits.frameBytes) bytes")
        self.local = local
        self.port = port
        self.poolKey = poolKey
        self.limits = limits
        connections = ConnectionTable(limits)
        dialer = Dialer(limits.dialing, seed: seed)
        waiting = WaitingRoom(places: limits.unproven)
        pacing = Pacing(limits)
    }
    /// Others dial another port than before, which leads to this peer: hellos say so from now on.
    public mutating func listens(at port: UInt16) { self.port = port }

    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? {
        var next = earliest(connections.nextWake, dialer.nextWake.map { max($0, pool?.dialsFrom ?? $0) })
        next = earliest(next, away.first?.at)
        next = earliest(next, earliest(reassembly.nextWake, pool?.nextWake))
        if !pacing.uploadQueue.isEmpty { next = earliest(next, pacing.upload.readyAt) }
        for id in pacing.yielding { next = earliest(next, yieldsUntil(id)) }
        for waiting in pacing.grantQueue { next = earliest(next, grantReadyAt(waiting.connection, waiting.channel)) }
        return next
    }

    public mutating func wake(at now: Instant) {
        for id in connections.due(at: now) { wake(id, at: now) }
        endWhoStayedAway(at: now)
        dialer.wake(at: now)
        dialWhatIsDue(at: now)
        wakePool(at: now)
        passMemoryOn(at: now)
        grantWhatWaited(at: now)
        uploadWhatWaited(at: now)
        fillWhatYielded(at: now)
    }

    /// What this host's line carries up; nil where that is not known.
    public mutating func setUplink(_ rate: BitRate?) { pacing.uplink.rate = rate }

    private mutating func wake(_ id: ConnectionID, at now: Instant) {
        guard let phase = connections[id]?.phase else { return }
        if let deadline = connections[id]!.deadline {
            guard deadline <= now else { return }
            switch phase {
            case .dialing: failed(id, closing: true, at: now)
            case .held: adopt(id, at: now)
            case .greeting: refuse(id, .slowHello, at: now)
            case .open: break
            }
            return
        }
        switch connections[id]!.keepAlive.wake(at: now, limits) {
        case .nothing: break
        case .ping(let number):
            urgent(Frame.ping(.ping, number) + confirmations(id), id, at: now)
        case .quiet:
            if let peer = connections[id]!.peer { effects.push(.quiet(peer, connections[id]!.address)) }
            askOthers(at: now)
        case .silent:
            lose(id, .silent, at: now)
            askOthers(at: now)
        }
    }
    /// Perhaps it is our own line: then the others are silent too, and those that rest would be asked only later.
    private mutating func askOthers(at now: Instant) {
        for other in connections.order where connections[other]?.isOpen == true {
            connections[other]!.keepAlive.probe(at: now)
        }
    }
}

/// What connections wait for that is shared: the caps, the line, and messages' rate.
struct Pacing: Sendable {
    var upload: RateLimiter
    var download: RateLimiter
    /// Connections that have something to send and wait for the upload cap, in the order of their turns.
    var uploadQueue: [ConnectionID] = []
    /// The line that all connections share, and those that wait for activations on it.
    var uplink = Uplink()
    var yielding: [ConnectionID] = []
    /// Grants that wait for the download cap, or because too many messages came.
    var grantQueue: [(connection: ConnectionID, channel: Channel)] = []

    init(_ limits: ChannelLimits) {
        upload = RateLimiter(limits.upload)
        download = RateLimiter(limits.download)
    }
    mutating func forget(_ id: ConnectionID) {
        uploadQueue.removeAll { $0 == id }
        yielding.removeAll { $0 == id }
        grantQueue.removeAll { $0.connection == id }
    }
}

// MARK: What others may ask

extension Channels {
    /// Whether there is a connection now. A session may go on without one: see ``hasSession(with:)``.
    public func isConnected(to peer: PeerID) -> Bool { peers[peer]?.connection != nil }
    /// Whether a session has begun and not ended.
    public func hasSession(with peer: PeerID) -> Bool { peers[peer]?.session.isTold == true }
    /// Everyone with an open connection, ascending.
    public var connectedPeers: [PeerID] { peers.order.filter { isConnected(to: $0) } }
    /// Where a connected peer can be dialled, as far as we know.
    public func endpoint(of peer: PeerID) -> Endpoint? {
        peers[peer]?.connection.flatMap { connections[$0] }.map(\.endpoint)
    }
    /// Who carries the connection with a connected peer; nil of a direct one.
    public func relay(of peer: PeerID) -> PeerID? {
        peers[peer]?.connection.flatMap { connections[$0] }.flatMap(\.relay)
    }
    /// Whether the connection with a connected peer was opened here.
    public func wasDialled(_ peer: PeerID) -> Bool {
        peers[peer]?.connection.flatMap { connections[$0] }?.openedHere ?? false
    }
    /// How the connection with a connected peer came about.
    public func way(to peer: PeerID) -> Way? {
        peers[peer]?.connection.flatMap { connections[$0] }.map {
            Way(
                relay: $0.relay, isPunched: $0.isPunch, isStray: $0.isStray, isFlow: $0.flow != nil, source: $0.source)
        }
    }
    public struct Way: Hashable, Sendable {
        /// Who carries it; nil of a direct one.
        public var relay: PeerID?
        /// It comes of an introduction.
        public var isPunched: Bool
        /// It was dialled here, from another port than the listening one.
        public var isStray: Bool
        /// It is a flow, over datagrams.
        public var isFlow = false
        /// From where the peer dialled; nil where this side did.
        public var source: Endpoint?
    }
    /// The wire version agreed with a connected peer.
    public func version(with peer: PeerID) -> UInt16? {
        peers[peer]?.connection.flatMap { connections[$0] }.map(\.version)
    }
    /// Smoothed round-trip time of pings; it includes what waits below the channels. Nil before the first answer.
    public func roundTrip(to peer: PeerID) -> Duration? {
        peers[peer]?.connection.flatMap { connections[$0] }?.keepAlive.smoothed
    }
    /// The least round-trip time since the connection was opened: nearest to the line's latency.
    public func leastRoundTrip(to peer: PeerID) -> Duration? {
        peers[peer]?.connection.flatMap { connections[$0] }?.keepAlive.least
    }
    /// Bytes accepted and not yet handed to the driver, with four for each message's length.
    public func unsentBytes(to peer: PeerID, on channel: Channel) -> Int {
        peers[peer]?.session.outbox.queuedBytes(channel) ?? 0
    }
    /// Counted since the start, across connections.
    public func traffic(with peer: PeerID) -> Traffic { peers[peer]?.traffic ?? Traffic() }
    /// Everyone with whom messages were ever exchanged, ascending.
    public var knownPeers: [PeerID] { peers.order }
    /// Memory held by messages that have come in part.
    public var partialBytes: Int { reassembly.partialBytes }
    /// Wishes and endpoints that were not kept because there were too many.
    public var dialsIgnored: Int { dialer.ignored }
}
