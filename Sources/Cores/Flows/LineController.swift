internal import Primitives

/// One access line and all flows over it: how fast they may send together, so that the owner's own traffic keeps its latency and its share.
///
/// Every flow says how long its packets waited. What waits on the own line holds all of them up, what waits elsewhere only some: so the *least* of all is the
/// line's. With that the law (``DelayLaw``) sets one rate for the line; what a flow waits beyond it is its own path's affair (``PathController``).
/// Flows take turns at the rate, a burst each.
///
/// Once in ten seconds, unless the line was empty by itself, and when a flow joins, all flows send half for about a round trip. The line drains, and
/// everybody sees the way without the queue: a flow that came later would take the others' queue for a part of the way.
struct LineController: Sendable {
    private static let drainEvery: Duration = .seconds(10)
    private static let drainAtMostEvery: Duration = .seconds(2)
    private static let leastRound: Duration = .milliseconds(20)
    private static let mostRound: Duration = .milliseconds(400)
    /// Late wake-ups cost no rate up to here: as much as the line is meant to hold. What it has let out meanwhile may be poured at once, and it is no fuller
    /// than it would have been. Where nobody waited for a turn this is not lateness, and a short one is all that is made up for.
    private static let credit: Duration = .milliseconds(Int64(1000 * DelayLaw.goal))
    private static let idleCredit: Duration = .milliseconds(2)
    private static let empty = 0.002
    static let firstPackets = 10.0

    /// Nil until a round trip was measured.
    private(set) var law: DelayLaw?
    /// Of the last round, in seconds.
    private(set) var queue = 0.0
    private(set) var delivered = 0.0
    /// Flows that had something acknowledged in the last round.
    private(set) var flows = 1
    private var round: RoundCount
    private var heard: [Int] = []
    private var next = Instant.zero
    /// Somebody has bytes to send, and waits for a turn.
    private var isAwaited = false
    private var nextDrain: Instant
    private var lastDrain = Instant.zero
    private var drainUntil: Instant?

    init(at now: Instant) {
        round = RoundCount(at: now)
        nextDrain = now + Self.drainEvery
    }

    var isDraining: Bool { drainUntil != nil }
    /// Bytes a second of all flows; nil while nothing is known of the line.
    var rate: Double? { law.map { isDraining ? min($0.rate, delivered) / 2 : $0.rate } }

    /// The first round trip of a flow.
    mutating func joined(_ roundTrip: Duration, at now: Instant) {
        let seconds = max(roundTrip.inSeconds, 0.0002)
        guard law != nil else {
            let first = Self.firstPackets * Double(FlowLimits.leastDatagram) / seconds
            law = DelayLaw(rate: first, least: 2 * Double(FlowLimits.leastDatagram) / max(seconds, 0.05))
            return
        }
        if flows > 0, delivered > 0 { nextDrain = min(nextDrain, max(now, lastDrain + Self.drainAtMostEvery)) }
    }
    /// - Parameters:
    ///   - queue: seconds that a packet waited; nil where it was not measured.
    ///   - flow: a small number that tells flows apart.
    mutating func acknowledged(
        _ bytes: Int, queue: Double?, roundTrip: Duration, least: Duration, flow: Int, at now: Instant
    ) {
        round.acknowledged(bytes, queue: queue, roundTrip: roundTrip, at: now)
        if !heard.contains(flow), heard.count < FlowLimits.flows { heard.append(flow) }
        endDrainIfOver(at: now)
        guard now - round.since >= length else { return }
        endRound(at: now, least: least)
    }
    mutating func lost(_ packets: Int) { round.lost += packets }
    /// There was more to send than the line's rate let through.
    mutating func limited() { round.isLimited = true }

    private var length: Duration { min(max(round.meanRoundTrip, Self.leastRound), Self.mostRound) }

    private mutating func endRound(at now: Instant, least: Duration) {
        guard let summary = round.end(at: now) else { return }
        flows = max(1, heard.count)
        heard.removeAll(keepingCapacity: true)
        queue = summary.queue
        if summary.queue < Self.empty { nextDrain = now + Self.drainEvery }
        guard !isDraining else { return }
        delivered = summary.delivered
        law?.update(summary)
        guard nextDrain <= now, summary.isLimited else { return }
        let way = max(round.meanRoundTrip, least)
        drainUntil = now + way + .milliseconds(Int64(2000 * DelayLaw.target))
        lastDrain = now
        nextDrain = now + Self.drainEvery
    }
    private mutating func endDrainIfOver(at now: Instant) {
        guard let until = drainUntil, until <= now else { return }
        drainUntil = nil
        _ = round.end(at: now)
    }

    // MARK: pacing

    /// When the next burst may go.
    mutating func ready(at now: Instant) -> Instant? { next <= now || rate == nil ? nil : next }
    /// As many bytes as a burst should have: a millisecond's worth.
    var burst: Int { min(max(Int((rate ?? 0) / 1000), 2 * FlowLimits.leastDatagram), FlowHost.mostBurst) }
    mutating func sent(_ bytes: Int, packets: Int, at now: Instant) {
        round.sent += packets
        guard let rate else { return }
        let least = now - (isAwaited ? Self.credit : Self.idleCredit)
        if isAwaited, next < least { round.isLate = true }
        next = max(next, least) + .nanoseconds(Int64(Double(bytes) / rate * 1e9))
    }
    /// Whether anybody who has bytes waits for nothing but a turn.
    mutating func awaited(_ isAwaited: Bool) { self.isAwaited = isAwaited }
    /// Drains that a silent line would never end.
    mutating func wake(at now: Instant) { endDrainIfOver(at: now) }
}

/// What a round has seen so far.
struct RoundCount: Sendable {
    private(set) var since: Instant
    private var bytes = 0
    /// The least of the half of the round that is under way: the earlier half is old when the round ends.
    private var queue: Double?
    private var isSecondHalf = false
    private var lastQueue = 0.0
    private var weighed = 0.0
    var isLimited = false
    var isLate = false
    var sent = 0
    var lost = 0
    private(set) var meanRoundTrip: Duration = .milliseconds(50)
    private var loss = 0.0

    init(at now: Instant) { since = now }

    mutating func acknowledged(_ count: Int, queue sample: Double?, roundTrip: Duration, at now: Instant) {
        if !isSecondHalf, now - since >= meanRoundTrip / 2 {
            lastQueue = queue ?? lastQueue
            (isSecondHalf, queue) = (true, nil)
        }
        bytes += count
        weighed += Double(count) * roundTrip.inSeconds
        if let sample { queue = min(queue ?? sample, sample) }
    }
    /// - Returns: nil when nothing came.
    mutating func end(at now: Instant) -> DelayLaw.Round? {
        defer {
            since = now
            (bytes, weighed, queue, isLimited, isLate, isSecondHalf) = (0, 0, nil, false, false, false)
        }
        let length = (now - since).inSeconds
        guard bytes > 0, length > 0 else { return nil }
        meanRoundTrip = .nanoseconds(Int64(weighed / Double(bytes) * 1e9))
        if sent >= DelayLaw.lossPackets {
            loss = Double(lost) / Double(sent)
            (sent, lost) = (0, 0)
        } else {
            loss = 0
        }
        lastQueue = queue ?? lastQueue
        return DelayLaw.Round(
            queue: lastQueue, length: length, delivered: Double(bytes) / length, isLimited: isLimited, isLate: isLate,
            loss: loss)
    }
}

/// One flow's path, as far as it is not the line: the same law for what its packets wait beyond the others'.
struct PathController: Sendable {
    private(set) var least = LeastRoundTrip()
    private(set) var law: DelayLaw?
    private(set) var delivered = 0.0
    private var round: RoundCount

    init(at now: Instant) { round = RoundCount(at: now) }

    /// - Returns: seconds that the packet waited.
    mutating func measured(_ sample: Duration, at now: Instant) -> Double {
        least.measured(sample, at: now)
        if law == nil {
            let seconds = max(sample.inSeconds, 0.0002)
            let packet = Double(FlowLimits.leastDatagram)
            law = DelayLaw(rate: LineController.firstPackets * packet / seconds, least: 2 * packet / max(seconds, 0.05))
        }
        return (sample - least.value!).inSeconds
    }
    /// - Parameter line: what waits on the line, where other flows have told; nil where this is the only one.
    mutating func acknowledged(_ bytes: Int, queue: Double?, roundTrip: Duration, line: Double?, at now: Instant) {
        round.acknowledged(bytes, queue: queue, roundTrip: roundTrip, at: now)
        guard now - round.since >= max(roundTrip, .milliseconds(20)), var summary = round.end(at: now) else { return }
        summary.queue = line.map { max(0, summary.queue - $0) } ?? 0
        delivered = summary.delivered
        law?.update(summary)
    }
    mutating func lost(_ packets: Int) { round.lost += packets }
    mutating func sent(_ packets: Int) { round.sent += packets }
    mutating func limited() { round.isLimited = true }
    mutating func collapse() { law?.collapse() }

    /// Bytes that may be in flight: as much as fills the way and the target, at the rate of the path or of the line.
    func window(_ line: LineController, packet: Int) -> Int {
        guard let law, let lineRate = line.rate, let way = least.value?.inSeconds else {
            return Int(LineController.firstPackets) * packet
        }
        if line.isDraining { return max(2 * packet, Int(delivered * way / 2)) }
        let share = max(lineRate / Double(line.flows), delivered * 1.25)
        let rate = min(law.rate, min(share, lineRate))
        return Int(rate * (way + DelayLaw.target + 0.01)) + 2 * packet
    }
    /// Whether the path's own rate is what bounds it.
    func isBound(_ line: LineController) -> Bool {
        guard let law, let lineRate = line.rate else { return true }
        return law.rate <= max(lineRate / Double(line.flows), delivered * 1.25)
    }
}
