import Planning
import Primitives
import Testing
import Topologies

@Suite struct `The planner` {
    static let demoJob = """
        name: demo
        model: {architecture: llama, hidden_size: 128, layers: 6, heads: 4, kv_heads: 2, intermediate_size: 384, context: 256, tokenizer: byte}
        data: {path: corpus.txt, validation_fraction: 0.05}
        train: {tokens: 400_000}
        parallel: {virtual_pipelines: 8, micro_batch: 1}
        """

    @Test(arguments: Shipped.names) func `plans every shipped topology`(name: String) throws {
        let job = try JobManifest(parsing: Self.demoJob)
        let topology = try Shipped.topology(name)
        let clock = ContinuousClock()
        let start = clock.now
        let planned = try Planner.plan(topology: topology, job: job)
        print(name, clock.now - start)
        for line in planned.explanation { print("   ", line) }
        for p in planned.plan.pipelines { print("   ", p.stages.map { "\($0.peer) \($0.units)" }, p.virtualPipelines, p.inFlight) }
        for a in planned.alternatives { print("   ", a.summary, a.totalSeconds, a.lossPenalty, a.reason) }
        print(planned.prediction)
        #expect(planned.plan.flaw(model: job.model, virtualPipelines: job.virtualPipelines) == nil)
    }
}
