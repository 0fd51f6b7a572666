internal import Primitives

/// Finds a layout: starts from structure, then threshold accepting (Dueck & Scheuer 1990) over swaps on a grid, half of them aimed at
/// what the cost hangs on; pairing and order of the stages are made exact in between. Seeded, bounded by evaluations.
public struct LayoutSearch {
    /// Swaps that are judged.
    public static let defaultIterations = 2_400_000
    let problem: LayoutProblem
    private var random: SeededGenerator
    /// Swaps and whole layouts judged so far.
    public private(set) var evaluations = 0

    public init(_ problem: LayoutProblem, seed: UInt64) {
        self.problem = problem
        random = SeededGenerator(seed: seed, stream: 0xD7F)
    }

    public mutating func run(iterations: Int = LayoutSearch.defaultIterations) -> Layout {
        var starts = problem.structuredGrids()
        var shuffled = Array(0..<problem.count)
        random.shuffle(&shuffled)
        starts.append(shuffled)
        var layouts = starts.map { exact($0) }
        let order = layouts.indices.sorted { (layouts[$0].total, $0) < (layouts[$1].total, $1) }
        layouts = order.map { layouts[$0] }
        var best = layouts[0]
        guard problem.count > 1, problem.stages > 1 || problem.replicas > 1 else { return best }
        // Long runs from the best starts of each kind and from hot, the rest from the best so far.
        let shares: [(layout: Layout, share: Int, heat: Double)] = [
            (layouts[0], 4, 0.03), (layouts[min(1, layouts.count - 1)], 8, 0.03),
            (layouts[min(2, layouts.count - 1)], 8, 0.03), (layouts[0], 8, 0.1), (layouts[layouts.count - 1], 8, 0.4),
        ]
        for (layout, share, heat) in shares {
            let found = improve(layout, iterations: max(1, iterations / share), heat: heat)
            if found.total < best.total { best = found }
        }
        for heat in [0.03, 0.01] {
            let found = improve(best, iterations: max(1, iterations / 8), heat: heat)
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
    private func grid(_ layout: Layout) -> LayoutGrid {
        LayoutGrid(problem, cells: layout.stages.flatMap { $0 })
    }

    /// - Parameter heat: the first threshold, relative to the cost.
    private mutating func improve(_ start: Layout, iterations: Int, heat: Double) -> Layout {
        var best = start
        var grid = grid(start)
        var held = grid
        let scale = start.total * heat
        for step in 0..<iterations {
            let left = 1 - Double(step) / Double(iterations)
            let threshold = scale * left * left
            let before = grid.energy
            evaluations += 1
            let (a, b, columns) = move(grid)
            if columns { grid.swapColumns(a, b) } else { grid.swap(a, b) }
            if grid.energy >= before + threshold {
                if columns { grid.swapColumns(a, b) } else { grid.swap(a, b) }
            } else if (grid.total, grid.energy) < (held.total, held.energy) {
                held = grid
            }
            if step % 4096 == 4095 || step == iterations - 1 {
                // The rows of the best grid so far may not be its best pairing, nor its columns in the best order.
                let layout = exact(held.cells)
                if layout.total < best.total - 1e-12 { best = layout }
                let again = self.grid(layout)
                if (again.total, again.energy) < (held.total, held.energy) { held = again }
                if step % 32_768 == 32_767 { grid = held }
            }
        }
        return best
    }

    private mutating func move(_ grid: LayoutGrid) -> (Int, Int, columns: Bool) {
        let (stages, replicas) = (problem.stages, problem.replicas)
        let kind = random.below(64)
        if kind == 0, stages > 1 {
            let a = random.below(stages)
            return (a, (a + 1 + random.below(stages - 1)) % stages, true)
        }
        var a = random.below(problem.count)
        if kind < 16 {
            a = grid.binding(byHop: nil)
        } else if kind < 32, stages > 1 {
            let k = random.below(stages - 1)
            a = grid.binding(byHop: k)
            // Either end of the pair.
            if random.below(2) == 0 { a += replicas }
        }
        // Half of the time within the column: another pairing.
        if kind % 4 == 3, replicas > 1 {
            let base = a / replicas * replicas
            return (a, base + (a - base + 1 + random.below(replicas - 1)) % replicas, false)
        }
        return (a, (a + 1 + random.below(problem.count - 1)) % problem.count, false)
    }
}
