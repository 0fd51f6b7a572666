public import Messages
import Primitives
import Record
import Telemetry
import Training

/// What a member keeps of a job on its own disk: its stage as of the start of a round, every few rounds, two generations. With it
/// everything may be switched off.
///
/// Which rounds those are follows from the manifest, so that the files of all members fit together. What is on the way to the disk does
/// not count. What is read back counts only where it is what the log says.
package struct RoundStarts: Sendable {
    package enum Effect: Sendable {
        case store(StorageRequest)
        case event(Happening)
    }
    /// What came of a file that was to be read.
    package enum Reading: Sendable {
        case read(RoundStart)
        case refused(round: Int)
    }
    package let job: Digest256
    /// Whole on disk, ascending by round.
    package private(set) var stages: [KeptStage]
    private var writing: [Int: KeptStage] = [:]
    private var reading: Set<Int> = []
    private var effects = EffectQueue<Effect>()
    /// A damaged one costs one generation, never both.
    package static let generations = 2

    /// - Parameter stages: that were found on disk.
    package init(job: Digest256, stages: [KeptStage] = []) {
        self.job = job
        self.stages = stages.sorted { $0.round < $1.round }
    }

    package mutating func poll() -> Effect? { effects.pop() }
    package func stage(of round: Int) -> KeptStage? { stages.first { $0.round == round } }

    /// What the engine gave of a round's start goes to the disk.
    package mutating func keep(_ states: [UnitState], round: Int, epoch: Int, rank: Int, share: [Int]) {
        let start = RoundStart(job: job, round: round, epoch: epoch, rank: rank, share: share, states: states)
        writing[round] = KeptStage(start)
        // Another of this round is overwritten: until the new one is there neither counts.
        stages.removeAll { $0.round == round }
        effects.push(.store(.roundStart(start)))
    }

    package mutating func read(_ round: Int) {
        guard reading.insert(round).inserted else { return }
        effects.push(.store(.readRoundStart(job: job, round: round)))
    }

    /// The disk's answer to a write.
    package mutating func stored(round: Int, _ outcome: StorageOutcome) {
        guard let stage = writing.removeValue(forKey: round) else { return }
        switch outcome {
        case .failed(let why), .conflict(let why):
            return effects.push(.event(.roundStartFailed(round: round, why: why)))
        case .stored, .read: break
        }
        stages.removeAll { $0.round == round }
        stages.append(stage)
        stages = stages.sorted { $0.round < $1.round }.suffix(Self.generations)
        effects.push(.event(.roundStartStored(round: round, units: Self.text(stage.units))))
    }
    /// The disk's answer to a read.
    /// - Parameter roots: what the log says of that round's start.
    package mutating func read(round: Int, _ outcome: StorageOutcome, roots: [Int: UnitRoots]) -> Reading {
        reading.remove(round)
        switch outcome {
        case .read(let verified):
            guard let problem = problem(verified, round: round, roots) else { return .read(verified.start) }
            refuse(round, problem)
        case .failed(let why), .conflict(let why): refuse(round, why)
        case .stored: refuse(round, "the disk gave nothing")
        }
        return .refused(round: round)
    }
    private func problem(_ verified: VerifiedRoundStart, round: Int, _ roots: [Int: UnitRoots]) -> String? {
        let start = verified.start
        guard start.job == job else { return "it is of job \(start.job.short)" }
        guard start.round == round else { return "it is of round \(start.round)" }
        for unit in start.units {
            guard let agreed = roots[unit], let found = verified.digests[unit] else {
                return "the log does not say what unit \(unit) was then"
            }
            guard found.parameters == agreed.parameters, found.outerMomentum == agreed.outerMomentum else {
                return "unit \(unit) is not what its holders agreed on"
            }
        }
        return nil
    }
    private mutating func refuse(_ round: Int, _ why: String) {
        stages.removeAll { $0.round == round }
        effects.push(.event(.roundStartRefused(what: "the start of round \(round)", why: why)))
    }

    /// The log has gone back, by the plan of an epoch: what was written before of later rounds is of seals that are void. Whoever joins again
    /// reads this in the log of long ago; what was written after it stays.
    package mutating func forget(after round: Int, by epoch: Int) {
        func isVoid(_ stage: KeptStage) -> Bool { stage.round > round && stage.epoch < epoch }
        writing = writing.filter { !isVoid($0.value) }
        guard let first = stages.first(where: isVoid) else { return }
        // Generations of one epoch follow each other: all after the first are void, too.
        stages.removeAll { $0.round >= first.round }
        effects.push(.store(.eraseRoundStarts(job: job, after: first.round - 1)))
    }

    static func text(_ units: Range<Int>) -> String { "\(units.lowerBound)..<\(units.upperBound)" }
}

/// Round starts that a process finds on its disk when it begins.
public struct MemberRemains: Sendable {
    public struct Job: Sendable {
        public var job: Digest256
        public var stages: [KeptStage]
        public init(job: Digest256, stages: [KeptStage]) {
            self.job = job
            self.stages = stages
        }
    }
    public var jobs: [Job]
    /// Certified logs of jobs that several electors carry and that are not over.
    public var logs: [KeptLog] = []
    /// What was known last of the job that ended here: whoever watches it is told.
    var over: JobReading?
    /// Files that are none of this version, damaged, or of another job, and why.
    public var refused: [Refused]
    public struct Refused: Sendable {
        public var what: String
        public var why: String
        public init(what: String, why: String) {
            self.what = what
            self.why = why
        }
    }
    public init(jobs: [Job] = [], refused: [Refused] = []) {
        self.jobs = jobs
        self.refused = refused
    }

    func stages(of job: Digest256) -> [KeptStage] { jobs.first { $0.job == job }?.stages ?? [] }
    /// What a job left behind when it was let go here.
    mutating func keep(_ stages: [KeptStage], of job: Digest256) {
        jobs.removeAll { $0.job == job }
        if !stages.isEmpty { jobs.append(Job(job: job, stages: stages)) }
    }
    var events: [Happening] {
        refused.map { .roundStartRefused(what: $0.what, why: $0.why) }
            + jobs.flatMap { job in
                job.stages.map {
                    .roundStartFound(job: job.job.short, round: $0.round, units: RoundStarts.text($0.units))
                }
            }
    }
}

extension KeptStage {
    public init(_ start: RoundStart) {
        self.init(round: start.round, rank: start.rank, units: start.units, epoch: start.epoch)
    }
}
