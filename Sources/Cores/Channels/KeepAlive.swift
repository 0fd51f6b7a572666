import Primitives

/// When one connection is pinged, its round-trip time, and when the other side counts as silent.
///
/// A connection over which messages go is pinged once in ``ChannelLimits/pingInterval``. One that rests is pinged ever less often than
/// that: in a pool of n peers everybody has n − 1 connections, of which a few are used, and with the others' pings a home line would
/// be busy. Of a resting connection the side that opened it asks, every ``ChannelLimits/restingPingInterval``; the other one
/// listens, and asks only when it was not asked for half as long again. The first message after a rest takes a ping along, so that
/// nobody relies on a connection that died meanwhile for longer than the silence.
///
/// The peer counts as silent while a ping is unanswered and neither did anything come from it nor did the driver hand on bytes that
/// are before the ping: a slow line that is still draining is no silence. What is behind the ping says nothing: a kernel takes small
/// messages for minutes that nobody acknowledges.
///
/// Between public addresses a path may die while the line is as it was: a router has forgotten it, somebody's line has another address. There a
/// connection is *quiet* once its ping is unanswered for ``SessionLimits/quiet`` or four round trips. That is no verdict: another way is tried
/// beside it, and the session moves there if it is found first.
struct KeepAlive: Sendable {
    /// Whether this side is the one that asks while the connection rests.
    private let asksFirst: Bool
    private(set) var lastSign = Instant.zero
    private(set) var outstanding: (number: UInt64, sentAt: Instant)?
    /// Bytes that the driver holds, up to and with the ping; nil until it has been handed that.
    private var ahead: Int?
    /// The machine has slept, or has another address: whether the other side is there is asked with little patience.
    private var isDoubted = false
    /// Its other end is at a public address.
    private var isOutside = false
    /// It was said to be quiet, and nothing came since.
    private var isQuiet = false
    /// Whether it is quiet is counted from here at the earliest.
    private var excusedAt = Instant(nanoseconds: .min / 4)
    private var nextPing = Instant.zero
    private var number: UInt64 = 0
    /// When a message last came or went.
    private var usedAt = Instant.zero
    /// Smoothed as in RFC 6298 (1/8), and the least seen.
    private(set) var smoothed: Duration?
    private(set) var least: Duration?

    init(asksFirst: Bool) { self.asksFirst = asksFirst }

    mutating func begin(isOutside: Bool, at now: Instant) {
        self.isOutside = isOutside
        lastSign = now
        usedAt = now
        nextPing = now
    }
    /// Something came.
    mutating func sign(at now: Instant) {
        lastSign = now
        isDoubted = false
        isQuiet = false
    }
    /// The driver was handed what is urgent, a ping that waits included.
    mutating func handed(behind bytes: Int) { if outstanding != nil, ahead == nil { ahead = bytes } }
    /// The driver has handed on so many bytes.
    mutating func drained(_ bytes: Int, at now: Instant) {
        if ahead.map({ $0 > 0 }) ?? true { sign(at: now) }
        ahead = ahead.map { $0 - bytes }
    }
    mutating func probe(at now: Instant) { if outstanding == nil { nextPing = now } }
    /// This machine was away: the other side may have given the connection up.
    mutating func doubt(at now: Instant) {
        probe(at: now)
        lastSign = now
        isDoubted = true
    }
    /// A message came or went.
    mutating func used(at now: Instant, _ limits: ChannelLimits) {
        if rests(at: now, limits), outstanding == nil { nextPing = min(nextPing, now) }
        usedAt = now
    }
    /// The other side has asked, so that both know.
    mutating func asked(at now: Instant, _ limits: ChannelLimits) {
        guard rests(at: now, limits), !asksFirst, outstanding == nil else { return }
        nextPing = max(nextPing, now + pause(at: now, limits))
    }
    private func rests(at now: Instant, _ limits: ChannelLimits) -> Bool { now - usedAt > limits.restsAfter }
    private func pause(at now: Instant, _ limits: ChannelLimits) -> Duration {
        guard rests(at: now, limits) else { return limits.pingInterval }
        return asksFirst ? limits.restingPingInterval : limits.restingPingInterval * 3 / 2
    }

    func nextWake(_ limits: ChannelLimits) -> Instant {
        guard let outstanding else { return nextPing }
        let lost = max(lastSign, outstanding.sentAt) + patience(limits.silence)
        return quietAt(limits).map { min($0, lost) } ?? lost
    }
    private func patience(_ silence: Duration) -> Duration { isDoubted ? min(silence, Self.doubtful) : silence }
    /// When it is quiet if nothing comes; nil where that is not asked, or was answered already.
    private func quietAt(_ limits: ChannelLimits) -> Instant? {
        guard let outstanding, isOutside, !isQuiet, limits.sessions.quiet > .zero else { return nil }
        return max(lastSign, outstanding.sentAt, excusedAt) + max(limits.sessions.quiet, (smoothed ?? .zero) * 4)
    }
    /// Enough for a satellite and a queue.
    private static let doubtful = Duration.seconds(2)
    /// Late by so much this process slept, or had no turn: what it was sent may lie unread.
    private static let lateness = Duration.milliseconds(250)
    enum Verdict { case nothing, ping(UInt64), quiet, silent }
    mutating func wake(at now: Instant, _ limits: ChannelLimits) -> Verdict {
        if let due = quietAt(limits), due <= now {
            isQuiet = now - due <= Self.lateness
            excusedAt = now
            if isQuiet { return .quiet }
        }
        let due = nextWake(limits)
        guard due <= now else { return .nothing }
        guard outstanding == nil else {
            // When we ourselves slept through the deadline, answers may lie unread: one more second.
            guard now - due > .seconds(1) else { return .silent }
            lastSign = now - patience(limits.silence) + .seconds(1)
            outstanding!.sentAt = lastSign
            return .nothing
        }
        number += 1
        outstanding = (number, now)
        ahead = nil
        return .ping(number)
    }
    mutating func answered(_ number: UInt64, at now: Instant, _ limits: ChannelLimits) {
        guard let ping = outstanding, ping.number == number else { return }
        outstanding = nil
        nextPing = max(now, ping.sentAt + pause(at: now, limits))
        let sample = now - ping.sentAt
        smoothed = smoothed.map { $0 + (sample - $0) / 8 } ?? sample
        least = min(least ?? sample, sample)
    }
}
