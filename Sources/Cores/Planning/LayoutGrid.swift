/// A grid of devices under local search: every column a stage, every row a pipeline. Moves are judged incrementally: what a stage's
/// exchange takes depends on who is in its column, a hop on two neighbours in a row; hops are cheap and come first.
///
/// Its cost takes the rows as pairing and the columns' order as given, so it is never below the layout's, and equal where
/// both are the best. Times are rounded to 2⁻³⁰ s: sums are exact in any order, and nothing drifts.
package final class LayoutGrid {
    package let stages: Int
    package let replicas: Int
    private let count: Int
    /// [to, from], row by row: all that one device receives of is a row.
    private let exchange: UnsafeMutablePointer<Double>
    private let hop: UnsafeMutablePointer<Double>
    /// [stage · replicas + pipeline]: a device.
    private let cells: UnsafeMutablePointer<Int>
    /// Each device's cell.
    private let places: UnsafeMutablePointer<Int>
    /// By cell: the hop to the next column.
    private let hops: UnsafeMutablePointer<Double>
    private let columns: UnsafeMutablePointer<Worst>
    /// Between column k and k + 1.
    private let boundaries: UnsafeMutablePointer<Worst>
    package private(set) var total = 0.0
    /// What is minimised: the total, and so much of the means, which show progress before a maximum falls.
    package private(set) var energy = 0.0
    private let meanWeight: Double

    /// Of a column's exchanges, or of the hops from one column to the next.
    private struct Worst {
        var largest = 0.0
        var sum = 0.0
        mutating func add(_ time: Double) {
            largest = time > largest ? time : largest
            sum += time
        }
    }

    // The move that is being judged, and what it overwrites: cells, hops by cell, boundaries and columns by index.
    private let move: Journal<Int>
    private let oldDevices: Journal<Int>
    private let oldHops: Journal<Double>
    private let oldBoundaries: Journal<Worst>
    private let oldColumns: Journal<Worst>
    private var (moveSize, hopCount, boundaryCount, columnCount) = (0, 0, 0, 0)
    /// By boundary and by column: the last move that touched it.
    private let touched: UnsafeMutablePointer<Int>
    private let changed: UnsafeMutablePointer<Int>
    private var moves = 0

    /// Indices and values, as many as its owner counts.
    private struct Journal<Value> {
        let index: UnsafeMutablePointer<Int>
        let value: UnsafeMutablePointer<Value>
        init(_ capacity: Int) {
            index = .allocate(capacity: capacity)
            value = .allocate(capacity: capacity)
        }
        func deallocate() {
            index.deallocate()
            value.deallocate()
        }
    }

    package init(_ problem: LayoutProblem, cells order: [Int], meanWeight: Double) {
        stages = problem.stages
        replicas = problem.replicas
        count = problem.count
        self.meanWeight = meanWeight
        func allocate<T>(_ size: Int, _ zero: T) -> UnsafeMutablePointer<T> {
            let pointer = UnsafeMutablePointer<T>.allocate(capacity: size)
            pointer.initialize(repeating: zero, count: size)
            return pointer
        }
        exchange = allocate(count * count, 0)
        hop = allocate(count * count, 0)
        hops = allocate(count, 0)
        cells = allocate(count, 0)
        places = allocate(count, 0)
        columns = allocate(stages, Worst())
        boundaries = allocate(stages, Worst())
        touched = allocate(stages, 0)
        changed = allocate(stages, 0)
        // A move names each cell at most once, and touches two hops for each.
        (move, oldDevices, oldHops) = (Journal(count), Journal(count), Journal(2 * count))
        (oldBoundaries, oldColumns) = (Journal(stages), Journal(stages))
        for i in 0..<count {
            for j in 0..<count {
                exchange[j * count + i] = (problem.exchange[i * count + j] * 0x1p30).rounded() * 0x1p-30
                hop[i * count + j] = (problem.hop[i * count + j] * 0x1p30).rounded() * 0x1p-30
            }
        }
        place(order)
    }
    deinit {
        for pointer in [exchange, hop, hops] { pointer.deallocate() }
        for pointer in [cells, places, touched, changed] { pointer.deallocate() }
        for pointer in [columns, boundaries] { pointer.deallocate() }
        for journal in [move, oldDevices] { journal.deallocate() }
        for journal in [oldBoundaries, oldColumns] { journal.deallocate() }
        oldHops.deallocate()
    }

    /// Every cell's device.
    package var devices: [Int] { (0..<count).map { cells[$0] } }
    /// The columns as groups.
    package var groups: [[Int]] { (0..<stages).map { k in (0..<replicas).map { cells[k * replicas + $0] } } }
    func device(_ cell: Int) -> Int { cells[cell] }
    func cell(of device: Int) -> Int { places[device] }

    package func place(_ order: [Int]) {
        for (cell, device) in order.enumerated() {
            cells[cell] = device
            places[device] = cell
        }
        for k in 0..<stages { columns[k] = column(k) }
        for cell in 0..<max(0, count - replicas) { hops[cell] = hop[cells[cell] * count + cells[cell + replicas]] }
        for k in 0..<stages - 1 { boundaries[k] = boundary(k) }
        let (path, pathMean) = hopSums()
        let (largest, mean) = columnSums()
        total = largest + path
        energy = path + pathMean + largest + mean
    }
    private func exchange(_ cell: Int, in k: Int) -> Double {
        let row = cells[cell]
        var sum = 0.0
        for other in k * replicas..<(k + 1) * replicas { sum += exchange[cells[other] * count + row] }
        return sum
    }
    private func column(_ k: Int) -> Worst {
        var worst = Worst()
        for cell in k * replicas..<(k + 1) * replicas { worst.add(exchange(cell, in: k)) }
        return worst
    }
    private func boundary(_ k: Int) -> Worst {
        var worst = Worst()
        for cell in k * replicas..<(k + 1) * replicas { worst.add(hops[cell]) }
        return worst
    }
    /// 2·PP, and its share of the means.
    private func hopSums() -> (Double, Double) {
        var all = Worst()
        for k in 0..<stages - 1 {
            all.largest += boundaries[k].largest
            all.sum += boundaries[k].sum
        }
        return (2 * all.largest, 2 * meanWeight * all.sum / Double(replicas))
    }
    /// DP, and its share of the means.
    private func columnSums() -> (Double, Double) {
        var all = Worst()
        for k in 0..<stages {
            all.largest = max(all.largest, columns[k].largest)
            all.sum += columns[k].sum
        }
        return (all.largest, meanWeight * all.sum / Double(count))
    }

    // MARK: Moves

    /// Begins a move; cells are exchanged in pairs or given new devices.
    package func begin() { moveSize = 0 }
    package func exchange(_ a: Int, with b: Int) {
        put(cells[b], in: a)
        put(cells[a], in: b)
    }
    func put(_ device: Int, in cell: Int) {
        precondition(moveSize < count, "a move names a cell twice")
        move.index[moveSize] = cell
        move.value[moveSize] = device
        moveSize += 1
    }

    /// Makes the move if its energy is less than `limit`.
    ///
    /// - Precondition: the move names no cell twice, and the devices of its cells.
    package func attempt(below limit: Double) -> Bool {
        moves += 1
        (hopCount, boundaryCount, columnCount) = (0, 0, 0)
        for m in 0..<moveSize {
            let cell = move.index[m]
            oldDevices.value[m] = cells[cell]
            cells[cell] = move.value[m]
        }
        for m in 0..<moveSize {
            let cell = move.index[m]
            if cell >= replicas { refreshHop(cell - replicas) }
            if cell < count - replicas { refreshHop(cell) }
        }
        for b in 0..<boundaryCount {
            let k = oldBoundaries.index[b]
            boundaries[k] = boundary(k)
        }
        let (path, pathMean) = hopSums()
        if path + pathMean < limit {
            refreshColumns()
            let (largest, mean) = columnSums()
            if path + pathMean + largest + mean < limit {
                total = largest + path
                energy = path + pathMean + largest + mean
                for m in 0..<moveSize { places[move.value[m]] = move.index[m] }
                return true
            }
        }
        for c in 0..<columnCount { columns[oldColumns.index[c]] = oldColumns.value[c] }
        for b in 0..<boundaryCount { boundaries[oldBoundaries.index[b]] = oldBoundaries.value[b] }
        for h in (0..<hopCount).reversed() { hops[oldHops.index[h]] = oldHops.value[h] }
        for m in 0..<moveSize { cells[move.index[m]] = oldDevices.value[m] }
        return false
    }
    private func refreshHop(_ cell: Int) {
        oldHops.index[hopCount] = cell
        oldHops.value[hopCount] = hops[cell]
        hopCount += 1
        hops[cell] = hop[cells[cell] * count + cells[cell + replicas]]
        let k = cell / replicas
        if touched[k] != moves {
            touched[k] = moves
            oldBoundaries.index[boundaryCount] = k
            oldBoundaries.value[boundaryCount] = boundaries[k]
            boundaryCount += 1
        }
    }
    /// The columns that somebody came to from another.
    private func refreshColumns() {
        for m in 0..<moveSize {
            let k = move.index[m] / replicas
            if changed[k] != moves, places[move.value[m]] / replicas != k {
                changed[k] = moves
                oldColumns.index[columnCount] = k
                oldColumns.value[columnCount] = columns[k]
                columnCount += 1
                columns[k] = column(k)
            }
        }
    }

    // MARK: What the cost hangs on

    /// The first cell of the slowest pair of hop k.
    func slowestHop(_ k: Int) -> Int {
        for cell in k * replicas..<(k + 1) * replicas where hops[cell] == boundaries[k].largest { return cell }
        return k * replicas
    }
    /// The cell of the slowest exchange.
    func slowestExchange() -> Int {
        var k = 0
        for other in 0..<stages where columns[other].largest > columns[k].largest { k = other }
        for cell in k * replicas..<(k + 1) * replicas where exchange(cell, in: k) == columns[k].largest { return cell }
        return k * replicas
    }
}
