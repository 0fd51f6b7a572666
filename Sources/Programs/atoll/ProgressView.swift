import Foundation
import Node
import Primitives
import Telemetry

/// Live progress for people: on a terminal a small picture that is redrawn, elsewhere a line for each thing that happens.
final class ProgressView {
    private let quiet: Bool
    private let onTerminal: Bool
    private var drawn = 0
    private var losses: [Double] = []
    private var started = Date()
    private var lastLine = Date.distantPast
    private var stages: [String: String] = [:]

    init(quiet: Bool) {
        self.quiet = quiet
        onTerminal = isatty(1) == 1
    }

    func show(_ progress: LocalRun.Progress) {
        guard !quiet else { return }
        losses.append(progress.trainLoss)
        guard Date().timeIntervalSince(lastLine) > (onTerminal ? 0.2 : 5) || progress.step == progress.steps else {
            return
        }
        lastLine = Date()
        var line = "step \(progress.step)/\(progress.steps)  loss \(fixed(progress.trainLoss, 3)) \(sparkline)"
        if let validation = progress.validationLoss { line += "  validation \(fixed(validation, 3))" }
        line += "  \(grouped(Int(progress.tokensPerSecond))) tokens/s"
        redraw([line])
    }

    func show(_ event: Event) {
        guard !quiet else { return }
        switch event.kind {
        case "status": status(event)
        case "round_sealed":
            losses.append(event.real("train_loss") ?? 0)
            if !onTerminal {
                say(
                    "round \(event.integer("round") ?? 0)  step \(event.integer("steps") ?? 0)  "
                        + "loss \(fixed(event.real("train_loss") ?? 0, 3))  "
                        + validation(event)
                        + "\(event.integer("pipelines") ?? 0) pipelines  \(fixed(event.real("seconds") ?? 0, 1)) s"
                        + (event.real("predicted_seconds").map { ", predicted \(fixed($0, 1))" } ?? ""))
            }
        default: if let sentence = Self.sentence(event) { say(sentence) }
        }
    }

    /// The parameters a round begins with are evaluated in it; not in every round where a round is one step.
    private func validation(_ event: Event) -> String {
        guard let loss = event.real("validation_loss"), loss > 0 else { return "" }
        return "validation before it \(fixed(loss, 3))  "
    }

    /// What a person wants to hear of an event; nil for what only machines read.
    static func sentence(_ event: Event) -> String? {
        let who = event.peer
        let why = event.text("why").map { ": \($0)" } ?? ""
        switch event.kind {
        case "listening": return "listening on \(event.text("endpoint") ?? "?"), looking for peers"
        case "bootstrap_retrying":
            return "no bootstrap node answers; asking again in \(fixed(event.real("next_seconds") ?? 0, 1)) s"
        case "waiting_for_peers":
            return "\(event.integer("have") ?? 0) of \(event.integer("want") ?? 0) peers are here; waiting for more"
        case "peer_joined": return "+ \(who) joined"
        case "peer_declined": return "- \(who) declined\(why)"
        case "peer_unfit": return "- \(who) cannot take part\(why)"
        case "sharing_text":
            return
                "sharing the text (\(ByteCount(event.integer("bytes") ?? 0))) among \(event.integer("peers") ?? 0) peers"
        case "measuring_links": return "measuring links and speeds of \(event.integer("peers") ?? 0) peers"
        case "planned":
            return
                "plan: \(event.integer("pipelines") ?? 0) pipelines of up to \(event.integer("stages") ?? 0) stages, exchange "
                + "every \(event.integer("inner_steps") ?? 0) steps as \(event.text("codec") ?? "?"), activations "
                + "\(event.text("activations") ?? "?"); predicted \(fixed(event.real("step_seconds") ?? 0, 2)) s a step, "
                + "\(fixed(event.real("total_seconds") ?? 0, 0)) s in all"
        case "peer_killed": return "✗ \(who) killed, on purpose"
        case "peer_lost": return "✗ lost \(who)\(why)"
        case "others_go_on": return "  the other \(event.integer("pipelines") ?? 0) pipelines go on"
        case "replaced": return "  \(event.text("by") ?? "?") takes the place of \(who)"
        case "training_resumed": return "✓ training goes on after \(fixed(event.real("seconds") ?? 0, 1)) s"
        case "replanned":
            return
                "  planned anew from round \(event.integer("round") ?? 0): \(event.integer("pipelines") ?? 0) pipelines"
        case "speed_changed":
            return "  \(who) computes at \(fixed(event.real("measured_gflops") ?? 0, 1)) GFLOP/s, was planned at "
                + fixed(event.real("planned_gflops") ?? 0, 1)
        case "rolled_back": return "  back to round \(event.integer("round") ?? 0)\(why)"
        case "waiting_for": return "  waiting for \(event.text("peers") ?? "?")\(why)"
        case "exchange_chosen":
            let units = "exchange of units \(event.text("units") ?? "?"): \(event.text("way") ?? "?")"
            let took = "\(fixed(event.real("seconds") ?? 0, 1)) s"
            guard event.text("way") != "all-gather" else { return "\(units), \(took)" }
            return "\(units), \(took) against \(fixed(event.real("all_gather_seconds") ?? 0, 1)) s all-gather"
        case "exchange_regrouped":
            return "  exchange of round \(event.integer("round") ?? 0): \(event.text("way") ?? "?") among pipelines "
                + "\(event.text("ranks") ?? "?")\(why)"
        case "owner_refuted": return "✗ \(who) added up a chunk wrongly, as others found; it owns nothing any more"
        case "contribution_refused":
            return "  \(event.text("by") ?? "?") cannot use what \(who) contributed\(why)"
        case "checkpoint_saved": return "  checkpoint saved at round \(event.integer("round") ?? 0)"
        case "collecting_weights": return "collecting the weights"
        case "evaluating": return "evaluating on the whole validation part"
        case "unreachable", "connection_refused": return "  \(who)\(why)"
        case "plan_refused", "checkpoint_failed", "weights_differ", "receipt_refused", "stretched":
            return "  \(event.kind) \(who)\(why)"
        default: return nil
        }
    }

    private func status(_ event: Event) {
        guard onTerminal, event.text("phase") == "training" || event.text("phase") == "preparing" else { return }
        let step = event.integer("step") ?? 0
        let total = max(1, event.integer("steps_total") ?? 1)
        let bar = min(30, 30 * step / total)
        let sent = event.integer("sent_bytes") ?? 0
        let plain = event.integer("uncompressed_bytes") ?? 0
        var lines = [
            "step \(step)/\(total) [\(String(repeating: "█", count: bar))\(String(repeating: "·", count: 30 - bar))]  "
                + "\(grouped(Int(event.real("tokens_per_second") ?? 0))) tokens/s",
            "loss \(fixed(event.real("train_loss") ?? 0, 3)) \(sparkline)  validation "
                + fixed(event.real("validation_loss") ?? 0, 3),
            "sent \(ByteCount(sent)); fp32 gradients every step would be \(ByteCount(plain))",
        ]
        for item in (event.text("doing") ?? "").split(separator: ";") {
            let pair = item.split(separator: "=", maxSplits: 1)
            guard pair.count == 2 else { continue }
            lines.append("  \(pair[0].padding(toLength: 14, withPad: " ", startingAt: 0)) \(pair[1])")
        }
        redraw(lines)
    }

    private var sparkline: String {
        let marks = Array("▁▂▃▄▅▆▇█")
        let recent =
            losses.count > 24
            ? stride(from: 0, to: losses.count, by: max(1, losses.count / 24)).map { losses[$0] } : losses
        guard let low = recent.min(), let high = recent.max(), high > low else { return "" }
        return String(recent.map { marks[Int(($0 - low) / (high - low) * 7)] })
    }

    private func say(_ line: String) {
        erase()
        print(line)
        fflush(nil)
    }
    private func redraw(_ lines: [String]) {
        erase()
        for line in lines { print(line) }
        fflush(nil)
        if onTerminal { drawn = lines.count }
    }
    private func erase() {
        guard onTerminal, drawn > 0 else { return }
        print("\u{1B}[\(drawn)A\u{1B}[0J", terminator: "")
        drawn = 0
    }
    func end() { erase() }
}

/// 12345 as "12 345".
func grouped(_ number: Int) -> String {
    var digits = String(abs(number))
    var out = ""
    while digits.count > 3 {
        out = " " + digits.suffix(3) + out
        digits.removeLast(3)
    }
    return (number < 0 ? "-" : "") + digits + out
}

enum ReportText {
    /// The end of a run, for people.
    static func text(_ report: RunReport, folder: String) -> String {
        var out = "\n"
        out += "trained \(grouped(report.final.tokens)) tokens in \(fixed(report.final.seconds, 1)) s"
        out += " · \(grouped(report.parameters)) parameters\n"
        out +=
            "validation loss \(fixed(report.final.validationLoss, 4)) nats = \(fixed(report.final.bitsPerByte, 3)) bits a byte\n"
        if let predicted = report.stepSeconds.predicted, let measured = report.stepSeconds.measuredMedian {
            let error = (predicted / measured - 1) * 100
            out +=
                "step: predicted \(fixed(predicted, 3)) s, measured \(fixed(measured, 3)) s (\(error >= 0 ? "+" : "")\(fixed(error, 0)) %)\n"
        }
        if let critical = report.criticalBatchTokens {
            out +=
                "critical batch, by the exchange's norms: about \(grouped(Int(critical))) tokens; a step had \(grouped(report.plan.batchTokens))\n"
        }
        if report.bytes.fp32EveryStep > 0 {
            let ratio = Double(report.bytes.fp32EveryStep) / Double(max(1, report.bytes.exchangeSent))
            out += "exchange: \(ByteCount(report.bytes.exchangeSent)) sent; fp32 every step would be "
            out += "\(ByteCount(report.bytes.fp32EveryStep)) (\(fixed(ratio, 0)) ×)\n"
        }
        let m = report.microBatches
        out +=
            "micro-batches: \(m.granted) granted = \(m.counted) counted + \(m.late) late + \(m.lost) lost + \(m.superseded) superseded"
        out += m.auditAgrees ? " (audited)\n" : " (THE AUDIT DISAGREES)\n"
        if !report.bytes.sentByPeer.isEmpty {
            out += "against the best single peer (predicted): \(fixed(report.speedupVsBestSinglePeer, 2)) × as fast\n"
        }
        out += "weights \(report.weightsSha256)\n"
        out += "report \(folder)/report.json · checkpoint \(report.checkpoint)\n\n"
        out += report.sample + "\n"
        return out
    }
}
