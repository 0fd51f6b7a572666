import Benchmarks
import Exchange
import Links
import Planning
import Primitives
import Topologies

/// A pool and a job as no kind person would make them: one to twelve peers of every family, memory from a part of a layer to
/// several models, lines and speeds orders of magnitude apart, sessions of minutes, pairs with caps, pairs of which nothing is
/// known, hosts that are no peers, peers that must not be used, keys given and left open.
struct HostileInstance {
    var topology: Topology
    var job: JobManifest
    var excluded: Set<String> = []

    init(seed: Int) {
        var random = SeededGenerator(seed: UInt64(seed), stream: 0x4057)
        let family = PlanningFamily.allCases[seed % PlanningFamily.allCases.count]
        let peers = 1 + random.below(12)
        topology = family.topology(peers: peers, seed: UInt64(seed))
        job = HostileInstance.job(&random, peers: peers)
        // What the whole model takes on one peer, and the part of it that a peer offers.
        let whole = Double(
            job.model.memory(units: job.model.allUnits, rounds: true, sequences: job.microBatch, inFlight: 1).bytes)
        let size = [0.15, 0.4, 0.8, 1.5, 6][random.below(5)] * whole
        // Families have devices of teraflops; these models are small.
        let scale = [1e-4, 1e-3, 1e-2][random.below(3)]
        for index in topology.hosts.indices {
            topology.hosts[index].flops *= scale * (0.2 + 2 * random.uniform())
            topology.hosts[index].memory = ByteCount(Int(size * (0.2 + 1.8 * random.uniform())))
            topology.hosts[index].up.bitsPerSecond *= 0.02 + random.uniform()
            topology.hosts[index].down.bitsPerSecond *= 0.02 + random.uniform()
            switch random.below(3) {
            case 0: topology.hosts[index].meanSession = nil
            case 1: topology.hosts[index].meanSession = .seconds(60 + random.below(3600))
            default: break
            }
        }
        spoil(&random)
    }

    /// Caps, holes, services and exclusions.
    private mutating func spoil(_ random: inout SeededGenerator) {
        let count = topology.hosts.count
        if random.below(3) == 0 {
            for _ in 0..<count {
                let pair = Topology.Pair(random.below(count), random.below(count))
                guard pair.from != pair.to else { continue }
                topology.links[pair] = LinkProperties(
                    latency: .microseconds(500 + random.below(200_000)),
                    rate: random.below(2) == 0 ? .megabits(0.5 + 20 * random.uniform()) : nil)
            }
        }
        if random.below(4) == 0 {
            topology.hosts.insert(
                Host(
                    name: "launcher", role: .coordinator, flops: 1, memory: ByteCount(0), up: .megabits(10),
                    down: .megabits(10)), at: 0)
            // Pairs were by index.
            topology.links = [:]
            for host in 1..<topology.hosts.count {
                let link = LinkProperties(latency: .milliseconds(1 + random.below(90)))
                topology.links[Topology.Pair(0, host)] = link
                topology.links[Topology.Pair(host, 0)] = link
            }
        }
        if random.below(4) == 0, let host = topology.peers.last {
            // Nobody knows the way to the last one: it has no region and no link.
            topology.hosts[host].region = nil
            topology.links = topology.links.filter { $0.key.from != host && $0.key.to != host }
        }
        if random.below(4) == 0 {
            excluded.insert(topology.hosts[topology.peers[random.below(topology.peers.count)]].name)
        }
    }

    private static func job(_ random: inout SeededGenerator, peers: Int) -> JobManifest {
        var job = JobManifest(
            name: "hostile",
            model: ModelShape(
                hiddenSize: 32 * (1 + random.below(6)), layers: 1 + random.below(9), heads: 4,
                kvHeads: [1, 2, 4][random.below(3)], intermediateSize: 48 + 80 * random.below(6),
                context: [32, 64, 128, 200][random.below(4)], tieWordEmbeddings: random.below(8) == 0),
            data: .path("x"), tokens: 1 + random.below(2_000_000), virtualPipelines: 1 + random.below(13),
            microBatch: 1 + random.below(4))
        func maybe<Value>(_ values: [Value], _ random: inout SeededGenerator) -> Setting<Value> {
            random.below(3) > 0 ? .auto : .fixed(values[random.below(values.count)])
        }
        job.innerSteps = maybe([1, 1, 2, 3, 4, 20], &random)
        job.exchangeCodec = maybe(
            [.fp32, .bf16, .fp16, .int8, .int4, .sparse(k: 64), .sparse(k: 1024), .lowrank(rank: 4)], &random)
        job.activationCodec = maybe([.fp32, .bf16, .fp16, .int8, .int4], &random)
        job.exchangeDelay = maybe([0, 1, 2, 3], &random)
        job.exchangeWay = maybe([.allGather, .reduceScatter, .owner(.int8), .owner(.bf16)], &random)
        if random.below(4) == 0 { job.pipelines = .fixed(1 + random.below(peers)) }
        if random.below(6) == 0 { job.stages = .fixed(1 + random.below(3)) }
        if random.below(4) == 0 {
            job.batchTokens = .fixed((1 + random.below(3)) * job.geometry(microBatchesPerVirtual: 1).batchTokens)
        }
        job.qualityBudget = [0.001, 0.02, 0.1, 1][random.below(4)]
        return job
    }
}
