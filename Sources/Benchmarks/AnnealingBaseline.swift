internal import Kernels
public import Planning
internal import Primitives
public import Topologies

/// Plain simulated annealing (Kirkpatrick et al. 1983): what the planner's search is measured against. It starts at random, knows
/// nothing about places and moves at random; temperatures fall geometrically. Tuning belongs on seeds from 1000 on,
/// comparison on seeds below 100.
public struct AnnealingBaseline: Sendable {
    /// First and last temperature, relative to the cost of the start.
    public var hot: Double
    public var cold: Double
    /// Independent runs that share the evaluations; the best counts.
    public var restarts: Int
    /// Layouts: of the moves, those that exchange parts of two rows or two columns; the others exchange two cells. Partitions: those
    /// that exchange two peers; the others move one.
    public var mix: Double
    /// Layouts: the energy's share of the means. Partitions: of a run's evaluations, the part that all numbers of pipelines share; the
    /// best two have the rest.
    public var share: Double

    /// For layouts, each family's own. Islands: 20 million evaluations on each of the seeds 1000–1002 with hot 0.003, 0.01, 0.03, 0.1, 1 to
    /// 40 restarts, mix 0, 0.1, 0.4 and share 0.05, 1; then 100 million, seeds 1000–1003, with 10, 30, 100 restarts. The others, where
    /// lines of places matter little: 40 million, seed 1000, hot 0.01, 0.03, cold 1e-5, 1e-4, 4 and 100 restarts.
    ///
    ///     atoll bench planning --tune --families islands --evaluations 100000000 --hot 0.03 --restarts 10,30,100 --mix 0.1,0.4
    public static func layout(_ family: PlanningFamily) -> AnnealingBaseline {
        switch family {
        case .islands: AnnealingBaseline(hot: 0.03, cold: 1e-4, restarts: 100, mix: 0.4, share: 0.05)
        case .cities, .homes: AnnealingBaseline(hot: 0.01, cold: 1e-5, restarts: 4, mix: 0.4, share: 0.05)
        }
    }
    /// For partitions of 16 peers into pipelines, each family's own: 20 000 evaluations, seed 1000 of all families, with hot 0.03, 0.1, 0.3
    /// and share 0.4, 1; then 40 000 on islands and homes, seeds 1001 and 1002, with cold 1e-4, 1e-3, mix 0.3, 0.5, 0.7, share 0.2, 0.4 and 1
    /// and 3 restarts.
    ///
    ///     atoll bench planning --tune --plans --evaluations 40000 --hot 0.1 --mix 0.3,0.7 --share 0.2,0.4
    public static func partition(_ family: PlanningFamily) -> AnnealingBaseline {
        AnnealingBaseline(hot: 0.1, cold: 1e-3, restarts: family == .islands ? 3 : 1, mix: 0.3, share: 0.2)
    }

    public init(hot: Double, cold: Double, restarts: Int, mix: Double, share: Double) {
        self.hot = hot
        self.cold = cold
        self.restarts = restarts
        self.mix = mix
        self.share = share
    }

    /// Swaps of two devices on a grid, whose rows and columns are the pairing and the order; both are made exact in the end.
    public func layout(_ problem: LayoutProblem, seed: UInt64, evaluations: Int) -> Layout {
        var best: Layout?
        for restart in 0..<restarts {
            var random = SeededGenerator(seed: seed, stream: UInt64(restart) + 0xA11)
            var cells = Array(0..<problem.count)
            random.shuffle(&cells)
            let grid = LayoutGrid(problem, cells: cells, meanWeight: share)
            var held = (total: grid.total, devices: cells)
            let steps = evaluations / restarts
            var temperature = grid.total * hot
            let factor = Cooling.root(cold / hot, steps / 1000)
            for step in 0..<steps {
                if step % 1000 == 999 { temperature *= factor }
                grid.begin()
                if mix > 0, random.uniform() < mix {
                    AnnealingBaseline.several(grid, &random)
                } else {
                    let a = random.below(problem.count)
                    grid.exchange(a, with: (a + 1 + random.below(problem.count - 1)) % problem.count)
                }
                // Metropolis: a rise is taken with probability e^(−rise ÷ temperature).
                let rise = -temperature * kernels_log(1 - random.uniform())
                if grid.attempt(below: grid.energy + rise), grid.total < held.total {
                    held = (grid.total, grid.devices)
                }
            }
            grid.place(held.devices)
            let found = problem.layout(grid.groups)
            if found.total < best?.total ?? .infinity { best = found }
        }
        return best ?? problem.layout(problem.listed)
    }

    /// Two columns change places, or two rows over some columns.
    private static func several(_ grid: LayoutGrid, _ random: inout SeededGenerator) {
        let (stages, replicas) = (grid.stages, grid.replicas)
        if replicas == 1 || random.below(2) == 0 {
            let a = random.below(stages)
            let b = (a + 1 + random.below(max(1, stages - 1))) % stages
            if a == b { return }
            for row in 0..<replicas { grid.exchange(a * replicas + row, with: b * replicas + row) }
        } else {
            let a = random.below(replicas)
            let b = (a + 1 + random.below(replicas - 1)) % replicas
            let (k, l) = (random.below(stages), random.below(stages))
            for k in min(k, l)...max(k, l) { grid.exchange(k * replicas + a, with: k * replicas + b) }
        }
    }

    /// Partitions of a topology's peers into pipelines, judged as the planner's are. The best as total seconds; infinite when nothing fits.
    public func seconds(_ topology: Topology, _ job: JobManifest, seed: UInt64, evaluations: Int) -> Double {
        var best = Double.infinity
        for restart in 0..<restarts {
            best = min(
                best,
                PartitionAnnealing(hot: hot, cold: cold, swaps: mix, share: share).seconds(
                    topology, job, seed: seed &* 1000 &+ UInt64(restart), evaluations: evaluations / restarts))
        }
        return best
    }
}
