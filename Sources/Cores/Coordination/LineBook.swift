import Messages
public import Primitives
import Record

/// What is known of lines between members, and the survey in progress.
package struct LineBook: Sendable {
    package private(set) var known = LinkSurvey.Findings()
    package private(set) var survey: LinkSurvey?
    private var turn: UInt64 = 0
    private var paces = PaceWatch()
    /// How pairs' sessions go, as their ends say; whoever is not named is reached directly. And how they went when they were measured.
    private var paths = PairPaths()
    private var pings: [UInt64: (peer: PeerID, at: Instant)] = [:]
    private var nextNonce: UInt64 = 1
    /// Pings whose answers are waited for, at most.
    private static let mostPings = 4096

    package init() {}
    /// Of a leader that goes on where another was: lines as the plan has them, and turns that no leader before has given out.
    package init(term: Int, plan: PlacedPlan?) {
        turn = UInt64(term) << 32
        for stage in plan?.pipelines.flatMap(\.stages) ?? [] {
            known.up[stage.peer] = stage.up?.bitsPerSecond
            known.down[stage.peer] = stage.down?.bitsPerSecond
        }
    }

    package var isSurveying: Bool { survey != nil }
    package func up(_ peer: PeerID) -> BitRate? { known.up[peer].map { BitRate(bitsPerSecond: $0) } }
    package func down(_ peer: PeerID) -> BitRate? { known.down[peer].map { BitRate(bitsPerSecond: $0) } }
    package func isKnown(_ peer: PeerID) -> Bool { known.up[peer] != nil }
    /// One way, of the slowest pair.
    package func latency(among peers: [PeerID]) -> Duration {
        let peers = Set(peers)
        let slowest = known.roundTrips.filter { peers.contains($0.key.from) && peers.contains($0.key.to) }.values.max()
        return (slowest ?? .zero) / 2
    }

    // MARK: pings of our own

    package mutating func ping(_ peer: PeerID, at now: Instant) -> Message {
        if pings.count > Self.mostPings { pings = [:] }
        pings[nextNonce] = (peer, now)
        defer { nextNonce += 1 }
        return .ping(nextNonce)
    }
    /// - Returns: the round trip, if it answers one of ours.
    package mutating func pong(_ nonce: UInt64, from peer: PeerID, at now: Instant) -> Duration? {
        guard let sent = pings[nonce], sent.peer == peer else { return nil }
        pings[nonce] = nil
        return now - sent.at
    }

    // MARK: paths

    /// What a member says of its sessions, all of them.
    package mutating func receive(_ said: PeerPaths, from peer: PeerID, at now: Instant) {
        paths.receive(said, from: peer, at: now)
    }
    /// Pairs that a relay carries, as far as they are among these; the lesser key first.
    package func relayed(among peers: [PeerID]) -> [(pair: LinkSurvey.Pair, relay: PeerID, rate: BitRate?)] {
        paths.relayed(among: peers)
    }
    /// Pairs that go otherwise than when they were measured, once that has been so for a while: they are measured again.
    package mutating func beginOfChangedPaths(
        among peers: [PeerID], at now: Instant, name: (PeerID) -> String
    ) -> String? {
        let changed = paths.changed(among: peers, at: now)
        guard survey == nil, let first = changed.first else { return nil }
        let why =
            changed.count == 1
            ? "\(name(first.from)) and \(name(first.to)) reach each other by another path"
            : "\(changed.count) pairs reach each other by other paths"
        survey = LinkSurvey(pairs: changed, why: why, before: known, turn: turn, at: now)
        paths.begun(at: now)
        return why
    }

    // MARK: surveys

    package mutating func begin(of peers: [PeerID], why: String, rings: Int = LinkSurvey.mostRings, at now: Instant) {
        survey = LinkSurvey(of: peers, why: why, before: known, rings: rings, turn: turn, at: now)
    }
    package mutating func begin(of newcomers: [PeerID], among peers: [PeerID], why: String, at now: Instant) {
        survey = LinkSurvey(of: newcomers, among: peers, why: why, before: known, turn: turn, at: now)
    }
    package func isDue(at now: Instant) -> Bool { survey?.isDue(at: now) ?? false }
    /// The orders of the next turn; nil when the survey is over, and then why it was begun.
    package mutating func next(
        most: Int, trip: (PeerID) -> Duration, at now: Instant
    ) -> (turn: UInt64, orders: [LinkSurvey.Assignment])? {
        guard let orders = survey?.next(most: most, trip: trip, at: now) else { return nil }
        turn = survey!.turn
        return (turn, orders)
    }
    package mutating func end() -> String {
        guard let over = survey else { return "" }
        turn = over.turn
        let found = over.found
        // Another path is another line: what the old one did says nothing.
        for pair in over.anew {
            if found.pairs[pair] != nil { known.pairs[pair] = nil }
            if found.roundTrips[pair] != nil { known.roundTrips[pair] = nil }
        }
        known.merge(found)
        survey = nil
        return over.why
    }
    package mutating func receive(_ result: ProbeResult, from peer: PeerID, trip: (PeerID) -> Duration, at now: Instant)
    {
        if survey?.looksAtPairs == true {
            for arrival in result.arrivals { paths.measured(arrival.sender, peer) }
        }
        survey?.receive(result, from: peer, trip: trip, at: now)
    }
    package mutating func forget(_ peer: PeerID) {
        survey?.forget(peer)
        paths.forget(peer)
    }
    /// Nobody could be heard for so long.
    package mutating func excuse(_ pause: Duration) { survey?.excuse(pause) }
    package var deadline: Instant? { survey?.deadline }

    // MARK: pace

    /// - Returns: how far off rounds are, when it is time to look at the lines.
    package mutating func sealed(_ ratio: Double, at now: Instant) -> Double? {
        survey == nil ? paces.sealed(ratio, at: now) : nil
    }
    package mutating func forgivePace() { paces.forgive() }
}
