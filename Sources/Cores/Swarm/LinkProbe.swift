import Primitives
import Wire

/// Measures round trips to a few peers and sends one burst, on the coordinator's order; and times bursts that arrive.
struct LinkProbe: Sendable {
    enum Effect: Sendable {
        case connect(PeerID, Endpoint)
        case send(PBPacket, payload: [UInt8], on: Lane, to: PeerID)
    }
    private struct Order: Sendable {
        var nonce: UInt64
        var by: PeerID
        var targets: [PeerID]
        /// The least of a few round trips.
        var best: [PeerID: Duration] = [:]
        var sent: [PeerID: (at: Instant, nonce: UInt64, left: Int)] = [:]
        var deadline: Instant
    }
    private struct Burst: Sendable {
        var from: PeerID
        var started: Instant
        var bytes = 0
        var parts = 0
    }
    private var order: Order?
    private var bursts: [UInt64: Burst] = [:]
    private var nextNonce: UInt64 = 1
    private var effects = EffectQueue<Effect>()
    static let partBytes = 16 << 10
    static let rounds = 4

    mutating func poll() -> Effect? { effects.pop() }
    var nextWake: Instant? { order?.deadline }

    mutating func receive(_ message: PBProbeOrder, from peer: PeerID, at now: Instant) {
        guard message.ping.count <= 4096, message.burstBytes <= 64 << 20 else { return }
        var fresh = Order(nonce: message.nonce, by: peer, targets: [], deadline: now + .seconds(4))
        for target in message.ping {
            guard let id = PeerID(target.peer), let endpoint = Endpoint(compact: target.endpoint) else { continue }
            effects.push(.connect(id, endpoint))
            fresh.targets.append(id)
        }
        order = fresh
        for target in fresh.targets { ping(target, left: Self.rounds - 1, at: now) }
        if let id = PeerID(message.burstTo.peer), let endpoint = Endpoint(compact: message.burstTo.endpoint) {
            effects.push(.connect(id, endpoint))
            let parts = max(2, Int(message.burstBytes) / Self.partBytes)
            for part in 0..<parts {
                var packet = PBPacket()
                packet.probeBurst.nonce = message.nonce
                packet.probeBurst.part = UInt32(part)
                packet.probeBurst.parts = UInt32(parts)
                let filler = [UInt8](repeating: UInt8(truncatingIfNeeded: part), count: Self.partBytes)
                effects.push(.send(packet, payload: filler, on: .bulk, to: id))
            }
        }
        finishIfDone(at: now)
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

    /// Times a burst from its first part to its last and tells the coordinator.
    mutating func receive(_ message: PBProbeBurst, bytes: Int, from peer: PeerID, coordinator: PeerID, at now: Instant)
    {
        guard message.parts >= 2, message.parts <= 65_536, bursts.count < 64 || bursts[message.nonce] != nil else {
            return
        }
        if bursts[message.nonce] == nil {
            bursts[message.nonce] = Burst(from: peer, started: now)
            bursts[message.nonce]!.parts = 1
            return
        }
        guard var burst = bursts[message.nonce], burst.from == peer else { return }
        burst.bytes += bytes
        burst.parts += 1
        bursts[message.nonce] = burst
        guard burst.parts == Int(message.parts) else { return }
        bursts[message.nonce] = nil
        var packet = PBPacket()
        packet.probeResult.nonce = message.nonce
        packet.probeResult.burstFrom = bytesOf(peer)
        packet.probeResult.burstBytes = UInt64(burst.bytes)
        packet.probeResult.burstNanoseconds = UInt64(max(1, (now - burst.started).wholeNanoseconds))
        effects.push(.send(packet, payload: [], on: .control, to: coordinator))
    }

    mutating func wake(at now: Instant) { finishIfDone(at: now) }

    private mutating func finishIfDone(at now: Instant) {
        guard let order, order.sent.isEmpty || order.deadline <= now else { return }
        self.order = nil
        guard !order.targets.isEmpty else { return }
        var packet = PBPacket()
        packet.probeResult.nonce = order.nonce
        packet.probeResult.roundTrips = order.targets.map { target in
            var entry = PBProbeResult.RoundTrip()
            entry.peer = bytesOf(target)
            entry.nanoseconds = UInt64(order.best[target]?.wholeNanoseconds ?? 0)
            return entry
        }
        effects.push(.send(packet, payload: [], on: .control, to: order.by))
    }
}
