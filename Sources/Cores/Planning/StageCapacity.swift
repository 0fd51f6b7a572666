internal import Exchange
internal import Primitives
internal import Topologies

/// How many blocks each peer can hold at most, in a pipeline that computes a share of the batch within a round of given length: a
/// relaxation of every stage's memory, work, line and contribution, for one way of pacing and one number of pipelines.
///
/// Each figure below is at most what ``CostModel`` charges any plan; `docs/COST.md`, “Lower bound”, has the derivation.
struct StageCapacity {
    /// What a peer may be in a pipeline.
    enum Role: Int, CaseIterable { case single, first, middle, last }

    let cost: CostModel
    let peers: [Int]
    let pacing: Pacing
    /// M.
    let pipelines: Int
    /// L.
    let blocks: Int
    /// Shares of the batch that a pipeline may have, ascending. Below, a share is its place here.
    let shares: [Int]
    /// By role, share (from the least on) and peer: blocks at most; −1 where it cannot be that.
    private(set) var most: [Int32] = []
    /// The same, with nothing recomputed.
    private var mostPlain: [Int32] = []
    /// By share: stages of a pipeline at least.
    private(set) var stages: [Int] = []
    /// By share: seconds that the work on a micro-batch takes at least, on its way there and back through such a pipeline.
    private var work: [Double] = []

    private let ways: PeerWays
    private let forwards: PeerWork
    private let exchanging: ExchangeFloor
    /// Bytes.
    let activation: Double
    private let validations: Double
    private let mayOrMust: [Bool]
    /// Seconds that a step, and a round, take at most.
    private(set) var step = Double.infinity
    private var round = Double.infinity

    /// - Parameter hasOwners: whether the exchange goes over owners, or to all.
    init(_ cost: CostModel, _ peers: [Int], _ pacing: Pacing, pipelines: Int, hasOwners: Bool) {
        self.cost = cost
        self.peers = peers
        self.pacing = pacing
        self.pipelines = pipelines
        blocks = cost.model.layers
        let all = cost.job.virtualPipelines
        shares = pipelines == 1 ? [all] : Array(1...(all - pipelines + 1))
        activation = cost.activationBytes(pacing.activations)
        ways = PeerWays(cost, peers, activation: activation)
        forwards = PeerWork(cost, peers)
        exchanging = ExchangeFloor(
            cost, peers, pacing, pipelines: pipelines, hasOwners: hasOwners,
            earliest: ways.firstStart + ExchangeFloor.stepsBefore(pacing) * forwards.whole / forwards.greatestSpeed)
        validations = Double(cost.validationMicroBatches(pipelines: pipelines))
        mayOrMust = cost.givenRecompute.map { [$0] } ?? [false, true]
    }

    var isRing: Bool { cost.model.tieWordEmbeddings }
    private var givenStages: Int? { cost.givenStages }

    // MARK: a pipeline's time

    /// What pipelines of some share and so many stages have in time for one micro-batch's way there and back, and what peers take of it.
    struct Budget {
        var stages: Int
        var seconds: Double
        /// By peer: of a block; and of the ways to neighbours, in the middle and at an end (half of each way is the neighbour's).
        var block: [Double]
        var middle: [Double]
        var end: [Double]
    }
    var mostStages: Int { givenStages ?? min(peers.count, cost.model.unitCount) }
    func leastStages(_ share: Int) -> Int { stages[share] }

    /// nil where no pipeline of so many stages is quick enough.
    ///
    /// Let P be the work that a micro-batch takes on the first stages, there and back. A stage after these computes n micro-batches once the
    /// first has come to it, so that its own work is at most (t − P) ÷ n, and s stages come to t·(1 − (1 − 1/n)^s) at most. With
    /// the ways between stages they take no more than t.
    func budget(_ share: Int, stages: Int) -> Budget? {
        let step = self.step
        let count = Double(shares[share] * pacing.microBatchesPerVirtual)
        var left = 1.0
        for _ in 0..<min(stages, 4096) { left *= 1 - 1 / count }
        let ends = (forwards.whole - Double(blocks) * forwards.block) / forwards.greatestSpeed
        let isBound = Double(stages) * ways.hop < step * left
        let seconds = (isBound ? step * (1 - left) : step) - ends
        guard seconds > 0, step.isFinite else { return nil }
        let none = [Double](repeating: 0, count: peers.count)
        return Budget(
            stages: stages, seconds: seconds, block: forwards.blockSeconds, middle: isBound ? none : ways.middle,
            end: isBound ? none : ways.end)
    }

    // MARK: filling the table

    func index(_ role: Role, _ share: Int) -> Int {
        (role.rawValue * shares.count + share) * peers.count
    }

    /// What each peer can hold where a round takes `round` seconds at most: first with pipelines of two stages, then with as many stages
    /// and as long a way as what was found asks for.
    ///
    /// - Returns: whether any round is so short.
    mutating func fill(round: Double) -> Bool {
        if exchanging.earliest + exchanging.overOwners + ways.lastReport > round { return false }
        self.round = round
        // Of all steps none is longer than its part of the round.
        step = (round - ways.firstStart - ways.lastReport) / Double(pacing.innerSteps)
        stages = [Int](repeating: givenStages ?? 2, count: shares.count)
        let least = forwards.whole / forwards.greatestSpeed
        work = [Double](repeating: least, count: shares.count)
        for pass in 0..<2 {
            look(round: round)
            let before = (stages, work)
            tighten()
            if pass == 1 || (stages, work) == before { break }
        }
        return true
    }
    private mutating func look(round: Double) {
        most = [Int32](repeating: -1, count: Role.allCases.count * shares.count * peers.count)
        mostPlain = peers.count <= SubsetCertificate.mostPeers ? most : []
        for role in Role.allCases {
            if let givenStages, (givenStages == 1) != (role == .single) { continue }
            if givenStages == 2, role == .middle { continue }
            for i in peers.indices {
                var held = role == .single ? 0 : blocks
                for share in shares.indices {
                    // With a larger share a peer holds no more.
                    held = largest(held, role, i, share, round)
                    if held < 0 { break }
                    most[index(role, share) + i] = Int32(role == .single ? blocks : held)
                    if !mostPlain.isEmpty, mayOrMust.first == false {
                        mostPlain[index(role, share) + i] = Int32(
                            largest(held, role, i, share, round, recompute: [false]))
                    }
                }
            }
        }
    }
    /// At most `held`, by bisection after a first look; −1 where not even none fit.
    private func largest(
        _ held: Int, _ role: Role, _ i: Int, _ share: Int, _ round: Double, recompute: [Bool]? = nil
    ) -> Int {
        if fits(held, role, i, share, round, recompute) { return held }
        if held == 0 || !fits(0, role, i, share, round, recompute) { return -1 }
        var (low, high) = (0, held)
        while high - low > 1 {
            let middle = (low + high) / 2
            if fits(middle, role, i, share, round, recompute) { low = middle } else { high = middle }
        }
        return low
    }

    /// From what peers can hold: how many stages a pipeline has at least, and how long the work on a micro-batch takes.
    private mutating func tighten() {
        let (block, ends) = (forwards.block, forwards.whole - Double(blocks) * forwards.block)
        let order = peers.indices.sorted { (-cost.speeds[peers[$0]], $0) < (-cost.speeds[peers[$1]], $1) }
        for share in shares.indices {
            let place = share
            var held = [Int](repeating: 0, count: peers.count)
            for role in Role.allCases where role != .single {
                let start = index(role, share)
                for i in peers.indices { held[i] = max(held[i], Int(most[start + i])) }
            }
            var (left, count) = (blocks, 0)
            for blocks in held.sorted(by: >) where left > 0 && blocks > 0 {
                left -= blocks
                count += 1
            }
            if left > 0 {
                // No pipeline of several stages: what is assumed of one does not matter.
                stages[place] = max(stages[place], peers.count)
                continue
            }
            stages[place] = max(stages[place], givenStages ?? max(2, count))
            var seconds = ends / forwards.greatestSpeed
            left = blocks
            for i in order where left > 0 {
                let taken = min(left, held[i])
                seconds += Double(taken) * block / cost.speeds[peers[i]]
                left -= taken
            }
            work[place] = max(work[place], seconds)
        }
        // With a larger share a pipeline needs no fewer.
        for place in stages.indices.dropFirst() {
            stages[place] = max(stages[place], stages[place - 1])
            work[place] = max(work[place], work[place - 1])
        }
    }

    // MARK: one stage

    /// A micro-batch's forward, seconds.
    func forward(_ blocks: Int, _ role: Role, _ i: Int) -> Double {
        cost.flops(units(blocks, role)) / cost.speeds[peers[i]]
    }
    /// How many of these training on a micro-batch takes at least.
    func passes(_ blocks: Int, _ role: Role, _ i: Int, _ share: Int) -> Double {
        let isPlain = mayOrMust.first == false && blocks <= Int(mostPlain[index(role, share) + i])
        return CostModel.passes(recompute: !isPlain)
    }
    /// What a first stage's own optimizer step adds to each step.
    func firstUpdate(_ blocks: Int, _ i: Int) -> Double {
        if !pacing.usesRounds { return 0 }
        return (CostModel.updateFLOPs + CostModel.squareFLOPs) * cost.parameters(units(blocks, .first))
            / cost.speeds[peers[i]]
    }
    /// How long all steps of a round take a stage at most, so that what it does before and after them is done in time: its outer step and the
    /// validation, encoding, its report, and its contribution, where that does not go beside steps. Infinite where single steps are exchanged.
    func allSteps(_ blocks: Int, _ role: Role, _ i: Int, _ share: Int) -> Double {
        guard pacing.usesRounds else { return .infinity }
        let units = units(blocks, role)
        let parameters = cost.parameters(units) / cost.speeds[peers[i]]
        let validation = validations * cost.flops(units) / cost.speeds[peers[i]]
        let before = ways.starts[i] + cost.foldFLOPs(pipelines) * parameters + validation
        let left = round - before - CostModel.encodeFLOPs * parameters
        if pipelines == 1 || pacing.delay > 0 { return left - ways.reports[i] }
        return left - max(ways.reports[i], exchange(units, role, i, share, step).up + ways.relays[i])
    }
    /// Training on a micro-batch of so many blocks and the head, at the greatest speed.
    func forwardsAtBest(_ blocks: Int) -> Double {
        3 * cost.flops(units(blocks, .last)) / forwards.greatestSpeed
    }

    private func units(_ blocks: Int, _ role: Role) -> Range<Int> {
        switch role {
        case .single: 0..<cost.model.unitCount
        case .first: 0..<1 + blocks
        case .middle: 1..<1 + blocks
        case .last: cost.model.unitCount - 1 - blocks..<cost.model.unitCount
        }
    }

    /// Whether peer `i` can be that with so many blocks; false only where no plan lets it.
    private func fits(
        _ held: Int, _ role: Role, _ i: Int, _ share: Int, _ round: Double, _ recompute: [Bool]?
    ) -> Bool {
        if role == .middle, held == 0 { return true }
        let units = units(held, role)
        return (recompute ?? mayOrMust).contains { recompute in
            hasRoom(units, role, i, share, round, recompute)
                && seconds(units, role, i, share, recompute) * (1 - 1e-9) <= round
        }
    }
    private func hasRoom(
        _ units: Range<Int>, _ role: Role, _ i: Int, _ share: Int, _ round: Double, _ recompute: Bool
    ) -> Bool {
        var kept = 1
        if role != .single, role != .last || isRing {
            // A micro-batch is in flight from its first forward to its last backward: in a step so many are at least.
            let way = work[share] + Double(stages[share] - 1) * ways.hop
            let most = shares[share] * pacing.microBatchesPerVirtual
            let depth = Double(pacing.innerSteps * most) * way / round * (1 - 1e-9)
            kept = depth < Double(most) ? max(1, Int(depth.rounded(.up))) : most
        }
        return cost.memory(units, rounds: pacing.usesRounds, kept: kept, recompute: recompute)
            <= cost.memories[peers[i]]
    }

    /// A stage's part of a step and of what is around steps, in seconds.
    private struct Parts {
        /// All its work in a step; what any step of its pipeline takes.
        var own = 0.0
        var step = 0.0
        /// Outer step; encoding; the forwards of a validation.
        var fold = 0.0
        var encoding = 0.0
        var validation = 0.0
    }
    private func parts(_ units: Range<Int>, _ role: Role, _ i: Int, _ share: Int, _ recompute: Bool) -> Parts {
        let speed = cost.speeds[peers[i]]
        let count = Double(shares[share] * pacing.microBatchesPerVirtual)
        let forward = cost.flops(units) / speed
        // What a first stage lends takes four forwards, recomputed or not.
        let passes = CostModel.passes(recompute: recompute && !(isRing && role == .first))
        let parameters = cost.parameters(units) / speed
        var parts = Parts()
        parts.fold = cost.foldFLOPs(pipelines) * parameters
        parts.encoding = CostModel.encodeFLOPs * parameters
        parts.validation = validations * forward
        let update = (CostModel.updateFLOPs + CostModel.squareFLOPs) * parameters
        parts.own = count * passes * forward
        if role == .single {
            parts.own += update
            parts.step = parts.own
            return parts
        }
        let place = share
        let rest = max(0, cost.flops(cost.model.allUnits) - cost.flops(units))
        let compute = max(work[place], passes * forward + 3 * rest / forwards.greatestSpeed)
        let between = Double(max(0, stages[place] - (role == .middle ? 3 : 2))) * ways.hop
        let whole = compute + ways.hops[i] + (role == .middle ? ways.secondHops[i] : 0) + between
        let (up, down) = (activation / cost.ups[peers[i]], activation / cost.downs[peers[i]])
        // After the first micro-batch's way there and back: the backwards, or the gradients' bytes, of all others.
        parts.step = whole + (count - 1) * max((passes - 1) * forward, up)
        switch role {
        case .last: parts.step = max(parts.step, whole + (count - 1) * passes * forward, compute + count * down)
        case .first:
            parts.step = max(parts.step, parts.own, compute + count * down)
            if pacing.usesRounds { parts.step += update }
        default: parts.step = max(parts.step, ways.hops[i] + parts.own, (2 * count - 1) * max(up, down))
        }
        if !pacing.usesRounds { parts.own += update }
        return parts
    }

    /// A round in which the stage does its part, at least.
    private func seconds(_ units: Range<Int>, _ role: Role, _ i: Int, _ share: Int, _ recompute: Bool) -> Double {
        let parts = parts(units, role, i, share, recompute)
        let steps = Double(pacing.innerSteps)
        let before = ways.starts[i] + parts.fold
        guard pacing.usesRounds else {
            let ready = before + parts.own + parts.validation / Double(CostModel.validationEvery) + parts.encoding
            let least = max(ready + ways.reports[i], ways.firstStart + parts.step + ways.lastReport)
            guard pipelines > 1 else { return least }
            let (up, down) = exchange(units, role, i, share, parts.step)
            let received =
                (1 - exchanging.ratio) * ready + exchanging.ratio * (exchanging.earliest + down) + ways.reports[i]
            return max(least, ready + up + ways.relays[i], received)
        }
        let trained = max(before + parts.validation + steps * parts.own, ways.firstStart + steps * parts.step)
        let ended = trained + parts.encoding + ways.reports[i]
        guard pipelines > 1 else { return ended }
        let (up, down) = exchange(units, role, i, share, parts.step)
        let delay = Double(pacing.delay)
        var sent: Double
        if pacing.delay == 0 {
            sent = trained + parts.encoding + up
        } else if pacing.innerSteps - pacing.delay >= CostModel.simulatedSteps {
            sent = ways.firstStart + (steps - delay) * parts.step + parts.encoding + up
        } else {
            // The last steps may all be as long as the exchange needs to be hidden.
            let exact = Double(min(2, pacing.innerSteps - 1))
            sent =
                ways.firstStart + exact * parts.step + (steps - exact)
                * max(parts.step, (parts.step + up) / (delay + 1))
        }
        sent += ways.relays[i]
        let least = ExchangeFloor.stepsBefore(pacing) * parts.step
        let received =
            (1 - exchanging.ratio) * (ways.firstStart + least) + exchanging.ratio * (exchanging.earliest + down)
            + ways.reports[i]
        return max(ended, sent, received)
    }

    /// Seconds that the stage's line is busy with contributions, up (activations beside them included) and down.
    private func exchange(
        _ units: Range<Int>, _ role: Role, _ i: Int, _ share: Int, _ step: Double
    ) -> (up: Double, down: Double) {
        let bytes =
            exchanging.contributions[units.upperBound] - exchanging.contributions[units.lowerBound]
            + CostModel.messageOverhead
        let all = Double(pipelines - 1) * bytes
        let neighbours: Double = role == .single ? 0 : role == .middle ? 2 : 1
        let count = Double(shares[share] * pacing.microBatchesPerVirtual)
        let up = cost.ups[peers[i]]
        let beside = 0.98 * Double(pacing.delay) * min(step, neighbours * count * activation / up)
        return (exchanging.ratio * (all / up + beside), all / cost.downs[peers[i]])
    }
}
