import Paths
import Pools
import Primitives

extension Channels {
    enum Joining {
        case goesOn, yields, outdated
        case refused(Refusal)
    }

    /// Both hellos are read: finds out whether the session goes on over this connection, or a new one begins.
    ///
    /// Both sides weigh the same two hellos, so they come to the same answer. When what one remembers of the other is not what
    /// the other is, one of them has started anew: both begin at zero. Whoever had a session has lost it, unless the other
    /// side is the same as ever and has merely not heard of it yet.
    mutating func join(_ id: ConnectionID, _ peer: PeerID, _ theirs: SessionStanding, at now: Instant) -> Joining {
        guard let said = connections[id]!.said else { return .outdated }
        peers.welcome(peer, limits)
        let session = peers[peer]!.session
        if let local = session.local {
            guard local == said.mine else { return .outdated }
        } else if !said.yours.isNone {
            return .outdated
        }
        if let refusal = hasTwins(peer, theirs) { return .refused(refusal) }
        let continues = theirs.yours.fits(said.mine) && said.yours.fits(theirs.mine)
        if let open = peers[peer]!.connection, continues, theirs.generation < session.generation {
            // It was opened before the other side knew of the open one, which may have died without our knowing.
            connections[open]!.keepAlive.probe(at: now)
            return .yields
        }
        let isUnheard = session.remote == theirs.mine && session.isVirgin
        if !continues, session.isTold, !isUnheard { end(peer, .restarted, keepingConnection: true, at: now) }
        if let former = session.remote?.process, former != theirs.mine.process, session.isTold {
            peers[peer]!.formerProcesses = peers[peer]!.formerProcesses.suffix(3) + [former]
        }
        peers[peer]!.session.local = said.mine
        peers[peer]!.session.remote = theirs.mine
        peers[peer]!.session.generation = max(theirs.generation, said.generation) &+ 1
        if continues {
            guard peers[peer]!.session.outbox.resume(from: theirs) else {
                // It cannot have what was never sent, and not have what it had. The session is beyond repair.
                violations += 1
                end(peer, .violation("it is where it cannot be in the session"), at: now)
                return .outdated
            }
        } else {
            peers[peer]!.session.outbox.restart(windows: theirs)
            peers[peer]!.session.inbox.restart(windows: said)
            connections[id]!.offsets = PerChannel(repeating: 0)
        }
        return .goesOn
    }

    /// Two living processes with one key would end each other's sessions for ever. Both ends see it: a process comes back whose place
    /// another has taken, and is turned away while that one is connected; and it hears of a process of its own that it is not.
    private func hasTwins(_ peer: PeerID, _ theirs: SessionStanding) -> Refusal? {
        guard let known = peers[peer] else { return nil }
        if known.session.isTold, known.session.remote?.process == theirs.mine.process, !theirs.yours.isNone,
            theirs.yours.process != process
        {
            return .ownKeyElsewhere
        }
        let isFormer = known.formerProcesses.contains(theirs.mine.process)
        return isFormer && known.connection != nil && known.session.remote?.process != theirs.mine.process
            ? .keyInUse : nil
    }

    /// A connection carries the session now.
    mutating func tellOfConnection(_ peer: PeerID, _ endpoint: Endpoint, at now: Instant) {
        let wasAway = peers[peer]!.session.away != nil
        if wasAway {
            peers[peer]!.session.away = nil
            awayCount -= 1
            tidyAway()
        }
        // Nobody was heard, and somebody is: it was the line here that was away.
        if wasAway, peers.order.allSatisfy({ $0 == peer || peers[$0]?.connection == nil }) {
            lineIsBack(at: now)
        }
        effects.push(peers[peer]!.session.isTold ? .resumed(peer, endpoint) : .established(peer, endpoint))
        peers[peer]!.session.isTold = true
    }

    /// All others are tried at once: their pauses had grown while it was away. A stranger who comes and goes does not bring this about.
    public mutating func lineIsBack(at now: Instant) {
        dialer.hurry(at: now)
        dialWhatIsDue(at: now)
    }

    /// The connection is gone, the session stays for a while: both sides look for another way.
    mutating func interrupt(
        _ peer: PeerID, _ reason: LossReason, _ endpoint: Endpoint, _ address: Address, openedHere: Bool,
        at now: Instant
    ) {
        guard limits.sessions.timeout > .zero else { return end(peer, reason, at: now) }
        let until = now + limits.sessions.timeout
        let isFollowed = isGreeting(peer)
        peers[peer]!.session.away = Session.Away(
            since: now, until: until, endpoint: endpoint, reason: reason, isTold: !isFollowed)
        awayCount += 1
        away.push(peer, at: until)
        if !isFollowed { effects.push(.interrupted(peer, reason)) }
        // Who opened the last one is the first to open the next.
        let first = openedHere ? now : now + limits.sessions.redialDelay
        _ = dialer.want(peer, at: [address], from: first, until: until, now: now)
        dialWhatIsDue(at: now)
        while awayCount > limits.sessions.away, let next = away.first {
            away.popFirst()
            if peers[next.item]?.session.away?.until == next.at { end(next.item, .unreachable, at: now) }
        }
    }

    private func isGreeting(_ peer: PeerID) -> Bool {
        connections.with(peer).contains { connections[$0]?.isGreeting == true }
    }
    /// The connection that was to follow came to nothing.
    mutating func tellOfInterruption(_ peer: PeerID) {
        guard let absence = peers[peer]?.session.away, !absence.isTold, !isGreeting(peer) else { return }
        peers[peer]!.session.away!.isTold = true
        effects.push(.interrupted(peer, absence.reason))
    }

    /// Nobody listens where the peer was: its process is gone, unless only others can be dialled and it comes by itself.
    mutating func foundNobody(_ peer: PeerID, at endpoint: Endpoint, now: Instant) {
        guard let absence = peers[peer]?.session.away, absence.endpoint == endpoint else { return }
        if dialer.hasWorked(.direct(endpoint), for: peer) { return end(peer, absence.reason, at: now) }
        let until = min(absence.until, now + limits.sessions.refusedGrace)
        guard until < absence.until else { return }
        peers[peer]!.session.away!.until = until
        away.push(peer, at: until)
    }

    mutating func endWhoStayedAway(at now: Instant) {
        while let first = away.first, first.at <= now {
            away.popFirst()
            guard let absence = peers[first.item]?.session.away, absence.until == first.at else { continue }
            end(first.item, absence.until - absence.since < limits.sessions.timeout ? absence.reason : .away, at: now)
        }
        tidyAway()
    }
    private mutating func tidyAway() {
        while let first = away.first, peers[first.item]?.session.away?.until != first.at { away.popFirst() }
    }

    /// The session is over; what it held is gone.
    mutating func end(_ peer: PeerID, _ reason: LossReason, keepingConnection: Bool = false, at now: Instant) {
        guard let old = peers[peer]?.session else { return }
        peers[peer]!.sessionsEnded &+= 1
        if let id = peers[peer]!.connection, !keepingConnection {
            remove(id)
            effects.push(.close(id))
            peers[peer]!.connection = nil
            pool?.book.left(peer)
            dialer.lost(peer)
        }
        if old.away != nil {
            awayCount -= 1
            dialer.unwant(peer)
        }
        reassembly.forget(peer)
        reassembly.hold(-old.inbox.partialBytes, trusted: old.inbox.isTrusted)
        peers[peer]!.session = Session(limits)
        tidyAway()
        if old.isTold { effects.push(.lost(peer, reason)) }
        passMemoryOn(at: now)
    }

    // MARK: who is known

    /// Whether somebody shares a job with us: what it may send ahead, and how long its messages may be, follows from that.
    public func trusts(_ peer: PeerID) -> Bool {
        limits.inbound.strangers == nil || peers[peer]?.session.inbox.isTrusted == true
    }
    /// Trusts a peer, or no more. It is said again of a new session.
    public mutating func trust(_ peer: PeerID, _ isTrusted: Bool, at now: Instant) {
        guard limits.inbound.strangers != nil, hasSession(with: peer), trusts(peer) != isTrusted else { return }
        let held = peers[peer]!.session.inbox.partialBytes
        reassembly.hold(-held, trusted: !isTrusted)
        reassembly.hold(held, trusted: isTrusted)
        peers[peer]!.session.inbox.isTrusted = isTrusted
        guard isTrusted, let id = peers[peer]!.connection else { return }
        grant(id, at: now)
        fill(id, at: now)
    }

    /// Strangers come with as many keys as they like: who has no connection, no session and is not looked for is forgotten, whenever
    /// they have become many.
    mutating func forgetStrangers() {
        guard peers.isCrowded else { return }
        peers.keep { peer, known in
            known.session.isTold || known.session.away != nil || known.connection != nil || dialer.isWanted(peer)
                || !connections.with(peer).isEmpty
        }
    }
}
