public import Planning
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

    /// Generated pools: `instances` of each family, from a seed on.
    public struct Pools: Sendable {
        public var families: [PlanningFamily]
        public var firstSeed: UInt64
        /// nil: as many as a benchmark usually takes.
        public var instances: Int?
        public init(families: [PlanningFamily] = PlanningFamily.allCases, firstSeed: UInt64 = 0, instances: Int? = nil)
        {
            self.families = families
            self.firstSeed = firstSeed
            self.instances = instances
        }
        func seeds(_ usual: Int) -> Range<UInt64> { firstSeed..<firstSeed + UInt64(instances ?? usual) }
    }

    /// Irregular layouts against ``AnnealingBaseline/layout(_:)`` with ten times the evaluations: its excess over ours.
    public static func irregular(
        _ pools: Pools, cpuSeconds: () -> Double, _ show: (String) -> Void
    ) throws(PlanningError) {
        show("irregular layouts, annealing with 10 × the evaluations: how much dearer (below 0: better than ours)")
        for family in pools.families {
            var excess: [Double] = []
            let start = cpuSeconds()
            for seed in pools.seeds(10) {
                let problem = try family.layout(seed: seed)
                var search = LayoutSearch(problem, seed: 1)
                let ours = search.run().total
                let theirs = AnnealingBaseline.layout(family).layout(
                    problem, seed: 1, evaluations: 10 * search.evaluations)
                excess.append(100 * (theirs.total / ours - 1))
                show(
                    "    \(family.rawValue) \(seed): \(fixed(excess[excess.count - 1], 4)) %, ours \(fixed(ours, 4)) by "
                        + "\(search.evaluations) evaluations, theirs \(fixed(theirs.total, 4))")
            }
            show("  \(family.rawValue): " + summary(excess, cpuSeconds() - start))
        }
    }

    /// Whole plans against ``AnnealingBaseline/partition(_:)`` with ten times the CPU time: its excess over ours in total seconds. Its H,
    /// codecs, cuts and orders are settled as ours are; it chooses who works with whom.
    public static func plans(
        _ pools: Pools, peers: Int, iterations: Int = Planner.defaultIterations, cpuSeconds: () -> Double,
        _ show: (String) -> Void
    ) throws(PlanningError) {
        show(
            "plans of \(peers) peers, annealing with 10 × the CPU time: how much later the job ends (below 0: sooner)")
        for family in pools.families {
            var excess: [Double] = []
            var (least, most) = (Double.infinity, 0.0)
            let start = cpuSeconds()
            for seed in pools.seeds(2) {
                let topology = family.topology(peers: peers, seed: seed)
                let job = planned()
                let before = cpuSeconds()
                let ours = try Planner.plan(topology: topology, job: job, iterations: iterations).prediction
                    .totalSeconds
                let took = cpuSeconds() - before
                (least, most) = (min(least, took), max(most, took))
                // As many evaluations as fill the time, judged by the last ones, until it is spent.
                var (theirs, spent, part, evaluations) = (Double.infinity, 0.0, UInt64(0), 2000)
                var total = 0
                while spent < 10 * took {
                    let begun = cpuSeconds()
                    let found = AnnealingBaseline.partition(family).seconds(
                        topology, job, seed: seed * 100 + part, evaluations: evaluations)
                    let used = max(1e-6, cpuSeconds() - begun)
                    spent += used
                    total += evaluations
                    theirs = min(theirs, found)
                    part += 1
                    evaluations = max(2000, Int(Double(evaluations) / used * (10 * took - spent)))
                }
                excess.append(100 * (theirs / ours - 1))
                show(
                    "    \(family.rawValue) \(seed): \(fixed(excess[excess.count - 1], 2)) %, ours \(fixed(ours, 1)) in "
                        + "\(fixed(took, 2)) s, theirs \(fixed(theirs, 1)) by \(total) evaluations")
            }
            show(
                "  \(family.rawValue): " + summary(excess, cpuSeconds() - start)
                    + ", of which ours \(fixed(least, 2))–\(fixed(most, 2)) s each")
        }
    }
    /// One batch for all who plan it.
    private static func planned() -> JobManifest {
        var job = PlanningFamily.job(layers: 16, virtualPipelines: 16)
        job.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: 1).batchTokens)
        return job
    }

    /// What each of `settings` finds on average with so many evaluations, in % above the best that any of them finds: of layouts, or of
    /// plans of `plansOf` peers.
    public static func tune(
        _ settings: [AnnealingBaseline], _ pools: Pools, plansOf peers: Int?, evaluations: Int, _ show: (String) -> Void
    ) throws(PlanningError) {
        var all = [Double](repeating: 0, count: settings.count)
        for family in pools.families {
            var sums = [Double](repeating: 0, count: settings.count)
            for seed in pools.seeds(3) {
                var found: [Double] = []
                for one in settings {
                    if let peers {
                        found.append(
                            one.seconds(
                                family.topology(peers: peers, seed: seed), planned(), seed: seed,
                                evaluations: evaluations))
                    } else {
                        found.append(try one.layout(family.layout(seed: seed), seed: 1, evaluations: evaluations).total)
                    }
                }
                let best = found.min() ?? 1
                for index in found.indices {
                    sums[index] += 100 * (found[index] / best - 1) / Double(pools.seeds(3).count)
                }
            }
            show("\(family.rawValue), \(evaluations) evaluations: % above the best, mean")
            for (one, sum) in zip(settings, sums).sorted(by: { $0.1 < $1.1 }) { show("  \(fixed(sum, 3))  \(one)") }
            for index in all.indices { all[index] += sums[index] / Double(pools.families.count) }
        }
        show("all families")
        for (one, sum) in zip(settings, all).sorted(by: { $0.1 < $1.1 }) { show("  \(fixed(sum, 3))  \(one)") }
    }
    private static func summary(_ excess: [Double], _ seconds: Double) -> String {
        let mean = excess.reduce(0, +) / Double(max(1, excess.count))
        let worse = excess.filter { $0 < -1e-7 }.count
        return "mean \(fixed(mean, 3)) %, least \(fixed(excess.min() ?? 0, 4)) %, "
            + "greatest \(fixed(excess.max() ?? 0, 2)) %, worse than annealing on \(worse) of \(excess.count), "
            + "\(fixed(seconds, 1)) s of CPU"
    }

    /// Plans with the batch left open against the best of those with the batch given, each power of two times the smallest: what the former
    /// misses, in % of the latter.
    public static func batches(
        _ pools: Pools, sizes: [Int], parallel: Parallel, cpuSeconds: () -> Double, _ show: (String) -> Void
    ) throws(PlanningError) {
        show("plans with the batch left open: how much longer than the best of those with the batch given")
        for peers in sizes {
            var all: [Double] = []
            for family in pools.families {
                for seed in pools.seeds(2) {
                    let topology = family.topology(peers: peers, seed: seed)
                    let job = job(peers: peers)
                    let start = cpuSeconds()
                    let open = try Planner.plan(topology: topology, job: job, parallel: parallel)
                    let took = cpuSeconds() - start
                    let given = try given(topology, job, parallel)
                    let spent = cpuSeconds() - start - took
                    all.append(100 * (open.prediction.totalSeconds / given.seconds - 1))
                    show(
                        "    \(family.rawValue) \(seed), \(peers) peers: \(fixed(all[all.count - 1], 2)) %, "
                            + "\(fixed(open.prediction.totalSeconds, 0)) s (\(shape(open.plan))) in \(fixed(took, 2)) s; given "
                            + "\(fixed(given.seconds, 0)) s (\(shape(given.plan))), all of them in \(fixed(spent, 2)) s"
                    )
                }
            }
            show("\(peers) peers: median \(fixed(median(all), 2)) %, greatest \(fixed(all.max() ?? 0, 2)) %")
        }
    }
    /// The best plan with the batch given, and what it takes to the loss that the job's tokens mean at the smallest.
    private static func given(
        _ topology: Topology, _ job: JobManifest, _ parallel: Parallel
    ) throws(PlanningError) -> (plan: Plan, seconds: Double) {
        var best: (plan: Plan, seconds: Double)?
        var k = 1
        while k <= 64 {
            var one = job
            one.batchTokens = .fixed(job.geometry(microBatchesPerVirtual: k).batchTokens)
            one.tokens = job.tokens(microBatchesPerVirtual: k)
            let planned = try Planner.plan(topology: topology, job: one, parallel: parallel)
            if planned.prediction.totalSeconds < best?.seconds ?? .infinity {
                best = (planned.plan, planned.prediction.totalSeconds)
            }
            k *= 2
        }
        guard let best else { throw .noPeers }
        return best
    }
    private static func shape(_ plan: Plan) -> String {
        "\(plan.pipelines.count) pipelines, \(plan.workers.count) stages, H = \(plan.innerSteps), k = \(plan.microBatchesPerVirtual)"
    }
    private static func job(peers: Int) -> JobManifest {
        peers > 128
            ? PlanningFamily.job(layers: 48, virtualPipelines: 64)
            : PlanningFamily.job(layers: 16, virtualPipelines: 16)
    }

    /// How far plans are from what none can beat (``PlanBound``): by number of peers and family.
    public static func bounds(
        _ pools: Pools, sizes: [Int], parallel: Parallel, cpuSeconds: () -> Double, _ show: (String) -> Void
    ) throws(PlanningError) {
        show("how much longer plans take than the bound that no plan can beat")
        for peers in sizes {
            let job = job(peers: peers)
            var all: [Double] = []
            for family in pools.families {
                var gaps: [Double] = []
                for seed in pools.seeds(peers > 128 ? 2 : 5) {
                    let topology = family.topology(peers: peers, seed: seed)
                    let before = cpuSeconds()
                    let planned = try Planner.plan(topology: topology, job: job, parallel: parallel)
                    let found = cpuSeconds()
                    let seconds = planned.prediction.totalSeconds
                    guard let bound = PlanBound.of(seconds, topology: topology, job: job, parallel: parallel) else {
                        continue
                    }
                    gaps.append(100 * bound.gap)
                    let plan = planned.plan
                    show(
                        "    \(family.rawValue) \(seed), \(peers) peers: \(fixed(100 * bound.gap, 1)) %, planned in "
                            + "\(fixed(found - before, 2)) s, the bound in \(fixed(cpuSeconds() - found, 2)) s: "
                            + "\(plan.pipelines.count) pipelines, \(plan.workers.count) stages, H = \(plan.innerSteps), "
                            + "\(plan.exchangeCodec), τ = \(plan.exchangeDelay), k = \(plan.microBatchesPerVirtual)")
                }
                all += gaps
                show("  \(family.rawValue), \(peers) peers: median \(fixed(median(gaps), 1)) %")
            }
            show("\(peers) peers: median \(fixed(median(all), 1)) %, greatest \(fixed(all.max() ?? 0, 1)) %")
        }
    }
    private static func median(_ values: [Double]) -> Double {
        values.isEmpty ? 0 : values.sorted()[values.count / 2]
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
