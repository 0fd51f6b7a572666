internal import Primitives
internal import Topologies

/// What relays carry. A byte from heron to otter that crane relays takes crane's line twice, down and up, and counts once in what crane's
/// owner lets it carry.
///
/// A pair's own pace is that of its slowest part (``CostModel/rate(_:_:)``), and its latency that of the whole way. What many pairs come to
/// together is a bound: nothing is over before the relay has carried what there is to carry, in a step and in an exchange.
extension CostModel {
    /// Adds what one message of an exchange costs whoever relays it.
    func carry(_ bytes: Double, _ from: Int, _ to: Int, _ round: inout Round) {
        guard let relay = relays[Topology.Pair(from, to)] else { return }
        var place = round.carried.firstIndex { $0.relay == relay }
        if place == nil {
            place = round.carried.count
            round.carried.append(CarriedLoad(relay: relay))
        }
        round.carried[place!].exchange += bytes
        round.carried[place!].tail = max(round.carried[place!].tail, latency(from, to) + latency(to, coordinator))
    }

    /// Lets a round wait for its relays, and for the lines of those that work themselves.
    func wait(_ round: inout Round, _ lanes: [Lane], _ runs: [LaneRun], _ pacing: Pacing) {
        addSteps(lanes, pacing, &round)
        guard !round.carried.isEmpty, round.seconds.isFinite else { return }
        round.carried.sort { $0.relay < $1.relay }
        let steps = Double(pacing.innerSteps)
        // Steps first: each takes as long as its activations do on the busiest relay.
        let longest = round.carried.map { $0.step / rate(of: $0.relay) }.max() ?? 0
        let later = steps * max(0, longest - (round.stepSeconds.max() ?? 0))
        for (p, lane) in lanes.enumerated() where isRelayed(lane) {
            round.stepSeconds[p] = max(round.stepSeconds[p], longest)
            if later > 0 { round.slowest = p }
        }
        round.relayedSeconds = later
        round.trainedAt += later
        round.seconds += later
        let ready = (runs.map { $0.ready.min() ?? 0 }.min() ?? 0) + later
        for load in round.carried {
            let rate = rate(of: load.relay)
            let all = steps * load.step + load.exchange
            // With a delay the exchange goes on behind the steps; without, it begins with whoever is ready first.
            round.seconds = max(
                round.seconds, all / rate, pacing.delay > 0 ? 0 : ready + load.exchange / rate + load.tail)
            guard let own = own(load.relay, lanes, pacing, round) else { continue }
            round.seconds = max(
                round.seconds, (own.sent + all) / ups[load.relay], (own.received + all) / downs[load.relay])
        }
    }

    private func rate(of relay: Int) -> Double { carries[relay] ?? ups[relay] }
    private func isRelayed(_ lane: Lane) -> Bool {
        neighbours(lane).contains { relays[Topology.Pair($0, $1)] != nil || relays[Topology.Pair($1, $0)] != nil }
    }
    /// Pairs of a pipeline that exchange activations and gradients.
    func neighbours(_ lane: Lane) -> [(Int, Int)] {
        let last = lane.hosts.count - 1
        guard last > 0 else { return [] }
        let pairs = (0..<last).map { (lane.hosts[$0], lane.hosts[$0 + 1]) }
        return isRing(stages: last + 1) ? pairs + [(lane.hosts[last], lane.hosts[0])] : pairs
    }
    private func addSteps(_ lanes: [Lane], _ pacing: Pacing, _ round: inout Round) {
        for lane in lanes {
            let bytes = activationBytes(pacing.activations) * Double(lane.share * pacing.microBatchesPerVirtual)
            for (a, b) in neighbours(lane) {
                for relay in [relays[Topology.Pair(a, b)], relays[Topology.Pair(b, a)]].compactMap({ $0 }) {
                    if let known = round.carried.firstIndex(where: { $0.relay == relay }) {
                        round.carried[known].step += bytes
                    } else {
                        round.carried.append(CarriedLoad(relay: relay, step: bytes))
                    }
                }
            }
        }
    }
    /// What a relay that works itself sends and receives for its own work in a round; nil where it does not work.
    private func own(
        _ relay: Int, _ lanes: [Lane], _ pacing: Pacing, _ round: Round
    ) -> (sent: Double, received: Double)? {
        for (p, lane) in lanes.enumerated() {
            guard let s = lane.hosts.firstIndex(of: relay) else { continue }
            let step = activationBytes(pacing.activations) * Double(lane.share * pacing.microBatchesPerVirtual)
            let ends = Double(neighbours(lane).count { $0.0 == relay || $0.1 == relay })
            let steps = ends * step * Double(pacing.innerSteps)
            return (steps + round.exchangeSent[p][s], steps + round.exchangeReceived[p][s])
        }
        return nil
    }
}
