public import Messages
import Primitives
import Record
import Telemetry
public import Training

/// What a member keeps of a job on its own disk: its stage as of the start of a round, every few rounds, two generations. With it
/// everything may be switched off. And copies of units that others hold, two generations, with its own stage as of the same rounds: with
/// those the job goes on although all holders of a unit are gone for good.
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
        case refused(StartName)
    }
    package let job: Digest256
    /// Of which rounds there are copies: of those that this divides; 0: of none.
    private let copiedRounds: Int
    /// Whole on disk, ascending by round, of one round the member's own stage first.
    package private(set) var stages: [KeptStage]
    private var writing: [StartName: KeptStage] = [:]
    /// The newest, while an older one is on its way to a disk that takes long: states are large, and no queue of them may grow.
    private var waiting: [RoundStart] = []
    private var reading: Set<StartName> = []
    private var effects = EffectQueue<Effect>()
    /// A damaged one costs one generation, never both.
    package static let generations = 2

    /// - Parameter stages: that were found on disk.
    package init(job: Digest256, stages: [KeptStage] = [], copiedRounds: Int = 0) {
        self.job = job
        self.copiedRounds = copiedRounds
        self.stages = stages.sorted { $0.name < $1.name }
    }

    package mutating func poll() -> Effect? { effects.pop() }
    /// This member's own.
    package func stage(of round: Int) -> KeptStage? { stages.first { $0.round == round && !$0.isCopy } }
    package func copies(of round: Int) -> [KeptStage] { stages.filter { $0.round == round && $0.isCopy } }

    /// What the engine gave of a round's start, or others of units that they hold, goes to the disk.
    ///
    /// One of the member's own is written at a time, and one copy; of those that wait the newest round stays. What is here of later
    /// rounds than the member's own is now is of seals that are void, whatever the log that voided them says of it: a launcher whose log
    /// was damaged begins again with what is before, and numbers its plans as those were numbered that it has lost.
    package mutating func keep(_ start: RoundStart) {
        if !start.isCopy { forget(after: start.round) { _ in true } }
        guard let busy = writing.values.first(where: { $0.isCopy == start.isCopy }) else { return write(start) }
        let overtaken = waiting.filter { $0.isCopy == start.isCopy && $0.round < start.round }
        for old in overtaken { fail(KeptStage(old), "the disk still writes that of round \(busy.round)") }
        waiting.removeAll { $0.isCopy == start.isCopy && ($0.round < start.round || $0.name == start.name) }
        waiting.append(start)
    }
    private mutating func fail(_ stage: KeptStage, _ why: String) {
        let (round, units) = (stage.round, Self.text(stage.units))
        effects.push(
            .event(
                stage.isCopy
                    ? .copyFailed(round: round, units: units, why: why) : .roundStartFailed(round: round, why: why)))
    }
    private mutating func writeNext() {
        for isCopy in [false, true] where !writing.values.contains(where: { $0.isCopy == isCopy }) {
            if let next = waiting.firstIndex(where: { $0.isCopy == isCopy }) { write(waiting.remove(at: next)) }
        }
    }
    private mutating func write(_ start: RoundStart) {
        let stage = KeptStage(start)
        writing[start.name] = stage
        // Another of this name is overwritten: until the new one is there neither counts.
        stages.removeAll { $0.name == start.name }
        // What is still being written may fail: nothing goes for its sake. What it leaves too many goes with the next.
        let stay = retained(stages + [stage]).union(writing.values.map(\.name))
        effects.push(.store(.roundStart(start, retaining: stay.sorted())))
    }
    /// Two generations; and of its own those that fit to copies, which are of no use without the other units of their round.
    private func retained(_ all: [KeptStage]) -> Set<StartName> {
        func newest(_ isMeant: (KeptStage) -> Bool) -> Set<Int> {
            Set(Set(all.filter(isMeant).map(\.round)).sorted().suffix(Self.generations))
        }
        let own = newest { !$0.isCopy }
        let fitting = newest { !$0.isCopy && copiedRounds > 0 && $0.round % copiedRounds == 0 }
        let copied = newest(\.isCopy)
        let stay = all.filter {
            copied.contains($0.round) || !$0.isCopy && (own.contains($0.round) || fitting.contains($0.round))
        }
        return Set(stay.map(\.name))
    }

    package mutating func read(_ name: StartName) {
        guard reading.insert(name).inserted else { return }
        effects.push(.store(.readRoundStart(job: job, name)))
    }

    /// The disk's answer to a write.
    package mutating func stored(_ name: StartName, _ outcome: StorageOutcome) {
        let stage = writing.removeValue(forKey: name)
        defer { writeNext() }
        guard let stage else { return }
        switch outcome {
        case .failed(let why), .conflict(let why):
            return fail(stage, why)
        case .stored, .read: break
        }
        stages.removeAll { $0.name == name }
        stages.append(stage)
        let stay = retained(stages)
        stages = stages.filter { stay.contains($0.name) }.sorted { $0.name < $1.name }
        let units = Self.text(stage.units)
        effects.push(
            .event(
                stage.isCopy
                    ? .copyStored(round: name.round, units: units) : .roundStartStored(round: name.round, units: units))
        )
    }
    /// The disk's answer to a read.
    /// - Parameter roots: what the log says of that round's start.
    package mutating func read(_ name: StartName, _ outcome: StorageOutcome, roots: [Int: UnitRoots]) -> Reading {
        reading.remove(name)
        switch outcome {
        case .read(let verified):
            guard let problem = problem(verified, name, roots) else { return .read(verified.start) }
            refuse(name, problem)
        case .failed(let why), .conflict(let why): refuse(name, why)
        case .stored: refuse(name, "the disk gave nothing")
        }
        return .refused(name)
    }
    private func problem(_ verified: VerifiedRoundStart, _ name: StartName, _ roots: [Int: UnitRoots]) -> String? {
        let start = verified.start
        guard start.job == job else { return "it is of job \(start.job.short)" }
        guard start.name == name else {
            return "it is \(start.isCopy ? "a copy" : "a stage") of round \(start.round)"
        }
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
    private mutating func refuse(_ name: StartName, _ why: String) {
        stages.removeAll { $0.name == name }
        let what = StorageTicket.readRoundStart(job: job, name).what
        effects.push(.event(.roundStartRefused(what: what, why: why)))
    }

    /// The log has gone back, by the plan of an epoch: what was written before of later rounds is of seals that are void. Whoever joins again
    /// reads this in the log of long ago; what was written after it stays.
    package mutating func forget(after round: Int, by epoch: Int) {
        forget(after: round) { $0.epoch < epoch }
    }
    private mutating func forget(after round: Int, where isOld: (KeptStage) -> Bool) {
        func isVoid(_ stage: KeptStage) -> Bool { stage.round > round && isOld(stage) }
        writing = writing.filter { !isVoid($0.value) }
        waiting.removeAll { isVoid(KeptStage($0)) }
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
                    $0.isCopy
                        ? .copyFound(job: job.job.short, round: $0.round, units: RoundStarts.text($0.units))
                        : .roundStartFound(job: job.job.short, round: $0.round, units: RoundStarts.text($0.units))
                }
            }
    }
}

extension KeptStage {
    public init(_ start: RoundStart) {
        self.init(
            round: start.round, rank: start.rank, units: start.units, epoch: start.epoch, isCopy: start.isCopy)
    }
    public var name: StartName { StartName(round: round, copyFrom: isCopy ? units.lowerBound : nil) }
}
