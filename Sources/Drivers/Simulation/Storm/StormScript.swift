import Exchange
public import Links
public import Planning
public import Primitives
public import Topologies

/// One world of a storm, drawn from its seed: a small pool, a small job, and what strikes them.
///
/// Each seed switches kinds of troubles on and off (swarm testing: Groce et al. 2012), so that some worlds see one kind alone and some see
/// all of them. Everything is over at some moment; from then on all are well.
public struct StormScript: Sendable {
    public let seed: UInt64
    public internal(set) var topology: Topology
    public let job: JobManifest
    public let corpus: [UInt8]
    public let realArithmetic: Bool
    /// In order of their beginnings; those of ``more(_:seed:)`` come last.
    public var troubles: [Trouble]

    /// Whether its training blows up, whoever computes it: then the job is to end with that.
    public var diverges: Bool { job.learningRate == Self.absurdRate }
    fileprivate static let absurdRate = 900.0
    /// Of seeds, modulo 64.
    private static let diverging: UInt64 = 37

    /// By ``init(seed:electors:)``.
    var isDrawnForElectors = false

    /// Troubles begin within this time.
    static let season = 80.0
    /// Troubles of one world.
    private static let most = 8

    public init(seed: UInt64) {
        self.seed = seed
        var draw = SeededGenerator(seed: seed, stream: 0x73_746f_726d)
        let peers = 2 + draw.below(5)
        let isReal = draw.below(4) == 0
        realArithmetic = isReal || seed % 64 == Self.diverging
        let topology = Self.topology(peers: peers, isReal: realArithmetic, &draw)
        self.topology = topology
        var job = Self.job(topology, isReal: realArithmetic, &draw)
        if seed % 64 == Self.diverging { job.diverge(&draw) }
        self.job = job
        corpus = (0..<4000).map { (i: Int) in UInt8((i * i * 7 + i * 3 + 11) % 89 + 32) }
        if let (role, kinds) = Self.alone(seed) {
            troubles = Self.alone(role, kinds, topology, seed: seed)
            return
        }
        troubles = Self.troubles(topology, &draw)
        troubles += Self.more(topology, seed: seed).prefix(Self.most - troubles.count)
        troubles += Self.together(topology, seed: seed).prefix(Self.most - troubles.count)
    }

    /// A world that somebody has thought of, and what strikes it.
    package init(
        seed: UInt64, topology: Topology, job: JobManifest, corpus: [UInt8], realArithmetic: Bool = false,
        troubles: [Trouble]
    ) {
        self.seed = seed
        self.topology = topology.withServices()
        self.job = job
        self.corpus = corpus
        self.realArithmetic = realArithmetic
        self.troubles = troubles
    }

    // MARK: the pool

    private static func topology(peers: Int, isReal: Bool, _ draw: inout SeededGenerator) -> Topology {
        // The arithmetic is done in earnest: it is to take little of it.
        let base = isReal ? 2e7 : 3e7 * (1 + 2 * draw.uniform())
        var hosts: [Host] = []
        for index in 0..<peers {
            let up = [5.0, 20, 50, 100][draw.below(4)]
            hosts.append(
                Host(
                    name: "peer-\(index)", flops: base * (0.7 + 0.6 * draw.uniform()), memory: .mebibytes(64),
                    up: .megabits(up), down: .megabits(2 * up)))
        }
        hosts.append(
            Host(
                name: "desk", role: .coordinator, flops: 1e9, memory: .mebibytes(64), up: .megabits(50),
                down: .megabits(100)))
        hosts.append(
            Host(
                name: "node", role: .bootstrap, flops: 1e9, memory: .mebibytes(64), up: .megabits(100),
                down: .megabits(100)))
        let link = LinkProperties(
            latency: .milliseconds(Int64(1 + draw.below(60))),
            jitter: draw.below(2) == 0 ? .zero : .milliseconds(Int64(draw.below(8))),
            loss: draw.below(3) == 0 ? 0.01 * draw.uniform() : 0)
        return Topology(name: "storm", hosts: hosts, defaultLink: link)
    }

    // MARK: the job

    private static func job(_ topology: Topology, isReal: Bool, _ draw: inout SeededGenerator) -> JobManifest {
        let model = ModelShape(
            hiddenSize: isReal ? 16 : 32, layers: 2 + draw.below(3), heads: 2, kvHeads: 1 + draw.below(2),
            intermediateSize: 32, context: isReal ? 16 : 32)
        let virtual = [2, 4][draw.below(2)]
        let innerSteps = [1, 1, 2, 3][draw.below(4)]
        // What all of them compute in so many seconds is a round.
        let seconds = isReal ? 0.7 : 1 + 2 * draw.uniform()
        let flopsPerToken = 6 * Double(model.allUnits.reduce(0) { $0 + model.parameters(unit: $1) })
        let flops = topology.peers.reduce(0) { $0 + topology.hosts[$1].flops }
        let sequences = seconds * flops / flopsPerToken / Double(model.context)
        let microBatch = min(16, max(1, Int(sequences / Double(virtual * innerSteps))))
        let batch = virtual * model.context * microBatch
        var job = JobManifest(
            name: "storm", model: model, data: .path("text"),
            tokens: batch * innerSteps * (isReal ? 10 + draw.below(20) : 14 + draw.below(26)),
            validationFraction: 0.1, virtualPipelines: virtual, microBatch: microBatch)
        job.batchTokens = .fixed(batch)
        job.innerSteps = .fixed(innerSteps)
        job.exchangeCodec = .fixed([.fp32, .fp32, .int8, .sparse(k: 8, values: .signMagnitude)][draw.below(3)])
        job.activationCodec = .fixed(.fp32)
        job.exchangeWay = [.auto, .fixed(.allGather), .fixed(.reduceScatter)][draw.below(3)]
        job.exchangeDelay = .fixed(0)
        job.qualityBudget = 10
        job.seed = draw.next() >> 12
        let count = topology.peers.count
        if draw.below(2) == 0 {
            job.stages = .fixed(1 + draw.below(min(3, count)))
        } else if draw.below(2) == 0 {
            job.pipelines = .fixed(1 + draw.below(min(virtual, count)))
        }
        job.checkpoint.everyRounds = 1 + draw.below(6)
        return job
    }

    // MARK: what strikes

    private static func troubles(_ topology: Topology, _ draw: inout SeededGenerator) -> [Trouble] {
        let words = Self.kinds(&draw)
        var enabled = words.filter { _ in draw.below(3) == 0 }
        if enabled.isEmpty { enabled = [words[draw.below(words.count)]] }
        var out: [Trouble] = []
        for _ in 0..<1 + draw.below(Self.most) {
            let kind = enabled[draw.below(enabled.count)]
            out.append(Self.trouble(kind, topology, &draw))
        }
        return out.sorted { ($0.from, $0.host) < ($1.from, $1.host) }
    }
    /// Drawn apart, so that worlds that are known stay what they are: everything off at once, and disks of peers: troubled, damaged, lost.
    private static func more(_ topology: Topology, seed: UInt64) -> [Trouble] {
        var draw = SeededGenerator(seed: seed, stream: 0x6461_726b)
        var out: [Trouble] = []
        func at(_ host: Int, _ kind: Trouble.Kind, _ length: Double) {
            let from = season * draw.uniform()
            out.append(Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: from + length))
        }
        if draw.below(4) == 0 { at(0, .blackout, 1 + 20 * draw.uniform()) }
        if draw.below(4) == 0 {
            let peer = topology.peers[draw.below(topology.peers.count)]
            let kind = VirtualDisk.Trouble.allCases[draw.below(VirtualDisk.Trouble.allCases.count)]
            at(peer, .disk(kind), 5 + season * draw.uniform())
        }
        if draw.below(4) == 0 { at(topology.peers[draw.below(topology.peers.count)], .flippedBit, 0) }
        if draw.below(4) == 0 {
            at(topology.peers[draw.below(topology.peers.count)], .emptied, 1 + 20 * draw.uniform())
        }
        return out
    }
    /// Drawn apart, too: in a quarter of the worlds a host, half of them the launcher, loses its power while its disk keeps nothing that is written, or
    /// keeps it late, or soon after a bit on it has become another. What was shown to others before it was durable is seen by that, and what is read
    /// back unverified.
    private static func together(_ topology: Topology, seed: UInt64) -> [Trouble] {
        var draw = SeededGenerator(seed: seed, stream: 0x746f_6765_7468)
        guard draw.below(4) == 0 else { return [] }
        let desk = topology.hosts.firstIndex { $0.role == .coordinator }!
        let host = draw.below(2) == 0 ? desk : topology.peers[draw.below(topology.peers.count)]
        let kind: Trouble.Kind = [.disk(.isFull), .disk(.failsToSync), .disk(.isSlow), .flippedBit][draw.below(4)]
        let from = 10 + (season - 10) * draw.uniform()
        let death = from + 0.5 + 10 * draw.uniform()
        let length = 1 + 10 * draw.uniform()
        func trouble(_ kind: Trouble.Kind, _ from: Double, _ until: Double) -> Trouble {
            Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: until)
        }
        return [
            trouble(kind, from, kind == .flippedBit ? from : death + length / 2),
            trouble(.powerCut, death, death + length),
        ]
    }
    /// In three of sixteen worlds one host alone is struck, in one way: of these more can be asked (``away``, ``dies``).
    private static func alone(_ seed: UInt64) -> (Host.Role, [Trouble.Kind])? {
        switch seed % 16 {
        case 11: (.coordinator, absences)
        case 13: (.peer, absences)
        case 5: (.peer, deaths)
        default: nil
        }
    }
    /// Its process stands still, or nothing passes over its line: whoever comes back must not take itself for the one who was well.
    private static let absences: [Trouble.Kind] = [.freeze, .sleep, .cut, .deaf, .mute]
    /// Its process ends, or its machine, and begins again in its folder.
    private static let deaths: [Trouble.Kind] = [.crash(otherPort: false), .crash(otherPort: true), .powerCut]
    private static func alone(
        _ role: Host.Role, _ kinds: [Trouble.Kind], _ topology: Topology, seed: UInt64
    ) -> [Trouble] {
        var draw = SeededGenerator(seed: seed, stream: 0x6177_6179)
        let hosts = topology.hosts.indices.filter { topology.hosts[$0].role == role }
        let host = hosts.count == 1 ? hosts[0] : hosts[draw.below(hosts.count)]
        let troubles = (0..<1 + draw.below(4)).map { _ in
            let kind = kinds[draw.below(kinds.count)]
            let from = season * draw.uniform()
            return Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: from + length(&draw))
        }
        return troubles.sorted { $0.from < $1.from }
    }
    /// From a fifth of a second to a minute and a half, as likely in each octave.
    private static func length(_ draw: inout SeededGenerator) -> Double {
        var length = 0.2
        for _ in 0..<draw.below(9) { length *= 2 }
        return length * (1 + draw.uniform())
    }
    /// One of each, as this seed has them.
    private static func kinds(_ draw: inout SeededGenerator) -> [Trouble.Kind] {
        [
            .crash(otherPort: false), .crash(otherPort: true), .powerCut, .goodbye, .freeze, .sleep, .cut, .deaf, .mute,
            .partition, .slowLine(factor: 2 + 18 * draw.uniform()), .loss(share: 0.3 * draw.uniform()),
            .delay(milliseconds: 20 + draw.below(400)), .slowDevice(factor: 1.5 + 8 * draw.uniform()),
            .disk(VirtualDisk.Trouble.allCases[draw.below(VirtualDisk.Trouble.allCases.count)]), .flippedBit, .moved,
            .clock(seconds: [-86_400, -600, 600, 86_400, 40_000_000][draw.below(5)]), .late,
        ]
    }
    private static func trouble(
        _ kind: Trouble.Kind, _ topology: Topology, _ draw: inout SeededGenerator
    ) -> Trouble {
        let role: Host.Role = [.peer, .peer, .peer, .peer, .peer, .peer, .coordinator, .coordinator, .bootstrap][
            draw.below(9)]
        let candidates = topology.hosts.indices.filter { topology.hosts[$0].role == role }
        var host = candidates[draw.below(candidates.count)]
        var from = season * draw.uniform()
        var length = length(&draw)
        switch kind {
        case .late:
            from = 0
            length = 5 + season * draw.uniform()
            host = topology.peers[draw.below(topology.peers.count)]
        case .disk: host = topology.hosts.indices.first { topology.hosts[$0].role == .coordinator }!
        case .flippedBit, .clock, .moved: length = 0
        default: break
        }
        var kind = kind
        // Invites name the node: somewhere else nobody who comes would find it.
        if topology.hosts[host].role == .bootstrap, kind == .moved || kind == .crash(otherPort: true) {
            kind = .crash(otherPort: false)
        }
        return Trouble(kind, host: host, name: topology.hosts[host].name, from: from, until: from + length)
    }

    var coordinatorName: String { topology.hosts.first { $0.role == .coordinator }!.name }
    /// The one host that troubles strike, where they are none but that its process stands still, or that nothing passes over its line.
    var away: Int? { alone(Self.absences) }
    /// The one host that troubles strike, where they are none but that its process dies, and begins again.
    var dies: Int? { alone(Self.deaths) }
    private func alone(_ kinds: [Trouble.Kind]) -> Int? {
        guard let host = troubles.first?.host else { return nil }
        return troubles.allSatisfy { $0.host == host && kinds.contains($0.kind) } ? host : nil
    }
    /// When the last of them is over.
    public var calmFrom: Double { troubles.map(\.until).max() ?? 0 }
    /// With some of its troubles only.
    public func keeping(_ indices: [Int]) -> StormScript {
        var copy = self
        copy.troubles = indices.filter { troubles.indices.contains($0) }.map { troubles[$0] }
        return copy
    }
    private var electorsText: String {
        job.electors.count == .fixed(1) ? "" : "\(job.electors.count.value.map(String.init) ?? "auto") electors, "
    }
    private var routersText: String {
        guard topology.hasRouters else { return "" }
        let behind = topology.hosts.filter { $0.nat != .none }
        return behind.map { "\($0.name) \($0.nat.rawValue)" }.joined(separator: ", ") + "; "
    }
    /// For people: what the world is.
    public var summary: String {
        func word<Value>(_ setting: Setting<Value>) -> String { setting.value.map { "\($0)" } ?? "auto" }
        return
            "\(topology.peers.count) peers, \(routersText)\(electorsText)\(job.model.layers) layers, H \(word(job.innerSteps)), pipelines \(word(job.pipelines)), stages "
            + "\(word(job.stages)), checkpoint every \(job.checkpoint.everyRounds), \(realArithmetic ? "real" : "modelled")"
    }
}

extension JobManifest {
    fileprivate mutating func diverge(_ draw: inout SeededGenerator) {
        learningRate = StormScript.absurdRate
        clip = 0
        weightDecay = 10
        checkpoint.onDivergence = draw.below(2) == 0 ? .stop : .retreat
    }
    func calmed() -> JobManifest {
        var job = self
        (job.learningRate, job.clip, job.weightDecay) = (3e-3, 1, 0.1)
        job.checkpoint.onDivergence = .stop
        return job
    }
}
