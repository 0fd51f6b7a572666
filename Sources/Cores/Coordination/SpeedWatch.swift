import Primitives

/// What peers really sustain, round by round, against what they were planned at: owners play games, laptops get hot.
///
/// A single slow round means nothing. When the median of a peer's last ``window`` rounds is ``tolerance`` away from its planned
/// speed, either way, that of the last three becomes its speed, and the watch begins anew: each answer moves the plan once. A peer
/// whose speed comes and goes is believed less each time: the next change must be half as large again, and in ``memory`` rounds without
/// one that is forgotten.
package struct SpeedWatch: Sendable {
    package static let window = 5
    package static let tolerance = 1.25
    /// What a change must be at most, however often there was one.
    package static let toleranceMax = 3.0
    package static let memory = 100

    private var granted: [PeerID: (round: Int, flops: Double)] = [:]
    private var seen: [PeerID: [Double]] = [:]
    /// FLOP/s of peers that turned out other than they said.
    package private(set) var measured: [PeerID: Double] = [:]
    /// How often a peer's speed has changed, and when last.
    private var changes: [PeerID: (count: Int, round: Int)] = [:]

    package struct Change: Hashable {
        package var peer: PeerID
        package var before: Double
        package var after: Double
    }

    package init() {}

    /// What a peer says it has computed in a round: modelled FLOPs.
    package mutating func worked(_ peer: PeerID, round: Int, flops: Double) {
        guard flops.isFinite, flops > 0 else { return }
        granted[peer] = (round, flops)
    }
    /// How long its engine took for that.
    /// - Parameter planned: FLOP/s.
    /// - Returns: the new speed, when it is time to plan with another.
    package mutating func took(_ seconds: Double, _ peer: PeerID, round: Int, planned: Double) -> Change? {
        guard let work = granted[peer], work.round == round, seconds.isFinite, seconds > 0, planned > 0 else {
            return nil
        }
        granted[peer] = nil
        let before = measured[peer] ?? planned
        var rates = seen[peer] ?? []
        rates.append(min(max(work.flops / seconds, planned / 1000), planned * 1000))
        if rates.count > Self.window { rates.removeFirst() }
        seen[peer] = rates
        guard rates.count == Self.window else { return nil }
        let median = rates.sorted()[Self.window / 2]
        guard max(median, before) / min(median, before) > tolerance(of: peer, at: round) else { return nil }
        changes[peer] = ((changes[peer]?.count ?? 0) + 1, round)
        // The round in which it changed was partly the old one: the latest three say what is.
        let after = rates.suffix(3).sorted()[1]
        measured[peer] = after
        seen[peer] = nil
        return Change(peer: peer, before: before, after: after)
    }
    private mutating func tolerance(of peer: PeerID, at round: Int) -> Double {
        guard let before = changes[peer] else { return Self.tolerance }
        guard round >= before.round, round - before.round < Self.memory else {
            changes[peer] = nil
            return Self.tolerance
        }
        var more = Self.tolerance - 1
        for _ in 0..<min(before.count, 16) { more *= 1.5 }
        return min(1 + more, Self.toleranceMax)
    }
    /// Whoever comes back says anew what it can do.
    package mutating func forget(_ peer: PeerID) {
        granted[peer] = nil
        seen[peer] = nil
        measured[peer] = nil
        changes[peer] = nil
    }
}
