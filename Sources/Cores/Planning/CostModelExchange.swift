internal import Primitives
internal import Topologies

/// The exchange that ends a round.
extension CostModel {
    private struct Message {
        /// When the first frame is there, and when the last byte can be at the earliest.
        var head: Double
        var tail: Double
        var bytes: Double
    }

    /// The all-gather: every stage sends its contribution to every holder of the same units in the other pipelines, in rank
    /// order, over its uplink; downlinks take what arrives first. Then all report, and the coordinator seals.
    ///
    /// Receivers are taken lane by lane, so that memory grows with the peers, not with the messages.
    func seal(
        _ lanes: [Lane], _ ready: [[Double]], _ blocks: [Int], _ codec: Codec, _ round: inout Round
    ) -> Double {
        round.exchangeSent = ready.map { $0.map { _ in 0.0 } }
        round.exchangeReceived = round.exchangeSent
        var sealed = 0.0
        if lanes.count == 1 {
            for s in lanes[0].hosts.indices {
                sealed = max(sealed, ready[0][s] + latency(lanes[0].hosts[s], coordinator))
            }
            return sealed
        }
        var upFree = ready
        var arrivals: [[Message]] = []
        for (q, other) in lanes.enumerated() {
            arrivals = [[Message]](repeating: [], count: other.hosts.count)
            for (p, lane) in lanes.enumerated() where p != q {
                var t = 0
                for s in lane.hosts.indices {
                    let units = lane.units(s)
                    while other.cuts[t] <= units.lowerBound { t += 1 }
                    var receiver = t
                    while receiver < other.hosts.count, other.units(receiver).lowerBound < units.upperBound {
                        let common = units.clamped(to: other.units(receiver))
                        let size =
                            contributionBytes(common, codec) * Double(blocks[p]) + CostModel.messageOverhead
                        let (from, to) = (lane.hosts[s], other.hosts[receiver])
                        let rate = rate(from, to)
                        let way = latency(from, to)
                        let frame = min(size, PipelineSimulator.frameBytes)
                        let free = upFree[p][s]
                        arrivals[receiver].append(
                            Message(
                                head: free + frame / rate + way,
                                tail: free + size / rate + way + frame / topology.hosts[to].down.bytesPerSecond,
                                bytes: size))
                        upFree[p][s] = free + size / rate
                        round.exchangeSent[p][s] += size
                        round.exchangeReceived[q][receiver] += size
                        receiver += 1
                    }
                }
            }
            for t in other.hosts.indices {
                // A stable order of arrival: by time, then by sender.
                let messages = arrivals[t]
                let order = messages.indices.sorted { (messages[$0].head, $0) < (messages[$1].head, $1) }
                let down = topology.hosts[other.hosts[t]].down.bytesPerSecond
                var (free, complete) = (0.0, ready[q][t])
                for index in order {
                    free = max(max(messages[index].head, free) + messages[index].bytes / down, messages[index].tail)
                    complete = max(complete, free)
                }
                sealed = max(sealed, complete + latency(other.hosts[t], coordinator))
            }
        }
        return sealed
    }
}

/// Closed forms for searches among many peers; what is decided in the end is simulated.
extension CostModel {
    /// One inner step of a pipeline in its steady state, about: the first micro-batch's way there and back, then a period a
    /// micro-batch, the period being max(slowest stage; bytes of both directions on a line; loop ÷ in flight).
    func estimatedStep(_ lane: Lane, _ pacing: Pacing) -> Double {
        let bytes = activationBytes(pacing.activations)
        let last = lane.hosts.count - 1
        let microBatches = Double(lane.share * pacing.microBatchesPerVirtual)
        var (slowest, line, loop, update, norms) = (0.0, 0.0, 0.0, 0.0, 0.0)
        for s in 0...last {
            let host = topology.hosts[lane.hosts[s]]
            let compute = 3 * flops(lane.units(s)) / host.flops
            slowest = max(slowest, compute)
            loop += compute
            update = max(
                update, (CostModel.updateFLOPs + CostModel.squareFLOPs) * parameters(lane.units(s)) / host.flops)
            if last == 0 { break }
            let ends = s == 0 || s == last ? 1.0 : 2.0
            let (up, down) = (host.up.bytesPerSecond, host.down.bytesPerSecond)
            line = max(line, ends * bytes / up, ends * bytes / down)
            if s < last {
                let next = lane.hosts[s + 1]
                let there = max(bytes / rate(lane.hosts[s], next), bytes / topology.hosts[next].down.bytesPerSecond)
                let back = max(bytes / rate(next, lane.hosts[s]), bytes / down)
                let ways = latency(lane.hosts[s], next) + latency(next, lane.hosts[s])
                loop += there + back + ways
                norms += ways / 2
            }
        }
        let period = max(slowest, line, loop / Double(lane.inFlight))
        return loop + (microBatches - 1) * period + update + norms
    }

    /// ``round(_:_:)`` with estimated steps and an exchange that sees each access line's bytes only.
    func estimatedRound(_ lanes: [Lane], _ pacing: Pacing) -> Round {
        var first = 0
        let blocks = lanes.map { lane in
            defer { first += lane.share }
            return pacing.usesRounds ? 1 : CostModel.alignedBlocks(first..<(first + lane.share))
        }
        let contributions = blocks.reduce(0, +)
        let validations =
            Double(validationMicroBatches(pipelines: lanes.count))
            / (pacing.usesRounds ? 1 : Double(CostModel.validationEvery))
        var round = Round()
        var (uploaded, earliest, latest, received, way) = (0.0, Double.infinity, 0.0, 0.0, 0.0)
        for (p, lane) in lanes.enumerated() {
            let step = estimatedStep(lane, pacing)
            var (start, forward, encoded) = (0.0, 0.0, 0.0)
            for (s, host) in lane.hosts.enumerated() {
                let own = parameters(lane.units(s)) / topology.hosts[host].flops
                start = max(start, latency(coordinator, host) + foldFLOPs(contributions) * own)
                forward = max(forward, flops(lane.units(s)) / topology.hosts[host].flops)
                encoded = max(encoded, CostModel.encodeFLOPs * own * Double(blocks[p]))
            }
            let trained = start + validations * forward + Double(pacing.innerSteps) * step
            round.stepSeconds.append(step)
            if trained > round.trainedAt {
                (round.trainedAt, round.slowest, round.validationSeconds) = (trained, p, validations * forward)
            }
            let ready = trained + encoded
            earliest = min(earliest, ready)
            latest = max(latest, ready)
            for (s, host) in lane.hosts.enumerated() {
                let size = contributionBytes(lane.units(s), pacing.codec)
                let (up, down) = (topology.hosts[host].up.bytesPerSecond, topology.hosts[host].down.bytesPerSecond)
                way = max(way, latency(host, coordinator))
                if lanes.count > 1 {
                    let others = Double(lanes.count - 1)
                    uploaded = max(
                        uploaded, ready + others * (size * Double(blocks[p]) + 2 * CostModel.messageOverhead) / up)
                    received = max(received, size * Double(contributions - blocks[p]) / down)
                }
            }
        }
        round.seconds = max(latest, uploaded, lanes.count > 1 ? earliest + received : 0) + way
        if lanes.count > 1 { round.seconds += way }
        return round
    }
}
