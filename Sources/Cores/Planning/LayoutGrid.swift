/// A grid of devices under local search: every column a stage, every row a pipeline. Swaps of two cells are judged incrementally:
/// what a stage's exchange takes depends on its column only, a hop on two columns.
///
/// Its cost takes the rows as pairing and the columns' order as given, so it is never below the layout's, and equal where
/// both are the best.
struct LayoutGrid {
    let stages: Int
    let replicas: Int
    private let count: Int
    private let exchange: [Double]
    private let hop: [Double]
    /// [stage · replicas + pipeline]
    private(set) var cells: [Int]
    /// By column: the largest and the mean of its members' exchanges.
    private var columnMax: [Double]
    private var columnMean: [Double]
    /// Between column k and k + 1: the largest and the mean hop.
    private var hopMax: [Double]
    private var hopMean: [Double]
    private(set) var total = 0.0
    /// What is minimised: the total, and a little of the means, so that progress shows before a maximum falls.
    private(set) var energy = 0.0
    static let meanWeight = 0.05

    init(_ problem: LayoutProblem, cells: [Int]) {
        stages = problem.stages
        replicas = problem.replicas
        count = problem.count
        exchange = problem.exchange
        hop = problem.hop
        self.cells = cells
        columnMax = [Double](repeating: 0, count: stages)
        columnMean = columnMax
        hopMax = columnMax
        hopMean = columnMax
        for k in 0..<stages { refreshColumn(k) }
        for k in 0..<stages - 1 { refreshHop(k) }
        sum()
    }

    private mutating func refreshColumn(_ k: Int) {
        let base = k * replicas
        var (largest, all) = (0.0, 0.0)
        exchange.withUnsafeBufferPointer { exchange in
            cells.withUnsafeBufferPointer { cells in
                for a in base..<base + replicas {
                    let row = cells[a] * count
                    var sum = 0.0
                    for b in base..<base + replicas { sum += exchange[row + cells[b]] }
                    largest = max(largest, sum)
                    all += sum
                }
            }
        }
        columnMax[k] = largest
        columnMean[k] = all / Double(replicas)
    }
    private mutating func refreshHop(_ k: Int) {
        let base = k * replicas
        var (largest, all) = (0.0, 0.0)
        hop.withUnsafeBufferPointer { hop in
            cells.withUnsafeBufferPointer { cells in
                for a in base..<base + replicas {
                    let time = hop[cells[a] * count + cells[a + replicas]]
                    largest = max(largest, time)
                    all += time
                }
            }
        }
        hopMax[k] = largest
        hopMean[k] = all / Double(replicas)
    }
    private mutating func sum() {
        var (largest, mean, hops, hopMeans) = (0.0, 0.0, 0.0, 0.0)
        for k in 0..<stages {
            largest = max(largest, columnMax[k])
            mean += columnMean[k]
            hops += hopMax[k]
            hopMeans += hopMean[k]
        }
        total = largest + 2 * hops
        energy = total + LayoutGrid.meanWeight * (mean / Double(stages) + 2 * hopMeans)
    }

    /// Two cells change places.
    mutating func swap(_ a: Int, _ b: Int) {
        cells.swapAt(a, b)
        let (p, q) = (a / replicas, b / replicas)
        if p != q {
            refreshColumn(p)
            refreshColumn(q)
        }
        for k in [p - 1, p, q - 1, q] where k >= 0 && k < stages - 1 { refreshHop(k) }
        sum()
    }
    /// Two columns change places.
    mutating func swapColumns(_ p: Int, _ q: Int) {
        for r in 0..<replicas { cells.swapAt(p * replicas + r, q * replicas + r) }
        columnMax.swapAt(p, q)
        columnMean.swapAt(p, q)
        for k in [p - 1, p, q - 1, q] where k >= 0 && k < stages - 1 { refreshHop(k) }
        sum()
    }

    /// A cell that the cost hangs on: of the slowest exchange or, `byHop`, of the slowest pair of hop k.
    func binding(byHop k: Int?) -> Int {
        if let k {
            for a in k * replicas..<(k + 1) * replicas where hop[cells[a] * count + cells[a + replicas]] == hopMax[k] {
                return a
            }
            return k * replicas
        }
        var column = 0
        for k in 0..<stages where columnMax[k] > columnMax[column] { column = k }
        let base = column * replicas
        var (pick, largest) = (base, -1.0)
        for a in base..<base + replicas {
            var sum = 0.0
            for b in base..<base + replicas { sum += exchange[cells[a] * count + cells[b]] }
            if sum > largest { (pick, largest) = (a, sum) }
        }
        return pick
    }

    /// The columns as groups.
    var groups: [[Int]] { (0..<stages).map { Array(cells[$0 * replicas..<($0 + 1) * replicas]) } }
}
