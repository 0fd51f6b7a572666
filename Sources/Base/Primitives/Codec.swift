/// How numbers are written for the wire. The arithmetic is in `Exchange`; the name and the size live here, because the
/// planner needs them too.
public enum Codec: Hashable, Sendable, CustomStringConvertible {
    case fp32
    case bf16
    /// Block-wise absmax, 256 values a block.
    case int8
    case int4
    /// Top-k of each 4096-value tile with error feedback: sign and Lloyd magnitude (2 bits), Golomb-Rice indices.
    case sparse(k: Int)

    /// "fp32", "bf16", "int8", "int4", "sparse:k=64"; nil for anything else (k from 1 to 1024).
    public init?(_ text: String) {
        switch text {
        case "fp32": self = .fp32
        case "bf16": self = .bf16
        case "int8": self = .int8
        case "int4": self = .int4
        default:
            guard text.hasPrefix("sparse:k="), let k = Int(text.dropFirst(9)), (1...1024).contains(k) else {
                return nil
            }
            self = .sparse(k: k)
        }
    }
    /// Why ``init(_:)`` answered nil.
    public static func problem(_ text: String) -> String {
        "codec \(text): fp32, bf16, int8, int4 or sparse:k=K with K from 1 to 1024"
    }
    public var description: String {
        switch self {
        case .fp32: "fp32"
        case .bf16: "bf16"
        case .int8: "int8"
        case .int4: "int4"
        case .sparse(let k): "sparse:k=\(k)"
        }
    }
    public var isLossless: Bool { self == .fp32 }
    public var usesErrorFeedback: Bool { self != .fp32 }

    /// Bits for each value of a large tensor, headers left out; exact for the fixed-width codecs, expected for `sparse`.
    public var bitsPerValue: Double {
        switch self {
        case .fp32: return 32
        case .bf16: return 16
        case .int8: return 8 + 32.0 / 256
        case .int4: return 4 + 32.0 / 256
        case .sparse(let k):
            // Golomb–Rice spends about log2(e·4096/k) + 0.1 bits on an index; the value takes 2.
            var indexBits = 1.54
            var gap = 4096.0 / Double(k)
            while gap >= 2 {
                gap /= 2
                indexBits += 1
            }
            return (indexBits + (gap - 1) + 2) * Double(k) / 4096
        }
    }
    /// Expected bytes for `count` values.
    public func expectedBytes(for count: Int) -> Int { Int((Double(count) * bitsPerValue / 8).rounded(.up)) + 16 }
}
