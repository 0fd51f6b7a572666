import Primitives

/// Peers whose processor other programs take, as they say: each turn is told, and no more often than is of use.
struct StarvedPeers: Sendable {
    private var said: [PeerID: (isStarved: Bool, at: Instant)] = [:]
    private static let pause = Duration.seconds(30)

    /// - Returns: whether that is news, and none was told of it within half a minute.
    mutating func turns(_ peer: PeerID, isStarved: Bool, at now: Instant) -> Bool {
        let last = said[peer]
        guard isStarved != (last?.isStarved ?? false), last.map({ now - $0.at >= Self.pause }) ?? true else {
            return false
        }
        // Of whoever comes and goes nothing is kept for ever.
        if said.count >= Roster.most { said = said.filter { $0.value.isStarved && now - $0.value.at < Self.pause } }
        said[peer] = (isStarved, now)
        return true
    }
}
