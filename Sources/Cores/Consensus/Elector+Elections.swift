import Primitives

/// Who leads next.
extension Elector {
    /// Asks whether an election would be won. Nobody's term changes by it, so that who was away disturbs nobody.
    mutating func canvass() {
        if case .follower(.some) = role { effects.push(.follows(nil, term: term)) }
        role = .canvassing([me])
        following = Following(committed: following.committed)
        if log.electorate.decides({ $0 == me }) { return campaign(byRequest: false) }
        for peer in log.electorate.allVoters where peer != me { send(.canvass(log.end), term: term + 1, to: peer) }
    }

    /// It looks at the log, too: who lacks entries would disturb for nothing.
    mutating func answer(canvass end: LogEnd, term asked: Int, from peer: PeerID) {
        let isGranted = asked > term && !isLoyal && !isBlank && end >= log.end
        send(.canvassed(isGranted), term: isGranted ? asked : max(1, term), to: peer)
    }

    mutating func canvassed(_ asked: Int, by peer: PeerID) {
        guard case .canvassing(var granted) = role, asked == term + 1, !granted.contains(peer) else { return }
        granted.append(peer)
        role = .canvassing(granted)
        if log.electorate.decides({ granted.contains($0) }) { campaign(byRequest: false) }
    }

    /// Nobody hears of it before the vote for itself is durable: no two processes of one elector ask for votes of one term.
    mutating func campaign(byRequest: Bool) {
        term += 1
        vote = me
        pending.vote = true
        role = .candidate([], ballot: nil)
        following = Following(committed: following.committed)
        drawElection(options.pause)
        for peer in log.electorate.allVoters where peer != me {
            sendWhenStored(.vote(log.end, byRequest: byRequest), to: peer)
        }
    }

    /// One vote a term, for whom no entry of ours is unknown; said when it is durable.
    mutating func answer(vote end: LogEnd, from peer: PeerID) {
        let isFree = vote == nil || vote == peer
        guard !isBlank, isFree, leader == nil || leader == peer, end >= log.end else {
            return send(.voted(false), to: peer)
        }
        if vote == nil {
            vote = peer
            pending.vote = true
            role = .follower(leader)
        }
        drawElection()
        sendWhenStored(.voted(true), to: peer)
    }

    mutating func voted(by peer: PeerID) {
        guard case .candidate(var granted, let ballot) = role, !granted.contains(peer) else { return }
        granted.append(peer)
        role = .candidate(granted, ballot: ballot)
        if log.electorate.decides({ granted.contains($0) }) { lead() }
    }

    private mutating func lead() {
        var leadership = Leadership(nextBeat: now + options.heartbeat)
        leadership.isCaretaker = !stands
        for peer in log.electorate.everybody where peer != me {
            leadership.followers[peer] = Progress(next: log.count, at: now)
        }
        role = .leader(leadership)
        if stands { effects.push(.leads(term: term)) }
        for peer in log.electorate.everybody where peer != me { send(.beat(committed: 0), to: peer) }
    }
}
