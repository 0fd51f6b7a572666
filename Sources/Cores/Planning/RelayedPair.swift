internal import Primitives
public import Topologies

/// Two peers of a plan that exchange bytes over a third, and what it would be worth that one of them could be dialled.
public struct RelayedPair: Hashable, Sendable, Codable {
    public var from: String
    public var to: String
    public var relay: String
    /// What the slower direction can do, Mbit/s.
    public var megabits: Double
    /// Of both directions, in a round.
    public var bytesPerRound: Int
    /// The end whose router should let others in, and the port; nil where it would gain nothing.
    public var forward: String?
    public var port: UInt16?
    /// What the job then takes less, by its steps: with the plan as it is, or with another one that is better then.
    public var savedStepSeconds: Double
    enum CodingKeys: String, CodingKey {
        case from, to, relay, megabits, forward, port
        case bytesPerRound = "bytes_per_round", savedStepSeconds = "saved_step_seconds"
    }

    /// "heron–otter: relayed by crane, 5.0 Mbit/s; forward TCP and UDP 7070 to heron to save 0.21 s a step".
    public var text: String {
        var text = "\(from)–\(to): relayed by \(relay), \(fixed(megabits, megabits < 10 ? 1 : 0)) Mbit/s"
        guard let forward else { return text }
        text += port.map { "; forward TCP and UDP \($0) to \(forward)" } ?? "; forward \(forward)'s port, TCP and UDP,"
        return text + " to save \(fixed(savedStepSeconds, savedStepSeconds < 0.1 ? 3 : 2)) s a step"
    }

    /// The pairs of a plan that are relayed, those that exchange most first; what would help is asked for the first `limit`.
    ///
    /// - Parameter planned: the seconds that the job would take on another topology, planned anew; nil where that is not asked. The plan as it is
    ///   is looked at in any case.
    /// - Precondition: as of ``predict(plan:topology:job:)``.
    public static func all(
        of plan: Plan, topology: Topology, job: JobManifest, limit: Int = 4, planned: ((Topology) -> Double?)? = nil
    ) -> [RelayedPair] {
        if topology.relays.isEmpty { return [] }
        func seconds(_ topology: Topology) -> Double {
            let cost = CostModel(topology: topology, job: job, codec: plan.exchangeCodec)
            let (lanes, pacing) = (cost.lanes(plan), cost.pacing(plan))
            return cost.totalSeconds(cost.round(lanes, pacing), lanes, pacing)
        }
        var pairs = CostModel(topology: topology, job: job, codec: plan.exchangeCodec).relayedPairs(plan)
        let now = seconds(topology)
        let steps = Double(job.steps(microBatchesPerVirtual: plan.microBatchesPerVirtual))
        var then: [Int: Double] = [:]
        func saved(_ host: Int) -> Double {
            if let known = then[host] { return known }
            guard then.count < limit else { return 0 }
            let free = topology.reaching(host)
            let best = min(seconds(free), planned?(free) ?? .infinity)
            then[host] = now - best
            return now - best
        }
        for index in pairs.indices.prefix(limit) {
            guard let a = topology.index(of: pairs[index].from), let b = topology.index(of: pairs[index].to) else {
                continue
            }
            let (first, second) = (saved(a), saved(b))
            let best = second > first * (1 + 1e-9) ? b : a
            let seconds = max(first, second)
            guard seconds.isFinite, seconds > 0.001 * now, steps > 0 else { continue }
            pairs[index].forward = topology.hosts[best].name
            pairs[index].port = topology.hosts[best].port
            pairs[index].savedStepSeconds = seconds / steps
        }
        return pairs
    }

    /// Sentences for people, at most `limit` pairs and how many more there are.
    static func sentences(_ pairs: [RelayedPair], limit: Int = 4) -> [String] {
        pairs.prefix(limit).map { $0.text + "." }
            + (pairs.count > limit
                ? ["Of other pairs, \(pairs.count - limit) \(pairs.count == limit + 1 ? "is" : "are") relayed."] : [])
    }
}

extension CostModel {
    /// Most bytes first; what would help is still to be asked.
    fileprivate func relayedPairs(_ plan: Plan) -> [RelayedPair] {
        let lanes = lanes(plan)
        let pacing = pacing(plan)
        var bytes: [Topology.Pair: Double] = [:]
        func add(_ a: Int, _ b: Int, _ count: Double) {
            guard relays[Topology.Pair(a, b)] != nil || relays[Topology.Pair(b, a)] != nil else { return }
            bytes[Topology.Pair(min(a, b), max(a, b)), default: 0] += count
        }
        for lane in lanes {
            let steps = Double(lane.share * pacing.microBatchesPerVirtual * pacing.innerSteps)
            for (a, b) in neighbours(lane) { add(a, b, 2 * steps * activationBytes(pacing.activations)) }
        }
        for (p, lane) in lanes.enumerated() {
            for other in lanes[(p + 1)...] {
                for s in lane.hosts.indices {
                    for t in other.hosts.indices where lane.units(s).overlaps(other.units(t)) {
                        let common = lane.units(s).clamped(to: other.units(t))
                        add(lane.hosts[s], other.hosts[t], 2 * contributionBytes(common, pacing.codec))
                    }
                }
            }
        }
        return bytes.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { pair, count in
            let (there, back) = (
                topology.sendRate(from: pair.from, to: pair.to), topology.sendRate(from: pair.to, to: pair.from)
            )
            let relay = relays[pair] ?? relays[Topology.Pair(pair.to, pair.from)] ?? pair.from
            return RelayedPair(
                from: topology.hosts[pair.from].name, to: topology.hosts[pair.to].name,
                relay: topology.hosts[relay].name,
                megabits: min(there, back).bitsPerSecond / 1e6, bytesPerRound: Int(min(count, 1e18)),
                savedStepSeconds: 0)
        }
    }
}
