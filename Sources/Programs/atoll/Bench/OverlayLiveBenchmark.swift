import Foundation
import Primitives

/// `atoll bench overlay-live`: the figures of real nodes, each beside its goal and anchor.
enum OverlayLiveBenchmark {
    static func run(seed: UInt64) {
        latencies(seed)
        silence(seed)
        load()
    }

    private static func row(_ what: String, _ figure: String, _ goal: String, _ anchor: String, good: Bool) {
        func pad(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        print(pad(what, 44) + pad(figure, 40) + pad("goal " + goal, 24) + (good ? "reached  " : "MISSED   ") + anchor)
        fflush(nil)
    }

    private static func latencies(_ seed: UInt64) {
        for row in OverlayLatency.run(nodes: 20, silenced: 0, rounds: 200, warm: 5, seed: seed) {
            let isWrite = row.operation.hasPrefix("put") || row.operation == "announce"
            let (p50, p95) = (row.percentile(0.5), row.percentile(0.95))
            let goals = isWrite ? (1.0, 4.0) : (0.5, 2.0)
            let good = p50 <= goals.0 && p95 <= goals.1 && row.failed == 0
            Self.row(
                "20 real nodes, \(row.operation), p50 / p95",
                "\(fixed(p50, 2)) / \(fixed(p95, 2)) ms, \(row.milliseconds.count - row.failed) of \(row.milliseconds.count)",
                isWrite ? "<= 1 / 4 ms" : "<= 0.5 / 2 ms",
                isWrite ? "libtorrent 0.8-1.5 / 2.2-8.2" : "libtorrent 0.2-0.5 / 0.4-3.4", good: good)
        }
    }

    private static func silence(_ seed: UInt64) {
        let rows = OverlayLatency.run(nodes: 12, silenced: 4, rounds: 40, warm: 5, seed: seed)
        let worst = rows.map { $0.milliseconds.max() ?? .nan }.max() ?? .nan
        let failed = rows.reduce(0) { $0 + $1.failed }
        let all = rows.reduce(0) { $0 + $1.milliseconds.count }
        row(
            "4 of 12 silent, slowest of \(all) operations", "\(fixed(worst, 0)) ms, \(failed) failed", "<= 1000 ms",
            "libtorrent 15200", good: worst <= 1000 && failed == 0)
    }

    static func load() {
        let echo = OverlayLoad.throughput(.echo, seconds: 3)
        let node = OverlayLoad.throughput(.node, seconds: 4)
        row(
            "queries answered by one process, one core",
            "\(fixed(node.wall / 1000, 0)) k/s (CPU: \(fixed(node.cpu / 1000, 0)) k/s)",
            ">= 100 k/s", "raw echo, same loop: \(fixed(echo.wall / 1000, 0)) k/s (\(fixed(echo.cpu / 1000, 0)) k/s)",
            good: node.cpu >= 100_000)
        let flood = OverlayLoad.flood(seconds: 3)
        row(
            "flood of \(fixed(flood.rate / 1000, 0)) k/s from one /24: the others",
            "\(fixed(flood.share * 100, 2)) % answered, p95 \(fixed(flood.flooded, 2)) ms", ">= 99 %",
            "p95 without the flood \(fixed(flood.calm, 2)) ms; \(flood.dropped) dropped, "
                + "\(fixed(flood.attackerShare * 100, 1)) % of the flood answered", good: flood.share >= 0.99)
        let amplification = OverlayLoad.amplification()
        row(
            "bytes drawn by unproven gets of 1000 B",
            "\(fixed(amplification.sustained, 2)) x sustained, \(fixed(amplification.first, 1)) x the first",
            "<= 3 x sustained", "BEP 44 as written 13.4 x", good: amplification.sustained <= 3)
    }
}
