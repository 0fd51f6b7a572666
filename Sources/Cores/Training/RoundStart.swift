public import Primitives

/// Which of a member's round starts.
public struct StartName: Hashable, Comparable, Sendable {
    public var round: Int
    /// The first unit of a copy of what others hold; nil: the member's own stage.
    public var copyFrom: Int?
    public init(round: Int, copyFrom: Int? = nil) {
        self.round = round
        self.copyFrom = copyFrom
    }
    public var isCopy: Bool { copyFrom != nil }
    public static func < (a: StartName, b: StartName) -> Bool {
        (a.round, a.copyFrom ?? -1) < (b.round, b.copyFrom ?? -1)
    }
}

/// A stage of a pipeline as of the start of a round, with all that makes the rounds after it the same bits: what a member writes to its own
/// disk, so that everything may be switched off. Or a copy of others' units, for when all who hold them are gone: rank 0, no share, no moments.
///
/// As bytes: a line that names the format; the job (32 bytes); round, epoch, rank, how many virtual pipelines and which, how many units (u64 each);
/// of each unit its number, its optimizer's steps, parameters, outer momentum, first and second moments, other weights (each after its
/// length, u64), how many nodes of residue and of each its number, its error feedback and how many factors and which; then the SHA-256 of all
/// of it. Little-endian.
public struct RoundStart: Hashable, Sendable {
    public var job: Digest256
    public var round: Int
    /// Of the plan under which it was written.
    public var epoch: Int
    /// Of the pipeline.
    public var rank: Int
    /// Its virtual pipelines.
    public var share: [Int]
    /// Consecutive, ascending.
    public var states: [UnitState]

    public init(job: Digest256, round: Int, epoch: Int, rank: Int, share: [Int], states: [UnitState]) {
        self.job = job
        self.round = round
        self.epoch = epoch
        self.rank = rank
        self.share = share
        self.states = states
    }

    /// Of units that are others', without moments and residue: nobody's share of the batch.
    public var isCopy: Bool { share.isEmpty }
    public var name: StartName { StartName(round: round, copyFrom: isCopy ? units.lowerBound : nil) }
    public var units: Range<Int> {
        guard let first = states.first?.unit else { return 0..<0 }
        return first..<first + states.count
    }
}

/// A round start that was read back, and what its group agreed on: worked out where it was read, off the loop. A unit that could not be read has no
/// digests.
public struct VerifiedRoundStart: Hashable, Sendable {
    public let start: RoundStart
    /// By unit.
    public let digests: [Int: UnitDigests]
    public init(_ start: RoundStart) {
        self.start = start
        digests = Dictionary(
            uniqueKeysWithValues: start.states.compactMap { state in UnitDigests(of: state).map { (state.unit, $0) } })
    }
}
