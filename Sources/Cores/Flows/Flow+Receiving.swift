internal import Primitives

extension Flow {
    /// What an opened packet has come to.
    enum Outcome {
        case taken
        /// There was no room for it: it will come again.
        case refused
        case violation
        /// The other end has closed.
        case closed(FlowEnd)
    }
    /// What a packet makes the host do, beside what it leaves in the flow.
    struct Answer {
        var outcome = Outcome.taken
        var elicits = false
        var challenged: UInt64?
        var responded: UInt64?
        var verdict: SentPackets.Verdict?
    }

    /// What became of a datagram that bears this flow's ID.
    enum Opening {
        case number(UInt64)
        case malformed
        /// It came before.
        case seen
        /// It is not what it seems.
        case unsealed
    }
    /// Opens a packet in place.
    mutating func open(_ datagram: UnsafeMutableRawBufferPointer, _ form: FlowPacket.Form) -> Opening {
        var reader = PacketReader(UnsafeRawBufferPointer(datagram), from: 9)
        guard datagram.count >= form.headBytes + FlowLimits.tag, let low = reader.integer(4), let seals else {
            return .malformed
        }
        let number = FlowPacket.number(low, expecting: received.expected)
        guard received.isNew(number) else { return .seen }
        return seals.incoming.open(datagram, clear: form.headBytes, number: number) ? .number(number) : .unsealed
    }

    /// - Parameter bytes: what was under the seal.
    mutating func receive(_ bytes: UnsafeRawBufferPointer, at now: Instant) -> Answer {
        var reader = PacketReader(bytes)
        var answer = Answer()
        do {
            while let frame = try FlowFrame.next(&reader) {
                try receive(frame, &answer, at: now)
                if case .taken = answer.outcome { continue }
                return answer
            }
        } catch {
            answer.outcome = .violation
        }
        return answer
    }
    private mutating func receive(_ frame: FlowFrame, _ answer: inout Answer, at now: Instant) throws {
        switch frame {
        case .ping: answer.elicits = true
        case .acknowledgement(let ack):
            // One a packet is all that an honest end sends.
            guard answer.verdict == nil else { throw FlowFrame.Malformed() }
            answer.verdict = try sent.acknowledge(ack, &roundTrip, at: now)
        case .stream(let offset, let bytes, let isLast):
            answer.elicits = true
            switch receiving.receive(bytes, at: offset, isLast: isLast) {
            case .taken: break
            case .refused: answer.outcome = .refused
            case .violation: answer.outcome = .violation
            }
        case .window(let limit):
            answer.elicits = true
            sending.grant(limit)
        case .challenge(let value): answer.challenged = value
        case .response(let value): answer.responded = value
        case .close(let why): answer.outcome = .closed(why)
        }
    }

    /// Puts what acknowledgements, or time, have decided where it belongs.
    mutating func apply(_ verdict: SentPackets.Verdict, _ line: inout LineController, slot: Int, at now: Instant) {
        for packet in verdict.acknowledged {
            if let piece = packet.piece { sending.acknowledge(piece) }
            mtu.acknowledged(packet)
        }
        if !verdict.acknowledged.isEmpty {
            clock.timeouts = 0
            clock.probes = 0
            clock.waitingSince = sent.inFlight > 0 ? now : nil
            steer(verdict, &line, slot: slot, at: now)
        }
        for packet in verdict.lost { lose(packet, at: now) }
        let real = verdict.lost.reduce(0) { $0 + ($1.isProbe ? 0 : 1) }
        if real > 0 {
            path.lost(real)
            line.lost(real)
        }
        if verdict.isPersistent { path.collapse() }
    }
    private mutating func lose(_ packet: SentPacket, at now: Instant) {
        if let piece = packet.piece { sending.lose(piece) }
        if packet.hasWindow { marks.insert(.window) }
        mtu.lost(packet, roundTrip: roundTrip.smoothed, at: now)
    }
    private mutating func steer(
        _ verdict: SentPackets.Verdict, _ line: inout LineController, slot: Int, at now: Instant
    ) {
        let isFirst = path.law == nil
        var queue: Double?
        if verdict.sampled != nil, let latest = roundTrip.latest { queue = path.measured(latest, at: now) }
        guard let least = path.least.value else { return }
        if isFirst { line.joined(least, at: now) }
        let bytes = verdict.acknowledged.reduce(0) { $0 + $1.size }
        path.acknowledged(
            bytes, queue: queue, roundTrip: roundTrip.smoothed, line: line.flows > 1 ? line.queue : nil, at: now)
        line.acknowledged(
            bytes, queue: queue, roundTrip: roundTrip.smoothed, least: least, flow: slot, at: now)
    }

    /// The other end, or this one, is somewhere else now: nothing that was learnt of the path holds.
    mutating func arriveElsewhere(_ endpoint: Endpoint, sizes: [Int], at now: Instant) {
        remote = endpoint
        move = nil
        for packet in sent.loseAll().lost { lose(packet, at: now) }
        roundTrip = RoundTrip()
        mtu = PathMTU(sizes: sizes, at: now)
        path = PathController(at: now)
        clock.timeouts = 0
        clock.waitingSince = nil
        marks.insert(.ping)
    }
}

// MARK: time

extension Flow {
    /// When a probe is due (RFC 9002, §6.2).
    @inline(__always) private var probeTime: Instant? {
        guard sent.inFlight > 0, let last = sent.lastAt else { return nil }
        return last + roundTrip.probeTimeout * (1 << min(clock.timeouts, 6))
    }
    mutating func whenToWake() -> Instant? {
        switch state {
        case .greeting(let tries):
            return min(clock.sentAt + Self.helloInterval(tries), clock.openedAt + FlowLimits.openingTimeout)
        case .lingering(let until): return earliest(until, received.due)
        case .beginning, .open: break
        }
        var next = earliest(received.due, earliest(sent.lossTime, probeTime))
        next = earliest(next, clock.waitingSince.map { $0 + FlowLimits.silence })
        next = earliest(next, min(clock.sentAt + FlowLimits.keepAlive, clock.heardAt + FlowLimits.idle))
        return state == .beginning ? earliest(next, clock.openedAt + FlowLimits.openingTimeout) : next
    }
    static func helloInterval(_ tries: Int) -> Duration { .milliseconds(250 << min(tries - 1, 3)) }

    /// What is over: nothing came for too long.
    mutating func isSilent(at now: Instant) -> Bool {
        switch state {
        case .greeting, .beginning: return now - clock.openedAt >= FlowLimits.openingTimeout
        case .open:
            let isStuck = clock.waitingSince.map { now - $0 >= FlowLimits.silence } ?? false
            return isStuck || now - clock.heardAt >= FlowLimits.idle
        case .lingering: return false
        }
    }
    /// Looks at what is due.
    mutating func wake(_ line: inout LineController, slot: Int, at now: Instant) {
        if let lossTime = sent.lossTime, lossTime <= now {
            apply(sent.wake(roundTrip, at: now), &line, slot: slot, at: now)
        } else if let probeTime, probeTime <= now {
            clock.timeouts += 1
            clock.probes = 2
            mtu.unanswered(clock.timeouts, at: now)
        }
        if now - clock.sentAt >= FlowLimits.keepAlive { marks.insert(.ping) }
    }
}
