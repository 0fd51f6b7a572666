/// The critical batch B_c: to the same loss a batch of B tokens needs 1 + B/B_c times the data of a small one, so that beyond B_c
/// larger batches save few steps (McCandlish et al. 2018, eq. 2.11).
public struct CriticalBatch: Hashable, Sendable {
    public var tokens: Double
    /// - Precondition: `tokens` > 0.
    public init(tokens: Double) {
        precondition(tokens > 0, "a critical batch of \(tokens) tokens")
        self.tokens = tokens
    }

    /// How much more data a batch of `batch` tokens needs than one of `reference`.
    public func excess(batch: Int, reference: Int) -> Double {
        (1 + Double(batch) / tokens) / (1 + Double(reference) / tokens)
    }
    /// Tokens with which `batch` reaches what `budget` tokens reach with `reference`.
    public func budget(_ budget: Int, batch: Int, reference: Int) -> Int {
        if batch == reference { return budget }
        return Int((Double(budget) * excess(batch: batch, reference: reference)).rounded())
    }
}
