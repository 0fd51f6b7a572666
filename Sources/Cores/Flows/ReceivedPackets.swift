internal import Primitives

/// Which packets have come, and when that must be said.
struct ReceivedPackets: Sendable {
    private var numbers = NumberRanges()
    /// Lower ones count as seen: too much came since.
    private var floor: UInt64 = 0
    private(set) var largest: UInt64?
    private var largestAt = Instant.zero
    /// Since the last acknowledgement: packets that want one.
    private(set) var owed = 0
    /// So many packets more are acknowledged at once: there is a gap, and its sender waits for three behind it (RFC 9002, §6.1.1).
    private var urgent = 0
    private var isUrgent = false
    private var total = 0
    private(set) var due: Instant?
    /// What was the highest a second or more ago: all before it has been said often enough, and counts as seen.
    private var settled: (number: UInt64, next: UInt64, since: Instant)?

    func isNew(_ number: UInt64) -> Bool { number >= floor && !numbers.contains(number) }
    var expected: UInt64 { largest.map { $0 + 1 } ?? 0 }

    /// - Parameter elicits: it asks for an acknowledgement (RFC 9002, §2).
    mutating func receive(_ number: UInt64, elicits: Bool, at now: Instant) {
        let isNext = number == expected
        numbers.insert(number..<number + 1)
        if numbers.count > FlowLimits.ranges {
            floor = numbers.first!.upperBound
            numbers.removeFirst()
        }
        if number >= expected { (largest, largestAt) = (number, now) }
        guard elicits else { return }
        owed += 1
        total += 1
        if !isNext { urgent = 3 }
        if urgent > 0 {
            urgent -= 1
            isUrgent = true
        }
        if due == nil { due = now + FlowLimits.ackDelay }
    }
    /// Whether an acknowledgement should go now. The first packets of a flow get more of them, while its sender learns what the path is like.
    mutating func isDue(at now: Instant) -> Bool {
        guard owed > 0 else { return false }
        return isUrgent || owed >= (total < 100 ? 2 : FlowLimits.ackEvery) || due! <= now
    }
    func acknowledgement(at now: Instant, most: Int) -> Acknowledgement? {
        guard !numbers.isEmpty else { return nil }
        let newest = numbers.ranges.suffix(max(1, most)).reversed().map { $0.lowerBound...$0.upperBound - 1 }
        return Acknowledgement(ranges: Array(newest), delay: max(now - largestAt, .zero))
    }
    /// An acknowledgement has gone.
    mutating func acknowledged(at now: Instant) {
        (owed, isUrgent, due) = (0, false, nil)
        guard let largest else { return }
        guard let settled else {
            settled = (0, largest, now)
            return
        }
        guard now - settled.since > .seconds(1) else { return }
        self.settled = (settled.next, largest, now)
        floor = max(floor, settled.next)
        numbers.remove(below: floor)
    }
}
