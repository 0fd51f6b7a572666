import Kernels
public import Primitives

/// Weights for reading only, shared by any number of ``InferenceSession``s. Half the memory, and half the time a token, where they
/// are bfloat16 to begin with.
public final class InferenceModel: @unchecked Sendable {
    public enum Storage: Sendable { case fp32, bf16 }
    public let shape: ModelShape
    public let storage: Storage
    /// One buffer a unit, canonical order.
    private var units: [UnsafeMutableRawPointer?]

    /// Nothing is filled yet: ``fill(unit:_:)``.
    public init(_ shape: ModelShape, storage: Storage) {
        self.shape = shape
        self.storage = storage
        units = [UnsafeMutableRawPointer?](repeating: nil, count: shape.unitCount)
    }
    deinit { for unit in units { unit?.deallocate() } }

    private var bytesPerValue: Int { storage == .fp32 ? 4 : 2 }

    /// Gives a unit its values, in canonical order. With `bf16` storage they must be values of that type.
    public func fill(unit: Int, _ values: UnsafeBufferPointer<Float>) {
        precondition(values.count == shape.parameters(unit: unit), "\(values.count) values for unit \(unit)")
        let buffer = units[unit] ?? .allocate(byteCount: max(64, values.count * bytesPerValue), alignment: 64)
        units[unit] = buffer
        switch storage {
        case .fp32: buffer.copyMemory(from: values.baseAddress!, byteCount: 4 * values.count)
        case .bf16:
            let halves = buffer.bindMemory(to: UInt16.self, capacity: values.count)
            for (index, value) in values.enumerated() {
                halves[index] = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
            }
        }
    }

    /// A matrix or vector within a unit.
    struct Part {
        let base: UnsafeRawPointer
        let count: Int
        let storage: Storage
    }
    func part(unit: Int, offset: Int, count: Int) -> Part {
        guard let buffer = units[unit] else { preconditionFailure("unit \(unit) was not filled") }
        return Part(base: UnsafeRawPointer(buffer) + offset * bytesPerValue, count: count, storage: storage)
    }

    /// Where the tensors of a block begin; nil where it has none such.
    struct Offsets {
        var inputGain = 0
        var qkv = 0
        var qkvBias: Int?
        var queryGain: Int?
        var keyGain: Int?
        var output = 0
        var outputBias: Int?
        var middleGain = 0
        var gateUp = 0
        var down = 0

        init(_ shape: ModelShape) {
            var offset = 0
            for tensor in shape.tensors(unit: 1) {
                switch tensor.name.split(separator: ".").suffix(2).joined(separator: ".") {
                case "input_layernorm.weight": inputGain = offset
                case "q_proj.weight": qkv = offset
                case "q_proj.bias": qkvBias = offset
                case "q_norm.weight": queryGain = offset
                case "k_norm.weight": keyGain = offset
                case "o_proj.weight": output = offset
                case "o_proj.bias": outputBias = offset
                case "post_attention_layernorm.weight": middleGain = offset
                case "gate_proj.weight": gateUp = offset
                case "down_proj.weight": down = offset
                default: break
                }
                offset += tensor.count
            }
        }
    }
}
