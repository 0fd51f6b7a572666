internal import Primitives

/// What is known of one packet that was sent.
struct SentPacket: Sendable {
    enum State: UInt8, Sendable { case inFlight, acknowledged, lost, skipped }
    var at: Instant
    var size: Int
    var piece: SendStream.Piece?
    /// It asks for an acknowledgement, and counts as in flight.
    var elicits = true
    var hasWindow = false
    /// It tries a size; its loss says nothing of the line.
    var isProbe = false
    var state = State.inFlight
}

/// Packets in flight, and which of them are lost (RFC 9002, §6). Numbers are never used twice.
struct SentPackets: Sendable {
    /// What an acknowledgement, or time, has decided.
    struct Verdict {
        var acknowledged: [SentPacket] = []
        var lost: [SentPacket] = []
        /// When the highest packet was sent, if it is among those now acknowledged and asked for it: a sample of the round trip.
        var sampled: Instant?
        /// Losses span so long that nothing gets through.
        var isPersistent = false
    }
    /// The other end acknowledges what was never sent.
    struct Impossible: Error {}

    /// From number ``base`` on; a gap of the numbers is a packet that was never sent.
    private var packets: [SentPacket] = []
    private var head = 0
    private(set) var base: UInt64 = 0
    private(set) var bytesInFlight = 0
    private(set) var largest: UInt64?
    private var skipped: [UInt64] = []
    /// When the next packet is lost for want of time.
    private(set) var lossTime: Instant?
    /// Of the last packet that asks for an acknowledgement.
    private(set) var lastAt: Instant?
    private(set) var inFlight = 0
    /// Of the first measured round trip: losses before it say nothing about persistence (RFC 9002, §7.6.2).
    private var since: Instant?

    static let reordering: UInt64 = 3

    var next: UInt64 { base + UInt64(packets.count - head) }
    var isFull: Bool { mutating get { packets.count - head >= FlowLimits.packets } }

    mutating func sent(_ packet: SentPacket) {
        packets.append(packet)
        guard packet.elicits else {
            // Nothing is expected of it, so it must not be waited for.
            packets[packets.count - 1].state = .acknowledged
            return forget()
        }
        inFlight += 1
        bytesInFlight += packet.size
        lastAt = packet.at
    }
    /// Leaves a number out: whoever acknowledges it has not looked (RFC 9000, §21.4).
    mutating func skip(at now: Instant) {
        skipped.append(next)
        if skipped.count > 8 { skipped.removeFirst() }
        packets.append(SentPacket(at: now, size: 0, elicits: false, state: .skipped))
    }

    mutating func acknowledge(
        _ ack: Acknowledgement, _ roundTrip: inout RoundTrip, at now: Instant
    ) throws(Impossible) -> Verdict {
        guard ack.largest < next, !skipped.contains(where: { number in ack.ranges.contains { $0.contains(number) } })
        else { throw Impossible() }
        var verdict = Verdict()
        for range in ack.ranges.reversed() where range.upperBound >= base {
            for number in max(range.lowerBound, base)...range.upperBound { note(number, ack.largest, &verdict) }
        }
        if let at = verdict.sampled {
            roundTrip.measured(now - at, delay: ack.delay)
            if since == nil { since = now }
        }
        largest = max(largest ?? 0, ack.largest)
        detect(roundTrip, at: now, &verdict)
        forget()
        return verdict
    }
    private mutating func note(_ number: UInt64, _ largest: UInt64, _ verdict: inout Verdict) {
        let place = head + Int(number - base)
        guard packets[place].state == .inFlight else { return }
        packets[place].state = .acknowledged
        guard packets[place].elicits else { return }
        inFlight -= 1
        bytesInFlight -= packets[place].size
        if number == largest { verdict.sampled = packets[place].at }
        verdict.acknowledged.append(packets[place])
    }
    /// Time has passed: see ``lossTime``.
    mutating func wake(_ roundTrip: RoundTrip, at now: Instant) -> Verdict {
        var verdict = Verdict()
        detect(roundTrip, at: now, &verdict)
        forget()
        return verdict
    }
    private mutating func detect(_ roundTrip: RoundTrip, at now: Instant, _ verdict: inout Verdict) {
        lossTime = nil
        guard let largest else { return }
        let delay = roundTrip.lossDelay
        var run: Instant?
        var place = head
        while place < packets.count, base + UInt64(place - head) < largest {
            defer { place += 1 }
            let number = base + UInt64(place - head)
            switch packets[place].state {
            case .acknowledged: if packets[place].elicits { run = nil }
            case .skipped, .lost: break
            case .inFlight:
                guard number + Self.reordering <= largest || packets[place].at + delay <= now else {
                    if packets[place].elicits { lossTime = earliest(lossTime, packets[place].at + delay) }
                    return
                }
                packets[place].state = .lost
                guard packets[place].elicits else { continue }
                inFlight -= 1
                bytesInFlight -= packets[place].size
                verdict.lost.append(packets[place])
                guard let since, packets[place].at > since, !packets[place].isProbe else { continue }
                let start = run ?? packets[place].at
                run = start
                if packets[place].at - start > roundTrip.persistence { verdict.isPersistent = true }
            }
        }
    }
    /// The path is another: what is in flight is gone.
    mutating func loseAll() -> Verdict {
        var verdict = Verdict()
        for place in head..<packets.count where packets[place].state == .inFlight {
            packets[place].state = .lost
            if packets[place].elicits { verdict.lost.append(packets[place]) }
        }
        (inFlight, bytesInFlight, lossTime) = (0, 0, nil)
        forget()
        return verdict
    }
    private mutating func forget() {
        while head < packets.count, packets[head].state != .inFlight {
            head += 1
            base += 1
        }
        if head == packets.count {
            packets.removeAll(keepingCapacity: true)
            head = 0
        } else if head > 256, head * 2 > packets.count {
            packets.removeFirst(head)
            head = 0
        }
    }
}
