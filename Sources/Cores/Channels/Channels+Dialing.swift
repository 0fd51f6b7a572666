public import Primitives

extension Channels {
    /// Makes sure that a connection exists or is tried. Harmless when it does; another endpoint of the peer is tried in turn.
    ///
    /// - Parameter peer: nil when only the address is known; who it is comes from the certificate. Then nothing is said when
    ///   the peer turns out to be connected already.
    public mutating func connect(to peer: PeerID?, at endpoint: Endpoint, now: Instant) {
        if peer == local {
            refuse(endpoint, .oneself)
            return
        }
        if let peer {
            if isConnected(to: peer) { return }
            if let place = attempts.firstIndex(where: { $0.peer == peer }) {
                if !attempts[place].endpoints.contains(endpoint), attempts[place].endpoints.count < Attempt.maxEndpoints
                {
                    attempts[place].endpoints.append(endpoint)
                }
                return
            }
        } else if attempts.contains(where: { $0.endpoints.contains(endpoint) })
            || connections.hasOpen(to: endpoint)
        {
            return
        }
        attempts.append(Attempt(peer: peer, endpoints: [endpoint], startedAt: now, dueAt: now))
        dialWhatIsDue(at: now)
    }

    /// Says goodbye, drops what waits, and stops dialling. The peer is reported lost if it was connected or dialled.
    public mutating func disconnect(_ peer: PeerID, reason: String, at now: Instant) {
        let dialled = attempts.contains { $0.peer == peer }
        for id in connections.with(peer) where connections[id]?.isOpen == false { drop(id) }
        attempts.removeAll { $0.peer == peer }
        if let id = peers[peer]?.connection {
            effects.push(.write(id, Frame.bye(reason)))
            lose(id, .disconnected(reason), at: now)
        } else if dialled {
            forgetQueue(of: peer)
            effects.push(.lost(peer, .disconnected(reason)))
        }
    }

    mutating func dialWhatIsDue(at now: Instant) {
        for place in attempts.indices where attempts[place].connection == nil && attempts[place].dueAt <= now {
            // When the peer's own connection is at the hello already, it is given time.
            if let peer = attempts[place].peer, !connections.with(peer).isEmpty {
                attempts[place].dueAt = now + limits.tieBreakGrace
                continue
            }
            let id = ConnectionID(nextConnection)
            nextConnection += 2
            let endpoint = attempts[place].endpoint
            attempts[place].connection = id
            attempts[place].dials += 1
            let phase = Connection.Phase.dialing(until: now + limits.dialTimeout)
            add(
                id,
                Connection(
                    peer: attempts[place].peer, endpoint: endpoint, openedHere: true, phase: phase, limits: limits))
            effects.push(.dial(id, endpoint, expecting: attempts[place].peer))
        }
    }

    /// A dial did not lead to a secure connection.
    public mutating func dialFailed(_ id: ConnectionID, at now: Instant) {
        guard case .dialing? = connections[id]?.phase else { return }
        failed(id, closing: false, at: now)
    }

    /// Takes a connection that is not open out of the game and plans the next dial.
    mutating func failed(
        _ id: ConnectionID, closing: Bool, because reason: LossReason = .unreachable, final: Bool = false,
        at now: Instant
    ) {
        guard let connection = connections[id] else { return }
        remove(id)
        if closing { effects.push(.close(id)) }
        guard let place = attempts.firstIndex(where: { $0.connection == id }) else { return }
        attempts[place].connection = nil
        attempts[place].failures += 1
        attempts[place].dueAt = now + attempts[place].pause(limits, &random)
        if let peer = connection.peer, let held = held(from: peer) {
            adopt(held, at: now)
            return
        }
        // While the peer's own connection is at its hello, that decides.
        if let peer = attempts[place].peer, !connections.with(peer).isEmpty { return }
        guard final || attempts[place].dueAt - attempts[place].startedAt >= limits.giveUp else { return }
        giveUp(place, reason)
    }

    private mutating func giveUp(_ place: Int, _ reason: LossReason) {
        let attempt = attempts.remove(at: place)
        if let peer = attempt.peer {
            forgetQueue(of: peer)
            effects.push(.lost(peer, reason))
        } else {
            effects.push(.unreachable(attempt.endpoints[0], reason))
        }
    }

    private func held(from peer: PeerID) -> ConnectionID? {
        connections.with(peer).first { if case .held? = connections[$0]?.phase { true } else { false } }
    }

    /// Closes a connection that is not open, without a word and without counting a failure; its attempt comes back later.
    mutating func drop(_ id: ConnectionID, at now: Instant? = nil) {
        remove(id)
        effects.push(.close(id))
        guard let now, let place = attempts.firstIndex(where: { $0.connection == id }) else { return }
        attempts[place].connection = nil
        attempts[place].dueAt = now + limits.tieBreakGrace
    }

    mutating func add(_ id: ConnectionID, _ connection: Connection) { connections.insert(connection, as: id) }
    mutating func remove(_ id: ConnectionID) {
        guard let connection = connections.remove(id) else { return }
        uploadQueue.removeAll { $0 == id }
        yielding.removeAll { $0 == id }
        grantQueue.removeAll { $0.connection == id }
        reservationQueue.removeAll { $0.connection == id }
        for channel in Channel.allCases { reservedBytes -= connection.reserved[channel] }
    }
    mutating func forgetQueue(of peer: PeerID) { peers[peer]?.outbox = Outbox() }
    mutating func refuse(_ endpoint: Endpoint, _ refusal: Refusal) {
        refusals[refusal, default: 0] += 1
        effects.push(.refused(endpoint, refusal))
    }
}
