internal import Primitives
public import Topologies

/// The cost model alone: what `plan` would do on `topology`. Formulas in `docs/COST.md`.
///
/// - Precondition: `plan.flaw(…)` is nil for the job, and every worker is a host of the topology.
public func predict(plan: Plan, topology: Topology, job: JobManifest) -> Prediction {
    CostModel(topology: topology, job: job, codec: plan.exchangeCodec).predict(plan)
}

extension CostModel {
    /// A plan with indices for names.
    func lanes(_ plan: Plan) -> [Lane] {
        var indices: [String: Int] = [:]
        for (index, host) in topology.hosts.enumerated() { indices[host.name] = index }
        return plan.pipelines.map { pipeline in
            let recompute = pipeline.stages.map(\.recompute)
            return Lane(
                hosts: pipeline.stages.map { stage in
                    guard let index = indices[stage.peer] else {
                        preconditionFailure("peer \(stage.peer) of the plan is not in topology \(topology.name)")
                    }
                    return index
                },
                cuts: pipeline.stages.map(\.units.upperBound), share: pipeline.virtualPipelines.count,
                inFlight: pipeline.inFlight, recompute: recompute.contains(true) ? recompute : [])
        }
    }
    func pacing(_ plan: Plan) -> Pacing {
        Pacing(
            innerSteps: plan.innerSteps, microBatchesPerVirtual: plan.microBatchesPerVirtual, codec: plan.exchangeCodec,
            activations: plan.activationCodec, delay: plan.exchangeDelay)
    }

    func predict(_ plan: Plan) -> Prediction {
        let lanes = lanes(plan)
        let pacing = pacing(plan)
        let round = round(lanes, pacing)
        let steps = job.steps(microBatchesPerVirtual: plan.microBatchesPerVirtual)
        let total = totalSeconds(round, lanes, pacing)
        // Alone nobody waits: the smallest batch needs least.
        let smallest = job.fixedMicroBatchesPerVirtual ?? 1
        let single = bestSinglePeer(
            steps: job.steps(microBatchesPerVirtual: smallest), microBatchesPerVirtual: smallest)
        return Prediction(
            stepSeconds: pacing.usesRounds ? round.stepSeconds[round.slowest] : round.seconds,
            pipelineStepSeconds: round.stepSeconds, roundSeconds: round.seconds,
            exposedExchangeSeconds: round.seconds - round.trainedAt, validationSeconds: round.validationSeconds,
            tokensPerSecond: Double(job.tokens(microBatchesPerVirtual: plan.microBatchesPerVirtual)) / total,
            totalSeconds: total, steps: steps,
            rounds: (steps + plan.innerSteps - 1) / plan.innerSteps, peers: loads(lanes, pacing, round),
            binding: binding(lanes, pacing, round), lossPenalty: penalty(pipelines: lanes.count, pacing),
            bestSinglePeer: single.name, bestSinglePeerSeconds: single.seconds,
            speedupVersusBestSinglePeer: single.seconds / total)
    }

    func penalty(pipelines: Int, _ pacing: Pacing) -> Double {
        LossPenalty.relative(
            pipelines: pipelines, innerSteps: pacing.innerSteps, codec: pacing.codec, activations: pacing.activations,
            steps: job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual), delay: pacing.delay)
    }

    /// The whole job: full rounds, a shorter last one, and what departures are expected to cost.
    func totalSeconds(_ round: Round, _ lanes: [Lane], _ pacing: Pacing) -> Double {
        // Somebody is beyond reach: infinite, not infinity less infinity.
        guard round.seconds.isFinite else { return .infinity }
        let steps = job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual)
        let rounds = (steps + pacing.innerSteps - 1) / pacing.innerSteps
        let step = pacing.usesRounds ? round.stepSeconds[round.slowest] : round.seconds
        let missing = Double(rounds * pacing.innerSteps - steps) * step
        return (Double(rounds) * round.seconds - missing) * lossFactor(round.seconds, lanes)
    }

    /// No more than ``totalSeconds(_:_:_:)`` of any round in which the last pipeline has trained after `trained` seconds. What the last
    /// round lacks is steps as long as the slowest pipeline's last ones, and of these a round has H − 2 at least.
    func leastSeconds(_ trained: Double, _ lanes: [Lane], _ pacing: Pacing) -> Double {
        let steps = job.steps(microBatchesPerVirtual: pacing.microBatchesPerVirtual)
        let rounds = (steps + pacing.innerSteps - 1) / pacing.innerSteps
        let missing = Double(rounds * pacing.innerSteps - steps) / Double(max(1, pacing.innerSteps - 2))
        return max(0, Double(rounds) - missing) * trained * lossFactor(trained, lanes)
    }

    /// What plans are compared by: seconds, and a little for every peer, so that one which hardly helps stays spare.
    func score(_ seconds: Double, _ lanes: [Lane]) -> Double {
        let workers = lanes.reduce(0) { $0 + $1.hosts.count }
        return seconds * (1 + CostModel.peerReluctance * Double(workers) / Double(peerCount))
    }

    /// 1 + Σ λ·(detection + recovery + half a round): what departures cost on average.
    private func lossFactor(_ roundSeconds: Double, _ lanes: [Lane]) -> Double {
        var factor = 1.0
        for lane in lanes {
            for (s, host) in lane.hosts.enumerated() {
                guard let session = topology.hosts[host].meanSession else { continue }
                // A replacement fetches outer weights, outer momentum and Adam's moments of its units.
                let recovery = 16 * parameters(lane.units(s)) / downs[host]
                factor += (CostModel.detectionSeconds + recovery + roundSeconds / 2) / (session / .seconds(1))
            }
        }
        return factor
    }

    /// One peer, no limit on memory, no exchange: every micro-batch one after the other.
    func bestSinglePeer(steps: Int, microBatchesPerVirtual: Int) -> (name: String, seconds: Double) {
        var best = (name: "", seconds: Double.infinity)
        let work =
            3 * flops(model.allUnits) * Double(job.virtualPipelines * microBatchesPerVirtual)
            + (CostModel.updateFLOPs + CostModel.squareFLOPs) * parameters(model.allUnits)
        let validation =
            flops(model.allUnits) * Double(validationMicroBatches(pipelines: 1)) / Double(CostModel.validationEvery)
        for peer in topology.peers {
            let seconds = (work + validation) * Double(steps) / speeds[peer]
            if seconds < best.seconds { best = (topology.hosts[peer].name, seconds) }
        }
        return best
    }

    private func loads(_ lanes: [Lane], _ pacing: Pacing, _ round: Round) -> [Prediction.PeerLoad] {
        let bytes = activationBytes(pacing.activations)
        let validation =
            Double(validationMicroBatches(pipelines: lanes.count))
            / (pacing.usesRounds ? 1 : Double(CostModel.validationEvery))
        return lanes.enumerated().flatMap { p, lane in
            lane.hosts.indices.map { s in
                let training = Double(lane.share * pacing.microBatchesPerVirtual * pacing.innerSteps) * bytes
                let isRing = isRing(stages: lane.hosts.count)
                let (first, last) = (s == 0 && !isRing, s == lane.hosts.count - 1 && !isRing)
                let sent = (last ? 0 : training + validation * bytes) + (first ? 0 : training)
                let received = (first ? 0 : training + validation * bytes) + (last ? 0 : training)
                return Prediction.PeerLoad(
                    peer: topology.hosts[lane.hosts[s]].name, memoryBytes: memory(lane, s, rounds: pacing.usesRounds),
                    memoryOfferedBytes: memories[lane.hosts[s]],
                    sentBytes: Int(sent + round.exchangeSent[p][s]),
                    receivedBytes: Int(received + round.exchangeReceived[p][s]),
                    computeShare: flops(lane.units(s)) / flops(model.allUnits))
            }
        }
    }

    /// Explains the slowest pipeline's round by taking delays away one after the other.
    private func binding(_ lanes: [Lane], _ pacing: Pacing, _ round: Round) -> Prediction.Binding {
        let lane = lanes[round.slowest]
        let microBatches = lane.share * pacing.microBatchesPerVirtual
        func step(_ change: (inout StageTiming) -> Void) -> Double {
            var stages = timings(lane, pacing)
            for index in stages.indices { change(&stages[index]) }
            let ends = PipelineSimulator.run(stages, microBatches: microBatches, steps: CostModel.simulatedSteps)
                .stepEnds
            return ends[ends.count - 1] - ends[ends.count - 2]
        }
        let full = step { _ in }
        let noBytes = step { $0.boundaryBytes = 0 }
        let neither = step {
            $0.boundaryBytes = 0
            ($0.latencyForth, $0.latencyBack) = (0, 0)
            for other in $0.normLatencies.indices { $0.normLatencies[other] = 0 }
        }
        let busiest =
            timings(lane, pacing).map { Double(microBatches) * $0.own + $0.update }.max() ?? 0
        let steps = Double(pacing.innerSteps)
        var binding = Prediction.Binding()
        binding.compute = steps * min(busiest, neither)
        binding.bubble = steps * max(0, neither - busiest)
        binding.latency = steps * max(0, noBytes - neither)
        binding.bandwidth = steps * max(0, full - noBytes) + round.relayedSeconds
        binding.validation = round.validationSeconds
        let rest = binding.compute + binding.bubble + binding.latency + binding.bandwidth + binding.validation
        binding.exchange = max(0, round.seconds - rest)
        let all = max(rest + binding.exchange, 1e-300)
        binding.compute /= all
        binding.bubble /= all
        binding.latency /= all
        binding.bandwidth /= all
        binding.validation /= all
        binding.exchange /= all
        return binding
    }
}
