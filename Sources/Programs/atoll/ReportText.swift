import Node
import Primitives

enum ReportText {
    /// As a launcher's screen says it.
    private static func against(_ measured: Double, _ predicted: Double) -> String {
        let more = (measured / predicted - 1) * 100
        return "measured \(fixed(measured, 3)) s, predicted \(fixed(predicted, 3)) s"
            + (abs(more) < 1 || !more.isFinite ? "" : " (\(fixed(abs(more), 0)) % \(more > 0 ? "slower" : "faster"))")
    }
    /// The end of a run, for people.
    static func text(_ report: RunReport, folder: String) -> String {
        var out = "\n"
        out += "trained \(grouped(report.final.tokens)) tokens"
        // Nothing where another machine led all rounds.
        if report.final.seconds > 0 {
            let part = report.final.tokensSeen.map { ", the last \(grouped($0)) of them" } ?? ""
            out += "\(part) in \(fixed(report.final.seconds, 1)) s"
        }
        out += " · \(grouped(report.parameters)) parameters\n"
        out +=
            "validation loss \(fixed(report.final.validationLoss, 4)) nats"
            + (report.final.bitsPerByte.map { " = \(fixed($0, 3)) bits a byte" } ?? " a token") + "\n"
        if let losses = report.final.sourceLosses {
            let told = losses.enumerated().map { "source \($0 + 1) \($1.map { fixed($0, 4) } ?? "too short to tell")" }
            out += "… of each source: \(told.joined(separator: ", "))\n"
        }
        let steps = report.stepSeconds
        if let predicted = steps.predicted, let measured = steps.measuredMedian {
            let whose = steps.lastEpoch == nil ? "step" : "step by the first plan"
            out += "\(whose): \(against(measured, predicted))\n"
        }
        if let epoch = steps.lastEpoch, let predicted = steps.lastPredicted, let measured = steps.lastMeasuredMedian {
            out += "step by the last plan, number \(epoch): \(against(measured, predicted))\n"
        }
        if let critical = report.criticalBatchTokens {
            out +=
                "critical batch, by the exchange's norms: about \(grouped(whole(critical))) tokens; a step had \(grouped(report.plan.batchTokens))\n"
        }
        let sent = report.bytes.sentByPeer.values.reduce(0, +)
        if sent > 0 { out += "members sent \(ByteCount(sent)) in all: text, weights, activations and exchanges\n" }
        if report.bytes.fp32EveryStep > 0 {
            let ratio = Double(report.bytes.fp32EveryStep) / Double(max(1, report.bytes.exchangeSent))
            out += "exchanges alone: \(ByteCount(report.bytes.exchangeSent)); fp32 gradients in every step would be "
            out += "\(ByteCount(report.bytes.fp32EveryStep)) (\(fixed(ratio, ratio < 10 ? 2 : 0)) ×)\n"
        }
        let m = report.microBatches
        out +=
            "micro-batches: \(m.granted) granted = \(m.counted) counted + \(m.late) late + \(m.lost) lost + \(m.superseded) superseded"
        out += m.auditAgrees ? " (audited)\n" : " (THE AUDIT DISAGREES)\n"
        if !report.bytes.sentByPeer.isEmpty, let speedup = report.speedupVsBestSinglePeer {
            out += "against the best single peer (predicted): \(fixed(speedup, 2)) × as fast\n"
        }
        out += "weights \(report.weightsSha256)\n"
        out += "report \(folder)/report.json · checkpoint \(report.checkpoint)\n\n"
        // What a text has taught it to say is to be read, not to be obeyed by a terminal.
        out += terminalSafe(report.sample) + "\n"
        return out
    }
}
