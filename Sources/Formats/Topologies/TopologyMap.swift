internal import Links
internal import Primitives

/// A topology at a glance: peers in clusters, what lies between clusters, and the worst links.
public struct TopologyMap: Hashable, Sendable, Encodable {
    public struct Cluster: Hashable, Sendable, Encodable {
        /// The region's, or that of the first peer in it.
        public var name: String
        public var peers: [String]
        public var gflops: Double
        public var memoryMebibytes: Double
        /// Of all its peers together.
        public var upMbps: Double
        enum CodingKeys: String, CodingKey {
            case name, peers, gflops, memoryMebibytes = "memory_mib", upMbps = "up_mbps"
        }
    }
    public struct Link: Hashable, Sendable, Encodable {
        public var from: String
        public var to: String
        public var latencyMilliseconds: Double
        /// What one flow gets: pair cap, uplink or downlink, whichever is least.
        public var mbps: Double
        public var lossPercent: Double
        enum CodingKeys: String, CodingKey {
            case from, to, mbps, latencyMilliseconds = "latency_ms", lossPercent = "loss_percent"
        }
    }
    public var name: String
    public var about: String
    public var clusters: [Cluster]
    /// [cluster, cluster]: the median latency one way in milliseconds, over a sample of pairs; on the diagonal inside.
    public var latencyMilliseconds: [[Double]]
    /// The longest, the narrowest and the lossiest, over a sample of pairs in a large topology.
    public var worst: [Link]
    public var events: Int

    enum CodingKeys: String, CodingKey {
        case name, about, clusters, worst, events, latencyMilliseconds = "latency_ms"
    }

    /// Clusters on a map, at most; the smallest others go together.
    static let mostClusters = 12
    private static let sample = 96

    public init(_ topology: Topology) {
        name = topology.name
        about = topology.about
        events = topology.faults.count
        let groups = TopologyMap.groups(topology)
        clusters = groups.map { group in
            let hosts = group.members.map { topology.hosts[$0] }
            return Cluster(
                name: group.name, peers: hosts.map(\.name), gflops: hosts.reduce(0) { $0 + $1.flops } / 1e9,
                memoryMebibytes: hosts.reduce(0) { $0 + Double($1.memory.bytes) } / 1_048_576,
                upMbps: hosts.reduce(0) { $0 + $1.up.megabitsPerSecond })
        }
        latencyMilliseconds = groups.map { a in
            groups.map { b in
                var found: [Double] = []
                for i in TopologyMap.sampled(a.members, 12) {
                    for j in TopologyMap.sampled(b.members, 12) where i != j {
                        found.append(topology.latencySeconds(from: i, to: j) * 1000)
                    }
                }
                return found.isEmpty ? 0 : found.sorted()[found.count / 2]
            }
        }
        worst = TopologyMap.worst(topology)
    }

    private static func sampled(_ members: [Int], _ most: Int) -> [Int] {
        members.count <= most ? members : (0..<most).map { members[$0 * members.count / most] }
    }

    /// Regions where there are any; else peers near to each other, the bound growing until there are few clusters.
    private static func groups(_ topology: Topology) -> [(name: String, members: [Int])] {
        let peers = topology.peers
        var groups: [(name: String, members: [Int])] = []
        if !topology.regions.isEmpty, peers.contains(where: { topology.hosts[$0].region != nil }) {
            groups = topology.regions.map { ($0.name, []) } + [("elsewhere", [])]
            for peer in peers { groups[topology.hosts[peer].region ?? topology.regions.count].members.append(peer) }
            groups.removeAll { $0.members.isEmpty }
            if groups.count > mostClusters {
                let order = groups.indices.sorted { (groups[$1].members.count, $0) < (groups[$0].members.count, $1) }
                let kept = Set(order.prefix(mostClusters - 1))
                let rest = groups.indices.filter { !kept.contains($0) }
                let others = rest.flatMap { groups[$0].members }.sorted()
                groups =
                    groups.indices.filter { kept.contains($0) }.map { groups[$0] } + [("\(rest.count) others", others)]
            }
            return groups
        }
        var bound = 2.0
        repeat {
            groups = []
            for peer in peers {
                let near = groups.firstIndex { group in
                    max(
                        topology.latencySeconds(from: peer, to: group.members[0]),
                        topology.latencySeconds(from: group.members[0], to: peer)) * 1000 <= bound
                }
                if let near {
                    groups[near].members.append(peer)
                } else {
                    groups.append(("around \(topology.hosts[peer].name)", [peer]))
                    if groups.count > mostClusters { break }
                }
            }
            bound *= 1.5
        } while groups.count > mostClusters && bound < 1e9
        for index in groups.indices where groups[index].members.count == 1 {
            groups[index].name = topology.hosts[groups[index].members[0]].name
        }
        return groups
    }

    private static func worst(_ topology: Topology) -> [Link] {
        let peers = sampled(topology.peers, sample)
        var all: [Link] = []
        for i in peers {
            for j in peers where i != j {
                guard let link = topology.declaredLink(from: i, to: j) else { continue }
                all.append(
                    Link(
                        from: topology.hosts[i].name, to: topology.hosts[j].name,
                        latencyMilliseconds: link.latency / .milliseconds(1),
                        mbps: min(topology.sendRate(from: i, to: j), topology.hosts[j].down).megabitsPerSecond,
                        lossPercent: link.loss * 100))
            }
        }
        let order = all.indices
        let long = order.max { (all[$0].latencyMilliseconds, $1) < (all[$1].latencyMilliseconds, $0) }
        let narrow = order.min { (all[$0].mbps, $0) < (all[$1].mbps, $1) }
        let lossy = order.filter { all[$0].lossPercent > 0 }.max {
            (all[$0].lossPercent, $1) < (all[$1].lossPercent, $0)
        }
        var seen: [Int] = []
        for index in [long, narrow, lossy] { if let index, !seen.contains(index) { seen.append(index) } }
        return seen.map { all[$0] }
    }
}

/// The map for a terminal.
extension TopologyMap {
    /// - Parameter columns: lines are no longer than that.
    public func text(columns: Int) -> String {
        let peers = clusters.reduce(0) { $0 + $1.peers.count }
        var lines = [
            "\(name): \(peers) peers in \(clusters.count) clusters, \(events == 1 ? "one event" : "\(events) events")",
            about, "",
        ]
        let width = min(clusters.map(\.name.count).max() ?? 0, max(8, columns / 3))
        let most = clusters.map(\.gflops).max() ?? 1
        for (index, cluster) in clusters.enumerated() {
            let figures =
                "\(mark(index)) \(padded(cluster.name, width))  \(padded("\(cluster.peers.count)", 5)) "
                + "\(padded("\(fixed(cluster.gflops, 0)) GFLOP/s", 15)) \(padded(size(cluster.memoryMebibytes), 9)) "
                + "up \(padded("\(fixed(cluster.upMbps, 0)) Mbit/s", 15)) "
            let room = max(0, min(20, columns - figures.count))
            lines.append(figures + String(repeating: "█", count: Int((Double(room) * cluster.gflops / most).rounded())))
        }
        lines += ["", "one way, ms"]
        lines.append("   " + clusters.indices.map { leftPadded(mark($0), 6) }.joined())
        for (a, row) in latencyMilliseconds.enumerated() {
            lines.append(
                mark(a) + "  " + row.enumerated().map { b, value in leftPadded(cell(a, b, value), 6) }.joined())
        }
        if !worst.isEmpty {
            lines += ["", "worst links"]
            for link in worst {
                lines.append(
                    "  \(link.from) → \(link.to): \(fixed(link.latencyMilliseconds, 1)) ms, \(fixed(link.mbps, 1)) Mbit/s"
                        + (link.lossPercent > 0 ? ", \(fixed(link.lossPercent, 2)) % lost" : ""))
            }
        }
        return lines.map { line in line.count > columns ? String(line.prefix(columns - 1)) + "…" : line }.joined(
            separator: "\n")
    }

    package func cell(_ a: Int, _ b: Int, _ value: Double) -> String {
        if a == b, clusters[a].peers.count == 1 { return "–" }
        return value >= 100 ? fixed(value, 0) : fixed(value, 1)
    }
    package func mark(_ index: Int) -> String { String(UnicodeScalar(UInt8(65 + index % 26))) }
    package func size(_ mebibytes: Double) -> String {
        mebibytes >= 10_240 ? "\(fixed(mebibytes / 1024, 0)) GiB" : "\(fixed(mebibytes, 0)) MiB"
    }
    private func padded(_ text: String, _ width: Int) -> String {
        text.count > width
            ? String(text.prefix(max(0, width - 1))) + "…" : text + String(repeating: " ", count: width - text.count)
    }
    private func leftPadded(_ text: String, _ width: Int) -> String {
        String(repeating: " ", count: max(1, width - text.count)) + text
    }
}
