import Primitives

/// Who announced under which info-hash (BEP 5), bounded in every direction: hashes, peers of a hash, peers of one prefix.
struct PeerStore: Sendable {
    private struct Peer: Sendable {
        var address: PackedEndpoint
        var expires: Instant
    }
    private var swarms: [NodeID: [Peer]] = [:]
    /// Info-hashes in the order of their arrival; the oldest gives way.
    private var order: [NodeID] = []
    static let hashLimit = 2000
    static let peerLimit = 500
    /// Of one public /24 (/56) under one hash.
    static let prefixLimit = 50
    /// Longer than the half hour after which announcers come again.
    static let lifetime = Duration.seconds(32 * 60)

    var hashCount: Int { order.count }

    mutating func announce(_ address: PackedEndpoint, under infoHash: NodeID, at now: Instant) {
        if swarms[infoHash] == nil {
            if order.count >= Self.hashLimit { swarms[order.removeFirst()] = nil }
            order.append(infoHash)
        }
        var peers = swarms[infoHash] ?? []
        peers.removeAll { $0.address == address || $0.expires <= now }
        if !address.isPrivate {
            let same = peers.indices.filter { peers[$0].address.prefix == address.prefix }
            if same.count >= Self.prefixLimit { peers.remove(at: same[0]) }
        }
        if peers.count >= Self.peerLimit { peers.removeFirst() }
        peers.append(Peer(address: address, expires: now + Self.lifetime))
        swarms[infoHash] = peers
    }

    /// Up to `limit` peers of `family` that are still good: a random choice when there are more.
    func peers(
        of infoHash: NodeID, family: Family, limit: Int, at now: Instant, using generator: inout SeededGenerator
    ) -> [PackedEndpoint] {
        guard let all = swarms[infoHash] else { return [] }
        var live = all.compactMap { $0.expires > now && $0.address.family == family ? $0.address : nil }
        guard live.count > limit else { return live }
        generator.shuffle(&live)
        return Array(live.prefix(limit))
    }

    /// A random choice of the hashes kept (BEP 51).
    func sample(_ limit: Int, using generator: inout SeededGenerator) -> [NodeID] {
        guard order.count > limit else { return order }
        var all = order
        generator.shuffle(&all)
        return Array(all.prefix(limit))
    }

    /// Everything that is still good, for saving: in the order of arrival.
    func kept(at now: Instant) -> [(infoHash: NodeID, address: PackedEndpoint, left: Duration)] {
        order.flatMap { infoHash in
            swarms[infoHash]!.compactMap { $0.expires > now ? (infoHash, $0.address, $0.expires - now) : nil }
        }
    }
    /// Takes back what ``kept(at:)`` gave.
    mutating func restore(_ address: PackedEndpoint, under infoHash: NodeID, for left: Duration, at now: Instant) {
        announce(address, under: infoHash, at: now + min(left, Self.lifetime) - Self.lifetime)
    }

    mutating func expire(at now: Instant) {
        var kept: [NodeID] = []
        for infoHash in order {
            let live = swarms[infoHash]!.filter { $0.expires > now }
            swarms[infoHash] = live.isEmpty ? nil : live
            if !live.isEmpty { kept.append(infoHash) }
        }
        order = kept
    }
}
