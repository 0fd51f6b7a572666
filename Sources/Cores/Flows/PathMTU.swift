internal import Primitives

/// How large a datagram the path carries (RFC 8899): begins with what every path must carry, tries larger ones with packets of their own
/// whose loss costs nothing, and falls back when large ones vanish although small ones come through.
struct PathMTU: Sendable {
    /// Three tries a size (RFC 8899, MAX_PROBES).
    private static let tries = 3
    /// When a size that did not get through, or a path that has turned black, is tried again (RFC 8899, PMTU_RAISE_TIMER).
    private static let raiseAfter: Duration = .seconds(600)
    private static let blackAfter: Duration = .seconds(60)
    /// Large packets lost in a row, none coming through.
    private static let blackAt = 8

    private let sizes: [Int]
    private(set) var size = FlowLimits.leastDatagram
    /// The place of the size that is tried.
    private var place = 0
    private var failures = 0
    private var probing: Int?
    private var nextProbe: Instant
    private var lostInRow = 0
    private(set) var blackHoles = 0

    init(sizes: [Int], at now: Instant) {
        self.sizes = sizes.filter { $0 > FlowLimits.leastDatagram }
        nextProbe = now
    }
    /// The size to try now, if one is due.
    func probe(at now: Instant) -> Int? {
        guard probing == nil, place < sizes.count, nextProbe <= now else { return nil }
        return sizes[place]
    }
    mutating func probed(_ size: Int) { probing = size }

    mutating func acknowledged(_ packet: SentPacket) {
        if packet.isProbe {
            if packet.size == probing { probing = nil }
            guard packet.size > size else { return }
            size = packet.size
            (place, failures, lostInRow) = (sizes.firstIndex { $0 > size } ?? sizes.count, 0, 0)
        } else if packet.size > FlowLimits.leastDatagram {
            lostInRow = 0
        }
    }
    mutating func lost(_ packet: SentPacket, roundTrip: Duration, at now: Instant) {
        if packet.isProbe {
            guard packet.size == probing else { return }
            probing = nil
            failures += 1
            nextProbe = now + max(roundTrip * 2, .milliseconds(100))
            guard failures >= Self.tries else { return }
            // Larger ones would fail, too.
            failures = 0
            nextProbe = now + Self.raiseAfter
        } else if packet.size > FlowLimits.leastDatagram, size > FlowLimits.leastDatagram {
            lostInRow += 1
            if lostInRow >= Self.blackAt { fallBack(at: now) }
        }
    }
    /// Probes for the other end's life go unanswered: perhaps they were too large.
    mutating func unanswered(_ count: Int, at now: Instant) {
        if count >= 2, size > FlowLimits.leastDatagram { fallBack(at: now) }
    }
    private mutating func fallBack(at now: Instant) {
        blackHoles += 1
        size = FlowLimits.leastDatagram
        (place, failures, probing, lostInRow) = (0, 0, nil, 0)
        nextProbe = now + Self.blackAfter
    }
}
