/// How a checkpoint stores its values.
public enum ElementType: String, Sendable, CaseIterable {
    case fp32 = "F32"
    case fp16 = "F16"
    case bf16 = "BF16"

    public var bytes: Int { self == .fp32 ? 4 : 2 }
    /// PyTorch's word, as `torch_dtype` has it.
    public var torchName: String {
        switch self {
        case .fp32: "float32"
        case .fp16: "float16"
        case .bf16: "bfloat16"
        }
    }
    public init?(torchName: String) {
        guard let found = Self.allCases.first(where: { $0.torchName == torchName }) else { return nil }
        self = found
    }

    /// Reads `values.count` values from raw little-endian bytes, exactly. The place of the first that is not finite, if any.
    public func read(_ raw: UnsafeRawBufferPointer, into values: UnsafeMutableBufferPointer<Float>) -> Int? {
        precondition(raw.count == values.count * bytes, "\(raw.count) bytes for \(values.count) values of \(rawValue)")
        switch self {
        case .fp32: UnsafeMutableRawBufferPointer(values).copyMemory(from: raw)
        case .bf16:
            for index in values.indices {
                let half = raw.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
                values[index] = Float(bitPattern: UInt32(half) << 16)
            }
        case .fp16:
            for index in values.indices {
                values[index] = Self.value(ofHalf: raw.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
            }
        }
        return values.firstIndex { !$0.isFinite }
    }

    /// Writes values as raw little-endian bytes, rounded to nearest, ties to even. The place of the first that is not finite
    /// in this type, if any.
    public func write(_ values: UnsafeBufferPointer<Float>, into raw: UnsafeMutableRawBufferPointer) -> Int? {
        precondition(raw.count == values.count * bytes, "\(raw.count) bytes for \(values.count) values of \(rawValue)")
        switch self {
        case .fp32:
            raw.copyMemory(from: UnsafeRawBufferPointer(values))
            return values.firstIndex { !$0.isFinite }
        case .bf16:
            var bad: Int?
            for index in values.indices {
                let bits = values[index].bitPattern
                let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
                if rounded & 0x7F80 == 0x7F80, bad == nil { bad = index }
                raw.storeBytes(of: UInt16(truncatingIfNeeded: rounded), toByteOffset: 2 * index, as: UInt16.self)
            }
            return bad
        case .fp16:
            var bad: Int?
            for index in values.indices {
                let half = Self.half(of: values[index])
                if half & 0x7C00 == 0x7C00, bad == nil { bad = index }
                raw.storeBytes(of: half, toByteOffset: 2 * index, as: UInt16.self)
            }
            return bad
        }
    }

    /// IEEE 754 binary16.
    static func value(ofHalf half: UInt16) -> Float {
        let exponent = UInt32(half >> 10 & 31), mantissa = UInt32(half & 1023), sign = UInt32(half & 0x8000) << 16
        switch exponent {
        case 0: return Float(bitPattern: (Float(mantissa) * 0x1p-24).bitPattern | sign)
        case 31: return Float(bitPattern: 0x7F80_0000 | mantissa << 13 | sign)
        default: return Float(bitPattern: (exponent + 112) << 23 | mantissa << 13 | sign)
        }
    }

    /// The nearest binary16, ties to even; too large is infinite.
    static func half(of value: Float) -> UInt16 {
        let bits = value.bitPattern
        let sign = UInt16(truncatingIfNeeded: bits >> 16 & 0x8000)
        let magnitude = bits & 0x7FFF_FFFF
        if magnitude >= 0x7F80_0000 { return sign | 0x7C00 | (magnitude > 0x7F80_0000 ? 0x200 : 0) }
        if magnitude >= 0x477F_F000 { return sign | 0x7C00 }
        if magnitude < 0x3880_0000 {
            // Below 2⁻¹⁴: adding 2⁻¹ puts the last place of the result at the end of the mantissa, and rounds.
            let shifted = Float(bitPattern: magnitude) + 0.5
            return sign | UInt16(truncatingIfNeeded: shifted.bitPattern - 0x3F00_0000)
        }
        let rounded = magnitude &+ 0xFFF &+ (magnitude >> 13 & 1)
        return sign | UInt16(truncatingIfNeeded: (rounded - 0x3800_0000) >> 13)
    }
}
