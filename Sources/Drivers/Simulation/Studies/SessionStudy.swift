internal import Consensus
import Digests
public import Primitives

/// Machines that come and go carry one log for a week: how often a majority of the electors is gone at once, beside what is computed; and the
/// log goes on in a new era each time. The electors are those of daemons; who owns them replaces whoever has been away for a minute, as a job's
/// leader does.
public struct SessionStudy: Sendable {
    public struct Outcome: Sendable {
        public var electors: Int
        public var days: Double
        /// Machines that left while they were electors, and seats that went to others.
        public var departures = 0
        public var replaced = 0
        /// How often fewer than a quorum were there: until the log was founded anew, or until somebody was back before that.
        public var lost = 0
        public var refounded = 0
        public var returned = 0
        /// Days between two such losses, computed.
        public var computedDays: Double
        /// Seconds without a leader that could commit, of all.
        public var without = 0.0
        public var elections = 0
        /// Entries that were committed, all of which each new era kept.
        public var entries = 0
        public var problem: String?
        /// More than what is computed, by more than chance explains: twice the root of it beside one.
        public var isGood: Bool {
            let expected = days / computedDays
            return problem == nil && lost - refounded - returned <= 1
                && Double(lost) <= expected + 2 * expected.squareRoot() + 1
        }
    }
    public let outcomes: [Outcome]

    /// - Parameters:
    ///   - days: of each number of electors.
    ///   - hours: median of a session.
    public init(days: Double, hours: Double = 4, seed: UInt64, told: (Outcome) -> Void = { _ in }) {
        var outcomes: [Outcome] = []
        for electors in [3, 5] {
            var pool = SessionPool(electors: electors, hours: hours, seed: seed)
            pool.run(days: days)
            outcomes.append(pool.outcome)
            told(pool.outcome)
        }
        self.outcomes = outcomes
    }

    /// A seat is empty for `away` seconds; sessions end at the rate λ. Of n electors the one after (n − 1)/2 that are away is the end: with each seat refilled by
    /// itself, the rate is n λ · (n − 1) λ a · … ÷ ((n − 1)/2)! (a birth and death process whose deaths are rare).
    static func computedDays(electors: Int, hours: Double, away: Double) -> Double {
        // ln 2
        let rate = 0.693_147_180_559_945_3 / (hours * 3600)
        var out = Double(electors) * rate
        for gone in 1...(electors - 1) / 2 { out *= Double(electors - gone) * rate * away / Double(gone) }
        return 1 / out / 86_400
    }
}

/// The machines, in virtual time.
private struct SessionPool {
    private enum Happening {
        case message(ElectorMessage, from: Int, to: Int, life: Int)
        case stored(Int, ElectorWrite, life: Int)
        case wake(Int, life: Int)
        case leaves(Int)
        case comes(Int)
        /// Whoever owns electors looks at them, and the observer at all.
        case look
    }
    private struct Machine {
        var elector: Elector?
        var memory = ElectorMemory()
        var life = 0
        var isUp = true
        var awaySince: Instant?
        var wakeAt: Instant?
    }
    private var machines: [Machine]
    private var queue = TimedQueue<Happening>()
    private var now = Instant.zero
    private var draw: SeededGenerator
    private let rate: Double
    /// Committed by anybody, and who decides after it.
    private var committed: [ReplicatedEntry] = []
    private var genesis: Electorate
    private var era = 0
    private var founder = 0
    private var lostSince: Instant?
    /// Who has the log to become an elector, as each leader knows.
    private var prepared: [Int: Set<Int>] = [:]
    private(set) var outcome: SessionStudy.Outcome

    /// More machines than electors, so that a seat finds somebody.
    private static let spares = 8
    /// Sessions end; the machine is back after half an hour as likely as later.
    private static let awayMinutes = 30.0
    private static let patience = Duration.seconds(60)
    /// How long a majority is gone before the owner founds the log anew.
    private static let ownersPatience = Duration.seconds(120)

    init(electors: Int, hours: Double, seed: UInt64) {
        machines = Array(repeating: Machine(), count: electors + Self.spares)
        draw = SeededGenerator(seed: seed, stream: UInt64(electors))
        rate = hours * 3600
        genesis = Electorate(voters: [Self.peer(0)])!
        // A seat is empty until the minute is over, the next look, and two entries are agreed on.
        outcome = SessionStudy.Outcome(
            electors: electors, days: 0,
            computedDays: SessionStudy.computedDays(electors: electors, hours: hours, away: 61))
        begin(0)
        for index in machines.indices { leaveLater(index) }
        queue.push(.look, at: now + .seconds(1))
    }
    private static let peers: [PeerID] = (0..<32).map { PeerID(sha256([UInt8($0)]).bytes)! }
    private static func peer(_ index: Int) -> PeerID { peers[index] }
    private static func index(_ peer: PeerID) -> Int { peers.firstIndex(of: peer)! }

    /// With a median.
    private mutating func time(_ median: Double) -> Duration {
        var halvings = 0
        // An exponential time is as likely to be over in each median that it lasts.
        while draw.below(2) == 1, halvings < 40 { halvings += 1 }
        return .nanoseconds(Int64((Double(halvings) + share()) * median * 1e9))
    }
    /// Of the median in which it ends: −log₂(1 − u/2), by the first terms of its series.
    private mutating func share() -> Double {
        let x = draw.uniform() / 2
        var (power, sum) = (x, 0.0)
        for number in 1...40 {
            sum += power / Double(number)
            power *= x
        }
        return sum / 0.693_147_180_559_945_3
    }
    private mutating func leaveLater(_ index: Int) { queue.push(.leaves(index), at: now + time(rate)) }

    private mutating func begin(_ index: Int, isBlank: Bool = false) {
        machines[index].life += 1
        machines[index].wakeAt = nil
        machines[index].elector = Elector(
            Self.peer(index), genesis, memory: machines[index].memory, isBlank: isBlank, seed: draw.next(), at: now)
        drain(index)
    }

    mutating func run(days: Double) {
        let end = now + .nanoseconds(Int64(days * 86_400 * 1e9))
        while let next = queue.next, next <= end, outcome.problem == nil {
            now = next
            if let happening = queue.popFirst() { act(happening) }
        }
        outcome.days = days
        outcome.entries = committed.count
    }
    private mutating func act(_ happening: Happening) {
        switch happening {
        case .message(let message, let from, let to, let life):
            guard machines[to].isUp, machines[from].life == life || machines[from].isUp else { return }
            if machines[to].elector == nil {
                // Whoever is made an elector hears of it so.
                machines[to].memory = ElectorMemory()
                begin(to, isBlank: true)
            }
            machines[to].elector!.admit(Self.peer(from))
            machines[to].elector!.receive(message, from: Self.peer(from), at: now)
            drain(to)
        case .stored(let index, let write, let life):
            guard machines[index].life == life, machines[index].elector != nil else { return }
            machines[index].memory.apply(write)
            machines[index].elector!.stored(write.ticket, at: now)
            drain(index)
        case .wake(let index, let life):
            guard machines[index].life == life, machines[index].wakeAt.map({ $0 <= now }) ?? false else { return }
            machines[index].wakeAt = nil
            machines[index].elector?.wake(at: now)
            drain(index)
        case .leaves(let index): leave(index)
        case .comes(let index):
            machines[index].isUp = true
            machines[index].awaySince = nil
            if !machines[index].memory.entries.isEmpty { begin(index) }
            leaveLater(index)
        case .look:
            look()
            queue.push(.look, at: now + .seconds(1))
        }
    }
    private mutating func leave(_ index: Int) {
        if electorate.isVoter(Self.peer(index)) { outcome.departures += 1 }
        machines[index].isUp = false
        machines[index].awaySince = now
        machines[index].elector = nil
        machines[index].life += 1
        queue.push(.comes(index), at: now + time(Self.awayMinutes * 60))
    }

    private mutating func drain(_ index: Int) {
        while let effect = machines[index].elector?.poll() {
            switch effect {
            case .send(let message, let peer):
                queue.push(
                    .message(message, from: index, to: Self.index(peer), life: machines[index].life),
                    at: now + .milliseconds(20))
            case .store(let write):
                queue.push(.stored(index, write, life: machines[index].life), at: now + .milliseconds(3))
            case .leads:
                outcome.elections += 1
                prepared[index] = []
                _ = try? machines[index].elector!.propose([0], at: now)
            case .mayFinish(let electorate):
                _ = try? machines[index].elector!.propose([1], electorate: electorate, at: now)
            case .committed(let count): commit(count, by: index)
            case .caughtUp(let peer): prepared[index, default: []].insert(Self.index(peer))
            case .follows, .received, .hasLost: break
            }
        }
        guard let wake = machines[index].elector?.nextWake, machines[index].wakeAt.map({ $0 > wake }) ?? true else {
            return
        }
        machines[index].wakeAt = wake
        queue.push(.wake(index, life: machines[index].life), at: max(wake, now))
    }
    private mutating func commit(_ count: Int, by index: Int) {
        let entries = machines[index].elector!.entries
        if count > committed.count {
            guard committed.isEmpty || entries[committed.count - 1] == committed[committed.count - 1] else {
                outcome.problem = "machine \(index) has committed another entry than was"
                return
            }
            committed += entries[committed.count..<count]
        } else if entries[count - 1] != committed[count - 1] {
            outcome.problem = "machine \(index) has committed another entry than was"
        }
    }

    /// As of what is committed.
    private var electorate: Electorate { committed.last { $0.electorate != nil }?.electorate ?? genesis }

    // MARK: owners

    private mutating func look() {
        let leader = machines.indices.filter { machines[$0].elector?.isEstablished == true }
            .max { machines[$0].elector!.term < machines[$1].elector!.term }
        let electorate = electorate
        let isThere = electorate.decides { machines[Self.index($0)].isUp }
        if leader == nil || !isThere { outcome.without += 1 }
        guard isThere else { return loseMajority() }
        if lostSince != nil { outcome.returned += 1 }
        lostSince = nil
        if let leader { replace(leader) }
    }
    /// Whoever has been away for a minute, while somebody else is there; and free seats.
    private mutating func replace(_ leader: Int) {
        let elector = machines[leader].elector!
        let now = now
        guard !elector.electorate.isJoint, elector.committed == elector.entries.count else { return }
        let voters = elector.electorate.voters.map(Self.index)
        let stay = voters.filter { machines[$0].awaySince.map { now - $0 < Self.patience } ?? true }
        let able = machines.indices.filter { machines[$0].isUp && !voters.contains($0) }
        var count = min(outcome.electors, stay.count + able.count)
        if count % 2 == 0 { count -= 1 }
        guard stay.count < count else { return }
        let chosen = stay + able.prefix(count - stay.count)
        let newcomers = chosen.dropFirst(stay.count)
        guard newcomers.allSatisfy({ prepared[leader, default: []].contains($0) }) else {
            machines[leader].elector!.prepare(newcomers.map(Self.peer), at: now)
            return drain(leader)
        }
        guard let next = elector.electorate.changing(to: chosen.map(Self.peer)) else { return }
        guard (try? machines[leader].elector!.propose([2], electorate: next, at: now)) != nil else { return }
        outcome.replaced += stay.count < voters.count ? count - stay.count : 0
        drain(leader)
    }
    /// Fewer than a quorum are there. When they do not come back, the owner founds the log anew on a machine that is there, with all entries that are
    /// committed.
    private mutating func loseMajority() {
        if lostSince == nil {
            lostSince = now
            outcome.lost += 1
        }
        guard now - lostSince! >= Self.ownersPatience, let index = machines.indices.first(where: { machines[$0].isUp })
        else {
            return
        }
        era += 1
        outcome.refounded += 1
        lostSince = nil
        for other in machines.indices {
            machines[other].elector = nil
            machines[other].life += 1
            machines[other].memory = ElectorMemory()
        }
        let term = Era.firstTerm(of: era)
        committed.append(
            ReplicatedEntry(term: term, body: [3], electorate: Electorate(voters: [Self.peer(index)])!))
        machines[index].memory = ElectorMemory(term: term, vote: nil, entries: committed)
        begin(index)
    }
}
