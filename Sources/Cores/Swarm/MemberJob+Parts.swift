import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// Parts of a round on their way from member to member.
extension MemberJob {
    /// Puts a chunk with others that go to the same peer; sends what is full.
    mutating func bundle(
        _ chunk: PartBundle<PeerID>.Chunk, to rank: Int, isAggregate: Bool, _ bundler: inout PartBundler<PeerID>
    ) {
        guard let group, rank < group.plan.pipelines.count,
            let holder = group.plan.pipelines[rank].stages.first(where: { $0.units.contains(chunk.unit) }),
            state.isPresent(holder.peer)
        else { return }
        if let full = bundler.add(chunk, to: holder.peer, isAggregate: isAggregate) { send(full) }
    }

    mutating func send(_ bundle: PartBundle<PeerID>, isAudit: Bool = false) {
        guard let group else { return }
        var packet = PBPacket()
        packet.exchangePart.work.round = UInt64(group.terms.round)
        packet.exchangePart.work.rank = UInt32(group.core.rank)
        packet.exchangePart.work.attempt = UInt32(group.plan.pipelines[group.core.rank].attempt)
        packet.exchangePart.epoch = UInt64(group.terms.epoch)
        packet.exchangePart.version = UInt32(group.terms.version)
        packet.exchangePart.aggregate = bundle.isAggregate
        packet.exchangePart.audit = isAudit
        var payload: [UInt8] = []
        payload.reserveCapacity(bundle.bytes)
        for chunk in bundle.chunks {
            var entry = PBExchangePart.Chunk()
            entry.unit = UInt32(chunk.unit)
            entry.chunk = UInt32(chunk.chunk)
            entry.bytes = UInt32(chunk.bytes.count)
            packet.exchangePart.chunks.append(entry)
            payload += chunk.bytes
        }
        exchangeBytes += payload.count
        send(packet, payload: payload, on: .exchange, to: bundle.destination)
    }

    /// Chunks of a contribution, of an owner's sums, or for an auditor.
    mutating func receive(_ message: PBExchangePart, payload: [UInt8], from peer: PeerID) {
        let round = Int(clamping: message.work.round)
        let rank = Int(message.work.rank)
        let attempt = Int(message.work.attempt)
        func later() {
            guard round >= heldRound, round <= state.round + 1 || isAhead(message.work) else { return }
            var packet = PBPacket()
            packet.exchangePart = message
            keepForLater(peer, packet, payload)
        }
        guard let group, group.terms.round == round else { return later() }
        let stamp = (Int(clamping: message.epoch), Int(message.version))
        let known = (group.terms.epoch, group.terms.version)
        guard rank < group.plan.pipelines.count, attempt <= group.plan.pipelines[rank].attempt else {
            return stamp > known ? later() : ()
        }
        guard attempt == group.plan.pipelines[rank].attempt else { return }
        // A contribution stays what it is; sums and audits belong to one group.
        if message.aggregate || message.audit, stamp != known { return stamp > known ? later() : () }
        guard message.chunks.count <= PartBundling.chunkLimit else { return malformed(peer) }
        var offset = 0
        for entry in message.chunks {
            let size = Int(entry.bytes)
            guard size <= payload.count - offset else { return malformed(peer) }
            let bytes = Array(payload[offset..<offset + size])
            offset += size
            // Only the holder of a unit, in the pipeline it claims, may speak for it.
            let unit = Int(entry.unit)
            guard group.plan.pipelines[rank].stages.contains(where: { $0.peer == peer && $0.units.contains(unit) })
            else {
                continue
            }
            let chunk = Int(entry.chunk)
            if message.audit {
                audit(part: bytes, unit: unit, chunk: chunk, from: rank)
            } else if message.aggregate {
                self.group!.core.receive(aggregate: bytes, unit: unit, chunk: chunk, from: rank)
            } else {
                self.group!.core.receive(contribution: bytes, unit: unit, chunk: chunk, from: rank)
            }
        }
        self.group!.received[rank, default: (0, now)].bytes += payload.count
        drainGroup()
    }

    private mutating func malformed(_ peer: PeerID) { event("contribution_malformed", peer: state.name(of: peer)) }
}
