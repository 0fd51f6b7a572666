import Benchmarks
import Charts
import Foundation
import Links
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `Recomputation` {
    /// Peers like each other on long lines.
    private static func pool(_ peers: Int, memory: Int, milliseconds: Int = 100) -> Topology {
        Topology(
            name: "pool",
            hosts: (0..<peers).map {
                Host(
                    name: "h\($0)", flops: 1e10, memory: ByteCount(memory), up: .megabits(50), down: .megabits(50))
            }, defaultLink: LinkProperties(latency: .milliseconds(milliseconds)))
    }
    private static func job(_ recompute: Setting<Bool> = .auto, layers: Int = 6) -> JobManifest {
        var job = `A term of the cost model`.job(layers: layers)
        job.innerSteps = .fixed(4)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.recompute = recompute
        job.tokens = 100_000
        job.qualityBudget = 10
        return job
    }
    private static func memory(_ units: Range<Int>, inFlight: Int, recompute: Bool) -> Int {
        job().model.memory(
            units: units, rounds: true, sequences: 2, inFlight: inFlight, recompute: recompute
        ).bytes
    }

    /// The worked case of docs/COST.md.
    @Test func `costs a forward, and keeps inputs and one block`() {
        let job = `A term of the cost model`.job()
        var plan = Plan(
            pipelines: [
                Plan.Pipeline(
                    stages: [
                        Plan.Stage(peer: "h0", units: 0..<1), Plan.Stage(peer: "h1", units: 1..<2, recompute: true),
                        Plan.Stage(peer: "h2", units: 2..<3),
                    ], virtualPipelines: Array(0..<8), inFlight: 3)
            ], innerSteps: 4, microBatchesPerVirtual: 1, exchangeCodec: .int8, activationCodec: .int8, spares: [])
        #expect(
            predict(plan: plan, topology: `A term of the cost model`.pool(3), job: job).peers[1].memoryBytes
                == 9_544_192)
        plan = `A term of the cost model`.replicas([8], job, innerSteps: 4)
        plan.pipelines[0].stages[0].recompute = true
        let stated = predict(plan: plan, topology: `A term of the cost model`.pool(1), job: job)
        `A term of the cost model`.agree(
            stated.stepSeconds,
            (8 * 4 * `A term of the cost model`.forward + 22 * `A term of the cost model`.parameters) / 1e10)
        // 36 bytes a parameter; inputs of block and head, and losses; one block's rest; what there is once.
        let rest = 4 * 256 * (3 * 128 + 128 + 768 + 2)
        let once = 8 * 32_768 + 4 * 256 * 384 + 12 * 256 * 384 + 4 * 128 * 32 + 512 * 159 + 8 * 32_768
        let head = 4 * 256 * 385 + 4 * 128
        #expect(stated.peers[0].memoryBytes == 28 * 262_528 + 4 * 256 * (128 + 129) + rest + once + head)
        #expect(stated.peers[0].memoryBytes == 11_516_416)
    }

    @Test(arguments: [1, 2]) func `makes a plan where nothing fits without`(peers: Int) throws {
        // What the larger half needs, and below what one of two halves needs with all activations.
        let need = Self.memory(peers == 1 ? 0..<8 : 4..<8, inFlight: 1, recompute: true)
        let without = Self.memory(peers == 1 ? 0..<8 : 0..<4, inFlight: 1, recompute: false)
        let topology = Self.pool(peers, memory: need + 1000)
        #expect(need + 1000 < without)
        #expect(throws: PlanningError.self) { try Planner.plan(topology: topology, job: Self.job(.fixed(false))) }
        let planned = try Planner.plan(topology: topology, job: Self.job())
        #expect(planned.plan.pipelines.count == 1)
        #expect(planned.plan.pipelines[0].stages.contains { $0.recompute })
        `The planner`.check(planned, topology, Self.job())
        let report = PlanReport(planned, topology: topology, job: Self.job())
        #expect(report.table.contains(" ↻ ") && report.text.contains("again (↻)"))
        #expect(try Planner.plan(topology: topology, job: Self.job(), current: planned.plan).plan == planned.plan)
    }

    /// Each of two peers holds half; memory for two micro-batches without recomputation, and a way of 200 ms there and back.
    @Test func `pays where it lets more micro-batches be in flight`() throws {
        let topology = Self.pool(2, memory: Self.memory(0..<4, inFlight: 2, recompute: false) + 1000)
        let shallow = try Planner.plan(topology: topology, job: Self.job(.fixed(false)))
        let deep = try Planner.plan(topology: topology, job: Self.job())
        for planned in [shallow, deep] { `The planner`.check(planned, topology, Self.job()) }
        #expect(shallow.plan.pipelines[0].inFlight <= 3)
        #expect(deep.plan.pipelines[0].inFlight > shallow.plan.pipelines[0].inFlight)
        // The last stage keeps one micro-batch and has no reason to.
        #expect(deep.plan.pipelines[0].stages.map(\.recompute) == [true, false])
        #expect(deep.prediction.totalSeconds < 0.9 * shallow.prediction.totalSeconds)
    }

    @Test(arguments: 0..<6) func `is not chosen where memory is enough`(seed: Int) throws {
        let family = PlanningFamily.allCases[seed % 3]
        var topology = family.topology(peers: seed < 3 ? 7 : 48, seed: UInt64(seed))
        for index in topology.hosts.indices { topology.hosts[index].memory = .mebibytes(1_000_000) }
        var job = PlanningFamily.job(layers: 8, virtualPipelines: 8)
        let auto = try Planner.plan(topology: topology, job: job, iterations: 60)
        #expect(!auto.plan.pipelines.contains { $0.stages.contains { $0.recompute } })
        job.recompute = .fixed(false)
        #expect(try Planner.plan(topology: topology, job: job, iterations: 60).plan == auto.plan)
        job.recompute = .fixed(true)
        let again = try Planner.plan(topology: topology, job: job, iterations: 60)
        #expect(again.plan.pipelines.allSatisfy { $0.stages.allSatisfy(\.recompute) })
        `The planner`.check(again, topology, job)
        #expect(again.prediction.totalSeconds > auto.prediction.totalSeconds)
    }

    @Test func `stays when a spare takes the place of a lost peer`() throws {
        let topology = Self.pool(3, memory: Self.memory(4..<8, inFlight: 1, recompute: true) + 1000)
        var job = Self.job()
        job.stages = .fixed(2)
        let running = try Planner.plan(topology: topology, job: job).plan
        #expect(running.pipelines[0].stages.contains { $0.recompute } && running.spares.count == 1)
        for lost in running.workers {
            for repairs in [true, false] {
                let planned = try Planner.plan(
                    topology: topology, job: job, excluding: [lost], current: running, repairs: repairs)
                `The planner`.check(planned, topology, job)
                #expect(planned.plan.pipelines[0].stages.contains { $0.recompute })
            }
        }
    }

    @Test func `is written to JSON and to the manifest, and read from those that lack it`() throws {
        let stage = Plan.Stage(peer: "a", units: 0..<2, recompute: true)
        let data = try JSONEncoder().encode(stage)
        #expect(try JSONDecoder().decode(Plan.Stage.self, from: data) == stage)
        let old = Data(#"{"peer": "a", "units": [0, 2]}"#.utf8)
        #expect(try JSONDecoder().decode(Plan.Stage.self, from: old) == Plan.Stage(peer: "a", units: 0..<2))
        for (word, setting) in [("auto", Setting<Bool>.auto), ("true", .fixed(true)), ("false", .fixed(false))] {
            var job = Self.job(setting)
            #expect(try JobManifest(parsing: job.canonicalText) == job)
            #expect(job.canonicalText.contains("recompute") == (setting != .auto))
            job.recompute = .fixed(true)
            let text = job.canonicalText.replacing("recompute: true", with: "recompute: \(word)")
            #expect(try JobManifest(parsing: text).recompute == setting)
        }
        let text = Self.job(.fixed(true)).canonicalText.replacing("recompute: true", with: "recompute: maybe")
        #expect(throws: ManifestError.self) { try JobManifest(parsing: text) }
    }
}
