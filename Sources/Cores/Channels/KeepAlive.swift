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
struct KeepAlive: Sendable {
    /// Whether this side is the one that asks while the connection rests.
    private let asksFirst: Bool
    private(set) var lastSign = Instant.zero
    private(set) var outstanding: (number: UInt64, sentAt: Instant)?
    /// Bytes that the driver holds, up to and with the ping; nil until it has been handed that.
    private var ahead: Int?
    /// The machine has slept, or has another address: whether the other side is there is asked with little patience.
    private var isDoubted = false
    private var nextPing = Instant.zero
    private var number: UInt64 = 0
    /// When a message last came or went.
    private var usedAt = Instant.zero
    /// Smoothed as in RFC 6298 (1/8), and the least seen.
    private(set) var smoothed: Duration?
    private(set) var least: Duration?

    init(asksFirst: Bool) { self.asksFirst = asksFirst }

    mutating func begin(at now: Instant) {
        lastSign = now
        usedAt = now
        nextPing = now
    }
    /// Something came.
    mutating func sign(at now: Instant) {
        lastSign = now
        isDoubted = false
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

    func nextWake(_ silence: Duration) -> Instant {
        guard let outstanding else { return nextPing }
        return max(lastSign, outstanding.sentAt) + patience(silence)
    }
    private func patience(_ silence: Duration) -> Duration { isDoubted ? min(silence, Self.doubtful) : silence }
    /// Enough for a satellite and a queue.
    private static let doubtful = Duration.seconds(2)
    enum Verdict { case nothing, ping(UInt64), silent }
    mutating func wake(at now: Instant, _ limits: ChannelLimits) -> Verdict {
        let due = nextWake(limits.silence)
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
