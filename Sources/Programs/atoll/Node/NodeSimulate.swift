import ArgumentParser
import Foundation
import Node
import Primitives
import Simulation

/// `atoll node simulate`: the overlay's core in virtual time.
struct NodeSimulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate", abstract: "Simulate many nodes of the overlay: the same core, virtual time.",
        discussion: "Same options and seed, same transcript: its digest is the last line.")

    @Option(help: "How many.") var nodes = 10_000
    @Option(help: "Round trip between any two, ms.") var rtt = 50.0
    @Option(help: "Relative jitter of each datagram's delay.") var jitter = 0.1
    @Option(help: "Round trips in ms as a square matrix (CSV); nodes are dealt out to its rows.") var matrix: String?
    @Option(help: "A topology file whose links give the delays.") var topology: String?
    @Option(help: "Share of datagrams lost.") var loss = 0.0
    @Option(help: "Share of nodes that die unseen before the first operation.") var dead = 0.0
    @Option(help: "Share of malicious nodes: misleading, inventing, dropping and poisoning ones alike.")
    var malicious = 0.0
    @Option(help: "Median session, in seconds; whoever leaves is replaced by a newcomer.") var session: Double?
    @Option(help: "How sessions are distributed: exponential, pareto, weibull.") var shape = "exponential"
    @Option(help: "Comings and goings: seconds,NODE,up|down or milliseconds,add|remove,NODE.") var churnTrace: String?
    @Option(help: "Puts with their gets, and announcements with their searches, in turn.") var rounds = 300
    @Option(help: "Seconds between writing and reading.") var pause = 5.0
    @Option(help: "Rounds under way at once.") var parallel = 10
    @Flag(help: "Nodes are cores only while they are asked something (what a million needs); searches for nodes only.")
    var dormant = false
    @Option(help: "Seed of everything.") var seed: UInt64 = 1
    @Flag(help: "One JSON object.") var json = false

    func run() throws {
        let scenario = try makeScenario()
        let start = Date()
        scenario.run { progress in
            if Date().timeIntervalSince(start) > 2 { complainQuietly("\(progress) rounds") }
        }
        if json { print(try Self.json(scenario)) } else { show(scenario) }
    }

    func makeScenario() throws -> OverlayScenario {
        func share(_ value: Double, _ name: String) throws {
            guard value >= 0, value < 1 else {
                throw NodeError.badInput("--\(name) \(value): a share from 0 to below 1")
            }
        }
        try share(loss, "loss")
        try share(dead, "dead")
        try share(malicious, "malicious")
        try share(jitter, "jitter")
        guard nodes >= 8, nodes <= 1 << 20 else { throw NodeError.badInput("--nodes \(nodes): from 8 to 1048576") }
        guard rtt > 0, rtt <= 60_000 else {
            throw NodeError.badInput("--rtt \(rtt): milliseconds, above 0, at most 60000")
        }
        guard rounds >= 1, rounds <= 10_000_000 else { throw NodeError.badInput("--rounds \(rounds): at least 1") }
        guard parallel >= 1, parallel <= 10_000 else {
            throw NodeError.badInput("--parallel \(parallel): from 1 to 10000")
        }
        guard pause >= 0, pause <= 1e6 else { throw NodeError.badInput("--pause \(pause): seconds, 0 or more") }
        if dormant, session != nil || churnTrace != nil {
            throw NodeError.badInput("--dormant nodes neither come nor go: leave --session and --churn-trace out")
        }
        var world = OverlayWorldOptions()
        world.nodes = nodes
        world.seed = seed
        world.loss = loss
        world.malicious = malicious
        world.dormant = dormant
        world.latency = try latency()
        world.latency.jitter = jitter
        var options = OverlayScenario.Options()
        options.rounds = rounds
        options.parallel = parallel
        options.dead = dead
        options.pause = .nanoseconds(Int64(pause * 1e9))
        options.churn = try churn()
        options.lookupsOnly = dormant
        return OverlayScenario(OverlayWorld(world), options)
    }

    private func latency() throws -> LatencyModel {
        guard matrix == nil || topology == nil else {
            throw NodeError.badInput("either --matrix or --topology, not both")
        }
        if let topology { return LatencyModel(try loadTopology(topology)) }
        guard let matrix else { return LatencyModel(roundTrip: .nanoseconds(Int64(rtt * 1e6))) }
        let text = String(decoding: try readFile(matrix, limit: 100 << 20), as: UTF8.self)
        do throws(ScenarioError) {
            return try LatencyModel(matrix: text, name: matrix)
        } catch {
            throw NodeError.badInput(error.description)
        }
    }

    private func churn() throws -> ChurnModel {
        guard session == nil || churnTrace == nil else {
            throw NodeError.badInput("either --session or --churn-trace, not both")
        }
        if let churnTrace {
            let text = String(decoding: try readFile(churnTrace, limit: 100 << 20), as: UTF8.self)
            do throws(ScenarioError) {
                return .trace(try ChurnTrace(text: text, name: churnTrace))
            } catch {
                throw NodeError.badInput(error.description)
            }
        }
        guard let session else { return .none }
        guard session >= 1, session <= 1e8 else {
            throw NodeError.badInput("--session \(session): seconds, at least 1")
        }
        guard let shape = SessionShape(rawValue: shape) else {
            throw NodeError.badInput("--shape \(shape): exponential, pareto or weibull")
        }
        return .sessions(median: .nanoseconds(Int64(session * 1e9)), shape)
    }

    private func show(_ scenario: OverlayScenario) {
        func cell(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(1, width - text.count)) + text
        }
        print(
            "operation "
                + ["count", "success %", "p50 ms", "p95 ms", "max ms", "hops", "queries"].map { cell($0, 10) }.joined())
        for row in scenario.summaries {
            let name = row.name + String(repeating: " ", count: max(1, 10 - row.name.count))
            print(
                name
                    + [
                        "\(row.count)", fixed(row.success * 100, 2), fixed(row.percentile(0.5), 1),
                        fixed(row.percentile(0.95), 1), fixed(row.percentile(1), 1), fixed(row.meanHops, 2),
                        fixed(row.meanQueries, 1),
                    ].map { cell($0, 10) }.joined())
        }
        let world = scenario.world
        if scenario.idleBytes.isFinite {
            print("idle traffic \(fixed(scenario.idleBytes, 0)) B/s a node, headers included")
        }
        if scenario.arrivals > 0 { print("\(scenario.arrivals) nodes came while it ran") }
        print(
            "\(world.datagrams) datagrams, \(ByteCount(world.bytes)); virtual time \(fixed(world.now.seconds - 1000, 1)) s"
        )
        print("transcript \(world.transcript)")
    }

    static func json(_ scenario: OverlayScenario) throws -> String {
        let world = scenario.world
        func number(_ value: Double) -> Any { value.isFinite ? (value * 1e6).rounded() / 1e6 : NSNull() }
        let object: [String: Any] = [
            "operations": scenario.summaries.map { row -> [String: Any] in
                [
                    "name": row.name, "count": row.count, "succeeded": row.succeeded,
                    "p50_ms": number(row.percentile(0.5)),
                    "p95_ms": number(row.percentile(0.95)), "max_ms": number(row.percentile(1)),
                    "mean_hops": number(row.meanHops), "mean_queries": number(row.meanQueries),
                    "timeouts": row.timeouts,
                ]
            },
            "idle_bytes_per_second": number(scenario.idleBytes), "arrivals": scenario.arrivals,
            "datagrams": world.datagrams, "bytes": world.bytes, "virtual_seconds": number(world.now.seconds - 1000),
            "peak_cores": world.peakCores, "transcript": world.transcript,
        ]
        let data = try JSONSerialization.data(withJSONObject: object, options: [.sortedKeys])
        return String(decoding: data, as: UTF8.self)
    }
}

/// A line of progress on standard error, where a person watches.
func complainQuietly(_ text: String) {
    if isatty(STDERR_FILENO) == 1 { Output.note("\r\u{1B}[K\(text)\r") }
}
