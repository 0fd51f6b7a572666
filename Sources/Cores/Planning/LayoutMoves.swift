internal import Primitives

/// What a search for a layout tries: exchanges of two cells, of parts of two rows, of two columns, and turns of a row. Some go to the
/// cell that the cost hangs on; some bring a device that is near a neighbour (candidate lists, as Lin & Kernighan 1973).
struct LayoutMoves {
    private let stages: Int
    private let replicas: Int
    private let count: Int
    /// By device: those with the shortest hops from it, and those with the shortest exchanges.
    private let hopCandidates: [[Int]]
    private let exchangeCandidates: [[Int]]
    static let candidates = 20

    private enum Kind {
        case cells, slowestExchange, slowestHop, nearHop, nearSlowestHop, nearSlowestExchange, pairings, parts,
            nearParts, turn
        case columns
    }
    /// Each kind as often as it is drawn.
    private let kinds: [Kind]

    init(_ problem: LayoutProblem) {
        let count = problem.count
        stages = problem.stages
        replicas = problem.replicas
        self.count = count
        func nearest(_ times: [Double]) -> [[Int]] {
            (0..<count).map { i in
                let others = (0..<count).filter { $0 != i }
                return Array(
                    others.sorted { (times[i * count + $0], $0) < (times[i * count + $1], $1) }
                        .prefix(LayoutMoves.candidates))
            }
        }
        hopCandidates = nearest(problem.hop)
        exchangeCandidates = nearest(problem.exchange)
        var shares: [(Kind, Int)] = [
            (.cells, 16), (.slowestExchange, 8), (.slowestHop, 8), (.nearHop, 16), (.nearSlowestHop, 16),
            (.nearSlowestExchange, 12), (.nearParts, 24), (.turn, 12), (.columns, 1),
        ]
        if replicas > 1 { shares.append((.pairings, 12)) }
        if stages >= 4 { shares.append((.parts, 12)) }
        kinds = shares.flatMap { [Kind](repeating: $0.0, count: $0.1) }
    }

    /// One move, begun on the grid.
    ///
    /// - Precondition: more stages than one.
    func propose(_ grid: LayoutGrid, _ random: inout SeededGenerator) {
        grid.begin()
        switch kinds[random.below(kinds.count)] {
        case .cells: exchange(grid, random.below(count), nil, &random)
        case .slowestExchange: exchange(grid, grid.slowestExchange(), nil, &random)
        case .slowestHop:
            let cell = grid.slowestHop(random.below(stages - 1))
            exchange(grid, random.below(2) == 0 ? cell : cell + replicas, nil, &random)
        case .nearHop: bringNear(grid, random.below(count - replicas), &random)
        case .nearSlowestHop: bringNear(grid, grid.slowestHop(random.below(stages - 1)), &random)
        case .nearSlowestExchange:
            // A device near some member takes the slowest's place, or any other's.
            let slowest = grid.slowestExchange()
            let base = slowest / replicas * replicas
            let near = pick(exchangeCandidates[grid.device(base + random.below(replicas))], grid, &random)
            let cell = random.below(2) == 0 ? slowest : base + random.below(replicas)
            exchange(grid, cell, near / replicas == base / replicas ? nil : near, &random)
        case .pairings:
            // Two rows change places over some columns.
            let (first, last) = range(&random)
            let (a, b) = two(replicas, &random)
            for k in first...last { grid.exchange(k * replicas + a, with: k * replicas + b) }
        case .parts:
            let width = 2 + random.below(stages / 2 - 1)
            let a = random.below(stages - width + 1) * replicas + random.below(replicas)
            let first = random.below(stages - width + 1)
            let backwards = random.below(2) == 0
            let b = (backwards ? first + width - 1 : first) * replicas + random.below(replicas)
            exchangeParts(grid, a, forwards: true, b, forwards: !backwards, width: width, &random)
        case .nearParts: bringPart(grid, &random)
        case .turn:
            // A device moves along its row, those between make room.
            let row = random.below(replicas)
            let (first, last) = range(&random)
            let forwards = random.below(2) == 0
            for k in first...last {
                let from = forwards ? (k == first ? last : k - 1) : (k == last ? first : k + 1)
                grid.put(grid.device(from * replicas + row), in: k * replicas + row)
            }
        case .columns:
            let (a, b) = two(stages, &random)
            for row in 0..<replicas { grid.exchange(a * replicas + row, with: b * replicas + row) }
        }
    }

    private func two(_ bound: Int, _ random: inout SeededGenerator) -> (Int, Int) {
        let a = random.below(bound)
        return (a, (a + 1 + random.below(bound - 1)) % bound)
    }
    private func range(_ random: inout SeededGenerator) -> (Int, Int) {
        let (a, b) = (random.below(stages), random.below(stages))
        return (min(a, b), max(a, b))
    }
    /// A candidate's cell; the nearer, the likelier.
    private func pick(_ candidates: [Int], _ grid: LayoutGrid, _ random: inout SeededGenerator) -> Int {
        let u = random.uniform()
        return grid.cell(of: candidates[Int(u * u * Double(candidates.count))])
    }
    /// With any other cell where `b` is nil or a itself.
    private func exchange(_ grid: LayoutGrid, _ a: Int, _ b: Int?, _ random: inout SeededGenerator) {
        if let b, b != a { return grid.exchange(a, with: b) }
        grid.exchange(a, with: (a + 1 + random.below(count - 1)) % count)
    }
    /// One end of the hop from `cell` gets a device that is near the other.
    private func bringNear(_ grid: LayoutGrid, _ cell: Int, _ random: inout SeededGenerator) {
        let (a, other) = random.below(2) == 0 ? (cell, cell + replicas) : (cell + replicas, cell)
        let near = pick(hopCandidates[grid.device(other)], grid, &random)
        exchange(grid, a, near, &random)
    }
    /// As ``bringNear(_:_:_:)``, with what follows in its row, in either direction.
    private func bringPart(_ grid: LayoutGrid, _ random: inout SeededGenerator) {
        let cell = random.below(2) == 0 ? grid.slowestHop(random.below(stages - 1)) : random.below(count - replicas)
        let forwards = random.below(2) == 0
        let (a, other) = forwards ? (cell + replicas, cell) : (cell, cell + replicas)
        let b = pick(hopCandidates[grid.device(other)], grid, &random)
        let ahead = random.below(2) == 0
        let room = min(
            forwards ? stages - a / replicas : a / replicas + 1, ahead ? stages - b / replicas : b / replicas + 1)
        exchangeParts(grid, a, forwards: forwards, b, forwards: ahead, width: 1 + random.below(room), &random)
    }
    /// Parts of rows from a and from b on, where they do not meet; else two cells.
    private func exchangeParts(
        _ grid: LayoutGrid, _ a: Int, forwards: Bool, _ b: Int, forwards ahead: Bool, width: Int,
        _ random: inout SeededGenerator
    ) {
        let (p, q) = (forwards ? replicas : -replicas, ahead ? replicas : -replicas)
        if a % replicas == b % replicas {
            let (one, two) = (a + p * (width - 1), b + q * (width - 1))
            if min(a, one) <= max(b, two), min(b, two) <= max(a, one) {
                return exchange(grid, a, nil, &random)
            }
        }
        for k in 0..<width { grid.exchange(a + p * k, with: b + q * k) }
    }
}
