internal import Primitives
internal import Topologies

/// What `atoll bench planning` measures; the clock and the memory gauge are the caller's.
public enum PlanningBenchmark {
    /// The best known cost of each published scenario, and what the published genetic algorithm reaches.
    public static let published: [(best: Double, genetic: String)] = [
        (3.439799129486084, "3.4398"), (31.634159832000734, "43.5–49.5"), (16.086839732578824, "16.0868"),
        (34.80204101721226, "34.8020"), (49.218380053128435, "49.2184"),
    ]

    /// The published scenarios, `seeds` seeds each: least, greatest cost and greatest CPU time.
    public static func scenarios(seeds: Int, cpuSeconds: () -> Double) throws(PlanningError) -> [String] {
        var lines = ["objective dtfm, \(seeds) seeds: cost least … greatest, goal, genetic algorithm, CPU (goal 1 s)"]
        for (index, scenario) in PublishedScenario.all.enumerated() {
            let cost = try LayoutCost(scenario)
            var (least, greatest, slowest) = (Double.infinity, 0.0, 0.0)
            for seed in 0..<seeds {
                let start = cpuSeconds()
                let total = try cost.plan(seed: UInt64(seed)).layout.total
                slowest = max(slowest, cpuSeconds() - start)
                (least, greatest) = (min(least, total), max(greatest, total))
            }
            lines.append(
                "  \(scenario.name): \(fixed(least, 4)) … \(fixed(greatest, 4)), \(fixed(published[index].best, 4)), "
                    + "\(published[index].genetic), \(fixed(slowest, 2)) s")
        }
        return lines
    }

    /// Irregular layouts against ``AnnealingBaseline/layout`` with ten times the evaluations: its excess over ours.
    public static func irregular(instances: Int, cpuSeconds: () -> Double) throws(PlanningError) -> [String] {
        var lines = [
            "irregular instances, annealing with 10 × the evaluations: how much dearer (below 0: better than ours)"
        ]
        for family in PlanningFamily.allCases {
            var excess: [Double] = []
            let start = cpuSeconds()
            for seed in 0..<instances {
                let problem = try family.layout(seed: UInt64(seed))
                var search = LayoutSearch(problem, seed: 1)
                let ours = search.run().total
                let theirs = AnnealingBaseline.layout.layout(problem, seed: 1, evaluations: 10 * search.evaluations)
                excess.append(100 * (theirs.total / ours - 1))
            }
            lines.append("  \(family.rawValue): " + summary(excess, cpuSeconds() - start))
        }
        return lines
    }

    /// Whole plans against ``AnnealingBaseline/partition`` with ten times the CPU time: its excess over ours in total seconds. Its H,
    /// codecs, cuts and orders are settled as ours are; it chooses who works with whom.
    public static func plans(
        instances: Int, firstSeed: UInt64 = 0, settings: AnnealingBaseline = .partition, cpuSeconds: () -> Double
    ) throws(PlanningError) -> [String] {
        var lines = [
            "plans of 16 peers, annealing with 10 × the CPU time: how much later the job ends (below 0: sooner)"
        ]
        for family in PlanningFamily.allCases {
            var excess: [Double] = []
            let start = cpuSeconds()
            for seed in firstSeed..<firstSeed + UInt64(instances) {
                let topology = family.topology(peers: 16, seed: seed)
                var job = PlanningFamily.job(layers: 16, virtualPipelines: 16)
                // One batch for both.
                job.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 1).batchTokens)
                let before = cpuSeconds()
                let ours = try Planner.plan(topology: topology, job: job).prediction.totalSeconds
                let budget = 10 * (cpuSeconds() - before)
                var (theirs, spent, part) = (Double.infinity, 0.0, UInt64(0))
                // Independent runs, each as long as the last and more, until the time is spent.
                var evaluations = 2000
                while spent < budget {
                    let begun = cpuSeconds()
                    let found = settings.seconds(topology, job, seed: seed * 100 + part, evaluations: evaluations)
                    spent += cpuSeconds() - begun
                    theirs = min(theirs, found)
                    part += 1
                    evaluations *= 2
                }
                excess.append(100 * (theirs / ours - 1))
            }
            lines.append("  \(family.rawValue): " + summary(excess, cpuSeconds() - start))
        }
        return lines
    }
    private static func summary(_ excess: [Double], _ seconds: Double) -> String {
        let mean = excess.reduce(0, +) / Double(max(1, excess.count))
        let worse = excess.filter { $0 < -1e-7 }.count
        return "mean \(fixed(mean, 2)) %, least \(fixed(excess.min() ?? 0, 2)) %, "
            + "greatest \(fixed(excess.max() ?? 0, 2)) %, worse than annealing on \(worse) of \(excess.count), "
            + "\(fixed(seconds, 1)) s of CPU"
    }

    /// A full plan for generated homes, then a re-plan after one loss.
    public static func scale(
        peers: Int, cpuSeconds: () -> Double, peakMebibytes: () -> Int
    ) throws(PlanningError) -> [String] {
        let topology = PlanningFamily.homes.topology(peers: peers, seed: 1)
        let job = PlanningFamily.job(layers: 48, virtualPipelines: 64)
        let start = cpuSeconds()
        let planned = try Planner.plan(topology: topology, job: job)
        let full = cpuSeconds() - start
        let lost = planned.plan.workers[0]
        let again = cpuSeconds()
        _ = try Planner.plan(topology: topology, job: job, excluding: [lost], current: planned.plan)
        return [
            "\(peers) peers, 48 layers: full plan \(fixed(full, 2)) s of CPU, re-plan after one loss "
                + "\(fixed(cpuSeconds() - again, 2)) s, peak memory \(peakMebibytes()) MiB"
        ]
    }
}
