import Planning
import Primitives
import Testing
import Topologies

@Suite struct `The layout search` {
    /// Costs of the published evaluator on its own scenarios: the best that anybody found.
    static let known = [
        3.439799129486084, 31.634159832000734, 16.086839732578824, 34.80204101721226, 49.218380053128435,
    ]

    /// Of the moves that a user's search makes; it has to do with fewer.
    static let quarter = LayoutSearch.defaultIterations / 4

    @Test(arguments: 0..<5) func `reaches the best known cost of each published scenario with every seed`(
        scenario: Int
    ) throws {
        let cost = try LayoutCost(PublishedScenario.all[scenario])
        for seed: UInt64 in 0..<5 {
            let (plan, layout) = try cost.plan(seed: seed, iterations: Self.quarter)
            #expect(layout.total <= Self.known[scenario] + 1e-9)
            #expect(plan.flaw(model: Self.gpt, virtualPipelines: 8) == nil)
            #expect(try cost.seconds(of: plan) == layout.total)
            #expect(abs(layout.total - layout.dataParallel - layout.pipeline) < 1e-12)
        }
    }
    static let gpt = ModelShape(
        hiddenSize: 64, layers: 24, heads: 4, kvHeads: 4, intermediateSize: 96, context: 64)

    /// Costs that the published evaluator gives for two fixed layouts: device 8k + g in stage g ("transpose"), and 8g + k.
    @Test func `costs fixed layouts as the published evaluator does`() throws {
        let transposed = [
            3.439799129486084, 49.50393035888672, 16.086839732578824, 34.80204101721226, 49.218380053128435,
        ]
        let identity = [16.98057214355469, 49.50393035888672, 17.64811683055333, 39.24060785838535, 59.436865204093685]
        for (index, scenario) in PublishedScenario.all.enumerated() {
            let problem = try LayoutCost(scenario).problem
            let across = (0..<8).map { g in (0..<8).map { 8 * $0 + g } }
            let along = (0..<8).map { g in (0..<8).map { 8 * g + $0 } }
            #expect(abs(problem.layout(across).total - transposed[index]) < 1e-9)
            #expect(abs(problem.layout(along).total - identity[index]) < 1e-9)
        }
    }

    /// Every partition of six devices into three stages of two, each order and pairing, by brute force.
    @Test(arguments: 0..<20) func `is exact on small grids`(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        let n = 6
        var latency = [[Double]](repeating: [Double](repeating: 0, count: n), count: n)
        var bandwidth = latency
        for i in 0..<n {
            for j in 0..<i {
                latency[i][j] = Double(random.below(200))
                bandwidth[i][j] = 0.1 + 2 * random.uniform()
                (latency[j][i], bandwidth[j][i]) = (latency[i][j], bandwidth[i][j])
            }
        }
        let constants = LayoutProblem.Constants(
            stages: 3, replicas: 2, gradientGigabytes: 0.3, activationGigabytes: 0.2)
        func exchange(_ i: Int, _ j: Int) -> Double { 2 * (latency[i][j] / 1000 + 0.3 * 8 / (bandwidth[i][j] * 2)) }
        func hop(_ i: Int, _ j: Int) -> Double { latency[i][j] / 1000 + 0.2 * 8 / bandwidth[i][j] }
        var best = Double.infinity
        func place(_ order: [Int]) {
            if order.count < n {
                for next in 0..<n where !order.contains(next) { place(order + [next]) }
                return
            }
            // Rows are (0, 2, 4) and (1, 3, 5): all pairings are among the orders.
            let columns = [(order[0], order[1]), (order[2], order[3]), (order[4], order[5])]
            let exchanged = columns.map { exchange($0.0, $0.1) }.max() ?? 0
            let hops = zip(columns, columns.dropFirst()).map { max(hop($0.0, $1.0), hop($0.1, $1.1)) }
            best = min(best, exchanged + 2 * hops.reduce(0, +))
        }
        place([])
        let problem = try LayoutProblem(
            latencyMilliseconds: latency, bandwidthGigabits: bandwidth, constants: constants)
        var search = LayoutSearch(problem, seed: 3)
        #expect(abs(search.run(iterations: 200_000).total - best) < 1e-9)
    }

    @Test func `refuses matrices that are no grid's or have impossible numbers`() {
        let good = [[Double]](repeating: [Double](repeating: 1, count: 4), count: 4)
        let grid = LayoutProblem.Constants(stages: 2, replicas: 2, gradientGigabytes: 1, activationGigabytes: 1)
        for (row, column, value) in [(0, 1, Double.nan), (1, 2, 0), (2, 3, -1), (3, 0, .infinity)] {
            var bad = good
            bad[row][column] = value
            #expect(throws: PlanningError.self) {
                try LayoutProblem(latencyMilliseconds: good, bandwidthGigabits: bad, constants: grid)
            }
        }
        #expect(throws: PlanningError.self) {
            try LayoutProblem(latencyMilliseconds: good, bandwidthGigabits: [[1]], constants: grid)
        }
        #expect(throws: PlanningError.self) {
            try LayoutProblem(latencyMilliseconds: good, bandwidthGigabits: good)
        }
    }

    @Test func `reads a scenario from a topology with the same costs`() throws {
        for (index, scenario) in PublishedScenario.all.enumerated() {
            let layout = try LayoutCost(scenario.topology()).plan(seed: 7, iterations: Self.quarter).layout
            #expect(abs(layout.total - Self.known[index]) < 1e-6)
        }
    }

    @Test(arguments: PublishedScenario.all.indices)
    func `the shipped file is the published scenario`(number: Int) throws {
        let scenario = PublishedScenario.all[number]
        let topology = try Shipped.topology(scenario.topology().name)
        #expect(topology.peers.count == 64)
        let (shipped, published) = (try LayoutCost(topology), try LayoutCost(scenario))
        #expect(shipped.names == published.names)
        let order = (0..<8).map { stage in (0..<8).map { stage * 8 + $0 } }
        let (a, b) = (shipped.problem.layout(order).total, published.problem.layout(order).total)
        #expect(abs(a - b) <= 1e-6 * b)
    }
}
