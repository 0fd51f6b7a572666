internal import Primitives
internal import Topologies

/// Makes the best pipeline out of a set of peers: their order, where the layers are cut, how many micro-batches are in flight.
///
/// Orders are tried (all of them for up to three peers, chains of nearest neighbours beyond), cuts come from dynamic
/// programming over the slowest stage and are then moved one unit at a time, and every candidate is judged by simulation;
/// `coarse` ones by closed forms, their cuts found by bisection. Results are remembered, so that a search that changes one
/// pipeline pays for one.
struct PipelineBuilder {
    struct Built: Hashable, Sendable {
        var lane: Lane
        /// One inner step in its steady state.
        var stepSeconds: Double
    }
    /// All that pipelines depend on beside the peers, their share and the cost model.
    struct Frame: Hashable, Sendable {
        var usesRounds: Bool
        var activations: Codec
        var microBatches: Int
        init(_ pacing: Pacing) {
            usesRounds = pacing.usesRounds
            activations = pacing.activations
            microBatches = pacing.microBatchesPerVirtual
        }
    }
    private struct Key: Hashable {
        var hosts: [Int]
        var share: Int
        func hash(into hasher: inout Hasher) { hasher.combine(hosts.mixed(share)) }
    }
    let cost: CostModel
    let pacing: Pacing
    private var memory: [Key: Built?] = [:]
    /// Events simulated so far, about: what a search's budget is counted in.
    private(set) var work = 0
    let coarse: Bool

    init(cost: CostModel, pacing: Pacing, coarse: Bool = false) {
        self.cost = cost
        self.pacing = pacing
        self.coarse = coarse
    }

    /// nil when these peers cannot hold the model, or are more than there are units.
    mutating func best(_ hosts: [Int], share: Int) -> Built? {
        let key = Key(hosts: hosts.sorted(), share: share)
        if let known = memory[key] { return known }
        let built = build(key.hosts, share: share)
        memory[key] = built
        return built
    }

    private mutating func build(_ hosts: [Int], share: Int) -> Built? {
        guard !hosts.isEmpty, hosts.count <= cost.model.unitCount else { return nil }
        if let stages = cost.givenStages, stages != hosts.count { return nil }
        if coarse || hosts.count > PipelineBuilder.mostStagesInDetail { return buildLong(hosts, share: share) }
        var best: Built?
        for order in orders(hosts) {
            for anywhere in ways(order, microBatches: share * pacing.microBatchesPerVirtual) {
                var idle = 0
                var before: Lane?
                for depth in depths(microBatches: share * pacing.microBatchesPerVirtual, stages: order.count) {
                    let deeper = before.flatMap { deepened($0, to: depth, recompute: anywhere) }
                    guard let lane = deeper ?? lane(order, share: share, depth: depth, recompute: anywhere) else {
                        break
                    }
                    before = lane
                    // Without any recomputation it was looked at before.
                    if anywhere, lane.recompute.isEmpty { continue }
                    let limit = (best?.stepSeconds ?? .infinity) * 0.998
                    if let seconds = step(lane, below: limit) {
                        best = Built(lane: lane, stepSeconds: seconds)
                        idle = 0
                    } else {
                        idle += 1
                        if idle == 2 { break }
                    }
                }
            }
        }
        guard let best else { return nil }
        return recut(best)
    }

    /// Whether stages may recompute: first as few as can be; then any, where memory keeps a peer from holding all units with all
    /// micro-batches in flight.
    private func ways(_ hosts: [Int], microBatches: Int) -> [Bool] {
        guard cost.givenRecompute == nil else { return [false] }
        let most = cost.memory(
            cost.model.allUnits, rounds: pacing.usesRounds, kept: hosts.count == 1 ? 1 : microBatches)
        return hosts.allSatisfy { most <= cost.memories[$0] } ? [false] : [false, true]
    }

    /// The lane at a greater depth, where all its stages still fit as they are: then no other cut is better there, because what fits
    /// at one depth fits at every smaller one.
    private func deepened(_ lane: Lane, to depth: Int, recompute: Bool) -> Lane? {
        var lane = lane
        lane.inFlight = depth
        for s in lane.hosts.indices {
            let again = cost.recompute(
                lane.units(s), on: lane.hosts[s], rounds: pacing.usesRounds, kept: cost.kept(lane, s),
                allowed: recompute)
            if again != lane.recomputes(s) { return nil }
        }
        return lane
    }

    /// The best cut of these peers at that depth; nil when they cannot hold the model.
    func lane(_ hosts: [Int], share: Int, depth: Int, recompute: Bool) -> Lane? {
        guard let cuts = cut(hosts, depth: depth, recompute: recompute) else { return nil }
        let lane = Lane(hosts: hosts, cuts: cuts, share: share, inFlight: depth)
        if !recompute, cost.givenRecompute != true { return lane }
        return cost.fitting(lane, rounds: pacing.usesRounds, anywhere: recompute)
    }

    /// Beyond this many stages simulations are spent on two depths only, and cuts of long steps stay as computed.
    static let mostStagesInDetail = 5

    /// A long pipeline: the chain of nearest neighbours, with the deepest depth that memory allows and with half of it.
    private mutating func buildLong(_ hosts: [Int], share: Int) -> Built? {
        let order = coarse ? chain(hosts) : orders(hosts)[0]
        let depths = depths(microBatches: share * pacing.microBatchesPerVirtual, stages: order.count)
        var best: Built?
        for anywhere in ways(order, microBatches: share * pacing.microBatchesPerVirtual) {
            // The deepest that fits: what fits at one depth fits at every smaller one.
            var (fits, fails) = (-1, depths.count)
            while fails - fits > 1 {
                let middle = fits < 0 ? 0 : (fits + fails) / 2
                let found = bisected(order, depth: depths[middle], recompute: anywhere, exactly: false)
                if found != nil { fits = middle } else { fails = middle }
            }
            guard fits >= 0, let deepest = lane(order, share: share, depth: depths[fits], recompute: anywhere),
                !anywhere || !deepest.recompute.isEmpty
            else { continue }
            let built = Built(lane: deepest, stepSeconds: step(deepest))
            if built.stepSeconds < (best?.stepSeconds ?? .infinity) * (anywhere ? 0.998 : 1) { best = built }
            if fits >= 2, let half = lane(order, share: share, depth: depths[fits / 2], recompute: anywhere) {
                let built = Built(lane: half, stepSeconds: step(half))
                if built.stepSeconds < (best?.stepSeconds ?? .infinity) { best = built }
            }
        }
        guard let best else { return nil }
        return !coarse && share * pacing.microBatchesPerVirtual * order.count <= 64 ? recut(best) : best
    }

    /// In-flight depths worth trying, ascending.
    private func depths(microBatches: Int, stages: Int) -> [Int] {
        if stages == 1 { return [1] }
        var all: [Int] = []
        var depth = 1
        while depth < microBatches {
            all.append(depth)
            depth = depth < 4 ? depth + 1 : depth + depth / 2
        }
        return all + [microBatches]
    }

    private mutating func step(_ lane: Lane) -> Double { step(lane, below: .infinity) ?? .infinity }

    /// nil when a step takes `limit` seconds or longer; where arithmetic alone tells that, nothing is simulated.
    private mutating func step(_ lane: Lane, below limit: Double) -> Double? {
        if coarse {
            work += lane.hosts.count
            let seconds = cost.estimatedStep(lane, pacing)
            return seconds < limit ? seconds : nil
        }
        let (steps, microBatches) = (2, lane.share * pacing.microBatchesPerVirtual)
        work += 6 * steps * lane.hosts.count * microBatches
        // A little less, because sums are rounded in another order.
        let least = PipelineSimulator.leastStep(cost.timings(lane, pacing, norms: false), microBatches: microBatches)
        if least * (1 - 1e-9) >= limit { return nil }
        return PipelineSimulator.secondStep(cost.timings(lane, pacing), microBatches: microBatches, below: limit)
    }

    /// Moves single units between neighbours as long as the simulated step gets shorter.
    private mutating func recut(_ built: Built) -> Built {
        var best = built
        var improved = best.lane.hosts.count > 1
        var passes = 0
        while improved, passes < 4 {
            improved = false
            passes += 1
            for boundary in 0..<best.lane.hosts.count - 1 {
                for shift in [-1, 1] {
                    var lane = best.lane
                    lane.cuts[boundary] += shift
                    let below = boundary == 0 ? 0 : lane.cuts[boundary - 1]
                    guard lane.cuts[boundary] > below, lane.cuts[boundary] < lane.cuts[boundary + 1],
                        let lane = cost.fitting(lane, rounds: pacing.usesRounds, anywhere: !lane.recompute.isEmpty)
                    else { continue }
                    if let seconds = step(lane, below: best.stepSeconds * 0.9999) {
                        best = Built(lane: lane, stepSeconds: seconds)
                        improved = true
                    }
                }
            }
        }
        return best
    }

    /// The contiguous cut with the shortest slowest stage among those that fit every peer's memory; with `recompute`, any stage may
    /// recompute that fits no other way.
    func cut(_ hosts: [Int], depth: Int, recompute: Bool = false) -> [Int]? {
        if coarse || hosts.count > PipelineBuilder.mostStagesInDetail {
            return bisected(hosts, depth: depth, recompute: recompute)
        }
        let units = cost.model.unitCount
        let stages = hosts.count
        // slowest[u]: the best possible slowest stage when the stages so far hold units 0..<u.
        var slowest = [Double](repeating: .infinity, count: units + 1)
        slowest[0] = 0
        var from = [[Int]](repeating: [Int](repeating: -1, count: units + 1), count: stages)
        for s in 0..<stages {
            let speed = cost.speeds[hosts[s]]
            var next = [Double](repeating: .infinity, count: units + 1)
            let kept = cost.kept(s, of: stages, depth: depth)
            for start in s..<units where slowest[start].isFinite {
                for end in (s == stages - 1 ? units : start + 1)...units {
                    if units - end < stages - 1 - s { break }
                    guard
                        let again = cost.recompute(
                            start..<end, on: hosts[s], rounds: pacing.usesRounds, kept: kept, allowed: recompute)
                    else {
                        if s == stages - 1 { continue }
                        break
                    }
                    let own = cost.work(start..<end, recompute: again) / speed
                    let time = max(slowest[start], own)
                    if time < next[end] {
                        next[end] = time
                        from[s][end] = start
                    }
                }
            }
            slowest = next
        }
        guard slowest[units].isFinite else { return nil }
        var cuts = [Int](repeating: units, count: stages)
        var end = units
        for s in stride(from: stages - 1, through: 0, by: -1) {
            cuts[s] = end
            end = from[s][end]
        }
        return cuts
    }

    /// The same by bisection over the slowest stage's time: for a given limit each stage takes as many units as it may.
    /// Not `exactly`: the first cut that fits, however slow.
    private func bisected(_ hosts: [Int], depth: Int, recompute: Bool, exactly: Bool = true) -> [Int]? {
        let units = cost.model.unitCount
        let last = hosts.count - 1
        var cuts = [Int](repeating: 0, count: hosts.count)
        // Blocks are alike: how many fit is guessed from one of them, and the guess is put right at the ends.
        let middle = min(1, units - 1)..<min(1, units - 1) + 1
        let block = cost.flops(middle)
        let again = cost.givenRecompute ?? recompute
        let one = cost.memory(middle, rounds: pacing.usesRounds, kept: depth, recompute: again)
        let two = units > 4 ? cost.memory(1..<3, rounds: pacing.usesRounds, kept: depth, recompute: again) : 2 * one
        let each = max(1, two - one)
        let most = hosts.map { 1 + max(0, cost.memories[$0] - one) / each }
        func fill(_ limit: Double, _ cuts: inout [Int]) -> Bool {
            var start = 0
            for (s, index) in hosts.enumerated() {
                let budget = limit * cost.speeds[index]
                let bound = units - (last - s)
                func holds(_ end: Int) -> Bool {
                    guard cost.work(start..<end, recompute: false) <= budget,
                        let again = cost.recompute(
                            start..<end, on: index, rounds: pacing.usesRounds,
                            kept: cost.kept(s, of: hosts.count, depth: depth),
                            allowed: recompute)
                    else { return false }
                    return !again || cost.work(start..<end, recompute: true) <= budget
                }
                var end = min(bound, start + min(most[s], Int(min(budget / block, Double(units)))))
                if end < start { return false }
                while end > start, !holds(end) { end -= 1 }
                while end < bound, holds(end + 1) { end += 1 }
                if end == start { return false }
                cuts[s] = end
                start = end
            }
            return start == units
        }
        let slowest = hosts.map { cost.speeds[$0] }.min() ?? 1
        let all = hosts.reduce(0.0) { $0 + cost.speeds[$1] }
        var high = cost.flops(cost.model.allUnits) * (again ? CostModel.again : 1) / slowest
        if cost.isRing(stages: hosts.count) { high *= 4 / 3 }
        guard fill(high * 1.000001, &cuts) else { return nil }
        guard exactly else { return cuts }
        // No limit below an even share works.
        var low = cost.flops(cost.model.allUnits) / all
        var trial = cuts
        for _ in 0..<40 where high - low > high * 1e-4 {
            let middle = (low + high) / 2
            if fill(middle, &trial) {
                cuts = trial
                high = middle
            } else {
                low = middle
            }
        }
        return cuts
    }

    // MARK: the order of the stages

    /// A chain of nearest neighbours from the first of the peers: linear where many are at one place.
    private func chain(_ hosts: [Int]) -> [Int] { chain(from: hosts[0], hosts) }

    private func orders(_ hosts: [Int]) -> [[Int]] {
        if hosts.count <= 3 { return permutations(hosts) }
        var found: [[Int]] = []
        // From every peer the chain of nearest neighbours; the shortest few of them, in both directions.
        var chains = hosts.map { chain(from: $0, hosts) }
        chains.sort { (length($0), $0[0]) < (length($1), $1[0]) }
        for chain in chains.prefix(hosts.count > PipelineBuilder.mostStagesInDetail ? 1 : 3) {
            for order in [chain, Array(chain.reversed())] where !found.contains(order) { found.append(order) }
        }
        return found
    }
    private func length(_ order: [Int]) -> Double {
        zip(order, order.dropFirst()).reduce(0) { $0 + cost.latency($1.0, $1.1) }
    }
    private func chain(from first: Int, _ hosts: [Int]) -> [Int] {
        var rest = hosts.filter { $0 != first }
        var order = [first]
        while !rest.isEmpty {
            var nearest = 0
            for i in rest.indices
            where cost.latency(order[order.count - 1], rest[i])
                < cost.latency(order[order.count - 1], rest[nearest])
            {
                nearest = i
            }
            order.append(rest.remove(at: nearest))
        }
        return order
    }
    private func permutations(_ items: [Int]) -> [[Int]] {
        if items.count <= 1 { return [items] }
        return items.indices.flatMap { i in
            var rest = items
            let first = rest.remove(at: i)
            return permutations(rest).map { [first] + $0 }
        }
    }
}
