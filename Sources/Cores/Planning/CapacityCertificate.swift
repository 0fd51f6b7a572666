internal import Primitives

/// Shows that peers cannot form the pipelines that a batch needs, whoever works with whom, by prices (weak duality of linear programming).
///
/// A peer in a pipeline of some share and some number of stages is worth a part of that pipeline: what it holds of the blocks, less
/// what it takes of the time in which a micro-batch goes through all of them, of the stages, and of the two ends. No pipeline is worth less than 1 at such
/// prices, so where all peers together are worth less than M pipelines whose shares make up the batch there are no such M.
struct CapacityCertificate {
    private let capacity: StageCapacity
    /// By share and peer: the largest part of a pipeline that the peer is worth, over all numbers of stages.
    private var parts: [Double]
    /// By share: whether any peer can be in such a pipeline.
    private let isUsed: [Bool]
    /// What a stage of the kind at hand may be, by peer: blocks at most; −1 where it cannot be that.
    private var middle: [Double]
    private var first: [Double]
    private var last: [Double]

    /// What a stage costs of a pipeline.
    private struct Prices {
        /// Of the time that a micro-batch may take: the part that is paid for it. Below 1.
        var time = 0.0
        /// A stage; an end of the pipeline; in blocks.
        var stage = 0.0
        var end = 0.0
    }
    /// Numbers of stages that are looked at together.
    private static let kinds = [2...2, 3...3, 4...4, 5...6, 7...9, 10...14, 15...24, 25...1_000_000]
    private static let powers = [4, 3, 2, 1, 0, 5, 6, 8, 12, 20]

    init(_ capacity: StageCapacity) {
        self.capacity = capacity
        middle = [Double](repeating: 0, count: capacity.peers.count)
        (first, last) = (middle, middle)
        parts = [Double](repeating: 0, count: capacity.shares.count * capacity.peers.count)
        isUsed = capacity.shares.indices.map { share in
            StageCapacity.Role.allCases.contains { role in
                let start = capacity.index(role, share)
                return capacity.most[start..<start + capacity.peers.count].contains {
                    $0 > 0 || $0 == 0 && role != .middle
                }
            }
        }
    }

    /// Whether some prices show that no plan fits.
    mutating func rulesOut() -> Bool {
        var prices = Prices()
        var least = worth(prices)
        if least < 1 { return true }
        // Changed one at a time as long as that helps.
        var (time, blocks) = (0.4, Double(max(1, capacity.blocks)) / 4)
        for _ in 0..<4 {
            for _ in 0..<3 {
                // Far from it nothing helps.
                if least > 1.6 { return false }
                let before = least
                for (a, b, c) in [(1.0, 0.0, 0.0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)] {
                    var next = prices
                    next.time = min(0.98, max(0, next.time + a * time))
                    next.stage = max(0, next.stage + b * blocks)
                    next.end += c * blocks
                    let found = worth(next)
                    if found < 1 { return true }
                    if found < least * (1 - 1e-6) { (least, prices) = (found, next) }
                }
                if least > before * 0.999 { break }
            }
            (time, blocks) = (time / 2, blocks / 3)
        }
        return false
    }

    /// What all peers are worth ÷ what pipelines need, at the best of several prices of shares.
    private mutating func worth(_ prices: Prices) -> Double {
        for index in parts.indices { parts[index] = 0 }
        for share in capacity.shares.indices { fill(share, prices) }
        var least = Double.infinity
        for power in CapacityCertificate.powers where capacity.shares.count > 1 || power == 4 {
            least = min(least, worth(power))
            if least < 1 - 1e-9 { break }
        }
        return least * (1 + 1e-9)
    }

    /// The same, where a pipeline is worth its share to this power, in quarters.
    private func worth(_ power: Int) -> Double {
        let count = capacity.peers.count
        var best = [Double](repeating: 0, count: count)
        for (place, share) in capacity.shares.enumerated() where isUsed[place] {
            let price = CapacityCertificate.price(share, power)
            for i in 0..<count { best[i] = max(best[i], price * parts[place * count + i]) }
        }
        return best.reduce(0, +) / need(power)
    }

    private mutating func fill(_ share: Int, _ prices: Prices) {
        let count = capacity.peers.count
        let start = share * count
        guard isUsed[share] else { return }
        for i in 0..<count where capacity.most[capacity.index(.single, share) + i] >= 0 { parts[start + i] = 1 }
        for role in [StageCapacity.Role.first, .middle, .last] {
            for i in 0..<count {
                let held = Double(capacity.most[capacity.index(role, share) + i])
                switch role {
                case .first: first[i] = held
                case .last: last[i] = held
                default: middle[i] = held
                }
            }
        }
        for kind in CapacityCertificate.kinds where kind.upperBound >= capacity.leastStages(share) {
            if kind.lowerBound > capacity.mostStages { break }
            guard let budget = capacity.budget(share, stages: min(kind.upperBound, capacity.mostStages)) else {
                continue
            }
            each(prices, budget) { parts[start + $0] = max(parts[start + $0], $1) }
        }
    }

    /// The part of a pipeline that each peer is worth at these prices.
    private func each(_ prices: Prices, _ budget: StageCapacity.Budget, _ body: (Int, Double) -> Void) {
        let blocks = Double(capacity.blocks)
        // All that a pipeline has: its blocks, less what its time, its stages and its ends cost.
        let need =
            blocks - prices.time * max(blocks, 1) - prices.stage * Double(budget.stages) - 2 * prices.end
        guard need > 1e-9 * max(blocks, 1) else {
            for i in middle.indices { body(i, 1e9) }
            return
        }
        let second = prices.time * max(blocks, 1) / budget.seconds
        for i in middle.indices {
            let spent = second * budget.block[i]
            func worth(_ held: Double, _ hops: Double, _ more: Double) -> Double {
                held < 0 || !hops.isFinite ? 0 : max(0, held * (1 - spent)) - second * hops - prices.stage - more
            }
            let best = max(
                worth(middle[i], budget.middle[i], 0), worth(first[i], budget.end[i], prices.end),
                worth(last[i], budget.end[i], prices.end))
            if best > 0 { body(i, min(1e9, best / need)) }
        }
    }

    private static func price(_ share: Int, _ power: Int) -> Double {
        let root = Double(share).squareRoot().squareRoot()
        var price = 1.0
        for _ in 0..<power { price *= root }
        return price
    }
    /// The least that M pipelines are worth whose shares add up to the batch: alike where the price rises faster than the share, else one
    /// large and all others small.
    private func need(_ power: Int) -> Double {
        let (count, all) = (capacity.pipelines, capacity.cost.job.virtualPipelines)
        func price(_ share: Int) -> Double { CapacityCertificate.price(share, power) }
        if power < 4 { return Double(count - 1) + price(all - count + 1) }
        let (each, more) = all.quotientAndRemainder(dividingBy: count)
        return Double(count - more) * price(each) + Double(more) * price(each + 1)
    }
}
