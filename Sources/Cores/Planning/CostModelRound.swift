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
}

/// Times are seconds after the coordinator sealed the previous round.
extension CostModel {
    /// Steps that are simulated before the rest is extrapolated.
    static let simulatedSteps = 3

    func round(_ lanes: [Lane], _ pacing: Pacing) -> Round {
        pacing.usesRounds ? innerStepsRound(lanes, pacing) : everyStepRound(lanes, pacing)
    }

    /// H > 1: outer step, validation, H inner steps, all-gather of pseudo-gradients, report, seal.
    private func innerStepsRound(_ lanes: [Lane], _ pacing: Pacing) -> Round {
        var round = Round()
        var ready: [[Double]] = []
        let validations = validationMicroBatches(pipelines: lanes.count)
        let steps = min(pacing.innerSteps, CostModel.simulatedSteps)
        for (index, lane) in lanes.enumerated() {
            let stages = timings(lane, pacing)
            let starts = lane.hosts.indices.map { s in
                latency(coordinator, lane.hosts[s])
                    + (CostModel.outerFLOPs + CostModel.foldFLOPs * Double(lanes.count)) * parameters(lane.units(s))
                    / topology.hosts[lane.hosts[s]].flops
            }
            let microBatches = lane.share * pacing.microBatchesPerVirtual
            let outcome = PipelineSimulator.run(
                stages, microBatches: microBatches, steps: steps, starts: starts, validations: validations)
            let last = outcome.stepEnds[steps - 1]
            let period = steps > 1 ? last - outcome.stepEnds[steps - 2] : last - starts[0]
            let rest = Double(pacing.innerSteps - steps) * period
            ready.append(
                lane.hosts.indices.map { s in
                    outcome.ends[s] + rest
                        + CostModel.encodeFLOPs * parameters(lane.units(s)) / topology.hosts[lane.hosts[s]].flops
                })
            round.stepSeconds.append(period)
            let trained = (outcome.ends.max() ?? last) + rest
            if trained > round.trainedAt {
                round.trainedAt = trained
                round.slowest = index
                round.validationSeconds = max(0, outcome.stepEnds[0] - starts[0] - period)
            }
        }
        round.seconds = seal(lanes, ready, &round) { range, _ in contributionBytes(range, pacing.codec) }
        return round
    }

    /// H = 1: aggregate, norms, optimizer step, one batch, all-gather of gradient sums, report, seal. Every tenth validates.
    private func everyStepRound(_ lanes: [Lane], _ pacing: Pacing) -> Round {
        let plain = oneStep(lanes, pacing, validations: 0)
        var full = oneStep(lanes, pacing, validations: validationMicroBatches(pipelines: lanes.count))
        let share = 1 / Double(CostModel.validationEvery)
        full.validationSeconds = (full.seconds - plain.seconds) * share
        full.seconds = plain.seconds + full.validationSeconds
        full.trainedAt = plain.trainedAt + full.validationSeconds
        full.stepSeconds = plain.stepSeconds
        full.slowest = plain.slowest
        return full
    }

    private func oneStep(_ lanes: [Lane], _ pacing: Pacing, validations: Int) -> Round {
        var round = Round()
        var first = 0
        let blocks = lanes.map { lane in
            defer { first += lane.share }
            return Double(CostModel.alignedBlocks(first..<(first + lane.share)))
        }
        let contributions = blocks.reduce(0, +)
        var ready: [[Double]] = []
        for (index, lane) in lanes.enumerated() {
            let stages = timings(lane, pacing)
            let aggregated = lane.hosts.indices.map { s in
                latency(coordinator, lane.hosts[s])
                    + (CostModel.outerFLOPs + CostModel.foldFLOPs * contributions) * parameters(lane.units(s))
                    / topology.hosts[lane.hosts[s]].flops
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
                validations: validations, updates: false)
            ready.append(
                lane.hosts.indices.map { s in
                    outcome.ends[s] + CostModel.encodeFLOPs * blocks[index] * parameters(lane.units(s))
                        / topology.hosts[lane.hosts[s]].flops
                })
            let trained = outcome.ends.max() ?? 0
            round.stepSeconds.append(trained)
            if trained > round.trainedAt {
                round.trainedAt = trained
                round.slowest = index
            }
        }
        round.seconds = seal(lanes, ready, &round) { range, sender in
            contributionBytes(range, pacing.codec) * blocks[sender]
        }
        return round
    }

    /// The all-gather: every stage sends its contribution to every holder of the same units in the other pipelines, in rank
    /// order, over its uplink; downlinks take what arrives first. Then all report, and the coordinator seals.
    private func seal(
        _ lanes: [Lane], _ ready: [[Double]], _ round: inout Round, bytes: (Range<Int>, Int) -> Double
    ) -> Double {
        struct Message {
            var head: Double
            var tail: Double
            var lane: Int
            var stage: Int
            var bytes: Double
        }
        var messages: [Message] = []
        var complete = ready
        round.exchangeSent = ready.map { $0.map { _ in 0 } }
        round.exchangeReceived = round.exchangeSent
        for (p, lane) in lanes.enumerated() where lanes.count > 1 {
            for s in lane.hosts.indices {
                var upFree = ready[p][s]
                for (q, other) in lanes.enumerated() where q != p {
                    for t in other.hosts.indices {
                        let common = lane.units(s).clamped(to: other.units(t))
                        if common.isEmpty { continue }
                        let size = bytes(common, p) + CostModel.messageOverhead
                        let rate = rate(lane.hosts[s], other.hosts[t])
                        let way = latency(lane.hosts[s], other.hosts[t])
                        let frame = min(size, PipelineSimulator.frameBytes)
                        let down = topology.hosts[other.hosts[t]].down.bytesPerSecond
                        messages.append(
                            Message(
                                head: upFree + frame / rate + way, tail: upFree + size / rate + way + frame / down,
                                lane: q, stage: t, bytes: size))
                        upFree += size / rate
                        round.exchangeSent[p][s] += size
                        round.exchangeReceived[q][t] += size
                    }
                }
            }
        }
        // A stable order of arrival: by time, then by sender.
        let order = messages.indices.sorted { (messages[$0].head, $0) < (messages[$1].head, $1) }
        var downFree = ready.map { $0.map { _ in 0.0 } }
        for index in order {
            let message = messages[index]
            let down = topology.hosts[lanes[message.lane].hosts[message.stage]].down.bytesPerSecond
            let start = max(message.head, downFree[message.lane][message.stage])
            let end = max(start + message.bytes / down, message.tail)
            downFree[message.lane][message.stage] = end
            complete[message.lane][message.stage] = max(complete[message.lane][message.stage], end)
        }
        var sealed = 0.0
        for (p, lane) in lanes.enumerated() {
            for s in lane.hosts.indices { sealed = max(sealed, complete[p][s] + latency(lane.hosts[s], coordinator)) }
        }
        return sealed
    }
}
