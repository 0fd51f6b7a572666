import Coordination
import Digests
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies
import Training

/// A small job on a few computers: all of it made here, so that a test shows what matters to it.
struct Scene {
    var job: JobManifest
    var hosts: [Host]
    var faults: [Fault] = []
    /// By index; what is not here is the default link.
    var links: [Topology.Pair: LinkProperties] = [:]
    var latency = Duration.milliseconds(5)
    var seed: UInt64 = 1
    var realArithmetic = false
    var lies: [String: Lie] = [:]
    var hostile: [String: Int] = [:]
    var auditShare: Double?
    var limit = Duration.seconds(3600)
    var keepsPlay = false
    var probeBytes: Int?
    var hasDisks = false
    var leaderDeaths: LeaderDeaths?
    var launcherPatience: Duration?
    var lostMajority: LostMajority?
    /// Hosts that are not started with the others.
    var absent: Set<String> = []
    /// Pairs between which nothing ever passes, by number.
    var apart: [(Int, Int)] = []
    /// In place of the usual text, and what the job begins with where that is not drawn.
    var content = Self.corpus
    var initial: [UnitState] = []

    static let corpus: [UInt8] = (0..<6000).map { (i: Int) in UInt8((i * i * 7 + i * 3 + 11) % 89 + 32) }
    static let model = ModelShape(
        hiddenSize: 32, layers: 3, heads: 4, kvHeads: 2, intermediateSize: 64, context: 32)

    /// - Parameter steps: of four virtual pipelines, one micro-batch of one sequence each.
    init(peers: Int, pipelines: Int, stages: Int, innerSteps: Int, steps: Int) {
        job = JobManifest(
            name: "small", model: Self.model, data: .path("text"), tokens: 128 * steps, validationFraction: 0.1,
            virtualPipelines: 4, microBatch: 1)
        job.batchTokens = .fixed(128)
        job.pipelines = .fixed(pipelines)
        job.stages = .fixed(stages)
        job.innerSteps = .fixed(innerSteps)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.qualityBudget = 10
        job.exchangeDelay = .fixed(0)
        job.checkpoint.everyRounds = 1_000_000
        hosts = (0..<peers).map { Self.host("peer-\($0)") }
    }

    static func host(_ name: String, flops: Double = 5e7, memory: ByteCount = .mebibytes(64)) -> Host {
        Host(name: name, flops: flops, memory: memory, up: .megabits(50), down: .megabits(100))
    }

    /// - Parameter change: what few scenes say otherwise.
    func run(_ change: (inout WorldOptions) -> Void = { _ in }) -> Outcome {
        let topology = Topology(
            name: "small", hosts: hosts, links: links,
            defaultLink: LinkProperties(latency: latency), faults: faults)
        var options = WorldOptions()
        options.seed = seed
        options.realArithmetic = realArithmetic
        options.limit = limit
        options.lies = lies
        options.hostile = hostile
        options.auditShare = auditShare
        options.keepsPlay = keepsPlay
        options.probeBytes = probeBytes
        options.hasDisks = hasDisks
        options.leaderDeaths = leaderDeaths
        options.launcherPatience = launcherPatience
        options.lostMajority = lostMajority
        options.absent = absent
        change(&options)
        let world = World(
            topology: topology, manifest: job.canonicalText, parameters: JobParameters(job), corpus: content,
            initial: initial, options: options)
        for (a, b) in apart {
            world.cut(from: a, to: b)
            world.cut(from: b, to: a)
        }
        return Outcome(world: world, end: world.run(), model: job.model)
    }

    /// The digest of the weights that one process, which nothing happens to, ends with.
    func localDigest() throws -> Digest256 {
        let geometry = job.geometry(microBatchesPerVirtual: 1)
        var configuration = StageConfiguration(
            model: job.model, units: job.model.allUnits, geometry: geometry, seed: job.seed,
            optimizer: JobParameters(job).optimizer, mode: .everyStep, exchangeCodec: .fp32, activationCodec: .fp32,
            validationFraction: job.validationFraction, dataTokens: job.text.tokens)
        configuration.dataParts = job.text.parts
        var trainer = LocalTrainer(
            configuration: configuration, pipelines: [[0, 1, 2, 3]], innerSteps: 1,
            totalSteps: job.steps(microBatchesPerVirtual: 1))
        trainer.validationEvery = 0
        if !initial.isEmpty { trainer.initial = ModelParameters(shape: job.model, states: initial) }
        return try trainer.run(corpus: CorpusBytes(content), threads: 1).weightsDigest
    }
}

/// A world that has run, and what must be true of each.
struct Outcome {
    let world: World
    let end: JobEnd
    let model: ModelShape

    var totals: Ledger.Totals { world.coordinator.record.ledger.totals }
    func events(_ kind: String) -> [Event] { world.events.map(\.event).filter { $0.kind == kind } }
    /// The job has stopped for one of the reasons that have a test of their own: nothing is sealed after a roll-back, or
    /// somebody asks one for weights who holds nothing any more.
    var isStuck: Bool {
        let last = events("rolled_back").last?.at
        return last.map { at in !events("round_sealed").contains { $0.at > at } } ?? false
            || events("state_unavailable").contains { $0.text("why") == "nothing held here" }
    }
    /// The names of those who hold layers in the plan in force.
    var workers: [String] {
        let state = world.coordinator.state
        return state.plan?.peers.map { state.name(of: $0) } ?? []
    }
    func weightsDigest() throws -> Digest256 {
        guard case .finished(let states) = end else { throw NotFinished(end) }
        return try #require(ModelParameters(shape: model, states: states)).weightsDigest
    }
    struct NotFinished: Error, CustomStringConvertible {
        let description: String
        init(_ end: JobEnd) { if case .failed(let why) = end { description = why } else { description = "finished" } }
    }

    /// The job is done, all holders agree, nothing was refused, and every micro-batch is accounted for, twice.
    func checkFinished(location: SourceLocation = #_sourceLocation) throws {
        if case .failed(let why) = end { Issue.record("the job failed: \(why)", sourceLocation: location) }
        let coordinator = world.coordinator
        #expect(coordinator.state.sealedTokens >= coordinator.state.parameters.tokens, sourceLocation: location)
        #expect(coordinator.state.finished?.reason == Finish.done, sourceLocation: location)
        for kind in [
            "weights_differ", "log_entry_refused", "receipt_refused", "state_malformed", "state_refused",
            "contribution_malformed", "payload_corrupt", "packet_malformed", "work_refused", "placement_refused",
        ] {
            #expect(events(kind).isEmpty, "\(events(kind).map(\.line))", sourceLocation: location)
        }
        #expect(totals.isBalanced, "\(totals)", sourceLocation: location)
        #expect(totals.counted * 32 == coordinator.state.sealedTokens, sourceLocation: location)
        let audit = try auditMicroBatches(
            log: coordinator.record.envelopes, receipts: coordinator.books.receiptEnvelopes,
            parameters: coordinator.state.parameters)
        #expect(audit == totals, sourceLocation: location)
    }
}
