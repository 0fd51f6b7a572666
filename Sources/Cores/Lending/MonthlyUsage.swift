public import Primitives

/// What a peer has sent and received in each calendar month, by a clock that may be wrong.
///
/// Each byte counts in one month. Where a clock is set back, what was counted in months that have not begun yet counts in this one; where it then
/// goes on to such a month, what was counted meanwhile goes along. A clock that was wrong for seconds therefore neither forgets what was used
/// nor has it counted for years. Before ``earliest`` no clock is right: what was counted then belongs to the month that follows.
public struct MonthlyUsage: Hashable, Sendable {
    /// Bytes of one month.
    public struct Count: Hashable, Sendable {
        /// Year and month, such as 202611.
        public var month: Int
        public var sent: Int
        public var received: Int
        public init(month: Int, sent: Int, received: Int) {
            (self.month, self.sent, self.received) = (month, sent, received)
        }
        fileprivate mutating func add(_ sent: Int, _ received: Int) {
            self.sent = sum(self.sent, sent)
            self.received = sum(self.received, received)
        }
        fileprivate mutating func take(_ sent: Int, _ received: Int) {
            self.sent -= min(self.sent, sent)
            self.received -= min(self.received, received)
        }
    }
    /// The year and month before which this version did not exist.
    public static let earliest = 202_601
    /// So many months are remembered.
    public static let most = 12

    /// In ascending order; the clock's month is one of them.
    public private(set) var counts: [Count] = []
    /// What the clock says; 0 before anything was counted.
    public private(set) var month = 0
    /// Counted since the clock was set back from the last of ``counts``.
    public private(set) var strays = Count(month: 0, sent: 0, received: 0)

    public init() {}
    /// Of a file.
    ///
    /// - Returns: nil where it is not what ``counts``, ``month`` and ``strays`` can be.
    public init?(counts: [Count], month: Int, strays: Count) {
        let isInOrder = zip(counts, counts.dropFirst()).allSatisfy { $0.month < $1.month }
        guard isInOrder, counts.count <= Self.most, counts.contains(where: { $0.month == month }) || counts.isEmpty,
            (counts + [strays]).allSatisfy({ $0.month >= 0 && $0.sent >= 0 && $0.received >= 0 })
        else { return nil }
        (self.counts, self.month, self.strays) = (counts, counts.isEmpty ? 0 : month, strays)
    }

    /// Counts bytes in the month that the clock says.
    ///
    /// - Returns: whether anything changed.
    @discardableResult
    public mutating func add(sent: Int, received: Int, month: Int) -> Bool {
        let hasMoved = month != self.month
        if hasMoved { move(to: month) }
        guard sent > 0 || received > 0 else { return hasMoved }
        let place = counts.firstIndex { $0.month == month }!
        counts[place].add(max(0, sent), max(0, received))
        if place < counts.count - 1 { strays.add(max(0, sent), max(0, received)) }
        return true
    }

    private mutating func move(to next: Int) {
        let before = month
        month = next
        if let place = counts.firstIndex(where: { $0.month == next }) {
            if next > before { carry(strays.sent, strays.received, from: before, to: place) }
        } else {
            if next > before { close(before, next) }
            let place = counts.firstIndex { $0.month > next } ?? counts.count
            counts.insert(Count(month: next, sent: 0, received: 0), at: place)
            if next > before, before < Self.earliest, let wrong = counts.first(where: { $0.month == before }) {
                carry(wrong.sent, wrong.received, from: before, to: place)
            }
        }
        if counts.last?.month == next { strays = Count(month: 0, sent: 0, received: 0) }
        while counts.count > Self.most {
            let oldest = counts.firstIndex { $0.month != next }!
            // The furthest from now says least, and is not lost: the one after it has it.
            let gone = counts.remove(at: oldest)
            if gone.month > next { counts[counts.firstIndex { $0.month == next }!].add(gone.sent, gone.received) }
        }
    }
    /// A month ends that the clock has reached in order: months after the next one had not begun when they were counted in, and belong to it.
    private mutating func close(_ before: Int, _ next: Int) {
        guard let place = counts.firstIndex(where: { $0.month == before }) else { return }
        while let last = counts.last, last.month > next, last.month != before {
            counts.removeLast()
            counts[place].add(last.sent, last.received)
        }
    }
    private mutating func carry(_ sent: Int, _ received: Int, from month: Int, to place: Int) {
        guard let from = counts.firstIndex(where: { $0.month == month }), from != place else { return }
        let (had, got) = (min(counts[from].sent, sent), min(counts[from].received, received))
        counts[from].take(had, got)
        counts[place].add(had, got)
    }

    /// Sent and received in the clock's month, and in those that have not begun by it.
    public var sent: Int { counts.reduce(0) { $1.month < month ? $0 : sum($0, $1.sent) } }
    public var received: Int { counts.reduce(0) { $1.month < month ? $0 : sum($0, $1.received) } }
    public var all: ByteCount { ByteCount(sum(sent, received)) }
}

/// As much as an `Int` can say, at most.
private func sum(_ one: Int, _ other: Int) -> Int {
    let (value, overflow) = one.addingReportingOverflow(other)
    return overflow ? .max : value
}
