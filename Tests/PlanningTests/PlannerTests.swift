import Charts
import Foundation
import Links
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `The planner` {
    /// A job like that of the demo: 1.25 M parameters, steps of 2048 tokens.
    static func demoJob() throws -> JobManifest {
        var job = try JobManifest(parsing: `A job manifest`.example)
        job.tokens = 400_000
        job.model.context = 128
        job.microBatch = 2
        return job
    }
    /// Planned once for all tests: the same input has the same plan.
    private static let planned = Result {
        let (topology, job) = (try Shipped.topology("demo"), try demoJob())
        return (topology: topology, job: job, planned: try Planner.plan(topology: topology, job: job))
    }
    static func demo() throws -> (topology: Topology, job: JobManifest, planned: PlannedJob) { try planned.get() }
    /// Candidates, where a test asks for a plan and not for a good one.
    static let few = 100
    /// What every plan must be: whole, disjoint, within memory; the stated load that of the memory law.
    static func check(_ planned: PlannedJob, _ topology: Topology, _ job: JobManifest) {
        let plan = planned.plan
        #expect(plan.flaw(model: job.model, virtualPipelines: job.virtualPipelines) == nil)
        for (p, pipeline) in plan.pipelines.enumerated() {
            for (s, stage) in pipeline.stages.enumerated() {
                guard let host = topology.index(of: stage.peer) else { continue }
                let need = plan.memory(pipeline: p, stage: s, model: job.model, microBatch: job.microBatch)
                #expect(topology.hosts[host].role == .peer)
                #expect(need <= topology.hosts[host].memory)
                #expect(planned.prediction.peers.first { $0.peer == stage.peer }?.memoryBytes == need.bytes)
            }
        }
        let shares = planned.prediction.binding.ranked.map(\.share)
        #expect(abs(shares.reduce(0, +) - 1) < 1e-9 && shares.allSatisfy { $0 >= 0 })
        #expect(planned.prediction == predict(plan: plan, topology: topology, job: job))
    }

    @Test(arguments: Shipped.names) func `plans every shipped topology within memory and budget`(name: String) throws {
        let (topology, job) = (try Shipped.topology(name), try Self.demoJob())
        let planned = try Planner.plan(topology: topology, job: job, iterations: Self.few)
        Self.check(planned, topology, job)
        #expect(planned.prediction.lossPenalty <= job.qualityBudget)
        #expect(planned.prediction.speedupVersusBestSinglePeer > 1)
    }

    @Test(arguments: [(1, 256, 8), (2, 128, 8), (4, 128, 8), (1, 256, 12), (2, 128, 16)])
    func
        `cuts the demo's model into stages and its batch into pipelines, whatever the micro-batch`(
            microBatch: Int, context: Int, virtualPipelines: Int
        ) throws
    {
        var job = try Self.demoJob()
        job.microBatch = microBatch
        job.model.context = context
        job.virtualPipelines = virtualPipelines
        let topology = try Shipped.topology("demo")
        let planned = try Planner.plan(topology: topology, job: job, iterations: Self.few)
        Self.check(planned, topology, job)
        #expect(planned.plan.pipelines.count >= 2)
        #expect(planned.plan.pipelines.allSatisfy { $0.stages.count >= 2 })
    }

    @Test func `exchanges the demo's rounds rarely and compressed`() throws {
        let (_, _, planned) = try Self.demo()
        #expect((3...16).contains(planned.plan.innerSteps))
        #expect(planned.plan.exchangeCodec != .fp32)
        #expect(planned.plan.pipelines.count >= 3)
    }

    @Test func `gives every peer of a fast network a stage of its own`() throws {
        let (topology, job) = (try Shipped.topology("lan"), try Self.demoJob())
        let plan = try Planner.plan(topology: topology, job: job).plan
        #expect(plan.pipelines.map(\.stages.count) == [1, 1, 1, 1])
    }

    @Test func `gives the same plan for the same seed, and the one it is asked for`() throws {
        let (topology, job, planned) = try Self.demo()
        #expect(try Planner.plan(topology: topology, job: job) == planned)
        for (pipelines, stages, steps) in [(2, 2, 4), (3, 2, 1), (3, 2, 10), (1, 4, 3)] {
            var given = job
            given.pipelines = .fixed(pipelines)
            given.stages = .fixed(stages)
            given.innerSteps = .fixed(steps)
            given.exchangeCodec = .fixed(.int8)
            given.activationCodec = .fixed(.fp32)
            let obeyed = try Planner.plan(topology: topology, job: given, iterations: Self.few)
            Self.check(obeyed, topology, given)
            #expect(obeyed.plan.pipelines.map(\.stages.count) == [Int](repeating: stages, count: pipelines))
            #expect(obeyed.plan.innerSteps == steps)
            #expect(obeyed.plan.exchangeCodec == .int8 && obeyed.plan.activationCodec == .fp32)
        }
    }

    @Test func `obeys a number of inner steps beyond the budget, with a warning`() throws {
        let topology = try Shipped.topology("demo")
        var job = try Self.demoJob()
        job.innerSteps = .fixed(100)
        job.pipelines = .fixed(3)
        let planned = try Planner.plan(topology: topology, job: job, iterations: Self.few)
        #expect(planned.plan.innerSteps == 100)
        #expect(planned.prediction.lossPenalty > job.qualityBudget)
        #expect(planned.explanation.contains { $0.hasPrefix("Warning") })
    }

    /// A budget just above what H costs by itself allows no less than one just below.
    @Test func `allows no less with a larger budget, where H is given`() throws {
        let topology = try Shipped.topology("demo")
        var job = try Self.demoJob()
        (job.innerSteps, job.pipelines) = (.fixed(100), .fixed(3))
        var plain = job
        (plain.exchangeCodec, plain.activationCodec) = (.fixed(.fp32), .fixed(.fp32))
        let least = try Planner.plan(topology: topology, job: plain, iterations: Self.few).prediction
        var before = Double.infinity
        for budget in [least.lossPenalty * 0.5, least.lossPenalty * 0.999, least.lossPenalty * 1.001] {
            job.qualityBudget = budget
            let planned = try Planner.plan(topology: topology, job: job, iterations: Self.few).prediction
            #expect(planned.totalSeconds <= before)
            #expect(planned.lossPenalty <= max(budget, least.lossPenalty + 0.01) + 1e-12)
            before = planned.totalSeconds
        }
        #expect(before < least.totalSeconds)
    }

    @Test func `maps virtual pipelines in order and in proportion to speed`() throws {
        let (topology, job, planned) = try Self.demo()
        #expect(planned.plan.pipelines.flatMap(\.virtualPipelines) == Array(0..<job.virtualPipelines))
        let speeds = planned.plan.pipelines.map { pipeline in
            pipeline.stages.reduce(0.0) { sum, stage in
                sum + (topology.index(of: stage.peer).map { topology.hosts[$0].flops } ?? 0)
            }
        }
        let shares = planned.plan.pipelines.map(\.virtualPipelines.count)
        for a in shares.indices {
            for b in shares.indices where speeds[a] > 2 * speeds[b] { #expect(shares[a] >= shares[b]) }
        }
    }

    @Test func `keeps a running plan that is nearly the best, and replaces a lost peer`() throws {
        let (topology, job, planned) = try Self.demo()
        let again = try Planner.plan(topology: topology, job: job, current: planned.plan, seed: 99)
        #expect(again.plan == planned.plan)
        let lost = planned.plan.pipelines[0].stages[0].peer
        let after = try Planner.plan(topology: topology, job: job, excluding: [lost], current: planned.plan)
        Self.check(after, topology, job)
        #expect(!after.plan.workers.contains(lost) && !after.plan.spares.contains(lost))
    }

    @Test func `leaves a peer with a hopeless line out and says so`() throws {
        var topology = try Shipped.topology("demo")
        let job = try Self.demoJob()
        guard let finch = topology.index(of: "finch") else { return }
        topology.hosts[finch].up = .megabits(0.05)
        let planned = try Planner.plan(topology: topology, job: job, iterations: Self.few)
        #expect(planned.plan.spares.contains("finch"))
        #expect(planned.explanation.contains { $0.contains("finch") && $0.contains("spare") })
    }

    @Test func `does without peers whose speed or line is zero or not a number`() throws {
        var topology = try Shipped.topology("demo")
        topology.hosts[0].flops = 0
        topology.hosts[1].up.bitsPerSecond = .nan
        topology.hosts[2].down.bitsPerSecond = -1
        let planned = try Planner.plan(topology: topology, job: try Self.demoJob(), iterations: Self.few)
        for name in topology.hosts[0...2].map(\.name) { #expect(!planned.plan.workers.contains(name)) }
    }

    @Test func `uses no pair that cannot connect`() throws {
        var topology = Topology(name: "islands", hosts: [])
        for index in 0..<4 {
            topology.hosts.append(
                Host(
                    name: "h\(index)", flops: 5e9, memory: .mebibytes(36), up: .megabits(20), down: .megabits(50)))
        }
        // h3 reaches nobody; the others reach each other.
        for a in 0..<3 {
            for b in 0..<3 where a != b {
                topology.links[Topology.Pair(a, b)] = LinkProperties(latency: .milliseconds(5))
            }
        }
        let planned = try Planner.plan(topology: topology, job: try Self.demoJob())
        #expect(planned.plan.spares.contains("h3"))
        #expect(planned.prediction.totalSeconds.isFinite)
    }

    @Test func `says what is missing when nothing fits`() throws {
        var (topology, job) = (try Shipped.topology("demo"), try Self.demoJob())
        #expect(throws: PlanningError.noPeers) {
            try Planner.plan(topology: topology, job: job, excluding: Set(topology.hosts.map(\.name)))
        }
        for index in topology.hosts.indices { topology.hosts[index].memory = .mebibytes(1) }
        #expect {
            try Planner.plan(topology: topology, job: job)
        } throws: { error in
            "\(error)".contains("needs") && "\(error)".contains("offers 1.0 MiB") && "\(error)".contains("more memory")
        }
        func need(_ units: Range<Int>, recompute: Bool) -> Int {
            job.model.memory(
                units: units, rounds: false, sequences: job.microBatch, inFlight: 1, recompute: recompute
            ).bytes
        }
        func offer(_ bytes: Int) {
            for index in topology.hosts.indices { topology.hosts[index].memory = ByteCount(bytes) }
        }
        // A block alone is too large, for any of eight that could hold embedding and head.
        offer(need(1..<2, recompute: true) - 1)
        #expect(throws: PlanningError.self) { try Planner.plan(topology: topology, job: job) }
        offer((need(job.model.allUnits, recompute: true) + need(job.model.allUnits, recompute: false)) / 2)
        job.pipelines = .fixed(8)
        job.recompute = .fixed(false)
        #expect(throws: PlanningError.self) { try Planner.plan(topology: topology, job: job) }
        // Recomputing, each of them holds all of it.
        job.recompute = .auto
        Self.check(try Planner.plan(topology: topology, job: job, iterations: Self.few), topology, job)
    }

    /// The table is where the first stage is, and lent to the last; it is reckoned there, once.
    @Test func `cuts a model with tied embeddings where no peer holds it`() throws {
        var job = try Self.demoJob()
        job.model.tieWordEmbeddings = true
        job.model.vocabulary = 2048
        let demo = try Shipped.topology("demo")
        let whole = job.model.memory(units: job.model.allUnits, rounds: false, sequences: job.microBatch, inFlight: 1)
        var small = demo
        for index in small.hosts.indices { small.hosts[index].memory = ByteCount(whole.bytes * 3 / 4) }
        let planned = try Planner.plan(topology: small, job: job)
        Self.check(planned, small, job)
        #expect(planned.plan.pipelines.allSatisfy { $0.stages.count > 1 })
        let shares = planned.plan.pipelines.flatMap { pipeline in
            pipeline.stages.map { stage in planned.prediction.peers.first { $0.peer == stage.peer }!.computeShare }
        }
        #expect(abs(shares.reduce(0, +) - Double(planned.plan.pipelines.count)) < 1e-9)
        for index in small.hosts.indices { small.hosts[index].memory = .mebibytes(1) }
        #expect(throws: PlanningError.self) { try Planner.plan(topology: small, job: job) }
    }

    /// Random peers, links and jobs: whatever comes out must be a plan.
    @Test(arguments: 0..<40) func `covers every layer once and fits memory on random topologies`(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let regions = 1 + random.below(4)
        var topology = Topology(
            name: "random", hosts: [], regions: (0..<regions).map { Region(name: "r\($0)") },
            defaultLink: LinkProperties(latency: .milliseconds(1 + random.below(100))))
        for index in 0..<(1 + random.below(10)) {
            topology.hosts.append(
                Host(
                    name: "h\(index)", flops: 1e9 * (0.5 + 20 * random.uniform()),
                    memory: .mebibytes(5 + 60 * random.uniform()), up: .megabits(1 + 50 * random.uniform()),
                    down: .megabits(5 + 100 * random.uniform()), region: random.below(regions),
                    meanSession: random.below(3) == 0 ? .seconds(3600) : nil))
        }
        var job = try Self.demoJob()
        job.model.layers = 1 + random.below(10)
        job.virtualPipelines = 1 + random.below(12)
        job.tokens = 1 + random.below(1_000_000)
        if random.below(3) == 0 { job.innerSteps = .fixed(1 + random.below(20)) }
        switch Self.outcome(topology, job) {
        case .success(let planned): Self.check(planned, topology, job)
        case .failure(let error):
            // Refusing is fine, but the text must help.
            #expect("\(error)".contains("memory") || "\(error)".contains("Ask for"))
        }
    }
    static func outcome(_ topology: Topology, _ job: JobManifest) -> Result<PlannedJob, PlanningError> {
        do {
            return .success(try Planner.plan(topology: topology, job: job, iterations: few))
        } catch { return .failure(error) }
    }

    @Test func `predicts one peer alone in closed form`() throws {
        var job = try Self.demoJob()
        job.innerSteps = .fixed(4)
        let topology = Topology(
            name: "one",
            hosts: [
                Host(
                    name: "only", flops: 1e10, memory: .mebibytes(500), up: .megabits(10), down: .megabits(10))
            ])
        let planned = try Planner.plan(topology: topology, job: job)
        let work = 3 * job.model.forwardFLOPs(units: job.model.allUnits, sequences: 2) * 8
        let step = (work + 22 * Double(job.model.parameters)) / 1e10
        #expect(abs(planned.prediction.stepSeconds - step) < 1e-9)
        let validation = job.model.forwardFLOPs(units: job.model.allUnits, sequences: 64) / 1e10
        #expect(abs(planned.prediction.validationSeconds - validation) < 1e-9)
        // The outer step (30 + 4 FLOPs a parameter) and encoding (30) are all that a round adds.
        let round = 4 * step + validation + 64 * Double(job.model.parameters) / 1e10
        #expect(abs(planned.prediction.roundSeconds - round) < 1e-9)
    }

    @Test func `reports within a hundred columns and as JSON with the documented keys`() throws {
        let (topology, job, planned) = try Self.demo()
        let report = PlanReport(planned, topology: topology, job: job)
        for line in report.text.split(separator: "\n") { #expect(line.count <= 100, "\(line)") }
        for peer in planned.plan.workers { #expect(report.gantt.contains(peer) && report.table.contains(peer)) }
        let data = try JSONEncoder().encode(PlanSummary(planned, job: job))
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(object["inner_steps"] as? Int == planned.plan.innerSteps)
        #expect(object["batch_tokens"] as? Int == 2048)
        #expect(object["codec"] as? String == planned.plan.exchangeCodec.description)
        #expect(object["predicted"] is [String: Any] && object["binding"] is [String: Any])
        let pipelines = try #require(object["pipelines"] as? [[String: Any]])
        let stage = try #require((pipelines[0]["stages"] as? [[String: Any]])?.first)
        #expect(stage["peer"] is String && (stage["units"] as? [Int])?.first == 0)
        #expect(try JSONDecoder().decode(PlanSummary.self, from: data) == PlanSummary(planned, job: job))
        let plan = try JSONDecoder().decode(Plan.self, from: try JSONEncoder().encode(planned.plan))
        #expect(plan == planned.plan)
    }

    @Test func `says what more bandwidth or speed would buy`() throws {
        let (topology, job, planned) = try Self.demo()
        let found = Counterfactual.of(planned, topology: topology, job: job)
        #expect(!found.isEmpty)
        #expect(found.allSatisfy { $0.relative < 0 && $0.totalSeconds < planned.prediction.totalSeconds })
    }
}

@Suite struct `A plan from elsewhere` {
    static let model = ModelShape(
        hiddenSize: 64, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 96, context: 64)
    static func plan(_ cuts: [[Range<Int>]], shares: [[Int]], peers: [[String]]) -> Plan {
        Plan(
            pipelines: zip(zip(cuts, peers), shares).map { pair, share in
                Plan.Pipeline(
                    stages: zip(pair.1, pair.0).map { Plan.Stage(peer: $0, units: $1) }, virtualPipelines: share,
                    inFlight: 1)
            },
            innerSteps: 1, microBatchesPerVirtual: 1, exchangeCodec: .fp32, activationCodec: .fp32, spares: ["s"])
    }
    @Test func `is refused unless every unit and every virtual pipeline is somebody's, once`() {
        let good = Self.plan([[0..<2, 2..<4], [0..<4]], shares: [[0], [1]], peers: [["a", "b"], ["c"]])
        #expect(good.flaw(model: Self.model, virtualPipelines: 2) == nil)
        #expect(good.position(of: "b")! == (0, 1))
        #expect(good.pipeline(of: 1) == 1)
        #expect(good.flaw(model: Self.model, virtualPipelines: 3) != nil)
        for bad in [
            Self.plan([[0..<2, 3..<4]], shares: [[0, 1]], peers: [["a", "b"]]),
            Self.plan([[0..<2, 2..<5]], shares: [[0, 1]], peers: [["a", "b"]]),
            Self.plan([[0..<2, 2..<4]], shares: [[0, 1]], peers: [["a", "a"]]),
            Self.plan([[0..<4]], shares: [[1, 0]], peers: [["a"]]),
            Self.plan([[0..<4]], shares: [[0, 1]], peers: [["s"]]),
            Self.plan([[]], shares: [[0, 1]], peers: [[]]),
        ] { #expect(bad.flaw(model: Self.model, virtualPipelines: 2) != nil) }
    }
}
