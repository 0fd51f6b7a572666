public import Planning
internal import Primitives
public import Topologies

/// A planned job for people (text) and for programs (``PlanSummary``).
public struct PlanReport: Sendable {
    public var planned: PlannedJob
    public var topology: Topology
    public var job: JobManifest

    /// What would help; empty when nobody asked.
    public var counterfactuals: [Counterfactual]
    /// What no plan can beat; nil when nobody asked.
    public var bound: PlanBound?

    public init(
        _ planned: PlannedJob, topology: Topology, job: JobManifest, counterfactuals: [Counterfactual] = [],
        bound: PlanBound? = nil
    ) {
        self.bound = bound
        self.planned = planned
        self.topology = topology
        self.job = job
        self.counterfactuals = counterfactuals
    }

    /// Everything: table, figures, explanation, alternatives, time line. At most 100 columns.
    public var text: String {
        [
            table, figures,
            (planned.explanation + [bound?.sentence].compactMap { $0 }).map { wrapped($0) }.joined(separator: "\n"),
            binding, helps,
            alternatives, gantt,
        ].filter {
            !$0.isEmpty
        }.joined(separator: "\n\n") + "\n"
    }

    /// Who holds what; pipelines and stages count from one, as on every screen.
    public var table: String {
        let plan = planned.plan
        var loads: [String: Prediction.PeerLoad] = [:]
        for load in planned.prediction.peers { loads[load.peer] = load }
        var rows = [["pipeline", "stage", "peer", "units", "parameters", "memory", "of", "compute", "share of batch"]]
        for (p, pipeline) in plan.pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                guard let load = loads[stage.peer] else { continue }
                let share = "\(pipeline.virtualPipelines.count)/\(job.virtualPipelines), \(pipeline.inFlight) in flight"
                rows.append([
                    s == 0 ? "\(p + 1)" : "", "\(s + 1)", stage.peer,
                    "\(stage.units.lowerBound)…\(stage.units.upperBound - 1)\(stage.recompute ? " ↻" : "")",
                    "\(job.model.parameters(units: stage.units))", "\(ByteCount(load.memoryBytes))",
                    "\(ByteCount(load.memoryOfferedBytes))", "\(fixed(100 * load.computeShare, 0)) %",
                    s == 0 ? share : "",
                ])
            }
        }
        let listed = plan.spares.count <= 12 ? plan.spares.count : 8
        for spare in plan.spares.prefix(listed) { rows.append(["spare", "", spare, "", "", "", "", "", ""]) }
        if plan.spares.count > listed {
            rows.append(["spare", "", "and \(plan.spares.count - listed) more", "", "", "", "", "", ""])
        }
        return aligned(rows)
    }

    /// The prediction in a few lines.
    public var figures: String {
        let (plan, prediction) = (planned.plan, planned.prediction)
        let batch = job.geometry(microBatchesPerVirtual: plan.microBatchesPerVirtual).batchTokens
        let (late, s) = (plan.exchangeDelay, plan.exchangeDelay == 1 ? "" : "s")
        let hidden = late > 0 ? ", which travels behind the last \(late == 1 ? "" : "\(late) ")step\(s)" : ""
        let sent = prediction.peers.reduce(0) { $0 + $1.sentBytes }
        return aligned([
            ["a step", "\(fixed(prediction.stepSeconds, 3)) s", "\(batch) tokens"],
            [
                "a round", "\(fixed(prediction.roundSeconds, 3)) s",
                "H = \(plan.innerSteps), \(plan.exchangeCodec)\(hidden)",
            ],
            [
                "… exchange not hidden", "\(fixed(prediction.exposedExchangeSeconds, 3)) s",
                "\(ByteCount(sent)) sent by all",
            ],
            ["… validation", "\(fixed(prediction.validationSeconds, 3)) s", ""],
            [
                "the job", "\(fixed(prediction.totalSeconds, 1)) s",
                "\(prediction.rounds) rounds, \(fixed(prediction.tokensPerSecond, 0)) tokens/s",
            ],
            [
                "\(prediction.bestSinglePeer) alone", "\(fixed(prediction.bestSinglePeerSeconds, 1)) s",
                "speed-up \(fixed(prediction.speedupVersusBestSinglePeer, 2)) (its memory limit lifted)",
            ],
        ])
    }

    /// What binds a round, as shares that add to 100 %.
    public var binding: String {
        let ranked = planned.prediction.binding.ranked
        let shares = PlanReport.percentages(ranked.map(\.share))
        var rows = [["bound by", "share", ""]]
        for (entry, share) in zip(ranked, shares) where share > 0 {
            let bar = String(repeating: "█", count: max(1, (share + 1) / 2))
            rows.append([entry.name, "\(share) %", bar])
        }
        return aligned(rows)
    }

    /// Whole percentages that add to 100: what rounding takes goes to the largest remainders.
    package static func percentages(_ shares: [Double]) -> [Int] {
        let sum = shares.reduce(0, +)
        guard sum > 0, sum.isFinite else { return shares.map { _ in 0 } }
        let exact = shares.map { 100 * $0 / sum }
        var out = exact.map { Int($0) }
        let order = exact.indices.sorted {
            (exact[$1] - exact[$1].rounded(.down), $0) < (exact[$0] - exact[$0].rounded(.down), $1)
        }
        for index in order.prefix(max(0, 100 - out.reduce(0, +))) { out[index] += 1 }
        return out
    }

    /// What one more megabit or a faster peer would buy.
    public var helps: String {
        if counterfactuals.isEmpty { return "" }
        var rows = [["what would help", "job", ""]]
        for item in counterfactuals {
            let change = "\(item.relative < 0 ? "−" : "+")\(fixed(abs(100 * item.relative), 1)) %"
            rows.append([item.change, "\(fixed(item.totalSeconds, 1)) s", change])
        }
        return aligned(rows)
    }

    public var alternatives: String {
        if planned.alternatives.isEmpty { return "" }
        var rows = [["rejected", "job", "why"]]
        for other in planned.alternatives {
            rows.append([other.summary, "\(fixed(other.totalSeconds, 1)) s", other.reason])
        }
        return aligned(rows)
    }

    /// Columns padded to their widest cell.
    private func aligned(_ rows: [[String]]) -> String {
        var widths: [Int] = []
        for row in rows {
            for (column, cell) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell
                let isLast = row[(column + 1)...].allSatisfy(\.isEmpty)
                if isLast { break }
                line += String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            return line
        }.joined(separator: "\n")
    }
    private func wrapped(_ text: String, at width: Int = 98) -> String {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = " "
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        return (lines + [line]).joined(separator: "\n")
    }
}

/// The same for people.
extension LayoutSummary {
    /// A row for each pipeline, and the cost.
    public var text: String {
        let width = pipelines.flatMap { $0.stages.map(\.peer.count) }.max() ?? 2
        var lines = ["pipelines, a column for each stage"]
        for (index, pipeline) in pipelines.enumerated() {
            let row = pipeline.stages.map { $0.peer + String(repeating: " ", count: width - $0.peer.count) }
            lines.append("  \(index + 1)  \(row.joined(separator: "  "))")
        }
        lines.append("")
        lines.append(
            "dtfm: \(fixed(cost.total, 6)) s a step: \(fixed(cost.dataParallel, 6)) s gradients, "
                + "\(fixed(cost.pipeline, 6)) s activations, both directions")
        let shares = PlanReport.percentages([binding.exchange, binding.bandwidth])
        lines.append("bound by: exchange \(shares[0]) %, activations \(shares[1]) %")
        return lines.joined(separator: "\n") + "\n"
    }
}
