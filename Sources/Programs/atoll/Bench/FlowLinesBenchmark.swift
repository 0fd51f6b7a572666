import ArgumentParser
import Benchmarks
import Foundation
import Node
import Primitives

/// `atoll bench flow-lines`: flows over simulated lines beside TCP CUBIC over the same ones, in virtual time.
struct BenchFlowLines: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flow-lines", abstract: "What flows make of simulated lines, and what they leave their owner.")
    @Option(help: "Seconds of virtual time for each line, 5 to 600.") var seconds = 30.0
    @Option(help: "Losses and jitter are drawn from it.") var seed: UInt64 = 1
    @Flag(help: "One JSON object a line: docs/FLOW.md.") var json = false

    func run() throws {
        guard (5...600).contains(seconds) else {
            throw NodeError.badInput("--seconds \(seconds): 5 to 600")
        }
        if !json {
            print(
                "20 Mbit/s up, 24 ms, 200 ms of buffer unless it says otherwise; \(fixed(seconds, 0)) s, seed \(seed)")
            print(line("", "flows", "owner", "ping +p50", "+p95", "fair", "CUBIC", "ping +p50", "goal"))
        }
        for row in FlowLines.run(seconds: seconds, seed: seed) { print(json ? object(row) : text(row)) }
    }
    private func line(_ parts: String...) -> String {
        let widths = [27, 6, 6, 10, 8, 5, 6, 10]
        return zip(parts, widths).map { part, width in part.padding(toLength: width, withPad: " ", startingAt: 0) }
            .joined(separator: " ") + " " + parts[parts.count - 1]
    }
    private func text(_ row: FlowLines.Row) -> String {
        func share(_ value: Double?) -> String { value.map { fixed($0, 2) } ?? "" }
        func time(_ value: Duration?) -> String { value.map { "\(fixed($0.inMilliseconds, 0)) ms" } ?? "" }
        return line(
            row.name, share(row.flows), share(row.owner), time(row.addedMedian), time(row.addedP95),
            share(row.fairness), share(row.cubic), time(row.cubicAdded), row.goal)
    }
    private func object(_ row: FlowLines.Row) -> String {
        var parts = ["\"line\": \"\(row.name)\""]
        func add(_ key: String, _ value: Double?, _ digits: Int) {
            if let value { parts.append("\"\(key)\": \(fixed(value, digits))") }
        }
        add("flows_share", row.flows, 4)
        add("owner_share", row.owner, 4)
        add("ping_added_p50_ms", row.addedMedian?.inMilliseconds, 1)
        add("ping_added_p95_ms", row.addedP95?.inMilliseconds, 1)
        add("fairness", row.fairness, 4)
        add("cubic_share", row.cubic, 4)
        add("cubic_ping_added_p50_ms", row.cubicAdded?.inMilliseconds, 1)
        return "{\(parts.joined(separator: ", "))}"
    }
}
