import Primitives

/// Where others see us (BEP 42's `ip`), by vote: one vote a voter, the last sixteen voters, the most frequent endpoint wins.
/// Voters of one public /24 (/56) are one voter.
struct AddressVote: Sendable {
    private var votes: [(voter: UInt64, seen: PackedEndpoint)] = []
    private(set) var winner: PackedEndpoint?
    /// How many of the votes the winner has.
    private(set) var support = 0

    /// - Returns: whether the winner changed.
    mutating func cast(_ seen: PackedEndpoint, by address: PackedEndpoint) -> Bool {
        guard seen.isUsable, seen.family == address.family else { return false }
        let voter = address.isPrivate ? address.prefix &* 31 &+ UInt64(address.port) &+ address.low : address.prefix
        votes.removeAll { $0.voter == voter }
        votes.append((voter, seen))
        if votes.count > 16 { votes.removeFirst() }
        var best: (seen: PackedEndpoint, count: Int)?
        for vote in votes {
            let count = votes.count { $0.seen == vote.seen }
            if let top = best, count < top.count || (count == top.count && winner != vote.seen) { continue }
            best = (vote.seen, count)
        }
        support = best?.count ?? 0
        guard let top = best, top.seen != winner, support * 2 > votes.count || winner == nil else { return false }
        winner = top.seen
        return true
    }
}
