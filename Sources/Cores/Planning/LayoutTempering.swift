internal import Kernels
internal import Primitives

/// Layouts at several temperatures at once (replica exchange, Swendsen & Wang 1986): hot ones wander from valley to valley, cold ones
/// look at what is in them, and what is good sinks. On pools of islands, seeds 1000 to 1005, two runs each, the best of four settings ends
/// 0.2 to 0.4 % below as many moves in 16, 32 or 64 runs from random starts, the other three no better than those: little more than
/// chance. Nor did children of two layouts or moves of whole blocks help.
struct LayoutTempering {
    /// The hottest and the coldest temperature, relative to the cost of a good layout, and how many there are.
    private static let hot = 0.06
    private static let cold = 6e-4
    static let count = 12
    private static let meanWeight = 1.0
    /// Moves at one temperature before neighbours may change places.
    private static let burst = 500

    private var temperatures: [Double]
    /// From the coldest to the hottest.
    private var grids: [LayoutGrid]
    /// The best layout so far, as cells.
    private(set) var held: (total: Double, energy: Double, devices: [Int])

    /// - Parameters: `scale` a good layout's seconds; `starts` cells, one for each temperature.
    init(_ problem: LayoutProblem, scale: Double, starts: [[Int]]) {
        let factor = Cooling.root(LayoutTempering.cold / LayoutTempering.hot, starts.count - 1)
        var temperature = LayoutTempering.hot * scale
        temperatures = []
        for _ in starts {
            temperatures.insert(temperature, at: 0)
            temperature *= factor
        }
        grids = starts.map { LayoutGrid(problem, cells: $0, meanWeight: LayoutTempering.meanWeight) }
        held = (grids[0].total, grids[0].energy, starts[0])
    }

    mutating func run(_ moves: LayoutMoves, steps: Int, _ random: inout SeededGenerator) {
        for round in 0..<steps / (grids.count * LayoutTempering.burst) {
            for (grid, temperature) in zip(grids, temperatures) {
                for _ in 0..<LayoutTempering.burst {
                    moves.propose(grid, &random)
                    let rise = -temperature * kernels_log(1 - random.uniform())
                    if grid.attempt(below: grid.energy + rise), (grid.total, grid.energy) < (held.total, held.energy) {
                        held = (grid.total, grid.energy, grid.devices)
                    }
                }
            }
            for lower in stride(from: round % 2, to: grids.count - 1, by: 2) {
                let rise = grids[lower].energy - grids[lower + 1].energy
                let gain = rise * (1 / temperatures[lower] - 1 / temperatures[lower + 1])
                if gain >= 0 || random.uniform() < Cooling.exponential(gain) {
                    grids.swapAt(lower, lower + 1)
                }
            }
        }
    }
}
