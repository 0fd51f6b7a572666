internal import Links
internal import Primitives
internal import Topologies

/// Hosts in an order that depends on what they are and how they see each other, never on names or on places in a file: a search that
/// breaks ties by index then finds the same plan however its input was written down.
///
/// Fastest first, then by memory and lines. Hosts that are equal in all that are told apart by colour refinement (Weisfeiler & Leman
/// 1968): a host's colour is made of its own figures and of the links to and from all others, with their colours, twice over. What is
/// then still equal keeps its order: such hosts can nearly always stand for each other.
struct CanonicalOrder {
    /// By place: the host's index in the topology.
    let hosts: [Int]
    /// By index in the topology: its place.
    let places: [Int]

    /// Beyond so many peers the file's order stays: a search among more begins with one of many orders that are as good, and which of them
    /// it draws decides more than ties do.
    private static let mostPeers = 64

    init(_ topology: Topology) {
        let all = topology.hosts
        guard topology.peers.count <= CanonicalOrder.mostPeers else {
            (hosts, places) = (Array(all.indices), Array(all.indices))
            return
        }
        func key(_ index: Int) -> (Double, Int, Double, Double) {
            let host = all[index]
            return (-host.flops, -host.memory.bytes, -host.up.bitsPerSecond, -host.down.bitsPerSecond)
        }
        var order = all.indices.sorted { key($0) == key($1) ? $0 < $1 : key($0) < key($1) }
        if zip(order, order.dropFirst()).contains(where: { key($0) == key($1) }) {
            let colours = CanonicalOrder.colours(topology)
            order.sort { key($0) == key($1) ? (colours[$0], $0) < (colours[$1], $1) : key($0) < key($1) }
        }
        hosts = order
        var places = [Int](repeating: 0, count: order.count)
        for (place, host) in order.enumerated() { places[host] = place }
        self.places = places
    }

    // MARK: colours

    private static func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
        var z = (a &* 0x9E37_79B9_7F4A_7C15) ^ b
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
    private static func colour(_ link: LinkProperties?) -> UInt64 {
        guard let link else { return 1 }
        return mix((link.latency / .seconds(1)).bitPattern, link.rate?.bitsPerSecond.bitPattern ?? 2)
    }
    /// Sums, so that the order of what is added does not matter.
    private static func colours(_ topology: Topology) -> [UInt64] {
        let coordinator = topology.coordinator
        var colours = topology.hosts.enumerated().map { index, host in
            var colour: UInt64 = index == coordinator ? 3 : 5
            for figure in [
                host.flops, Double(host.memory.bytes), host.up.bitsPerSecond, host.down.bitsPerSecond,
                host.meanSession.map { $0 / .seconds(1) } ?? -1,
            ] {
                colour = mix(colour, figure.bitPattern)
            }
            return mix(colour, host.role == .peer ? 7 : 11)
        }
        if topology.links.isEmpty {
            for _ in 0..<2 { colours = refinedByRegion(colours, topology) }
        } else {
            for _ in 0..<2 { colours = refined(colours, topology) }
        }
        return colours
    }
    private static func refined(_ colours: [UInt64], _ topology: Topology) -> [UInt64] {
        topology.hosts.indices.map { a in
            var sum: UInt64 = 0
            for b in topology.hosts.indices where a != b {
                let links = mix(
                    colour(topology.declaredLink(from: a, to: b)), colour(topology.declaredLink(from: b, to: a)))
                sum &+= mix(links, colours[b])
            }
            return mix(colours[a], sum)
        }
    }
    /// Hosts of a region see others alike: the region's own colour will do.
    private static func refinedByRegion(_ colours: [UInt64], _ topology: Topology) -> [UInt64] {
        var members = [UInt64](repeating: 0, count: topology.regions.count)
        for (host, colour) in zip(topology.hosts, colours) {
            if let region = host.region { members[region] &+= mix(colour, 13) }
        }
        let regions = topology.regions.indices.map { a in
            var sum: UInt64 = 0
            for b in topology.regions.indices where a != b {
                let links = mix(
                    colour(topology.regionLinks[Topology.Pair(a, b)]), colour(topology.regionLinks[Topology.Pair(b, a)])
                )
                sum &+= mix(links, members[b])
            }
            return mix(mix(colour(topology.regions[a].inside), members[a]), sum)
        }
        return zip(topology.hosts, colours).map { host, colour in mix(colour, host.region.map { regions[$0] } ?? 17) }
    }
}

extension Topology {
    /// The same hosts and links in another order, without what happens to them.
    func inOrder(_ order: CanonicalOrder) -> Topology {
        var out = self
        (out.faults, out.record) = ([], nil)
        out.hosts = order.hosts.map { hosts[$0] }
        out.links = [:]
        out.links.reserveCapacity(links.count)
        for (pair, link) in links { out.links[Pair(order.places[pair.from], order.places[pair.to])] = link }
        out.relays = [:]
        for (pair, relay) in relays {
            out.relays[Pair(order.places[pair.from], order.places[pair.to])] = order.places[relay]
        }
        return out
    }
}
