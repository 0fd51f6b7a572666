internal import Primitives
internal import Topologies

/// Which peers form which pipelines: seeded local search over partitions, for one number of pipelines and one way to
/// exchange. Bounded by evaluations, never by the clock.
struct PlanSearch {
    /// Peers by group; the last group holds the spares. Every group ascending.
    typealias Partition = [[Int]]

    struct Candidate {
        var partition: Partition
        var lanes: [Lane]
        var seconds: Double
        /// What is compared: seconds, plus what changing over costs, plus a penalty where something does not fit.
        var score: Double
        /// The group whose round ends last.
        var slowest = 0
    }

    /// Simulated events after which a search ends, whatever iterations are left.
    var workLimit = Int.max
    var builder: PipelineBuilder
    let cost: CostModel
    let pacing: Pacing
    let pipelines: Int
    /// What changing to these lanes costs, in seconds.
    let change: @Sendable ([Lane]) -> Double
    private var random: SeededGenerator
    private var runs: [LaneRunKey: LaneRun] = [:]
    private(set) var evaluations = 0
    /// Partitions that are looked at one and all where there are no more.
    static let mostEnumerated = 8_000

    init(
        builder: PipelineBuilder, pacing: Pacing, pipelines: Int, seed: UInt64,
        change: @escaping @Sendable ([Lane]) -> Double
    ) {
        self.builder = builder
        self.cost = builder.cost
        self.pacing = pacing
        self.pipelines = pipelines
        self.change = change
        random = SeededGenerator(seed: seed, stream: UInt64(pipelines) * 2 + (pacing.usesRounds ? 1 : 0))
    }

    /// The best of several starts, each improved by moves, best first, at most `keep`; empty when nothing that fits was found.
    ///
    /// - Parameter chain: all peers, neighbours next to each other.
    mutating func run(chain: [Int], iterations: Int, hint: Partition?, keep: Int) -> [Candidate] {
        if PlanSearch.partitions(chain.count, pipelines) <= PlanSearch.mostEnumerated {
            return enumerated(chain, hint, keep: keep)
        }
        let starts = starts(chain, hint)
        let first = starts.map { evaluate($0) }.enumerated().sorted {
            ($0.element.score, $0.offset) < ($1.element.score, $1.offset)
        }.map(\.element)
        var found: [Candidate] = []
        // The best start gets half, the second a quarter, the best so far what is left.
        for (start, share) in zip(first.prefix(2), [2, 4]) {
            found.append(improve(start, iterations: max(8, iterations / share)))
        }
        let best = found.min { $0.score < $1.score }
        if let best { found.append(improve(best, iterations: iterations / 4)) }
        found += first.prefix(keep)
        return PlanSearch.distinct(found, keep: keep)
    }

    /// The best start alone, or the hint.
    mutating func first(_ chain: [Int], _ hint: Partition?) -> Candidate? {
        return starts(chain, hint).map { evaluate($0) }.filter(\.seconds.isFinite).min { $0.score < $1.score }
    }

    private func starts(_ chain: [Int], _ hint: Partition?) -> [Partition] {
        let found = starts(chain)
        guard let hint, hint.count == pipelines + 1 else { return found }
        return [hint] + found
    }

    private static func distinct(_ found: [Candidate], keep: Int) -> [Candidate] {
        let order = found.indices.sorted { (found[$0].score, $0) < (found[$1].score, $1) }
        var kept: [Candidate] = []
        for index in order where kept.count < keep && found[index].seconds.isFinite {
            if !kept.contains(where: { $0.lanes == found[index].lanes }) { kept.append(found[index]) }
        }
        return kept
    }

    // MARK: all partitions

    /// How many ways there are to split `peers` peers into `groups` groups and a rest, the rest maybe empty: the Stirling number of
    /// the second kind S(peers + 1, groups + 1). Saturates.
    static func partitions(_ peers: Int, _ groups: Int) -> Int {
        if peers > 12 { return .max }
        var row = [Int](repeating: 0, count: groups + 2)
        row[0] = 1
        for _ in 0...peers {
            for k in stride(from: groups + 1, through: 1, by: -1) { row[k] = row[k - 1] + k * row[k] }
            row[0] = 0
        }
        return row[groups + 1]
    }

    private mutating func enumerated(_ chain: [Int], _ hint: Partition?, keep: Int) -> [Candidate] {
        let peers = chain.sorted()
        let bounds = GroupBounds(cost, peers, pacing)
        let steps = Double(cost.job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual))
        let share = cost.job.virtualPipelines
        let splits = PlanSearch.splits(peers.count, pipelines)
        let least = splits.map { steps * bounds.seconds($0, share: share) }
        // What seems soonest first, so that the others are seen to be of no interest; what is easily found tells that of many.
        let order = splits.indices.sorted { (least[$0], $0) < (least[$1], $1) }
        var limit = starts(chain, hint).map { evaluate($0).seconds }.min() ?? .infinity
        var found: [(index: Int, candidate: Candidate)] = []
        /// The best, ascending, as many as are kept.
        var scores: [Double] = []
        for index in order {
            let worst = scores.count == keep ? scores[keep - 1] : .infinity
            if least[index] > min(limit * 1.25, worst) { break }
            let groups = splits[index].map { set in peers.indices.filter { set & 1 << $0 != 0 }.map { peers[$0] } }
            // Whether the groups can hold the model, and with the least share each could end in time.
            let isPromising = groups.allSatisfy { group in
                guard let built = builder.best(group, share: pipelines == 1 ? share : 1) else { return false }
                return built.stepSeconds * steps <= limit * 1.25
            }
            guard isPromising else { continue }
            let used = splits[index].reduce(0, |)
            let rest = peers.indices.filter { used & 1 << $0 == 0 }.map { peers[$0] }
            let candidate = evaluate(groups + [rest], below: worst.nextUp)
            guard candidate.seconds.isFinite else { continue }
            found.append((index, candidate))
            let place = scores.firstIndex { $0 > candidate.score } ?? scores.count
            scores.insert(candidate.score, at: place)
            if scores.count > keep { scores.removeLast() }
            limit = min(limit, candidate.seconds)
        }
        found.sort { $0.index < $1.index }
        return PlanSearch.distinct(found.map(\.candidate), keep: keep)
    }

    /// Every way to split so many peers into so many groups and a rest: the groups, a bit a peer.
    private static func splits(_ peers: Int, _ groups: Int) -> [[Int]] {
        var found: [[Int]] = []
        func place(_ index: Int, _ sets: [Int]) {
            if groups - sets.count > peers - index { return }
            guard index < peers else { return found.append(sets) }
            for g in sets.indices {
                var next = sets
                next[g] |= 1 << index
                place(index + 1, next)
            }
            if sets.count < groups { place(index + 1, sets + [1 << index]) }
            place(index + 1, sets)
        }
        place(0, [])
        return found
    }

    // MARK: local search

    /// Threshold accepting (Dueck & Scheuer 1990): like annealing, without an exponential.
    private mutating func improve(_ start: Candidate, iterations: Int) -> Candidate {
        var best = start
        var current = start
        for step in 0..<iterations {
            guard let partition = neighbour(current) else { break }
            let left = 1 - Double(step) / Double(iterations)
            let threshold = 0.12 * left * left
            // What is beyond it is not taken, however far.
            let next = evaluate(partition, below: current.score * (1 + threshold))
            if next.score < current.score * (1 + (next.seconds.isFinite ? threshold : 0)) { current = next }
            if current.score < best.score * (1 - 1e-9) { best = current }
            if step % max(16, iterations / 4) == 0 { current = best }
            if builder.work > workLimit { break }
        }
        return best
    }

    // MARK: evaluation

    /// - Parameter limit: where training alone takes the job's score there, the exchange is not looked at, and the score is infinite.
    mutating func evaluate(_ partition: Partition, below limit: Double = .infinity) -> Candidate {
        evaluations += 1
        var misfits = 0.0
        let groups = partition.dropLast()
        for group in groups where builder.best(group, share: max(1, cost.job.virtualPipelines / pipelines)) == nil {
            misfits += 1 + shortage(group)
        }
        guard misfits == 0, let lanes = share(Array(groups)) else {
            return Candidate(
                partition: partition, lanes: [], seconds: .infinity, score: 1e12 * (misfits == 0 ? 1 : misfits))
        }
        let ordered = PlanPolish.ordered(lanes)
        let more = change(ordered)
        let judged =
            builder.coarse
            ? cost.estimatedRound(ordered, pacing) : cost.round(ordered, pacing, &runs, more: more, below: limit)
        guard let round = judged else {
            return Candidate(partition: partition, lanes: ordered, seconds: .infinity, score: .infinity)
        }
        let seconds = cost.totalSeconds(round, ordered, pacing)
        let slowest = ordered[round.slowest].hosts[0]
        return Candidate(
            partition: partition, lanes: ordered, seconds: seconds, score: cost.score(seconds, ordered) + more,
            slowest: groups.firstIndex { $0.contains(slowest) } ?? 0)
    }

    /// How much of the model a group cannot hold, 0…1: a slope for the search where nothing fits yet.
    private func shortage(_ group: [Int]) -> Double {
        let need = Double(cost.leastMemory(cost.model.allUnits, rounds: pacing.usesRounds))
        let have = group.reduce(0.0) { $0 + Double(cost.memories[$1]) }
        return max(0, need - have) / need
    }

    /// Virtual pipelines in proportion to speed, then moved one by one from the slowest to whoever gains.
    private mutating func share(_ groups: [[Int]]) -> [Lane]? {
        let total = cost.job.virtualPipelines
        let base = max(1, total / pipelines)
        var slope: [Double] = []
        var fixed: [Double] = []
        for group in groups {
            guard let one = builder.best(group, share: base) else { return nil }
            if pipelines == 1 { return [one.lane] }
            let bottleneck =
                one.lane.hosts.indices.map {
                    CostModel.passes(recompute: one.lane.recomputes($0)) * cost.flops(one.lane.units($0))
                        / cost.speeds[one.lane.hosts[$0]]
                }.max() ?? 0
            let perShare = bottleneck * Double(pacing.microBatchesPerVirtual)
            slope.append(perShare)
            fixed.append(max(0, one.stepSeconds - perShare * Double(base)))
        }
        var shares = [Int](repeating: 1, count: groups.count)
        for _ in 0..<(total - groups.count) {
            var least = 0
            var time = Double.infinity
            for i in groups.indices {
                let next = fixed[i] + slope[i] * Double(shares[i] + 1)
                if next < time { (least, time) = (i, next) }
            }
            shares[least] += 1
        }
        var lanes: [PipelineBuilder.Built] = []
        for (group, share) in zip(groups, shares) {
            guard let built = builder.best(group, share: share) else { return nil }
            lanes.append(built)
        }
        for _ in 0..<(builder.coarse ? 0 : 4) {
            let slowest = lanes.indices.max { lanes[$0].stepSeconds < lanes[$1].stepSeconds } ?? 0
            guard shares[slowest] > 1, let less = builder.best(groups[slowest], share: shares[slowest] - 1) else {
                break
            }
            var taker: (index: Int, built: PipelineBuilder.Built)?
            for i in lanes.indices where i != slowest {
                guard lanes[i].stepSeconds < lanes[slowest].stepSeconds,
                    let more = builder.best(groups[i], share: shares[i] + 1),
                    more.stepSeconds < taker?.built.stepSeconds ?? lanes[slowest].stepSeconds * 0.999
                else { continue }
                taker = (i, more)
            }
            guard let taker else { break }
            shares[slowest] -= 1
            shares[taker.index] += 1
            lanes[slowest] = less
            lanes[taker.index] = taker.built
        }
        return lanes.map(\.lane)
    }

    // MARK: moves

    /// One change: a peer moves to another group (or out, or in), or two peers change places; half of the time it concerns the
    /// slowest group. nil when there is none. Not `aimed`: anybody goes anywhere, a part `swaps` of the changes being exchanges.
    mutating func neighbour(_ candidate: Candidate, aimed: Bool = true, swaps: Double = 0.5) -> Partition? {
        let partition = candidate.partition
        for _ in 0..<20 {
            var a = random.below(pipelines + 1)
            var b = random.below(pipelines + 1)
            if aimed, random.below(2) == 0 {
                if random.below(2) == 0 { a = candidate.slowest } else { b = candidate.slowest }
            }
            guard a != b, !partition[a].isEmpty else { continue }
            let i = aimed ? pick(partition, a, for: b) : random.below(partition[a].count)
            var next = partition
            let peer = next[a].remove(at: i)
            if aimed ? random.below(2) == 0 : random.uniform() < swaps, !partition[b].isEmpty {
                let j = aimed ? pick(partition, b, for: a) : random.below(partition[b].count)
                let other = next[b].remove(at: j)
                next[a].append(other)
                next[b].append(peer)
            } else {
                if a < pipelines, partition[a].count == 1 { continue }
                next[b].append(peer)
            }
            next[a].sort()
            next[b].sort()
            return next
        }
        return nil
    }

    /// A place in group `from`: of many spares the fastest, or the nearest to group `to`, of four.
    private mutating func pick(_ partition: Partition, _ from: Int, for to: Int) -> Int {
        let group = partition[from]
        var chosen = random.below(group.count)
        guard from == pipelines, to < pipelines, group.count > 8 else { return chosen }
        let near = random.below(2) == 0 ? partition[to].first : nil
        for _ in 0..<3 {
            let other = random.below(group.count)
            if let near {
                if cost.latency(near, group[other]) < cost.latency(near, group[chosen]) { chosen = other }
            } else if cost.speeds[group[other]] > cost.speeds[group[chosen]] {
                chosen = other
            }
        }
        return chosen
    }
}
