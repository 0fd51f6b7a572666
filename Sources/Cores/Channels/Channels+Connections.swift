public import Primitives

extension Channels {
    /// A secure connection exists: one that was dialled, or an inbound one with an even number new to us.
    ///
    /// - Parameters:
    ///   - peer: whose key the certificate holds; the handshake has proven possession.
    ///   - exporter: 32 bytes that both ends derive from this TLS session (RFC 8446, §7.5).
    ///   - remote: the address at the other end, with its source port when inbound.
    ///   - isTLSClient: this side's role.
    public mutating func secured(
        _ id: ConnectionID, peer: PeerID, exporter: [UInt8], remote: Endpoint, inbound: Bool, isTLSClient: Bool,
        at now: Instant
    ) {
        if inbound {
            guard connections[id] == nil else { return }
            let phase = Connection.Phase.greeting(until: now + limits.helloTimeout)
            add(id, Connection(peer: peer, endpoint: remote, openedHere: false, phase: phase, limits: limits))
        } else {
            guard case .dialing? = connections[id]?.phase else {
                effects.push(.close(id))
                return
            }
            if let expected = connections[id]!.peer, expected != peer { return refuse(id, .impostor, at: now) }
            connections.identify(id, as: peer)
            connections[id]!.phase = .greeting(until: now + limits.helloTimeout)
        }
        connections[id]!.exporter = exporter
        connections[id]!.isTLSClient = isTLSClient
        if peer == local { return refuse(id, .oneself, at: now) }
        if inbound, isCrowded { return refuse(id, .full, at: now) }
        switch contest(id, peer, at: now) {
        case .wins: adopt(id, at: now)
        case .waits: connections[id]!.phase = .held(until: now + limits.tieBreakGrace)
        case .yields: yield(id, peer, at: now)
        }
    }

    private var isCrowded: Bool {
        guard connections.count <= limits.connections else { return true }
        return connections.unproven > limits.unproven
    }

    private enum Outcome { case wins, waits, yields }

    /// Weighs a connection that has just become secure against the others with the same peer; closes those that it beats.
    private mutating func contest(_ id: ConnectionID, _ peer: PeerID, at now: Instant) -> Outcome {
        let preferred = connections[id]!.isPreferred(local: local)
        let openedHere = connections[id]!.openedHere
        var outcome = Outcome.wins
        for rival in connections.with(peer) where rival != id {
            let theirs = connections[rival]!
            switch theirs.phase {
            case .open:
                if openedHere { return .yields }
                if theirs.openedHere, !preferred {
                    // It may have restarted without our knowing: find out.
                    connections[rival]!.keepAlive.probe(at: now)
                    return .yields
                }
                // Else the new one replaces it as soon as membership is proven.
                continue
            case .dialing:
                if preferred || openedHere { drop(rival, at: now) } else { outcome = .waits }
            case .held, .greeting:
                if theirs.openedHere == openedHere {
                    // Both from one side: who opened them chooses, and keeps the first.
                    if openedHere { return .yields }
                } else if preferred {
                    drop(rival, at: now)
                } else {
                    return .yields
                }
            }
        }
        return outcome
    }

    private mutating func yield(_ id: ConnectionID, _ peer: PeerID, at now: Instant) {
        drop(id, at: now)
        if isConnected(to: peer) { finishAttempts(to: peer, through: id, at: now) }
    }

    /// Says hello on a secure connection, and gives up a dial that it was waiting for.
    mutating func adopt(_ id: ConnectionID, at now: Instant) {
        guard let connection = connections[id], let peer = connection.peer else { return }
        for rival in connections.with(peer) where rival != id {
            if case .dialing? = connections[rival]?.phase { drop(rival, at: now) }
        }
        connections[id]!.phase = .greeting(until: now + limits.helloTimeout)
        var windows = PerChannel<UInt32>(repeating: 0)
        for channel in Channel.allCases { windows[channel] = UInt32(limits.windowBytes[channel]) }
        let hello = Hello(port: port, keyed: poolKey != nil, windows: windows)
        let bytes = hello.encoded(key: poolKey, exporter: connection.exporter, isTLSClient: connection.isTLSClient)
        let frame = Frame.small(.hello, bytes)
        connections[id]!.unsent += frame.count
        effects.push(.write(id, frame))
        if connection.hello != nil { establish(id, at: now) }
    }

    /// The other side's hello, whole.
    mutating func greeted(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        guard let connection = connections[id], connection.hello == nil else {
            return violated(id, "a second hello", at: now)
        }
        let result = Hello.read(
            bytes, key: poolKey, exporter: connection.exporter, senderIsTLSClient: !connection.isTLSClient)
        switch result {
        case .failure(let refusal): refuse(id, refusal, at: now)
        case .success(let (hello, version)):
            connections[id]!.hello = hello
            connections[id]!.version = version
            connections[id]!.parser.proven = true
            if !connection.openedHere, let endpoint = Endpoint(address: connection.endpoint.address, port: hello.port) {
                connections[id]!.endpoint = endpoint
            }
            if case .greeting = connection.phase { establish(id, at: now) }
        }
    }

    private mutating func establish(_ id: ConnectionID, at now: Instant) {
        guard let connection = connections[id], let peer = connection.peer, let hello = connection.hello else { return }
        if let older = peers[peer]?.connection { lose(older, .replaced, at: now) }
        for rival in connections.with(peer) where rival != id { drop(rival) }
        finishAttempts(to: peer, through: id, at: now)
        connections[id]!.phase = .open
        connections[id]!.keepAlive.begin(at: now)
        peers[peer, default: Peer()].connection = id
        peers[peer]!.outbox.begin(windows: hello.windows)
        effects.push(.established(peer, connection.endpoint))
        fill(id, at: now)
    }

    /// The peer is connected: nobody needs to dial it.
    private mutating func finishAttempts(to peer: PeerID, through id: ConnectionID, at now: Instant) {
        for attempt in attempts where attempt.peer == peer {
            if let dial = attempt.connection, dial != id, connections[dial] != nil { drop(dial) }
        }
        let endpoint = connections[id]?.endpoint
        attempts.removeAll {
            $0.peer == peer || $0.connection == id
                || ($0.peer == nil && $0.connection == nil && $0.endpoints.contains { $0 == endpoint })
        }
    }

    /// The driver's connection is gone.
    public mutating func closed(_ id: ConnectionID, at now: Instant) {
        guard let connection = connections[id] else { return }
        if connection.isOpen {
            lose(id, .closed, closing: false, at: now)
        } else {
            failed(id, closing: false, because: .closed, at: now)
        }
    }

    mutating func lose(_ id: ConnectionID, _ reason: LossReason, closing: Bool = true, at now: Instant) {
        guard let connection = connections[id], let peer = connection.peer else { return }
        remove(id)
        if closing { effects.push(.close(id)) }
        if peers[peer]?.connection == id {
            peers[peer]!.connection = nil
            // A newer connection or a dial keeps nothing of the old one: whoever hears of the loss sends again.
            forgetQueue(of: peer)
            effects.push(.lost(peer, reason))
        }
        admitWhatWaited(at: now)
    }

    /// Turns a connection away that was never established.
    mutating func refuse(_ id: ConnectionID, _ refusal: Refusal, at now: Instant) {
        guard let connection = connections[id] else { return }
        refuse(connection.endpoint, refusal)
        // Another pool or version will not change by dialling again.
        let final = refusal == .wrongPool || refusal == .version || refusal == .oneself
        failed(id, closing: true, because: .refused(refusal), final: final, at: now)
    }
    mutating func violated(_ id: ConnectionID, _ what: String, at now: Instant) {
        guard let connection = connections[id] else { return }
        guard connection.isOpen else { return refuse(id, .malformed, at: now) }
        violations += 1
        lose(id, .violation(what), at: now)
    }
}
