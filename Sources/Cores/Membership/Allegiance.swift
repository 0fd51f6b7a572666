import Consensus
import Primitives

/// Whose commands a member obeys: the newest term of an elector of its job, while its lease lasts.
package struct Allegiance: Sendable {
    package enum Verdict: Hashable, Sendable {
        case obeyed
        /// It leads from now on.
        case newLeader
        /// Somebody of a newer term leads, or another of the same.
        case stale
        /// No elector.
        case stranger
    }
    private var electors: [PeerID]
    /// Terms of others count for nothing.
    private var era: Int
    package private(set) var leader: PeerID
    package private(set) var term: Int
    /// Work stops then.
    package private(set) var until: Instant

    package init(electors: [PeerID], era: Int = 0, leader: PeerID, term: Int, until: Instant) {
        self.electors = electors
        self.era = era
        self.leader = leader
        self.term = term
        self.until = until
    }

    /// The log names others. Its leader is one, though the log here may not be that far yet.
    package mutating func change(electors: [PeerID]) {
        self.electors = electors.contains(leader) ? electors : electors + [leader]
    }
    /// The job has been founded anew: nobody of the era before is heard any more.
    package mutating func change(electors: [PeerID], era: Int) {
        (self.electors, self.era) = (electors, max(era, self.era))
    }
    package func isElector(_ peer: PeerID) -> Bool { electors.contains(peer) }
    package func isLeader(_ peer: PeerID) -> Bool { peer == leader }

    /// A command of a term, from a peer.
    /// - Parameter newest: term of the newest entry of the log: who commands with an older one does not know it.
    package mutating func hear(term: Int, from peer: PeerID, newest: Int) -> Verdict {
        guard electors.contains(peer) else { return .stranger }
        guard Era.of(term: term) == era else { return .stale }
        if term < max(self.term, newest) { return .stale }
        if term == self.term { return peer == leader ? .obeyed : .stale }
        (leader, self.term) = (peer, term)
        return .newLeader
    }
    package mutating func prolong(by lease: Duration, at now: Instant) { until = now + lease }
}
