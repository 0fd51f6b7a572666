import Messages
import Primitives

/// A member's part in a survey of links: on the leader's order it measures round trips, sends bursts, and times those
/// that come.
package struct LinkProbe: Sendable {
    package enum Effect: Sendable {
        case connect(PeerID, Endpoint)
        case send(Message, to: PeerID)
        /// For the leader.
        case report(ProbeResult)
    }
    private struct Ping: Sendable {
        var at: Instant
        var nonce: UInt64
        /// To follow.
        var left: Int
    }
    /// One turn of the survey.
    private struct Turn: Sendable {
        var number: UInt64
        /// To be pinged.
        var targets: [PeerID]
        /// The least of a few round trips.
        var best: [PeerID: Duration] = [:]
        var open: [PeerID: Ping] = [:]
        /// Whose bursts come, in the leader's order.
        var senders: [PeerID]
        /// To be sent, by when.
        var bursts: [(at: Instant, bursts: [ProbeOrder.Burst])] = []
        var deadline: Instant
    }
    private var turn: Turn?
    /// What comes, by turn: a burst may overtake the order of its turn.
    private var meters: [UInt64: BurstMeter] = [:]
    private var nextNonce: UInt64 = 1
    private var effects = EffectQueue<Effect>()
    /// Of a part; short bursts have smaller ones.
    package static let partBytes = 16 << 10
    private static let leastParts = 16
    package static let rounds = 4

    package init() {}

    package mutating func poll() -> Effect? { effects.pop() }
    package var nextWake: Instant? { earliest(turn?.deadline, turn?.bursts.first?.at) }

    package mutating func receive(_ order: ProbeOrder, at now: Instant) {
        meters = meters.filter { $0.key >= order.turn }
        var fresh = Turn(
            number: order.turn, targets: order.pings.map(\.peer), senders: order.senders,
            deadline: now + order.reportAfter)
        for target in order.pings { effects.push(.connect(target.peer, target.endpoint)) }
        for burst in order.bursts.sorted(by: { $0.after < $1.after }) {
            let at = now + burst.after
            if let last = fresh.bursts.indices.last, fresh.bursts[last].at == at {
                fresh.bursts[last].bursts.append(burst)
            } else {
                fresh.bursts.append((at, [burst]))
            }
        }
        turn = fresh
        for target in fresh.targets { ping(target, left: Self.rounds - 1, at: now) }
        wake(at: now)
    }

    /// Part by part, so that all are under way at once.
    private mutating func send(_ bursts: [ProbeOrder.Burst], turn: UInt64) {
        let targets: [(peer: PeerID, size: Int, parts: Int)] = bursts.map { burst in
            effects.push(.connect(burst.to.peer, burst.to.endpoint))
            let size = min(max(burst.bytes / Self.leastParts, 1024), Self.partBytes)
            return (burst.to.peer, size, max(2, burst.bytes / size))
        }
        for part in 0..<(targets.map(\.parts).max() ?? 0) {
            for target in targets where part < target.parts {
                let burst = ProbeBurst(turn: turn, part: part, parts: target.parts, bytes: target.size)
                effects.push(.send(.probeBurst(burst), to: target.peer))
            }
        }
    }

    private mutating func ping(_ target: PeerID, left: Int, at now: Instant) {
        turn?.open[target] = Ping(at: now, nonce: nextNonce, left: left)
        effects.push(.send(.ping(nextNonce), to: target))
        nextNonce += 1
    }

    package mutating func receive(pong nonce: UInt64, from peer: PeerID, at now: Instant) {
        guard let ping = turn?.open[peer], ping.nonce == nonce else { return }
        let trip = now - ping.at
        turn!.best[peer] = min(turn!.best[peer] ?? trip, trip)
        turn!.open[peer] = nil
        if ping.left > 0 { self.ping(peer, left: ping.left - 1, at: now) }
        finishIfDone(at: now)
    }

    package mutating func receive(_ burst: ProbeBurst, from peer: PeerID, at now: Instant) {
        // Of this turn, or of the next, whose order is still on its way; what claims to be far ahead gives way.
        guard burst.turn >= turn?.number ?? 0 else { return }
        if meters[burst.turn] == nil, meters.count >= 8, let furthest = meters.keys.max() {
            guard burst.turn < furthest else { return }
            meters[furthest] = nil
        }
        meters[burst.turn, default: BurstMeter()].add(burst.bytes, of: burst.parts, from: peer, at: now)
        finishIfDone(at: now)
    }

    package mutating func wake(at now: Instant) {
        while let next = turn?.bursts.first, next.at <= now {
            turn!.bursts.removeFirst()
            send(next.bursts, turn: turn!.number)
        }
        finishIfDone(at: now)
    }

    private mutating func finishIfDone(at now: Instant) {
        guard let turn else { return }
        let meter = meters[turn.number] ?? BurstMeter()
        let isOver = turn.open.isEmpty && turn.bursts.isEmpty && turn.senders.allSatisfy { meter.isComplete($0) }
        guard isOver || turn.deadline <= now else { return }
        self.turn = nil
        meters[turn.number] = nil
        let result = ProbeResult(
            turn: turn.number,
            roundTrips: turn.targets.compactMap { peer in
                turn.best[peer].map { ProbeResult.RoundTrip(peer: peer, time: $0) }
            },
            arrivals: turn.senders.compactMap { sender in
                meter.pace(from: sender)?.rate.map { ProbeResult.Arrival(sender: sender, bitsPerSecond: $0) }
            }, together: turn.senders.count > 1 ? meter.paceTogether?.rate : nil)
        effects.push(.report(result))
    }
}

extension BurstMeter.Pace {
    /// Bits a second; nil where that cannot be.
    package var rate: Double? {
        guard nanoseconds > 0 else { return nil }
        let rate = Double(bytes) * 8e9 / Double(nanoseconds)
        return rate <= ProbeResult.mostBitsPerSecond ? rate : nil
    }
}
