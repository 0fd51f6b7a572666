import Paths
public import Primitives

extension Channels {
    /// Makes sure that a connection exists or is tried. Harmless when it does; another endpoint of the peer is tried in turn.
    ///
    /// - Parameters:
    ///   - peer: nil when only the address is known; who it is comes from the certificate. Then nothing is said when
    ///     the peer turns out to be connected already.
    ///   - relays: through whom it may be had besides.
    public mutating func connect(
        to peer: PeerID?, at endpoint: Endpoint, through relays: [PeerID] = [], now: Instant
    ) {
        guard let peer else { return hear(of: endpoint, from: nil, at: now) }
        if peer == local {
            refuse(endpoint, .oneself)
            return
        }
        if isConnected(to: peer) { return }
        if dialer.want(peer, at: [.direct(endpoint)] + relays.map { .relayed(via: $0) }, now: now) {
            dialWhatIsDue(at: now)
        } else if !hasSession(with: peer) {
            effects.push(.lost(peer, .unreachable))
        }
    }
    /// A peer may be had through relays, the best first.
    ///
    /// - Parameter isWanted: it is to be met; else only if it is looked for anyway.
    public mutating func learn(_ peer: PeerID, through relays: [PeerID], isWanted: Bool, at now: Instant) {
        guard peer != local, !isConnected(to: peer), isWanted || hasSession(with: peer) || dialer.isWanted(peer),
            dialer.want(peer, at: relays.map { .relayed(via: $0) }, now: now)
        else { return }
        dialWhatIsDue(at: now)
    }
    /// Looks for a peer that was lost, wherever it was reached before. When it is nowhere any more it is lost once more, as unreachable.
    public mutating func seek(_ peer: PeerID, at now: Instant) {
        guard !isConnected(to: peer), !dialer.addresses(of: peer).isEmpty else { return }
        if dialer.want(peer, at: [], from: now + limits.sessions.redialDelay, now: now) { dialWhatIsDue(at: now) }
    }
    /// Somebody says that a member may be found there. It is dialled when its turn comes, among what others told.
    ///
    /// - Parameter teller: who says so; nil for this peer itself.
    public mutating func hear(of endpoint: Endpoint, from teller: Endpoint?, at now: Instant) {
        dialer.hear(of: endpoint, from: teller, at: now)
        dialWhatIsDue(at: now)
    }
    /// Somebody whom its owner named is to be dialled, unless that is under way or has led to somebody, however often it has failed.
    public mutating func knock(at endpoint: Endpoint, now: Instant) {
        dialer.knock(at: endpoint, now: now)
        dialWhatIsDue(at: now)
    }
    /// Opens another connection to a connected peer, at an address that promises more. The session moves there without a pause
    /// once it stands; if it cannot, nothing changes.
    public mutating func move(_ peer: PeerID, to endpoint: Endpoint, at now: Instant) {
        move(peer, to: .direct(endpoint), at: now)
    }
    public mutating func move(_ peer: PeerID, to address: Address, at now: Instant) {
        guard isConnected(to: peer), let dial = dialer.explore(peer, at: address) else { return }
        begin(dial, isMove: true, at: now)
    }
    /// Dials a peer in the moment in which it dials here. A session that is relayed moves to the connection that comes of it; one that has no
    /// connection yet begins there.
    public mutating func punch(_ peer: PeerID, at endpoint: Endpoint, now: Instant) {
        punch(peer, at: .direct(endpoint), now: now)
    }
    public mutating func punch(_ peer: PeerID, at address: Address, now: Instant) {
        guard peer != local, !isConnected(to: peer) || relay(of: peer) != nil else { return }
        for rival in connections.with(peer)
        where connections[rival]?.relay == nil && connections[rival]?.isOpen == false {
            guard let other = connections[rival] else { continue }
            // It is on its way already, or further.
            if !other.isDialing { return }
            if other.address == address, !other.isStray {
                connections[rival]!.isPunch = true
                connections[rival]!.isMove = isConnected(to: peer)
                return
            }
        }
        guard let dial = dialer.explore(peer, at: address) else { return }
        begin(dial, isMove: isConnected(to: peer), isPunch: true, at: now)
    }
    /// A dial goes out from another port than the listening one, which was not to be had.
    public mutating func strayed(_ id: ConnectionID) { connections.change(id) { $0.isStray = true } }
    /// The connection with a peer comes of an introduction, though it was the peer's dial that came through.
    public mutating func notePunch(of peer: PeerID) {
        if let id = peers[peer]?.connection { connections.change(id) { $0.isPunch = true } }
    }
    /// The network is another one, or the machine has slept: whoever is wanted is dialled now, whatever failed before, and
    /// whether the connections that stand are alive is asked at once.
    public mutating func networkChanged(at now: Instant) {
        for id in connections.order where connections[id]?.isOpen == true { connections[id]!.keepAlive.doubt(at: now) }
        pool?.dialsFrom = nil
        dialer.hurry(at: now)
        wake(at: now)
    }

    /// Says goodbye, drops what waits, and stops dialling. The peer is reported lost if it was connected or dialled.
    public mutating func disconnect(_ peer: PeerID, reason: String, at now: Instant) {
        let dialled = dialer.isWanted(peer)
        dialer.unwant(peer)
        for id in connections.with(peer) where connections[id]?.isOpen == false {
            _ = dialer.failed(id.value, final: true, patient: false, at: now)
            drop(id)
        }
        if let id = peers[peer]?.connection {
            effects.push(.write(id, Frame.bye(reason)))
            lose(id, .disconnected(reason), at: now)
        } else if hasSession(with: peer) {
            end(peer, .disconnected(reason), at: now)
        } else if dialled {
            forgetQueue(of: peer)
            effects.push(.lost(peer, .disconnected(reason)))
        }
    }

    mutating func dialWhatIsDue(at now: Instant) {
        if let from = pool?.dialsFrom, from > now { return }
        while let dial = dialer.next(at: now) {
            // When the peer's own connection is at the hello already, it is given time.
            if let peer = dial.peer, dial.isBeside ? isConnected(to: peer) : !connections.with(peer).isEmpty {
                dialer.postponed(dial.number, at: now)
                continue
            }
            begin(dial, isMove: false, at: now)
        }
    }
    private mutating func begin(_ dial: Dialer.Dial, isMove: Bool, isPunch: Bool = false, at now: Instant) {
        let id = ConnectionID(dial.number)
        let endpoint = dial.address.endpoint
        let phase = Connection.Phase.dialing(until: now + (isPunch ? limits.punchTimeout : limits.dialTimeout))
        var connection = Connection(
            peer: dial.peer, endpoint: endpoint, openedHere: true, phase: phase, limits: limits)
        connection.isMove = isMove
        connection.isPunch = isPunch
        switch (dial.address, dial.peer) {
        case (.relayed(let relay), let peer?):
            connection.carrier = .relay(relay)
            add(id, connection)
            effects.push(.open(id, via: relay, to: peer))
        case (.flow, let peer):
            connection.carrier = .flow(endpoint)
            add(id, connection)
            effects.push(.flow(id, endpoint, expecting: peer))
        case (_, let peer?) where isPunch:
            add(id, connection)
            effects.push(.punch(id, endpoint, expecting: peer))
        case (_, let peer):
            add(id, connection)
            effects.push(.dial(id, endpoint, expecting: peer))
        }
    }

    /// A dial did not lead to a secure connection.
    ///
    /// - Parameter refused: the machine there says that nobody listens.
    public mutating func dialFailed(_ id: ConnectionID, refused: Bool = false, at now: Instant) {
        guard connections[id]?.isDialing == true else { return }
        let (peer, endpoint) = (connections[id]!.peer, connections[id]!.endpoint)
        failed(id, closing: false, at: now)
        if refused, let peer { foundNobody(peer, at: endpoint, now: now) }
    }

    /// Takes a connection that is not open out of the game; the dialer plans what follows.
    mutating func failed(
        _ id: ConnectionID, closing: Bool, because reason: LossReason = .unreachable, final: Bool = false,
        at now: Instant
    ) {
        guard let connection = connections[id] else { return }
        remove(id)
        if closing { effects.push(.close(id)) }
        guard connection.openedHere else { return }
        // While the peer's own connection is on its way, that decides.
        let rivals = connection.peer.map { connections.with($0) } ?? []
        switch dialer.failed(id.value, final: final, patient: !rivals.isEmpty, at: now) {
        case .peer(let peer)? where hasSession(with: peer):
            // It may still come by itself, unless it is another one's by now.
            if final { end(peer, reason, at: now) }
        case .peer(let peer)?:
            forgetQueue(of: peer)
            effects.push(.lost(peer, reason))
        case .endpoint(let endpoint)?: effects.push(.unreachable(endpoint, reason))
        case nil: break
        }
        if let held = rivals.first(where: { connections[$0]?.isHeld == true }) { adopt(held, at: now) }
        dialWhatIsDue(at: now)
    }

    /// Closes a connection that is not open, without a word and without counting a failure; a dial comes back later.
    mutating func drop(_ id: ConnectionID, at now: Instant? = nil) {
        remove(id)
        effects.push(.close(id))
        if let now { dialer.postponed(id.value, at: now) }
    }

    mutating func add(_ id: ConnectionID, _ connection: Connection) { connections.insert(connection, as: id) }
    mutating func remove(_ id: ConnectionID) {
        guard let connection = connections.remove(id) else { return }
        waiting.leave(id.value)
        pacing.forget(id)
        if let peer = connection.peer { tellOfInterruption(peer) }
        guard connection.isOpen else {
            if let peer = connection.peer, connection.said != nil { grantAfterMove(of: peer) }
            return
        }
        let source = SourceAddress(connection.endpoint)
        let left = openFrom[source, default: 1] - 1
        openFrom[source] = left == 0 ? nil : left
    }
    /// What was queued for a peer that was never reached.
    mutating func forgetQueue(of peer: PeerID) {
        if peers[peer] != nil { peers[peer]!.session = Session(limits) }
    }
    mutating func refuse(_ endpoint: Endpoint, _ refusal: Refusal) {
        refusals[refusal, default: 0] += 1
        effects.push(.refused(endpoint, refusal))
    }
}
