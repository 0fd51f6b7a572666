internal import Links
public import Planning
package import Primitives
public import Topologies

/// A random pool and a job for it: directed links of three orders of magnitude, pairs with caps, lines up and down a hundredfold apart,
/// memory from a part of a layer to several models. Every number is one that a topology file can hold.
public struct PlanningInstance: Sendable {
    public var topology: Topology
    public var job: JobManifest

    /// - Parameter peers: small pools are drawn more often than large ones.
    public init(seed: UInt64, peers: ClosedRange<Int>) {
        var random = SeededGenerator(seed: seed, stream: 0x1A55)
        let most = [12, 12, 12, 12, 12, 24, 24, 40, 64][random.below(9)]
        let upper = max(peers.lowerBound, min(peers.upperBound, most))
        let count = peers.lowerBound + random.below(upper - peers.lowerBound + 1)
        job = PlanningInstance.job(&random, peers: count)
        let whole = Double(
            job.model.memory(units: job.model.allUnits, rounds: true, sequences: job.microBatch, inFlight: 2).bytes)
        let size = [0.25, 0.5, 1.2, 4][random.below(4)] * whole
        topology = Topology(name: "law-\(seed)", about: "Drawn.", expectation: "Lawful.", hosts: [])
        for index in 0..<count {
            topology.hosts.append(PlanningInstance.host("p\(index)", size, &random))
        }
        topology.hosts.append(
            Host(
                name: "launcher", role: .coordinator, flops: 1e9, memory: .mebibytes(1024), up: .megabits(50),
                down: .megabits(100)))
        let capped = [0.0, 0.15, 0.6][random.below(3)]
        for a in 0...count {
            for b in 0...count where a != b {
                topology.links[Topology.Pair(a, b)] = PlanningInstance.link(capped, &random)
            }
        }
    }

    private static func host(_ name: String, _ size: Double, _ random: inout SeededGenerator) -> Host {
        func megabits(_ random: inout SeededGenerator) -> BitRate {
            .megabits(Double(1 + random.below([500, 3000, 15_000][random.below(3)])) / 100)
        }
        return Host(
            name: name, flops: 1e7 * Double(200 + random.below(1000)),
            memory: .mebibytes((1 + size * (0.3 + 1.2 * random.uniform()) / 1_048_576).rounded()),
            up: megabits(&random), down: megabits(&random))
    }
    private static func link(_ capped: Double, _ random: inout SeededGenerator) -> LinkProperties {
        let latency = (1 + random.below(1000)) * [2, 15, 290][random.below(3)]
        let rate: BitRate? =
            random.uniform() < capped ? .megabits(Double(100 + random.below(4000)) / 100) : nil
        return LinkProperties(latency: .microseconds(500 + latency), rate: rate)
    }
    private static func job(_ random: inout SeededGenerator, peers: Int) -> JobManifest {
        let layers = (peers > 12 ? 4 : 1) + random.below(8)
        var job = JobManifest(
            name: "law",
            model: ModelShape(
                hiddenSize: 64 * (1 + random.below(2)), layers: layers, heads: 4, kvHeads: 2,
                intermediateSize: 192, context: [64, 128][random.below(2)]),
            data: .path("x"), tokens: [60_000, 600_000][random.below(2)],
            virtualPipelines: [4, 8, 12][random.below(3)], microBatch: 2)
        if random.below(3) > 0 {
            job.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 1).batchTokens)
        }
        if random.below(4) == 0 { job.innerSteps = .fixed([1, 4][random.below(2)]) }
        job.qualityBudget = [0.02, 0.05, 0.1][random.below(3)]
        return job
    }

    // MARK: changes

    /// The same hosts in another order, with other names.
    package func reordered(_ random: inout SeededGenerator) -> Topology {
        var order = Array(topology.hosts.indices)
        random.shuffle(&order)
        var out = topology
        out.hosts = order.map { topology.hosts[$0] }
        for index in out.hosts.indices where out.hosts[index].role == .peer {
            out.hosts[index].name = "q\((7 * index + 3) % 1009)"
        }
        out.links = [:]
        for (a, from) in order.enumerated() {
            for (b, to) in order.enumerated() where a != b {
                out.links[Topology.Pair(a, b)] = topology.links[Topology.Pair(from, to)]
            }
        }
        return out
    }
    /// Slow, small, behind a thin line.
    func useless(_ random: inout SeededGenerator) -> Host {
        Host(
            name: "useless", flops: 1e6 * Double(1 + random.below(9)), memory: .mebibytes(Double(1 + random.below(2))),
            up: .megabits(0.05), down: .megabits(0.05))
    }
    /// A peer's twin, a little slower and smaller, and the place of the peer.
    func secondBest(_ random: inout SeededGenerator) -> (host: Host, like: Int) {
        let peers = topology.peers
        let model = peers[random.below(peers.count)]
        var host = topology.hosts[model]
        host.name = "twin"
        host.flops *= 0.9
        host.memory = ByteCount(host.memory.bytes / 10 * 9)
        host.up.bitsPerSecond *= 0.9
        host.down.bitsPerSecond *= 0.9
        return (host, model)
    }
    /// One host more, its links like another's but longer, or long ones.
    func with(_ host: Host, like model: Int?) -> Topology {
        var out = topology
        let index = out.hosts.count
        out.hosts.append(host)
        func longer(_ link: LinkProperties?) -> LinkProperties {
            guard var link else { return LinkProperties(latency: .milliseconds(400)) }
            link.latency += .milliseconds(1)
            return link
        }
        for other in topology.hosts.indices {
            let there = Topology.Pair(model ?? other, other)
            let back = Topology.Pair(other, model ?? other)
            out.links[Topology.Pair(index, other)] = longer(topology.links[there])
            out.links[Topology.Pair(other, index)] = longer(topology.links[back])
        }
        return out
    }
    /// More memory, more speed, faster lines or shorter ways, of one host or of all.
    func better(_ law: PlanningLaw, _ random: inout SeededGenerator) -> Topology {
        var out = topology
        let one = random.below(3) > 0 ? topology.peers[random.below(topology.peers.count)] : nil
        let factor = [1.1, 1.5, 3][random.below(3)]
        for index in out.hosts.indices where one == nil || index == one {
            switch law {
            case .memory: out.hosts[index].memory = ByteCount(Int(Double(out.hosts[index].memory.bytes) * factor))
            case .speed: out.hosts[index].flops *= factor
            case .bandwidth:
                out.hosts[index].up.bitsPerSecond *= factor
                out.hosts[index].down.bitsPerSecond *= factor
            default: break
            }
        }
        guard law == .latency || law == .bandwidth else { return out }
        for (pair, link) in topology.links where one == nil || pair.from == one || pair.to == one {
            if law == .latency {
                out.links[pair]?.latency = .nanoseconds(Int64(link.latency / .nanoseconds(1) / factor))
            } else if let rate = link.rate {
                out.links[pair]?.rate = BitRate(bitsPerSecond: rate.bitsPerSecond * factor)
            }
        }
        return out
    }
    /// A question's topology, and that of the file in which the answer was written down; nil where the file is refused.
    func edited(_ random: inout SeededGenerator) -> (now: Topology, edited: Topology?) {
        var out = topology
        let host = topology.peers[random.below(topology.peers.count)]
        let name = topology.hosts[host].name
        let question: String
        switch random.below(4) {
        case 0:
            question = "\(name).up=33 Mbit/s"
            out.hosts[host].up = .megabits(33)
        case 1:
            question = "\(name).memory=77 MiB"
            out.hosts[host].memory = .mebibytes(77)
        case 2:
            question = "\(name).speed=5 GFLOP/s"
            out.hosts[host].flops = 5e9
        default:
            question = "latency=x2"
            for (pair, link) in topology.links { out.links[pair]?.latency = link.latency * 2 }
        }
        let asked = try? WhatIf(question).applied(to: topology)
        return (asked ?? topology, try? Topology(parsing: out.text))
    }
    /// Everything takes twice as long.
    func slower() -> Topology {
        var out = topology
        for index in out.hosts.indices {
            out.hosts[index].flops /= 2
            out.hosts[index].up.bitsPerSecond /= 2
            out.hosts[index].down.bitsPerSecond /= 2
        }
        for (pair, link) in topology.links {
            out.links[pair]?.latency = link.latency * 2
            if let rate = link.rate { out.links[pair]?.rate = BitRate(bitsPerSecond: rate.bitsPerSecond / 2) }
        }
        return out
    }
}
