internal import Exchange
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

    /// A line that activations use too, in part, until the round's steps are done: they go first, the exchange has the rest.
    private struct SharedLine {
        var until = 0.0
        /// The part of the time that activations take.
        var share = 0.0
        /// When `bytes` that begin at `start` are through, the line alone carrying `rate` bytes a second.
        func passes(_ bytes: Double, _ rate: Double, from start: Double) -> Double {
            guard start < until, share > 0 else { return start + bytes / rate }
            let left = max(0.02, 1 - share) * rate
            let meanwhile = (until - start) * left
            return bytes <= meanwhile ? start + bytes / left : until + (bytes - meanwhile) / rate
        }
    }
    /// By stage, up and down.
    private func sharedLines(_ lane: Lane, _ run: LaneRun, _ pacing: Pacing) -> [(up: SharedLine, down: SharedLine)] {
        guard pacing.delay > 0 else { return lane.hosts.map { _ in (SharedLine(), SharedLine()) } }
        let bytes = activationBytes(pacing.activations) * Double(lane.share * pacing.microBatchesPerVirtual)
        return lane.hosts.indices.map { s in
            let isRing = isRing(stages: lane.hosts.count)
            let neighbours = (s > 0 || isRing ? 1.0 : 0) + (s < lane.hosts.count - 1 || isRing ? 1 : 0)
            let host = topology.hosts[lane.hosts[s]]
            func line(_ rate: Double) -> SharedLine {
                SharedLine(until: run.ended[s], share: min(1, neighbours * bytes / rate / run.stepSeconds))
            }
            return (line(host.up.bytesPerSecond), line(host.down.bytesPerSecond))
        }
    }

    /// What a stage sends to all others, by size: how much of it has left when a message of some size has, all taking turns.
    private struct Turns {
        private var sizes: [Double] = []
        private var counts: [Double] = []
        mutating func add(_ size: Double, _ count: Double) {
            if let known = sizes.firstIndex(of: size) {
                counts[known] += count
            } else {
                sizes.append(size)
                counts.append(count)
            }
        }
        func through(_ size: Double) -> Double {
            sizes.indices.reduce(0) { $0 + counts[$1] * min(sizes[$1], size) }
        }
    }
    /// By lane and stage. Lanes that are cut alike receive alike.
    private func turns(_ lanes: [Lane], _ blocks: [Int], _ sizes: [Double]) -> [[Turns]] {
        var kinds: [(lane: Lane, count: Double)] = []
        var kind: [[Int]: Int] = [:]
        for lane in lanes {
            if let known = kind[lane.cuts] {
                kinds[known].count += 1
            } else {
                kind[lane.cuts] = kinds.count
                kinds.append((lane, 1))
            }
        }
        return lanes.indices.map { p in
            var turns = lanes[p].hosts.map { _ in Turns() }
            for other in kinds {
                let count = other.count - (other.lane.cuts == lanes[p].cuts ? 1 : 0)
                guard count > 0 else { continue }
                overlaps(lanes[p], other.lane) { s, _, common in
                    let bytes = (sizes[common.upperBound] - sizes[common.lowerBound]) * Double(blocks[p])
                    turns[s].add(bytes + CostModel.messageOverhead, count)
                }
            }
            return turns
        }
    }
    /// Every pair of stages with units in common, in the order of the senders, then the receivers.
    private func overlaps(_ lane: Lane, _ other: Lane, _ body: (Int, Int, Range<Int>) -> Void) {
        var t = 0
        for s in lane.hosts.indices {
            let units = lane.units(s)
            while other.cuts[t] <= units.lowerBound { t += 1 }
            var receiver = t
            while receiver < other.hosts.count, other.units(receiver).lowerBound < units.upperBound {
                body(s, receiver, units.clamped(to: other.units(receiver)))
                receiver += 1
            }
        }
    }

    /// The all-gather: every stage sends its contribution to every holder of the same units in the other pipelines, to all of them
    /// in turn, over its uplink; downlinks take what arrives first. Then all report, and the coordinator seals.
    ///
    /// Receivers are taken lane by lane, so that memory grows with the peers, not with the messages.
    func seal(
        _ lanes: [Lane], _ runs: [LaneRun], _ blocks: [Int], _ pacing: Pacing, _ round: inout Round
    ) -> Double {
        let ready = runs.map(\.ready)
        round.exchangeSent = ready.map { $0.map { _ in 0.0 } }
        round.exchangeReceived = round.exchangeSent
        if lanes.count == 1 { return reported([runs[0].ended], lanes) }
        let lines = lanes.indices.map { sharedLines(lanes[$0], runs[$0], pacing) }
        let sizes = contributionPrefix(pacing.codec)
        let turns = turns(lanes, blocks, sizes)
        var slowestWay = 0.0
        var completes: [[Double]] = []
        var arrivals: [[Message]] = []
        for (q, other) in lanes.enumerated() {
            arrivals = [[Message]](repeating: [], count: other.hosts.count)
            for (p, lane) in lanes.enumerated() where p != q {
                overlaps(lane, other) { s, receiver, common in
                    let bytes = sizes[common.upperBound] - sizes[common.lowerBound]
                    let size = bytes * Double(blocks[p]) + CostModel.messageOverhead
                    let (from, to) = (lane.hosts[s], other.hosts[receiver])
                    let rate = rate(from, to)
                    let way = latency(from, to)
                    slowestWay = max(slowestWay, way)
                    let frame = min(size, PipelineSimulator.frameBytes)
                    let line = lines[p][s].up
                    // In turn with all others of this stage, of which the shorter are done before it.
                    let sent = max(
                        line.passes(size, rate, from: ready[p][s]),
                        line.passes(
                            turns[p][s].through(size), ups[from], from: ready[p][s]))
                    arrivals[receiver].append(
                        Message(
                            head: line.passes(frame, rate, from: ready[p][s]) + way,
                            tail: sent + way + frame / downs[to], bytes: size))
                    round.exchangeSent[p][s] += size
                    round.exchangeReceived[q][receiver] += size
                    if !relays.isEmpty { carry(size, from, to, &round) }
                }
            }
            completes.append(runs[q].ended)
            for t in other.hosts.indices {
                let messages = arrivals[t].sorted { $0.head < $1.head }
                let down = downs[other.hosts[t]]
                var free = 0.0
                for message in messages {
                    free = lines[q][t].down.passes(message.bytes, down, from: max(message.head, free))
                    completes[q][t] = max(completes[q][t], free, message.tail)
                }
            }
        }
        shorten(&completes, lanes, runs, pacing, slowestWay, &round)
        return reported(completes, lanes)
    }
    /// When the coordinator has the last report.
    private func reported(_ completes: [[Double]], _ lanes: [Lane]) -> Double {
        var sealed = 0.0
        for (q, lane) in lanes.enumerated() {
            for (t, host) in lane.hosts.enumerated() {
                sealed = max(sealed, completes[q][t] + latency(host, coordinator))
            }
        }
        return sealed
    }

    /// The same exchange over owners, where that is the way the coordinator will choose (``ExchangeSurvey/cheapest``): the bytes'
    /// time as much shorter as closed forms say, but the slowest pair's way twice.
    private func shorten(
        _ completes: inout [[Double]], _ lanes: [Lane], _ runs: [LaneRun], _ pacing: Pacing, _ slowestWay: Double,
        _ round: inout Round
    ) {
        if lanes.count <= 2, job.exchangeWay == .auto { return }
        guard slowestWay.isFinite else { return }
        let (way, ratio) = survey(lanes, pacing, latency: slowestWay).ratio(job.exchangeWay.value)
        guard way.hasOwners else { return }
        let begun = runs.map { $0.ready.max() ?? 0 }.max() ?? 0
        for (q, run) in runs.enumerated() {
            for t in completes[q].indices {
                let bytes = max(0, completes[q][t] - begun - slowestWay)
                completes[q][t] = max(run.ended[t], begun + bytes * ratio + 2 * slowestWay)
            }
        }
        let others = Double(lanes.count - 1)
        for index in round.carried.indices {
            round.carried[index].exchange *= (1 + sums(way, pacing)) / Double(lanes.count)
        }
        // A stage sends its part but for what it owns itself, and what it owns to all: as much in the mean as all own equally.
        let sums = sums(way, pacing)
        for (p, lane) in lanes.enumerated() {
            for s in lane.hosts.indices {
                let part = round.exchangeSent[p][s] / others
                round.exchangeSent[p][s] = part * (others / Double(lanes.count)) * (1 + sums)
                round.exchangeReceived[p][s] = part * (others / Double(lanes.count)) * (1 + sums)
            }
        }
    }

    /// Bytes of what owners send back ÷ bytes of what they get.
    private func sums(_ way: ExchangeWay, _ pacing: Pacing) -> Double {
        way.aggregateCodec.bitsPerValue / pacing.codec.bitsPerValue
    }

    /// What the exchange of these lanes costs by closed forms.
    func survey(_ lanes: [Lane], _ pacing: Pacing, latency: Double) -> ExchangeSurvey {
        ExchangeSurvey(
            pipelines: lanes.map { lane in
                lane.hosts.indices.map { s in
                    let host = topology.hosts[lane.hosts[s]]
                    return ExchangeSurvey.Holder(
                        units: lane.units(s), up: host.up.bytesPerSecond, down: host.down.bytesPerSecond)
                }
            }, model: model, codec: pacing.codec, usesRounds: pacing.usesRounds, latency: latency)
    }
}

/// Closed forms for searches among many peers; what is decided in the end is simulated.
extension CostModel {
    /// One inner step of a pipeline in its steady state, about: the first micro-batch's way there and back, then a period a
    /// micro-batch, the period being max(slowest stage; bytes of both directions on a line; loop ÷ in flight).
    func estimatedStep(_ lane: Lane, _ pacing: Pacing) -> Double {
        let bytes = activationBytes(pacing.activations)
        let last = lane.hosts.count - 1
        let isRing = isRing(stages: last + 1)
        let microBatches = Double(lane.share * pacing.microBatchesPerVirtual)
        var (slowest, line, loop, update, norms) = (0.0, 0.0, 0.0, 0.0, 0.0)
        for s in 0...last {
            let host = lane.hosts[s]
            let speed = speeds[host]
            let lent = lentFLOPs(lane.units(s))
            let passes = CostModel.passes(recompute: lane.recomputes(s))
            let compute =
                lent == 0
                ? passes * flops(lane.units(s)) / speed : (passes * (flops(lane.units(s)) - lent) + 4 * lent) / speed
            slowest = max(slowest, compute)
            loop += compute
            update = max(
                update, (CostModel.updateFLOPs + CostModel.squareFLOPs) * parameters(lane.units(s)) / speed)
            if last == 0 { break }
            let ends = (s == 0 || s == last) && !isRing ? 1.0 : 2.0
            let (up, down) = (ups[host], downs[host])
            line = max(line, ends * bytes / up, ends * bytes / down)
            if s < last || isRing {
                let next = lane.hosts[s < last ? s + 1 : 0]
                let there = max(bytes / rate(lane.hosts[s], next), bytes / downs[next])
                let back = max(bytes / rate(next, lane.hosts[s]), bytes / down)
                let ways = latency(lane.hosts[s], next) + latency(next, lane.hosts[s])
                loop += there + back + ways
                if s < last { norms += ways / 2 }
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
        var (uploaded, earliest, finished, received, way) = (0.0, Double.infinity, 0.0, 0.0, 0.0)
        for (p, lane) in lanes.enumerated() {
            let step = estimatedStep(lane, pacing)
            var (start, forward, encoded) = (0.0, 0.0, 0.0)
            for (s, host) in lane.hosts.enumerated() {
                let own = parameters(lane.units(s)) / speeds[host]
                start = max(start, latency(coordinator, host) + foldFLOPs(contributions) * own)
                forward = max(forward, flops(lane.units(s)) / speeds[host])
                encoded = max(encoded, CostModel.encodeFLOPs * own * Double(blocks[p]))
            }
            let pause = pacing.delay > 0 ? encoded : 0
            let trained = start + validations * forward + Double(pacing.innerSteps) * step + pause
            let hidden = Double(pacing.delay) * step + pause
            round.stepSeconds.append(step)
            if trained > round.trainedAt {
                (round.trainedAt, round.slowest, round.validationSeconds) = (trained, p, validations * forward)
            }
            let ready = trained - hidden + encoded
            finished = max(finished, pacing.delay > 0 ? trained : ready)
            earliest = min(earliest, ready)
            for (s, host) in lane.hosts.enumerated() {
                let size = contributionBytes(lane.units(s), pacing.codec)
                let (up, down) = (ups[host], downs[host])
                way = max(way, latency(host, coordinator))
                if lanes.count > 1 {
                    let others = Double(lanes.count - 1)
                    uploaded = max(
                        uploaded, ready + others * (size * Double(blocks[p]) + 2 * CostModel.messageOverhead) / up)
                    received = max(received, size * Double(contributions - blocks[p]) / down)
                }
            }
        }
        round.seconds = max(finished, uploaded, lanes.count > 1 ? earliest + received : 0) + way
        if lanes.count > 1 { round.seconds += way }
        return round
    }
}
