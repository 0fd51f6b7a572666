internal import Primitives
public import Topologies

/// What one more megabit, ten fewer milliseconds or a faster peer would buy, the plan being the same.
public struct Counterfactual: Hashable, Sendable, Codable {
    /// "+20 Mbit/s up for heron".
    public var change: String
    public var totalSeconds: Double
    /// Relative to the plan as it is: −0.11 is 11 % sooner.
    public var relative: Double
    enum CodingKeys: String, CodingKey { case change, relative, totalSeconds = "total_seconds" }

    /// The changes that help, the most helpful first; at most `limit` of them.
    public static func of(_ planned: PlannedJob, topology: Topology, job: JobManifest, limit: Int = 6)
        -> [Counterfactual]
    {
        let now = planned.prediction.totalSeconds
        var found: [Counterfactual] = []
        func consider(_ change: String, _ topology: Topology) {
            let then = predict(plan: planned.plan, topology: topology, job: job).totalSeconds
            found.append(Counterfactual(change: change, totalSeconds: then, relative: then / now - 1))
        }
        for name in planned.plan.workers.prefix(64) {
            guard let host = topology.index(of: name) else { continue }
            var more = topology
            more.hosts[host].up.bitsPerSecond += 20e6
            consider("+20 Mbit/s up for \(name)", more)
            more = topology
            more.hosts[host].down.bitsPerSecond += 20e6
            consider("+20 Mbit/s down for \(name)", more)
            more = topology
            more.hosts[host].flops *= 1.25
            consider("25 % more FLOP/s for \(name)", more)
        }
        consider("10 ms less on every link", topology.withLessLatency(milliseconds: 10))
        let order = found.indices.sorted { (found[$0].relative, $0) < (found[$1].relative, $1) }
        return order.prefix(limit).map { found[$0] }.filter { $0.relative < -0.001 }
    }
}
