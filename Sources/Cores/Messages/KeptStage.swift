public import Primitives
public import Wire

/// A round start that a member has whole on its disk: a stage of the pipeline `rank`, or a copy of others' units, as of the start of `round`.
public struct KeptStage: Hashable, Sendable {
    public var round: Int
    public var rank: Int
    public var units: Range<Int>
    /// Of the plan under which it was written: a plan that went back before says nothing about it.
    public var epoch: Int
    /// Of units that others hold, without moments.
    public var isCopy: Bool
    /// In one message.
    public static let most = 16
    public init(round: Int, rank: Int, units: Range<Int>, epoch: Int, isCopy: Bool = false) {
        self.round = round
        self.rank = rank
        self.units = units
        self.epoch = epoch
        self.isCopy = isCopy
    }
    init(_ m: PBKept.Stage) throws(MalformedBytes) {
        round = try bounded(m.round, below: Bounds.round, "round")
        rank = try bounded(m.rank, below: Bounds.rank, "rank")
        let first = try bounded(m.firstUnit, below: Bounds.unit, "unit")
        let end = try bounded(m.endUnit, below: Bounds.unit + 1, "unit")
        guard first < end else { throw MalformedBytes("units \(first)..<\(end)") }
        units = first..<end
        epoch = try bounded(m.epoch, below: Bounds.counter, "epoch")
        isCopy = m.copy
    }
    var encoded: PBKept.Stage {
        var m = PBKept.Stage()
        m.round = UInt64(round)
        m.rank = UInt32(rank)
        m.firstUnit = UInt32(units.lowerBound)
        m.endUnit = UInt32(units.upperBound)
        m.epoch = UInt64(epoch)
        m.copy = isCopy
        return m
    }
}

/// How fit the sender's machine is to carry the record with others: its own word, which nobody else can give.
public struct Fitness: Hashable, Sendable {
    /// The longest of its last writes; nil before there were any.
    public var disk: Duration?
    /// Others could dial it from outside, as far as it knows.
    public var isReachable: Bool
    public init(disk: Duration?, isReachable: Bool) {
        self.disk = disk
        self.isReachable = isReachable
    }
    init(_ m: PBFitness) {
        disk = m.diskMicroseconds == 0 ? nil : .microseconds(Int64(m.diskMicroseconds))
        isReachable = !m.unreachable
    }
    var encoded: PBFitness {
        var m = PBFitness()
        m.diskMicroseconds = disk.map { UInt32(clamping: max(1, Int($0.inSeconds * 1e6))) } ?? 0
        m.unreachable = !isReachable
        return m
    }
}

/// The sender's own attempt at a round cannot go on.
public struct Setback: Hashable, Sendable {
    public enum Cause: Hashable, Sendable {
        /// The engine refused a job. It would again.
        case refused
        /// A loss or a gradient is not finite. It would be again.
        case notFinite
        /// What was on its way between the sender and another stage of the pipeline is lost: another attempt helps.
        case messagesLost
    }
    public var work: WorkKey
    public var stage: Int
    /// Global.
    public var step: Int
    public var why: String
    public var cause: Cause
    public init(work: WorkKey, stage: Int, step: Int, why: String, cause: Cause) {
        self.work = work
        self.stage = stage
        self.step = step
        self.why = why
        self.cause = cause
    }
    init(_ m: PBSetback) throws(MalformedBytes) {
        work = try WorkKey(m.work)
        stage = try bounded(m.stage, below: Bounds.unit, "stage")
        step = try bounded(m.step, below: Bounds.step, "step")
        why = cleaned(m.why, bytes: Bounds.reasonBytes)
        guard !(m.notFinite && m.messagesLost) else { throw MalformedBytes("a setback of two causes") }
        cause = m.notFinite ? .notFinite : m.messagesLost ? .messagesLost : .refused
    }
    public var isDivergence: Bool { cause == .notFinite }
    var encoded: PBSetback {
        var m = PBSetback()
        m.work = work.encoded
        m.stage = UInt32(stage)
        m.step = UInt64(step)
        m.why = why
        m.notFinite = cause == .notFinite
        m.messagesLost = cause == .messagesLost
        return m
    }
}
