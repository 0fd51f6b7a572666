internal import Primitives

/// Nodes joined by cables, and peers at some of them: pairs see the path of least latency, its summed latency, its joint loss and
/// the rate of its narrowest cable.
struct RoutedGraph {
    struct Node {
        var name: String
        var line: Int
        /// Of whatever passes its own peers' door, coming or going.
        var loss = 0.0
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
    /// Who lives at a node.
    struct Resident {
        var name: String
        var node: Int
        var line: Int
        var up: BitRate?
        var down: BitRate?
    }
    private struct Path {
        var seconds = Double.infinity
        var jitterVariance = 0.0
        var kept = 1.0
        var rate = Double.infinity
    }

    var nodes: [Node] = []
    /// By node; directed. A cable from a node to itself is the way between two who live there.
    var cables: [[Cable]] = []
    /// nil: somebody at each node.
    var residents: [Resident]?
    enum Paths {
        case shortest
        /// Only a cable from one to the other, and no way over others.
        case direct
        /// A cable from one to the other where there is one.
        case directFirst
    }
    var choice = Paths.shortest

    mutating func add(_ node: Node) {
        nodes.append(node)
        cables.append([])
    }

    /// Fewest links first where there are too many for a peer at each.
    private func places(_ most: Int) -> [Resident] {
        let all =
            residents
            ?? nodes.enumerated().map {
                Resident(name: $1.name, node: $0, line: $1.line, up: $1.up, down: $1.down)
            }
        guard all.count > most else { return all }
        let degrees = all.map { cables[$0.node].count }
        let ranked = all.indices.sorted { (degrees[$0], $0) < (degrees[$1], $1) }
        let pool = all.indices.filter { degrees[$0] <= degrees[ranked[most - 1]] }
        return (0..<most).map { all[pool[$0 * pool.count / most]] }
    }

    /// What each two peers see of each other.
    func pool(_ options: ImportOptions) -> ImportedPool {
        let places = places(options.mostPeers)
        var pool = ImportedPool(
            members: places.map { ImportedPool.Member(name: $0.name, line: $0.line, up: $0.up, down: $0.down) })
        var known: (node: Int, paths: [Path])?
        for (from, place) in places.enumerated() {
            if known?.node != place.node { known = (place.node, paths(from: place.node)) }
            guard let paths = known?.paths else { continue }
            for (to, other) in places.enumerated() where to != from {
                let path = other.node == place.node ? inside(place.node) : paths[other.node]
                guard path.seconds.isFinite else { continue }
                let door = (1 - nodes[place.node].loss) * (1 - nodes[other.node].loss)
                pool[from, to] = ImportedPool.Way(
                    seconds: path.seconds, jitterSeconds: path.jitterVariance.squareRoot(),
                    loss: 1 - path.kept * door, rate: path.rate)
            }
        }
        if places.count < nodes.count, residents == nil {
            pool.notes.append("\(places.count) of \(nodes.count) nodes hold a peer; the others only forward.")
        }
        return pool
    }

    private func extended(_ path: Path, by cable: Cable) -> Path {
        Path(
            seconds: path.seconds + cable.seconds,
            jitterVariance: path.jitterVariance + cable.jitterSeconds * cable.jitterSeconds,
            kept: path.kept * (1 - cable.loss), rate: min(path.rate, cable.rate))
    }

    /// Two at one node: its cable to itself; there and back over the nearest neighbour where it has none.
    private func inside(_ node: Int) -> Path {
        var best = Path()
        for cable in cables[node] where cable.to == node && cable.seconds < best.seconds {
            best = extended(Path(seconds: 0), by: cable)
        }
        if best.seconds.isFinite || choice == .direct { return best }
        for cable in cables[node] where 2 * cable.seconds < best.seconds {
            best = extended(extended(Path(seconds: 0), by: cable), by: cable)
        }
        return best
    }
    private func paths(from source: Int) -> [Path] {
        switch choice {
        case .shortest: shortest(source)
        case .direct: direct(source)
        case .directFirst: zip(direct(source), shortest(source)).map { $0.seconds.isFinite ? $0 : $1 }
        }
    }
    private func direct(_ source: Int) -> [Path] {
        var paths = [Path](repeating: Path(), count: nodes.count)
        for cable in cables[source] where cable.to != source {
            let path = extended(Path(seconds: 0), by: cable)
            let known = paths[cable.to]
            if path.seconds < known.seconds || (path.seconds == known.seconds && path.rate > known.rate) {
                paths[cable.to] = path
            }
        }
        return paths
    }

    /// Dijkstra's algorithm with a binary heap; of equal paths the one with the higher rate, then the earlier node.
    private func shortest(_ source: Int) -> [Path] {
        var paths = [Path](repeating: Path(), count: nodes.count)
        var done = [Bool](repeating: false, count: nodes.count)
        var heap = NodeHeap()
        paths[source].seconds = 0
        heap.push((0, source))
        while let (seconds, node) = heap.pop() {
            if done[node] || seconds > paths[node].seconds { continue }
            done[node] = true
            for cable in cables[node] where !done[cable.to] {
                let path = extended(paths[node], by: cable)
                let known = paths[cable.to]
                guard
                    path.seconds < known.seconds || (path.seconds == known.seconds && path.rate > known.rate)
                else { continue }
                paths[cable.to] = path
                if path.seconds < known.seconds { heap.push((path.seconds, cable.to)) }
            }
        }
        return paths
    }
}

/// Least first: seconds, then node.
struct NodeHeap {
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
