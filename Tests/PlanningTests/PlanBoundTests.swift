import Benchmarks
import Links
import Planning
import Primitives
import Testing
import Topologies

/// No plan ends before ``PlanBound`` says that one can.
@Suite struct `The bound on what any plan can do` {
    /// Asked for as if much longer plans were of interest, so that what it says owes nothing to the plan.
    private func least(_ topology: Topology, _ job: JobManifest, _ excluding: Set<String> = [], beyond: Double)
        -> Double?
    {
        PlanBound.of(4 * beyond, topology: topology, job: job, excluding: excluding)?.seconds
    }

    @Test(arguments: 0..<4) func `is below the best of all plans, pairs with caps and directed links included`(
        group: Int
    ) throws {
        var gaps: [Double] = []
        for seed in stride(from: group, to: 80, by: 4) {
            var instance = SmallInstance(seed: seed)
            var random = SeededGenerator(seed: UInt64(seed), stream: 0xB0D)
            instance.job.batchTokens = .fixed(instance.job.geometry(microBatchesPerVirtual: 1).batchTokens)
            for pair in instance.topology.links.keys.sorted(by: { ($0.from, $0.to) < ($1.from, $1.to) })
            where seed % 2 == 0 && random.below(3) == 0 {
                instance.topology.links[pair]?.rate = .megabits(1 + 10 * random.uniform())
            }
            let (topology, job) = (instance.topology, instance.job)
            guard let planned = try? Planner.plan(topology: topology, job: job, iterations: 400) else { continue }
            let total = planned.prediction.totalSeconds
            let search = BranchAndBound(
                topology, job, innerSteps: instance.innerSteps, incumbent: total * (1 - 1e-12))
            let bound = try #require(least(topology, job, beyond: total))
            #expect(bound <= search.best, "instance \(seed): \(bound) s, but a plan takes \(search.best) s")
            gaps.append(search.best / bound - 1)
        }
        gaps.sort()
        #expect(gaps.count > 10)
        print("bound: \(gaps.count) exact optima, above it by \(fixed(100 * gaps[gaps.count / 2], 1)) % in the median")
    }

    @Test(arguments: 0..<4) func `is below every plan of hostile pools`(group: Int) throws {
        var planned = 0
        for seed in stride(from: group, to: 160, by: 4) {
            let instance = HostileInstance(seed: seed)
            guard
                let plan = try? Planner.plan(
                    topology: instance.topology, job: instance.job, excluding: instance.excluded, iterations: 300)
            else { continue }
            planned += 1
            let total = plan.prediction.totalSeconds
            let bound = try #require(least(instance.topology, instance.job, instance.excluded, beyond: total))
            #expect(bound <= total, "instance \(seed): \(bound) s, but a plan takes \(total) s")
        }
        #expect(planned > 20)
    }

    @Test(arguments: 0..<4) func `is below every plan of the pools that laws are tried on`(group: UInt64) throws {
        for seed in 0..<20 as Range<UInt64> {
            let instance = PlanningInstance(seed: 4 * seed + group, peers: 2...24)
            guard let plan = try? Planner.plan(topology: instance.topology, job: instance.job, iterations: 300) else {
                continue
            }
            let total = plan.prediction.totalSeconds
            let bound = try #require(least(instance.topology, instance.job, beyond: total))
            #expect(bound <= total, "instance \(4 * seed + group): \(bound) s, but a plan takes \(total) s")
        }
    }

    /// One peer that holds everything: the bound is its plan, or nearly.
    @Test func `is met where there is one peer`() throws {
        let job = PlanningFamily.job(layers: 4, virtualPipelines: 4)
        let topology = PlanningFamily.homes.topology(peers: 1, seed: 3, memory: 16_384)
        let total = try Planner.plan(topology: topology, job: job).prediction.totalSeconds
        let bound = try #require(PlanBound.of(total, topology: topology, job: job))
        #expect(bound.gap >= 0)
        #expect(bound.gap < 0.02)
    }

    @Test func `is said as it is, tight or loose`() {
        #expect(PlanBound(seconds: 100, planned: 100).sentence == "No plan ends sooner: this is proved.")
        #expect(
            PlanBound(seconds: 100, planned: 104.2).sentence
                == "Within 4.2 % of what any plan can do: none takes less than 100.0 s.")
        #expect(PlanBound(seconds: 100, planned: 210).sentence.contains("this one takes 110 % longer"))
        #expect(PlanBound(seconds: 0, planned: 210).sentence == "What plans can do at best is not known here.")
    }
}
