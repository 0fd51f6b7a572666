internal import Kernels
internal import Primitives

/// Finds a layout: simulated annealing (Kirkpatrick et al. 1983) over moves on a grid, many of them aimed at what the cost hangs on,
/// from several random starts; the pairing and the order of the stages are made exact in the end. Seeded, bounded by evaluations.
///
/// On pools of islands twelve runs of a third of a million moves find better layouts than one of four million: the first few thousand
/// accepted moves settle which islands share stages.
public struct LayoutSearch {
    /// Moves that are judged.
    public static let defaultIterations = 4_000_000
    static let restarts = 12
    /// First and last temperature, relative to the cost of the start.
    static let hot = 0.01
    static let cold = 1e-4
    /// The energy's share of the means; at a twentieth of it, as in ``AnnealingBaseline``, islands' layouts cost 2 % more.
    static let meanWeight = 1.0

    let problem: LayoutProblem
    private var random: SeededGenerator
    /// Moves and whole layouts judged so far.
    public private(set) var evaluations = 0

    public init(_ problem: LayoutProblem, seed: UInt64) {
        self.problem = problem
        random = SeededGenerator(seed: seed, stream: 0xD7F)
    }

    public mutating func run(iterations: Int = LayoutSearch.defaultIterations) -> Layout {
        var best = exact(Array(0..<problem.count))
        guard problem.count > 1, problem.stages > 1 else { return problem.layout(problem.listed) }
        let grid = LayoutGrid(problem, cells: best.stages.flatMap { $0 }, meanWeight: LayoutSearch.meanWeight)
        let moves = LayoutMoves(problem)
        for _ in 0..<LayoutSearch.restarts {
            let found = anneal(grid, moves, steps: max(1, iterations / LayoutSearch.restarts))
            if found.total < best.total { best = found }
        }
        // Where the two directions of a pair differ, a hop counts in the direction in which the stages are listed.
        let listed = problem.layout(best.stages)
        (best.total, best.dataParallel, best.pipeline) = (listed.total, listed.dataParallel, listed.pipeline)
        return best
    }

    private mutating func exact(_ cells: [Int]) -> Layout {
        evaluations += 1
        let size = problem.replicas
        return problem.layout(
            (0..<problem.stages).map { Array(cells[$0 * size..<($0 + 1) * size]) }, directed: true)
    }

    private mutating func anneal(_ grid: LayoutGrid, _ moves: LayoutMoves, steps: Int) -> Layout {
        var start = Array(0..<problem.count)
        random.shuffle(&start)
        grid.place(start)
        var held = (total: grid.total, energy: grid.energy, devices: start)
        var temperature = grid.total * LayoutSearch.hot
        let factor = AnnealingBaseline.root(LayoutSearch.cold / LayoutSearch.hot, steps / 1000)
        for step in 0..<steps {
            if step % 1000 == 999 { temperature *= factor }
            evaluations += 1
            moves.propose(grid, &random)
            let rise = -temperature * kernels_log(1 - random.uniform())
            if grid.attempt(below: grid.energy + rise), (grid.total, grid.energy) < (held.total, held.energy) {
                held = (grid.total, grid.energy, grid.devices)
            }
        }
        return exact(held.devices)
    }
}

extension LayoutProblem {
    /// The devices in their order, stage after stage.
    var listed: [[Int]] { (0..<stages).map { Array($0 * replicas..<($0 + 1) * replicas) } }
}
