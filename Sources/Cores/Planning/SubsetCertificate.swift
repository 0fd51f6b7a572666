internal import Primitives
internal import Topologies

/// Shows that few peers cannot form the pipelines that a batch needs, whoever works with whom, one and all: dynamic programming over sets
/// of peers (Held & Karp 1962), whole peers, whole shares and the ways between neighbours included.
///
/// In a pipeline's step let P be a micro-batch's way there and back to a stage: the work of the stages before it and all hops. The stage
/// does n micro-batches after the first has come, and the last has to go back, so that a step is at least P + n·own. Of all orders of
/// the same peers with the same units so far only the one with the least P matters: all that follows is no shorter with a longer way.
struct SubsetCertificate {
    /// Beyond that there are too many sets.
    static let mostPeers = 10

    private let capacity: StageCapacity
    private let count: Int
    private let blocks: Int
    /// A way there and back with a micro-batch's bytes, in seconds, by pair.
    private var hops: [Double] = []
    /// By set, last peer and blocks held: P and that stage's own work, the least of all orders; infinite where there is none.
    private var ways: [Double] = []
    /// By role, peer and blocks: seconds of a micro-batch with the share at hand, and what all steps of a round may take.
    private var works: [Work] = []
    private var limits: [Double] = []
    /// By set: no more than that share, as is known already.
    private var bounds: [Int] = []
    /// By set: the greatest share that a pipeline of some of these peers can have.
    private var shares: [Int]

    init(_ capacity: StageCapacity) {
        self.capacity = capacity
        count = capacity.peers.count
        blocks = capacity.blocks
        shares = [Int](repeating: 0, count: 1 << count)
        let cost = capacity.cost
        for a in capacity.peers {
            for b in capacity.peers {
                hops.append(
                    a == b
                        ? .infinity
                        : cost.latency(a, b) + cost.latency(b, a)
                            + capacity.activation / min(cost.rate(a, b), cost.downs[b])
                            + capacity.activation / min(cost.rate(b, a), cost.downs[a]))
            }
        }
    }

    /// Of the pipelines at hand the slowest stage's pause (what a stage needs at least for each backward, or its bytes) is longer than that, and
    /// at most that long.
    private var least = 0.0
    private var most = Double.infinity
    /// How finely pipelines are told apart by that, and how often.
    private static let finer = 0.85
    private static let classes = 10

    /// Whether no plan fits.
    mutating func rulesOut() -> Bool {
        // A ring's first stage works for the last one, too.
        if capacity.isRing { return false }
        if rulesOut(classes: 0) { return true }
        // Once more, where the way through a pipeline and its slowest stage go together.
        bounds = shares
        shares = [Int](repeating: 0, count: shares.count)
        return rulesOut(classes: SubsetCertificate.classes)
    }
    private mutating func rulesOut(classes: Int) -> Bool {
        for place in capacity.shares.indices.reversed() {
            let n = microBatches(place)
            var next = n > 1 ? capacity.step / (n - 1) : .infinity
            for index in 0...classes {
                most = next
                next *= SubsetCertificate.finer
                least = index == classes || n == 1 ? 0 : next
                form(place)
                if n == 1 { break }
            }
            if isEnough() { return false }
        }
        return true
    }
    private func microBatches(_ place: Int) -> Double {
        Double(capacity.shares[place] * capacity.pacing.microBatchesPerVirtual)
    }

    // MARK: pipelines

    /// One stage of a peer: seconds of a micro-batch, there and back.
    private struct Work {
        var own = 0.0
        /// Between two micro-batches' ends at least: the backward, or its bytes on the line.
        var pause = 0.0
    }
    private func index(_ role: StageCapacity.Role, _ i: Int, _ units: Int) -> Int {
        (role.rawValue * count + i) * (blocks + 1) + units
    }
    private mutating func reckon(_ place: Int) {
        works = []
        let isFirst = limits.isEmpty
        for role in StageCapacity.Role.allCases {
            for i in 0..<count {
                for units in 0...blocks {
                    let forward = role == .single ? 0 : capacity.forward(units, role, i)
                    let passes = capacity.passes(units, role, i, place)
                    let line = capacity.activation / capacity.cost.ups[capacity.peers[i]]
                    works.append(Work(own: passes * forward, pause: max((passes - 1) * forward, line)))
                    if isFirst { limits.append(capacity.allSteps(units, role, i, place)) }
                }
            }
        }
    }

    /// Finds the sets of peers that can be a pipeline of that share.
    private mutating func form(_ place: Int) {
        let share = capacity.shares[place]
        for i in 0..<count where capacity.most[capacity.index(.single, place) + i] >= 0 {
            shares[1 << i] = max(shares[1 << i], share)
        }
        guard count > 1, capacity.mostStages > 1 else { return }
        reckon(place)
        // Others need at least a peer each.
        let stages = min(capacity.mostStages, count - capacity.pipelines + 1)
        let wanted = wanted(share, stages)
        if !wanted[0] { return }
        let width = blocks + 1
        ways = [Double](repeating: .infinity, count: (count << count) * width)
        for i in 0..<count where wanted[1 << i] {
            let held = Int(capacity.most[capacity.index(.first, place) + i])
            guard held >= 0 else { continue }
            for units in 0...min(held, blocks) {
                let work = works[index(.first, i, units)]
                let update = capacity.firstUpdate(units, i)
                guard fits(update, work, units, i, place, .first),
                    isSent(update, work, units, .first, i, place)
                else { break }
                ways[((1 << i) * count + i) * width + units] = update + work.own
            }
        }
        for set in 1..<1 << count where wanted[set] && set.nonzeroBitCount < stages {
            for last in 0..<count where set & 1 << last != 0 {
                let start = (set * count + last) * width
                for next in 0..<count where set & 1 << next == 0 && wanted[set | 1 << next] {
                    extend(set, last, start, next, place)
                }
            }
        }
    }

    /// By set: whether it, or more peers with it, may be a pipeline of that share and is not known to be.
    private func wanted(_ share: Int, _ stages: Int) -> [Bool] {
        var wanted = shares.indices.map { set in
            set.nonzeroBitCount <= stages && shares[set] < share && (bounds.isEmpty || bounds[set] >= share)
        }
        for i in 0..<count {
            for set in wanted.indices where set & 1 << i == 0 && wanted[set | 1 << i] { wanted[set] = true }
        }
        return wanted
    }

    /// Every pipeline of `set` that ends at `last`, with one more stage.
    private mutating func extend(_ set: Int, _ last: Int, _ start: Int, _ next: Int, _ place: Int) {
        let hop = hops[last * count + next]
        let ends = Int(capacity.most[capacity.index(.last, place) + next])
        let middle = Int(capacity.most[capacity.index(.middle, place) + next])
        let width = blocks + 1
        let larger = set | 1 << next
        let isNew =
            shares[larger] < capacity.shares[place] && (bounds.isEmpty || bounds[larger] >= capacity.shares[place])
        let target = (larger * count + next) * width
        for held in 0...blocks {
            let way = ways[start + held] + hop
            guard way < capacity.step else { continue }
            if isNew, ends >= blocks - held {
                let work = works[index(.last, next, blocks - held)]
                if fits(way, work, blocks, next, place, .last),
                    isSent(way, work, blocks - held, .last, next, place)
                {
                    shares[larger] = capacity.shares[place]
                }
            }
            // A middle stage holds one block at least.
            guard middle > 0, held < blocks else { continue }
            for units in 1...min(middle, blocks - held) {
                let work = works[index(.middle, next, units)]
                guard fits(way, work, held + units, next, place, .middle),
                    isSent(way, work, units, .middle, next, place)
                else { break }
                ways[target + held + units] = min(ways[target + held + units], way + work.own)
            }
        }
    }

    /// Whether a step with such a stage, `way` before it and `held` blocks with it, may be short enough.
    private func fits(
        _ way: Double, _ work: Work, _ held: Int, _ i: Int, _ place: Int, _ role: StageCapacity.Role
    ) -> Bool {
        let limit = capacity.step * (1 + 1e-9)
        let n = microBatches(place)
        if work.pause > most * (1 + 1e-9) || way + n * work.own > limit { return false }
        let rest = role == .last ? 0 : capacity.forwardsAtBest(blocks - held)
        if way + work.own + rest + (n - 1) * max(work.pause, least) > limit { return false }
        guard role == .middle else { return true }
        let host = capacity.peers[i]
        let line = capacity.activation / min(capacity.cost.ups[host], capacity.cost.downs[host])
        return way + (2 * n - 1) * line <= limit
    }

    /// Whether the stage may be done with a round's steps in time. All validations come to it before the first step does, and go first; all steps
    /// but the last one are no shorter than `way` and its own work; the last one's way back need not be over when it has done its part.
    private func isSent(
        _ way: Double, _ work: Work, _ units: Int, _ role: StageCapacity.Role, _ i: Int, _ place: Int
    ) -> Bool {
        let (n, steps) = (microBatches(place), Double(capacity.pacing.innerSteps))
        let trained = (steps - 1) * way + steps * n * work.own
        return trained * (1 - 1e-9) <= limits[index(role, i, units)]
    }

    // MARK: several pipelines

    /// Whether disjoint sets have shares that add up to the batch.
    private mutating func isEnough() -> Bool {
        let all = capacity.cost.job.virtualPipelines
        // What a set can do, more peers can.
        for i in 0..<count {
            for set in shares.indices where set & 1 << i != 0 { shares[set] = max(shares[set], shares[set ^ 1 << i]) }
        }
        if capacity.pipelines == 1 { return shares[shares.count - 1] >= all }
        var best = shares
        for _ in 1..<capacity.pipelines {
            var next = [Int](repeating: 0, count: shares.count)
            for set in 1..<shares.count {
                // The lowest peer is in the new pipeline, or in none: what is left over is in no pipeline's way.
                var part = (set - 1) & set
                while part > 0 {
                    let rest = set ^ part
                    if shares[part] > 0, best[rest] > 0 { next[set] = max(next[set], shares[part] + best[rest]) }
                    part = (part - 1) & set
                }
            }
            best = next
        }
        return best[best.count - 1] >= all
    }
}
