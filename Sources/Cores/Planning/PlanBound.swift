internal import Exchange
internal import Primitives
public import Topologies

/// What no plan of a job on these peers can beat, whatever the search has looked at: with any pipelines, cuts, orders and shares, and every
/// H, batch, delay and codec that the planner may choose. `docs/COST.md`, “Lower bound”, has the derivation.
public struct PlanBound: Hashable, Sendable, Codable {
    /// Of the whole job: every plan takes at least so long.
    public var seconds: Double
    /// How much longer the plan takes, relatively: 0.04 is 4 %. (Greater than any other number where nothing is known.)
    public var gap: Double

    public init(seconds: Double, planned: Double) {
        self.seconds = seconds
        gap = seconds > 0 ? planned / seconds - 1 : .greatestFiniteMagnitude
    }

    /// For people.
    public var sentence: String {
        if seconds <= 0 { return "What plans can do at best is not known here." }
        if gap <= 0.0005 { return "No plan ends sooner: this is proved." }
        let percent = fixed(100 * gap, gap < 0.1 ? 1 : 0)
        if gap <= PlanBound.loose {
            return "Within \(percent) % of what any plan can do: none takes less than \(fixed(seconds, 1)) s."
        }
        return
            "No plan takes less than \(fixed(seconds, 1)) s; this one takes \(percent) % longer. Whether a plan lies between is not "
            + "known: the bound leaves out how pipelines fit together."
    }
    /// Beyond that a bound says little about a plan.
    private static let loose = 0.25

    /// Among more it takes longer than most plans: there it is looked for when asked.
    public static let mostUnasked = 64
    private static let mostPeers = 512

    /// - Parameters: as those of the planning; `planned`, the plan's own total seconds.
    public static func of(
        _ planned: Double, topology: Topology, job: JobManifest, excluding: Set<String> = [],
        parallel: Parallel = .serial
    ) -> PlanBound? {
        let peers = topology.peers.filter { index in
            let host = topology.hosts[index]
            let rates = [host.flops, host.up.bitsPerSecond, host.down.bitsPerSecond]
            return !excluding.contains(host.name) && rates.allSatisfy { $0 > 0 && $0.isFinite }
        }
        guard 1...mostPeers ~= peers.count, planned.isFinite, planned > 0 else { return nil }
        let cost = CostModel(topology: topology, job: job)
        let campaign = Campaign(
            cost: cost, peers: peers, current: nil, seed: 1, iterations: 1, parallel: parallel)
        return PlanBound(seconds: campaign.leastSeconds(below: planned), planned: planned)
    }
}

/// One way of pacing for one number of pipelines, and what its rounds make of a job.
struct BoundedChoice: Sendable {
    var pipelines: Int
    var pacing: Pacing
    /// Rounds of the longest kind that the job takes at least, or a part of one.
    var rounds: Double
}

extension Campaign {
    /// No more than any plan takes, and no more than `planned`.
    func leastSeconds(below planned: Double) -> Double {
        var best = planned
        let choices = boundedChoices()
        // A few at a time, so that what one of them allows is what the next are asked for; the same on any number of cores.
        let few = 8
        for start in stride(from: 0, to: choices.count, by: few) {
            let some = Array(choices[start..<min(choices.count, start + few)])
            let (campaign, limit) = (self, best)
            best = parallel.map(some.count) { campaign.least(some[$0], below: limit) }.reduce(best, min)
        }
        return best
    }

    /// By number of pipelines and batch, without those that another is certainly no worse than.
    private func boundedChoices() -> [BoundedChoice] {
        var found: [BoundedChoice] = []
        var campaign = self
        let most = min(cost.job.virtualPipelines, peers.count)
        let counts = cost.job.pipelines.value.map { $0 <= most ? [$0] : [] } ?? Array(1...most)
        for count in counts {
            for batch in batches {
                campaign.microBatches = batch
                found += campaign.undominated(
                    campaign.choices(pipelines: count).map { pacing in
                        BoundedChoice(pipelines: count, pacing: pacing, rounds: cost.leastRounds(pacing))
                    })
            }
        }
        return found
    }

    /// Longer rounds, fewer bytes and more delay make nothing longer.
    private func undominated(_ choices: [BoundedChoice]) -> [BoundedChoice] {
        var kept: [BoundedChoice] = []
        func bytes(_ choice: BoundedChoice) -> Double {
            cost.contributionBytes(cost.model.allUnits, choice.pacing.codec)
        }
        let order = choices.indices.sorted { a, b in
            let (x, y) = (choices[a].pacing, choices[b].pacing)
            return (-x.innerSteps, bytes(choices[a]), -x.delay, a) < (-y.innerSteps, bytes(choices[b]), -y.delay, b)
        }
        for index in order {
            let choice = choices[index]
            let better = kept.firstIndex { cost.makesNothingLonger($0.pacing, than: choice.pacing) }
            guard let better else {
                kept.append(choice)
                continue
            }
            // What a round of the one costs, scaled, is no more than what rounds of the other do.
            let scaled = choice.rounds * Double(choice.pacing.innerSteps) / Double(kept[better].pacing.innerSteps)
            kept[better].rounds = min(kept[better].rounds, scaled)
        }
        return kept
    }

    /// What any plan of that choice takes at least; `limit` where that is no less.
    private func least(_ choice: BoundedChoice, below limit: Double) -> Double {
        var option = PlanBoundOption(cost, peers, choice)
        if option.isImpossible(limit) { return limit }
        var (low, high) = (limit / 2, limit)
        while low > limit * 1e-6, !option.isImpossible(low) { (low, high) = (low / 2, low) }
        if low <= limit * 1e-6 { return 0 }
        while high > low * 1.002 {
            let middle = (low * high).squareRoot()
            if option.isImpossible(middle) { low = middle } else { high = middle }
        }
        return low
    }
}

extension CostModel {
    /// A job takes at least so many times what its rounds take: the last one may lack steps, each of which is no longer than a round ÷ (H − 2),
    /// as the simulated ones are.
    func leastRounds(_ pacing: Pacing) -> Double {
        let steps = job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual)
        let rounds = (steps + pacing.innerSteps - 1) / pacing.innerSteps
        let missing = Double(rounds * pacing.innerSteps - steps)
        let each = pacing.innerSteps > 2 ? pacing.innerSteps - 2 : 1
        return max(0, Double(rounds) - missing / Double(each))
    }
    /// Whether every bound for `other` is one for `pacing`, its round scaled.
    func makesNothingLonger(_ pacing: Pacing, than other: Pacing) -> Bool {
        guard pacing.usesRounds == other.usesRounds, pacing.innerSteps >= other.innerSteps, pacing.delay >= other.delay,
            activationBytes(pacing.activations) <= activationBytes(other.activations)
        else { return false }
        if pacing.innerSteps != other.innerSteps || pacing.delay != other.delay {
            for one in [pacing, other] where one.delay > 0 && one.innerSteps - one.delay < CostModel.simulatedSteps {
                return false
            }
        }
        if pacing.codec == other.codec { return true }
        if job.exchangeWay.value?.hasOwners == true { return false }
        return zip(contributionPrefix(pacing.codec), contributionPrefix(other.codec)).allSatisfy { $0 <= $1 }
    }
}

/// Whether a job may be done in some time, in one way of pacing.
struct PlanBoundOption {
    private let cost: CostModel
    private let choice: BoundedChoice
    /// By way of exchanging.
    private var capacities: [StageCapacity]
    /// Of the peers that work at least, the least: what departures add to a job of rounds that take no time, and by second of a round.
    private let departures: Double
    private let departuresBySecond: Double

    init(_ cost: CostModel, _ peers: [Int], _ choice: BoundedChoice) {
        self.cost = cost
        self.choice = choice
        capacities = (choice.pipelines > 1 ? [false, true] : [false]).map {
            StageCapacity(cost, peers, choice.pacing, pipelines: choice.pipelines, hasOwners: $0)
        }
        let rates = peers.map { peer in cost.topology.hosts[peer].meanSession.map { .seconds(1) / $0 } ?? 0 }
        let sum = rates.sorted().prefix(choice.pipelines).reduce(0, +)
        let recovery = zip(peers, rates).map { 16 * $1 / cost.downs[$0] }.min() ?? 0
        departures =
            CostModel.detectionSeconds * sum
            + recovery * cost.parameters(cost.model.allUnits) * Double(choice.pipelines)
        departuresBySecond = sum / 2
    }

    mutating func isImpossible(_ seconds: Double) -> Bool {
        guard choice.rounds > 0 else { return false }
        // rounds · R · (1 + departures + bySecond · R) ≤ seconds.
        let (a, b, c) = (departuresBySecond, 1 + departures, seconds / choice.rounds)
        let round = a > 0 ? 2 * c / (b + (b * b + 4 * a * c).squareRoot()) : c / b
        return capacities.indices.allSatisfy { index in
            guard capacities[index].fill(round: round * (1 + 1e-9)) else { return true }
            var certificate = CapacityCertificate(capacities[index])
            if certificate.rulesOut() { return true }
            guard capacities[index].peers.count <= SubsetCertificate.mostPeers else { return false }
            var sets = SubsetCertificate(capacities[index])
            return sets.rulesOut()
        }
    }
}
