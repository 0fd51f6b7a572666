internal import Links
internal import Primitives

/// Nodes joined by cables: pairs of peers see the path of least latency, its summed latency and the rate of its narrowest cable.
struct RoutedGraph {
    struct Node {
        var name: String
        var line: Int
        var isPeer = true
        /// Whether paths may lead through it.
        var relays = true
        var flops: Double?
        var device = "computer"
        var up: BitRate?
        var down: BitRate?
    }
    struct Cable {
        var to: Int
        /// One way.
        var seconds: Double
        var jitterSeconds = 0.0
        /// Share lost, 0…1.
        var loss = 0.0
        /// Bit/s; infinite where the file gives none.
        var rate = Double.infinity
    }
    private struct Path {
        var seconds = Double.infinity
        var jitterVariance = 0.0
        var kept = 1.0
        var rate = Double.infinity
    }

    var nodes: [Node] = []
    /// By node; directed.
    var cables: [[Cable]] = []
    /// Whole paths that the file gives for a pair: taken before any that is found.
    var routes: [Topology.Pair: Cable] = [:]

    mutating func add(_ node: Node) {
        nodes.append(node)
        cables.append([])
    }

    /// Fewest links first where there are too many for a peer at each.
    private func places(_ most: Int) -> [Int] {
        let candidates = nodes.indices.filter { nodes[$0].isPeer }
        guard candidates.count > most else { return candidates }
        let ranked = candidates.sorted { (cables[$0].count, $0) < (cables[$1].count, $1) }
        let degree = cables[ranked[most - 1]].count
        let pool = candidates.filter { cables[$0].count <= degree }
        return (0..<most).map { pool[$0 * pool.count / most] }
    }

    func topology(name: String, about: String, options: ImportOptions, file: String) throws(FileProblem) -> (
        topology: Topology, notes: [String]
    ) {
        let places = places(options.mostPeers)
        guard places.count > 0 else {
            throw FileProblem(
                .missingKey, file: file, found: "no host", allowed: "at least one node that can be a peer")
        }
        var notes: [String] = []
        var topology = Topology(
            name: name, about: about, expectation: "Imported: nobody has said yet what to expect.", hosts: [])
        var assumed = (speed: 0, line: 0)
        for place in places {
            let node = nodes[place]
            if node.flops == nil { assumed.speed += 1 }
            if node.up == nil || node.down == nil { assumed.line += 1 }
            topology.hosts.append(
                Host(
                    name: node.name, device: node.device, flops: node.flops ?? options.flops, memory: options.memory,
                    up: node.up ?? options.up, down: node.down ?? options.down))
        }
        var index = [Int](repeating: -1, count: nodes.count)
        for (peer, place) in places.enumerated() { index[place] = peer }
        for (peer, place) in places.enumerated() {
            let paths = shortest(from: place)
            for other in places where other != place {
                var path = paths[other]
                if let route = routes[Topology.Pair(place, other)] {
                    path = Path(
                        seconds: route.seconds, jitterVariance: route.jitterSeconds * route.jitterSeconds,
                        kept: 1 - route.loss, rate: route.rate)
                }
                guard path.seconds.isFinite else {
                    throw FileProblem(
                        .disconnected, file: file, line: nodes[other].line,
                        found: "no path from \(nodes[place].name) to \(nodes[other].name)",
                        allowed: "a connected graph: add an edge, or take the lone nodes out")
                }
                guard path.seconds <= 100 else {
                    throw FileProblem(
                        .outOfRange, file: file, line: nodes[other].line,
                        found: "\(fixed(path.seconds, 1)) s from \(nodes[place].name) to \(nodes[other].name)",
                        allowed: "paths of at most 100 s; is a unit wrong?")
                }
                topology.links[Topology.Pair(peer, index[other])] = properties(path)
            }
        }
        if places.count < nodes.count {
            notes.append("\(places.count) of \(nodes.count) nodes hold a peer; the others only forward.")
        }
        if assumed.speed > 0 {
            notes.append(
                "\(assumed.speed) of \(places.count) peers: speed and memory are not in the file; "
                    + "\(fixed(options.flops / 1e9, 1)) GFLOP/s and \(options.memory) assumed.")
        } else {
            notes.append("Memory is not in the file; \(options.memory) assumed.")
        }
        if assumed.line > 0 {
            notes.append(
                "\(assumed.line) of \(places.count) peers: access lines are not in the file; up \(options.up), "
                    + "down \(options.down) assumed.")
        }
        return (topology, notes)
    }

    private func properties(_ path: Path) -> LinkProperties {
        let rate: BitRate? = path.rate.isFinite ? BitRate(bitsPerSecond: min(path.rate, 1e13)) : nil
        // A thousandth of a percent is more than any file means.
        let loss = min(0.99, ((1 - path.kept) * 1e9).rounded() / 1e9)
        let jitter = min(10, path.jitterVariance.squareRoot())
        return LinkProperties(
            latency: .nanoseconds(Int64((path.seconds * 1e9).rounded())),
            jitter: .nanoseconds(Int64((jitter * 1e9).rounded())), loss: loss, rate: rate)
    }

    /// Dijkstra's algorithm with a binary heap; of equal paths the one with the higher rate, then the earlier node.
    private func shortest(from source: Int) -> [Path] {
        var paths = [Path](repeating: Path(), count: nodes.count)
        var done = [Bool](repeating: false, count: nodes.count)
        var heap = NodeHeap()
        paths[source].seconds = 0
        heap.push((0, source))
        while let (seconds, node) = heap.pop() {
            if done[node] || seconds > paths[node].seconds { continue }
            done[node] = true
            if node != source, !nodes[node].relays { continue }
            for cable in cables[node] where !done[cable.to] {
                let reached = paths[node].seconds + cable.seconds
                let rate = min(paths[node].rate, cable.rate)
                let known = paths[cable.to]
                guard reached < known.seconds || (reached == known.seconds && rate > known.rate) else { continue }
                paths[cable.to] = Path(
                    seconds: reached,
                    jitterVariance: paths[node].jitterVariance + cable.jitterSeconds * cable.jitterSeconds,
                    kept: paths[node].kept * (1 - cable.loss), rate: rate)
                if reached < known.seconds { heap.push((reached, cable.to)) }
            }
        }
        return paths
    }
}

/// Least first: seconds, then node.
private struct NodeHeap {
    private var items: [(Double, Int)] = []

    mutating func push(_ item: (Double, Int)) {
        items.append(item)
        var child = items.count - 1
        while child > 0, items[child] < items[(child - 1) / 2] {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }
    mutating func pop() -> (Double, Int)? {
        guard let first = items.first else { return nil }
        let last = items.removeLast()
        guard !items.isEmpty else { return first }
        items[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < items.count && items[child] < items[least] {
                least = child
            }
            if least == parent { return first }
            items.swapAt(parent, least)
            parent = least
        }
    }
}
