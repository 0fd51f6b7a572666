internal import Primitives
internal import Topologies

/// One steady round of a plan, from seal to seal.
struct Round: Hashable, Sendable {
    /// From the arrival of one seal's decision to the next.
    var seconds = 0.0
    /// Of which validation before the first inner step, on the slowest pipeline.
    var validationSeconds = 0.0
    /// One inner step of each pipeline.
    var stepSeconds: [Double] = []
    /// When the last pipeline ended its last inner step (H = 1: its last backward).
    var trainedAt = 0.0
    /// The lane that ended last.
    var slowest = 0
    /// Bytes of contributions, by lane and stage.
    var exchangeSent: [[Double]] = []
    var exchangeReceived: [[Double]] = []
    /// Bytes that each relay carries, in the order of hosts; empty where nothing is relayed.
    var carried: [CarriedLoad] = []
    /// What its steps take longer than pipelines need, because one relay carries for several.
    var relayedSeconds = 0.0
}

/// What one relay carries in a round.
struct CarriedLoad: Hashable, Sendable {
    var relay: Int
    /// Of activations and their gradients in one inner step, of all pipelines.
    var step = 0.0
    var exchange = 0.0
    /// The longest way of a contribution that it carries, and of the report that follows.
    var tail = 0.0
}

extension Round {
    /// The part of the round that its exchange adds.
    var exposedShare: Double { seconds > 0 ? (seconds - trainedAt) / seconds : 0 }
}

/// What one lane does between two seals, as far as it depends on nobody else.
struct LaneRun: Hashable, Sendable {
    /// When each stage's contribution is encoded, and when its last inner step is done: with a delay, later.
    var ready: [Double]
    var ended: [Double]
    /// What encoding takes on each stage.
    var encodes: [Double]
    var stepSeconds: Double
    var trainedAt: Double
    var validationSeconds: Double
}

extension LaneRun {
    /// Of a lane one of whose stages cannot be reached.
    static func never(_ stages: Int) -> LaneRun {
        let infinite = [Double](repeating: .infinity, count: stages)
        return LaneRun(
            ready: infinite, ended: infinite, encodes: infinite, stepSeconds: .infinity, trainedAt: .infinity,
            validationSeconds: 0)
    }
    /// With a delay the stages encode between two steps, so many before the last, and the slowest of them keeps the pipeline
    /// waiting.
    func delayed(_ steps: Int) -> LaneRun {
        guard steps > 0, trainedAt.isFinite else { return self }
        var out = self
        let pause = encodes.max() ?? 0
        for s in ready.indices {
            out.ended[s] = ready[s] - encodes[s] + pause
            out.ready[s] = ready[s] - Double(steps) * stepSeconds
        }
        out.trainedAt += pause
        return out
    }
}

/// All that a ``LaneRun`` depends on beside the pacing.
struct LaneRunKey: Hashable, Sendable {
    var lane: Lane
    /// Partial sums this lane sends.
    var blocks: Int
    /// Partial sums of all lanes.
    var contributions: Int
    var validations: Int
}

/// Times are seconds after the coordinator sealed the previous round.
extension CostModel {
    /// Steps that are simulated before the rest is extrapolated.
    static let simulatedSteps = 3

    func round(_ lanes: [Lane], _ pacing: Pacing) -> Round {
        var memo: [LaneRunKey: LaneRun] = [:]
        return round(lanes, pacing, &memo)
    }

    /// The same; what one lane does is remembered, because a search asks for it again and again.
    func round(_ lanes: [Lane], _ pacing: Pacing, _ memo: inout [LaneRunKey: LaneRun]) -> Round {
        if pacing.usesRounds { return assembled(lanes, pacing, validates: true, &memo) }
        return validating(assembled(lanes, pacing, validates: false, &memo), lanes, pacing, &memo)
    }

    /// H = 1: every tenth round validates.
    private func validating(
        _ plain: Round, _ lanes: [Lane], _ pacing: Pacing, _ memo: inout [LaneRunKey: LaneRun]
    ) -> Round {
        var plain = plain
        let full = assembled(lanes, pacing, validates: true, &memo)
        plain.validationSeconds = (full.seconds - plain.seconds) / Double(CostModel.validationEvery)
        plain.seconds += plain.validationSeconds
        plain.trainedAt += plain.validationSeconds
        return plain
    }

    private func assembled(
        _ lanes: [Lane], _ pacing: Pacing, validates: Bool, _ memo: inout [LaneRunKey: LaneRun]
    ) -> Round {
        var first = 0
        let blocks = lanes.map { lane in
            defer { first += lane.share }
            return pacing.usesRounds ? 1 : CostModel.alignedBlocks(first..<(first + lane.share))
        }
        let contributions = blocks.reduce(0, +)
        let validations = validates ? validationMicroBatches(pipelines: lanes.count) : 0
        let runs = lanes.indices.map { index in
            let key = LaneRunKey(
                lane: lanes[index], blocks: blocks[index], contributions: contributions, validations: validations)
            return run(key, pacing, &memo).delayed(pacing.delay)
        }
        return assemble(lanes, runs, pacing, blocks)
    }

    /// What a lane does between two seals, simulated once.
    private func run(_ key: LaneRunKey, _ pacing: Pacing, _ memo: inout [LaneRunKey: LaneRun]) -> LaneRun {
        if let known = memo[key] { return known }
        let run = pacing.usesRounds ? innerSteps(key, pacing) : oneStep(key, pacing)
        memo[key] = run
        return run
    }

    /// The same as ``round(_:_:_:)``; nil where the job then takes so long that its score with `more` seconds is above `limit`, which shows
    /// before the lanes are simulated, or else before their exchange is looked at. (Or is as much as the limit, where lanes tell that.)
    func round(
        _ lanes: [Lane], _ pacing: Pacing, _ memo: inout [LaneRunKey: LaneRun], more: Double, below limit: Double
    ) -> Round? {
        guard limit < .infinity else { return round(lanes, pacing, &memo) }
        let least = leastSeconds(leastTrained(lanes, pacing, memo), lanes, pacing)
        if (score(least, lanes) + more) * (1 - 1e-9) >= limit { return nil }
        if pacing.usesRounds {
            let least = totalSeconds(trained(lanes, pacing, &memo), lanes, pacing)
            if score(least, lanes) + more >= limit { return nil }
            return round(lanes, pacing, &memo)
        }
        // Nine rounds of ten are known before any that validates is looked at.
        let plain = assembled(lanes, pacing, validates: false, &memo)
        let known = plain.seconds * (1 - 1 / Double(CostModel.validationEvery))
        if (score(leastSeconds(known, lanes, pacing), lanes) + more) * (1 - 1e-9) >= limit { return nil }
        return validating(plain, lanes, pacing, &memo)
    }

    /// No later than when the last lane has trained: what is known of lanes, else what arithmetic tells of them.
    private func leastTrained(_ lanes: [Lane], _ pacing: Pacing, _ memo: [LaneRunKey: LaneRun]) -> Double {
        let validations = pacing.usesRounds ? validationMicroBatches(pipelines: lanes.count) : 0
        let contributions = pacing.usesRounds ? lanes.count : 0
        var trained = 0.0
        for lane in lanes {
            let key = LaneRunKey(lane: lane, blocks: 1, contributions: contributions, validations: validations)
            if pacing.usesRounds, let known = memo[key] {
                let pause = pacing.delay > 0 ? known.encodes.max() ?? 0 : 0
                trained = max(trained, known.trainedAt + pause)
                continue
            }
            let microBatches = lane.share * pacing.microBatchesPerVirtual
            let stages = timings(lane, pacing, norms: false)
            let first = PipelineSimulator.leastStep(stages, microBatches: microBatches, validations: validations)
            let start = latency(coordinator, lane.hosts[0])
            guard pacing.usesRounds else {
                // The optimizer step comes first.
                trained = max(trained, start + first)
                continue
            }
            let later = PipelineSimulator.leastStep(stages, microBatches: microBatches)
            trained = max(trained, start + first + Double(pacing.innerSteps - 1) * later)
        }
        return trained
    }

    /// A round with H > 1 that ends when the last pipeline has trained: what no exchange makes shorter, and a job made of such rounds
    /// no longer than it is. It costs a look at each lane.
    func trained(_ lanes: [Lane], _ pacing: Pacing, _ memo: inout [LaneRunKey: LaneRun]) -> Round {
        let validations = validationMicroBatches(pipelines: lanes.count)
        let runs = lanes.map { lane in
            let key = LaneRunKey(lane: lane, blocks: 1, contributions: lanes.count, validations: validations)
            return run(key, pacing, &memo).delayed(pacing.delay)
        }
        var round = trained(runs)
        round.seconds = round.trainedAt
        return round
    }
    private func trained(_ runs: [LaneRun]) -> Round {
        var round = Round()
        for (index, run) in runs.enumerated() {
            round.stepSeconds.append(run.stepSeconds)
            if run.trainedAt > round.trainedAt {
                round.trainedAt = run.trainedAt
                round.slowest = index
                round.validationSeconds = run.validationSeconds
            }
        }
        return round
    }

    func assemble(_ lanes: [Lane], _ runs: [LaneRun], _ pacing: Pacing, _ blocks: [Int]) -> Round {
        var round = trained(runs)
        round.seconds = seal(lanes, runs, blocks, pacing, &round)
        if !relays.isEmpty { wait(&round, lanes, runs, pacing) }
        return round
    }

    /// FLOPs a parameter for decoding and folding `contributions`, and for the step that follows from them.
    func foldFLOPs(_ contributions: Int) -> Double {
        CostModel.outerFLOPs + CostModel.foldFLOPs * Double(contributions)
    }

    /// H > 1: outer step, validation, H inner steps, encoding.
    private func innerSteps(_ key: LaneRunKey, _ pacing: Pacing) -> LaneRun {
        let lane = key.lane
        let steps = min(pacing.innerSteps, CostModel.simulatedSteps)
        let speeds = lane.hosts.map { self.speeds[$0] }
        let starts = lane.hosts.indices.map { s in
            latency(coordinator, lane.hosts[s]) + foldFLOPs(key.contributions) * parameters(lane.units(s)) / speeds[s]
        }
        let outcome = PipelineSimulator.run(
            timings(lane, pacing), microBatches: lane.share * pacing.microBatchesPerVirtual, steps: steps,
            starts: starts,
            validations: key.validations)
        guard outcome.ends.allSatisfy(\.isFinite) else { return .never(lane.hosts.count) }
        let last = outcome.stepEnds[steps - 1]
        let period = steps > 1 ? last - outcome.stepEnds[steps - 2] : last - starts[0]
        let rest = Double(pacing.innerSteps - steps) * period
        let encodes = lane.hosts.indices.map { s in CostModel.encodeFLOPs * parameters(lane.units(s)) / speeds[s] }
        let ready = lane.hosts.indices.map { s in outcome.ends[s] + rest + encodes[s] }
        return LaneRun(
            ready: ready, ended: ready, encodes: encodes, stepSeconds: period,
            trainedAt: (outcome.ends.max() ?? last) + rest,
            validationSeconds: max(0, outcome.stepEnds[0] - starts[0] - period))
    }

    /// H = 1: aggregate, norms, optimizer step, one batch, encoding of each partial sum.
    private func oneStep(_ key: LaneRunKey, _ pacing: Pacing) -> LaneRun {
        let lane = key.lane
        let stages = timings(lane, pacing)
        let speeds = lane.hosts.map { self.speeds[$0] }
        let aggregated = lane.hosts.indices.map { s in
            latency(coordinator, lane.hosts[s]) + foldFLOPs(key.contributions) * parameters(lane.units(s)) / speeds[s]
        }
        let starts = lane.hosts.indices.map { s in
            var norms = aggregated[s]
            for other in lane.hosts.indices where other != s {
                norms = max(norms, aggregated[other] + latency(lane.hosts[other], lane.hosts[s]))
            }
            return norms + stages[s].update
        }
        let outcome = PipelineSimulator.run(
            stages, microBatches: lane.share * pacing.microBatchesPerVirtual, starts: starts,
            validations: key.validations, updates: false)
        guard outcome.ends.allSatisfy(\.isFinite) else { return .never(lane.hosts.count) }
        let trained = outcome.ends.max() ?? 0
        let ready = lane.hosts.indices.map { s in
            outcome.ends[s] + CostModel.encodeFLOPs * Double(key.blocks) * parameters(lane.units(s)) / speeds[s]
        }
        return LaneRun(
            ready: ready, ended: ready, encodes: [], stepSeconds: trained, trainedAt: trained, validationSeconds: 0)
    }
}
