internal import Primitives
public import Topologies

/// Finds the plan with which a job ends soonest, its predicted loss within the budget.
///
/// Pure: the same topology, job, seed and iterations give the same plan on any machine. `docs/COST.md` has the objective.
public enum Planner {
    /// Enough for a few dozen peers; about a tenth of a second for eight.
    public static let defaultIterations = 2_000

    /// - Parameters:
    ///   - excluding: names of hosts that must not be used (lost, refused).
    ///   - current: the running plan, its lost peers named or left out; it is kept unless changing pays for moving weights.
    ///   - iterations: evaluations of partitions, over all numbers of pipelines.
    ///   - repairs: whether a running plan that lost peers is mended where that is nearly as good as before; else always a search.
    ///   - parallel: how parts of the search run at once; the plan does not depend on it.
    /// - Throws: ``PlanningError`` when nothing fits.
    public static func plan(
        topology: Topology, job: JobManifest, excluding: Set<String> = [], current: Plan? = nil, seed: UInt64 = 1,
        iterations: Int = defaultIterations, repairs: Bool = true, parallel: Parallel = .serial
    ) throws(PlanningError) -> PlannedJob {
        // What a measurement may have left at zero can carry nothing.
        let order = CanonicalOrder(topology)
        let ordered = topology.inOrder(order)
        let peers = ordered.peers.filter { index in
            let host = ordered.hosts[index]
            let rates = [host.flops, host.up.bitsPerSecond, host.down.bitsPerSecond]
            return !excluding.contains(host.name) && rates.allSatisfy { $0 > 0 && $0.isFinite }
        }
        guard !peers.isEmpty else { throw .noPeers }
        let cost = CostModel(
            topology: ordered, job: job, codec: current?.exchangeCodec,
            coordinator: topology.coordinator.map { order.places[$0] })
        var campaign = Campaign(
            cost: cost, peers: peers, current: current, seed: seed, iterations: iterations,
            parallel: parallel)
        campaign.repairs = repairs
        try campaign.run()
        if job.batchTokens == .auto, current == nil { campaign.rebatchBest() }
        campaign.narrow()
        let isInFileOrder = order.hosts == Array(topology.hosts.indices)
        return campaign.result(fileOrder: order.hosts) { plan in
            isInFileOrder ? cost.predict(plan) : predict(plan: plan, topology: topology, job: job)
        }
    }
}
