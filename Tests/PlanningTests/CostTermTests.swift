import Exchange
import Links
import Planning
import Primitives
import Testing
import Topologies

/// The worked cases of docs/COST.md that need no planner: plans given, seconds to 1e-9.
@Suite struct `A term of the cost model` {
    /// d = 128, g = 64, i = 384, y = 256, h = 4, T = 128.
    static func job(layers: Int = 1, virtualPipelines: Int = 8, microBatch: Int = 2) -> JobManifest {
        JobManifest(
            name: "worked",
            model: ModelShape(
                hiddenSize: 128, layers: layers, heads: 4, kvHeads: 2, intermediateSize: 384, context: 128),
            data: .path("x"), tokens: 1_000_000, virtualPipelines: virtualPipelines, microBatch: microBatch)
    }
    static func pool(_ peers: Int, megabits: Double = 8, milliseconds: Int = 40) -> Topology {
        Topology(
            name: "worked",
            hosts: (0..<peers).map {
                Host(
                    name: "h\($0)", flops: 1e10, memory: .mebibytes(500), up: .megabits(megabits),
                    down: .megabits(megabits))
            }, defaultLink: LinkProperties(latency: .milliseconds(milliseconds)))
    }
    /// Each peer holds the whole model and a share of the batch.
    static func replicas(_ shares: [Int], _ job: JobManifest, innerSteps: Int, codec: Codec = .fp32) -> Plan {
        var next = 0
        return Plan(
            pipelines: shares.enumerated().map { index, share in
                defer { next += share }
                return Plan.Pipeline(
                    stages: [Plan.Stage(peer: "h\(index)", units: job.model.allUnits)],
                    virtualPipelines: Array(next..<next + share), inFlight: 1)
            }, innerSteps: innerSteps, microBatchesPerVirtual: 1, exchangeCodec: codec, activationCodec: .fp32,
            spares: [])
    }
    static func agree(_ a: Double, _ b: Double, location: SourceLocation = #_sourceLocation) {
        #expect(abs(a - b) < 1e-9 * max(1, abs(b)), "\(a), not \(b)", sourceLocation: location)
    }
    /// FLOPs of a micro-batch's forward, and parameters, of the whole model with one block and m = 2: from the text.
    static let forward = 32_768.0 + 109_051_904 + 16_777_216
    static let parameters = 32_768.0 + 196_864 + 128 + 32_768

    @Test func `of size is a number of FLOPs, parameters and bytes`() {
        let job = Self.job()
        #expect(job.model.parameters(unit: 1) == 196_864)
        #expect([0, 1, 2].map { job.model.forwardFLOPs(unit: $0, sequences: 2) } == [32_768, 109_051_904, 16_777_216])
        #expect(Double(job.model.parameters) == Self.parameters)
        let plan = Plan(
            pipelines: [
                Plan.Pipeline(
                    stages: [
                        Plan.Stage(peer: "h0", units: 0..<1), Plan.Stage(peer: "h1", units: 1..<2),
                        Plan.Stage(peer: "h2", units: 2..<3),
                    ], virtualPipelines: Array(0..<8), inFlight: 3)
            ], innerSteps: 4, microBatchesPerVirtual: 1, exchangeCodec: .int8, activationCodec: .int8, spares: [])
        let loads = predict(plan: plan, topology: Self.pool(3), job: job).peers
        // R = 256 rows, all in one stretch. The block saves 4·R·(4d + 2g + 2i + 2) of each micro-batch; besides there is once what
        // docs/COST.md lists: activations, attention, gated product, two of rows, tables of turns, scores.
        let once = 12 * 32_768 + 4 * 256 * (256 + 128) + 12 * 256 * 384 + 8 * 32_768 + 4 * 128 * 32 + 512 * (128 + 31)
        #expect(loads[1].memoryBytes == 28 * 196_864 + 3 * 4 * 256 * (512 + 128 + 768 + 2) + once)
        #expect(loads[1].memoryBytes == 12_169_728)
        // Embedding and head: state and activations; the head saves its input and losses, and has logits.
        #expect(loads[0].memoryBytes == 28 * 32_768 + 12 * 32_768)
        #expect(
            loads[2].memoryBytes
                == 28 * 32_896 + 4 * 256 * 129 + 8 * 32_768 + 4 * 256 * (256 + 128 + 1) + 4 * 128 + 8 * 32_768)
        // In a round 4 steps of 8 micro-batches and 32 of validation, each 33 376 bytes, one way; 32 back.
        #expect(loads[0].sentBytes == (32 + 32) * 33_376 && loads[0].receivedBytes == 32 * 33_376)
        // A contribution of one more block, and the header of a message.
        func sent(_ layers: Int) -> Int {
            let job = Self.job(layers: layers)
            let plan = Self.replicas([4, 4], job, innerSteps: 4, codec: .int8)
            return predict(plan: plan, topology: Self.pool(2), job: job).peers[0].sentBytes
        }
        #expect(sent(2) - sent(1) == 199_980)
        #expect(sent(1) == 199_980 + 2 * (32_768 + 512 + 4) + 132 + 4 + 96)
    }

    @Test func `of a low-rank contribution is two factors of each matrix`() {
        let job = Self.job()
        let plan = Self.replicas([4, 4], job, innerSteps: 4, codec: .lowrank(rank: 4))
        let sent = predict(plan: plan, topology: Self.pool(2), job: job).peers[0].sentBytes
        // Matrices of 256×128 twice, 128×128 twice, 64×128 twice, 384×128 thrice, rows + columns times 4 ranks of 4 bytes;
        // three norms of 128 values whole; 12 lengths and a header.
        let sides = 2 * (256 + 128) + 2 * (128 + 128) + 2 * (64 + 128) + 3 * (384 + 128)
        #expect(sent == 16 * sides + 3 * 4 * 128 + 12 * 4 + 96)
    }

    @Test func `of rounds between two peers is seal, outer step, validation, steps, encoding, all-gather and report`() {
        let job = Self.job(virtualPipelines: 2, microBatch: 1)
        var plan = Self.replicas([1, 1], job, innerSteps: 4)
        let (forward, parameters) = (Self.forward / 2, Self.parameters)
        let step = (3 * forward + 22 * parameters) / 1e10
        let bytes = 4 * parameters + 12 * 4 + 96
        let transfer = (bytes + 16_384) / 1e6
        let plain = predict(plan: plan, topology: Self.pool(2), job: job)
        Self.agree(plain.stepSeconds, step)
        Self.agree(plain.validationSeconds, 32 * forward / 1e10)
        Self.agree(plain.roundSeconds, 0.08 + (68 * parameters + 32 * forward) / 1e10 + 4 * step + transfer)
        Self.agree(plain.exposedExchangeSeconds, 0.04 + 30 * parameters / 1e10 + transfer)
        plan.exchangeDelay = 2
        let hidden = predict(plan: plan, topology: Self.pool(2), job: job)
        Self.agree(hidden.exposedExchangeSeconds, 0.04 + transfer - 2 * step)
        Self.agree(plain.roundSeconds - hidden.roundSeconds, 2 * step)
        // A line a hundred times faster: all is there before the last step ends.
        let fast = predict(plan: plan, topology: Self.pool(2, megabits: 800), job: job)
        Self.agree(fast.exposedExchangeSeconds, 0.04 + max(0, transfer / 100 - 2 * step))
    }

    @Test func `of owners halves the bytes' time of four alike and doubles the way`() {
        var job = Self.job(virtualPipelines: 4, microBatch: 1)
        var topology = Self.pool(4)
        topology.hosts.append(
            Host(
                name: "captain", role: .coordinator, flops: 1, memory: ByteCount(0), up: .megabits(8),
                down: .megabits(8)))
        let plan = Self.replicas([1, 1, 1, 1], job, innerSteps: 4)
        let bytes = 4 * Self.parameters + 12 * 4 + 96
        let encoding = 30 * Self.parameters / 1e10
        let owned = predict(plan: plan, topology: topology, job: job)
        Self.agree(owned.exposedExchangeSeconds, encoding + (3 * bytes + 16_384) / 2e6 + 0.08 + 0.04)
        job.exchangeWay = .fixed(.allGather)
        let gathered = predict(plan: plan, topology: topology, job: job)
        Self.agree(gathered.exposedExchangeSeconds, encoding + (3 * bytes + 16_384) / 1e6 + 0.04 + 0.04)
    }

    @Test func `of a shared line is what activations leave of it until the last step ends`() {
        Self.agree(NaiveCost.through(1e6, rate: 1e6, from: 0, ended: 1.2, taken: 0.5), 1.6)
        Self.agree(NaiveCost.through(1e6, rate: 1e6, from: 0, ended: 3, taken: 0.5), 2)
        Self.agree(NaiveCost.through(1e6, rate: 1e6, from: 1.2, ended: 1.2, taken: 0.5), 2.2)
        // A line that is full leaves two per cent.
        Self.agree(NaiveCost.through(1e6, rate: 1e6, from: 0, ended: 10, taken: 1), 10.8)
        // Two pipelines of two stages, lines that activations fill.
        let job = Self.job(virtualPipelines: 600, microBatch: 1)
        let topology = Self.pool(4, megabits: 2, milliseconds: 1)
        var plan = Plan(
            pipelines: (0..<2).map { p in
                Plan.Pipeline(
                    stages: [
                        Plan.Stage(peer: "h\(2 * p)", units: 0..<1), Plan.Stage(peer: "h\(2 * p + 1)", units: 1..<3),
                    ], virtualPipelines: Array(300 * p..<300 * p + 300), inFlight: 300)
            }, innerSteps: 4, microBatchesPerVirtual: 1, exchangeCodec: .fp32, activationCodec: .int8, spares: [])
        plan.exchangeDelay = 1
        let stated = predict(plan: plan, topology: topology, job: job)
        #expect(300 * 16_736 / 250_000 / stated.stepSeconds > 0.98)
        let naive = NaiveCost(plan: plan, topology: topology, job: job).answer()
        Self.agree(stated.roundSeconds, naive.roundSeconds)
        // What two per cent let through in a step, and then the rest alone.
        #expect(stated.exposedExchangeSeconds > 3)
    }

    @Test func `of partial sums counts aligned blocks`() {
        let job = Self.job(virtualPipelines: 16, microBatch: 1)
        let plan = Self.replicas([3, 5, 8], job, innerSteps: 1)
        // Fast lines: all-gather, nobody owns.
        var gathering = job
        gathering.exchangeWay = .fixed(.allGather)
        let loads = predict(plan: plan, topology: Self.pool(3), job: gathering).peers
        let whole = 4 * Int(Self.parameters) + 12 * 4
        #expect(loads.map(\.sentBytes) == [2, 2, 1].map { 2 * ($0 * whole + 96) })
    }

    @Test func `of single steps on one peer is outer step, update, batch, a tenth of validation and encoding`() {
        let job = Self.job()
        let plan = Self.replicas([8], job, innerSteps: 1)
        let prediction = predict(plan: plan, topology: Self.pool(1), job: job)
        let (forward, parameters) = (Self.forward / 1e10, Self.parameters / 1e10)
        let round = 24 * forward + 3.2 * forward + 86 * parameters
        Self.agree(prediction.roundSeconds, round)
        Self.agree(prediction.stepSeconds, round)
        Self.agree(prediction.validationSeconds, 3.2 * forward)
        Self.agree(prediction.exposedExchangeSeconds, 30 * parameters)
        Self.agree(prediction.binding.compute, (24 * forward + 22 * parameters) / round)
        Self.agree(prediction.binding.validation, 3.2 * forward / round)
        Self.agree(prediction.binding.exchange, 64 * parameters / round)
        Self.agree(prediction.bestSinglePeerSeconds, 489 * (round - 64 * parameters))
        Self.agree(prediction.totalSeconds, 489 * round)
    }

    @Test func `of the job counts whole rounds, what the last one misses, and who leaves`() {
        var job = Self.job(virtualPipelines: 2, microBatch: 1)
        // Ten steps.
        job.tokens = 10 * 256 - 1
        let plan = Self.replicas([1, 1], job, innerSteps: 4)
        var topology = Self.pool(2)
        let calm = predict(plan: plan, topology: topology, job: job)
        #expect(calm.steps == 10 && calm.rounds == 3)
        Self.agree(calm.totalSeconds, 3 * calm.roundSeconds - 2 * calm.stepSeconds)
        topology.hosts[1].meanSession = .seconds(1000)
        let lossy = predict(plan: plan, topology: topology, job: job)
        // 16 bytes a parameter over 8 Mbit/s.
        let recovery = 16 * Self.parameters / 1e6
        Self.agree(lossy.totalSeconds, calm.totalSeconds * (1 + (5 + recovery + calm.roundSeconds / 2) / 1000))
        topology.hosts[0].meanSession = .seconds(500)
        let both = predict(plan: plan, topology: topology, job: job)
        Self.agree(both.totalSeconds, calm.totalSeconds * (1 + (5 + recovery + calm.roundSeconds / 2) * 3 / 1000))
    }

    /// Peers "h0", which runs, and "h1", which is so much faster that changing just pays, or just does not.
    @Test(arguments: [0.999, 1.001]) func `of a change is the longest download, two seconds and three per cent`(
        side: Double
    ) throws {
        var job = Self.job()
        job.innerSteps = .fixed(4)
        job.exchangeCodec = .fixed(.fp32)
        job.activationCodec = .fixed(.fp32)
        job.pipelines = .fixed(1)
        job.stages = .fixed(1)
        var topology = Self.pool(2, milliseconds: 0)
        let running = Self.replicas([8], job, innerSteps: 4)
        let seconds = predict(plan: running, topology: topology, job: job).totalSeconds
        let change = 16 * Self.parameters / 1e6 + 2
        // seconds · x · 1.0005 + change = 0.97 · 1.0005 · seconds, but for `side`.
        let other = (0.97 * 1.0005 * seconds - change) / 1.0005 * side
        topology.hosts[1].flops *= seconds / other
        let planned = try Planner.plan(topology: topology, job: job, current: running, iterations: 50)
        #expect(planned.plan.workers == [side < 1 ? "h1" : "h0"])
        Self.agree(planned.objectiveSeconds, side < 1 ? other * 1.0005 + change : seconds * 1.0005)
    }
}
