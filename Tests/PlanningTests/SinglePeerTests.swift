import Benchmarks
import Links
import Planning
import Primitives
import Testing
import Topologies

/// Pools in which working together may not pay: one peer far ahead of the others, lines slow, memory for the whole model at
/// some or at nobody.
struct UnevenPool {
    var topology: Topology
    var job: JobManifest

    init(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed), stream: 0x1A6)
        topology = PlanningFamily.allCases[seed % 3].topology(peers: 2 + random.below(6), seed: UInt64(seed))
        job = JobManifest(
            name: "uneven",
            model: ModelShape(
                hiddenSize: 128, layers: 2 + random.below(6), heads: 4, kvHeads: 2, intermediateSize: 384, context: 128),
            data: .path("x"), tokens: 400_000, virtualPipelines: 8, microBatch: 2)
        if random.below(2) == 0 { job.innerSteps = .fixed([1, 4][random.below(2)]) }
        let whole = job.model.memory(units: job.model.allUnits, rounds: true, sequences: 2, inFlight: 1).bytes
        let slow = [1.0, 0.1, 0.01][random.below(3)]
        let somebodyHasRoom = random.below(4) > 0
        for index in topology.hosts.indices {
            topology.hosts[index].flops *= 1e-2
            let share = somebodyHasRoom ? 0.4 + random.uniform() : 0.3 + 0.6 * random.uniform()
            topology.hosts[index].memory = ByteCount(Int(Double(whole) * share))
            topology.hosts[index].up.bitsPerSecond *= slow
            topology.hosts[index].down.bitsPerSecond *= slow
        }
        if random.below(2) == 0 {
            topology.hosts[random.below(topology.hosts.count)].flops *= 1 + 20 * random.uniform()
        }
    }
}

@Suite struct `One peer against all` {
    @Test func `is what the planner chooses wherever it is quicker, and what it names where it has no room`() throws {
        var (alone, together, warned, pools) = (0, 0, 0, 0)
        for seed in 0..<60 {
            let pool = UnevenPool(seed: seed)
            guard let planned = try? Planner.plan(topology: pool.topology, job: pool.job, iterations: 60) else {
                continue
            }
            pools += 1
            let names = pool.topology.hosts.map(\.name)
            for name in names {
                // Everybody else excluded: the same objective, one peer.
                let others = Set(names).subtracting([name])
                guard
                    let single = try? Planner.plan(
                        topology: pool.topology, job: pool.job, excluding: others, iterations: 20)
                else { continue }
                #expect(single.plan.workers == [name])
                #expect(
                    planned.objectiveSeconds <= single.objectiveSeconds * (1 + 1e-9),
                    "pool \(seed): \(name) alone takes \(single.objectiveSeconds) s, not \(planned.objectiveSeconds) s")
            }
            if planned.plan.workers.count == 1 {
                alone += 1
                #expect(planned.plan.spares.count == names.count - 1)
                #expect(planned.explanation.contains { $0.contains("spare") }, "pool \(seed)")
            } else {
                together += 1
            }
            // The fastest, its memory limit lifted, in closed form: docs/COST.md.
            let prediction = planned.prediction
            let fastest = pool.topology.hosts.max { $0.flops < $1.flops }!
            let work = pool.job.model.forwardFLOPs(units: pool.job.model.allUnits, sequences: 2)
            let seconds =
                Double(pool.job.steps(microBatchesPerVirtual: 1))
                * (24 * work + 22 * Double(pool.job.model.parameters) + 3.2 * work)
                / fastest.flops
            #expect(abs(prediction.bestSinglePeerSeconds / seconds - 1) < 1e-9)
            let warns = planned.explanation.contains { $0.hasPrefix("Warning: \(fastest.name) alone") }
            #expect(warns == (seconds < prediction.totalSeconds), "pool \(seed)")
            if warns { warned += 1 }
        }
        print("one peer against all: \(pools) pools, \(alone) alone, \(together) together, \(warned) warned")
        #expect(pools >= 30 && alone >= 10 && together >= 10 && warned >= 5)
    }
}
