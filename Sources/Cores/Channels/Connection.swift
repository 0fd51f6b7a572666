import Primitives

/// One secure byte stream below the channels, from the first dial to the last byte.
struct Connection: Sendable {
    enum Phase: Hashable, Sendable {
        /// The driver opens it.
        case dialing(until: Instant)
        /// Secure, and outvoted by a dial of ours that has yet to succeed.
        case held(until: Instant)
        /// Our hello is on its way; theirs is missing.
        case greeting(until: Instant)
        case open
    }
    /// Who it should be, then who it is.
    var peer: PeerID?
    var endpoint: Endpoint
    let openedHere: Bool
    var phase: Phase
    /// Dialled to take the place of an open connection.
    var isMove = false
    var exporter: [UInt8] = []
    var isTLSClient = false
    var version: UInt16 = 0
    /// What our hello said, and theirs once it was read and found right.
    var said: SessionStanding?
    var hello: Hello?

    var parser = FrameParser()
    /// By channel: where in the other side's stream the next byte on this connection belongs.
    var offsets = PerChannel<UInt64>(repeating: 0)
    /// Small frames that go before all messages.
    var urgent: [UInt8] = []
    /// What the driver holds, to our knowledge.
    var unsent = 0
    var hold: HoldLimit
    var keepAlive = KeepAlive()

    init(peer: PeerID?, endpoint: Endpoint, openedHere: Bool, phase: Phase, limits: ChannelLimits) {
        self.peer = peer
        self.endpoint = endpoint
        self.openedHere = openedHere
        self.phase = phase
        hold = HoldLimit(limits)
    }
    var isOpen: Bool { if case .open = phase { true } else { false } }
    var isHeld: Bool { if case .held = phase { true } else { false } }
    var isGreeting: Bool { if case .greeting = phase { true } else { false } }
    var isDialing: Bool { if case .dialing = phase { true } else { false } }
    /// It came from outside and has yet to prove membership.
    var isUnproven: Bool { !openedHere && !isOpen }
    /// When something is to be done about it.
    func due(silence: Duration) -> Instant { deadline ?? keepAlive.nextWake(silence) }
    var isSecure: Bool { !exporter.isEmpty }
    /// Whether it is the one that survives of two: the smaller peer opened it.
    func isPreferred(local: PeerID) -> Bool { peer.map { (local < $0) == openedHere } ?? false }
    var deadline: Instant? {
        switch phase {
        case .dialing(let until), .held(let until), .greeting(let until): until
        case .open: nil
        }
    }
}

/// Round-trip time and silence of one connection.
///
/// A ping goes out one interval after the last was answered. The peer counts as silent while a ping is unanswered and neither
/// did anything come from it nor did the driver hand bytes on to it: a slow line that is still draining is no silence.
struct KeepAlive: Sendable {
    private(set) var lastSign = Instant.zero
    private(set) var outstanding: (number: UInt64, sentAt: Instant)?
    private var nextPing = Instant.zero
    private var number: UInt64 = 0
    /// Smoothed as in RFC 6298 (1/8), and the least seen.
    private(set) var smoothed: Duration?
    private(set) var least: Duration?

    mutating func begin(at now: Instant) {
        lastSign = now
        nextPing = now
    }
    /// Something came, or something went.
    mutating func sign(at now: Instant) { lastSign = now }
    mutating func probe(at now: Instant) { if outstanding == nil { nextPing = now } }

    func nextWake(_ silence: Duration) -> Instant {
        guard let outstanding else { return nextPing }
        return max(lastSign, outstanding.sentAt) + silence
    }
    enum Verdict { case nothing, ping(UInt64), silent }
    mutating func wake(at now: Instant, _ limits: ChannelLimits) -> Verdict {
        let due = nextWake(limits.silence)
        guard due <= now else { return .nothing }
        guard outstanding == nil else {
            // When we ourselves slept through the deadline, answers may lie unread: one more second.
            guard now - due > .seconds(1) else { return .silent }
            lastSign = now - limits.silence + .seconds(1)
            outstanding!.sentAt = lastSign
            return .nothing
        }
        number += 1
        outstanding = (number, now)
        return .ping(number)
    }
    mutating func answered(_ number: UInt64, at now: Instant, _ limits: ChannelLimits) {
        guard let ping = outstanding, ping.number == number else { return }
        outstanding = nil
        nextPing = max(now, ping.sentAt + limits.pingInterval)
        let sample = now - ping.sentAt
        smoothed = smoothed.map { $0 + (sample - $0) / 8 } ?? sample
        least = min(least ?? sample, sample)
    }
}
