import Messages
import Primitives

/// How members reach each other, as both ends of each session say, and whether that is how they did when their lines were measured.
///
/// A member's word is about its own sessions. What it says wrongly costs the job a measurement, or a plan that is slower than it could be.
struct PairPaths: Sendable {
    typealias Pair = LinkSurvey.Pair

    private var said: [PeerID: PeerPaths] = [:]
    private var before: [Pair: PeerPath] = [:]
    /// Since when something is otherwise than it was measured.
    private var changedAt: Instant?
    /// When they may be measured again: somebody else's bursts go over the same lines.
    private var notBefore: Instant?
    private static let pause = Duration.seconds(30)
    /// Sessions that have just moved may move again.
    static let rest = Duration.seconds(5)
    /// Pairs that are measured again at a time.
    static let most = 64

    mutating func receive(_ paths: PeerPaths, from peer: PeerID, at now: Instant) {
        guard said[peer] != paths else { return }
        said[peer] = paths
        changedAt = now
    }
    mutating func forget(_ peer: PeerID) { said[peer] = nil }

    private static func pair(_ a: PeerID, _ b: PeerID) -> Pair { a < b ? Pair(from: a, to: b) : Pair(from: b, to: a) }
    /// Who names a relay is believed before who does not: one of them has not heard yet.
    private func path(_ pair: Pair) -> PeerPath {
        let words = [said[pair.from]?[pair.to], said[pair.to]?[pair.from]].compactMap { $0 }
        return words.first { $0.relay != nil } ?? words.first { $0 == .punched } ?? .direct
    }
    /// Pairs of which somebody has ever said something, ascending.
    private func told(among peers: [PeerID]) -> [Pair] {
        let among = Set(peers)
        var pairs: Set<Pair> = []
        for (peer, paths) in said where among.contains(peer) {
            for other in paths.paths.keys where among.contains(other) { pairs.insert(Self.pair(peer, other)) }
        }
        for pair in before.keys where among.contains(pair.from) && among.contains(pair.to) { pairs.insert(pair) }
        return pairs.sorted { ($0.from, $0.to) < ($1.from, $1.to) }
    }

    func relayed(among peers: [PeerID]) -> [(pair: Pair, relay: PeerID, rate: BitRate?)] {
        told(among: peers).compactMap { pair in
            guard case .relayed(let relay, let rate) = path(pair) else { return nil }
            return (pair, relay, rate)
        }
    }
    /// What the two do has been measured, over the path that they have now.
    mutating func measured(_ a: PeerID, _ b: PeerID) {
        let pair = Self.pair(a, b)
        let path = path(pair)
        before[pair] = path == .direct ? nil : path
    }
    /// Those that have changed are being measured.
    mutating func begun(at now: Instant) { notBefore = now + Self.pause }
    /// Ascending. Another rate of the same relay is no other path.
    func changed(among peers: [PeerID], at now: Instant) -> [Pair] {
        guard let changedAt, now - changedAt >= Self.rest, notBefore.map({ $0 <= now }) ?? true else { return [] }
        let changed = told(among: peers).filter { pair in
            let (old, new) = (before[pair] ?? .direct, path(pair))
            return old.relay != new.relay || (old.relay == nil && old != new)
        }
        return Array(changed.prefix(Self.most))
    }
}
