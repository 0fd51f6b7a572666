import Exchange
import Links
import Planning
import Primitives
import Topologies

extension StormScript {
    /// A small job on equal peers with good lines, for one question at a time.
    static func study(
        peers: Int, pipelines: Int, stages: Int, innerSteps: Int, rounds: Int, seed: UInt64, isReal: Bool = false,
        checkpointEvery: Int = 1_000_000, flops: Double = 5e7, _ change: (inout JobManifest) -> Void = { _ in }
    ) -> StormScript {
        let model = ModelShape(
            hiddenSize: 32, layers: 3, heads: 4, kvHeads: 2, intermediateSize: 64, context: 32)
        var job = JobManifest(
            name: "study", model: model, data: .path("text"), tokens: 128 * innerSteps * rounds,
            validationFraction: 0.1, virtualPipelines: 4, microBatch: 1)
        job.batchTokens = .fixed(128)
        job.pipelines = .fixed(pipelines)
        job.stages = .fixed(stages)
        job.innerSteps = .fixed(innerSteps)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.exchangeWay = .fixed(.allGather)
        job.exchangeDelay = .fixed(0)
        job.qualityBudget = 10
        job.checkpoint.everyRounds = checkpointEvery
        change(&job)
        return StormScript(
            seed: seed, topology: studyPool(peers, flops: flops), job: job, corpus: studyText, realArithmetic: isReal,
            troubles: [])
    }
    static func studyPool(_ peers: Int, flops: Double = 5e7) -> Topology {
        let hosts = (0..<peers).map {
            Host(name: "peer-\($0)", flops: flops, memory: .mebibytes(64), up: .megabits(50), down: .megabits(100))
        }
        return Topology(name: "study", hosts: hosts, defaultLink: LinkProperties(latency: .milliseconds(5)))
    }
    static let studyText: [UInt8] = (0..<6000).map { (i: Int) in UInt8((i * i * 7 + i * 3 + 11) % 89 + 32) }
}
