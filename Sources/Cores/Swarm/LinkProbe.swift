import Primitives
import Wire

/// A member's part in a survey of links: on the coordinator's order it measures round trips, sends bursts, and times those
/// that come.
struct LinkProbe: Sendable {
    enum Effect: Sendable {
        case connect(PeerID, Endpoint)
        case send(PBPacket, payload: [UInt8], on: Lane, to: PeerID)
    }
    private struct Order: Sendable {
        var turn: UInt64
        var by: PeerID
        /// To be pinged.
        var targets: [PeerID] = []
        /// The least of a few round trips.
        var best: [PeerID: Duration] = [:]
        var sent: [PeerID: (at: Instant, nonce: UInt64, left: Int)] = [:]
        /// Whose bursts come, in the coordinator's order.
        var senders: [PeerID] = []
        /// To be sent, by when.
        var bursts: [(at: Instant, bursts: [PBProbeOrder.Burst])] = []
        var deadline: Instant
    }
    private var order: Order?
    /// What comes, by turn: a burst may overtake the order of its turn.
    private var meters: [UInt64: BurstMeter] = [:]
    private var nextNonce: UInt64 = 1
    private var effects = EffectQueue<Effect>()
    /// Of a part; short bursts have smaller ones.
    static let partBytes = 16 << 10
    private static let leastParts = 16
    static let rounds = 4
    /// Most that one order may have a member send.
    static let mostBytes = 64 << 20

    mutating func poll() -> Effect? { effects.pop() }
    var nextWake: Instant? { earliest(order?.deadline, order?.bursts.first?.at) }

    mutating func receive(_ message: PBProbeOrder, from peer: PeerID, at now: Instant) {
        guard message.ping.count <= 4096, message.senders.count <= 64, message.bursts.count <= 64,
            message.bursts.reduce(0, { $0 + Int($1.bytes) }) <= Self.mostBytes
        else { return }
        meters = meters.filter { $0.key >= message.turn }
        var fresh = Order(
            turn: message.turn, by: peer, senders: message.senders.compactMap { PeerID($0) },
            deadline: now + .milliseconds(Int64(min(message.milliseconds, 60_000))))
        fresh.targets = message.ping.compactMap { connect($0) }
        for burst in message.bursts.sorted(by: { $0.microseconds < $1.microseconds }) {
            let at = now + .microseconds(Int64(min(burst.microseconds, 1_000_000)))
            if let last = fresh.bursts.indices.last, fresh.bursts[last].at == at {
                fresh.bursts[last].bursts.append(burst)
            } else {
                fresh.bursts.append((at, [burst]))
            }
        }
        order = fresh
        for target in fresh.targets { ping(target, left: Self.rounds - 1, at: now) }
        wake(at: now)
    }

    private mutating func connect(_ target: PBProbeOrder.Target) -> PeerID? {
        guard let id = PeerID(target.peer), let endpoint = Endpoint(compact: target.endpoint) else { return nil }
        effects.push(.connect(id, endpoint))
        return id
    }

    /// Part by part, so that all are under way at once.
    private mutating func sendBursts(_ bursts: [PBProbeOrder.Burst], turn: UInt64) {
        let targets: [(PeerID, Int, parts: Int)] = bursts.compactMap { burst in
            let size = min(max(Int(burst.bytes) / Self.leastParts, 1024), Self.partBytes)
            return connect(burst.to).map { ($0, size, parts: max(2, Int(burst.bytes) / size)) }
        }
        for part in 0..<(targets.map(\.parts).max() ?? 0) {
            for (target, size, parts) in targets where part < parts {
                var packet = PBPacket()
                packet.probeBurst.turn = turn
                packet.probeBurst.part = UInt32(part)
                packet.probeBurst.parts = UInt32(parts)
                let filler = [UInt8](repeating: UInt8(truncatingIfNeeded: part), count: size)
                effects.push(.send(packet, payload: filler, on: .bulk, to: target))
            }
        }
    }

    private mutating func ping(_ target: PeerID, left: Int, at now: Instant) {
        var packet = PBPacket()
        packet.ping.nonce = nextNonce
        order?.sent[target] = (now, nextNonce, left)
        nextNonce += 1
        effects.push(.send(packet, payload: [], on: .control, to: target))
    }

    mutating func receive(_ message: PBPong, from peer: PeerID, at now: Instant) {
        guard let sent = order?.sent[peer], sent.nonce == message.nonce else { return }
        let trip = now - sent.at
        order!.best[peer] = min(order!.best[peer] ?? trip, trip)
        order!.sent[peer] = nil
        if sent.left > 0 { ping(peer, left: sent.left - 1, at: now) }
        finishIfDone(at: now)
    }

    mutating func receive(_ message: PBProbeBurst, bytes: Int, from peer: PeerID, at now: Instant) {
        // Of this turn, or of the next, whose order is still on its way; what claims to be far ahead gives way.
        guard message.turn >= order?.turn ?? 0 else { return }
        if meters[message.turn] == nil, meters.count >= 8, let furthest = meters.keys.max() {
            guard message.turn < furthest else { return }
            meters[furthest] = nil
        }
        meters[message.turn, default: BurstMeter()].add(bytes, of: Int(message.parts), from: peer, at: now)
        finishIfDone(at: now)
    }

    mutating func wake(at now: Instant) {
        while let next = order?.bursts.first, next.at <= now {
            order!.bursts.removeFirst()
            sendBursts(next.bursts, turn: order!.turn)
        }
        finishIfDone(at: now)
    }

    private mutating func finishIfDone(at now: Instant) {
        guard let order else { return }
        let meter = meters[order.turn] ?? BurstMeter()
        let over = order.sent.isEmpty && order.bursts.isEmpty && order.senders.allSatisfy { meter.isComplete($0) }
        guard over || order.deadline <= now else { return }
        self.order = nil
        meters[order.turn] = nil
        var packet = PBPacket()
        packet.probeResult.turn = order.turn
        packet.probeResult.roundTrips = order.targets.map { target in
            var entry = PBProbeResult.RoundTrip()
            entry.peer = bytesOf(target)
            entry.nanoseconds = UInt64(order.best[target]?.wholeNanoseconds ?? 0)
            return entry
        }
        packet.probeResult.arrivals = order.senders.compactMap { sender in
            meter.pace(from: sender).map { Self.arrival($0, from: sender) }
        }
        if order.senders.count > 1, let pace = meter.paceTogether {
            packet.probeResult.together = Self.arrival(pace, from: nil)
        }
        effects.push(.send(packet, payload: [], on: .control, to: order.by))
    }

    private static func arrival(_ pace: BurstMeter.Pace, from sender: PeerID?) -> PBProbeResult.Arrival {
        var arrival = PBProbeResult.Arrival()
        if let sender { arrival.sender = bytesOf(sender) }
        arrival.bytes = UInt64(pace.bytes)
        arrival.nanoseconds = UInt64(pace.nanoseconds)
        return arrival
    }
}
