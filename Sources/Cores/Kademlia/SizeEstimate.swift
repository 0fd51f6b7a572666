import Primitives

/// How many nodes there are, from how close the closest are: with N nodes the i-th closest lies at i/(N+1) of the key space
/// on average. Each walk gives one sample of that spacing, and so does the own neighbourhood in the routing table. Samples
/// count for ten minutes, the latest sixteen at most, so that a network may grow.
struct SizeEstimate: Sendable {
    private var samples: [(at: Instant, spacing: Double)] = []
    static let memory = Duration.seconds(600)

    /// - Parameter distances: of the closest live nodes, ascending, as fractions of the key space.
    mutating func learn(_ distances: [Double], at now: Instant) {
        guard let sample = Self.spacing(distances) else { return }
        if samples.count >= 16 { samples.removeFirst() }
        samples.append((now, sample))
    }

    /// The mean spacing of nodes as a fraction of the key space; nil while too little is known.
    ///
    /// - Parameter neighbourhood: distances from the own ID to the closest contacts.
    func spacing(neighbourhood: [Double], at now: Instant) -> Double? {
        var sum = 0.0
        var count = 0
        for sample in samples where now - sample.at < Self.memory {
            sum += sample.spacing
            count += 1
        }
        if let here = Self.spacing(neighbourhood) {
            sum += here
            count += 1
        }
        return count == 0 ? nil : sum / Double(count)
    }

    /// Least squares through the origin: Σ i·dᵢ ÷ Σ i².
    private static func spacing(_ distances: [Double]) -> Double? {
        guard distances.count >= 2 else { return nil }
        var weighted = 0.0
        var squares = 0.0
        for (index, distance) in distances.enumerated() {
            let rank = Double(index + 1)
            weighted += rank * distance
            squares += rank * rank
        }
        return max(weighted / squares, 0x1p-64)
    }
}
