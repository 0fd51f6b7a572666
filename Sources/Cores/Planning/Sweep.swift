internal import Primitives
public import Topologies

/// Time to the loss against one thing that changes, a fresh plan at each point.
public struct Sweep: Hashable, Sendable, Encodable {
    public enum Axis: String, Hashable, Sendable, CaseIterable, Encodable {
        case batch, latency, bandwidth, peers
        case innerSteps = "inner-steps"
    }
    public struct Point: Hashable, Sendable, Encodable {
        /// Tokens, a factor, peers, or H.
        public var value: Double
        public var label: String
        /// Time to loss; nil where nothing fits.
        public var seconds: Double?
        /// Of `seconds`, what signals travel through the longest pipeline, there and back, in each step: no bandwidth helps.
        public var latencyFloorSeconds: Double?
        public var lossPenalty: Double?
        /// Whether the predicted loss is above the job's quality budget: the loss meant is not reached.
        public var isOverBudget = false
        public var pipelines: Int?
        public var binding: Prediction.Binding?
        /// Why nothing fits.
        public var reason: String?
        enum CodingKeys: String, CodingKey {
            case value, label, seconds, pipelines, binding, reason
            case latencyFloorSeconds = "latency_floor_seconds", lossPenalty = "loss_penalty"
            case isOverBudget = "over_budget"
        }
    }
    public var axis: Axis
    public var points: [Point]
    /// Tokens: beyond it a batch needs as many more tokens as it has more (S = S_min·(1 + B_c/B), McCandlish et al. 2018).
    public var criticalBatch: Double
    /// What the curve says, in sentences.
    public var findings: [String]
    enum CodingKeys: String, CodingKey { case axis, points, findings, criticalBatch = "critical_batch_tokens" }

    public static func run(
        _ axis: Axis, topology: Topology, job: JobManifest, excluding: Set<String> = [], seed: UInt64 = 1,
        iterations: Int = Planner.defaultIterations, parallel: Parallel = .serial,
        progress: (Int, Int) -> Void = { _, _ in }
    ) -> Sweep {
        let cases = cases(axis, topology, job, excluding)
        var points: [Point] = []
        for (index, item) in cases.enumerated() {
            progress(index, cases.count)
            var point = Point(value: item.value, label: item.label)
            do throws(PlanningError) {
                let planned = try Planner.plan(
                    topology: item.topology, job: item.job, excluding: item.excluding, seed: seed,
                    iterations: iterations,
                    parallel: parallel)
                // Relative to the smallest batch that this job can have: the job's tokens are meant for that one.
                let k = planned.plan.microBatchesPerVirtual
                let more =
                    axis == .batch
                    ? job.criticalBatch.excess(
                        batch: job.geometry(microBatchesPerVirtual: k).batchTokens,
                        reference: job.geometry(microBatchesPerVirtual: 1).batchTokens) : 1
                point.seconds = planned.prediction.totalSeconds * more
                point.latencyFloorSeconds = floor(planned, item.topology) * more
                point.lossPenalty = planned.prediction.lossPenalty
                point.isOverBudget = planned.prediction.lossPenalty > job.qualityBudget
                point.pipelines = planned.plan.pipelines.count
                point.binding = planned.prediction.binding
            } catch {
                point.reason = error.description
            }
            points.append(point)
        }
        var sweep = Sweep(axis: axis, points: points, criticalBatch: job.criticalBatch.tokens, findings: [])
        sweep.findings = sweep.said(job)
        return sweep
    }

    private static func floor(_ planned: PlannedJob, _ topology: Topology) -> Double {
        let loops = planned.plan.pipelines.map { pipeline in
            zip(pipeline.stages, pipeline.stages.dropFirst()).reduce(0.0) { sum, hop in
                guard let a = topology.index(of: hop.0.peer), let b = topology.index(of: hop.1.peer) else { return sum }
                return sum + topology.latencySeconds(from: a, to: b) + topology.latencySeconds(from: b, to: a)
            }
        }
        return Double(planned.prediction.steps) * (loops.max() ?? 0)
    }

    private struct Case {
        var value: Double
        var label: String
        var topology: Topology
        var job: JobManifest
        var excluding: Set<String>
    }

    private static func cases(_ axis: Axis, _ topology: Topology, _ job: JobManifest, _ excluding: Set<String>)
        -> [Case]
    {
        func item(_ value: Double, _ label: String) -> Case {
            Case(value: value, label: label, topology: topology, job: job, excluding: excluding)
        }
        switch axis {
        case .batch:
            let unit = job.geometry(microBatchesPerVirtual: 1).batchTokens
            return (0..<9).map { unit << $0 }.prefix { $0 == unit || $0 * 4 <= job.tokens }.map { batch in
                var out = item(Double(batch), "\(batch)")
                out.job.batchTokens = .fixed(batch)
                return out
            }
        case .innerSteps:
            return [1, 2, 4, 8, 16, 32, 64, 128].map { steps in
                var out = item(Double(steps), "\(steps)")
                out.job.innerSteps = .fixed(steps)
                return out
            }
        case .latency:
            return [0, 0.25, 0.5, 1, 2, 4, 8, 16].map { factor in
                var out = item(factor, "×\(factor == factor.rounded() ? fixed(factor, 0) : fixed(factor, 2))")
                out.topology = topology.scaled(latency: factor)
                return out
            }
        case .bandwidth:
            return [0.125, 0.25, 0.5, 1, 2, 4, 8, 16].map { factor in
                var out = item(factor, "×\(factor == factor.rounded() ? fixed(factor, 0) : fixed(factor, 3))")
                out.topology = topology.scaled(bandwidth: factor)
                return out
            }
        case .peers:
            let ranked = topology.peers.filter { !excluding.contains(topology.hosts[$0].name) }.sorted {
                (topology.hosts[$1].flops, $0) < (topology.hosts[$0].flops, $1)
            }
            var counts = ranked.count <= 12 ? Array(stride(from: 1, through: ranked.count, by: 1)) : []
            if ranked.count > 12 {
                var count = 1
                while count < ranked.count {
                    counts.append(count)
                    count *= 2
                }
                counts.append(ranked.count)
            }
            return counts.map { count in
                var out = item(Double(count), "\(count)")
                out.excluding.formUnion(ranked.dropFirst(count).map { topology.hosts[$0].name })
                return out
            }
        }
    }

    /// Where it stops paying, where the floor is, where memory ends it.
    private func said(_ job: JobManifest) -> [String] {
        var lines: [String] = []
        let fitting = points.filter { $0.seconds != nil }
        let within = fitting.filter { !$0.isOverBudget }
        let good = within.isEmpty ? fitting : within
        guard let best = good.min(by: { ($0.seconds!, $0.value) < ($1.seconds!, $1.value) }) else {
            return ["Nothing fits at any point: \(points.first?.reason ?? "")"]
        }
        lines.append("Soonest at \(name(best)): \(fixed(best.seconds!, 1)) s.")
        if let enough = good.first(where: { $0.seconds! <= best.seconds! * 1.01 }), enough != best, axis != .latency {
            lines.append("From \(name(enough)) on, more gains less than 1 %.")
        }
        if axis == .batch {
            if let last = good.last, last != best {
                lines.append(
                    "Beyond \(name(best)) a larger batch no longer pays: it needs more tokens than it saves waiting.")
            } else {
                lines.append("The largest batch tried is the best: here waiting costs more than tokens.")
            }
            lines.append(
                "Tokens to the same loss grow as 1 + B/B_c, with B_c = \(fixed(criticalBatch, 0)) tokens for "
                    + "\(job.model.parameters) parameters; set another with critical_batch_tokens or --critical-batch.")
        }
        if let floor = best.latencyFloorSeconds {
            lines.append(
                "Latency floor at \(name(best)): \(fixed(floor, 1)) s, \(fixed(100 * floor / best.seconds!, 0)) % of the time; "
                    + "no bandwidth gets below it with this cut.")
        }
        if axis == .latency, let none = good.first(where: { $0.value == 0 }),
            let now = good.first(where: { $0.value == 1 })
        {
            lines.append(
                "Without any latency the job would take \(fixed(none.seconds!, 1)) s, "
                    + "\(fixed(100 * (1 - none.seconds! / now.seconds!), 1)) % less.")
        }
        if let over = points.first(where: { $0.isOverBudget }) {
            lines.append(
                "At \(name(over)) the predicted loss is \(fixed(100 * (over.lossPenalty ?? 0), 1)) % higher, above the budget of "
                    + "\(fixed(100 * job.qualityBudget, 1)) %: such points, marked !, are faster than the loss allows.")
        }
        if let failed = points.first(where: { $0.seconds == nil }) {
            lines.append("Nothing fits at \(name(failed)): \(failed.reason ?? "")")
        } else {
            lines.append("Memory stops none of these points.")
        }
        return lines
    }
    private func name(_ point: Point) -> String {
        switch axis {
        case .batch: "a batch of \(point.label) tokens"
        case .latency: "latency \(point.label)"
        case .bandwidth: "bandwidth \(point.label)"
        case .peers: "\(point.label) peer\(point.value == 1 ? "" : "s")"
        case .innerSteps: "H = \(point.label)"
        }
    }
}
