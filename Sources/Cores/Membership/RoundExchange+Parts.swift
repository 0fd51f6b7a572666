import Exchange
import Messages
import Primitives
import Record

/// Parts of a round on their way from member to member.
extension RoundExchange {
    /// Puts a chunk with others that go to the same peer; sends what is full.
    package func destination(of unit: Int, in rank: Int) -> PeerID? { plan.holder(rank, of: unit) }

    package mutating func bundle(
        _ chunk: (unit: Int, chunk: Int, bytes: [UInt8]), to other: Int, isAggregate: Bool,
        _ bundler: inout PartBundler<PeerID>
    ) {
        guard let peer = destination(of: chunk.unit, in: other) else { return }
        let part = PartBundle<PeerID>.Chunk(unit: chunk.unit, chunk: chunk.chunk, bytes: chunk.bytes)
        if let full = bundler.add(part, to: peer, isAggregate: isAggregate) { send(full) }
    }

    package mutating func send(_ bundle: PartBundle<PeerID>) {
        send(
            bundle.chunks.map { ExchangePart.Chunk(unit: $0.unit, chunk: $0.chunk, bytes: $0.bytes) },
            as: bundle.isAggregate ? .aggregate : .contribution, to: bundle.destination)
    }
    package mutating func send(_ chunks: [ExchangePart.Chunk], as purpose: ExchangePart.Purpose, to peer: PeerID) {
        let work = WorkKey(round: round, rank: rank, attempt: plan.pipelines[rank].attempt)
        effects.push(.send(ExchangePart(work: work, group: terms.stamp, purpose: purpose, chunks: chunks), to: peer))
    }

    /// Chunks of a contribution, of an owner's sums, or for an auditor: of this round.
    package mutating func receive(_ part: ExchangePart, from peer: PeerID, at now: Instant) -> Verdict {
        let sender = part.work.rank
        let isAhead = part.group > terms.stamp
        guard sender < plan.pipelines.count, part.work.attempt <= plan.pipelines[sender].attempt else {
            return isAhead ? .later : .stale
        }
        guard part.work.attempt == plan.pipelines[sender].attempt else { return .stale }
        // A contribution stays what it is; sums and audits belong to one group.
        if part.purpose != .contribution, part.group != terms.stamp { return isAhead ? .later : .stale }
        // Only the holder of a unit, in the pipeline it claims, may speak for it.
        guard sender != rank, let held = plan.pipelines[sender].stages.first(where: { $0.peer == peer })?.units else {
            return .notEntitled
        }
        for chunk in part.chunks where held.contains(chunk.unit) {
            switch part.purpose {
            case .contribution:
                core.receive(contribution: chunk.bytes, unit: chunk.unit, chunk: chunk.chunk, from: sender)
            case .aggregate: core.receive(aggregate: chunk.bytes, unit: chunk.unit, chunk: chunk.chunk, from: sender)
            case .audit: receive(audited: chunk, from: sender)
            }
        }
        count(part.bytes, from: sender, at: now)
        drain()
        return part.chunks.allSatisfy { held.contains($0.unit) } ? .taken : .notEntitled
    }
}
