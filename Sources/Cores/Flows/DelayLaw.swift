internal import Primitives

/// How fast to send, from what waits on the way: the rate grows while less than a target waits, and shrinks in proportion to what is above it.
///
/// The picture is a bucket with a hole, of which only the level can be seen. Pouring faster than the hole lets out raises the level
/// by the difference, every second; so a rate that is wrong by a share *f* moves the level by *f* seconds a second. To bring a level *q*
/// to the goal *g* within two rounds of length τ the rate must be the outflow times 1 + (g − q) / 2τ. That is the whole law; growth is bounded
/// besides, because below a level of zero nothing can be seen. In start-up the rate doubles every round until something waits.
///
/// Somebody else's traffic that fills the bucket raises the level too, and then this rate shrinks round by round to the floor: that is what
/// makes it polite. Loss says nothing here unless it is heavy: a line that loses one packet in a hundred is not full because of it.
///
/// From LEDBAT (RFC 6817) comes the target, from TCP Vegas and Copa (Arun & Balakrishnan 2018) the delay as the only signal, from BBR (Cardwell 2016) that
/// the measured delivery is what a decrease begins from.
package struct DelayLaw: Sendable {
    /// What a round has shown. Times in seconds, rates in bytes a second.
    package struct Round: Hashable, Sendable {
        /// What waits, beyond the way itself: the least of the round, which is not jitter.
        var queue: Double
        var length: Double
        /// Acknowledged bytes a second.
        var delivered: Double
        /// There was more to send than this rate let through.
        var isLimited: Bool
        /// This process was so late that less was sent than the rate would have let through.
        var isLate: Bool
        /// Of ``lossPackets`` or more.
        var loss: Double
        package init(
            queue: Double, length: Double, delivered: Double, isLimited: Bool, isLate: Bool = false, loss: Double
        ) {
            self.queue = queue
            self.length = length
            self.delivered = delivered
            self.isLimited = isLimited
            self.isLate = isLate
            self.loss = loss
        }
    }
    /// Above it the rate shrinks.
    package static let target = 0.025
    /// The level that is aimed at.
    static let goal = 0.020
    /// Less than this may be jitter.
    static let visible = 0.003
    /// Most growth a round, and most decrease.
    static let mostGrowth = 0.125
    static let mostDecrease = 0.5
    /// A share of lost packets beyond this is more than a bad line: its buffer is smaller than the target.
    static let heavyLoss = 0.05
    static let lossPackets = 100
    /// So many times what arrives may be tried while this process is too late to send as fast as it may.
    static let lateReach = 4.0
    /// It keeps this share of the best that it has had, so that leases live.
    package static let floor = 0.1

    package private(set) var rate: Double
    package private(set) var isStarting = true
    /// The most that was delivered, fading within ten minutes.
    private(set) var best = 0.0
    private var stalled = 0
    /// What waited at a large decrease in the round before: its effect does not show yet.
    private var cutAt: Double?
    private var starting = 0.0
    /// Never below.
    var least: Double

    package init(rate: Double, least: Double) {
        self.rate = max(rate, least)
        self.least = least
    }

    package mutating func update(_ round: Round) {
        best = max(best * (1 - min(1, round.length / 600)), round.delivered)
        let isHeavy = round.loss > Self.heavyLoss
        if isStarting { start(round, isHeavy) } else { steer(round, isHeavy) }
        rate = max(rate, least, best * Self.floor)
    }
    private mutating func start(_ round: Round, _ isHeavy: Bool) {
        guard round.queue > Self.target / 2 || isHeavy || stalled >= 3 else {
            guard round.isLimited else { return }
            if !round.isLate { stalled = round.delivered < starting * 1.25 ? stalled + 1 : 0 }
            starting = max(starting, round.delivered)
            // What was delivered is a round behind, and half of what is sent.
            rate = round.delivered > 0 ? max(rate, min(rate * 2, round.delivered * 3)) : rate * 2
            return
        }
        isStarting = false
        cutAt = round.queue
        // What was sent too fast still waits: it goes out while less comes.
        let surplus = (round.queue - Self.goal) / (2 * round.length)
        rate = max(min(rate, max(starting, round.delivered)) * (1 - min(max(surplus, 0), Self.mostDecrease)), rate / 8)
    }
    private mutating func steer(_ round: Round, _ isHeavy: Bool) {
        let cut = cutAt
        cutAt = nil
        if round.queue > Self.target || isHeavy {
            if let cut, round.queue <= cut { return }
            let surplus = isHeavy ? 0.1 : (round.queue - Self.goal) / (2 * round.length)
            let from = round.isLimited ? min(rate, round.delivered) : rate
            let before = rate
            rate = max(from * (1 - min(max(surplus, 0.02), Self.mostDecrease)), rate * (1 - Self.mostDecrease))
            if rate < before * 0.9 { cutAt = round.queue }
        } else if round.isLimited {
            // While something waits, what is delivered is what the line lets out, or this rate's share of it.
            let change = max(Self.goal - round.queue, Self.goal - Self.target) / (2 * round.length)
            let growth = 1 + min(change, Self.mostGrowth)
            let before = rate
            rate = round.queue > Self.visible ? max(round.delivered, rate / 2) * growth : rate * growth
            rate = min(rate, max(round.delivered, best * Self.floor) * (round.isLate ? Self.lateReach : 1.5))
            // What was not sent could not arrive: that says nothing of the line.
            if round.isLate { rate = max(rate, before) }
        }
    }
    /// Nothing gets through: begin again.
    mutating func collapse() {
        rate = max(least, best * Self.floor)
        (isStarting, stalled, starting) = (true, 0, 0)
    }
}

/// The least round trip of the last minutes: the way itself, without what waits on it.
///
/// Ten spans of thirty seconds: somebody else's long upload, during which something always waits, must not become the way; and a route that really has become longer
/// is known after five minutes at the latest.
struct LeastRoundTrip: Sendable {
    private static let span: Duration = .seconds(30)
    private static let spans = 10
    private var leasts: [Duration] = []
    private var since = Instant.zero
    private(set) var value: Duration?

    mutating func measured(_ sample: Duration, at now: Instant) {
        if leasts.isEmpty || now - since > Self.span {
            leasts.append(sample)
            if leasts.count > Self.spans { leasts.removeFirst() }
            since = now
        } else if sample < leasts[leasts.count - 1] {
            leasts[leasts.count - 1] = sample
        }
        value = leasts.min()
    }
}
