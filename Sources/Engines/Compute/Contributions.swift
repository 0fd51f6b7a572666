public import Wire

/// One sum a pipeline contributes for one unit, encoded tensor by tensor (each as a u32 length and the codec's bytes).
///
/// In `rounds` mode there is one for each unit: the pseudo-gradient, `node` = 0. In `everyStep` mode there is one for
/// each maximal aligned subtree of the binary tree over virtual pipelines that the pipeline covers; `node` is the
/// subtree's heap index (1 = root, children 2n and 2n+1, leaves at 2^⌈log₂V⌉ + virtual pipeline). Sums are always
/// folded sibling with sibling, a missing sibling (lost, or beyond V) being skipped, so the result does not depend on
/// which pipeline held which share.
public struct UnitContribution: Hashable, Sendable {
    public var unit: Int
    public var node: Int
    public var bytes: StoredBytes
    public init(unit: Int, node: Int, bytes: StoredBytes) {
        self.unit = unit
        self.node = node
        self.bytes = bytes
    }
    /// In memory.
    public init(unit: Int, node: Int, bytes: [UInt8]) { self.init(unit: unit, node: node, bytes: StoredBytes(bytes)) }
}

/// One pipeline's part of a round, as decoded by a receiver.
public struct RankedContribution: Hashable, Sendable {
    /// Position of the pipeline in the plan: the order of sums.
    public var rank: Int
    /// Micro-batches counted in it: the weight of an average.
    public var microBatches: Int
    public var units: [UnitContribution]
    public init(rank: Int, microBatches: Int, units: [UnitContribution]) {
        self.rank = rank
        self.microBatches = microBatches
        self.units = units
    }
}

/// The parts of one contributor to one chunk, as they travel: for each tree node a u32 node, a u32 length and the bytes of
/// the chunk's pieces.
public struct ChunkContribution: Hashable, Sendable {
    public var rank: Int
    public var microBatches: Int
    public var bytes: [UInt8]
    public init(rank: Int, microBatches: Int, bytes: [UInt8]) {
        self.rank = rank
        self.microBatches = microBatches
        self.bytes = bytes
    }
}

/// What a unit's owners made of all contributions: the averages of its chunks, as they travel.
public struct UnitAggregate: Hashable, Sendable {
    public var unit: Int
    public var chunks: [[UInt8]]
    public init(unit: Int, chunks: [[UInt8]]) {
        self.unit = unit
        self.chunks = chunks
    }
}
