public import Planning
internal import Primitives
public import Topologies

/// What a change of the input must not do to the cost of its plan (metamorphic testing: Chen, Cheung & Yiu 1998). Nobody need know the
/// best plan: a planner that breaks one of these has missed a plan that it finds itself elsewhere.
public enum PlanningLaw: String, Hashable, Sendable, CaseIterable {
    /// Hosts in another order, with other names, cost the same.
    case order
    /// Without a peer that the plan leaves out, or all of them, it is no cheaper.
    case spare
    /// One more peer that can hardly do anything costs nothing.
    case useless
    /// Nor does one that is like another, but a little worse in everything.
    case secondBest = "second-best"
    /// Nor does more of anything: on one host, or on all of them.
    case memory, speed, bandwidth, latency
    /// Nor does leave to end with a higher loss.
    case budget
    /// `--what-if` is planned as the edited file is.
    case whatIf = "what-if"
    /// On devices and lines half as fast with ways twice as long everything takes twice as long.
    case scale
}

/// Checks ``PlanningLaw``s on random instances.
public struct PlanningLaws: Sendable {
    /// Makes a plan without some hosts, or none where nothing fits.
    public typealias Planner = @Sendable (Topology, JobManifest, Set<String>) -> PlannedJob?

    /// A pool and a job, changed, and what its plan may take at most, as a multiple of what it is compared with.
    struct Variant {
        var topology: Topology
        var job: JobManifest
        var excluding: Set<String> = []
        /// Of the instance's own seconds, how many times they are expected.
        var times = 1.0
        /// Whether the variant may be dearer (the instance must not be), cheaper, or neither.
        var mayBeDearer = false
        var mayBeCheaper = true
    }
    /// One law on one instance, broken.
    public struct Violation: Hashable, Sendable {
        public var seed: UInt64
        public var law: PlanningLaw
        public var peers: Int
        /// How much dearer a plan is than the other shows it need be; infinite where there is none at all.
        public var excess: Double
    }
    /// What the laws said about one instance.
    public struct Outcome: Hashable, Sendable {
        public var checks = 0
        public var violations: [Violation] = []
        /// Whether there is a plan at all.
        public var isPlanned = false
    }

    public var peers: ClosedRange<Int>
    public var laws: [PlanningLaw]
    public var planner: Planner
    /// What is no violation yet.
    public static let tolerance = 0.001

    public init(
        peers: ClosedRange<Int> = 2...64, laws: [PlanningLaw] = PlanningLaw.allCases,
        planner: @escaping Planner
    ) {
        self.peers = peers
        self.laws = laws
        self.planner = planner
    }
    /// The planner's laws.
    public init(
        peers: ClosedRange<Int> = 2...64, laws: [PlanningLaw] = PlanningLaw.allCases,
        iterations: Int = Planning.Planner.defaultIterations
    ) {
        self.init(peers: peers, laws: laws) { topology, job, excluding in
            try? Planning.Planner.plan(topology: topology, job: job, excluding: excluding, iterations: iterations)
        }
    }

    /// The laws on an instance of each seed, side by side; in the seeds' order.
    public func check(seeds: [UInt64], parallel: Parallel = .serial) -> [Outcome] {
        parallel.map(seeds.count) { check(seed: seeds[$0]) }
    }

    /// The laws on the instance of one seed.
    public func check(seed: UInt64) -> Outcome {
        let instance = PlanningInstance(seed: seed, peers: peers)
        var outcome = Outcome()
        guard let base = planner(instance.topology, instance.job, []) else { return outcome }
        outcome.isPlanned = true
        for law in laws {
            guard let (variant, other) = variant(law, of: instance, base, seed: seed) else { continue }
            outcome.checks += 1
            let before = (other ?? base).prediction.totalSeconds * variant.times
            let after =
                planner(variant.topology, variant.job, variant.excluding)?.prediction.totalSeconds ?? .infinity
            var excess = 0.0
            if !variant.mayBeDearer { excess = max(excess, after / before - 1) }
            if !variant.mayBeCheaper || variant.mayBeDearer { excess = max(excess, before / after - 1) }
            if excess > PlanningLaws.tolerance {
                outcome.violations.append(
                    Violation(seed: seed, law: law, peers: instance.topology.peers.count, excess: excess))
            }
        }
        return outcome
    }

    /// The plans that a law compares: the instance's own (or what stands for it) and the changed one's.
    package func compared(_ law: PlanningLaw, seed: UInt64) -> (before: PlannedJob, after: PlannedJob)? {
        let instance = PlanningInstance(seed: seed, peers: peers)
        guard let base = planner(instance.topology, instance.job, []),
            let (variant, other) = variant(law, of: instance, base, seed: seed),
            let after = planner(variant.topology, variant.job, variant.excluding)
        else { return nil }
        return (other ?? base, after)
    }

    /// The instance as the law changes it, and what its plan is compared with where that is not the instance's own; nil where the law
    /// has nothing to say about it.
    private func variant(
        _ law: PlanningLaw, of instance: PlanningInstance, _ base: PlannedJob, seed: UInt64
    ) -> (variant: Variant, other: PlannedJob?)? {
        let place = UInt64(PlanningLaw.allCases.firstIndex(of: law) ?? 0)
        var random = SeededGenerator(seed: seed, stream: 0x1A5 + place)
        var variant = Variant(topology: instance.topology, job: instance.job)
        switch law {
        case .order:
            variant.topology = instance.reordered(&random)
            variant.mayBeCheaper = false
        case .spare:
            let spares = base.plan.spares
            guard !spares.isEmpty else { return nil }
            variant.excluding =
                random.below(3) == 0 ? Set(spares) : [spares[random.below(spares.count)]]
            variant.mayBeDearer = true
        case .useless: variant.topology = instance.with(instance.useless(&random), like: nil)
        case .secondBest:
            let (host, model) = instance.secondBest(&random)
            variant.topology = instance.with(host, like: model)
        case .memory, .speed, .bandwidth, .latency: variant.topology = instance.better(law, &random)
        case .budget: variant.job.qualityBudget *= 1 + random.uniform()
        case .whatIf:
            let (now, edited) = instance.edited(&random)
            // Of equal topologies equal plans are made.
            if now == edited { return (variant, nil) }
            variant.topology = now
            variant.mayBeCheaper = false
            guard let edited, let other = planner(edited, instance.job, []) else {
                variant.times = .infinity
                return (variant, nil)
            }
            return (variant, other)
        case .scale:
            variant.topology = instance.slower()
            (variant.times, variant.mayBeCheaper) = (2, false)
        }
        return (variant, nil)
    }
}
