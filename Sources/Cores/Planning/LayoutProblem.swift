/// Placing `stages` × `replicas` devices on a grid of pipeline stages and data-parallel replicas: the scheduling problem of DT-FM
/// (Yuan et al. 2022, §3), cost model `dtfm`. Compute, memory and churn are not in it.
///
/// With delay d in seconds, bandwidth b in Gbit/s, sizes in GB:
///
///     DP    = max over stages g, i in g of Σ_{j in g, j ≠ i} 2·(d_ij + gradient·8 ÷ (b_ij·replicas))
///     C_ij  = d_ij + activation·8 ÷ b_ij
///     X_gh  = least, over perfect matchings of g with h, of the largest matched C_ij
///     PP    = least, over orders of the stages, of the sum of X over neighbours
///     total = DP + 2·PP
public struct LayoutProblem: Hashable, Sendable {
    /// What is sent, and on what grid.
    public struct Constants: Hashable, Sendable {
        public var stages: Int
        public var replicas: Int
        /// Of one stage, in GB.
        public var gradientGigabytes: Double
        /// Of one replica's whole batch at a stage's boundary, in GB.
        public var activationGigabytes: Double
        public init(stages: Int, replicas: Int, gradientGigabytes: Double, activationGigabytes: Double) {
            self.stages = stages
            self.replicas = replicas
            self.gradientGigabytes = gradientGigabytes
            self.activationGigabytes = activationGigabytes
        }
        /// GPT-3 XL, 1.3 billion parameters in 24 layers, 10⁶ tokens a batch, three layers a stage, as published: 2024 is typed
        /// for 2048 and 2³⁰ stands beside 10⁹ there, and the published costs need both.
        public static let published = Constants(
            stages: 8, replicas: 8, gradientGigabytes: 1.3 * 4 * 3 / 24,
            activationGigabytes: 2024 * 2048 * 2 * (1e6 / 2048 / 8) / 1_073_741_824)
    }

    public let constants: Constants
    public var stages: Int { constants.stages }
    public var replicas: Int { constants.replicas }
    public let count: Int
    /// [i, j], row by row: what i's exchange with j takes, in seconds; zero on the diagonal.
    let exchange: [Double]
    /// [i, j], row by row: a message of activations from i to j, in seconds.
    let hop: [Double]
    let isSymmetric: Bool

    /// - Parameters: latency one way in milliseconds and bandwidth in Gbit/s, [from, to]; diagonals are not read.
    /// - Throws: ``PlanningError/impossible(_:)`` when a matrix is not square, has another size than the grid, or a number in it
    ///   is negative, not finite or, for a bandwidth, zero.
    public init(
        latencyMilliseconds: [[Double]], bandwidthGigabits: [[Double]], constants: Constants = .published
    ) throws(PlanningError) {
        let n = latencyMilliseconds.count
        guard constants.stages > 0, constants.replicas > 0, constants.stages <= 1024, constants.replicas <= 1024,
            n == constants.stages * constants.replicas
        else {
            throw .impossible(
                "a grid of \(constants.stages) stages × \(constants.replicas) replicas needs as many devices; there are \(n)."
            )
        }
        guard bandwidthGigabits.count == n, latencyMilliseconds.allSatisfy({ $0.count == n }),
            bandwidthGigabits.allSatisfy({ $0.count == n })
        else { throw .impossible("the latency and bandwidth matrices must both be \(n) × \(n).") }
        var exchange = [Double](repeating: 0, count: n * n)
        var hop = exchange
        for i in 0..<n {
            for j in 0..<n where i != j {
                let (delay, bandwidth) = (latencyMilliseconds[i][j] / 1000, bandwidthGigabits[i][j])
                guard delay >= 0, delay.isFinite, bandwidth > 0, bandwidth.isFinite else {
                    throw .impossible(
                        "from device \(i) to \(j): \(latencyMilliseconds[i][j]) ms and \(bandwidth) Gbit/s; "
                            + "a delay is at least 0, a bandwidth more than 0.")
                }
                exchange[i * n + j] =
                    2 * (delay + constants.gradientGigabytes * 8 / (bandwidth * Double(constants.replicas)))
                hop[i * n + j] = delay + constants.activationGigabytes * 8 / bandwidth
            }
        }
        isSymmetric = (0..<n).allSatisfy { i in (0..<i).allSatisfy { hop[i * n + $0] == hop[$0 * n + i] } }
        self.constants = constants
        self.count = n
        self.exchange = exchange
        self.hop = hop
    }
}

/// Who is where on the grid, and what that costs.
public struct Layout: Hashable, Sendable {
    /// [pipeline, stage]: a device's index.
    public var pipelines: [[Int]]
    /// Seconds: `dataParallel` + `pipeline`.
    public var total: Double
    /// DP, in seconds.
    public var dataParallel: Double
    /// 2·PP, in seconds.
    public var pipeline: Double

    /// The devices of each stage, in the order of the pipelines.
    public var stages: [[Int]] {
        pipelines.first.map { $0.indices.map { stage in pipelines.map { $0[stage] } } } ?? []
    }
}

extension LayoutProblem {
    /// The cost of a partition into stages, the best order and pairing found here: exact up to 12 stages, beyond by improving
    /// nearest-neighbour orders.
    ///
    /// - Precondition: `groups` names every device once, in `stages` groups of `replicas`.
    /// Where the two directions of a pair differ, the published cost takes the direction in which the groups are listed; `directed`
    /// takes the one in which the stages follow each other.
    public func layout(_ groups: [[Int]]) -> Layout { layout(groups, directed: false) }

    func layout(_ groups: [[Int]], directed: Bool) -> Layout {
        precondition(
            groups.count == stages && groups.allSatisfy { $0.count == replicas }
                && groups.joined().sorted() == Array(0..<count), "not a partition of \(count) devices")
        var weights = [Double](repeating: 0, count: stages * stages)
        for u in 0..<stages {
            for v in 0..<stages where v > u {
                weights[u * stages + v] = bottleneck(groups[u], groups[v]).value
                weights[v * stages + u] =
                    directed && !isSymmetric ? bottleneck(groups[v], groups[u]).value : weights[u * stages + v]
            }
        }
        let order = shortestPath(weights)
        // Row by row: each device of a stage goes on with its partner in the next.
        var rows = groups[order[0]].map { [$0] }
        var sum = 0.0
        for (a, b) in zip(order, order.dropFirst()) {
            let (left, right) = (groups[a], groups[b])
            let forward = bottleneck(left, right)
            sum += weights[a * stages + b]
            for r in rows.indices {
                let last = rows[r][rows[r].count - 1]
                rows[r].append(right[forward.partner[left.firstIndex(of: last) ?? 0]])
            }
        }
        let exchange = groups.map { dataParallel($0) }.max() ?? 0
        return Layout(
            pipelines: rows, total: exchange + 2 * sum, dataParallel: exchange, pipeline: 2 * sum)
    }

    func dataParallel(_ group: [Int]) -> Double {
        group.map { i in group.reduce(0) { $0 + exchange[i * count + $1] } }.max() ?? 0
    }

    /// The least t for which a perfect matching uses only pairs with hop ≤ t, by bisection over the values; and each left
    /// device's partner, as an index into `right`.
    func bottleneck(_ left: [Int], _ right: [Int]) -> (value: Double, partner: [Int]) {
        var values: [Double] = []
        for i in left { for j in right { values.append(hop[i * count + j]) } }
        let table = values
        values.sort()
        let distinct = values.indices.filter { $0 == 0 || values[$0] != values[$0 - 1] }.map { values[$0] }
        func match(_ limit: Double) -> [Int]? {
            var owner = [Int](repeating: -1, count: right.count)
            var seen = [Int](repeating: -1, count: right.count)
            func augment(_ i: Int, _ mark: Int) -> Bool {
                for j in right.indices where seen[j] != mark && table[i * right.count + j] <= limit {
                    seen[j] = mark
                    if owner[j] < 0 || augment(owner[j], mark) {
                        owner[j] = i
                        return true
                    }
                }
                return false
            }
            for i in left.indices where !augment(i, i) { return nil }
            var partner = owner
            for j in right.indices { partner[owner[j]] = j }
            return partner
        }
        var (low, high) = (0, distinct.count - 1)
        var best = match(distinct[high]) ?? Array(left.indices)
        while low < high {
            let middle = (low + high) / 2
            if let found = match(distinct[middle]) { (high, best) = (middle, found) } else { low = middle + 1 }
        }
        if let found = match(distinct[low]) { best = found }
        return (distinct[low], best)
    }

    /// The order of all stages with the least sum over neighbours: Held & Karp (1962) up to 12, else 2-opt over the nearest
    /// neighbours of every start.
    func shortestPath(_ weights: [Double]) -> [Int] {
        let n = stages
        if n == 1 { return [0] }
        guard n <= 12 else { return improvedPath(weights) }
        let full = (1 << n) - 1
        var length = [Double](repeating: .infinity, count: (full + 1) * n)
        var before = [Int8](repeating: -1, count: (full + 1) * n)
        for s in 0..<n { length[(1 << s) * n + s] = 0 }
        for mask in 1...full {
            for v in 0..<n where mask >> v & 1 == 1 {
                let here = length[mask * n + v]
                guard here.isFinite else { continue }
                for u in 0..<n where mask >> u & 1 == 0 {
                    let next = (mask | 1 << u) * n + u
                    if here + weights[v * n + u] < length[next] {
                        length[next] = here + weights[v * n + u]
                        before[next] = Int8(v)
                    }
                }
            }
        }
        var end = 0
        for v in 1..<n where length[full * n + v] < length[full * n + end] { end = v }
        var order = [end]
        var mask = full
        while before[mask * n + end] >= 0 {
            let previous = Int(before[mask * n + end])
            mask ^= 1 << end
            end = previous
            order.append(end)
        }
        return order
    }

    private func improvedPath(_ weights: [Double]) -> [Int] {
        let n = stages
        var best: (order: [Int], length: Double)?
        for start in 0..<n {
            var order = [start]
            var rest = (0..<n).filter { $0 != start }
            while !rest.isEmpty {
                let last = order[order.count - 1]
                let pick = rest.indices.min { weights[last * n + rest[$0]] < weights[last * n + rest[$1]] } ?? 0
                order.append(rest.remove(at: pick))
            }
            func gain(_ a: Int, _ b: Int) -> Double {
                var delta = 0.0
                if a > 0 { delta += weights[order[a - 1] * n + order[b]] - weights[order[a - 1] * n + order[a]] }
                if b < n - 1 { delta += weights[order[a] * n + order[b + 1]] - weights[order[b] * n + order[b + 1]] }
                return delta
            }
            var improved = true
            while improved {
                improved = false
                for a in 0..<n - 1 {
                    for b in a + 1..<n where gain(a, b) < -1e-12 {
                        order[a...b].reverse()
                        improved = true
                    }
                }
            }
            let length = zip(order, order.dropFirst()).reduce(0) { $0 + weights[$1.0 * n + $1.1] }
            if length < best?.length ?? .infinity { best = (order, length) }
        }
        return best?.order ?? Array(0..<n)
    }
}
