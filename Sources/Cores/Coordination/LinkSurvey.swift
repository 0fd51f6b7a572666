import Messages
import Primitives

/// Measures the links of a pool, turn by turn: round trips first, while nothing else is under way; then bursts.
///
/// A burst from one peer to another shows the lesser of the one's up line, the other's down line and what lies between. Most
/// lines carry more down than up, so that a single sender never fills a down line: in the later turns some peers are hubs, to
/// which several others send, and which send to all of them, at the same time. Every figure is a lower bound, and the greatest
/// counts. Where a pair does much worse than its lines, what lies between is the limit.
package struct LinkSurvey: Sendable {
    package typealias Pair = PlanQuestion.Pair

    /// What one member is to do in a turn.
    package struct Assignment: Sendable {
        package var to: PeerID
        package var pings: [PeerID] = []
        package var bursts: [(to: PeerID, bytes: Int, after: Duration)] = []
        package var senders: [PeerID] = []
    }
    /// Bits a second.
    package struct Findings: Sendable {
        package var up: [PeerID: Double] = [:]
        package var down: [PeerID: Double] = [:]
        package var pairs: [Pair: Double] = [:]
        package var roundTrips: [Pair: Duration] = [:]
    }
    private enum Turn {
        /// These ping everybody.
        case trips([PeerID])
        /// Everybody sends to the one that many places further.
        case ring(Int)
        /// These exchange with their shares of the others.
        case hubs([PeerID])
        /// Each of these sends to the other; nobody is in two.
        case pairs([Pair])
    }

    package let why: String
    private var peers: [PeerID]
    private var turns: [Turn]
    /// What lines are thought to carry: sets the length of bursts.
    private let before: Findings
    private var seen = Findings()
    private var singles: [PeerID: Singles] = [:]
    /// The most that all who received from a peer at one time have seen of it, together.
    private var sums: [PeerID: Double] = [:]
    package private(set) var turn: UInt64
    package private(set) var deadline: Instant
    /// Whose report is still to come, and who sends to whom, in the turn in progress.
    private var awaited: Set<PeerID> = []
    private var senders: [PeerID: [PeerID]] = [:]
    private var isRing = false
    private var isOfPairs = false
    /// Of which what was known before no longer counts.
    package private(set) var anew: [Pair] = []
    /// In this turn: when it began, what is sent to whom, and what each leaf had of its hub, by when.
    private var began: Instant
    private var sent: [Pair: Int] = [:]
    private var sentByHub: [PeerID: [(seconds: Double, bytes: Double)]] = [:]

    package static let reportAfter = Duration.seconds(5)
    private static let patience = Duration.seconds(2)
    private static let leastBytes = 32 << 10
    private static let mostHubTurns = 8
    package static let mostRings = 24

    /// Everybody's links.
    /// - Parameters:
    ///   - turn: the number of the last turn of any survey before.
    ///   - rings: at most so many turns in which each sends to one other.
    package init(
        of peers: [PeerID], why: String, before: Findings = Findings(), rings: Int = mostRings, turn: UInt64,
        at now: Instant
    ) {
        let strides = max(0, min(rings, peers.count - 1))
        var turns: [Turn] = [.trips(peers)]
        turns += (0..<strides).map { .ring(1 + $0 * (peers.count - 1) / strides) }
        let hubs = peers.count < 3 ? 0 : min(Self.mostHubTurns, peers.count)
        turns += (0..<hubs).map { turn in
            .hubs(peers.indices.filter { $0 % hubs == turn }.map { peers[$0] })
        }
        self.init(peers, turns, why: why, before: before, turn: turn, at: now)
    }

    /// The links of newcomers with a few of the others, more than once: somebody may be using them.
    package init(
        of newcomers: [PeerID], among peers: [PeerID], why: String, before: Findings, turn: UInt64, at now: Instant
    ) {
        let hubs = Array(repeating: newcomers.map { Turn.hubs([$0]) }, count: 3).flatMap { $0 }
        self.init(peers, [.trips(newcomers)] + hubs, why: why, before: before, turn: turn, at: now)
    }

    /// Single pairs, whose path is another one than before, both directions; nobody's line as a whole is judged by that.
    package init(pairs: [Pair], why: String, before: Findings, turn: UInt64, at now: Instant) {
        var turns: [[Pair]] = []
        for pair in pairs {
            let free = turns.firstIndex { turn in
                turn.allSatisfy { ![$0.from, $0.to].contains(pair.from) && ![$0.from, $0.to].contains(pair.to) }
            }
            if let free { turns[free].append(pair) } else { turns.append([pair]) }
        }
        let peers = Set(pairs.flatMap { [$0.from, $0.to] }).sorted()
        self.init(
            peers, [.trips(peers)] + turns.prefix(Self.mostRings).map { .pairs($0) }, why: why, before: before,
            turn: turn, at: now)
        anew = pairs.flatMap { [$0, Pair(from: $0.to, to: $0.from)] }
    }

    private init(
        _ peers: [PeerID], _ turns: [Turn], why: String, before: Findings, turn: UInt64, at now: Instant
    ) {
        self.peers = peers
        self.turns = turns.reversed()
        self.why = why
        self.before = before
        self.turn = turn
        deadline = now
        began = now
    }

    /// Whether it is time for the next turn.
    package mutating func excuse(_ pause: Duration) { deadline += pause }
    package func isDue(at now: Instant) -> Bool { awaited.isEmpty || deadline <= now }

    /// Whether what is on its way is what single pairs do on their own.
    package var looksAtPairs: Bool { isRing || isOfPairs }
    /// The orders of the next turn; nil when it is over. Who did not report is left alone from now on.
    /// - Parameters:
    ///   - most: bytes of a burst.
    ///   - trip: the round trip between this side and a peer.
    package mutating func next(most: Int, trip: (PeerID) -> Duration, at now: Instant) -> [Assignment]? {
        let nobody = !awaited.isEmpty && awaited.count == senders.count
        peers.removeAll { awaited.contains($0) }
        awaited = []
        guard !nobody, peers.count > 1 else { return nil }
        while let turn = turns.popLast() {
            let orders = self.orders(of: turn, most: most, trip: trip)
            guard !orders.isEmpty else { continue }
            senders = [:]
            sentByHub = [:]
            sent = [:]
            began = now
            for order in orders {
                senders[order.to] = order.senders
                for burst in order.bursts { sent[Pair(from: order.to, to: burst.to)] = burst.bytes }
            }
            awaited = Set(senders.keys)
            self.turn += 1
            deadline = now + Self.reportAfter + Self.patience
            return orders
        }
        return nil
    }

    private mutating func orders(of turn: Turn, most: Int, trip: (PeerID) -> Duration) -> [Assignment] {
        isRing = false
        isOfPairs = false
        switch turn {
        case .trips(let some):
            return some.filter { peers.contains($0) }.map { peer in
                Assignment(to: peer, pings: peers.filter { $0 != peer })
            }
        case .ring(let stride):
            isRing = true
            let n = peers.count
            guard stride % n != 0 else { return [] }
            return peers.indices.map { index in
                let (next, previous) = (peers[(index + stride) % n], peers[(index + n - stride % n) % n])
                let bytes = bytes(from: peers[index], to: next, seconds: 0.2, most: most)
                return Assignment(to: peers[index], bursts: [(next, bytes, .zero)], senders: [previous])
            }
        case .pairs(let pairs):
            isOfPairs = true
            return pairs.filter { peers.contains($0.from) && peers.contains($0.to) }.flatMap { pair in
                [(pair.from, pair.to), (pair.to, pair.from)].map { a, b in
                    let bytes = bytes(from: a, to: b, seconds: 0.2, most: most)
                    return Assignment(to: a, bursts: [(b, bytes, .zero)], senders: [b])
                }
            }
        case .hubs(let wanted):
            let hubs = wanted.filter { peers.contains($0) }
            guard !hubs.isEmpty, hubs.count < peers.count else { return [] }
            var orders = peers.map { Assignment(to: $0) }
            var place: [PeerID: Int] = [:]
            for (index, peer) in peers.enumerated() { place[peer] = index }
            // A single hub has a few of the others, spread over all.
            var leaves = peers.filter { !hubs.contains($0) }
            let all = leaves.count
            let wantedLeaves = min(all, (Self.mostHubTurns - 1) * hubs.count)
            leaves = (0..<wantedLeaves).map { leaves[$0 * all / wantedLeaves] }
            // What goes to a hub is to arrive there at one time, however far its leaves are.
            func way(_ leaf: PeerID, _ hub: PeerID) -> Duration {
                (trip(leaf) + seen.roundTrips[Pair(from: leaf, to: hub), default: .zero]) / 2
            }
            let pairs = leaves.enumerated().map { (leaf: $1, hub: hubs[$0 % hubs.count]) }
            var furthest: [PeerID: Duration] = [:]
            for (leaf, hub) in pairs { furthest[hub] = max(furthest[hub] ?? .zero, way(leaf, hub)) }
            let each = Double((leaves.count + hubs.count - 1) / hubs.count)
            for (leaf, hub) in pairs {
                let after = min(furthest[hub]! - way(leaf, hub), .seconds(1))
                let there = bytes(from: leaf, to: hub, seconds: 0.1, most: most / 2)
                // Where its leaves may be what held it up so far, a hub has more to show.
                let isHeld = (seen.down[leaf] ?? 0) < 1.1 * (seen.up[hub] ?? 0)
                let back = bytes(from: hub, to: leaf, seconds: isHeld ? 0.1 : 0.2 / each, most: most / 2)
                orders[place[leaf]!].bursts.append((hub, there, after))
                orders[place[hub]!].senders.append(leaf)
                orders[place[hub]!].bursts.append((leaf, back, .zero))
                orders[place[leaf]!].senders.append(hub)
            }
            return orders.filter { !$0.bursts.isEmpty }
        }
    }

    private func bytes(from a: PeerID, to b: PeerID, seconds: Double, most: Int) -> Int {
        let rates = [seen.up[a] ?? before.up[a], seen.down[b] ?? before.down[b]].compactMap { $0 }
        guard let rate = rates.min() else { return Self.leastBytes }
        return Int(min(max(rate / 8 * seconds, Double(Self.leastBytes)), Double(max(most, Self.leastBytes))))
    }

    /// What is said of others than those it was asked about is passed over.
    package mutating func receive(_ result: ProbeResult, from peer: PeerID, trip: (PeerID) -> Duration, at now: Instant)
    {
        guard result.turn == turn, awaited.remove(peer) != nil else { return }
        let present = Set(peers)
        for trip in result.roundTrips where trip.peer != peer && present.contains(trip.peer) {
            let pair = Pair(from: peer, to: trip.peer)
            seen.roundTrips[pair] = min(seen.roundTrips[pair] ?? trip.time, trip.time)
        }
        for arrival in result.arrivals where senders[peer]?.contains(arrival.sender) == true {
            receive(arrival, at: peer, trip: trip, now: now)
        }
        if let rate = result.together { seen.down[peer] = max(seen.down[peer] ?? 0, rate) }
    }

    private mutating func receive(
        _ arrival: ProbeResult.Arrival, at peer: PeerID, trip: (PeerID) -> Duration, now: Instant
    ) {
        let (sender, rate) = (arrival.sender, arrival.bitsPerSecond)
        guard !isOfPairs else { return seen.pairs[Pair(from: sender, to: peer)] = rate }
        if isRing {
            // Of a pair, only what it does on its own.
            seen.pairs[Pair(from: sender, to: peer)] = rate
            seen.up[sender] = singles[sender, default: Singles()].sent(rate)
            seen.down[peer] = singles[peer, default: Singles()].received(rate)
        }
        guard !isRing, senders[peer]?.count == 1, let bytes = sent[Pair(from: sender, to: peer)] else { return }
        // Of a hub, by this side's clock: the order's way to it, the burst's, the report's.
        let way = (trip(sender) + trip(peer) + seen.roundTrips[Pair(from: sender, to: peer), default: .zero]) / 2
        let seconds = (now - began - way).inSeconds
        guard seconds > 0 else { return }
        sentByHub[sender, default: []].append((seconds, Double(bytes)))
        let leaves = senders.values.count { $0.contains(sender) }
        guard sentByHub[sender]!.count == leaves else { return }
        sums[sender] = max(sums[sender] ?? 0, Self.together(sentByHub[sender]!))
    }

    /// Bits a second of one that sends to several from the same moment: what they had by the time the last of them was served,
    /// or the last but the slowest few.
    private static func together(_ receivers: [(seconds: Double, bytes: Double)]) -> Double {
        var (most, bytes) = (0.0, 0.0)
        for (index, receiver) in receivers.sorted(by: { ($0.seconds, $0.bytes) < ($1.seconds, $1.bytes) }).enumerated()
        {
            bytes += receiver.bytes
            if 4 * (index + 1) > 3 * receivers.count { most = max(most, bytes * 8 / receiver.seconds) }
        }
        return min(most, ProbeResult.mostBitsPerSecond)
    }

    /// What is known so far. What several receivers saw together is rough: it counts where it is well above what a single one saw.
    package var found: Findings {
        var found = seen
        for (peer, sum) in sums where sum > 1.25 * (seen.up[peer] ?? 0) { found.up[peer] = sum }
        return found
    }

    /// What a peer did with one other at a time. Of many such figures the best but one: what a lost packet held up comes all at
    /// once, and looks like a faster line.
    private struct Singles: Sendable {
        private var up: [Double] = []
        private var down: [Double] = []
        mutating func sent(_ rate: Double) -> Double { Self.add(rate, to: &up) }
        mutating func received(_ rate: Double) -> Double { Self.add(rate, to: &down) }
        private static func add(_ rate: Double, to rates: inout [Double]) -> Double {
            rates.append(rate)
            let sorted = rates.sorted()
            return sorted[max(0, sorted.count - (sorted.count < 3 ? 1 : 2))]
        }
    }

    package mutating func forget(_ peer: PeerID) {
        awaited.remove(peer)
        senders[peer] = nil
        peers.removeAll { $0 == peer }
    }
}

extension LinkSurvey.Findings {
    /// Takes over what another survey has found. Lines in use seem slower than they are: only what is much worse than known
    /// counts as having become worse.
    mutating func merge(_ new: LinkSurvey.Findings) {
        func fresher(_ old: Double, _ new: Double) -> Double { new > old || new < 0.75 * old ? new : old }
        up.merge(new.up, uniquingKeysWith: fresher)
        down.merge(new.down, uniquingKeysWith: fresher)
        pairs.merge(new.pairs, uniquingKeysWith: fresher)
        roundTrips.merge(new.roundTrips) { old, new in
            new < old || new > old * 3 / 2 + .milliseconds(5) ? new : old
        }
    }
    /// What lies between two peers, where it and not their lines is the limit: bits a second, by place in `peers`.
    ///
    /// Not every pair of a large pool is measured; one that was not is like the one whose end is nearest to its own, if that is
    /// much nearer than the pair is far: what both have to cross is the same.
    func caps(among peers: [PeerID]) -> [Int: [Int: Double]] {
        let n = peers.count
        func trip(_ a: Int, _ b: Int) -> Double? {
            let there = roundTrips[LinkSurvey.Pair(from: peers[a], to: peers[b])]
            let back = roundTrips[LinkSurvey.Pair(from: peers[b], to: peers[a])]
            return [there, back].compactMap { $0?.inSeconds }.min()
        }
        /// Of measured pairs; infinite where the lines are the limit.
        var known: [[Double?]] = Array(repeating: Array(repeating: nil, count: n), count: n)
        var any = false
        for a in 0..<n {
            for b in 0..<n where a != b {
                guard let rate = pairs[LinkSurvey.Pair(from: peers[a], to: peers[b])], let up = up[peers[a]],
                    let down = down[peers[b]]
                else { continue }
                let isCap = rate < 0.7 * min(up, down)
                known[a][b] = isCap ? rate : .infinity
                any = any || isCap
            }
        }
        guard any else { return [:] }
        let near = (0..<n).map { a in
            (0..<n).compactMap { b in a == b ? nil : trip(a, b).map { (b, $0) } }.sorted { ($0.1, $0.0) < ($1.1, $1.0) }
        }
        var caps: [Int: [Int: Double]] = [:]
        for a in 0..<n {
            for b in 0..<n where a != b {
                var cap = known[a][b]
                if cap == nil, let far = trip(a, b) {
                    let end = near[b].first { $0.1 < far / 4 && known[a][$0.0] != nil }
                    let start = near[a].first { $0.1 < far / 4 && known[$0.0][b] != nil }
                    switch (start, end) {
                    case (let s?, let e?): cap = s.1 < e.1 ? known[s.0][b] : known[a][e.0]
                    case (let s?, nil): cap = known[s.0][b]
                    case (nil, let e?): cap = known[a][e.0]
                    case (nil, nil): break
                    }
                }
                if let cap, cap.isFinite { caps[a, default: [:]][b] = cap }
            }
        }
        return caps
    }
}
