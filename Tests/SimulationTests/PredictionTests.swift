import Benchmarks
import Coordination
import Exchange
import Links
import Planning
import Primitives
import Record
import Simulation
import Testing
import Topologies

/// A plan that the simulator runs: the daemons' own cores over modelled lines and devices, arithmetic only charged.
private struct PredictedRun {
    var name: String
    var predicted: Double
    var simulated: Double
    var rounds: Int
    var plan: Plan
    var difference: Double { predicted / simulated - 1 }

    /// - Throws: when the job does not end.
    init(_ topology: Topology, innerSteps: Int, hides: Bool, codec: Codec? = nil, way: ExchangeWay? = nil) throws {
        var topology = topology
        topology.faults = []
        // The demo's model, for few steps.
        var job = JobManifest(
            name: "predicted",
            model: ModelShape(
                hiddenSize: 128, layers: 5, heads: 4, kvHeads: 4, intermediateSize: 384, context: 128),
            data: .path("text"), tokens: 2048 * (innerSteps == 1 ? 6 : 4 * innerSteps), virtualPipelines: 8,
            microBatch: 2)
        job.innerSteps = .fixed(innerSteps)
        if let codec { job.exchangeCodec = .fixed(codec) }
        if let way {
            job.exchangeWay = .fixed(way)
            job.pipelines = .fixed(4)
        }
        job.exchangeDelay = hides ? .auto : .fixed(0)
        job.qualityBudget = 0.2
        job.checkpoint.everyRounds = 1_000_000
        var options = WorldOptions()
        options.limit = .seconds(36_000)
        let world = World(
            topology: topology, manifest: job.canonicalText, parameters: JobParameters(job),
            corpus: [UInt8](repeating: 32, count: 200_000), options: options)
        let end = world.run()
        let coordinator = world.coordinator
        guard case .finished = end, let answer = coordinator.predictionAtStart else {
            throw Outcome.NotFinished(end)
        }
        plan = answer.planned.plan
        // What the planner was told is measured; what is predicted here is of the lines as they are.
        let prediction = predict(plan: plan, topology: world.topology, job: job)
        // Of single steps every tenth validates, so the median one does not.
        predicted = prediction.roundSeconds - (innerSteps == 1 ? prediction.validationSeconds : 0)
        let seconds = coordinator.books.roundTimes.dropFirst().filter {
            $0.undisturbed && $0.planEpoch == 1 && $0.steps == innerSteps
        }.map(\.seconds).sorted()
        rounds = seconds.count
        simulated = seconds.isEmpty ? .nan : seconds[seconds.count / 2]
        name = "\(topology.name), H = \(innerSteps), τ = \(plan.exchangeDelay)"
    }

    var line: String {
        let stages = plan.pipelines.map { "\($0.stages.count)" }.joined(separator: "+")
        return "\(name), \(plan.exchangeCodec), stages \(stages): predicted \(fixed(predicted, 3)) s, "
            + "simulated \(fixed(simulated, 3)) s (\(rounds) rounds), \(fixed(100 * difference, 1)) %"
    }
}

@Suite struct `A prediction` {
    /// A generated pool whose devices are small enough for a small model.
    private static func generated(_ family: PlanningFamily, peers: Int, seed: UInt64) -> Topology {
        var topology = family.topology(peers: peers, seed: seed, memory: 24)
        for index in topology.hosts.indices {
            topology.hosts[index].flops /= 200
            topology.hosts[index].meanSession = nil
        }
        return topology
    }

    private static var slowLines: Topology {
        let hosts = (0..<4).map { index in
            Topologies.Host(
                name: "slow\(index)", flops: 5e9, memory: .mebibytes(256), up: .megabits(20), down: .megabits(40))
        }
        return Topology(
            name: "slow lines", hosts: hosts, links: [:], defaultLink: LinkProperties(latency: .milliseconds(10)))
    }

    @Test func `is within five per cent of what the simulation takes, in the median over plans`() throws {
        var runs: [PredictedRun] = []
        for name in ["lan", "demo", "three-homes", "campus", "two-data-centres"] {
            let topology = try Topology.shipped(name)
            runs.append(try PredictedRun(topology, innerSteps: 1, hides: false))
            runs.append(try PredictedRun(topology, innerSteps: 4, hides: false))
            runs.append(try PredictedRun(topology, innerSteps: 4, hides: true))
        }
        runs.append(try PredictedRun(Self.generated(.cities, peers: 6, seed: 3), innerSteps: 4, hides: false))
        runs.append(try PredictedRun(Self.generated(.islands, peers: 6, seed: 3), innerSteps: 1, hides: false))
        runs.append(try PredictedRun(Self.generated(.homes, peers: 6, seed: 3), innerSteps: 4, hides: true))
        // Lines so slow that the exchange is most of it.
        for (way, steps) in [(ExchangeWay.allGather, 1), (.allGather, 4), (.reduceScatter, 4)] {
            runs.append(
                try PredictedRun(Self.slowLines, innerSteps: steps, hides: false, codec: .fp32, way: way))
        }
        let table = runs.map(\.line).joined(separator: "\n")
        #expect(runs.count >= 12 && runs.allSatisfy { $0.rounds >= 3 }, "\(table)")
        #expect(
            runs.contains { $0.plan.exchangeDelay > 0 } && runs.contains { $0.plan.pipelines.count > 2 }, "\(table)")
        let differences = runs.map { abs($0.difference) }.sorted()
        let median = differences[differences.count / 2]
        print("\(table)\nmedian \(fixed(100 * median, 2)) %, worst \(fixed(100 * (differences.last ?? 0), 2)) %")
        #expect(median <= 0.05, "\(table)")
    }
}
