/// How numbers are written for the wire. The arithmetic is in `Exchange`; the name and the size live here, because the
/// planner needs them too.
public enum Codec: Hashable, Sendable, CustomStringConvertible {
    case fp32
    case bf16
    case fp16
    /// Block-wise absmax, 256 values a block.
    case int8
    case int4
    /// Top-k of each 4096-value tile with error feedback, k from 1 to 1024, indices in Golomb's code.
    case sparse(k: Int, values: SparseValues = .signMagnitude)
    /// Each matrix as the product of two of `rank` columns, 1 to 64 (PowerSGD, Vogels et al. 2019, arXiv 1905.13727);
    /// vectors, and matrices that would not get smaller, as fp32.
    case lowrank(rank: Int)

    /// "fp32", "bf16", "fp16", "int8", "int4", "sparse:k=64", "sparse:k=64,values=sign", "lowrank:r=4"; nil for
    /// anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var options: [Substring: Substring] = [:]
        if parts.count == 2 {
            for option in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
                let pair = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                guard pair.count == 2, options.updateValue(pair[1], forKey: pair[0]) == nil else { return nil }
            }
        }
        switch parts[0] {
        case "fp32" where parts.count == 1: self = .fp32
        case "bf16" where parts.count == 1: self = .bf16
        case "fp16" where parts.count == 1: self = .fp16
        case "int8" where parts.count == 1: self = .int8
        case "int4" where parts.count == 1: self = .int4
        case "sparse":
            guard let k = options.removeValue(forKey: "k").flatMap({ Int($0) }), (1...1024).contains(k),
                let values = SparseValues(rawValue: String(options.removeValue(forKey: "values") ?? "sign-magnitude")),
                options.isEmpty
            else { return nil }
            self = .sparse(k: k, values: values)
        case "lowrank":
            guard let rank = options.removeValue(forKey: "r").flatMap({ Int($0) }), (1...64).contains(rank),
                options.isEmpty
            else { return nil }
            self = .lowrank(rank: rank)
        default: return nil
        }
    }

    /// What to say where ``init(_:)`` answered nil.
    public static func problem(_ text: String) -> String {
        "codec \"\(text)\"; allowed are fp32, bf16, fp16, int8, int4, sparse:k=K with K from 1 to 1024, for example "
            + "sparse:k=64 or sparse:k=64,values=sign (sign, sign-magnitude or 2-bit), and lowrank:r=R with R from 1 to 64"
    }

    public var description: String {
        switch self {
        case .fp32: "fp32"
        case .bf16: "bf16"
        case .fp16: "fp16"
        case .int8: "int8"
        case .int4: "int4"
        case .sparse(let k, .signMagnitude): "sparse:k=\(k)"
        case .sparse(let k, let values): "sparse:k=\(k),values=\(values.rawValue)"
        case .lowrank(let rank): "lowrank:r=\(rank)"
        }
    }
    public var isLossless: Bool { self == .fp32 }
    public var usesErrorFeedback: Bool { self != .fp32 }
    public var isSparse: Bool {
        if case .sparse = self { return true }
        return false
    }

    /// What the activations between stages may be written with: codecs that send every value.
    public var suitsActivations: Bool {
        switch self {
        case .fp32, .bf16, .fp16, .int8, .int4: true
        case .sparse, .lowrank: false
        }
    }

    /// The largest error of a decoded value, as a share of a magnitude that must be finite and in fp32's normal range:
    /// the value's own (bf16; fp16 between 2⁻¹⁴ and 65504), or the largest of its block of 256 (int8, int4). Nil where
    /// there is no such bound. Up to 2⁻²² more for int8 and int4: one division and two multiplications are rounded.
    public var errorBound: Double? {
        switch self {
        case .fp32: 0
        case .bf16: 1.0 / 256
        case .fp16: 1.0 / 2048
        case .int8: 1.0 / 254
        case .int4: 1.0 / 14
        case .sparse, .lowrank: nil
        }
    }
}

/// How the sparse codec writes an entry's value.
public enum SparseValues: String, Hashable, Sendable, CaseIterable {
    /// One bit; one magnitude for a group of 16 tiles.
    case sign
    /// Two bits: the sign and one of two magnitudes, found by Lloyd's algorithm.
    case signMagnitude = "sign-magnitude"
    /// Two bits: one of four levels, two for each sign, each found by Lloyd's algorithm.
    case twoBit = "2-bit"
}

extension Codec {
    /// What `sparse` multiplies the error feedback by before the values are added, unless the sender asks for another.
    /// Measured on the reference job (docs/BENCHMARKS.md, “Exchange”): what has waited for several rounds belongs to
    /// weights that are no more, and 0.7 ends 3 % lower in loss than the 0.95 of SparseLoCo (arXiv 2508.15706).
    public static let feedbackDecay: Float = 0.7
}
