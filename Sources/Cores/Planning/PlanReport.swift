internal import Primitives
public import Topologies

/// A planned job for people (text) and for programs (``PlanSummary``).
public struct PlanReport: Sendable {
    public var planned: PlannedJob
    public var topology: Topology
    public var job: JobManifest

    public init(_ planned: PlannedJob, topology: Topology, job: JobManifest) {
        self.planned = planned
        self.topology = topology
        self.job = job
    }

    /// Everything: table, figures, explanation, alternatives, time line. At most 100 columns.
    public var text: String {
        [table, figures, planned.explanation.map { wrapped($0) }.joined(separator: "\n"), alternatives, gantt].filter {
            !$0.isEmpty
        }.joined(separator: "\n\n") + "\n"
    }

    /// Who holds what.
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
                    s == 0 ? "\(p)" : "", "\(s)", stage.peer, "\(stage.units.lowerBound)…\(stage.units.upperBound - 1)",
                    "\(job.model.parameters(units: stage.units))", "\(ByteCount(load.memoryBytes))",
                    "\(ByteCount(load.memoryOfferedBytes))", "\(fixed(100 * load.computeShare, 0)) %",
                    s == 0 ? share : "",
                ])
            }
        }
        for spare in plan.spares { rows.append(["spare", "", spare, "", "", "", "", "", ""]) }
        return aligned(rows)
    }

    /// The prediction in a few lines.
    public var figures: String {
        let (plan, prediction) = (planned.plan, planned.prediction)
        let batch = job.geometry(microBatchesPerVirtual: plan.microBatchesPerVirtual).batchTokens
        let sent = prediction.peers.reduce(0) { $0 + $1.sentBytes }
        return aligned([
            ["a step", "\(fixed(prediction.stepSeconds, 3)) s", "\(batch) tokens"],
            ["a round", "\(fixed(prediction.roundSeconds, 3)) s", "H = \(plan.innerSteps), \(plan.exchangeCodec)"],
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

/// A planned job as programs read it; keys as in `docs/COST.md`.
public struct PlanSummary: Hashable, Sendable, Codable {
    public struct Cost: Hashable, Sendable, Codable {
        /// Seconds: the objective.
        public var total: Double
        public var objective: String
    }
    public var pipelines: [Plan.Pipeline]
    public var spares: [String]
    public var innerSteps: Int
    public var batchTokens: Int
    public var codec: String
    public var activations: String
    public var predicted: Prediction
    public var binding: Prediction.Binding
    public var cost: Cost
    public var alternatives: [PlannedJob.Alternative]
    public var explanation: [String]

    enum CodingKeys: String, CodingKey {
        case pipelines, spares, codec, activations, predicted, binding, cost, alternatives, explanation
        case innerSteps = "inner_steps", batchTokens = "batch_tokens"
    }

    public init(_ planned: PlannedJob, job: JobManifest) {
        pipelines = planned.plan.pipelines
        spares = planned.plan.spares
        innerSteps = planned.plan.innerSteps
        batchTokens = job.geometry(microBatchesPerVirtual: planned.plan.microBatchesPerVirtual).batchTokens
        codec = planned.plan.exchangeCodec.description
        activations = planned.plan.activationCodec.description
        predicted = planned.prediction
        binding = planned.prediction.binding
        cost = Cost(total: planned.prediction.totalSeconds, objective: "time-to-loss")
        alternatives = planned.alternatives
        explanation = planned.explanation
    }
}
