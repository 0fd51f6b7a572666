/// How many nodes there are, from how close the closest are: with N nodes the i-th closest lies at i/(N+1) of the key space
/// on average. Each walk gives one sample of the spacing; samples are smoothed.
struct SizeEstimate: Sendable {
    private var spacing: Double?

    /// - Parameter distances: of the closest live nodes, ascending, as fractions of the key space.
    mutating func learn(_ distances: [Double]) {
        guard distances.count >= 2 else { return }
        // Least squares through the origin: Σ i·dᵢ ÷ Σ i².
        var weighted = 0.0
        var squares = 0.0
        for (index, distance) in distances.enumerated() {
            let rank = Double(index + 1)
            weighted += rank * distance
            squares += rank * rank
        }
        let sample = weighted / squares
        spacing = spacing.map { $0 * 0.875 + sample * 0.125 } ?? sample
    }
    var nodes: Double? { spacing.map { max(1, 1 / max($0, 0x1p-64) - 1) } }
}
