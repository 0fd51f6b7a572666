import Links
public import Planning
import Primitives
public import Record
public import Topologies
import Training
import Wire

extension JobParameters {
    /// Reads a genesis manifest's text.
    public init(manifest text: String) throws(MalformedBytes) {
        do throws(ManifestError) {
            self.init(try JobManifest(parsing: text, file: "manifest"))
        } catch {
            throw MalformedBytes("manifest: \(error)")
        }
    }

    public init(_ job: JobManifest) {
        self.init(
            name: job.name, model: job.model, virtualPipelines: job.virtualPipelines, microBatch: job.microBatch,
            tokens: job.tokens, optimizer: job.innerOptimizer, seed: job.seed,
            validationFraction: job.validationFraction,
            checkpointRounds: job.checkpoint.everyRounds)
        copies = job.checkpoint.copies
        exchangeWay = job.exchangeWay.value
        onDivergence = job.checkpoint.onDivergence == .retreat ? .retreat : .stop
        dataTokens = job.text.tokens
        dataParts = job.text.parts
        initialUnits = job.beginning.units
        electors = job.electors.count.value
        recovery = job.electors.recovery
        collectors = job.electors.collectors
        if job.batchTokens == .auto { criticalBatch = job.criticalBatch }
    }
}

extension PlanQuestion {
    static let coordinatorName = "coordinator"

    /// The pool as measured: what `atoll topology measure` writes and what the planner plans for.
    public var topology: Topology {
        let coordinator = Host(
            name: Self.coordinatorName, role: .coordinator, device: "launcher", flops: 1e9, memory: .mebibytes(64),
            up: .megabits(1000), down: .megabits(1000))
        // A line of which nothing is known is no better than the worst of the others.
        let up = peers.compactMap(\.up).min() ?? .megabits(100)
        let down = peers.compactMap(\.down).min() ?? .megabits(100)
        let hosts = peers.map { peer in
            var host = Host(
                name: peer.name, device: peer.device.isEmpty ? "computer" : peer.device,
                flops: peer.flops, memory: peer.memory, up: peer.up ?? up, down: peer.down ?? down)
            host.port = peer.port
            return host
        }
        let known = roundTrips.values.sorted()
        let usual = known.isEmpty ? Duration.milliseconds(20) : known[known.count / 2]
        var links: [Topology.Pair: LinkProperties] = [:]
        for (i, a) in peers.enumerated() {
            let trip = a.coordinatorRoundTrip ?? usual
            links[Topology.Pair(0, i + 1)] = LinkProperties(latency: trip / 2)
            links[Topology.Pair(i + 1, 0)] = LinkProperties(latency: trip / 2)
            for (j, b) in peers.enumerated() where i != j {
                let there = roundTrips[Pair(from: a.peer, to: b.peer)]
                let back = roundTrips[Pair(from: b.peer, to: a.peer)]
                let trip = [there, back].compactMap { $0 }.min() ?? usual
                links[Topology.Pair(i + 1, j + 1)] = LinkProperties(latency: trip / 2, rate: caps[i]?[j])
            }
        }
        var topology = Topology(
            name: "measured", about: "A live pool as its coordinator measured it.", hosts: [coordinator] + hosts,
            links: links, defaultLink: LinkProperties(latency: usual / 2))
        addRelays(to: &topology)
        return topology
    }
    /// Relays that train have their place already; others are there for that only, and their lines are not known: what they carry is.
    private func addRelays(to topology: inout Topology) {
        var places: [PeerID: Int] = [:]
        for (index, peer) in peers.enumerated() { places[peer.peer] = index + 1 }
        let members = places
        if let coordinator { places[coordinator] = 0 }
        for pair in carried {
            guard let from = members[pair.from], let to = members[pair.to], pair.relay != pair.from,
                pair.relay != pair.to
            else { continue }
            let measured = [topology.links[.init(from, to)]?.rate, topology.links[.init(to, from)]?.rate]
            let seen = measured.compactMap { $0 }.max()
            let rate = [pair.rate, seen].compactMap { $0 }.max() ?? Host.usualRelayRate
            let place = places[pair.relay] ?? topology.hosts.count
            if place == topology.hosts.count {
                places[pair.relay] = place
                topology.hosts.append(
                    Host(
                        name: unused(pair.name, topology), role: .bootstrap, device: "relay", flops: 1e9,
                        memory: .mebibytes(64), up: .megabits(1000), down: .megabits(1000)))
            }
            topology.hosts[place].relayRate = max(topology.hosts[place].relayRate ?? rate, rate)
            topology.relays[Topology.Pair(from, to)] = place
            topology.relays[Topology.Pair(to, from)] = place
        }
    }
    private func unused(_ name: String, _ topology: Topology) -> String {
        topology.index(of: name) == nil ? name : "relay \(topology.hosts.count)"
    }

    /// Asks the planner. Slow: never on a loop thread.
    public func answered(iterations: Int = Planner.defaultIterations) -> Result<PlanAnswer, NoPlan> {
        do {
            var job = try JobManifest(parsing: manifest, file: "manifest")
            job.tokens = tokensLeft
            job.text.bytes = job.text.tokens ?? textBytes
            var running: Plan?
            if let current {
                job.innerSteps = .fixed(current.innerSteps)
                job.exchangeCodec = .fixed(current.exchangeCodec)
                job.activationCodec = .fixed(current.activationCodec)
                job.exchangeDelay = .fixed(current.outer.delay)
                job.batchTokens = .fixed(
                    job.geometry(microBatchesPerVirtual: current.microBatchesPerVirtual).batchTokens)
                running = plan(of: current)
            }
            let topology = self.topology
            let planned = try search(topology, &job, running: running, iterations: iterations)
            return .success(answer(planned, topology: topology, job: job))
        } catch {
            return .failure(NoPlan("\(error)"))
        }
    }

    /// As ``answered(iterations:)``, the first plan being a given one, which stays as long as all of its peers are there.
    public func answered(with given: Plan) -> Result<PlanAnswer, NoPlan> {
        let running = current.map { plan(of: $0) }
        if let current, let running, running.workers.count < current.peers.count { return answered() }
        do {
            var job = try JobManifest(parsing: manifest, file: "manifest")
            job.tokens = tokensLeft
            job.text.bytes = job.text.tokens ?? textBytes
            let topology = self.topology
            let planned = try Planner.planned(running ?? given, topology: topology, job: job)
            return .success(answer(planned, topology: topology, job: job))
        } catch {
            return .failure(NoPlan("\(error)"))
        }
    }

    /// A running job that can no longer have the shape it asked for takes the best there is: it goes on.
    private func search(
        _ topology: Topology, _ job: inout JobManifest, running: Plan?, iterations: Int
    ) throws(PlanningError) -> PlannedJob {
        do throws(PlanningError) {
            return try Planner.plan(topology: topology, job: job, current: running, seed: seed, iterations: iterations)
        } catch {
            let isFree = job.pipelines == .auto && job.stages == .auto && job.recompute == .auto
            guard current != nil, !isFree else { throw error }
            job.pipelines = .auto
            job.stages = .auto
            job.recompute = .auto
            return try Planner.plan(topology: topology, job: job, current: running, seed: seed, iterations: iterations)
        }
    }

    /// A running plan in the planner's terms, without those of its peers that are gone: the planner fills the holes.
    private func plan(of placed: PlacedPlan) -> Plan {
        var names: [PeerID: String] = [:]
        for peer in peers { names[peer.peer] = peer.name }
        var pipelines: [Plan.Pipeline] = []
        for pipeline in placed.pipelines {
            var stages: [Plan.Stage] = []
            for stage in pipeline.stages {
                guard let name = names[stage.peer] else { continue }
                stages.append(Plan.Stage(peer: name, units: stage.units, recompute: stage.recompute))
            }
            pipelines.append(
                Plan.Pipeline(stages: stages, virtualPipelines: pipeline.virtualPipelines, inFlight: pipeline.inFlight))
        }
        return Plan(
            pipelines: pipelines, innerSteps: placed.innerSteps, microBatchesPerVirtual: placed.microBatchesPerVirtual,
            exchangeCodec: placed.exchangeCodec, activationCodec: placed.activationCodec,
            spares: placed.spares.compactMap { names[$0] }, outerLearningRate: Double(placed.outer.learningRate),
            outerMomentum: Double(placed.outer.momentum), exchangeDelay: placed.outer.delay)
    }

    private func answer(_ planned: PlannedJob, topology: Topology, job: JobManifest) -> PlanAnswer {
        var ids: [String: PeerID] = [:]
        for peer in peers { ids[peer.name] = peer.peer }
        let plan = planned.plan
        let placed = PlacedPlan(
            epoch: 0, round: 0,
            pipelines: plan.pipelines.map { pipeline in
                PlacedPlan.Pipeline(
                    stages: pipeline.stages.map {
                        PlacedPlan.Stage(peer: ids[$0.peer]!, units: $0.units, recompute: $0.recompute)
                    },
                    virtualPipelines: pipeline.virtualPipelines, inFlight: pipeline.inFlight)
            }, spares: plan.spares.compactMap { ids[$0] }, innerSteps: plan.innerSteps,
            microBatchesPerVirtual: plan.microBatchesPerVirtual, exchangeCodec: plan.exchangeCodec,
            activationCodec: plan.activationCodec,
            outer: OuterOptimizer(
                learningRate: Float(plan.outerLearningRate), momentum: Float(plan.outerMomentum),
                delay: plan.exchangeDelay))
        return PlanAnswer(plan: placed, planned: planned, topology: topology)
    }
}
