internal import Compute
internal import Primitives
internal import Topologies

/// One pipeline while planning: host indices, and where each stage's units end.
struct Lane: Hashable, Sendable {
    var hosts: [Int]
    /// Upper bound of each stage's units, ascending; the last is the unit count.
    var cuts: [Int]
    /// How many virtual pipelines it computes.
    var share: Int
    var inFlight: Int
    /// Which stages recompute; empty: none. (Never all false, so that equal lanes are equal.)
    var recompute: [Bool] = []

    func units(_ stage: Int) -> Range<Int> { (stage == 0 ? 0 : cuts[stage - 1])..<cuts[stage] }
    func recomputes(_ stage: Int) -> Bool { stage < recompute.count && recompute[stage] }
    /// One number for all: searches look lanes up again and again.
    func hash(into hasher: inout Hasher) { hasher.combine(hosts.mixed(cuts.mixed(share << 16 ^ inFlight))) }
}

extension [Int] {
    /// These and what came before, in one number (Fowler, Noll & Vo 1991).
    func mixed(_ before: Int) -> Int {
        var hash = before
        for number in self { hash = (hash ^ number) &* 0x100_0000_01B3 }
        return hash
    }
}

/// What a job does between two exchanges, apart from who computes what.
struct Pacing: Hashable, Sendable {
    var innerSteps: Int
    var microBatchesPerVirtual: Int
    var codec: Codec
    var activations: Codec
    /// τ.
    var delay = 0
    var usesRounds: Bool { innerSteps > 1 }
}

/// The arithmetic of a job on a topology: sizes, times, rates. Everything the search asks again and again is precomputed.
struct CostModel: Sendable {
    /// FLOPs a parameter: AdamW step; sum of squares; encoding a contribution; an outer step without and per contributor.
    static let updateFLOPs = 20.0
    static let squareFLOPs = 2.0
    static let encodeFLOPs = 30.0
    static let outerFLOPs = 30.0
    static let foldFLOPs = 4.0
    /// Most windows a round evaluates, over all pipelines; with H = 1 only every tenth round does.
    static let validationWindows = 64
    static let validationEvery = 10
    /// Seconds until a lost peer is noticed.
    static let detectionSeconds = 5.0
    /// How much slower, relatively, a plan may be that leaves all peers out, against one that uses all. Small: it shall break
    /// ties and keep a peer spare that adds nothing, not outweigh what a peer does add.
    static let peerReluctance = 0.001
    /// Bytes of header and record around each message.
    static let messageOverhead = 96.0

    let topology: Topology
    let job: JobManifest
    let model: ModelShape
    let coordinator: Int
    let peerCount: Int
    /// FLOPs of a micro-batch's forward, and parameters, of units 0..<u.
    let forwardPrefix: [Double]
    let parameterPrefix: [Double]
    private let memoryTable: MemoryTable
    /// What the search asks of hosts again and again, by index.
    let speeds: [Double]
    let memories: [Int]
    /// Bytes per second.
    let ups: [Double]
    let downs: [Double]
    /// What the job asks for: whether stages recompute, and how many stages; nil where the planner chooses.
    let givenRecompute: Bool?
    let givenStages: Int?
    private let contribution: [Codec: [Double]]
    /// [from, to], row by row, in seconds; of hosts where the topology is small, else of classes.
    private let latencies: [Double]
    /// Hosts whose links are alike share a class: their region. Empty where `latencies` is by host, or pairs have links of
    /// their own.
    private let classes: [Int]
    private let classCount: Int
    /// Whether any pair has a cap of its own.
    private let capped: Bool
    /// Pairs that a relay carries, and what each relay carries, in bytes per second.
    let relays: [Topology.Pair: Int]
    let carries: [Int: Double]
    /// [from, to], row by row, in bytes per second; empty where no pair has a cap, or the topology is large.
    private let rates: [Double]
    static let codecs: [Codec] = [.fp32, .bf16, .int8, .int4] + [64, 128, 256, 512, 1024].map { Codec.sparse(k: $0) }

    /// - Parameters:
    ///   - codec: of a plan from elsewhere, which the job need not name.
    ///   - coordinator: its index where it is not the topology's own choice.
    init(topology: Topology, job: JobManifest, codec: Codec? = nil, coordinator: Int? = nil) {
        self.topology = topology
        self.job = job
        model = job.model
        self.coordinator = coordinator ?? topology.coordinator ?? 0
        peerCount = topology.peers.count
        (forwardPrefix, parameterPrefix) = CostModel.work(of: job)
        memoryTable = MemoryTable(
            MemoryLaw(job.model, sequences: job.microBatch, kept: job.innerOptimizer.kept), job.model)
        speeds = topology.hosts.map(\.flops)
        memories = topology.hosts.map(\.memory.bytes)
        ups = topology.hosts.map(\.up.bytesPerSecond)
        downs = topology.hosts.map(\.down.bytesPerSecond)
        givenRecompute = job.recompute.value
        givenStages = job.stages.value
        contribution = CostModel.contributions(of: job, also: codec)
        (latencies, classes, classCount) = CostModel.latencies(of: topology)
        capped = topology.hasPairCaps
        relays = topology.relays
        carries = Dictionary(
            Set(topology.relays.values).map { ($0, topology.hosts[$0].carries.bytesPerSecond) }, uniquingKeysWith: min)
        let hosts = capped && topology.hosts.count <= 1024 ? topology.hosts.indices : 0..<0
        rates = hosts.flatMap { from in
            hosts.map { topology.sendRate(from: from, to: $0).bytesPerSecond }
        }
    }

    /// FLOPs of a micro-batch's forward, and parameters, of units 0..<u.
    private static func work(of job: JobManifest) -> (forward: [Double], parameters: [Double]) {
        var (forward, parameters) = ([0.0], [0.0])
        for unit in job.model.allUnits {
            forward.append(forward[unit] + job.model.forwardFLOPs(unit: unit, sequences: job.microBatch))
            parameters.append(parameters[unit] + Double(job.model.parameters(unit: unit)))
        }
        return (forward, parameters)
    }
    /// Bytes of one contribution of units 0..<u, by codec.
    private static func contributions(of job: JobManifest, also codec: Codec?) -> [Codec: [Double]] {
        var table: [Codec: [Double]] = [:]
        for codec in CostModel.codecs + [job.exchangeCodec.value, codec].compactMap({ $0 }) {
            var prefix = [0.0]
            func bytes(_ unit: Int) -> Double {
                Double(job.model.tensors(unit: unit).reduce(0) { $0 + 4 + codec.expectedBytes(for: $1.shape) })
            }
            // All blocks are alike.
            let block = bytes(1)
            for unit in job.model.allUnits {
                let isBlock = unit > 0 && unit <= job.model.layers
                prefix.append(prefix[unit] + (isBlock ? block : bytes(unit)))
            }
            table[codec] = prefix
        }
        return table
    }
    /// [from, to], row by row: by host where the topology is small, by region where a large one has no pairs of its own, else empty.
    private static func latencies(of topology: Topology) -> (seconds: [Double], classes: [Int], width: Int) {
        let n = topology.hosts.count
        var matrix: [Double] = []
        if n <= 1024 {
            matrix.reserveCapacity(n * n)
            for from in 0..<n { for to in 0..<n { matrix.append(topology.latencySeconds(from: from, to: to)) } }
            return (matrix, [], n)
        }
        guard topology.links.isEmpty else { return ([], [], n) }
        // One host stands for its region: two of the same region see each other as any two of it do.
        let width = topology.regions.count + 1
        let classes = topology.hosts.map { $0.region.map { $0 + 1 } ?? 0 }
        var first = [Int](repeating: -1, count: width)
        var second = first
        for (host, kind) in classes.enumerated() {
            if first[kind] < 0 { first[kind] = host } else if second[kind] < 0 { second[kind] = host }
        }
        for a in 0..<width {
            for b in 0..<width {
                let to = a == b ? second[b] : first[b]
                matrix.append(first[a] < 0 || to < 0 ? .infinity : topology.latencySeconds(from: first[a], to: to))
            }
        }
        return (matrix, classes, width)
    }

    func flops(_ units: Range<Int>) -> Double { forwardPrefix[units.upperBound] - forwardPrefix[units.lowerBound] }
    func parameters(_ units: Range<Int>) -> Double {
        parameterPrefix[units.upperBound] - parameterPrefix[units.lowerBound]
    }
    /// Bytes of one contribution of these units.
    func contributionBytes(_ units: Range<Int>, _ codec: Codec) -> Double {
        let prefix = contributionPrefix(codec)
        return prefix[units.upperBound] - prefix[units.lowerBound]
    }
    /// Bytes of one contribution of units 0..<u.
    func contributionPrefix(_ codec: Codec) -> [Double] {
        contribution[codec] ?? parameterPrefix.map { $0 * codec.bitsPerValue / 8 }
    }
    func activationBytes(_ codec: Codec) -> Double {
        Double(codec.expectedBytes(for: model.activationValues(sequences: job.microBatch))) + CostModel.messageOverhead
    }
    /// One way, in seconds.
    func latency(_ from: Int, _ to: Int) -> Double {
        if from == to { return 0 }
        if latencies.isEmpty { return topology.latencySeconds(from: from, to: to) }
        return classes.isEmpty
            ? latencies[from * classCount + to] : latencies[classes[from] * classCount + classes[to]]
    }
    /// Bytes per second that `from` can push towards `to`.
    func rate(_ from: Int, _ to: Int) -> Double {
        if !capped { return ups[from] }
        if rates.isEmpty { return topology.sendRate(from: from, to: to).bytesPerSecond }
        return rates[from * topology.hosts.count + to]
    }
    /// Micro-batches whose activations a stage of so many keeps: one that ends with the loss goes backward at once.
    func kept(_ stage: Int, of stages: Int, depth: Int) -> Int {
        stage == stages - 1 && !isRing(stages: stages) ? 1 : depth
    }
    func kept(_ lane: Lane, _ stage: Int) -> Int { kept(stage, of: lane.hosts.count, depth: lane.inFlight) }
    /// Whether the last stage's activation goes on to the first, whose embeddings are the head (``StageConfiguration/lendsTable``).
    func isRing(stages: Int) -> Bool { stages > 1 && model.tieWordEmbeddings }

    func memory(_ lane: Lane, _ stage: Int, rounds: Bool) -> Int {
        memory(lane.units(stage), rounds: rounds, kept: kept(lane, stage), recompute: lane.recomputes(stage))
    }
    func memory(_ units: Range<Int>, rounds: Bool, kept: Int, recompute: Bool = false) -> Int {
        memoryTable.bytes(units, rounds: rounds, kept: kept, recompute: recompute)
    }
    func fits(_ lane: Lane, rounds: Bool) -> Bool {
        lane.hosts.indices.allSatisfy {
            memory(lane, $0, rounds: rounds) <= memories[lane.hosts[$0]]
        }
    }

    /// The least that a peer which holds these units needs.
    func leastMemory(_ units: Range<Int>, rounds: Bool) -> Int {
        memory(units, rounds: rounds, kept: 1, recompute: givenRecompute ?? true)
    }
    /// Whether a stage on `host` recomputes: as the job says, else only where it fits no other way, and then only where it is
    /// `allowed`. nil where it does not fit.
    func recompute(_ units: Range<Int>, on host: Int, rounds: Bool, kept: Int, allowed: Bool) -> Bool? {
        let offered = memories[host]
        if givenRecompute != true, memory(units, rounds: rounds, kept: kept) <= offered { return false }
        guard givenRecompute ?? allowed else { return nil }
        return memory(units, rounds: rounds, kept: kept, recompute: true) <= offered ? true : nil
    }
    /// The lane with as little recomputation as it fits with, in those stages that recompute already, or in any; nil where it does
    /// not fit.
    func fitting(_ lane: Lane, rounds: Bool, anywhere: Bool) -> Lane? {
        var flags: [Bool] = []
        for s in lane.hosts.indices {
            guard
                let flag = recompute(
                    lane.units(s), on: lane.hosts[s], rounds: rounds, kept: kept(lane, s),
                    allowed: anywhere || lane.recomputes(s))
            else { return nil }
            if flag, flags.isEmpty { flags = [Bool](repeating: false, count: lane.hosts.count) }
            if flag { flags[s] = true }
        }
        var lane = lane
        lane.recompute = flags
        return lane
    }
    /// Forwards that training on one micro-batch takes: backward is two.
    static func passes(recompute: Bool) -> Double { recompute ? 4 : 3 }
    /// How much longer a stage takes that recomputes.
    static let again = passes(recompute: true) / passes(recompute: false)
    /// FLOPs of the head that a stage lends: its forward; zero where it lends none.
    func lentFLOPs(_ units: Range<Int>) -> Double {
        model.lendsTable(units) ? model.headFLOPs(sequences: job.microBatch) : 0
    }
    /// A third of the FLOPs that training on one micro-batch takes: the forward's, where nothing is recomputed or lent. (A head that is
    /// lent takes four forwards: its logits are made twice.)
    func work(_ units: Range<Int>, recompute: Bool) -> Double {
        let lent = lentFLOPs(units)
        let own = (flops(units) - lent) * (recompute ? CostModel.again : 1)
        return lent == 0 ? own : own + 4 / 3 * lent
    }

    /// The stages of a pipeline as the simulator wants them; without the ways of norms where only a bound is asked for.
    func timings(_ lane: Lane, _ pacing: Pacing, norms: Bool = true) -> [StageTiming] {
        let bytes = activationBytes(pacing.activations)
        let last = lane.hosts.count - 1
        let isRing = isRing(stages: last + 1)
        return lane.hosts.indices.map { s in
            let host = lane.hosts[s]
            let speed = speeds[host]
            let head = lentFLOPs(lane.units(s)) / speed
            let forward = (flops(lane.units(s)) - lentFLOPs(lane.units(s))) / speed
            let next = s < last ? lane.hosts[s + 1] : isRing ? lane.hosts[0] : nil
            let previous = s > 0 ? lane.hosts[s - 1] : isRing ? lane.hosts[last] : nil
            return StageTiming(
                forward: forward,
                backward: (CostModel.passes(recompute: lane.recomputes(s)) - 1) * forward + 2 * head,
                update: (CostModel.updateFLOPs + CostModel.squareFLOPs) * parameters(lane.units(s)) / speed,
                boundaryBytes: next == nil ? 0 : bytes,
                rateForth: next.map { rate(host, $0) } ?? 1,
                rateBack: previous.map { rate(host, $0) } ?? 1,
                down: downs[host],
                latencyForth: next.map { latency(host, $0) } ?? 0,
                latencyBack: next.map { latency($0, host) } ?? 0,
                normLatencies: norms ? lane.hosts.map { latency($0, host) } : [], depth: lane.inFlight,
                lentForward: head, lentHead: 2 * head)
        }
    }

    /// Windows a round evaluates, over all pipelines: all there are, in a short text.
    var validationWindows: Int {
        guard let bytes = job.text.bytes else { return CostModel.validationWindows }
        let part = Int(Double(bytes) * job.validationFraction)
        return max(0, min(CostModel.validationWindows, (part - 1) / model.context))
    }

    /// Micro-batches of validation that each of `pipelines` pipelines sends through in a round that validates.
    func validationMicroBatches(pipelines: Int) -> Int {
        let windows = (validationWindows + pipelines - 1) / pipelines
        return (windows + job.microBatch - 1) / job.microBatch
    }

    /// The maximal aligned power-of-two blocks that make up `range`: the partial sums a pipeline sends with H = 1.
    static func alignedBlocks(_ range: Range<Int>) -> Int {
        var count = 0
        var start = range.lowerBound
        while start < range.upperBound {
            var size = 1
            while start % (2 * size) == 0, start + 2 * size <= range.upperBound { size *= 2 }
            start += size
            count += 1
        }
        return count
    }
}
