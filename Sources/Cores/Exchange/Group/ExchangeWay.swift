public import Primitives

/// How the contributions of a round become one aggregate at every holder of a unit. `docs/WIRE.md`, “Exchange”.
public enum ExchangeWay: Hashable, Sendable, CustomStringConvertible {
    /// Every holder sends its contribution to every other, and each adds them all up in rank order.
    case allGather
    /// Each chunk has an owner, who adds in rank order and sends the sum to all in fp32: the same bits as all-gather.
    case reduceScatter
    /// The same, with the sum encoded anew: lossy, the same bits everywhere.
    case owner(Codec)

    /// "all-gather" (or nothing), "reduce-scatter", "owner:CODEC"; nil for anything else.
    public init?(_ text: String) {
        switch text {
        case "", "all-gather": self = .allGather
        case "reduce-scatter": self = .reduceScatter
        default:
            guard text.hasPrefix("owner:"), let codec = Codec(String(text.dropFirst(6))) else { return nil }
            self = .owner(codec)
        }
    }
    public var description: String {
        switch self {
        case .allGather: "all-gather"
        case .reduceScatter: "reduce-scatter"
        case .owner(let codec): "owner:\(codec)"
        }
    }
    /// Whether chunks have owners.
    public var hasOwners: Bool { self != .allGather }
    /// What an owner encodes its sums with.
    public var aggregateCodec: Codec {
        if case .owner(let codec) = self { return codec }
        return .fp32
    }
}
