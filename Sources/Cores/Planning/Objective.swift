internal import Primitives
public import Topologies

/// What a planning minimises.
public enum Objective: String, Hashable, Sendable, CaseIterable {
    /// Seconds until the job's tokens are trained within its quality budget: ``TimeToLoss``.
    case timeToLoss = "time-to-loss"
    /// Communication of a fixed grid of stages and replicas: ``LayoutCost``.
    case dtfm
}

/// A cost model: what a plan costs, in seconds. `docs/COST.md` has the formulas.
public protocol PlanCost: Sendable {
    var objective: Objective { get }
    /// - Throws: ``PlanningError/impossible(_:)`` when the plan names other peers, or has another shape, than the model knows.
    func seconds(of plan: Plan) throws(PlanningError) -> Double
}

/// The default: the job from its first step to its last seal.
public struct TimeToLoss: PlanCost {
    public var topology: Topology
    public var job: JobManifest
    public var objective: Objective { .timeToLoss }
    public init(topology: Topology, job: JobManifest) {
        self.topology = topology
        self.job = job
    }
    public func seconds(of plan: Plan) throws(PlanningError) -> Double {
        if let flaw = plan.flaw(model: job.model, virtualPipelines: job.virtualPipelines) { throw .impossible(flaw) }
        for worker in plan.workers where topology.index(of: worker) == nil {
            throw .impossible("peer \(worker) of the plan is not in topology \(topology.name).")
        }
        return predict(plan: plan, topology: topology, job: job).totalSeconds
    }
}

/// The published baseline: ``LayoutProblem``, its devices having names.
public struct LayoutCost: PlanCost {
    public var problem: LayoutProblem
    public var names: [String]
    public var objective: Objective { .dtfm }

    /// - Precondition: a name for each device.
    public init(_ problem: LayoutProblem, names: [String]) {
        precondition(names.count == problem.count, "\(names.count) names for \(problem.count) devices")
        self.problem = problem
        self.names = names
    }
    public init(_ scenario: PublishedScenario) throws(PlanningError) {
        self.init(
            try LayoutProblem(
                latencyMilliseconds: scenario.latencyMilliseconds, bandwidthGigabits: scenario.bandwidthGigabits),
            names: scenario.deviceNames)
    }
    /// The topology's peers, over their links. The cost sends each message there and back, so a pair has one bandwidth, the least of
    /// both directions' caps, uplinks and downlinks, and one delay, the mean.
    public init(_ topology: Topology, constants: LayoutProblem.Constants = .published) throws(PlanningError) {
        let peers = topology.peers
        guard peers.count == constants.stages * constants.replicas else {
            throw .impossible(
                "a grid of \(constants.stages) stages × \(constants.replicas) replicas needs as many peers; "
                    + "\(topology.name) has \(peers.count).")
        }
        func rate(_ a: Int, _ b: Int) -> Double {
            min(topology.sendRate(from: a, to: b), topology.hosts[b].down).bitsPerSecond / 1e9
        }
        func delay(_ a: Int, _ b: Int) -> Double { topology.latencySeconds(from: a, to: b) * 1000 }
        let latency = peers.map { a in peers.map { a == $0 ? 0 : (delay(a, $0) + delay($0, a)) / 2 } }
        let bandwidth = peers.map { a in peers.map { a == $0 ? 0 : min(rate(a, $0), rate($0, a)) } }
        self.init(
            try LayoutProblem(latencyMilliseconds: latency, bandwidthGigabits: bandwidth, constants: constants),
            names: peers.map { topology.hosts[$0].name })
    }

    public func seconds(of plan: Plan) throws(PlanningError) -> Double {
        var indices: [String: Int] = [:]
        for (index, name) in names.enumerated() { indices[name] = index }
        let rows = plan.pipelines.map { $0.stages.compactMap { indices[$0.peer] } }
        guard rows.count == problem.replicas, rows.allSatisfy({ $0.count == problem.stages }),
            Set(rows.joined()).count == problem.count
        else {
            throw .impossible(
                "not \(problem.replicas) pipelines of \(problem.stages) stages that use each device once.")
        }
        return problem.layout((0..<problem.stages).map { stage in rows.map { $0[stage] } }).total
    }

    /// The best layout found, as a plan for a model of `layers` blocks.
    ///
    /// - Throws: ``PlanningError/impossible(_:)`` when there are fewer layers than stages.
    public func plan(
        layers: Int = 24, seed: UInt64 = 1, iterations: Int = LayoutSearch.defaultIterations
    ) throws(PlanningError) -> (plan: Plan, layout: Layout) {
        guard layers >= problem.stages else {
            throw .impossible("\(layers) layers cannot be cut into \(problem.stages) stages.")
        }
        var search = LayoutSearch(problem, seed: seed)
        let layout = search.run(iterations: iterations)
        let last = problem.stages - 1
        let plan = Plan(
            pipelines: layout.pipelines.enumerated().map { row, devices in
                Plan.Pipeline(
                    stages: devices.enumerated().map { k, device in
                        // Unit 0 goes with the first stage, the head with the last.
                        let first = k == 0 ? 0 : 1 + layers * k / problem.stages
                        let end = k == last ? layers + 2 : 1 + layers * (k + 1) / problem.stages
                        return Plan.Stage(peer: names[device], units: first..<end)
                    }, virtualPipelines: [row], inFlight: 1)
            },
            innerSteps: 1, microBatchesPerVirtual: 1, exchangeCodec: .fp32, activationCodec: .bf16, spares: [])
        return (plan, layout)
    }
}
