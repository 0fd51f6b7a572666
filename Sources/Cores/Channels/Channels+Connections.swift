import Paths
import Pools
public import Primitives

extension Channels {
    /// A secure connection exists: one that was dialled, or an inbound one with an even number new to us.
    ///
    /// - Parameters:
    ///   - peer: whose key the certificate holds; the handshake has proven possession.
    ///   - exporter: 32 bytes that both ends derive from this TLS session (RFC 8446, §7.5).
    ///   - remote: the address at the other end, with its source port when inbound.
    ///   - isTLSClient: this side's role.
    ///   - isFlow: its bytes go in datagrams to `remote`.
    ///   - relay: who carries it, and has said what `remote` is.
    public mutating func secured(
        _ id: ConnectionID, peer: PeerID, exporter: [UInt8], remote: Endpoint, inbound: Bool, isTLSClient: Bool,
        isFlow: Bool = false, via relay: PeerID? = nil, at now: Instant
    ) {
        if inbound {
            guard connections[id] == nil else { return }
            forgetStrangers()
            let phase = Connection.Phase.greeting(until: now + limits.helloTimeout)
            var connection = Connection(
                peer: peer, endpoint: remote, openedHere: false, phase: phase, limits: limits)
            connection.source = remote
            connection.carrier = relay.map { .relay($0) } ?? (isFlow ? .flow(remote) : .connection)
            add(id, connection)
        } else {
            guard connections[id]?.isDialing == true else {
                effects.push(.close(id))
                return
            }
            if let expected = connections[id]!.peer, expected != peer { return refuse(id, .impostor, at: now) }
            connections.identify(id, as: peer)
            if relay != nil { connections[id]!.endpoint = remote }
            connections[id]!.phase = .greeting(until: now + limits.helloTimeout)
        }
        connections[id]!.exporter = exporter
        connections[id]!.isTLSClient = isTLSClient
        if peer == local { return refuse(id, .oneself, at: now) }
        if inbound {
            for other in waiting.enter(id.value, from: remote, at: now) {
                refuse(ConnectionID(other), .crowded, at: now)
            }
            guard hasPlace(for: id, from: remote, at: now) else { return refuse(id, .full, at: now) }
        }
        switch contest(id, peer, at: now) {
        case .wins: adopt(id, at: now)
        case .waits: connections[id]!.phase = .held(until: now + grace(beside: id, peer))
        case .yields: yield(id, peer, at: now)
        }
    }

    /// How long it waits for a dial of this side: less where all that is under way went on beside a relayed session, and so may well be in vain.
    private func grace(beside id: ConnectionID, _ peer: PeerID) -> Duration {
        let isAwaited = connections.with(peer).contains {
            $0 != id && connections[$0]?.isDialing == true && connections[$0]?.isMove == false
        }
        return isAwaited ? limits.dialing.grace : min(limits.dialing.grace, .milliseconds(200))
    }

    /// Whether an inbound connection may stay, if need be at the expense of another that has proven nothing yet.
    private mutating func hasPlace(for id: ConnectionID, from remote: Endpoint, at now: Instant) -> Bool {
        let share = limits.connections - limits.connections / 4
        guard openFrom[SourceAddress(remote), default: 0] < share else { return false }
        while connections.count > limits.connections {
            guard let other = waiting.yieldPlace(), other != id.value else { return false }
            refuse(ConnectionID(other), .crowded, at: now)
        }
        return true
    }

    private enum Outcome { case wins, waits, yields }

    /// Weighs a connection that has just become secure against the others with the same peer; closes those that it beats.
    private mutating func contest(_ id: ConnectionID, _ peer: PeerID, at now: Instant) -> Outcome {
        let preferred = connections[id]!.isPreferred(local: local)
        let openedHere = connections[id]!.openedHere
        var outcome = Outcome.wins
        for rival in connections.with(peer) where rival != id {
            guard let phase = connections[rival]?.phase else { continue }
            switch phase {
            case .open:
                if openedHere, !connections[id]!.isMove { return .yields }
            // The other side's hello will say whether it knows of the open one.
            case .dialing:
                // A dial that may be in vain holds up nothing that is there, and may still lead to something better.
                if goesOn(rival, beside: id) { continue }
                if preferred || openedHere { drop(rival, at: now) } else { outcome = .waits }
            case .held where differ(id, rival), .greeting where differ(id, rival):
                // Direct ones are better, and this one is nearly there.
                if connections[id]!.relay != nil { return .yields }
                drop(rival, at: now)
            case .held, .greeting:
                if connections[rival]!.openedHere == openedHere {
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

    /// Whether a dial is not given up for a connection: that is relayed, the dial is not. This side's router has let the other one in by now, and would take
    /// the SYN of another dial, whose sequence number is another, for a mistake (Linux' conntrack): so it goes on, and if it comes through the session moves.
    private mutating func goesOn(_ dial: ConnectionID, beside id: ConnectionID) -> Bool {
        guard connections[id]?.relay != nil, let other = connections[dial], other.isDialing, other.relay == nil else {
            return false
        }
        connections[dial]!.isMove = true
        return true
    }
    /// One is direct, the other relayed.
    private func differ(_ id: ConnectionID, _ rival: ConnectionID) -> Bool {
        (connections[id]?.relay == nil) != (connections[rival]?.relay == nil)
    }

    /// Gives way to another connection of the peer.
    mutating func yield(_ id: ConnectionID, _ peer: PeerID, at now: Instant) {
        if isConnected(to: peer) { dialer.arrived(id.value, at: peer, now: now) }
        drop(id, at: now)
    }

    /// Says hello on a secure connection, and gives up a dial that it was waiting for.
    mutating func adopt(_ id: ConnectionID, at now: Instant) {
        guard let peer = connections[id]?.peer else { return }
        for rival in connections.with(peer) where rival != id && connections[rival]?.isDialing == true {
            if !goesOn(rival, beside: id) { drop(rival, at: now) }
        }
        if connections[id]!.openedHere, pool?.isBehind == true { return applyAgain(id, at: now) }
        let (exporter, isClient) = (connections[id]!.exporter, connections[id]!.isTLSClient)
        if process == nil { process = SessionID.process(exporter: exporter, isTLSClient: isClient) }
        let proposal = SessionID(process: process!, number: peers[peer]?.sessionsEnded ?? peers.firstSession)
        let standing = (peers[peer]?.session ?? Session(limits)).standing(proposing: proposal)
        let frame = Frame.small(.hello, makeHello(standing, exporter, isClient, at: now))
        connections[id]!.phase = .greeting(until: now + limits.helloTimeout)
        connections[id]!.said = standing
        connections[id]!.offsets = standing.received
        connections[id]!.unsent += frame.count
        effects.push(.write(id, frame))
        if connections[id]!.hello != nil { establish(id, at: now) }
    }

    /// The other side's hello, whole.
    mutating func greeted(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        guard let connection = connections[id], connection.hello == nil else {
            return violated(id, "a second hello", at: now)
        }
        if pool?.applying == id { return }
        switch readHello(bytes, connection.exporter, senderIsTLSClient: !connection.isTLSClient, at: now) {
        case .failure(.wrongPool) where isBehind(id, bytes, at: now): drop(id, at: now)
        case .failure(let refusal): refuse(id, refusal, at: now)
        case .success(var (hello, version)):
            if let refusal = judge(id, &hello, bytes, at: now) {
                return turnAway(id, refusal, hello.credential, at: now)
            }
            connections[id]!.hello = hello
            connections[id]!.version = version
            connections[id]!.parser.proven = true
            if !connection.openedHere || connection.flow != nil,
                let endpoint = Endpoint(address: connection.endpoint.address, port: hello.port)
            {
                connections[id]!.endpoint = endpoint
            }
            if case .greeting = connection.phase { establish(id, at: now) }
        }
    }

    private mutating func establish(_ id: ConnectionID, at now: Instant) {
        guard let peer = connections[id]?.peer, let hello = connections[id]!.hello else { return }
        let endpoint = connections[id]!.endpoint
        switch join(id, peer, hello.standing, at: now) {
        case .goesOn: break
        case .yields: return yield(id, peer, at: now)
        case .refused(let refusal): return refuse(id, refusal, at: now)
        case .outdated:
            // What our hello said is no longer so: the next one will be right.
            return drop(id, at: now)
        }
        // The peer is connected: nobody needs to dial it.
        for rival in connections.with(peer) where rival != id {
            if rival == peers[peer]!.connection {
                remove(rival)
                effects.push(.close(rival))
            } else if !goesOn(rival, beside: id) {
                dialer.arrived(rival.value, at: peer, now: now)
                drop(rival)
            }
        }
        let number = connections[id]!.openedHere ? id.value : nil
        // Of a flow nobody knows yet whether its other end can be dialled.
        let isHearsay = connections[id]!.relay != nil || connections[id]!.flow != nil
        if let other = dialer.settled(peer, at: endpoint, by: number, isRelayed: isHearsay, now: now),
            connections[ConnectionID(other)] != nil, !goesOn(ConnectionID(other), beside: id)
        {
            drop(ConnectionID(other))
        }
        connections[id]!.phase = .open
        waiting.leave(id.value)
        openFrom[SourceAddress(endpoint), default: 0] += 1
        connections[id]!.keepAlive.begin(isOutside: !endpoint.isPrivate, at: now)
        peers[peer]!.connection = id
        tellOfConnection(peer, endpoint, at: now)
        greetMember(id, at: now)
        grant(id, at: now)
        fill(id, at: now)
    }

    /// The driver's connection is gone.
    public mutating func closed(_ id: ConnectionID, at now: Instant) {
        guard let isOpen = connections[id]?.isOpen else { return }
        if isOpen {
            lose(id, .closed, closing: false, at: now)
        } else {
            failed(id, closing: false, because: .closed, at: now)
        }
    }

    /// An open connection ends; the session with it unless another connection may follow.
    mutating func lose(_ id: ConnectionID, _ reason: LossReason, closing: Bool = true, at now: Instant) {
        guard let peer = connections[id]?.peer else { return }
        let (endpoint, openedHere) = (connections[id]!.endpoint, connections[id]!.openedHere)
        // Through a relay it is looked for anyway.
        let address = connections[id]!.flow.map { Address.flow($0) } ?? .direct(endpoint)
        remove(id)
        if closing { effects.push(.close(id)) }
        guard peers[peer]?.connection == id else { return }
        peers[peer]!.connection = nil
        pool?.book.left(peer)
        dialer.lost(peer)
        switch reason {
        case .closed, .silent: interrupt(peer, reason, endpoint, address, openedHere: openedHere, at: now)
        default: end(peer, reason, at: now)
        }
    }

    /// Turns a connection away that was never established.
    mutating func refuse(_ id: ConnectionID, _ refusal: Refusal, at now: Instant) {
        guard let endpoint = connections[id]?.endpoint else { return }
        refuse(endpoint, refusal)
        failed(id, closing: true, because: .refused(refusal), final: refusal.isFinal, at: now)
    }
    mutating func violated(_ id: ConnectionID, _ what: String, at now: Instant) {
        guard let isOpen = connections[id]?.isOpen else { return }
        guard isOpen else { return refuse(id, .malformed, at: now) }
        violations += 1
        lose(id, .violation(what), at: now)
    }
}
