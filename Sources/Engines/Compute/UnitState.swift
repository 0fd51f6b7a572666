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
    /// What only this holder needs.
    public var residue = UnitResidue()
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

/// What a holder keeps of a unit that is nobody else's: with it the next rounds have the bits that they would have had, without it they
/// are as good.
public struct UnitResidue: Hashable, Sendable {
    /// Of one tree node (0 with rounds).
    public struct Node: Hashable, Sendable {
        public var node: Int
        /// What lossy codecs have not sent yet: fp32, as many as the unit's parameters; empty where there is none.
        public var feedback: [UInt8]
        /// Where the low-rank codec begins, one a tensor: fp32; empty where there is none.
        public var factors: [[UInt8]]
        public init(node: Int, feedback: [UInt8], factors: [[UInt8]]) {
            self.node = node
            self.feedback = feedback
            self.factors = factors
        }
    }
    /// Ascending.
    public var nodes: [Node] = []
    /// With a delay: the weights that the round's steps begin with, fp32; empty where those are the outer ones.
    public var weights: [UInt8] = []
    public init() {}
    public var isEmpty: Bool { nodes.isEmpty && weights.isEmpty }
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
