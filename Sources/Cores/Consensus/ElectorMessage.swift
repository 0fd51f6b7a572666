import Primitives

/// What electors say to each other. Any of it may be lost, repeated, late, or never sent by anybody.
public struct ElectorMessage: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        /// Would you vote for me in this term, one after mine? My log ends there.
        case canvass(LogEnd)
        /// With the term that was asked for if so, else with the sender's own.
        case canvassed(Bool)
        /// Vote for me. ``byRequest``: the leader itself wants it, so that nobody need be loyal to it.
        case vote(LogEnd, byRequest: Bool)
        case voted(Bool)
        /// The leader's entries after this point, and how many are committed.
        case append(after: LogEnd, entries: [ReplicatedEntry], committed: Int)
        /// The first so many entries are the leader's, and on disk here.
        case appended(Int)
        /// What came before the entries sent is not the leader's here; look at this length next.
        case refused(after: Int, hint: Int)
        /// The leader is there. So many entries are committed, and known to be on the receiver's disk.
        case beat(committed: Int)
        /// The first so many entries are the leader's, and so many of them are on disk.
        case beaten(received: Int, stored: Int)
        /// To a leader whose term is over.
        case outdated
        /// The leader asks a follower that has everything to be elected at once.
        case takeOver
    }
    /// The sender's, but for those that canvass for the next.
    public var term: Int
    public var body: Body
    public init(term: Int, _ body: Body) {
        self.term = term
        self.body = body
    }
}

/// Limits of what is believed to be meant. Nothing of a message is looked at beyond them.
public enum ElectorBounds {
    public static let term = 1 << 40
    public static let entries = 1 << 32
    public static let entryBytes = 4 << 20
    public static let messageEntries = 1024
    public static let messageBytes = entryBytes + (1 << 20)
}

extension ElectorMessage {
    /// Whether its numbers are in range and fit each other.
    var isSound: Bool {
        func isCount(_ value: Int) -> Bool { (0...ElectorBounds.entries).contains(value) }
        func isEnd(_ end: LogEnd) -> Bool { isCount(end.count) && (0...term).contains(end.term) }
        guard (1...ElectorBounds.term).contains(term) else { return false }
        switch body {
        case .canvass(let end), .vote(let end, _): return isEnd(end) && end.term < term
        case .append(let after, let entries, let committed):
            guard isEnd(after), isCount(committed), entries.count <= ElectorBounds.messageEntries else { return false }
            var (last, bytes) = (after.term, 0)
            for entry in entries {
                guard (last...term).contains(entry.term) else { return false }
                (last, bytes) = (entry.term, bytes + entry.body.count)
            }
            return bytes <= ElectorBounds.messageBytes
        case .appended(let count): return isCount(count)
        case .refused(let after, let hint): return isCount(after) && isCount(hint)
        case .beat(let committed): return isCount(committed)
        case .beaten(let received, let stored): return isCount(received) && (0...received).contains(stored)
        case .canvassed, .voted, .outdated, .takeOver: return true
        }
    }
}
