internal import Kernels
internal import Primitives

/// Finds a layout: simulated annealing (Kirkpatrick et al. 1983) over moves on a grid, many of them aimed at what the cost hangs on,
/// from eight random starts; then a cold run from the best of them. The pairing and the order of the stages are made exact in
/// between. Where the runs do not agree, ``LayoutTempering`` goes on for longer. Seeded, bounded by evaluations.
///
/// Why several: on ten pools of islands, seeds 1000 to 1009, one run as long as twelve ended 1.3 % dearer.
public struct LayoutSearch {
    /// Moves that are judged.
    public static let defaultIterations = 4_000_000
    static let restarts = 8

    private struct Schedule {
        /// First and last temperature, relative to the cost of the start.
        var hot: Double
        var cold: Double
        /// The energy's share of the means.
        var meanWeight: Double

        /// With a share of a twentieth, as in the annealing it is measured against, those islands' layouts are 2 % dearer.
        static let long = Schedule(hot: 0.01, cold: 1e-4, meanWeight: 1)
        /// Where one line sets the cost of nearly everything, the differences that are left are a few millionths.
        static let final = Schedule(hot: 2e-5, cold: 5e-7, meanWeight: 0.02)
    }

    let problem: LayoutProblem
    private var random: SeededGenerator
    /// Moves and whole layouts judged so far.
    public private(set) var evaluations = 0

    public init(_ problem: LayoutProblem, seed: UInt64) {
        self.problem = problem
        random = SeededGenerator(seed: seed, stream: 0xD7F)
    }

    /// Where the sixth best of the runs ends so much dearer than the best, the runs were too short. Judged by the fourth, runs on
    /// islands agree on layouts that are up to 9 % dearer than what annealing finds; judged by all, published scenarios take four times as long.
    static let agreement = 1e-3
    /// How much longer they are then.
    static let patience = 4

    /// - Parameter iterations: moves of a first pass; where its runs do not agree, ``patience`` times as many at several temperatures follow.
    public mutating func run(iterations: Int = LayoutSearch.defaultIterations) -> Layout {
        guard problem.count > 1, problem.stages > 1 else { return problem.layout(problem.listed) }
        let moves = LayoutMoves(problem)
        var (best, agree) = pass(moves, iterations: iterations)
        if !agree {
            let longer = tempered(moves, iterations: LayoutSearch.patience * iterations, scale: best.total)
            if longer.total < best.total { best = longer }
        }
        // Where the two directions of a pair differ, a hop counts in the direction in which the stages are listed.
        let listed = problem.layout(best.stages)
        (best.total, best.dataParallel, best.pipeline) = (listed.total, listed.dataParallel, listed.pipeline)
        return best
    }

    /// Runs from random starts and the cold one; whether they agree.
    private mutating func pass(_ moves: LayoutMoves, iterations: Int) -> (best: Layout, agree: Bool) {
        var best = exact(Array(0..<problem.count))
        var ends: [Double] = []
        let last = iterations / 13
        for _ in 0..<LayoutSearch.restarts {
            var start = Array(0..<problem.count)
            random.shuffle(&start)
            let steps = max(1, (iterations - last) / LayoutSearch.restarts)
            let found = anneal(start, moves, steps: steps, .long)
            ends.append(found.total)
            if found.total < best.total { best = found }
        }
        ends.sort()
        let found = anneal(best.stages.flatMap { $0 }, moves, steps: last, .final)
        if found.total < best.total { best = found }
        return (best, ends[5] <= ends[0] * (1 + LayoutSearch.agreement))
    }

    /// From random starts, then the cold run.
    private mutating func tempered(_ moves: LayoutMoves, iterations: Int, scale: Double) -> Layout {
        var starts: [[Int]] = []
        for _ in 0..<LayoutTempering.count {
            var start = Array(0..<problem.count)
            random.shuffle(&start)
            starts.append(start)
        }
        var tempering = LayoutTempering(problem, scale: scale, starts: starts)
        let last = iterations / 13
        tempering.run(moves, steps: iterations - last, &random)
        evaluations += iterations - last
        let best = exact(tempering.held.devices)
        let found = anneal(best.stages.flatMap { $0 }, moves, steps: last, .final)
        return found.total < best.total ? found : best
    }

    private mutating func exact(_ cells: [Int]) -> Layout {
        evaluations += 1
        let size = problem.replicas
        return problem.layout(
            (0..<problem.stages).map { Array(cells[$0 * size..<($0 + 1) * size]) }, directed: true)
    }

    private mutating func anneal(
        _ start: [Int], _ moves: LayoutMoves, steps: Int, _ schedule: Schedule
    ) -> Layout {
        let grid = LayoutGrid(problem, cells: start, meanWeight: schedule.meanWeight)
        var held = (total: grid.total, energy: grid.energy, devices: start)
        var temperature = grid.total * schedule.hot
        let factor = Cooling.root(schedule.cold / schedule.hot, steps / 1000)
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
    package var listed: [[Int]] { (0..<stages).map { Array($0 * replicas..<($0 + 1) * replicas) } }
}
