internal import Primitives

/// What a set of few peers can do at best as one pipeline, whatever its order and cut, by arithmetic alone: a search over all partitions
/// need not build the pipelines of those that this rules out.
struct GroupBounds {
    /// By set, a bit a peer: seconds of all peers' work on a micro-batch, shared out evenly by speed.
    private var compute: [Double]
    /// What a micro-batch takes on the busiest line: a peer in the middle sends and receives two messages, one at an end one.
    private var line: [Double]
    /// The way of one micro-batch there and back: all work at the greatest speed, and as many hops as there are, the shortest.
    private var way: [Double]
    private let microBatches: Double

    /// - Precondition: at most 12 peers.
    init(_ cost: CostModel, _ peers: [Int], _ pacing: Pacing) {
        let sets = 1 << peers.count
        let work = CostModel.passes(recompute: false) * cost.flops(cost.model.allUnits)
        let bytes = cost.activationBytes(pacing.activations)
        (compute, line, way) = ([0], [0], [0])
        microBatches = Double(pacing.microBatchesPerVirtual)
        var hops: [Double] = []
        for a in peers {
            for b in peers {
                hops.append(
                    cost.latency(a, b) + cost.latency(b, a) + bytes / cost.rate(a, b) + bytes / cost.rate(b, a))
            }
        }
        for set in 1..<sets {
            let members = peers.indices.filter { set & 1 << $0 != 0 }
            let speeds = members.map { cost.speeds[peers[$0]] }
            compute.append(work / speeds.reduce(0, +))
            let lines = members.map { bytes / min(cost.ups[peers[$0]], cost.downs[peers[$0]]) }.sorted(by: >)
            line.append(members.count == 1 ? 0 : max(lines[0], members.count > 2 ? 2 * lines[2] : 0))
            var shortest = Double.infinity
            for a in members { for b in members where a != b { shortest = min(shortest, hops[a * peers.count + b]) } }
            let between = members.count == 1 ? 0 : Double(members.count - 1) * shortest
            way.append(work / (speeds.max() ?? 1) + between)
        }
    }

    /// Below what a step takes in which these sets do a share of the batch together, each at least one virtual pipeline.
    func seconds(_ sets: [Int], share: Int) -> Double {
        // Above 0, so that steps below are no shorter than that.
        let each = sets.map { max(1e-300, microBatches * max(compute[$0], line[$0])) }
        var seconds = zip(sets, each).map { max(way[$0], $1) }.max() ?? 0
        seconds = max(seconds, Double(share) / each.reduce(0) { $0 + 1 / $1 })
        // Shares are whole: up to the next moment at which one of them is, until they are enough.
        for _ in 0..<share {
            let done = each.map { (seconds / $0 * (1 + 1e-9)).rounded(.down) }
            if done.reduce(0, +) >= Double(share) || !seconds.isFinite { break }
            seconds = zip(each, done).map { $0 * ($1 + 1) }.min() ?? seconds
        }
        return seconds * (1 - 1e-9)
    }
}
