import Exchange
import Planning
import Primitives
import Topologies

/// The exchange that ends a round, from docs/COST.md, “A round, from seal to seal” and “Exchange”.
extension NaiveCost {
    private struct Arrival {
        var first: Double
        var allThere: Double
        var bytes: Double
    }

    /// When a stage's line has let `bytes` through that begin at `start`. Until the stage has `ended`, `taken` of it is the
    /// activations'.
    static func through(_ bytes: Double, rate: Double, from start: Double, ended: Double, taken: Double) -> Double {
        if start >= ended || taken == 0 { return start + bytes / rate }
        let slow = max(0.02, 1 - taken) * rate
        let atEnd = (ended - start) * slow
        return bytes <= atEnd ? start + bytes / slow : ended + (bytes - atEnd) / rate
    }
    /// The part of a line of `rate` that a step's activations take.
    private func taken(_ p: Int, _ s: Int, rate: Double, step: Double) -> Double {
        if plan.exchangeDelay == 0 { return 0 }
        let last = plan.pipelines[p].stages.count - 1
        let neighbours = (s > 0 ? 1 : 0) + (s < last ? 1 : 0)
        let messages = plan.pipelines[p].virtualPipelines.count * plan.microBatchesPerVirtual * neighbours
        return min(1, Double(messages) * activationBytes / (rate * step))
    }

    /// The moment of the seal, in seconds after the one before.
    func sealed(_ laps: [Lap]) -> Double {
        var done = laps.map(\.ended)
        // The slowest way of all that is sent.
        var way = 0.0
        if plan.pipelines.count > 1 {
            var arrivals: [[[Arrival]]] = []
            (arrivals, way) = sent(laps)
            for (q, t) in stages(laps) { done[q][t] = max(done[q][t], taken(in: arrivals[q][t], laps[q], q, t)) }
        }
        if let ratio = ownersRatio(way) {
            let begun = laps.flatMap(\.ready).max()!
            for (q, t) in stages(laps) {
                let bytes = max(0, done[q][t] - begun - way)
                done[q][t] = max(laps[q].ended[t], begun + bytes * ratio + 2 * way)
            }
        }
        var latest = 0.0
        for (q, t) in stages(laps) { latest = max(latest, done[q][t] + latency(host(q, t), coordinator)) }
        return latest
    }
    private func stages(_ laps: [Lap]) -> [(pipeline: Int, stage: Int)] {
        laps.indices.flatMap { p in laps[p].ready.indices.map { (p, $0) } }
    }

    /// What comes at each stage, and the slowest way of it.
    private func sent(_ laps: [Lap]) -> (arrivals: [[[Arrival]]], way: Double) {
        var arrivals = laps.map { $0.ready.map { _ in [Arrival]() } }
        var way = 0.0
        func message(_ p: Int, _ s: Int, _ q: Int, _ t: Int) -> Double? {
            guard p != q, units(p, s).overlaps(units(q, t)) else { return nil }
            return contributionBytes(units(p, s).clamped(to: units(q, t))) * Double(parts(p)) + 96
        }
        for (p, s) in stages(laps) {
            var all: [(q: Int, t: Int, bytes: Double)] = []
            for (q, t) in stages(laps) { if let bytes = message(p, s, q, t) { all.append((q, t, bytes)) } }
            let from = host(p, s)
            let share = taken(p, s, rate: up(from), step: laps[p].step)
            func sent(_ bytes: Double, _ rate: Double) -> Double {
                NaiveCost.through(bytes, rate: rate, from: laps[p].ready[s], ended: laps[p].ended[s], taken: share)
            }
            for (q, t, bytes) in all {
                let to = host(q, t)
                way = max(way, latency(from, to))
                let frame = min(bytes, 16_384)
                // All take turns: when this one has left, as much of each other.
                let left = all.map { min($0.bytes, bytes) }.reduce(0, +)
                let last = max(sent(left, up(from)), sent(bytes, rate(from, to)))
                arrivals[q][t].append(
                    Arrival(
                        first: sent(frame, rate(from, to)) + latency(from, to),
                        allThere: last + latency(from, to) + frame / down(to), bytes: bytes))
            }
        }
        return (arrivals, way)
    }
    /// When a stage has taken in all that comes, one after the other.
    private func taken(in arrivals: [Arrival], _ lap: Lap, _ q: Int, _ t: Int) -> Double {
        let rate = down(host(q, t))
        let share = taken(q, t, rate: rate, step: lap.step)
        var free = 0.0
        var done = 0.0
        for message in arrivals.sorted(by: { $0.first < $1.first }) {
            free = NaiveCost.through(
                message.bytes, rate: rate, from: max(message.first, free), ended: lap.ended[t], taken: share)
            done = max(done, free, message.allThere)
        }
        return done
    }

    /// The time over owners ÷ that of an all-gather, both by closed form; nil where nobody owns.
    func ownersRatio(_ way: Double) -> Double? {
        if plan.pipelines.count == 1 { return nil }
        // The stage that would send longest, and its first unit; the first unit whose holders can take least in a second.
        func rate(_ p: Int, _ s: Int) -> Double { min(up(host(p, s)), down(host(p, s))) / parameters(units(p, s)) }
        var all: [(p: Int, s: Int)] = []
        for p in plan.pipelines.indices { for s in plan.pipelines[p].stages.indices { all.append((p, s)) } }
        let slowest = all.map { rate($0.p, $0.s) }.min()!
        let unit = units(all.first { rate($0.p, $0.s) == slowest }!.p, all.first { rate($0.p, $0.s) == slowest }!.s)
            .lowerBound
        func room(_ unit: Int) -> Double {
            all.reduce(0) { units($1.p, $1.s).contains(unit) ? $0 + rate($1.p, $1.s) : $0 }
        }
        let rooms = job.model.allUnits.map(room)
        let telling = [unit, rooms.firstIndex(of: rooms.min()!)!]
        func longest(_ seconds: (Double, [Double], [Double]) -> Double) -> Double {
            telling.map { unit in
                let values = parameters(unit..<unit + 1)
                let holders = all.filter { units($0.p, $0.s).contains(unit) }
                func part(_ h: (p: Int, s: Int)) -> Double { values / parameters(units(h.p, h.s)) }
                return seconds(
                    values / 8, holders.map { up(host($0.p, $0.s)) * part($0) },
                    holders.map { down(host($0.p, $0.s)) * part($0) })
            }.max()!
        }
        func owners(_ sums: Codec) -> Double {
            longest { values, ups, downs in
                NaiveCost.ownerSeconds(
                    contribution: values * plan.exchangeCodec.bitsPerValue, sum: values * sums.bitsPerValue, up: ups,
                    down: downs)
            }
        }
        let gathering = longest { values, ups, downs in
            Double(ups.count - 1) * values * plan.exchangeCodec.bitsPerValue / (ups + downs).min()!
        }
        switch job.exchangeWay.value {
        case .allGather?: return nil
        case .reduceScatter?: return owners(.fp32) / gathering
        case .owner(let codec)?: return owners(codec) / gathering
        case nil:
            if plan.pipelines.count == 2 { return nil }
            let exact = owners(.fp32)
            if plan.innerSteps > 1, [.bf16, .fp16, .int8].contains(plan.exchangeCodec) {
                let encoded = owners(plan.exchangeCodec)
                if encoded + 2 * way < 0.75 * min(gathering + way, exact + 2 * way) { return encoded / gathering }
            }
            return exact + 2 * way < 0.9 * (gathering + way) ? exact / gathering : nil
        }
    }

    /// The least time in which everything is owned, by halving an interval that holds it.
    static func ownerSeconds(contribution s: Double, sum: Double, up: [Double], down: [Double]) -> Double {
        let others = Double(up.count - 1)
        func owned(_ time: Double) -> Double {
            var all = 0.0
            for (u, d) in zip(up, down) {
                var share = 1.0
                if others * sum > s { share = min(share, (time * u - s) / (others * sum - s)) }
                if others * s > sum { share = min(share, (time * d - sum) / (others * s - sum)) }
                all += max(0, share)
            }
            return all
        }
        let least = max(s / up.min()!, sum / down.min()!)
        if owned(least) >= 1 { return least }
        var (low, high) = (least, least)
        while owned(high) < 1 { high *= 2 }
        for _ in 0..<200 {
            let middle = low + (high - low) / 2
            if owned(middle) < 1 { low = middle } else { high = middle }
        }
        return high
    }
}

/// The loss penalty of docs/COST.md, “Loss”, over the measured rows.
enum NaivePenalty {
    private static func power(_ x: Double, eighths: Int) -> Double {
        let root = x.squareRoot().squareRoot().squareRoot()
        return (0..<eighths).reduce(1) { product, _ in product * root }
    }
    private static func drift(_ M: Int, _ H: Int, _ steps: Int) -> Double {
        power(Double(H - 1) / 14, eighths: 2) * power(Double(M - 1) / 3, eighths: 5)
            * power(min(1, Double(steps) / 600), eighths: 1)
    }
    private static func codec(_ codec: Codec, _ H: Int, _ steps: Int) -> Double {
        switch codec {
        case .fp32: return 0
        case .bf16, .fp16: return 0.001
        case .int8: return 0.004
        case .int4: return H > 1 ? 0.008 : 0.02
        case .sparse(let k, _):
            let rounds = max(1, steps / H)
            return 0.03 / (Double(rounds * k) / 4096) + 0.027 * Double(k) / 1024
        case .lowrank: return 0.105
        }
    }
    private static func activations(_ codec: Codec) -> Double {
        switch codec {
        case .fp32: 0
        case .bf16, .fp16: 0.0005
        case .int8: 0.003
        case .int4: 0.04
        case .sparse, .lowrank: 0.5
        }
    }
    static func relative(_ plan: Plan, steps: Int) -> Double {
        let (M, H) = (plan.pipelines.count, plan.innerSteps)
        var penalty = activations(plan.activationCodec)
        if M > 1 || H > 1 { penalty += codec(plan.exchangeCodec, H, steps) }
        guard M > 1 else { return penalty }
        let a = LossPenalty.rows.filter { $0.innerSteps > 1 }.map { row in
            (row.loss / row.reference - 1 - codec(row.codec, row.innerSteps, row.steps))
                / drift(row.pipelines, row.innerSteps, row.steps)
        }.max()!
        penalty += a * drift(M, H, steps)
        let tau = Double(plan.exchangeDelay)
        let delay = 0.004 * tau * power(tau, eighths: 2)
        return penalty + (plan.exchangeCodec.isSparse ? 3 * delay : delay)
    }
}
