import ArgumentParser
import Coordination
import Exchange
import Foundation
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Topologies
import Wire

/// `atoll bench exchange-protocol`: an exchange over shaped lines in virtual time, each figure beside its bound.
struct BenchExchangeProtocol: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exchange-protocol", abstract: "Exchanges over shaped lines, in virtual time, beside their bounds."
    )

    @Option(help: "The demo's topology, for its exposed exchange.") var topology = "Topologies/demo.yaml"
    @Option(help: "The demo's job.") var job = "Topologies/jobs/demo.yaml"

    func run() throws {
        dense()
        sparse()
        try exposed()
        try death()
    }

    private func row(_ what: String, _ figure: String, _ bound: String, _ anchor: String = "") {
        func pad(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        print(pad(what, 58) + pad(figure, 34) + pad(bound, 40) + anchor)
    }

    private func line(_ up: Double, _ down: Double) -> GroupWorld.Line {
        GroupWorld.Line(up: .megabits(up), down: .megabits(down))
    }

    // MARK: one exchange

    /// 8 MB in fp32 among four peers at 100 Mbit/s, one of which sends with 20.
    private func dense() {
        let values = 2_000_000
        let layout = ChunkLayout(tensors: [values], codec: .fp32)
        let lines = [line(100, 100), line(100, 100), line(100, 100), line(20, 100)]
        let up = lines.map(\.up.bytesPerSecond), down = lines.map(\.down.bytesPerSecond)
        let best = ExchangeCost.ownerShares(
            contribution: Double(4 * values), aggregate: Double(4 * values), up: up, down: down)
        for (name, shares) in [("owners", best.shares), ("all-gather", [])] {
            var world = GroupWorld(
                lines: lines, latency: .milliseconds(10), layout: layout, contributionBytes: { 4 * $0 },
                aggregateBytes: { 4 * $0 }, shares: shares)
            let seconds = world.run().seconds ?? .nan
            row(
                "8 MB, four peers at 100 Mbit/s, one up with 20: \(name)",
                "\(fixed(seconds, 2)) s = \(fixed(seconds / best.seconds, 2)) × bound",
                "bound \(fixed(best.seconds, 2)) s, goal 1.1 ×", "gloo's ring 1.6 ×")
        }
    }

    /// A billion parameters, k = 64 of 4096 (sums k = 128), sixteen peers with 100 Mbit/s down and 20 up.
    private func sparse() {
        let values = 1_000_000_000
        let codec = Codec.sparse(k: 64), sums = Codec.sparse(k: 128)
        let layout = ChunkLayout(tensors: [values], codec: codec)
        let lines = [GroupWorld.Line](repeating: line(20, 100), count: 16)
        let up = lines.map(\.up.bytesPerSecond), down = lines.map(\.down.bytesPerSecond)
        let contribution = Double(codec.expectedBytes(for: values))
        let aggregate = Double(sums.expectedBytes(for: values))
        let best = ExchangeCost.ownerShares(contribution: contribution, aggregate: aggregate, up: up, down: down)
        let gathering = ExchangeCost.allGatherSeconds(contribution: contribution, up: up, down: down)
        let arithmetic = codecSeconds(codec, sums)
        for (name, shares, bound) in [("all-gather", [], gathering), ("owners", best.shares, best.seconds)] {
            var world = GroupWorld(
                lines: lines, latency: .milliseconds(20), layout: layout,
                contributionBytes: { codec.expectedBytes(for: $0) }, aggregateBytes: { sums.expectedBytes(for: $0) },
                shares: shares)
            let seconds = world.run().seconds ?? .nan
            row(
                "1 G parameters, 16 peers, 100 down / 20 up: \(name)",
                "\(fixed(seconds, 1)) s = \(fixed(seconds / bound, 2)) × bound", "bound \(fixed(bound, 1)) s",
                "the codec takes \(fixed(name == "owners" ? arithmetic.owners : arithmetic.all, 1)) s on one core here")
        }
    }

    /// What encoding a billion values, adding up what is owned (or all) of sixteen and decoding sums take on one core here.
    private func codecSeconds(_ codec: Codec, _ sums: Codec) -> (owners: Double, all: Double) {
        let count = 4 << 20
        var generator = SeededGenerator(seed: 1)
        let values = (0..<count).map { _ in Float(generator.uniform() - 0.5) }
        var feedback = values
        var message: [UInt8] = []
        let encoding = seconds {
            message = values.withUnsafeBufferPointer { from in
                feedback.withUnsafeMutableBufferPointer { codec.encode(from, feedback: $0) }
            }
        }
        let parts = (0..<16).map { _ in WeightedMessage(bytes: message[...], weight: 1) }
        var mean = values
        let averaging = seconds {
            mean.withUnsafeMutableBufferPointer { try? codec.contributorMean(of: parts, into: $0) }
        }
        var sum: [UInt8] = []
        let again = seconds { sum = mean.withUnsafeBufferPointer { sums.encode($0) } }
        let decoding = seconds { mean.withUnsafeMutableBufferPointer { try? sums.decode(sum[...], into: $0) } }
        let scale = 1e9 / Double(count)
        return (scale * (encoding + (averaging + again) / 16 + decoding), scale * (encoding + averaging))
    }

    private func seconds(_ body: () -> Void) -> Double {
        body()
        let start = cpuSeconds()
        body()
        return cpuSeconds() - start
    }

    // MARK: whole jobs

    private func world(_ topology: Topology, _ manifest: JobManifest, _ corpus: [UInt8]) -> World {
        World(
            topology: topology, manifest: manifest.canonicalText, parameters: JobParameters(manifest), corpus: corpus,
            options: WorldOptions())
    }

    /// The share of a round between its last contribution and its seal, in the demo's job.
    private func exposed() throws {
        var topology = try loadTopology(topology)
        topology.faults = []
        let corpus = [UInt8](repeating: 32, count: 4 << 20)
        for way in [ExchangeWay.allGather, nil] {
            let input = try JobInput(file: job, data: nil, steps: nil, seed: nil)
            var manifest = try input.simulated(JobContent(bytes: StoredBytes(corpus)))
            if let way { manifest.exchangeWay = .fixed(way) }
            let world = world(topology, manifest, corpus)
            if case .failed(let why) = world.run() { throw ValidationError(why) }
            let coordinator = world.coordinator
            let rounds = coordinator.books.roundTimes.map(\.seconds).sorted()
            let exchanges = coordinator.books.exchangeSeconds.sorted()
            guard !rounds.isEmpty, !exchanges.isEmpty else { continue }
            let round = rounds[rounds.count / 2], exchange = exchanges[exchanges.count / 2]
            row(
                "demo, exchange exposed of a round: \(way?.description ?? "as chosen")",
                "\(fixed(exchange, 2)) of \(fixed(round, 2)) s = \(fixed(100 * exchange / round, 1)) %",
                "from the last contribution to the seal", coordinator.state.plan?.exchangeWay.description ?? "")
        }
    }

    /// One of four is killed within a round.
    private func death() throws {
        for way in [ExchangeWay.allGather, .reduceScatter] {
            let shape = ModelShape(hiddenSize: 64, layers: 4, heads: 4, kvHeads: 2, intermediateSize: 192, context: 64)
            var manifest = JobManifest(
                name: "four", model: shape, data: .path("text"), tokens: 256 * 60, validationFraction: 0.1,
                virtualPipelines: 4, microBatch: 1)
            manifest.batchTokens = .fixed(256)
            manifest.pipelines = .auto
            manifest.stages = .fixed(1)
            manifest.innerSteps = .fixed(5)
            manifest.exchangeCodec = .fixed(.fp32)
            manifest.activationCodec = .fixed(.fp32)
            manifest.qualityBudget = 10
            manifest.exchangeWay = .fixed(way)
            let hosts = (0..<4).map {
                Host(name: "peer-\($0)", flops: 5e8, memory: .mebibytes(256), up: .megabits(20), down: .megabits(100))
            }
            let topology = Topology(
                name: "four", hosts: hosts, defaultLink: .init(latency: .milliseconds(10)),
                faults: [Fault(.kill, at: .progress(0.5), host: "peer-1")])
            let world = world(topology, manifest, [UInt8](repeating: 32, count: 20_000))
            if case .failed(let why) = world.run() { throw ValidationError(why) }
            let events = world.events.map(\.event)
            var view = JobView(limits: .report)
            for event in events { view.apply(event) }
            let rounds = view.rounds.items.filter(\.isUndisturbed).map(\.seconds).sorted()
            guard let lost = view.losses.items.first, let next = view.rounds.items.first(where: { $0.at > lost.at }),
                !rounds.isEmpty
            else { throw ValidationError("nobody was lost") }
            let usual = rounds[rounds.count / 2]
            let differing = view.count(.weightsDiffer)
            row(
                "one of four killed within a round: \(way)",
                "sealed \(fixed((next.at - lost.at).inSeconds, 2)) s later, \(differing) hashes differ",
                "a usual round takes \(fixed(usual, 2)) s", "goal: at most a deadline (\(fixed(2 * usual + 5, 1)) s)")
        }
    }
}
