import ArgumentParser
import Benchmarks
import Node
import Planning
import Primitives

/// `atoll bench planning`: each row of the planner's goals beside its anchor.
struct BenchPlanningCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "planning", abstract: "The planner against published costs, annealing and size.")
    @Flag(help: "Whole plans against annealing, and nothing else.") var plans = false
    @Flag(help: "Whole plans against the bound that no plan can beat, by size, and nothing else.") var bounds = false
    @Flag(help: "Plans with the batch left open against the best with it given, by size, and nothing else.")
    var batches = false
    @Option(help: "Peers of pools whose plans are held against the bound.") var sizes = "8,64,256"
    @Flag(help: "Irregular layouts against annealing, and nothing else.") var layouts = false
    @Flag(help: "Every combination of annealing's settings below, for plans or layouts, on seeds from 1000 on.")
    var tune = false
    @Option(help: "Families, separated by commas.") var families = PlanningFamily.allCases.map(\.rawValue).joined(
        separator: ",")
    @Option var firstSeed: UInt64?
    @Option var instances: Int?
    @Option(help: "Of a whole plan.") var peers = 16
    @Option(help: "The search's, of a whole plan.") var iterations = Planner.defaultIterations
    @Option(help: "Annealing's, of each run that is tuned.") var evaluations = 8_000_000
    @Option(help: "First temperatures, relative to the start's cost.") var hot = "0.003,0.01,0.03"
    @Option(help: "Last temperatures.") var cold = "0.0001,0.001"
    @Option(help: "Runs that share the evaluations.") var restarts = "1,4"
    @Option(help: "Of the moves, those of several cells, or exchanges of two peers.") var mix = "0"
    @Option(
        help: "The energy's share of means (layouts), or of the runs that look at every number of pipelines (plans).")
    var share = "0.05"

    func run() throws {
        do throws(PlanningError) { try measure { print($0) } } catch { throw NodeError.failed(error.description) }
    }

    private var chosen: [PlanningFamily] {
        families.split(separator: ",").compactMap { PlanningFamily(rawValue: String($0)) }
    }

    private func measure(_ show: (String) -> Void) throws(PlanningError) {
        if tune { return try tuned(show) }
        let pools = PlanningBenchmark.Pools(families: chosen, firstSeed: firstSeed ?? 0, instances: instances)
        let many = sizes.split(separator: ",").compactMap { Int($0) }.filter { $0 > 0 }
        if bounds {
            return try PlanningBenchmark.bounds(pools, sizes: many, parallel: .cores, cpuSeconds: cpuSeconds, show)
        }
        if batches {
            return try PlanningBenchmark.batches(pools, sizes: many, parallel: .cores, cpuSeconds: cpuSeconds, show)
        }
        if plans {
            return try PlanningBenchmark.plans(
                pools, peers: peers, iterations: iterations, cpuSeconds: cpuSeconds, show)
        }
        if layouts { return try PlanningBenchmark.irregular(pools, cpuSeconds: cpuSeconds, show) }
        for line in try PlanningBenchmark.scenarios(seeds: 5, cpuSeconds: cpuSeconds) { show(line) }
        for peers in [256, 10_000] {
            let lines = try PlanningBenchmark.scale(
                peers: peers, cpuSeconds: cpuSeconds, peakMebibytes: { peakMebibytes() })
            for line in lines { show(line) }
        }
        try PlanningBenchmark.irregular(pools, cpuSeconds: cpuSeconds, show)
        try PlanningBenchmark.plans(pools, peers: peers, iterations: iterations, cpuSeconds: cpuSeconds, show)
    }

    private func tuned(_ show: (String) -> Void) throws(PlanningError) {
        let pools = PlanningBenchmark.Pools(
            families: chosen, firstSeed: firstSeed ?? 1000, instances: instances ?? 3)
        try PlanningBenchmark.tune(settings, pools, plansOf: plans ? peers : nil, evaluations: evaluations, show)
    }
    /// Every combination of what the options list.
    private var settings: [AnnealingBaseline] {
        var all = [AnnealingBaseline(hot: 0, cold: 0, restarts: 1, mix: 0, share: 0)]
        func vary(_ list: String, _ set: (inout AnnealingBaseline, Double) -> Void) {
            let values = list.split(separator: ",").compactMap { Double($0) }
            all = all.flatMap { one in
                values.map { value in
                    var next = one
                    set(&next, value)
                    return next
                }
            }
        }
        vary(hot) { $0.hot = $1 }
        vary(cold) { $0.cold = $1 }
        vary(restarts) { $0.restarts = max(1, Int($1)) }
        vary(mix) { $0.mix = $1 }
        vary(share) { $0.share = $1 }
        return all
    }
}
