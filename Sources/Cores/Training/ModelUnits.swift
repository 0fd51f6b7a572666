import Digests
public import Primitives
import Wire

/// All weights of a model, read unit by unit from where they were put down: a model may be larger than the memory of whoever only hands it on.
public struct ModelUnits: Sendable {
    public let shape: ModelShape
    private let states: [UnitState]

    /// From states that together cover every unit once; nil otherwise.
    public init?(shape: ModelShape, states: [UnitState]) {
        let ordered = states.sorted { $0.unit < $1.unit }
        guard ordered.map(\.unit) == Array(shape.allUnits),
            ordered.allSatisfy({ $0.parameters.count == 4 * shape.parameters(unit: $0.unit) })
        else { return nil }
        self.shape = shape
        self.states = ordered
    }
    /// Of weights in memory; a unit's bytes are made when it is asked for.
    public init(_ parameters: ModelParameters) {
        shape = parameters.shape
        states = parameters.states
    }

    /// One unit's values in canonical order; nil where they are not to be had any more.
    public func values(_ unit: Int) -> [Float]? { floats(states[unit].parameters) }
    /// One unit, for ``ComputeJob/importState(_:)``; moments start again.
    func state(_ unit: Int) -> UnitState {
        UnitState(unit: unit, parameters: states[unit].parameters, optimizerSteps: 0)
    }
    /// SHA-256 of all values, as ``ModelParameters/weightsDigest``; nil where they are not to be had any more.
    public var weightsDigest: Digest256? { Training.weightsDigest(of: states) }
    /// All in memory; nil where they are not to be had any more.
    public var parameters: ModelParameters? { ModelParameters(shape: shape, states: states) }
}
