/// Low-rank adapters (LoRA, Hu et al. 2021, 2106.09685): of the blocks' matrices named, W + (alpha ÷ rank)·B·A, only A [rank, in] and
/// B [out, rank] move.
///
/// They live within a round. What peers exchange is what B·A has become, as a change of W, never A and B apart: averages of
/// factors are not factors of the average. With the next round new ones begin, from zero (ReLoRA, 2307.05695).
public struct Adapters: Hashable, Sendable {
    public enum Target: String, Hashable, Sendable, CaseIterable { case q, k, v, o, gate, up, down }

    public var rank: Int
    public var alpha: Double
    /// In the order of ``Target/allCases``.
    public var targets: [Target]
    public init(rank: Int, alpha: Double, targets: [Target] = Target.allCases) {
        self.rank = rank
        self.alpha = alpha
        self.targets = Target.allCases.filter { targets.contains($0) }
    }

    /// Whether a tensor of a block has an adapter.
    public func adapts(_ tensor: ModelShape.Tensor) -> Bool {
        targets.contains { tensor.name.hasSuffix(".\($0.rawValue)_proj.weight") }
    }
    /// Values of A and B together, of one block.
    public func parameters(_ shape: ModelShape) -> Int {
        shape.tensors(unit: 1).filter(adapts).reduce(0) { $0 + rank * ($1.shape[0] + $1.shape[1]) }
    }
}
