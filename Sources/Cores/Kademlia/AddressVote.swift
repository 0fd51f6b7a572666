import Primitives

/// Where others see us (BEP 42's `ip`), by vote: one vote a voter, the last sixteen voters, the most frequent address wins.
/// Voters of one public /24 (/56) are one voter.
///
/// The vote is about the address. The port is what eight answers in a row agree on: a router that gives every destination
/// a port of its own (symmetric mapping, RFC 4787 §4.1) must not look like one that moves all the time.
struct AddressVote: Sendable {
    private var votes: [(voter: UInt64, seen: PackedEndpoint)] = []
    private(set) var winner: PackedEndpoint?
    /// How many of the votes the winner's address has.
    private(set) var support = 0
    /// How many see us at the winner's address, and how many ports they see there.
    var ports: (voters: Int, seen: Int) {
        let ports = votes.filter { $0.seen.with(port: 0) == winner?.with(port: 0) }.map(\.seen.port)
        return (ports.count, Set(ports).count)
    }
    private var otherPort: (port: UInt16, inRow: Int) = (0, 0)
    private static let portAgreement = 8

    /// - Returns: whether the winner changed.
    mutating func cast(_ seen: PackedEndpoint, by address: PackedEndpoint) -> Bool {
        guard seen.isUsable, seen.family == address.family else { return false }
        let voter = address.isPrivate ? address.prefix &* 31 &+ UInt64(address.port) &+ address.low : address.prefix
        votes.removeAll { $0.voter == voter }
        votes.append((voter, seen))
        if votes.count > 16 { votes.removeFirst() }
        let current = winner?.with(port: 0)
        var best: (seen: PackedEndpoint, count: Int)?
        for vote in votes {
            let place = vote.seen.with(port: 0)
            let count = votes.count { $0.seen.with(port: 0) == place }
            if let top = best, count < top.count || (count == top.count && current != place) { continue }
            best = (vote.seen, count)
        }
        support = best?.count ?? 0
        guard let top = best, top.seen.with(port: 0) == current || support * 2 > votes.count || winner == nil else {
            return false
        }
        guard top.seen.with(port: 0) != current else { return movePort(seen) }
        winner = top.seen
        otherPort = (0, 0)
        return true
    }

    private mutating func movePort(_ seen: PackedEndpoint) -> Bool {
        guard let winner, seen.with(port: 0) == winner.with(port: 0) else { return false }
        guard seen.port != winner.port else {
            otherPort = (0, 0)
            return false
        }
        otherPort = (seen.port, seen.port == otherPort.port ? otherPort.inRow + 1 : 1)
        guard otherPort.inRow >= Self.portAgreement else { return false }
        self.winner = seen
        otherPort = (0, 0)
        return true
    }
}
