public import Primitives
import Wire

/// The weights and optimizer state of one unit: raw little-endian fp32, tensors concatenated in canonical order.
public struct UnitState: Hashable, Sendable {
    public var unit: Int
    /// Outer parameters in `rounds` mode; the parameters otherwise.
    public var parameters: [UInt8]
    /// Empty in `everyStep` mode, and where the outer step has none.
    public var outerMomentum: [UInt8]
    /// Adam's m and v; empty when left out.
    public var firstMoment: [UInt8]
    public var secondMoment: [UInt8]
    /// Optimizer steps taken so far (for bias correction).
    public var optimizerSteps: Int
    public init(
        unit: Int, parameters: [UInt8], outerMomentum: [UInt8], firstMoment: [UInt8], secondMoment: [UInt8],
        optimizerSteps: Int
    ) {
        self.unit = unit
        self.parameters = parameters
        self.outerMomentum = outerMomentum
        self.firstMoment = firstMoment
        self.secondMoment = secondMoment
        self.optimizerSteps = optimizerSteps
    }
}

/// What holders of a unit agree on: content IDs (``ContentIndex``) of the raw bytes that
/// ``ComputeJob/exportState(units:includeMoments:)`` gives for it, so that a state can be fetched in chunks, each checked alone.
public struct UnitDigests: Hashable, Sendable {
    public var parameters: Digest256
    /// Nil where the outer step keeps none.
    public var outerMomentum: Digest256?
    public init(parameters: Digest256, outerMomentum: Digest256? = nil) {
        self.parameters = parameters
        self.outerMomentum = outerMomentum
    }
    /// Of a state at hand.
    public init(of state: UnitState) {
        parameters = ContentIndex.id(of: state.parameters)
        outerMomentum = state.outerMomentum.isEmpty ? nil : ContentIndex.id(of: state.outerMomentum)
    }
}
