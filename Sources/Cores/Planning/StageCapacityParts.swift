internal import Exchange
internal import Primitives
internal import Topologies

/// Ways between peers, in seconds, in the order of peers: what ``StageCapacity`` reckons with.
struct PeerWays: Sendable {
    /// From the coordinator, and back to it; to any other peer and from there to the coordinator.
    private(set) var starts: [Double] = []
    private(set) var reports: [Double] = []
    private(set) var relays: [Double] = []
    /// A micro-batch's way there and back between this one and its nearest, and its second nearest.
    private(set) var hops: [Double] = []
    private(set) var secondHops: [Double] = []
    /// Half of the ways to both neighbours; half of that to one.
    let middle: [Double]
    let end: [Double]
    let firstStart: Double
    let lastReport: Double
    /// The shortest of all.
    let hop: Double
    /// Among more peers than this the nearest others are not looked for one by one.
    private static let mostPairs = 1024

    /// - Parameter activation: bytes.
    init(_ cost: CostModel, _ peers: [Int], activation: Double) {
        starts = peers.map { cost.latency(cost.coordinator, $0) }
        reports = peers.map { cost.latency($0, cost.coordinator) }
        if peers.count > PeerWays.mostPairs {
            relays = [Double](repeating: 0, count: peers.count)
            hops = peers.map { activation / cost.ups[$0] }
            secondHops = hops
        } else {
            for a in peers {
                var (relay, near, next) = (Double.infinity, Double.infinity, Double.infinity)
                for (index, b) in peers.enumerated() where b != a {
                    relay = min(relay, cost.latency(a, b) + reports[index])
                    let hop =
                        cost.latency(a, b) + cost.latency(b, a) + activation / cost.rate(a, b)
                        + activation / cost.rate(b, a)
                    if hop < near { (near, next) = (hop, near) } else { next = min(next, hop) }
                }
                relays.append(relay)
                hops.append(near)
                secondHops.append(next)
            }
        }
        middle = zip(hops, secondHops).map { ($0 + $1) / 2 }
        end = hops.map { $0 / 2 }
        firstStart = starts.min() ?? .infinity
        lastReport = reports.min() ?? .infinity
        hop = hops.min() ?? .infinity
    }
}

/// Three forwards, which training on a micro-batch takes at least.
struct PeerWork: Sendable {
    /// FLOPs of all units, and of a block.
    let whole: Double
    let block: Double
    /// Of a block, by peer.
    let blockSeconds: [Double]
    let greatestSpeed: Double

    init(_ cost: CostModel, _ peers: [Int]) {
        let block = cost.model.layers > 0 ? 3 * cost.flops(1..<2) : 0
        (whole, self.block) = (3 * cost.flops(cost.model.allUnits), block)
        blockSeconds = peers.map { block / cost.speeds[$0] }
        greatestSpeed = peers.map { cost.speeds[$0] }.max() ?? 1
    }
}

/// What an exchange takes at least.
struct ExchangeFloor: Sendable {
    /// Bytes of a contribution of units 0..<u.
    let contributions: [Double]
    /// Of what an all-gather takes, the part that this way takes at least.
    let ratio: Double
    /// Seconds over owners, over the lines of all peers; infinite where there are no owners, 0 where it goes to all.
    let overOwners: Double
    /// Before which no contribution is ready.
    let earliest: Double

    init(
        _ cost: CostModel, _ peers: [Int], _ pacing: Pacing, pipelines: Int, hasOwners: Bool, earliest: Double
    ) {
        contributions = cost.contributionPrefix(pacing.codec)
        let owners = ExchangeFloor.overOwners(cost, peers, pacing, pipelines)
        ratio = hasOwners ? owners.ratio : 1
        overOwners = hasOwners ? owners.seconds : 0
        self.earliest = earliest
    }

    /// Steps that are certainly over when a contribution is ready.
    static func stepsBefore(_ pacing: Pacing) -> Double {
        if !pacing.usesRounds { return 0 }
        if pacing.delay == 0 { return Double(pacing.innerSteps) }
        let steps = pacing.innerSteps - pacing.delay
        return steps >= CostModel.simulatedSteps ? Double(steps) : 0
    }

    /// Owners spare a stage all copies of its contribution but one.
    ///
    /// Of M holders of a unit, whose contributions have s bytes and whose sums s₂, all together send (M − 1)·(s + s₂); of the unit whose
    /// holders have the least room that is no sooner done than the mean over all units, all peers' lines sharing in it.
    private static func overOwners(
        _ cost: CostModel, _ peers: [Int], _ pacing: Pacing, _ pipelines: Int
    ) -> (seconds: Double, ratio: Double) {
        guard pipelines > 1 else { return (.infinity, 1) }
        let given = cost.job.exchangeWay.value
        if given?.hasOwners == false || (given == nil && pipelines == 2) { return (.infinity, 1) }
        let own = pacing.codec.bitsPerValue
        var sums = given?.aggregateCodec.bitsPerValue ?? 32
        if given == nil, pacing.usesRounds, [.bf16, .fp16, .int8].contains(pacing.codec) { sums = min(sums, own) }
        let once = min(1, sums / own) / Double(pipelines - 1)
        guard sums >= own else { return (0, once) }
        let lines = peers.reduce(0) { $0 + min(cost.ups[$1], cost.downs[$1]) }
        // Where a line is narrower down than up, less of what is sent is told by it.
        let wide = peers.reduce(1) { max($0, cost.ups[$1] / cost.downs[$1]) }
        let bytes = cost.parameters(cost.model.allUnits) * max(2 * own, (own + sums) / wide) / 8
        return (Double(pipelines - 1) * bytes / lines * (1 - 1e-6), once)
    }
}
