public import Compute
import Digests
import Kernels
public import Primitives
import Wire

/// All weights of a model: per unit, the tensors flat and concatenated in canonical order.
public struct ModelParameters: Hashable, Sendable {
    public let shape: ModelShape
    /// One array a unit, ``ModelShape/parameters(unit:)`` values each.
    public private(set) var units: [[Float]]

    /// nil unless `units` fits the shape.
    public init?(shape: ModelShape, units: [[Float]]) {
        guard units.count == shape.unitCount,
            zip(shape.allUnits, units).allSatisfy({ shape.parameters(unit: $0) == $1.count })
        else { return nil }
        self.shape = shape
        self.units = units
    }

    /// From exported states that together cover every unit once, and can be read; nil otherwise.
    public init?(shape: ModelShape, states: [UnitState]) {
        var units = [[Float]](repeating: [], count: shape.unitCount)
        for state in states {
            guard shape.allUnits.contains(state.unit), units[state.unit].isEmpty,
                state.parameters.count == 4 * shape.parameters(unit: state.unit),
                let values = floats(state.parameters)
            else { return nil }
            units[state.unit] = values
        }
        self.init(shape: shape, units: units)
    }

    /// The weights every job starts from: a function of the seed and the tensors' names.
    public init(initialFor shape: ModelShape, seed: UInt64) {
        self.shape = shape
        units = shape.allUnits.map { unit in
            shape.tensors(unit: unit).flatMap { tensor in
                [Float](unsafeUninitializedCapacity: tensor.count) { values, count in
                    initialise(values, tensor: tensor, shape: shape, seed: seed)
                    count = tensor.count
                }
            }
        }
    }

    /// The values of one tensor.
    public func values(_ name: String) -> ArraySlice<Float>? {
        for unit in shape.allUnits {
            var offset = 0
            for tensor in shape.tensors(unit: unit) {
                if tensor.name == name { return units[unit][offset..<offset + tensor.count] }
                offset += tensor.count
            }
        }
        return nil
    }

    /// Parameters only, ready for ``ComputeJob/importState(_:)``; moments start again.
    public var states: [UnitState] {
        units.enumerated().map { unit, values in
            UnitState(
                unit: unit, parameters: values.withUnsafeBytes { [UInt8]($0) }, outerMomentum: [], firstMoment: [],
                secondMoment: [], optimizerSteps: 0)
        }
    }

    /// SHA-256 over all raw little-endian fp32 values in canonical order: the name of a set of weights.
    public var weightsDigest: Digest256 {
        var stream = SHA256Stream()
        for unit in units { unit.withUnsafeBytes { stream.update($0) } }
        return stream.finish()
    }
}

/// Raw little-endian fp32 to numbers; the count is that of the whole values.
func floats(fromLittleEndian bytes: [UInt8]) -> [Float] {
    [Float](unsafeUninitializedCapacity: bytes.count / 4) { values, count in
        count = bytes.count / 4
        UnsafeMutableRawBufferPointer(values).copyBytes(from: bytes[..<(count * 4)])
    }
}

/// The same of bytes that lie elsewhere; nil where they are not to be had.
func floats(_ bytes: StoredBytes) -> [Float]? {
    var isThere = true
    let out = [Float](unsafeUninitializedCapacity: bytes.count / 4) { values, count in
        count = bytes.count / 4
        values.baseAddress?.initialize(repeating: 0, count: count)
        isThere = bytes.fill(
            0, UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(values)[..<(4 * count)]))
    }
    return isThere ? out : nil
}

/// Fills a tensor with its first values: ones for norm gains, zeros for biases; normal with deviation 0.02 for matrices, divided by √(2L)
/// for the two that write to the residual stream (Radford et al. 2019, §2.3). The stream depends on the tensor's name
/// alone.
func initialise(
    _ values: UnsafeMutableBufferPointer<Float>, tensor: ModelShape.Tensor, shape: ModelShape, seed: UInt64
) {
    guard tensor.shape.count > 1 else {
        values.update(repeating: tensor.name.hasSuffix(".bias") ? 0 : 1)
        return
    }
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325  // FNV-1a
    for byte in tensor.name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    var generator = SeededGenerator(seed: seed, stream: hash)
    let writesResidual = tensor.name.hasSuffix("o_proj.weight") || tensor.name.hasSuffix("down_proj.weight")
    let deviation = writesResidual ? 0.02 / Double(2 * shape.layers).squareRoot() : 0.02
    // Box–Muller, both values of each pair.
    for index in stride(from: 0, to: values.count, by: 2) {
        let radius = deviation * (-2 * kernels_log(1 - generator.uniform())).squareRoot()
        let angle = 2 * Double.pi * generator.uniform()
        values[index] = Float(radius * kernels_cos(angle))
        if index + 1 < values.count { values[index + 1] = Float(radius * kernels_sin(angle)) }
    }
}
