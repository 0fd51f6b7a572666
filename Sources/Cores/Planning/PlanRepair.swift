internal import Primitives
internal import Topologies

/// A running plan some of whose peers are gone: what is left of it, and every way to mend it that has a name. A hole is filled
/// by a spare, by its neighbours, or by cutting the pipeline anew; or the pipeline is dropped and its share dealt out.
struct PlanRepair {
    /// What is left of a pipeline.
    struct Remnant {
        var hosts: [Int] = []
        var units: [Range<Int>] = []
        var recompute: [Bool] = []
        var share: Int
        var inFlight: Int
        /// Units that nobody holds, and before which of `hosts` they go.
        var gaps: [(place: Int, units: Range<Int>)] = []

        /// nil where a stage is missing.
        var lane: Lane? {
            if !gaps.isEmpty { return nil }
            return Lane(
                hosts: hosts, cuts: units.map(\.upperBound), share: share, inFlight: inFlight,
                recompute: recompute.contains(true) ? recompute : [])
        }
    }
    private let cost: CostModel
    private let pacing: Pacing
    private let peers: [Int]
    private(set) var remnants: [Remnant] = []
    private var polish: PlanPolish
    /// Starts that are improved, and the ways to mend one pipeline that are looked at for each.
    private static let kept = 3

    /// - Parameters: peers that are there; `pool` those that may come in beside the plan's own.
    init(
        _ plan: Plan, cost: CostModel, peers: [Int], pool: ([Lane]) -> [Int], focused: Bool,
        change: @escaping @Sendable ([Lane]) -> Double
    ) {
        self.cost = cost
        self.peers = peers
        pacing = cost.pacing(plan)
        var indices: [String: Int] = [:]
        for peer in peers { indices[cost.topology.hosts[peer].name] = peer }
        var used: Set<Int> = []
        for pipeline in plan.pipelines {
            var remnant = Remnant(share: pipeline.virtualPipelines.count, inFlight: max(1, pipeline.inFlight))
            var next = 0
            for stage in pipeline.stages {
                guard let peer = indices[stage.peer], stage.units.lowerBound >= next, !stage.units.isEmpty,
                    stage.units.upperBound <= cost.model.unitCount, used.insert(peer).inserted
                else { continue }
                if stage.units.lowerBound > next {
                    remnant.gaps.append((remnant.hosts.count, next..<stage.units.lowerBound))
                }
                remnant.hosts.append(peer)
                remnant.units.append(stage.units)
                remnant.recompute.append(stage.recompute)
                next = stage.units.upperBound
            }
            if next < cost.model.unitCount { remnant.gaps.append((remnant.hosts.count, next..<cost.model.unitCount)) }
            remnants.append(remnant)
        }
        let whole = remnants.compactMap(\.lane)
        let survivors = remnants.flatMap(\.hosts)
        polish = PlanPolish(
            cost: cost, pacing: pacing, peers: pool(whole) + survivors.filter { !whole.flatMap(\.hosts).contains($0) },
            builder: PipelineBuilder(cost: cost, pacing: pacing), focused: focused, change: change)
    }

    /// What the plan took before, scaled by what is lost: the share of the batch times the share of the units in each hole. nil where
    /// no pipeline is whole, and so nothing tells how quick it was.
    func scaled(_ before: [Lane]?) -> Double? {
        let lanes = before ?? remnants.compactMap(\.lane)
        if lanes.isEmpty { return nil }
        var lost = Double(cost.job.virtualPipelines - remnants.reduce(0) { $0 + $1.share })
        for remnant in remnants {
            let units = remnant.gaps.reduce(0) { $0 + $1.units.count }
            lost += Double(remnant.share) * Double(units) / Double(cost.model.unitCount)
        }
        let kept = 1 - lost / Double(cost.job.virtualPipelines)
        return kept > 0 ? score(lanes) / kept : nil
    }
    func score(_ lanes: [Lane]) -> Double {
        cost.score(cost.totalSeconds(cost.round(lanes, pacing), lanes, pacing), lanes)
    }

    /// Mended plans, best first, each improved by at most `evaluations` looks at whole plans; empty when nothing small helps.
    mutating func run(evaluations: Int) -> [(lanes: [Lane], score: Double)] {
        var found: [(lanes: [Lane], score: Double)] = []
        for lanes in starts() { found.append((lanes, polish.score(lanes))) }
        func sort() {
            let order = found.indices.sorted { (found[$0].score, $0) < (found[$1].score, $1) }
            found = order.map { found[$0] }.filter(\.score.isFinite)
        }
        sort()
        for start in found.prefix(PlanRepair.kept) {
            found.append(polish.improve(start.lanes, evaluations: evaluations))
        }
        sort()
        return found
    }

    // MARK: starts

    private mutating func starts() -> [[Lane]] {
        let whole = remnants.compactMap(\.lane)
        let hit = remnants.filter { $0.lane == nil }
        var loose = cost.job.virtualPipelines - remnants.reduce(0) { $0 + $1.share }
        // Mended one after the other: what one takes in is not there for the next.
        var taken: Set<Int> = Set(whole.flatMap(\.hosts))
        var mended: [Lane] = []
        var first: [Lane] = []
        for remnant in hit {
            let own = Set(remnants.flatMap(\.hosts))
            let ways = mend(remnant, spares: peers.filter { !taken.contains($0) && !own.contains($0) })
            guard let best = ways.first else {
                loose += remnant.share
                continue
            }
            if mended.isEmpty { first = ways }
            taken.formUnion(best.hosts)
            mended.append(best)
        }
        var found: [[Lane]] = []
        for way in first {
            // Another way for the first one may not take what a later one has.
            let rest = Array(mended.dropFirst())
            if !Set(way.hosts).isDisjoint(with: rest.flatMap(\.hosts)) { continue }
            if let lanes = dealt(whole + [way] + rest, loose) {
                found.append(lanes)
                if let even = evened(lanes) { found.append(even) }
            }
        }
        // With the holes: without the pipelines that have one.
        let all = cost.job.virtualPipelines - whole.reduce(0) { $0 + $1.share }
        if let lanes = dealt(whole, all) { found.append(lanes) }
        if let fixed = cost.job.pipelines.value { found.removeAll { $0.count != fixed } }
        if let fixed = cost.givenStages { found.removeAll { $0.contains { $0.hosts.count != fixed } } }
        return found
    }

    /// Ways to make the pipeline whole, the best by closed form first.
    private mutating func mend(_ remnant: Remnant, spares: [Int]) -> [Lane] {
        var ways: [(lane: Lane, seconds: Double)] = []
        func add(_ lane: Lane?) {
            guard let lane else { return }
            ways.append((lane, cost.estimatedStep(lane, pacing)))
        }
        for filled in filled(remnant, spares: spares) {
            add(polish.deepest(filled))
            add(polish.fitted(filled, anywhere: true))
            add(polish.recut(filled))
        }
        if !remnant.hosts.isEmpty {
            var closed = Lane(hosts: remnant.hosts, cuts: [], share: remnant.share, inFlight: remnant.inFlight)
            closed.cuts = [Int](repeating: 0, count: closed.hosts.count)
            add(polish.recut(closed))
            if remnant.gaps.count == 1 {
                let gap = remnant.gaps[0]
                for end in gap.units.lowerBound...gap.units.upperBound {
                    if gap.place == 0, end > gap.units.lowerBound { continue }
                    if gap.place == remnant.hosts.count, end < gap.units.upperBound { continue }
                    var lane = closed
                    lane.cuts = remnant.units.map(\.upperBound)
                    if gap.place > 0 { lane.cuts[gap.place - 1] = end }
                    if remnant.recompute.contains(true) { lane.recompute = remnant.recompute }
                    add(polish.deepest(lane))
                    add(polish.fitted(lane, anywhere: true))
                }
            }
        }
        let order = ways.indices.sorted { (ways[$0].seconds, $0) < (ways[$1].seconds, $1) }
        var lanes: [Lane] = []
        for index in order where !lanes.contains(ways[index].lane) { lanes.append(ways[index].lane) }
        return Array(lanes.prefix(2 * PlanRepair.kept))
    }

    /// Each gap given to a spare, one after the other: the few best by closed form.
    private mutating func filled(_ remnant: Remnant, spares: [Int]) -> [Lane] {
        var partial: [Remnant] = [remnant]
        for gap in remnant.gaps.indices.reversed() {
            let (place, units) = remnant.gaps[gap]
            var next: [(remnant: Remnant, seconds: Double)] = []
            for one in partial {
                for spare in spares where !one.hosts.contains(spare) {
                    let kept = place == one.hosts.count ? 1 : one.inFlight
                    // One that cannot hold all of it may still hold a part: cutting anew finds out.
                    let again = cost.recompute(
                        units, on: spare, rounds: pacing.usesRounds, kept: kept, allowed: true)
                    var filled = one
                    filled.hosts.insert(spare, at: place)
                    filled.units.insert(units, at: place)
                    filled.recompute.insert(again ?? false, at: place)
                    filled.gaps.removeAll { $0.place == place }
                    var lane = Lane(hosts: filled.hosts, cuts: [], share: one.share, inFlight: one.inFlight)
                    lane.cuts = filled.units.map(\.upperBound)
                    if filled.recompute.contains(true) { lane.recompute = filled.recompute }
                    next.append((filled, cost.estimatedStep(lane, pacing) * (again != nil ? 1 : 1.5)))
                }
            }
            let order = next.indices.sorted { (next[$0].seconds, $0) < (next[$1].seconds, $1) }
            partial = order.prefix(2 * PlanRepair.kept).map { next[$0].remnant }
        }
        return partial.compactMap(\.lane)
    }

    // MARK: shares

    /// `loose` virtual pipelines given one by one to whoever is then done first; nil when there is nobody.
    private mutating func dealt(_ lanes: [Lane], _ loose: Int) -> [Lane]? {
        if lanes.isEmpty { return nil }
        var lanes = lanes
        for _ in 0..<loose {
            var pick: (index: Int, lane: Lane, seconds: Double)?
            for index in lanes.indices {
                var more = lanes[index]
                more.share += 1
                guard let lane = polish.deepest(more) else { continue }
                let seconds = cost.estimatedStep(lane, pacing)
                if seconds < pick?.seconds ?? .infinity { pick = (index, lane, seconds) }
            }
            guard let pick else { return nil }
            lanes[pick.index] = pick.lane
        }
        return lanes
    }

    /// Shares moved from the slowest pipeline while that helps, by closed form; nil when it does not.
    private mutating func evened(_ lanes: [Lane]) -> [Lane]? {
        var (lanes, changed) = (lanes, false)
        for _ in 0..<cost.job.virtualPipelines {
            let seconds = lanes.map { cost.estimatedStep($0, pacing) }
            let slowest = seconds.indices.max { (seconds[$0], $1) < (seconds[$1], $0) } ?? 0
            guard lanes[slowest].share > 1 else { break }
            var rest = lanes
            rest[slowest].share -= 1
            rest[slowest].inFlight = min(rest[slowest].inFlight, rest[slowest].share * pacing.microBatchesPerVirtual)
            guard let next = dealt(rest, 1), next[slowest].share < lanes[slowest].share,
                next.allSatisfy({ cost.estimatedStep($0, pacing) < seconds[slowest] })
            else { break }
            (lanes, changed) = (next, true)
        }
        return changed ? lanes : nil
    }
}
