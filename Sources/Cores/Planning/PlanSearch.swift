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
    }

    var builder: PipelineBuilder
    let cost: CostModel
    let pacing: Pacing
    let pipelines: Int
    /// What changing to these lanes costs, in seconds.
    let change: ([Lane]) -> Double
    private var random: SeededGenerator
    private var runs: [LaneRunKey: LaneRun] = [:]
    private(set) var evaluations = 0

    init(
        builder: PipelineBuilder, pacing: Pacing, pipelines: Int, seed: UInt64, change: @escaping ([Lane]) -> Double
    ) {
        self.builder = builder
        self.cost = builder.cost
        self.pacing = pacing
        self.pipelines = pipelines
        self.change = change
        random = SeededGenerator(seed: seed, stream: UInt64(pipelines) * 2 + (pacing.usesRounds ? 1 : 0))
    }

    /// The best of several starts, each improved by moves; nil when nothing that fits was found.
    mutating func run(peers: [Int], iterations: Int, hint: Partition?) -> Candidate? {
        var best: Candidate?
        var starts = [chained(peers), dealt(peers), shuffled(peers)]
        if let hint, hint.count == pipelines + 1 { starts.insert(hint, at: 0) }
        let first = starts.map { evaluate($0) }.enumerated().sorted {
            ($0.element.score, $0.offset) < ($1.element.score, $1.offset)
        }.map(\.element)
        // The best start gets half, the second a quarter, the best so far what is left.
        for (start, share) in zip(first.prefix(2), [2, 4]) {
            let found = improve(start, iterations: max(8, iterations / share))
            if found.score < best?.score ?? .infinity { best = found }
        }
        if let found = best.map({ improve($0, iterations: iterations / 4) }), found.score < best?.score ?? .infinity {
            best = found
        }
        guard let best, best.seconds.isFinite else { return nil }
        return best
    }

    /// Threshold accepting (Dueck & Scheuer 1990): like annealing, without an exponential.
    private mutating func improve(_ start: Candidate, iterations: Int) -> Candidate {
        var best = start
        var current = start
        for step in 0..<iterations {
            guard let partition = neighbour(current.partition) else { break }
            let next = evaluate(partition)
            let left = 1 - Double(step) / Double(iterations)
            let threshold = 0.12 * left * left
            if next.score < current.score * (1 + (next.seconds.isFinite ? threshold : 0)) { current = next }
            if current.score < best.score * (1 - 1e-9) { best = current }
            if step % max(16, iterations / 4) == 0 { current = best }
        }
        return best
    }

    // MARK: evaluation

    mutating func evaluate(_ partition: Partition) -> Candidate {
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
        let ordered = lanes.sorted { ($0.hosts.min() ?? 0) < ($1.hosts.min() ?? 0) }
        let seconds = cost.totalSeconds(cost.round(ordered, pacing, &runs), ordered, pacing)
        return Candidate(
            partition: partition, lanes: ordered, seconds: seconds,
            score: cost.score(seconds, ordered) + change(ordered))
    }

    /// How much of the model a group cannot hold, 0…1: a slope for the search where nothing fits yet.
    private func shortage(_ group: [Int]) -> Double {
        let need = Double(cost.memory(cost.model.allUnits, rounds: pacing.usesRounds, kept: 1))
        let have = group.reduce(0.0) { $0 + Double(cost.topology.hosts[$1].memory.bytes) }
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
                    3 * cost.flops(one.lane.units($0)) / cost.topology.hosts[one.lane.hosts[$0]].flops
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
        for _ in 0..<4 {
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

    // MARK: starts

    /// A chain of nearest neighbours through all peers, cut where the groups' speeds are even: peers of one place end up
    /// in one pipeline.
    private func chained(_ peers: [Int]) -> Partition {
        var rest = peers
        var order: [Int] = []
        while !rest.isEmpty {
            var pick = 0
            for i in rest.indices.dropFirst() {
                if let last = order.last {
                    if cost.latency(last, rest[i]) < cost.latency(last, rest[pick]) { pick = i }
                } else if cost.topology.hosts[rest[i]].flops > cost.topology.hosts[rest[pick]].flops {
                    pick = i
                }
            }
            order.append(rest.remove(at: pick))
        }
        let speed = peers.reduce(0.0) { $0 + cost.topology.hosts[$1].flops }
        var groups = Partition(repeating: [], count: pipelines + 1)
        var sum = 0.0
        for (index, peer) in order.enumerated() {
            let left = order.count - index
            var group = min(pipelines - 1, Int(sum / speed * Double(pipelines)))
            // Every group gets at least one peer.
            if left <= pipelines, let empty = groups.dropLast().firstIndex(where: \.isEmpty) { group = empty }
            groups[group].append(peer)
            sum += cost.topology.hosts[peer].flops
        }
        return normal(groups)
    }
    /// Fastest first, dealt to the groups there and back.
    private func dealt(_ peers: [Int]) -> Partition {
        let order = peers.sorted { (cost.topology.hosts[$1].flops, $0) < (cost.topology.hosts[$0].flops, $1) }
        var groups = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in order.enumerated() {
            let (turn, place) = index.quotientAndRemainder(dividingBy: pipelines)
            groups[turn % 2 == 0 ? place : pipelines - 1 - place].append(peer)
        }
        return normal(groups)
    }
    private mutating func shuffled(_ peers: [Int]) -> Partition {
        var order = peers
        random.shuffle(&order)
        var groups = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in order.enumerated() { groups[index % pipelines].append(peer) }
        return normal(groups)
    }
    /// Ascending groups; what is more than a pipeline can use becomes spare.
    private func normal(_ groups: Partition) -> Partition {
        var groups = groups
        let most = cost.model.tieWordEmbeddings ? 1 : cost.job.stages.value ?? cost.model.unitCount
        for index in groups.indices.dropLast() where groups[index].count > most {
            let bySpeed = groups[index].sorted {
                (cost.topology.hosts[$1].flops, $0) < (cost.topology.hosts[$0].flops, $1)
            }
            groups[index] = Array(bySpeed.prefix(most))
            groups[pipelines] += bySpeed.dropFirst(most)
        }
        return groups.map { $0.sorted() }
    }

    // MARK: moves

    /// One random change: a peer moves to another group (or out, or in), or two peers change places. nil when there is none.
    private mutating func neighbour(_ partition: Partition) -> Partition? {
        for _ in 0..<20 {
            let a = random.below(pipelines + 1)
            let b = random.below(pipelines + 1)
            guard a != b, !partition[a].isEmpty else { continue }
            let i = random.below(partition[a].count)
            var next = partition
            let peer = next[a].remove(at: i)
            if random.below(2) == 0, !partition[b].isEmpty {
                let j = random.below(partition[b].count)
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
}
