import Digests
public import Primitives
public import Wire

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

    // MARK: bytes

    public static let format = "atoll-round-start 1\n"
    private static let most = 1 << 16
    private static let largest = 1 << 40

    public var encoded: [UInt8] {
        let bytes = states.reduce(0) { $0 + 6 * $1.parameters.count + 256 }
        var writer = ByteWriter(capacity: bytes + 256)
        func list(_ bytes: [UInt8]) {
            writer.u64(UInt64(bytes.count))
            writer.raw(bytes)
        }
        writer.raw(Array(Self.format.utf8))
        writer.raw(job.bytes)
        for number in [round, epoch, rank, share.count] + share + [states.count] { writer.u64(UInt64(number)) }
        for state in states {
            writer.u64(UInt64(state.unit))
            writer.u64(UInt64(state.optimizerSteps))
            for part in [
                state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment, state.residue.weights,
            ] { list(part) }
            writer.u64(UInt64(state.residue.nodes.count))
            for node in state.residue.nodes {
                writer.u64(UInt64(node.node))
                list(node.feedback)
                writer.u64(UInt64(node.factors.count))
                for factor in node.factors { list(factor) }
            }
        }
        return writer.bytes + sha256(writer.bytes).bytes
    }

    /// Throws what is wrong with the bytes: another format, torn, damaged, out of range.
    public init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        guard bytes.starts(with: Self.format.utf8) else {
            throw MalformedBytes("no round start of this version: it must begin with \(Self.format.debugDescription)")
        }
        guard bytes.count >= Self.format.utf8.count + 64,
            sha256(Array(bytes.dropLast(32))).bytes == Array(bytes.suffix(32))
        else { throw MalformedBytes("torn or damaged: its digest is another") }
        var reader = ByteReader(bytes[Self.format.utf8.count..<bytes.count - 32])
        func number(_ reader: inout ByteReader, below limit: Int = .max) throws(MalformedBytes) -> Int {
            guard let value = Int(exactly: try reader.u64()), value < limit else {
                throw MalformedBytes("a number out of range")
            }
            return value
        }
        func list(_ reader: inout ByteReader) throws(MalformedBytes) -> [UInt8] {
            Array(try reader.take(try number(&reader)))
        }
        guard let job = Digest256(Array(try reader.take(32))) else { throw MalformedBytes("no job") }
        self.job = job
        round = try number(&reader, below: Self.largest)
        epoch = try number(&reader, below: Self.largest)
        rank = try number(&reader, below: Self.most)
        share = []
        for _ in 0..<(try number(&reader, below: Self.most)) { share.append(try number(&reader, below: Self.most)) }
        states = []
        for place in 0..<(try number(&reader, below: Self.most)) {
            let unit = try number(&reader, below: Self.most)
            guard unit == states.first.map({ $0.unit + place }) ?? unit else {
                throw MalformedBytes("units do not follow each other")
            }
            let steps = try number(&reader, below: Self.largest)
            var state = UnitState(
                unit: unit, parameters: try list(&reader), outerMomentum: try list(&reader),
                firstMoment: try list(&reader), secondMoment: try list(&reader), optimizerSteps: steps)
            state.residue.weights = try list(&reader)
            for _ in 0..<(try number(&reader, below: Self.most)) {
                let node = try number(&reader, below: Self.most)
                let feedback = try list(&reader)
                var factors: [[UInt8]] = []
                for _ in 0..<(try number(&reader, below: Self.most)) { factors.append(try list(&reader)) }
                state.residue.nodes.append(UnitResidue.Node(node: node, feedback: feedback, factors: factors))
            }
            states.append(state)
        }
        try reader.finish()
        guard !states.isEmpty else { throw MalformedBytes("no units") }
    }
}

/// A round start that was read back, and what its group agreed on: worked out where it was read, off the loop.
public struct VerifiedRoundStart: Hashable, Sendable {
    public let start: RoundStart
    /// By unit.
    public let digests: [Int: UnitDigests]
    public init(_ start: RoundStart) {
        self.start = start
        digests = Dictionary(uniqueKeysWithValues: start.states.map { ($0.unit, UnitDigests(of: $0)) })
    }
}
