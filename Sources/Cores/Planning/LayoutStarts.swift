/// Where the search for a layout begins: devices that are near each other at some scale share pipelines, or share stages.
extension LayoutProblem {
    /// Grids [stage · replicas + pipeline], without repetition, in a fixed order.
    func structuredGrids() -> [[Int]] {
        var found: [[Int]] = []
        func add(_ grid: [Int]) { if !found.contains(grid) { found.append(grid) } }
        for clusters in scales() {
            add(rows(clusters, levelled: true))
            add(rows(clusters, levelled: false))
            add(columns(clusters))
        }
        for quantile in [1, 2, 4, 6] { add(bySpeed(quantile)) }
        return found
    }

    /// Stage after stage filled by what a device's line is good for, the best first: slow devices share as few stages, and so
    /// hops, as can be. Its line is a quantile, in eighths, of the hops that it can have.
    private func bySpeed(_ eighths: Int) -> [Int] {
        var keyed: [(time: Double, device: Int)] = []
        for i in 0..<count {
            let hops = (0..<count).filter { $0 != i }.map { max(hop[i * count + $0], hop[$0 * count + i]) }.sorted()
            keyed.append((hops.isEmpty ? 0 : hops[min(hops.count - 1, hops.count * eighths / 8)], i))
        }
        keyed.sort { ($0.time, $0.device) < ($1.time, $1.device) }
        return keyed.map(\.device)
    }

    /// Single-linkage clusters at each scale that matters: thresholds after the largest relative gaps of the merges. Clusters in the
    /// order of a chain of nearest ones, devices ascending.
    private func scales() -> [[[Int]]] {
        // Prim's tree: its edges, sorted, are the merges.
        var inside = [Bool](repeating: false, count: count)
        var near = [(cost: Double, to: Int)](repeating: (.infinity, 0), count: count)
        var edges: [(cost: Double, a: Int, b: Int)] = []
        var last = 0
        inside[0] = true
        for _ in 1..<max(1, count) {
            var pick = -1
            for i in 0..<count where !inside[i] {
                let cost = max(hop[last * count + i], hop[i * count + last])
                if cost < near[i].cost { near[i] = (cost, last) }
                if pick < 0 || near[i].cost < near[pick].cost { pick = i }
            }
            inside[pick] = true
            edges.append((near[pick].cost, near[pick].to, pick))
            last = pick
        }
        edges.sort { ($0.cost, $0.a, $0.b) < ($1.cost, $1.a, $1.b) }
        var gaps: [(ratio: Double, index: Int)] = []
        for index in edges.indices.dropLast() {
            gaps.append((edges[index + 1].cost / max(edges[index].cost, 1e-12), index))
        }
        gaps.sort { ($1.ratio, $0.index) < ($0.ratio, $1.index) }
        let thresholds = gaps.prefix(8).filter { $0.ratio > 1.001 }.map(\.index) + [edges.count - 1]
        return thresholds.map { clusters(Array(edges.prefix($0 + 1))) }
    }

    private func clusters(_ edges: [(cost: Double, a: Int, b: Int)]) -> [[Int]] {
        var root = Array(0..<count)
        func find(_ i: Int) -> Int {
            var i = i
            while root[i] != i { i = root[i] }
            return i
        }
        for edge in edges {
            let (a, b) = (find(edge.a), find(edge.b))
            if a != b { root[max(a, b)] = min(a, b) }
        }
        var members: [[Int]] = [[Int]](repeating: [], count: count)
        for i in 0..<count { members[find(i)].append(i) }
        var rest = members.filter { !$0.isEmpty }
        rest.sort { ($1.count, $0[0]) < ($0.count, $1[0]) }
        var chain = [rest.removeFirst()]
        while !rest.isEmpty {
            // The nearest of the largest: packing wants large clusters first.
            let largest = rest[0].count
            let anchor = chain[chain.count - 1][0]
            var pick = 0
            for (index, cluster) in rest.enumerated() where cluster.count == largest {
                if hop[anchor * count + cluster[0]] < hop[anchor * count + rest[pick][0]] { pick = index }
            }
            chain.append(rest.remove(at: pick))
        }
        return chain
    }

    /// Clusters side by side in pipelines: in the emptiest (`levelled`) or the first that has room.
    private func rows(_ clusters: [[Int]], levelled: Bool) -> [Int] {
        var lines = [[Int]](repeating: [], count: replicas)
        for cluster in clusters {
            var left = cluster[...]
            while !left.isEmpty {
                var pick = 0
                if levelled {
                    for r in lines.indices where lines[r].count < lines[pick].count { pick = r }
                } else {
                    pick = lines.firstIndex { $0.count < stages } ?? 0
                }
                let room = stages - lines[pick].count
                lines[pick] += left.prefix(room)
                left = left.dropFirst(room)
            }
        }
        return (0..<stages).flatMap { k in lines.map { $0[k] } }
    }
    /// Clusters fill stage after stage.
    private func columns(_ clusters: [[Int]]) -> [Int] { clusters.flatMap { $0 } }
}
