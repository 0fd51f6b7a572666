internal import Primitives
internal import Topologies

/// Improves whole plans by every small change that has a name: what is judged is the job's time, exchange and all, and not
/// one pipeline's step. Descends to the first better neighbour, in a fixed order, until there is none or the budget is spent.
struct PlanPolish {
    let cost: CostModel
    let pacing: Pacing
    let peers: [Int]
    /// What changing to these lanes costs, in seconds.
    let change: @Sendable ([Lane]) -> Double
    var builder: PipelineBuilder
    var runs: [LaneRunKey: LaneRun] = [:]
    private(set) var evaluations = 0
    private var lanes: [Lane] = []
    private var best = Double.infinity
    private var budget = 0
    /// Whether only the pipeline that ends last is changed: where there are many, no other can help.
    private let focused: Bool
    /// Whether plans are judged by closed forms.
    private let estimates: Bool
    private var slowest = 0

    init(
        cost: CostModel, pacing: Pacing, peers: [Int], builder: PipelineBuilder, focused: Bool = false,
        estimates: Bool = false, change: @escaping @Sendable ([Lane]) -> Double
    ) {
        self.focused = focused
        self.estimates = estimates
        self.cost = cost
        self.pacing = pacing
        self.peers = peers
        self.builder = builder
        self.change = change
    }

    /// In the order in which plans list pipelines.
    static func ordered(_ lanes: [Lane]) -> [Lane] { lanes.sorted { ($0.hosts.min() ?? 0) < ($1.hosts.min() ?? 0) } }

    private var last = 0

    mutating func score(_ lanes: [Lane]) -> Double { score(lanes, below: .infinity) }

    /// Infinite where training alone takes the job to `limit`: then its exchange is not looked at.
    private mutating func score(_ lanes: [Lane], below limit: Double) -> Double {
        evaluations += 1
        let more = change(lanes)
        let judged =
            estimates
            ? cost.estimatedRound(lanes, pacing) : cost.round(lanes, pacing, &runs, more: more, below: limit)
        guard let round = judged else { return .infinity }
        last = round.slowest
        return cost.score(cost.totalSeconds(round, lanes, pacing), lanes) + more
    }

    /// - Parameter evaluations: whole plans judged, at most.
    mutating func improve(_ start: [Lane], evaluations limit: Int) -> (lanes: [Lane], score: Double) {
        lanes = PlanPolish.ordered(start)
        best = score(lanes)
        slowest = last
        budget = limit
        var improved = true
        while improved, budget > 0 {
            improved = false
            // Cheap changes to the end before those that take pipelines apart.
            if withinLanes() || betweenLanes() || rebuilding() { improved = true }
        }
        return (lanes, best)
    }

    /// Descends again and again from the best plan with two or three random changes made to it, until `limit` plans have been judged.
    mutating func kicked(_ start: [Lane], score: Double, seed: UInt64, evaluations limit: Int) -> (
        lanes: [Lane], score: Double
    ) {
        var random = SeededGenerator(seed: seed, stream: 0x1C5)
        var found = (lanes: PlanPolish.ordered(start), score: score)
        let end = evaluations + limit
        var fruitless = 0
        while evaluations < end, fruitless < 24 {
            guard let next = shaken(found.lanes, &random) else { break }
            let descended = improve(next, evaluations: min(400, end - evaluations))
            if descended.score < found.score * (1 - 1e-12) {
                found = descended
                fruitless = 0
            } else {
                fruitless += 1
            }
        }
        return found
    }

    /// Peers change places between pipelines, go to another one, come in or leave.
    private mutating func shaken(_ start: [Lane], _ random: inout SeededGenerator) -> [Lane]? {
        for _ in 0..<50 {
            lanes = start
            for _ in 0..<2 + random.below(2) {
                let a = random.below(lanes.count)
                let b = random.below(lanes.count)
                let s = random.below(lanes[a].hosts.count)
                let t = random.below(lanes[b].hosts.count)
                let free = spares
                switch random.below(5) {
                case 0 where !free.isEmpty: lanes[a].hosts[s] = free[random.below(free.count)]
                case 1 where !free.isEmpty:
                    lanes[a].hosts.insert(free[random.below(free.count)], at: s)
                case 2 where lanes[a].hosts.count > 1: lanes[a].hosts.remove(at: s)
                case 3 where a != b && lanes[a].hosts.count > 1:
                    lanes[b].hosts.insert(lanes[a].hosts.remove(at: s), at: t)
                default: (lanes[a].hosts[s], lanes[b].hosts[t]) = (lanes[b].hosts[t], lanes[a].hosts[s])
                }
                if a != b, lanes[a].share > 1, random.below(2) == 0 {
                    lanes[a].share -= 1
                    lanes[b].share += 1
                }
            }
            let fixed = cost.givenStages
            let whole = lanes.compactMap { lane -> Lane? in
                if lane.hosts.count > cost.model.unitCount { return nil }
                if let fixed, lane.hosts.count != fixed { return nil }
                var lane = lane
                lane.cuts = [Int](repeating: 0, count: lane.hosts.count)
                return recut(lane)
            }
            if whole.count == start.count, whole != start { return whole }
        }
        return nil
    }

    /// Takes the neighbour if it is better.
    private mutating func take(_ candidate: [Lane?]) -> Bool {
        guard budget > 0 else { return false }
        var next: [Lane] = []
        for lane in candidate {
            guard let lane else { return false }
            next.append(lane)
        }
        budget -= 1
        next = PlanPolish.ordered(next)
        let value = score(next, below: best)
        guard value < best * (1 - 1e-12) else { return false }
        best = value
        lanes = next
        slowest = last
        return true
    }
    private mutating func take(_ lane: Lane?, for p: Int) -> Bool {
        var next: [Lane?] = lanes
        next[p] = lane
        return take(next)
    }

    /// The lane with the deepest in-flight that fits, up to what it has; nil when none does. Those stages may recompute that do; any
    /// stage where it does not fit otherwise, or `anywhere`.
    func fitted(_ lane: Lane, anywhere: Bool = false) -> Lane? {
        var lane = lane
        let last = lane.hosts.count - 1
        lane.inFlight = last == 0 ? 1 : min(lane.inFlight, lane.share * pacing.microBatchesPerVirtual)
        let deepest = lane
        while true {
            if let fitting = cost.fitting(lane, rounds: pacing.usesRounds, anywhere: anywhere) { return fitting }
            if lane.inFlight == 1 { return anywhere ? nil : fitted(deepest, anywhere: true) }
            lane.inFlight -= max(1, lane.inFlight / 8)
        }
    }
    func deepest(_ lane: Lane, anywhere: Bool = false) -> Lane? {
        var lane = lane
        lane.inFlight = lane.share * pacing.microBatchesPerVirtual
        return fitted(lane, anywhere: anywhere)
    }
    private var spares: [Int] {
        let used = Set(lanes.flatMap(\.hosts))
        return peers.filter { !used.contains($0) }
    }

    // MARK: one pipeline

    /// Cuts, order, depth.
    private mutating func withinLanes() -> Bool {
        if focused { return within(slowest) }
        var any = false
        var index = 0
        while index < lanes.count {
            if within(index) { any = true } else { index += 1 }
            if budget <= 0 { break }
        }
        return any
    }
    private mutating func within(_ p: Int) -> Bool {
        let lane = lanes[p]
        let count = lane.hosts.count
        guard count > 1 else { return false }
        let most = lane.share * pacing.microBatchesPerVirtual
        for depth in [lane.inFlight - 1, lane.inFlight + 1, lane.inFlight / 2, lane.inFlight * 2, most]
        where depth >= 1 && depth <= most && depth != lane.inFlight {
            var next = lane
            next.inFlight = depth
            if take(cost.fitting(next, rounds: pacing.usesRounds, anywhere: false), for: p) { return true }
        }
        if cost.givenRecompute == nil {
            if let next = deepest(lane, anywhere: true), next.recompute != lane.recompute, take(next, for: p) {
                return true
            }
            for s in 0..<count where flipped(p, s) { return true }
        }
        for boundary in 0..<count - 1 {
            for shift in [-1, 1, -2, 2] {
                guard let next = shifted(lane, boundary, by: shift) else { continue }
                if take(fitted(next), for: p) || take(deepest(next), for: p) { return true }
            }
        }
        // One unit from one end of the pipeline to the other: all cuts between move along.
        for a in 0..<count - 1 {
            for b in a + 1..<max(a + 1, count - 1) {
                for shift in [-1, 1] {
                    var next = lane
                    for boundary in a...b { next.cuts[boundary] += shift }
                    if isCut(next), take(fitted(next), for: p) { return true }
                }
            }
        }
        for a in 0..<count {
            for b in a + 1..<max(a + 1, count) {
                var next = lane
                next.hosts.swapAt(a, b)
                if take(fitted(next), for: p) || take(deepest(next), for: p) || take(recut(next), for: p) {
                    return true
                }
            }
        }
        if count > 2 {
            for a in 0..<count {
                for b in 0..<count where b != a && b != a - 1 {
                    var next = lane
                    next.hosts.insert(next.hosts.remove(at: a), at: b)
                    if take(recut(next), for: p) { return true }
                }
            }
        }
        return false
    }
    /// One stage recomputes, so that more may be in flight or it may hold a unit more; or none of that any longer.
    private mutating func flipped(_ p: Int, _ s: Int) -> Bool {
        let lane = lanes[p]
        var next = lane
        if next.recompute.isEmpty { next.recompute = [Bool](repeating: false, count: lane.hosts.count) }
        next.recompute[s].toggle()
        if !next.recompute[s] { return take(fitted(next), for: p) }
        var found: [Lane?] = [deepest(next)]
        if s > 0 { found.append(shifted(next, s - 1, by: -1).flatMap { fitted($0) }) }
        if s < lane.hosts.count - 1 { found.append(shifted(next, s, by: 1).flatMap { fitted($0) }) }
        for case let flipped? in found where flipped.recomputes(s) {
            if take(flipped, for: p) { return true }
        }
        return false
    }
    private func shifted(_ lane: Lane, _ boundary: Int, by shift: Int) -> Lane? {
        var lane = lane
        lane.cuts[boundary] += shift
        return isCut(lane) ? lane : nil
    }
    private func isCut(_ lane: Lane) -> Bool {
        lane.cuts[0] > 0 && zip(lane.cuts, lane.cuts.dropFirst()).allSatisfy { $0 < $1 }
            && lane.cuts[lane.cuts.count - 1] == cost.model.unitCount
    }
    /// Cut evenly, at the lane's depth or the deepest that fits.
    func recut(_ lane: Lane) -> Lane? {
        recut(lane, anywhere: false) ?? (cost.givenRecompute == nil ? recut(lane, anywhere: true) : nil)
    }
    /// With any stage recomputing, or only those that the job asks for.
    private func recut(_ lane: Lane, anywhere: Bool) -> Lane? {
        var lane = lane
        lane.recompute = []
        var depth = lane.share * pacing.microBatchesPerVirtual
        while depth >= 1 {
            if let cuts = builder.cut(lane.hosts, depth: depth, recompute: anywhere) {
                (lane.cuts, lane.inFlight) = (cuts, lane.hosts.count == 1 ? 1 : depth)
                return fitted(lane, anywhere: anywhere)
            }
            depth /= 2
        }
        return nil
    }

    // MARK: several pipelines

    /// Shares of the batch; peers who change places, are left out or come in, cuts staying.
    private mutating func betweenLanes() -> Bool {
        let givers = focused ? slowest..<slowest + 1 : lanes.indices
        for a in givers where lanes[a].share > 1 {
            for b in lanes.indices where b != a {
                var (less, more) = (lanes[a], lanes[b])
                less.share -= 1
                more.share += 1
                var next: [Lane?] = lanes
                next[a] = fitted(less)
                next[b] = fitted(more)
                if take(next) { return true }
                next[b] = deepest(more)
                if take(next) { return true }
            }
        }
        let (giver, spares) = (givers, spares)
        for a in giver {
            for s in lanes[a].hosts.indices {
                for spare in spares {
                    var next = lanes[a]
                    next.hosts[s] = spare
                    if take(fitted(next), for: a) || take(recut(next), for: a) { return true }
                }
                for b in focused ? lanes.indices : lanes.indices.dropFirst(a + 1).indices where b != a {
                    for t in lanes[b].hosts.indices {
                        var (one, two) = (lanes[a], lanes[b])
                        (one.hosts[s], two.hosts[t]) = (two.hosts[t], one.hosts[s])
                        var next: [Lane?] = lanes
                        next[a] = fitted(one)
                        next[b] = fitted(two)
                        if take(next) { return true }
                        next[a] = recut(one)
                        next[b] = recut(two)
                        if take(next) { return true }
                    }
                }
            }
        }
        return false
    }

    /// Stages that come and go.
    private mutating func rebuilding() -> Bool {
        if cost.job.pipelines.value == nil, lanes.count > 1 {
            for a in lanes.indices {
                var rest = lanes
                let gone = rest.remove(at: a)
                for b in rest.indices {
                    var next: [Lane?] = rest
                    var more = rest[b]
                    more.share += gone.share
                    next[b] = deepest(more)
                    if take(next) { return true }
                }
            }
        }
        guard cost.givenStages == nil else { return false }
        let takers = focused ? slowest..<slowest + 1 : lanes.indices
        for a in takers where lanes[a].hosts.count > 1 {
            for s in lanes[a].hosts.indices {
                var rest = lanes[a]
                let host = rest.hosts.remove(at: s)
                rest.cuts.remove(at: s == lanes[a].hosts.count - 1 ? s - 1 : s)
                if !rest.recompute.isEmpty { rest.recompute.remove(at: s) }
                if take(fitted(rest), for: a) || take(deepest(rest), for: a) || take(recut(rest), for: a) {
                    return true
                }
                for b in lanes.indices where b != a {
                    for longer in longer(lanes[b], with: host) {
                        var next: [Lane?] = lanes
                        next[a] = recut(rest)
                        next[b] = longer
                        if take(next) { return true }
                    }
                }
            }
        }
        for spare in spares {
            for a in takers {
                for longer in longer(lanes[a], with: spare) where take(longer, for: a) { return true }
            }
        }
        return false
    }
    /// The lane with one more peer at every place, cut evenly.
    private func longer(_ lane: Lane, with host: Int) -> [Lane] {
        guard lane.hosts.count < cost.model.unitCount else { return [] }
        return (0...lane.hosts.count).compactMap { place in
            var next = lane
            next.hosts.insert(host, at: place)
            next.cuts.append(cost.model.unitCount)
            return recut(next)
        }
    }
}
