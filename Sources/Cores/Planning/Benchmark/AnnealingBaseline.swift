internal import Kernels
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

    /// For layouts: the best of 16 settings (hot 0.003, 0.01, 0.03, 0.1; cold 1e-4, 1e-3; 1 and 4 restarts), 8 million evaluations each,
    /// on the islands of seeds 1000, 1001 and 1002.
    public static let layout = AnnealingBaseline(hot: 0.01, cold: 1e-4, restarts: 4)
    /// For partitions into pipelines; not tuned.
    public static let partition = AnnealingBaseline(hot: 0.1, cold: 1e-3, restarts: 1)

    public init(hot: Double, cold: Double, restarts: Int) {
        self.hot = hot
        self.cold = cold
        self.restarts = restarts
    }

    /// Swaps of two devices on a grid, whose rows and columns are the pairing and the order; both are made exact in the end.
    public func layout(_ problem: LayoutProblem, seed: UInt64, evaluations: Int) -> Layout {
        var best: Layout?
        for restart in 0..<restarts {
            var random = SeededGenerator(seed: seed, stream: UInt64(restart) + 0xA11)
            var cells = Array(0..<problem.count)
            random.shuffle(&cells)
            let grid = LayoutGrid(problem, cells: cells, meanWeight: 0.05)
            var held = (total: grid.total, devices: cells)
            let steps = evaluations / restarts
            var temperature = grid.total * hot
            let factor = AnnealingBaseline.root(cold / hot, steps / 1000)
            for step in 0..<steps {
                if step % 1000 == 999 { temperature *= factor }
                let a = random.below(problem.count)
                let b = (a + 1 + random.below(problem.count - 1)) % problem.count
                grid.begin()
                grid.exchange(a, with: b)
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

    /// Partitions of a topology's peers into pipelines, judged as the planner's are; every number of pipelines gets the same
    /// number of evaluations. The best as total seconds; infinite when nothing fits.
    public func seconds(_ topology: Topology, _ job: JobManifest, seed: UInt64, evaluations: Int) -> Double {
        let cost = CostModel(topology: topology, job: job)
        let campaign = Campaign(
            cost: cost, peers: topology.peers, current: nil, seed: seed, iterations: evaluations, parallel: .serial)
        return campaign.annealed(self, evaluations: evaluations)
    }

    /// e^x for x ≤ 0, to about a thousandth: (1 + x/1024)^1024. No libm in a core.
    static func exponential(_ x: Double) -> Double {
        if x < -30 { return 0 }
        var y = 1 + x / 1024
        for _ in 0..<10 { y *= y }
        return y
    }
    /// The n-th root of x in (0, 1], by bisection.
    static func root(_ x: Double, _ n: Int) -> Double {
        var (low, high) = (0.0, 1.0)
        for _ in 0..<60 {
            let middle = (low + high) / 2
            var power = 1.0
            var (base, left) = (middle, max(1, n))
            while left > 0 {
                if left % 2 == 1 { power *= base }
                base *= base
                left /= 2
            }
            if power < x { low = middle } else { high = middle }
        }
        return high
    }
}

extension PlanSearch {
    /// The best partition of one annealing run.
    mutating func annealed(
        peers: [Int], _ settings: AnnealingBaseline, evaluations: Int, random: inout SeededGenerator
    ) -> Candidate? {
        var order = peers
        random.shuffle(&order)
        var start = Partition(repeating: [], count: pipelines + 1)
        for (index, peer) in order.enumerated() { start[index % pipelines].append(peer) }
        let most = cost.model.unitCount
        for g in 0..<pipelines where start[g].count > most {
            start[pipelines] += start[g].dropFirst(most)
            start[g] = Array(start[g].prefix(most))
        }
        var current = evaluate(start.map { $0.sorted() })
        var best = current
        var temperature = settings.hot
        let factor = AnnealingBaseline.root(settings.cold / settings.hot, evaluations / 10)
        for step in 0..<evaluations {
            if step % 10 == 9 { temperature *= factor }
            guard let partition = neighbour(current, aimed: false) else { break }
            let next = evaluate(partition)
            let worse = next.score / current.score - 1
            if worse <= 0 || random.uniform() < AnnealingBaseline.exponential(-worse / temperature) { current = next }
            if current.score < best.score { best = current }
        }
        return best.seconds.isFinite ? best : nil
    }
}

extension Campaign {
    /// What ``AnnealingBaseline`` finds in this campaign's place, H and codecs settled as here.
    func annealed(_ settings: AnnealingBaseline, evaluations: Int) -> Double {
        let counts = pipelineCounts()
        let modes: [Bool] = cost.job.innerSteps.value.map { [$0 > 1] } ?? [true, false]
        var best = Double.infinity
        var random = SeededGenerator(seed: seed, stream: 0xA12)
        for usesRounds in modes {
            for count in counts {
                guard let pacing = firstGuess(pipelines: count, usesRounds: usesRounds) else { continue }
                var search = PlanSearch(
                    builder: PipelineBuilder(cost: cost, pacing: pacing), pacing: pacing, pipelines: count, seed: seed,
                    change: change)
                let found = search.annealed(
                    peers: peers, settings, evaluations: evaluations / counts.count / modes.count, random: &random)
                if let found { best = min(best, settle(found.lanes, usesRounds: usesRounds).seconds) }
            }
        }
        return best
    }
}
