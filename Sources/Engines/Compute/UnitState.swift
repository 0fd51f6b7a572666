import Digests
public import Primitives
public import Wire

/// The weights and optimizer state of one unit: raw little-endian fp32, tensors concatenated in canonical order.
public struct UnitState: Hashable, Sendable {
    public var unit: Int
    /// Outer parameters in `rounds` mode; the parameters otherwise.
    public var parameters: StoredBytes
    /// Empty in `everyStep` mode, and where the outer step has none.
    public var outerMomentum: StoredBytes
    /// Adam's m and v; empty when left out.
    public var firstMoment: StoredBytes
    public var secondMoment: StoredBytes
    /// Optimizer steps taken so far (for bias correction).
    public var optimizerSteps: Int
    /// What only this holder needs.
    public var residue = UnitResidue()
    /// Worked out where the state comes from; nil where that is for whoever needs them.
    public var indices: UnitIndices?
    public init(
        unit: Int, parameters: StoredBytes, outerMomentum: StoredBytes = StoredBytes(),
        firstMoment: StoredBytes = StoredBytes(), secondMoment: StoredBytes = StoredBytes(), optimizerSteps: Int
    ) {
        self.unit = unit
        self.parameters = parameters
        self.outerMomentum = outerMomentum
        self.firstMoment = firstMoment
        self.secondMoment = secondMoment
        self.optimizerSteps = optimizerSteps
    }
    /// All of it in memory.
    public init(
        unit: Int, parameters: [UInt8], outerMomentum: [UInt8], firstMoment: [UInt8], secondMoment: [UInt8],
        optimizerSteps: Int
    ) {
        self.init(
            unit: unit, parameters: StoredBytes(parameters), outerMomentum: StoredBytes(outerMomentum),
            firstMoment: StoredBytes(firstMoment), secondMoment: StoredBytes(secondMoment),
            optimizerSteps: optimizerSteps)
    }
    /// Lists of chunks are no part of it.
    public static func == (a: UnitState, b: UnitState) -> Bool {
        a.unit == b.unit && a.optimizerSteps == b.optimizerSteps && a.parameters == b.parameters
            && a.outerMomentum == b.outerMomentum && a.firstMoment == b.firstMoment && a.secondMoment == b.secondMoment
            && a.residue == b.residue
    }
    public func hash(into hasher: inout Hasher) {
        hasher.combine(unit)
        hasher.combine(optimizerSteps)
        hasher.combine(parameters)
    }
    /// Both moments, one after the other, as they travel.
    public var moments: [StoredBytes] { [firstMoment, secondMoment] }
}

/// Of what a state consists of: the lists of chunks that it is fetched by.
public struct UnitIndices: Hashable, Sendable {
    public var parameters: ContentIndex
    /// Nil where there is none.
    public var outerMomentum: ContentIndex?
    /// Of both, one after the other; nil where they are left out.
    public var moments: ContentIndex?
    public init(parameters: ContentIndex, outerMomentum: ContentIndex?, moments: ContentIndex?) {
        self.parameters = parameters
        self.outerMomentum = outerMomentum
        self.moments = moments
    }
    /// Of a state at hand; nil where what it was put down in does not give it.
    public init?(of state: UnitState) {
        func index(_ parts: [StoredBytes]) -> ContentIndex?? {
            guard parts.contains(where: { !$0.isEmpty }) else { return .some(nil) }
            return ContentIndex(ofParts: parts).map { .some($0) }
        }
        guard let parameters = ContentIndex(ofParts: [state.parameters]), let momentum = index([state.outerMomentum]),
            let moments = index(state.moments)
        else { return nil }
        self.init(parameters: parameters, outerMomentum: momentum, moments: moments)
    }
}

/// What a holder keeps of a unit that is nobody else's: with it the next rounds have the bits that they would have had, without it they
/// are as good.
public struct UnitResidue: Hashable, Sendable {
    /// Of one tree node (0 with rounds).
    public struct Node: Hashable, Sendable {
        public var node: Int
        /// What lossy codecs have not sent yet: fp32, as many as the unit's parameters; empty where there is none.
        public var feedback: StoredBytes
        /// Where the low-rank codec begins, one a tensor: fp32; empty where there is none.
        public var factors: [[UInt8]]
        public init(node: Int, feedback: StoredBytes, factors: [[UInt8]]) {
            self.node = node
            self.feedback = feedback
            self.factors = factors
        }
    }
    /// Ascending.
    public var nodes: [Node] = []
    /// With a delay: the weights that the round's steps begin with, fp32; empty where those are the outer ones.
    public var weights = StoredBytes()
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
    /// Of a state at hand; nil where what it was put down in does not give it.
    public init?(of state: UnitState) {
        guard let parameters = ContentIndex(ofParts: [state.parameters]) else { return nil }
        self.init(parameters: parameters.id)
        guard !state.outerMomentum.isEmpty else { return }
        guard let momentum = ContentIndex(ofParts: [state.outerMomentum]) else { return nil }
        outerMomentum = momentum.id
    }
}

/// SHA-256 of the parameters of units, one after the other: what the log says a job ended with. Nil where they are not to be had from where they
/// were put down.
public func weightsDigest(of states: [UnitState]) -> Digest256? {
    var hash = SHA256Stream()
    for state in states {
        guard state.parameters.eachPiece({ hash.update($0) }) else { return nil }
    }
    return hash.finish()
}
