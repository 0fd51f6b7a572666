/// How numbers are kept between steps. What is computed is computed in fp32; bf16 is the upper half of it.
public enum NumberFormat: String, Hashable, Sendable, CaseIterable {
    case fp32, bf16
    public var bytes: Int { self == .fp32 ? 4 : 2 }
}

/// The formats of what a stage keeps.
public struct KeptFormats: Hashable, Sendable {
    /// Of moments and error feedback.
    public var state: NumberFormat
    /// Of weights between steps. With rounds, those that holders agree on stay in fp32.
    public var weights: NumberFormat
    /// Whether the blocks' matrices have a second moment: not with Muon.
    public var hasSecondMoments = true
    /// Where only these move: no gradients and moments of the weights themselves.
    public var adapters: Adapters?
    public init(state: NumberFormat = .fp32, weights: NumberFormat = .fp32) {
        self.state = state
        self.weights = weights
    }
}
