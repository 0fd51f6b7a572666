import Links
import Planning
import Primitives
import Testing
import Topologies

/// All plans of a small instance, one after the other: slow, and without any idea in common with the planner's search.
struct ExhaustiveSearch {
    let topology: Topology
    let job: JobManifest
    let innerSteps: Int
    private(set) var best = Double.infinity
    private(set) var plans = 0

    init(_ topology: Topology, _ job: JobManifest, innerSteps: Int) {
        self.topology = topology
        self.job = job
        self.innerSteps = innerSteps
        place(Array(topology.peers.reversed()), [])
    }

    /// Every peer in turn: spare, a pipeline of its own, or at any place in one of those that are there.
    private mutating func place(_ rest: [Int], _ pipelines: [[Int]]) {
        guard let peer = rest.last else {
            if !pipelines.isEmpty, pipelines.count <= job.virtualPipelines { cut(pipelines, 0, []) }
            return
        }
        let others = Array(rest.dropLast())
        place(others, pipelines)
        place(others, pipelines + [[peer]])
        for p in pipelines.indices {
            for place in 0...pipelines[p].count {
                var next = pipelines
                next[p].insert(peer, at: place)
                self.place(others, next)
            }
        }
    }
    /// Every cut of every pipeline.
    private mutating func cut(_ pipelines: [[Int]], _ index: Int, _ done: [[Plan.Stage]]) {
        guard index < pipelines.count else { return share(done, [], job.virtualPipelines) }
        for stages in cuts(pipelines[index][...], from: 0) { cut(pipelines, index + 1, done + [stages]) }
    }
    private func cuts(_ peers: ArraySlice<Int>, from unit: Int) -> [[Plan.Stage]] {
        guard let first = peers.first else { return unit == job.model.unitCount ? [[]] : [] }
        guard unit < job.model.unitCount else { return [] }
        return (unit + 1...job.model.unitCount).flatMap { end in
            cuts(peers.dropFirst(), from: end).map {
                [Plan.Stage(peer: topology.hosts[first].name, units: unit..<end)] + $0
            }
        }
    }
    /// Every way to share the batch, and every depth.
    private mutating func share(_ stages: [[Plan.Stage]], _ done: [Plan.Pipeline], _ left: Int) {
        let index = done.count
        guard index < stages.count else {
            if left == 0 { judge(done) }
            return
        }
        let first = job.virtualPipelines - left
        let most = left - (stages.count - index - 1)
        for count in index == stages.count - 1 ? left...left : 1...most {
            for depth in stages[index].count == 1 ? 1...1 : 1...count {
                let pipeline = Plan.Pipeline(
                    stages: stages[index], virtualPipelines: Array(first..<first + count), inFlight: depth)
                share(stages, done + [pipeline], left - count)
            }
        }
    }
    private mutating func judge(_ pipelines: [Plan.Pipeline]) {
        var plan = Plan(
            pipelines: pipelines, innerSteps: innerSteps, microBatchesPerVirtual: 1, exchangeCodec: .int8,
            activationCodec: .fp32, spares: [])
        for (p, pipeline) in pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                let need = plan.memory(pipeline: p, stage: s, model: job.model, microBatch: job.microBatch)
                guard let host = topology.index(of: stage.peer), need > topology.hosts[host].memory else { continue }
                plan.pipelines[p].stages[s].recompute = true
                let least = plan.memory(pipeline: p, stage: s, model: job.model, microBatch: job.microBatch)
                if least > topology.hosts[host].memory { return }
            }
        }
        plans += 1
        best = min(best, predict(plan: plan, topology: topology, job: job).totalSeconds)
    }
}

@Suite struct `On small instances the planner` {
    @Test(arguments: 0..<8) func `comes within two per cent of the best of all plans`(seed: Int) throws {
        try compare(seed, leastMemory: 10.3, spread: 15.4)
    }

    @Test(arguments: 0..<8) func `does so where memory is only just enough`(seed: Int) throws {
        try compare(seed, leastMemory: 8, spread: 12)
    }

    /// - Parameters: memory of the four peers, in MiB.
    private func compare(_ seed: Int, leastMemory: Double, spread: Double) throws {
        var random = SeededGenerator(seed: UInt64(100 + seed))
        var topology = Topology(name: "small", hosts: [])
        for index in 0..<4 {
            topology.hosts.append(
                Host(
                    name: "h\(index)", flops: 1e9 * (1 + 9 * random.uniform()),
                    memory: .mebibytes(leastMemory + spread * random.uniform()),
                    up: .megabits(2 + 40 * random.uniform()),
                    down: .megabits(10 + 80 * random.uniform())))
        }
        for a in 0..<4 {
            for b in 0..<4 where a != b {
                topology.links[Topology.Pair(a, b)] = LinkProperties(latency: .milliseconds(1 + random.below(80)))
            }
        }
        var job = JobManifest(
            name: "small",
            model: ModelShape(
                hiddenSize: 128, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 384, context: 128),
            data: .path("x"), tokens: 100_000, virtualPipelines: 3, microBatch: 1)
        job.innerSteps = .fixed(4)
        job.qualityBudget = 1
        job.exchangeCodec = .fixed(.int8)
        job.activationCodec = .fixed(.fp32)
        let search = ExhaustiveSearch(topology, job, innerSteps: 4)
        guard search.best.isFinite else {
            #expect(throws: PlanningError.self) { try Planner.plan(topology: topology, job: job) }
            return
        }
        let planned = try Planner.plan(topology: topology, job: job)
        #expect(
            planned.prediction.totalSeconds <= search.best * 1.02,
            "\(planned.prediction.totalSeconds) s against \(search.best) s of \(search.plans) plans")
    }
}
