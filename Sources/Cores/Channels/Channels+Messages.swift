import Paths
public import Primitives
import Wire

extension Channels {
    /// Queues a message; it leaves when its channel's turn comes and the receiver's window allows.
    public mutating func send(_ message: [UInt8], on channel: Channel, to peer: PeerID, at now: Instant) -> SendOutcome
    {
        send(header: message, payload: [], on: channel, to: peer, at: now)
    }
    /// The same for a message in two parts, which are not copied together. The receiver gets one.
    public mutating func send(
        header: [UInt8], payload: [UInt8], on channel: Channel, to peer: PeerID, at now: Instant
    ) -> SendOutcome {
        let bytes = header.count + payload.count
        guard bytes <= limits.messageBytes[channel] else { return .tooLarge(limit: limits.messageBytes[channel]) }
        guard hasSession(with: peer) || dialer.isWanted(peer) else { return .notConnected }
        peers.welcome(peer, limits)
        guard peers[peer]!.session.outbox.hasRoom(for: bytes, on: channel, limit: limits.queueBytes[channel]) else {
            return .full(queuedBytes: peers[peer]!.session.outbox.queuedBytes(channel))
        }
        if channel == .activations {
            let start = pacing.uplink.reserve(bytes, at: now)
            if peers[peer]!.session.outbox.queuedBytes(channel) == 0 { peers[peer]!.activationsFrom = start }
        }
        peers[peer]!.session.outbox.push(header, payload, on: channel)
        if let id = peers[peer]!.connection { fill(id, at: now) }
        return .queued
    }

    /// The driver holds `unsent` bytes of the connection, fewer than it did. Report it whenever that is less than
    /// ``ChannelLimits/unsentBytes`` and some have gone since the last report.
    public mutating func writable(_ id: ConnectionID, unsent: Int, at now: Instant) {
        guard connections.change(id, { $0.drained(to: unsent, at: now, limits) }) != nil else { return }
        fill(id, at: now)
    }

    /// Decrypted bytes, in pieces of any size.
    public mutating func received(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        // No copy of the connection may live while its buffers grow.
        guard connections.summary(id).isSecure else { return }
        connections.change(id) { $0.keepAlive.sign(at: now) }
        var rest = bytes[...]
        while connections.contains(id) {
            do throws(MalformedBytes) {
                guard let event = try connections.parse(&rest, of: id) else { break }
                try handle(event, id, at: now)
            } catch {
                return violated(id, error.description, at: now)
            }
        }
        relieve(at: now)
        passMemoryOn(at: now)
        guard connections.contains(id) else { return }
        grant(id, at: now)
        fill(id, at: now)
    }

    private mutating func handle(_ event: FrameParser.Event, _ id: ConnectionID, at now: Instant) throws(MalformedBytes)
    {
        switch event {
        case .small(.hello, _, let payload): return greeted(id, payload, at: now)
        case .small(.apply, _, let payload): return try applied(id, payload, at: now)
        case .small(.grant, _, let payload): return try granted(id, payload, at: now)
        case .small(.refusal, _, let payload): return try turnedAway(id, payload, at: now)
        default: break
        }
        guard let peer = connections.summary(id).openPeer else {
            throw MalformedBytes("a frame before our hello")
        }
        switch event {
        case .data(let channel, let bytes): try take(bytes, channel, id, peer, at: now)
        case .small(let kind, let channel, let payload):
            try handle(kind, channel, payload, id, peer, at: now)
        }
    }

    private mutating func handle(
        _ kind: Frame.Kind, _ channel: Channel, _ payload: [UInt8], _ id: ConnectionID, _ peer: PeerID, at now: Instant
    ) throws(MalformedBytes) {
        var reader = ByteReader(payload)
        switch kind {
        case .seek:
            let offset = try reader.u64()
            guard offset >= connections[id]!.offsets[channel], offset <= peers[peer]!.session.inbox.received(channel)
            else { throw MalformedBytes("a step to \(offset) in \(channel)") }
            connections[id]!.offsets[channel] = offset
        case .ack:
            let (received, limit) = (try reader.u64(), try reader.u64())
            guard peers[peer]!.session.outbox.confirm(received, limit: limit, channel) else {
                throw MalformedBytes("\(channel) confirmed up to \(received) and granted up to \(limit)")
            }
        case .ping:
            connections.change(id) { $0.keepAlive.asked(at: now, limits) }
            urgent(Frame.ping(.pong, try reader.u64()), id, at: now)
        case .pong:
            let number = try reader.u64()
            connections.change(id) { $0.keepAlive.answered(number, at: now, limits) }
        case .bye: lose(id, .farewell(String(decoding: payload.prefix(Frame.maxByeBytes), as: UTF8.self)), at: now)
        case .statement: try heed(payload, peer, id, at: now)
        case .hello, .apply, .grant, .refusal, .data: preconditionFailure("handled before")
        }
    }

    /// The next bytes of a channel's stream, some of which may have come over another connection.
    private mutating func take(
        _ bytes: ArraySlice<UInt8>, _ channel: Channel, _ id: ConnectionID, _ peer: PeerID, at now: Instant
    ) throws(MalformedBytes) {
        let known = peers[peer]!.session.inbox.received(channel) - connections[id]!.offsets[channel]
        connections.change(id) { $0.took(bytes.count, channel, at: now, limits) }
        guard known < UInt64(bytes.count) else { return }
        var rest = bytes.dropFirst(Int(known))
        guard peers[peer]!.session.inbox.allows(rest.count, channel) else {
            throw MalformedBytes("more than was granted on \(channel)")
        }
        peers[peer]!.session.inbox.heed(rest.count, channel, at: now)
        let before = peers[peer]!.session.inbox.partialBytes(channel)
        defer {
            let more = (peers[peer]?.session.inbox.partialBytes(channel) ?? 0) - before
            reassembly.hold(more, trusted: peers[peer]?.session.inbox.isTrusted ?? true)
        }
        while let event = try peers[peer]!.session.inbox.take(&rest, channel, at: now) {
            switch event {
            case .long(let length): reassembly.begin(peer, channel, length: length)
            case .message(let message):
                peers[peer]!.traffic.received[channel] += message.count
                effects.push(.message(peer, channel, message))
                try count(peer, at: now)
                reassembly.forget(peer, channel)
            }
        }
    }
    /// A message has come: beyond the rate it costs time, and more than what credit can explain is too many.
    private mutating func count(_ peer: PeerID, at now: Instant) throws(MalformedBytes) {
        let nanoseconds = 1_000_000_000 / Int64(max(1, limits.inbound.messagesPerSecond))
        let burst = Duration.nanoseconds(nanoseconds * Int64(limits.inbound.messageBurst))
        // What was saved up lies before now; once it is spent the grants wait.
        let from = peers[peer]!.session.messagesPaidUntil
        let until = max(from, now - burst) + .nanoseconds(nanoseconds)
        peers[peer]!.session.messagesPaidUntil = until
        guard until - now <= limits.inbound.messageDebt else {
            throw MalformedBytes("more than \(limits.inbound.messagesPerSecond) messages a second")
        }
    }

    // MARK: Writing

    /// Queues a small frame that goes before all messages.
    mutating func urgent(_ frame: [UInt8], _ id: ConnectionID, at now: Instant) {
        let waiting = connections.change(id) {
            $0.urgent += frame
            return $0.urgent.count
        }
        guard let waiting else { return }
        // Whoever asks for answers and does not read them must not fill our memory.
        guard waiting <= limits.unsentBytes else {
            return violated(id, "it does not read its answers", at: now)
        }
        fill(id, at: now)
    }

    /// Hands the driver frames while it holds less than the connection's ``HoldLimit`` and the upload cap allows.
    mutating func fill(_ id: ConnectionID, at now: Instant) {
        guard let peer = connections.summary(id).openPeer else { return }
        while connections.summary(id).hasRoom {
            var out: [UInt8] = []
            if connections.summary(id).hasUrgent { connections.change(id) { swap(&out, &$0.urgent) } }
            let urgent = out.count
            if peers[peer]!.session.outbox.hasSendable(lowest(peer, at: now)) {
                if pacing.uploadQueue.isEmpty, pacing.upload.isReady(at: now) {
                    appendFrames(&out, peer, connections[id]!.hold.frameBytes(limits), at: now)
                } else if !pacing.uploadQueue.contains(id) {
                    pacing.uploadQueue.append(id)
                }
            } else {
                yield(id)
            }
            if out.isEmpty { return }
            let written = out.count
            connections.change(id) { $0.wrote(written, urgent: urgent, at: now, limits) }
            effects.push(.write(id, out))
        }
    }
    /// What the headers of a few frames take.
    private static let smallFrames = 64
    /// Small messages travel together; a write is about as long as a frame.
    private mutating func appendFrames(_ out: inout [UInt8], _ peer: PeerID, _ frameBytes: Int, at now: Instant) {
        let start = out.count
        out.reserveCapacity(start + min(frameBytes, peers[peer]!.session.outbox.queuedBytes + Self.smallFrames))
        repeat {
            let room = max(frameBytes - (out.count - start), 64)
            guard
                let (channel, fresh) = peers[peer]!.session.outbox.nextFrame(
                    room, lowest: lowest(peer, at: now), into: &out)
            else { break }
            peers[peer]!.traffic.sent[channel] += fresh
        } while out.count - start + 64 < frameBytes
        pacing.upload.spend(out.count - start, at: now)
    }
    /// The least urgent channel that may send to a peer now.
    private func lowest(_ peer: PeerID, at now: Instant) -> Channel {
        now < peers[peer]!.activationsFrom ? .control : pacing.uplink.lowest(at: now)
    }
    /// What it has to send, if anything, goes when the line is free of others' activations.
    private mutating func yield(_ id: ConnectionID) {
        guard let peer = connections[id]?.peer, peers[peer]!.session.outbox.hasSendable(), !pacing.yielding.contains(id)
        else {
            return
        }
        pacing.yielding.append(id)
    }
    mutating func fillWhatYielded(at now: Instant) {
        let due = pacing.yielding.filter { yieldsUntil($0) <= now }
        pacing.yielding.removeAll { due.contains($0) }
        for id in due { fill(id, at: now) }
    }
    /// When something may go that could not before.
    func yieldsUntil(_ id: ConnectionID) -> Instant {
        guard let peer = connections[id]?.peer.flatMap({ peers[$0] }) else { return pacing.uplink.reservedUntil }
        return peer.session.outbox.hasSendable(.activations) ? peer.activationsFrom : pacing.uplink.reservedUntil
    }
    /// One write for each connection in turn, as the upload cap allows.
    mutating func uploadWhatWaited(at now: Instant) {
        while let id = pacing.uploadQueue.first, pacing.upload.isReady(at: now) {
            pacing.uploadQueue.removeFirst()
            guard let connection = connections[id], connection.isOpen, let peer = connection.peer,
                connection.unsent < connection.hold.bytes
            else { continue }
            guard peers[peer]!.session.outbox.hasSendable(lowest(peer, at: now)) else {
                yield(id)
                continue
            }
            var out: [UInt8] = []
            appendFrames(&out, peer, connections[id]!.hold.frameBytes(limits), at: now)
            let written = out.count
            connections.change(id) { $0.wrote(written, urgent: 0, at: now, limits) }
            effects.push(.write(id, out))
            if peers[peer]!.session.outbox.hasSendable() { pacing.uploadQueue.append(id) }
        }
    }
}
