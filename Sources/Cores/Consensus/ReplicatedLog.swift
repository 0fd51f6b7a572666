public import Primitives

/// An entry of the log that electors agree on. What it says is its owner's business.
public struct ReplicatedEntry: Hashable, Sendable {
    /// Of the leader that appended it.
    public var term: Int
    public var body: [UInt8]
    /// Who decides from this entry on, whether it is committed or not; nil: as before.
    public var electorate: Electorate?
    public init(term: Int, body: [UInt8], electorate: Electorate? = nil) {
        self.term = term
        self.body = body
        self.electorate = electorate
    }
}

/// How far a log goes. Of two, the one whose last entry is of the newer term is the more complete; of one term, the longer.
public struct LogEnd: Hashable, Comparable, Sendable {
    public var term: Int
    public var count: Int
    public init(term: Int, count: Int) {
        self.term = term
        self.count = count
    }
    public static func < (a: LogEnd, b: LogEnd) -> Bool { (a.term, a.count) < (b.term, b.count) }
}

/// The entries, and who decides at each length.
struct ReplicatedLog: Sendable {
    private(set) var entries: [ReplicatedEntry] = []
    /// Bytes of the first n bodies.
    private var bytesBefore = [0]
    /// From a length on, ascending: the first is what was before any entry.
    private var electorates: [(from: Int, electorate: Electorate)]

    init(_ electorate: Electorate) { electorates = [(0, electorate)] }

    var count: Int { entries.count }
    var end: LogEnd { LogEnd(term: entries.last?.term ?? 0, count: count) }
    func end(at count: Int) -> LogEnd { LogEnd(term: term(at: count), count: count) }
    /// Of the last of the first n entries.
    func term(at count: Int) -> Int { count > 0 ? entries[count - 1].term : 0 }
    func bytes(_ range: Range<Int>) -> Int { bytesBefore[range.upperBound] - bytesBefore[range.lowerBound] }

    /// The newest there is, committed or not.
    var electorate: Electorate { electorates.last!.electorate }
    /// The length of the log with the entry that names it.
    var electorateSince: Int { electorates.last!.from }
    /// Whether somebody is named by what is in force at a length, or by anything after it.
    func names(_ peer: PeerID, from count: Int) -> Bool {
        for (from, electorate) in electorates.reversed() {
            if electorate.contains(peer) { return true }
            if from <= count { return false }
        }
        return false
    }

    /// The same, of voters.
    func hasVoter(_ peer: PeerID, from count: Int) -> Bool {
        for (from, electorate) in electorates.reversed() {
            if electorate.isVoter(peer) { return true }
            if from <= count { return false }
        }
        return false
    }

    mutating func append(_ entry: ReplicatedEntry) {
        entries.append(entry)
        bytesBefore.append(bytesBefore.last! + entry.body.count)
        if let electorate = entry.electorate { electorates.append((count, electorate)) }
    }
    mutating func truncate(to count: Int) {
        entries.removeSubrange(count...)
        bytesBefore.removeSubrange((count + 1)...)
        while electorates.last!.from > count { electorates.removeLast() }
    }

    /// As many entries from an index on as one message carries, at least one where there is one.
    func batch(from first: Int, bytes: Int, entries most: Int) -> ArraySlice<ReplicatedEntry> {
        var end = first
        while end < count, end - first < most, end == first || self.bytes(first..<end + 1) <= bytes { end += 1 }
        return entries[first..<end]
    }

    /// Where the leader should look next, if the entry before this length is not its own: before all of that term.
    func hint(before count: Int) -> Int {
        guard count <= self.count else { return self.count }
        let term = term(at: count)
        var start = count - 1
        while start > 0, entries[start - 1].term == term { start -= 1 }
        return start
    }
}

/// What an elector must find again after a crash.
public struct ElectorMemory: Hashable, Sendable {
    public var term: Int
    /// Whom it has given its vote in this term.
    public var vote: PeerID?
    public var entries: [ReplicatedEntry]
    public init(term: Int = 0, vote: PeerID? = nil, entries: [ReplicatedEntry] = []) {
        self.term = term
        self.vote = vote
        self.entries = entries
    }
    public mutating func apply(_ write: ElectorWrite) {
        term = write.term
        vote = write.vote
        guard let change = write.change else { return }
        entries.removeSubrange(change.from...)
        entries += change.entries
    }
}

/// To be made durable, in order, and then answered by ``Elector/stored(_:at:)``. A driver whose disk fails says nothing and tries again.
public struct ElectorWrite: Hashable, Sendable {
    public struct Change: Hashable, Sendable {
        /// Entries from this index on are replaced by these.
        public var from: Int
        public var entries: [ReplicatedEntry]
    }
    /// Ascending, without gaps.
    public var ticket: Int
    public var term: Int
    public var vote: PeerID?
    public var change: Change?
}

/// Writes under way, and what of the log in memory is durable.
struct WriteQueue: Sendable {
    private var waiting: [(ticket: Int, count: Int?, since: Instant)] = []
    private(set) var issued = 0
    private(set) var stored = 0
    /// So many entries of the log as it is now are on disk.
    private(set) var durable: Int

    init(durable: Int) { self.durable = durable }

    var oldest: Instant? { waiting.first?.since }

    /// - Parameter count: the log's length once it is done; nil when the log does not change.
    mutating func issue(count: Int?, at now: Instant) -> Int {
        issued += 1
        waiting.append((issued, count, now))
        return issued
    }
    /// Entries from here on are others now: what is on disk of the old ones does not count, nor what is on its way.
    mutating func truncated(to count: Int) {
        durable = min(durable, count)
        for index in waiting.indices { waiting[index].count = waiting[index].count.map { min($0, count) } }
    }
    mutating func answered(_ ticket: Int) {
        while let first = waiting.first, first.ticket <= ticket {
            waiting.removeFirst()
            stored = first.ticket
            if let count = first.count { durable = max(durable, count) }
        }
    }
}
