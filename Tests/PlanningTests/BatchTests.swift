import Benchmarks
import Links
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `The batch` {
    /// S = S_min·(1 + B_c/B): with B = B_c twice the data of a small batch.
    @Test func `needs as much more data as the critical batch says`() {
        let critical = CriticalBatch(tokens: 1000)
        #expect(critical.excess(batch: 1000, reference: 1000) == 1)
        #expect(abs(critical.excess(batch: 3000, reference: 1000) - 2) < 1e-12)
        #expect(critical.budget(500, batch: 3000, reference: 1000) == 1000)
        #expect(critical.budget(500, batch: 1000, reference: 1000) == 500)
    }

    /// 2048 · .01361 · N^.435 at 20 tokens a parameter, and its share of that with less data.
    @Test func `has a usual critical size`() {
        let full = JobManifest.usualCriticalBatch(parameters: 1_000_000, tokens: 20_000_000)
        #expect(abs(full - 27.87328 * 407.380277804) < 1e-5)
        let less = JobManifest.usualCriticalBatch(parameters: 1_000_000, tokens: 200_000)
        #expect(abs(less / full - 0.114815362149688) < 1e-9)
    }

    /// Two halves of a model far apart: with few micro-batches every step waits for the way there and back.
    static func far(milliseconds: Double) -> Topology {
        let hosts = (0..<2).map { index in
            Host(
                name: "p\(index)", flops: 1e11, memory: .mebibytes(28), up: .megabits(1000), down: .megabits(1000))
        }
        return Topology(
            name: "far", about: "", hosts: hosts,
            defaultLink: LinkProperties(latency: .microseconds(Int64(1000 * milliseconds))))
    }
    static func job(critical: Int) -> JobManifest {
        var job = JobManifest(
            name: "batch",
            model: ModelShape(hiddenSize: 128, layers: 6, heads: 4, kvHeads: 4, intermediateSize: 384, context: 128),
            data: .path("x"), tokens: 2_000_000, virtualPipelines: 2, microBatch: 2)
        job.criticalBatchTokens = .fixed(critical)
        // Else one peer holds all of it, and there is no way to wait for.
        job.recompute = .fixed(false)
        return job
    }

    @Test func `is the one with which the job ends soonest, among all that a job could fix`() throws {
        for (milliseconds, critical) in [(100.0, 4_000), (100, 100_000), (2, 4_000), (30, 1_000)] {
            let topology = Self.far(milliseconds: milliseconds)
            let job = Self.job(critical: critical)
            let chosen = try Planner.plan(topology: topology, job: job, iterations: 200)
            let k = chosen.plan.microBatchesPerVirtual
            var least = Double.infinity
            for other in [1, 2, 4, 8, 16, 32, 64] where job.steps(microBatchesPerVirtual: other) >= 40 {
                var fixed = job
                fixed.tokens = job.tokens(microBatchesPerVirtual: other)
                fixed.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: other).batchTokens)
                let planned = try Planner.plan(topology: topology, job: fixed, iterations: 200)
                least = min(least, planned.prediction.totalSeconds)
                if other == k { #expect(planned.prediction.steps == chosen.prediction.steps) }
            }
            #expect(
                chosen.prediction.totalSeconds <= least * 1.01,
                "\(milliseconds) ms, B_c = \(critical): k = \(k), \(chosen.prediction.totalSeconds) s, not \(least) s")
            #expect(chosen.explanation.contains { $0.hasPrefix("Batch ") })
        }
    }

    /// Among many peers searches are short; a larger batch makes more, and longer, pipelines worth while.
    @Test(arguments: [0, 1] as [UInt64]) func `is part of the search among many peers, too`(seed: UInt64) throws {
        let topology = PlanningFamily.islands.topology(peers: 64, seed: seed)
        let job = PlanningFamily.job(layers: 16, virtualPipelines: 16)
        let chosen = try Planner.plan(topology: topology, job: job)
        var fixed = job
        fixed.tokens = job.tokens(microBatchesPerVirtual: 4)
        fixed.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 4).batchTokens)
        let given = try Planner.plan(topology: topology, job: fixed)
        let (ours, least) = (chosen.prediction.totalSeconds, given.prediction.totalSeconds)
        #expect(ours <= least * 1.03, "k = \(chosen.plan.microBatchesPerVirtual): \(ours) s, not \(least) s")
    }

    @Test func `grows with latency and with the critical batch`() throws {
        func chosen(_ milliseconds: Double, _ critical: Int) throws -> Int {
            try Planner.plan(
                topology: Self.far(milliseconds: milliseconds), job: Self.job(critical: critical), iterations: 200
            ).plan.microBatchesPerVirtual
        }
        let (near, far, wide) = (try chosen(1, 2_000), try chosen(100, 2_000), try chosen(100, 50_000))
        #expect(near < far)
        #expect(far < wide)
    }

    @Test func `that a job gives is obeyed, and so is the running one`() throws {
        let topology = Self.far(milliseconds: 100)
        var job = Self.job(critical: 50_000)
        let free = try Planner.plan(topology: topology, job: job, iterations: 100)
        #expect(free.plan.microBatchesPerVirtual > 1)
        let again = try Planner.plan(topology: topology, job: job, current: free.plan, iterations: 100)
        #expect(again.plan.microBatchesPerVirtual == free.plan.microBatchesPerVirtual)
        job.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 1).batchTokens)
        let given = try Planner.plan(topology: topology, job: job, iterations: 100)
        #expect(given.plan.microBatchesPerVirtual == 1)
        #expect(job.tokens(microBatchesPerVirtual: 1) == 2_000_000)
    }
}
