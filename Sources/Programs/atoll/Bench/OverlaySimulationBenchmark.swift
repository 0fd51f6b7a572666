import ArgumentParser
import Foundation
import Primitives
import Simulation

/// `atoll bench overlay-sim`: the figures of simulated nodes, each beside its goal; the options are those of
/// `atoll node simulate`.
enum OverlaySimulationBenchmark {
    static func run() throws {
        let still = try measure("10 000 nodes, 50 ms", ["--nodes", "10000", "--jitter", "0", "--rounds", "1000"])
        let get = row(still, "get")
        print(
            Row(
                "10 000 nodes, 50 ms: get p50 / p95",
                "\(fixed(get.percentile(0.5), 0)) / \(fixed(get.percentile(0.95), 0)) ms",
                "<= 100 / 200 ms", "tuned Mainline: 100-200 ms median",
                isGood: get.percentile(0.5) <= 100.5 && get.percentile(0.95) <= 200.5))
        print(
            Row(
                "idle traffic a node", "\(fixed(still.idleBytes, 0)) B/s with headers", "< 1000 B/s", "Bamboo 900 B/s",
                isGood: still.idleBytes < 1000))
        let dead = try measure("30 % dead", ["--nodes", "10000", "--dead", "0.3", "--rounds", "1000"])
        let slow = dead.summaries.map { $0.percentile(0.95) }.max() ?? .nan
        print(
            Row(
                "30 % dead contacts: p95 of the slowest kind", "\(fixed(slow, 0)) ms, \(successes(dead))", "<= 1000 ms",
                "-",
                isGood: slow <= 1000))
        let churn = try measure(
            "sessions of 10 min",
            [
                "--nodes", "2000", "--session", "600", "--pause", "60", "--rounds", "2000", "--parallel", "100",
            ])
        print(
            Row(
                "sessions of 10 min (2000 nodes), all kinds", successes(churn), ">= 99.5 %", "Bamboo, 1.4 min sessions",
                isGood: share(churn) >= 0.995))
        let liars = try measure("20 % malicious", ["--nodes", "10000", "--malicious", "0.2", "--rounds", "1000"])
        print(Row("20 % malicious nodes, all kinds", successes(liars), ">= 99 %", "-", isGood: share(liars) >= 0.99))
        let million = try measure(
            "a million nodes", ["--nodes", "1000000", "--dormant", "--rounds", "10000", "--parallel", "50"])
        let lookup = row(million, "lookup")
        print(
            Row(
                "1 000 000 nodes, 10 000 lookups",
                "\(fixed(lookup.success * 100, 2)) %, \(fixed(lookup.meanHops, 2)) hops, p50 \(fixed(lookup.percentile(0.5), 0)) ms",
                "in 20 GiB", "peak \(fixed(peak(), 1)) GiB", isGood: peak() <= 20))
    }

    private struct Row: CustomStringConvertible {
        let description: String
        init(_ what: String, _ figure: String, _ goal: String, _ anchor: String, isGood: Bool) {
            func pad(_ text: String, _ width: Int) -> String {
                text + String(repeating: " ", count: max(1, width - text.count))
            }
            description =
                pad(what, 44) + pad(figure, 40) + pad("goal " + goal, 24) + (isGood ? "reached  " : "MISSED   ")
                + anchor
        }
    }

    private static func measure(_ what: String, _ words: [String]) throws -> OverlayScenario {
        let scenario = try NodeSimulate.parse(words).makeScenario()
        scenario.run { complainQuietly("\(what): \($0) rounds") }
        fflush(nil)
        return scenario
    }
    /// GiB this process has held at most.
    private static func peak() -> Double { Double(peakMebibytes()) / 1024 }
    private static func row(_ scenario: OverlayScenario, _ name: String) -> OperationSummary {
        scenario.summaries.first { $0.name == name }!
    }
    private static func share(_ scenario: OverlayScenario) -> Double {
        let all = scenario.summaries.reduce(0) { $0 + $1.count }
        return Double(scenario.summaries.reduce(0) { $0 + $1.succeeded }) / Double(all)
    }
    private static func successes(_ scenario: OverlayScenario) -> String {
        let all = scenario.summaries.reduce(0) { $0 + $1.count }
        let good = scenario.summaries.reduce(0) { $0 + $1.succeeded }
        return "\(fixed(share(scenario) * 100, 2)) % (\(good) of \(all))"
    }
}
