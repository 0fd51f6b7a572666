/// What an exchange takes over access lines: closed forms, in seconds, bytes and bytes a second. `docs/COST.md`.
///
/// One contribution has `s` bytes, one aggregate `s₂`, there are n members with lines uᵢ up and dᵢ down; latency is left
/// out. Nobody can do better than s ÷ min u: a contribution leaves its sender at least once.
public enum ExchangeCost {
    /// Every member sends n − 1 copies and receives n − 1 contributions: max((n−1)·s ÷ min u, (n−1)·s ÷ min d).
    public static func allGatherSeconds(contribution: Double, up: [Double], down: [Double]) -> Double {
        guard let slowest = (up + down).min(), up.count > 1 else { return 0 }
        return Double(up.count - 1) * contribution / slowest
    }

    /// The best shares for owners, and the time they take.
    ///
    /// An owner of the share w sends s·(1−w) to the others and (n−1)·s₂·w to all, and receives (n−1)·s·w and s₂·(1−w). So
    /// within T it can own wᵢ(T) = min((T·uᵢ − s) ÷ ((n−1)s₂ − s), (T·dᵢ − s₂) ÷ ((n−1)s − s₂)), from 0 to 1; T is the
    /// least one at which these reach 1 together (water filling), and at least max(s ÷ min u, s₂ ÷ min d). For s = s₂ = V
    /// and bᵢ = min(uᵢ, dᵢ) that is T = max(V·(n − 2 + |A|) ÷ Σ_A b, V ÷ min b), A being those with T·b > V.
    ///
    /// - Returns: shares that add up to 1, in the order of the lines.
    public static func ownerShares(
        contribution s: Double, aggregate s2: Double, up: [Double], down: [Double]
    ) -> (seconds: Double, shares: [Double]) {
        let n = up.count
        precondition(n == down.count && n > 0, "\(n) lines up, \(down.count) down")
        guard n > 1, s > 0 else { return (0, up.map { _ in 1 / Double(n) }) }
        let others = Double(n - 1)
        let upSlope = others * s2 - s
        let downSlope = others * s - s2
        func room(_ index: Int, _ time: Double) -> Double {
            let sending = upSlope > 0 ? (time * up[index] - s) / upSlope : 1
            let receiving = downSlope > 0 ? (time * down[index] - s2) / downSlope : 1
            return max(0, min(1, min(sending, receiving)))
        }
        func total(_ time: Double) -> Double { up.indices.reduce(0) { $0 + room($1, time) } }
        var low = 0.0
        var high = 0.0
        for index in up.indices {
            low = max(low, max(s / up[index], s2 / down[index]))
            high = max(high, max((s + max(0, upSlope)) / up[index], (s2 + max(0, downSlope)) / down[index]))
        }
        high = max(low, high)
        if total(low) < 1 {
            // The sum of the rooms rises with time and is n at `high`: sixty halvings are exact to rounding.
            for _ in 0..<60 where high - low > 1e-9 * high {
                let middle = (low + high) / 2
                if total(middle) < 1 { low = middle } else { high = middle }
            }
            low = high
        }
        let rooms = up.indices.map { room($0, low) }
        let sum = rooms.reduce(0, +)
        return (low, rooms.map { $0 / sum })
    }

    /// Who owns each chunk: every owner's chunks are spread evenly, so that all of them have something to add up from the
    /// first moment to the last. Ties go to the lower rank.
    ///
    /// - Parameter sizes: of the chunks, in any unit.
    public static func owners(of sizes: [Int], ranks: [Int], shares: [Double]) -> [Int] {
        var credit = shares.map { _ in 0.0 }
        return sizes.map { size in
            for index in credit.indices { credit[index] += shares[index] * Double(size) }
            var best = 0
            for index in credit.indices where credit[index] > credit[best] { best = index }
            credit[best] -= Double(size)
            return ranks[best]
        }
    }

    /// Adaptive patience for something that took `seconds` the last times: median + 6 · MAD, at least twice the median, and
    /// `slack` on top. Nil with fewer than three samples.
    public static func patience(_ seconds: [Double], slack: Double) -> Double? {
        guard seconds.count >= 3 else { return nil }
        let sorted = seconds.sorted()
        let median = sorted[sorted.count / 2]
        let deviations = sorted.map { abs($0 - median) }.sorted()
        return max(median * 2, median + 6 * deviations[deviations.count / 2]) + slack
    }
}
