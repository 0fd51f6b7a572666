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
        guard peers[peer]?.connection != nil || dialer.isWanted(peer) else {
            return .notConnected
        }
        let queued = peers[peer]?.outbox.queuedBytes(channel) ?? 0
        guard queued == 0 || queued + bytes <= limits.queueBytes[channel] else { return .full(queuedBytes: queued) }
        if channel == .activations {
            let start = uplink.reserve(bytes, at: now)
            if queued == 0 { peers[peer, default: Peer()].activationsFrom = start }
        }
        peers[peer, default: Peer()].outbox.push(header, payload, on: channel)
        if let id = peers[peer]!.connection { fill(id, at: now) }
        return .queued
    }

    /// The driver holds `unsent` bytes of the connection, fewer than it did. Report it whenever that is less than
    /// ``ChannelLimits/unsentBytes`` and some have gone since the last report.
    public mutating func writable(_ id: ConnectionID, unsent: Int, at now: Instant) {
        guard connections[id] != nil else { return }
        if unsent < connections[id]!.unsent { connections[id]!.keepAlive.sign(at: now) }
        connections[id]!.hold.report(from: connections[id]!.unsent, to: unsent, at: now, limits)
        connections[id]!.unsent = unsent
        fill(id, at: now)
    }

    /// Decrypted bytes, in pieces of any size.
    public mutating func received(_ id: ConnectionID, _ bytes: [UInt8], at now: Instant) {
        // No copy of the connection may live while its buffers grow.
        guard connections[id]?.isSecure == true else { return }
        connections[id]!.keepAlive.sign(at: now)
        var rest = bytes[...]
        while connections[id] != nil {
            do throws(MalformedBytes) {
                guard let event = try connections[id]!.parser.next(&rest) else { break }
                try handle(event, id, at: now)
            } catch {
                return violated(id, error.description, at: now)
            }
        }
        guard connections[id] != nil else { return }
        grant(id, at: now)
        fill(id, at: now)
    }

    private mutating func handle(_ event: FrameParser.Event, _ id: ConnectionID, at now: Instant) throws(MalformedBytes)
    {
        if case .small(.hello, _, let payload) = event { return greeted(id, payload, at: now) }
        guard connections[id]!.isOpen, let peer = connections[id]!.peer else {
            throw MalformedBytes("a frame before our hello")
        }
        switch event {
        case .open(let channel, let length):
            let excess = try connections[id]!.inbox.open(channel, length: length)
            if excess > 0 { reserve(excess, channel, id, at: now) }
            if length == 0 { deliver(channel, id, peer, at: now) }
        case .piece(let channel, let bytes):
            try connections[id]!.inbox.append(bytes, channel)
            peers[peer]!.traffic.received[channel] += bytes.count
            deliver(channel, id, peer, at: now)
        case .small(let kind, let channel, let payload):
            try handle(kind, channel, payload, id, peer, at: now)
        }
    }

    private mutating func handle(
        _ kind: Frame.Kind, _ channel: Channel, _ payload: [UInt8], _ id: ConnectionID, _ peer: PeerID, at now: Instant
    ) throws(MalformedBytes) {
        var reader = ByteReader(payload)
        switch kind {
        case .credit:
            let granted = peers[peer]!.outbox.grant(Int(try reader.u32()), channel)
            guard granted else { throw MalformedBytes("more credit than fits") }
        case .ping: urgent(Frame.ping(.pong, try reader.u64()), id, at: now)
        case .pong: connections[id]!.keepAlive.answered(try reader.u64(), at: now, limits)
        case .bye: lose(id, .farewell(String(decoding: payload.prefix(Frame.maxByeBytes), as: UTF8.self)), at: now)
        case .hello, .open, .more: preconditionFailure("handled before")
        }
    }

    private mutating func deliver(_ channel: Channel, _ id: ConnectionID, _ peer: PeerID, at now: Instant) {
        guard let message = connections[id]!.inbox.take(channel) else { return }
        effects.push(.message(peer, channel, message))
        let reserved = connections[id]!.reserved[channel]
        if reserved > 0 {
            connections[id]!.reserved[channel] = 0
            reservedBytes -= reserved
            admitWhatWaited(at: now)
        } else {
            reservationQueue.removeAll { $0.connection == id && $0.channel == channel }
        }
    }

    // MARK: Memory for long messages

    private mutating func reserve(_ bytes: Int, _ channel: Channel, _ id: ConnectionID, at now: Instant) {
        reservationQueue.append((id, channel, bytes))
        admitWhatWaited(at: now)
    }
    /// Promises memory in the order of asking. One message is always admitted, so somebody always finishes.
    mutating func admitWhatWaited(at now: Instant) {
        while let (id, channel, bytes) = reservationQueue.first,
            reservedBytes == 0 || reservedBytes + bytes <= limits.reassemblyBytes
        {
            reservationQueue.removeFirst()
            reservedBytes += bytes
            connections[id]!.reserved[channel] = bytes
            connections[id]!.inbox.admit(channel)
            grant(id, at: now)
            fill(id, at: now)
        }
    }

    // MARK: Credit

    private mutating func grant(_ id: ConnectionID, at now: Instant) {
        for channel in Channel.allCases {
            guard connections[id]?.isOpen == true else { return }
            let due = connections[id]!.inbox.due(channel)
            if due == 0 || grantQueue.contains(where: { $0.connection == id && $0.channel == channel }) { continue }
            if channel == .control || download.isReady(at: now) {
                grant(due, channel, id, at: now)
            } else {
                grantQueue.append((id, channel))
            }
        }
    }
    private mutating func grant(_ bytes: Int, _ channel: Channel, _ id: ConnectionID, at now: Instant) {
        download.spend(channel == .control ? 0 : bytes, at: now)
        connections[id]!.inbox.granted(bytes, channel)
        urgent(Frame.credit(bytes, channel), id, at: now)
    }
    mutating func grantWhatWaited(at now: Instant) {
        while let (id, channel) = grantQueue.first, download.isReady(at: now) {
            grantQueue.removeFirst()
            let due = connections[id]?.inbox.due(channel) ?? 0
            if due > 0 { grant(due, channel, id, at: now) }
        }
    }

    // MARK: Writing

    /// Queues a small frame that goes before all messages.
    mutating func urgent(_ frame: [UInt8], _ id: ConnectionID, at now: Instant) {
        guard connections[id] != nil else { return }
        connections[id]!.urgent += frame
        // Whoever asks for answers and does not read them must not fill our memory.
        guard connections[id]!.urgent.count <= limits.unsentBytes else {
            return violated(id, "it does not read its answers", at: now)
        }
        fill(id, at: now)
    }

    /// Hands the driver frames while it holds less than the connection's ``HoldLimit`` and the upload cap allows.
    mutating func fill(_ id: ConnectionID, at now: Instant) {
        guard connections[id]?.isOpen == true, let peer = connections[id]!.peer else { return }
        while connections[id]!.unsent < connections[id]!.hold.bytes {
            var out: [UInt8] = []
            swap(&out, &connections[id]!.urgent)
            if peers[peer]!.outbox.hasSendable(lowest(peer, at: now)) {
                if uploadQueue.isEmpty, upload.isReady(at: now) {
                    appendFrames(&out, peer, connections[id]!.hold.frameBytes(limits), at: now)
                } else if !uploadQueue.contains(id) {
                    uploadQueue.append(id)
                }
            } else {
                yield(id)
            }
            if out.isEmpty { return }
            connections[id]!.unsent += out.count
            effects.push(.write(id, out))
        }
    }
    /// Small messages travel together; a write is about as long as a frame.
    private mutating func appendFrames(_ out: inout [UInt8], _ peer: PeerID, _ frameBytes: Int, at now: Instant) {
        let start = out.count
        out.reserveCapacity(start + frameBytes)
        repeat {
            let room = max(frameBytes - (out.count - start), 64)
            guard
                let (channel, bytes) = peers[peer]!.outbox.nextFrame(room, lowest: lowest(peer, at: now), into: &out)
            else { break }
            peers[peer]!.traffic.sent[channel] += bytes
        } while out.count - start + 64 < frameBytes
        upload.spend(out.count - start, at: now)
    }
    /// The least urgent channel that may send to a peer now.
    private func lowest(_ peer: PeerID, at now: Instant) -> Channel {
        now < peers[peer]!.activationsFrom ? .control : uplink.lowest(at: now)
    }
    /// What it has to send, if anything, goes when the line is free of others' activations.
    private mutating func yield(_ id: ConnectionID) {
        guard let peer = connections[id]?.peer, peers[peer]!.outbox.hasSendable(), !yielding.contains(id) else {
            return
        }
        yielding.append(id)
    }
    mutating func fillWhatYielded(at now: Instant) {
        let due = yielding.filter { yieldsUntil($0) <= now }
        yielding.removeAll { due.contains($0) }
        for id in due { fill(id, at: now) }
    }
    /// When something may go that could not before.
    func yieldsUntil(_ id: ConnectionID) -> Instant {
        guard let peer = connections[id]?.peer.flatMap({ peers[$0] }) else { return uplink.reservedUntil }
        return peer.outbox.hasSendable(.activations) ? peer.activationsFrom : uplink.reservedUntil
    }
    /// One write for each connection in turn, as the upload cap allows.
    mutating func uploadWhatWaited(at now: Instant) {
        while let id = uploadQueue.first, upload.isReady(at: now) {
            uploadQueue.removeFirst()
            guard let connection = connections[id], connection.isOpen, let peer = connection.peer,
                connection.unsent < connection.hold.bytes
            else { continue }
            guard peers[peer]!.outbox.hasSendable(lowest(peer, at: now)) else {
                yield(id)
                continue
            }
            var out: [UInt8] = []
            appendFrames(&out, peer, connections[id]!.hold.frameBytes(limits), at: now)
            connections[id]!.unsent += out.count
            effects.push(.write(id, out))
            if peers[peer]!.outbox.hasSendable() { uploadQueue.append(id) }
        }
    }
}
