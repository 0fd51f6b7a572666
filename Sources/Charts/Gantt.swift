internal import Planning
internal import Primitives

/// The time line of a plan, as plain text.
extension PlanReport {
    /// Columns of a chart line.
    static let columns = 100

    /// One step of every pipeline, a line for each peer, then one round, a line for each pipeline.
    ///
    /// Digits are forwards of that micro-batch (modulo 10), letters the backwards (`a` = 0), `u` the optimizer step.
    public var gantt: String {
        let line = TimeLine(planned.plan, topology: topology, job: job)
        let (recorded, end) = (line.pipelines, line.end)
        let names = planned.plan.workers.map(\.count).max() ?? 0
        let width = PlanReport.columns - names - 2
        var lines = ["one step, \(fixed(end, 3)) s: 0… forward, a… backward, u optimizer step, · idle"]
        for (p, pipeline) in planned.plan.pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                var row = [Character](repeating: "·", count: width)
                for span in recorded[p] where span.stage == s { paint(span, on: &row, scale: Double(width) / end) }
                lines.append(stage.peer + String(repeating: " ", count: names - stage.peer.count + 2) + String(row))
            }
        }
        return (lines + [""] + roundLines(line)).joined(separator: "\n")
    }

    private func paint(_ span: StageSpan, on row: inout [Character], scale: Double) {
        let first = min(row.count - 1, Int(span.start * scale))
        let last = max(first, min(row.count, Int((span.end * scale).rounded())) - 1)
        let digit = UInt8(span.microBatch % 10)
        let mark: Character =
            switch span.kind {
            case .forward: Character(Unicode.Scalar(48 + digit))
            case .backward: Character(Unicode.Scalar(97 + digit))
            case .head: "h"
            case .validate: "v"
            case .update: "u"
            }
        for column in first...last { row[column] = mark }
    }

    private func roundLines(_ round: TimeLine) -> [String] {
        guard round.usesRounds else { return [] }
        let width = PlanReport.columns - 12
        let scale = Double(width) / round.roundSeconds
        var lines = [
            "one round, \(fixed(round.roundSeconds, 3)) s: v validation, # and = steps in turn, x exchange and seal"
        ]
        for (p, step) in round.stepSeconds.enumerated() {
            var row = [Character](repeating: "x", count: width)
            let begin = max(0, round.trainedAt - step * Double(round.innerSteps))
            // Faster pipelines end earlier: they wait in the exchange.
            let start = min(begin, round.validationSeconds)
            for column in row.indices {
                let time = (Double(column) + 0.5) / scale
                if time < start {
                    row[column] = "v"
                } else if time < start + step * Double(round.innerSteps) {
                    row[column] = Int((time - start) / step) % 2 == 0 ? "#" : "="
                }
            }
            lines.append(
                "pipeline \(p + 1)" + String(repeating: " ", count: max(1, 3 - "\(p + 1)".count)) + String(row))
        }
        return lines
    }
}
