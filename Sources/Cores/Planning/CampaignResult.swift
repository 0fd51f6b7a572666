internal import Primitives
internal import Topologies

/// Turning the best outcome into a plan that explains itself.
extension Campaign {
    /// - Parameters:
    ///   - fileOrder: by index here, a host's place in the file: pipelines and spares are listed by it. (Not where single steps
    ///     are exchanged and that costs more: the pipelines' order decides how many partial sums there are.)
    ///   - predict: of a plan, as whoever has the file would.
    func result(fileOrder: [Int], predict: (Plan) -> Prediction) -> PlannedJob {
        var best = outcomes[0]
        func place(_ lane: Lane) -> Int { lane.hosts.map { fileOrder[$0] }.min() ?? 0 }
        let listed = best.lanes.sorted { place($0) < place($1) }
        if best.pacing.usesRounds || exact(listed, best.pacing).score <= best.score * (1 + 1e-9) { best.lanes = listed }
        let plan = kept ? (current ?? plan(best, fileOrder)) : plan(best, fileOrder)
        let prediction = predict(plan)
        let relayed = RelayedPair.all(of: plan, topology: cost.topology, job: cost.job, planned: totalSeconds)
        return PlannedJob(
            plan: plan, prediction: prediction,
            objectiveSeconds: kept ? best.score / (1 - Campaign.hysteresis) : best.score,
            alternatives: alternatives(best),
            explanation: explanation(plan, prediction, relayed), relayed: relayed)
    }

    /// What the job would take on another topology of the same hosts, about: a short search from nothing.
    private func totalSeconds(on topology: Topology) -> Double? {
        var other = Campaign(
            cost: CostModel(
                topology: topology, job: cost.job, codec: current?.exchangeCodec, coordinator: cost.coordinator),
            peers: peers, current: nil, seed: 1, iterations: Self.glance, parallel: .serial)
        do throws(PlanningError) {
            try other.run()
        } catch {
            return nil
        }
        if cost.job.batchTokens == .auto, current == nil { other.rebatchBest() }
        return other.outcomes[0].seconds
    }
    private static let glance = 500

    private func plan(_ outcome: Outcome, _ fileOrder: [Int]) -> Plan {
        var next = 0
        var used: Set<Int> = []
        let pipelines = outcome.lanes.map { lane in
            defer { next += lane.share }
            used.formUnion(lane.hosts)
            return Plan.Pipeline(
                stages: lane.hosts.indices.map {
                    Plan.Stage(
                        peer: cost.topology.hosts[lane.hosts[$0]].name, units: lane.units($0),
                        recompute: lane.recomputes($0))
                },
                virtualPipelines: Array(next..<next + lane.share), inFlight: lane.inFlight)
        }
        return Plan(
            pipelines: pipelines, innerSteps: outcome.pacing.innerSteps,
            microBatchesPerVirtual: outcome.pacing.microBatchesPerVirtual, exchangeCodec: outcome.pacing.codec,
            activationCodec: outcome.pacing.activations,
            spares: peers.filter { !used.contains($0) }.sorted { fileOrder[$0] < fileOrder[$1] }
                .map { cost.topology.hosts[$0].name },
            exchangeDelay: outcome.pacing.delay)
    }

    private func alternatives(_ best: Outcome) -> [PlannedJob.Alternative] {
        outcomes.dropFirst().prefix(6).map { other in
            let slower = 100 * (other.seconds / best.seconds - 1)
            var reason = slower >= 0 ? "\(fixed(slower, 1)) % slower" : "\(fixed(-slower, 1)) % faster"
            if other.pacing.microBatchesPerVirtual != best.pacing.microBatchesPerVirtual {
                let batch = cost.job.geometry(microBatchesPerVirtual: other.pacing.microBatchesPerVirtual).batchTokens
                reason += ": a batch of \(batch) tokens"
            } else if other.isCurrent {
                reason += "; the current plan"
            } else if slower < 0 {
                reason += ", but changing costs more than it saves"
            } else if other.lanes.count > best.lanes.count, other.pacing.innerSteps < best.pacing.innerSteps {
                reason += ": needs shorter rounds"
            } else if !other.pacing.usesRounds, best.pacing.usesRounds {
                reason += ": exchanges each step"
            } else {
                reason += why(other, best)
            }
            return PlannedJob.Alternative(
                summary: summary(other.lanes, other.pacing), totalSeconds: other.seconds, lossPenalty: other.penalty,
                reason: reason)
        }
    }

    /// Which part of the job makes one plan longer than another; empty where neither does by itself.
    private func why(_ other: Outcome, _ best: Outcome) -> String {
        let (its, mine) = (parts(other), parts(best))
        let (more, waits) = (its.steps - mine.steps, its.rest - mine.rest)
        if more >= waits, more > 0 { return ": " + apart(its.step, mine.step, "s a step") }
        if waits > 0 { return ": " + apart(its.rest, mine.rest, "s beside steps") }
        return ""
    }
    /// Seconds of a step, of all steps of the job, and of what its rounds take beside steps.
    private func parts(_ outcome: Outcome) -> (step: Double, steps: Double, rest: Double) {
        let round = cost.round(outcome.lanes, outcome.pacing)
        let count = Double(cost.job.steps(microBatchesPerVirtual: outcome.pacing.microBatchesPerVirtual))
        let step = outcome.pacing.usesRounds ? round.stepSeconds[round.slowest] : round.trainedAt
        return (step, count * step, outcome.seconds - count * step)
    }
    /// With as many digits as tell the two apart.
    private func apart(_ its: Double, _ mine: Double, _ what: String) -> String {
        let digits = (2...6).first { fixed(its, $0) != fixed(mine, $0) } ?? 6
        return "\(fixed(its, digits)) \(what), not \(fixed(mine, digits))"
    }

    private func summary(_ lanes: [Lane], _ pacing: Pacing) -> String {
        let depths = lanes.map(\.hosts.count)
        let (least, most) = (depths.min() ?? 0, depths.max() ?? 0)
        let stages = least == most ? "\(least)" : "\(least)–\(most)"
        return "\(lanes.count) pipeline\(lanes.count == 1 ? "" : "s") of \(stages) stage\(most == 1 ? "" : "s"), "
            + "H = \(pacing.innerSteps), \(pacing.codec)"
            + (pacing.delay > 0 ? ", τ = \(pacing.delay)" : "")
    }

    private func explanation(_ plan: Plan, _ prediction: Prediction, _ relayed: [RelayedPair]) -> [String] {
        var lines = [
            "\(summary(cost.lanes(plan), cost.pacing(plan))), activations \(plan.activationCodec): "
                + "\(fixed(prediction.totalSeconds, 1)) s for "
                + "\(cost.job.tokens(microBatchesPerVirtual: plan.microBatchesPerVirtual)) tokens."
        ]
        if let batch = batchChoice(plan) { lines.append(batch) }
        lines.append(codecChoice(plan).reason)
        let again = plan.pipelines.flatMap(\.stages).filter(\.recompute).map(\.peer)
        if !again.isEmpty {
            lines.append(
                "\(shortList(again, most: 8)) compute\(again.count == 1 ? "s" : "") activations again (↻) instead of keeping "
                    + "them: a forward more for each micro-batch.")
        }
        lines += RelayedPair.sentences(relayed)
        if kept { lines.append("The current plan is kept: no other gains more than moving weights costs.") }
        if wasRepaired {
            lines.append("The running plan lost peers and was mended: a full search was not worth its time.")
        }
        if !plan.spares.isEmpty {
            lines.append(
                "\(shortList(plan.spares, most: 8)) stay\(plan.spares.count == 1 ? "s" : "") spare: "
                    + "the job would not end sooner with \(plan.spares.count == 1 ? "it" : "them").")
        }
        lines.append(
            "Predicted loss penalty \(fixed(100 * prediction.lossPenalty, 1)) % of a budget of "
                + "\(fixed(100 * cost.job.qualityBudget, 1)) % (\(LossPenalty.source)).")
        if prediction.lossPenalty > cost.job.qualityBudget {
            lines.append("Warning: the job's own inner_steps or codec exceed its quality budget; they are obeyed.")
        }
        if prediction.speedupVersusBestSinglePeer < 1 {
            lines.append(
                "Warning: \(prediction.bestSinglePeer) alone, with enough memory, would be faster: "
                    + "\(fixed(prediction.bestSinglePeerSeconds, 1)) s.")
        }
        return lines
    }
}
