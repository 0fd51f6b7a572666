public import Primitives

/// Everything about connections between this peer and others, above a secure byte stream and below messages.
///
/// It dials with back-off, breaks ties between simultaneous connections, has membership of the pool proven before anything else
/// is read, cuts messages into frames with priorities and credit, keeps alive and notices silence. It holds no socket: the
/// driver performs ``Effect``s and reports what happened. Losing a peer loses what was under way to it; messages are made to be
/// sent again.
///
/// Of two connections between the same peers the one that the smaller peer opened survives. A connection that loses the tie
/// while the other is still being dialled is held for ``ChannelLimits/tieBreakGrace``, and used if the dial fails: a peer
/// behind a router can be reached only by its own connection.
public struct Channels: Core {
    public enum Effect: Hashable, Sendable {
        /// Open a secure connection; report ``Channels/secured(_:peer:exporter:remote:inbound:isTLSClient:at:)`` or
        /// ``Channels/dialFailed(_:at:)``. Where the peer is known its key must be pinned.
        case dial(ConnectionID, Endpoint, expecting: PeerID?)
        /// Report ``Channels/writable(_:unsent:at:)`` when less than ``ChannelLimits/unsentBytes`` is left of it.
        case write(ConnectionID, [UInt8])
        /// Send what was written, then close. Reports about this connection are ignored from here on.
        case close(ConnectionID)
        /// Messages can be exchanged. The endpoint is where the peer can be dialled, as far as we know.
        case established(PeerID, Endpoint)
        case message(PeerID, Channel, [UInt8])
        /// Ends what ``established`` began, or a ``Channels/connect(to:at:now:)`` that did not succeed.
        case lost(PeerID, LossReason)
        /// An endpoint whose peer was unknown could not be reached within ``ChannelLimits/giveUp``.
        case unreachable(Endpoint, LossReason)
        /// A connection was turned away before it was established. Counted in ``Channels/refusals``.
        case refused(Endpoint, Refusal)
    }

    /// What is kept for a peer that we have ever been connected to or are dialling.
    struct Peer: Sendable {
        var outbox = Outbox()
        /// Before that the line is for activations to others.
        var activationsFrom = Instant(nanoseconds: .min / 4)
        /// The open connection.
        var connection: ConnectionID?
        var traffic = Traffic()
    }

    public let local: PeerID
    public let limits: ChannelLimits
    let port: UInt16
    let poolKey: [UInt8]?
    var random: SeededGenerator
    var effects = EffectQueue<Effect>()
    var peers: [PeerID: Peer] = [:]
    var connections: ConnectionTable
    var attempts: [Attempt] = []
    var nextConnection: UInt64 = 1
    var upload: RateLimiter
    var download: RateLimiter
    /// Connections that have something to send and wait for the upload cap, in the order of their turns.
    var uploadQueue: [ConnectionID] = []
    /// The line that all connections share, and those that wait for activations on it.
    var uplink = Uplink()
    var yielding: [ConnectionID] = []
    /// Grants that wait for the download cap.
    var grantQueue: [(connection: ConnectionID, channel: Channel)] = []
    /// Memory promised to long messages, and those that wait for it.
    var reservedBytes = 0
    var reservationQueue: [(connection: ConnectionID, channel: Channel, bytes: Int)] = []
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
            limits.frameBytes > 16 && limits.frameBytes <= Frame.maxBytes, "frames of \(limits.frameBytes) bytes")
        self.local = local
        self.port = port
        self.poolKey = poolKey
        self.limits = limits
        connections = ConnectionTable(silence: limits.silence)
        random = SeededGenerator(seed: seed, stream: 0xC4A2)
        upload = RateLimiter(limits.upload)
        download = RateLimiter(limits.download)
    }

    public mutating func poll() -> Effect? { effects.pop() }

    public var nextWake: Instant? {
        var next = connections.nextWake
        for place in attempts.indices where attempts[place].connection == nil {
            next = earliest(next, attempts[place].dueAt)
        }
        if !uploadQueue.isEmpty { next = earliest(next, upload.readyAt) }
        for id in yielding { next = earliest(next, yieldsUntil(id)) }
        if !grantQueue.isEmpty { next = earliest(next, download.readyAt) }
        return next
    }

    public mutating func wake(at now: Instant) {
        for id in connections.due(at: now) { wake(id, at: now) }
        dialWhatIsDue(at: now)
        grantWhatWaited(at: now)
        uploadWhatWaited(at: now)
        fillWhatYielded(at: now)
    }

    /// What this host's line carries up; nil where that is not known.
    public mutating func setUplink(_ rate: BitRate?) { uplink.rate = rate }

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
        case .ping(let number): urgent(Frame.ping(.ping, number), id, at: now)
        case .silent: lose(id, .silent, at: now)
        }
    }
}

// MARK: What others may ask

extension Channels {
    public func isConnected(to peer: PeerID) -> Bool { peers[peer]?.connection != nil }
    /// Everyone with an open connection, ascending.
    public var connectedPeers: [PeerID] { peers.keys.filter { isConnected(to: $0) }.sorted() }
    /// Where a connected peer can be dialled, as far as we know.
    public func endpoint(of peer: PeerID) -> Endpoint? {
        peers[peer]?.connection.flatMap { connections[$0] }.map(\.endpoint)
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
    /// Message bytes accepted and not yet handed to the driver.
    public func unsentBytes(to peer: PeerID, on channel: Channel) -> Int {
        peers[peer]?.outbox.queuedBytes(channel) ?? 0
    }
    /// Counted since the start, across connections.
    public func traffic(with peer: PeerID) -> Traffic { peers[peer]?.traffic ?? Traffic() }
    /// Everyone with whom messages were ever exchanged, ascending.
    public var knownPeers: [PeerID] { peers.keys.sorted() }
}
