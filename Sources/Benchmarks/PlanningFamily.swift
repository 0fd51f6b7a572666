internal import Links
public import Planning
internal import Primitives
public import Topologies

/// Kinds of irregular pools for benchmarks: what published scenarios leave out. Generated from a seed, the same everywhere.
public enum PlanningFamily: String, Hashable, Sendable, CaseIterable {
    /// Cities on a map, latency by distance; in each a mix of fibre, cable and DSL, up and down unequal.
    case cities
    /// A few fast islands of unequal size, thin lines between them.
    case islands
    /// Homes everywhere: no structure but the access line, speeds and memories far apart.
    case homes

    /// - Parameters: `peers` in all; `memory` in MiB of the smallest.
    public func topology(peers count: Int, seed: UInt64, memory: Double = 4096) -> Topology {
        var random = SeededGenerator(seed: seed, stream: UInt64(PlanningFamily.allCases.firstIndex(of: self) ?? 0) + 1)
        let places =
            switch self {
            case .cities: max(2, min(60, count / 6))
            case .islands: max(2, min(9, count / 7))
            case .homes: max(2, min(60, count / 2))
            }
        let map = (0..<places).map { _ in (x: 9000 * random.uniform(), y: 5000 * random.uniform()) }
        var topology = Topology(name: "\(rawValue)-\(count)-\(seed)", about: "A generated pool.", hosts: [])
        for a in 0..<places {
            let inside = self == .islands ? 0.5 : 2 + 12 * random.uniform()
            topology.regions.append(
                Region(
                    name: "place-\(a)", inside: link(inside, self == .islands ? 2000 + 8000 * random.uniform() : nil)))
        }
        for a in 0..<places {
            for b in 0..<a {
                let (dx, dy) = (map[a].x - map[b].x, map[a].y - map[b].y)
                // Light in fibre, half as long again as the straight line, and some routers.
                let milliseconds = 3 + (dx * dx + dy * dy).squareRoot() / 130 * (0.8 + 0.6 * random.uniform())
                let cap: Double? = self == .islands ? 60 + 900 * random.uniform() : nil
                topology.regionLinks[Topology.Pair(a, b)] = link(milliseconds, cap)
                topology.regionLinks[Topology.Pair(b, a)] = link(milliseconds, cap)
            }
        }
        for index in 0..<count {
            let (up, down): (Double, Double) =
                switch self {
                case .cities: [(500, 500), (100, 300), (40, 250), (20, 100), (10, 50)][random.below(5)]
                case .islands: [(1000, 1000), (2500, 2500), (10_000, 10_000)][random.below(3)]
                case .homes: (5 + 95 * random.uniform() * random.uniform(), 30 + 400 * random.uniform())
                }
            let speed = self == .islands ? 1 + 3 * random.uniform() : 0.5 + 11.5 * random.uniform() * random.uniform()
            topology.hosts.append(
                Host(
                    name: "p\(index)", flops: 1e12 * speed, memory: .mebibytes(memory * (1 + 3 * random.uniform())),
                    up: .megabits(up), down: .megabits(down), region: random.below(places),
                    meanSession: .seconds(20_000 + random.below(200_000))))
        }
        return topology
    }
    private func link(_ milliseconds: Double, _ megabits: Double?) -> LinkProperties {
        LinkProperties(
            latency: .microseconds(Int64((1000 * milliseconds).rounded())), rate: megabits.map { .megabits($0) })
    }

    /// 64 devices on the published grid, pairs limited by both access lines and the places' links.
    public func layout(seed: UInt64) throws(PlanningError) -> LayoutProblem {
        try LayoutCost(topology(peers: 64, seed: seed)).problem
    }

    /// A job whose model many of the smallest peers must share: `layers` blocks of 13 million parameters.
    public static func job(layers: Int, virtualPipelines: Int) -> JobManifest {
        var job = JobManifest(
            name: "family",
            model: ModelShape(
                hiddenSize: 1024, layers: layers, heads: 16, kvHeads: 16, intermediateSize: 2816, context: 1024),
            data: .path("corpus.txt"), tokens: 1_000_000_000, virtualPipelines: virtualPipelines, microBatch: 1)
        job.qualityBudget = 0.1
        return job
    }
}
