import Primitives

/// What a follower does with entries.
extension Elector {
    mutating func append(after: LogEnd, _ entries: [ReplicatedEntry], committed known: Int, from peer: PeerID) {
        guard after.count <= log.count, log.term(at: after.count) == after.term else {
            return send(.refused(after: after.count, hint: min(log.hint(before: after.count), after.count)), to: peer)
        }
        var index = after.count
        for entry in entries {
            if index < log.count, log.term(at: index + 1) != entry.term {
                guard index >= committed else {
                    counts.contradictions += 1
                    return
                }
                log.truncate(to: index)
                disk.truncated(to: index)
                pending.from = min(pending.from ?? index, index)
            }
            if index == log.count {
                log.append(entry)
                pending.from = min(pending.from ?? index, index)
            }
            index += 1
        }
        if let from = pending.from { effects.push(.received(from: from)) }
        following.verified = max(following.verified, index)
        following.committed = max(following.committed, known)
        following.isAsked = true
    }

    mutating func beat(committed known: Int, from peer: PeerID) {
        // The leader has it from this elector that so much is on its disk: also from a process of it before this one.
        if known <= disk.durable { following.verified = max(following.verified, known) }
        following.committed = max(following.committed, known)
        send(
            .beaten(
                received: following.verified, stored: termIsDurable ? min(following.verified, disk.durable) : 0),
            to: peer)
    }

    /// What is durable is acknowledged; what is known to be committed and is durable is committed here.
    mutating func settleFollower() {
        let stored = min(following.verified, disk.durable)
        commit(min(following.committed, stored))
        if isBlank, leader != nil, following.committed > 0, stored >= following.committed {
            isBlank = false
            drawElection()
        }
        guard let leader, termIsDurable else { return }
        let isWhole = following.isAsked && stored >= following.verified
        guard stored > following.acknowledged || isWhole else { return }
        following.acknowledged = stored
        if isWhole { following.isAsked = false }
        send(.appended(stored), to: leader)
    }
}
