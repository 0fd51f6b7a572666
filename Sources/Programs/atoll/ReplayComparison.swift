import Foundation
import Planning
import Primitives
import Topologies

/// A run as it was predicted, as it is simulated and as it was, side by side.
struct ReplayComparison: Encodable {
    struct Row: Encodable {
        var what: String
        var unit: String
        var predicted: Double?
        var simulated: Double?
        var measured: Double?
        /// Relative to what was measured.
        var simulatedError: Double? { error(simulated) }
        var predictedError: Double? { error(predicted) }
        private func error(_ value: Double?) -> Double? {
            guard let value, let measured, measured > 0 else { return nil }
            return value / measured - 1
        }
        enum CodingKeys: String, CodingKey {
            case what, unit, predicted, simulated, measured, predictedError = "predicted_error"
            case simulatedError = "simulated_error"
        }
        func encode(to encoder: any Encoder) throws {
            var box = encoder.container(keyedBy: CodingKeys.self)
            try box.encode(what, forKey: .what)
            try box.encode(unit, forKey: .unit)
            try box.encodeIfPresent(predicted, forKey: .predicted)
            try box.encodeIfPresent(simulated, forKey: .simulated)
            try box.encodeIfPresent(measured, forKey: .measured)
            try box.encodeIfPresent(predictedError, forKey: .predictedError)
            try box.encodeIfPresent(simulatedError, forKey: .simulatedError)
        }
    }
    var rows: [Row]
    /// What makes the comparison weaker than it looks.
    var notes: [String] = []

    /// - Parameter simulated: the replay's own record; nil where it came to no plan.
    init(_ recorded: RunRecord, simulated: RunRecord?) {
        func median(_ values: [Double]) -> Double? {
            values.isEmpty ? nil : values.sorted()[values.count / 2]
        }
        func row(_ what: String, _ unit: String, _ scale: Double, _ key: KeyPath<RunRecord.Figures, Double?>) -> Row {
            func value(_ figures: RunRecord.Figures?) -> Double? { figures?[keyPath: key].map { $0 / scale } }
            return Row(
                what: what, unit: unit, predicted: value(recorded.predicted), simulated: value(simulated?.measured),
                measured: value(recorded.measured))
        }
        rows = [
            row("a step", "s", 1, \.stepSeconds), row("a round", "s", 1, \.roundSeconds),
            row("the job", "s", 1, \.totalSeconds), row("sent by all", "MiB", 1_048_576, \.sentBytes),
            Row(
                what: "recovery", unit: "s", predicted: nil,
                simulated: simulated.flatMap { median($0.recoverySeconds) }, measured: median(recorded.recoverySeconds)),
        ]
        guard let simulated else {
            notes.append("the replay came to no plan")
            return
        }
        if simulated.innerSteps != recorded.innerSteps {
            notes.append("the replay plans H = \(simulated.innerSteps), the run had H = \(recorded.innerSteps)")
        }
        if simulated.steps != recorded.steps {
            notes.append("the replay has \(simulated.steps) steps, the run had \(recorded.steps)")
        }
        if simulated.job != recorded.job {
            notes.append("the replay's job is \(simulated.job), the run's was \(recorded.job)")
        }
    }

    /// A table, and a bar for each figure; at most 100 columns.
    var text: String {
        func cell(_ value: Double?, _ unit: String) -> String {
            value.map { "\(fixed($0, $0 < 10 ? 3 : 1)) \(unit)" } ?? "–"
        }
        func percent(_ value: Double?) -> String {
            value.map { "\($0 < 0 ? "−" : "+")\(fixed(abs(100 * $0), 1)) %" } ?? ""
        }
        var out = line(["", "predicted", "simulated", "measured", "predicted, off by", "simulated, off by"])
        for row in rows {
            out += line([
                row.what, cell(row.predicted, row.unit), cell(row.simulated, row.unit), cell(row.measured, row.unit),
                percent(row.predictedError), percent(row.simulatedError),
            ])
        }
        for row in rows {
            let values = [("predicted", row.predicted), ("simulated", row.simulated), ("measured", row.measured)]
            let most = values.compactMap(\.1).max() ?? 0
            guard most > 0 else { continue }
            out += "\n\(row.what)\n"
            for case (let name, let value?) in values {
                let bar = String(repeating: "█", count: max(1, Int((50 * value / most).rounded())))
                out += "  \(name.padding(toLength: 10, withPad: " ", startingAt: 0)) \(bar) \(cell(value, row.unit))\n"
            }
        }
        for note in notes { out += "note: \(note)\n" }
        return out
    }
    private func line(_ cells: [String]) -> String {
        let widths = [12, 14, 14, 14, 18, 18]
        let padded = zip(cells, widths).map { cell, width in
            cell + String(repeating: " ", count: max(1, width - cell.count))
        }
        var text = padded.joined()
        while text.last == " " { text.removeLast() }
        return text + "\n"
    }
}
