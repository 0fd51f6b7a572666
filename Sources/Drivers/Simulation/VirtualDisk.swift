package import Consensus
public import Coordination
public import Digests
import Membership
import Messages
public import Primitives
public import Record
import Training
public import Wire

/// What one host keeps on disk of jobs, with the contract of the live archive: logs and receipts in order, a checkpoint of two
/// generations, and an answer to every request that says what really happened. What was not synced is lost by a crash.
///
/// It may misbehave: be full, fail to sync, lie about it, tear the last record of a crash, flip a bit while nobody looks.
public struct VirtualDisk: Sendable {
    public enum Trouble: String, Hashable, Sendable, CaseIterable {
        /// Nothing more fits.
        case isFull = "full"
        /// Every sync fails; what was written before it is not durable.
        case failsToSync = "fails to sync"
        /// It says that things are durable before they are.
        case lies = "lies about syncing"
        /// A write takes seconds.
        case isSlow = "slow"
    }
    /// How one write goes wrong.
    public enum BadWrite: String, Hashable, Sendable, CaseIterable {
        case full
        case failsToSync = "fails to sync"
        /// What is there is another than what was written.
        case flips
    }
    private struct Log: Sendable {
        var records: [PBEnvelope] = []
        /// Records that survive a crash.
        var durable = 0
        /// A record that no longer reads as it was written; what comes behind it does not count.
        var damaged: Int?
        var readable: ArraySlice<PBEnvelope> { records.prefix(damaged ?? records.count) }
    }
    private struct Saved: Sendable {
        var round: Int
        var states: [UnitState]
        var isDurable: Bool
        var isDamaged = false
    }
    private enum Place: Hashable { case entries(Digest256), receipts(Digest256) }

    package var troubles: Set<Trouble> = []
    /// It answers nothing before.
    package var stalledUntil = Instant.zero
    /// Jobs of whose logs more was lost than a crash tears.
    private var mutilated: Set<Digest256> = []
    /// The one that goes wrong, by its number.
    package var badWrite: (number: Int, how: BadWrite)?
    /// Writes so far.
    private(set) var written = 0
    private var logs: [Place: Log] = [:]
    private var checkpoints: [Digest256: [Saved]] = [:]
    private var ballots: [Digest256: Ballot] = [:]
    private var certificates: [Digest256: Certificate] = [:]
    /// What electors have been proven to lie about.
    package private(set) var contradictions: [Contradiction] = []
    private var starts = StartFiles()
    /// Jobs, the newest last.
    private var jobs: [Digest256] = []
    private var generator: SeededGenerator
    /// Whether anything was lost that had been called durable: by a lie or a flipped bit.
    package private(set) var hasBrokenItsWord = false
    /// Answers so far, by what they said.
    private(set) var failures = 0
    private static let generations = 2

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed, stream: 0x6469_736b) }

    /// How long a batch takes from the request to the answer.
    mutating func time() -> Duration {
        .microseconds(Int64(500 + generator.below(9_500))) + (troubles.contains(.isSlow) ? .seconds(2) : .zero)
    }

    // MARK: writing

    package mutating func write(_ request: StorageRequest) -> StorageOutcome {
        var outcome: StorageOutcome?
        if request.kindOfWrite != nil {
            if let bad = badWrite, bad.number == written { outcome = spoil(request, bad.how) }
            written += 1
        }
        let result = outcome ?? attempt(request)
        if case .failed = result { failures += 1 }
        return result
    }
    private mutating func spoil(_ request: StorageRequest, _ how: BadWrite) -> StorageOutcome {
        switch (how, request) {
        case (.full, _): return .failed("no space left on the disk")
        case (.failsToSync, _): return .failed("the disk could not sync")
        case (.flips, .checkpoint), (.flips, .roundStart):
            return .failed("it reads back otherwise than it was written")
        case (.flips, .entry(let job, let index, _)): return spoil(request, .entries(job), index)
        case (.flips, .receipt(let job, let index, _)): return spoil(request, .receipts(job), index)
        case (.flips, _): return attempt(request)
        }
    }
    private mutating func spoil(_ request: StorageRequest, _ place: Place, _ index: Int) -> StorageOutcome {
        let outcome = attempt(request)
        if case .stored = outcome {
            let before = logs[place]?.damaged ?? index
            logs[place]?.damaged = min(index, before)
            hasBrokenItsWord = true
        }
        return outcome
    }
    private mutating func attempt(_ request: StorageRequest) -> StorageOutcome {
        switch request {
        case .entry(let job, let index, let envelope):
            if jobs.last != job {
                jobs.removeAll { $0 == job }
                jobs.append(job)
            }
            return append(envelope, at: index, to: .entries(job))
        case .receipt(let job, let index, let envelope): return append(envelope, at: index, to: .receipts(job))
        case .chunk: return refusal ?? .stored(path: "")
        case .certificate(let certificate):
            if let refusal { return refusal }
            certificates[certificate.claim.job] = certificate
            return .stored(path: "")
        case .contradiction(let proof):
            if let refusal { return refusal }
            if !contradictions.contains(proof) { contradictions.append(proof) }
            return .stored(path: "")
        case .truncate(let job, let length):
            if let refusal { return refusal }
            guard var log = logs[.entries(job)], log.records.count > length else { return .stored(path: "") }
            log.records.removeLast(log.records.count - length)
            log.durable = min(log.durable, length)
            log.damaged = log.damaged.flatMap { $0 < length ? $0 : nil }
            logs[.entries(job)] = log
            return .stored(path: "")
        case .ballot(let job, _, let ballot):
            if let refusal { return refusal }
            ballots[job] = ballot
            return .stored(path: "")
        case .checkpoint(let job, let round, let states):
            if let refusal { return refusal }
            // Those of later rounds are of seals that are void: the job has gone back since.
            var saved = checkpoints[job, default: []].filter { $0.round < round }
            saved.append(Saved(round: round, states: states, isDurable: !troubles.contains(.lies)))
            checkpoints[job] = Array(saved.sorted { $0.round < $1.round }.suffix(Self.generations))
            return .stored(path: "")
        case .roundStart(let start, let retaining):
            if let refusal { return refusal }
            starts.write(start, retaining: retaining, isDurable: !troubles.contains(.lies))
            return .stored(path: "")
        case .readRoundStart(let job, let name): return starts.read(job, name)
        case .eraseRoundStarts(let job, let after):
            starts.erase(job, after: after)
            return .stored(path: "")
        case .setLogAside(let job, let first):
            if first > 0 { return write(.truncate(job: job, length: first)) }
            logs[.entries(job)] = nil
            return .stored(path: "")
        case .erase: return .stored(path: "")
        }
    }
    private var refusal: StorageOutcome? {
        if troubles.contains(.isFull) { return .failed("no space left on the disk") }
        return troubles.contains(.failsToSync) ? .failed("the disk could not sync") : nil
    }

    private mutating func append(_ envelope: PBEnvelope, at index: Int, to place: Place) -> StorageOutcome {
        var log = logs[place] ?? Log()
        defer { logs[place] = log }
        var index = index
        if case .receipts = place, index < log.records.count, log.records[index] != envelope {
            // A set: whoever counts from 0 again adds to what is here.
            if log.records.contains(envelope) { return .stored(path: "") }
            index = log.records.count
        }
        if index < log.records.count {
            guard log.records[index] == envelope else {
                return .conflict("another record \(index) is there: it is not overwritten")
            }
            return .stored(path: "")
        }
        guard index == log.records.count else { return .failed("record \(log.records.count) is not stored yet") }
        if let refusal { return refusal }
        log.records.append(envelope)
        if !troubles.contains(.lies) { log.durable = log.records.count }
        return .stored(path: "")
    }

    // MARK: what happens to it

    /// The machine, or the process, is gone: what was not durable is lost; what was on its way may have come, or be torn and cut off.
    package mutating func crash(during writes: [StorageRequest]) {
        for request in writes {
            guard generator.below(2) == 0, case .stored = write(request) else { break }
        }
        for place in logs.keys {
            guard var log = logs[place], log.records.count > log.durable else { continue }
            hasBrokenItsWord = true
            log.records.removeLast(log.records.count - log.durable)
            logs[place] = log
        }
        for job in checkpoints.keys {
            if checkpoints[job]!.contains(where: { !$0.isDurable }) { hasBrokenItsWord = true }
            checkpoints[job]!.removeAll { !$0.isDurable }
        }
        if starts.crash(&generator) { hasBrokenItsWord = true }
    }
    /// A bit of a log, of the receipts or of the newest checkpoint is another one from now on.
    package mutating func flipBit() {
        guard let job = jobs.last else { return }
        // A member's disk has round starts, and those of the launcher none.
        if !starts.isEmpty, generator.below(2) == 0 { return starts.flip(&generator) }
        switch generator.below(3) {
        case 0: flip(.entries(job))
        case 1: flip(.receipts(job))
        default:
            guard let last = checkpoints[job]?.indices.last else { return }
            checkpoints[job]![last].isDamaged = true
            hasBrokenItsWord = true
        }
    }
    private mutating func flip(_ place: Place) {
        guard var log = logs[place], log.records.count > 1 else { return }
        let record = generator.below(log.records.count)
        log.damaged = min(record, log.damaged ?? record)
        logs[place] = log
        hasBrokenItsWord = true
    }
    /// A process opens what is there: what cannot be read is cut off.
    package mutating func open() {
        for (place, log) in logs {
            guard case .entries(let job) = place, let damaged = log.damaged, damaged < log.records.count else {
                continue
            }
            mutilated.insert(job)
        }
        for place in logs.keys {
            logs[place]!.records = Array(logs[place]!.readable)
            logs[place]!.damaged = nil
            logs[place]!.durable = logs[place]!.records.count
        }
    }

    // MARK: reading

    /// What an elector of the job that ran here was in; nil where none has.
    package func ballot(of job: Digest256) -> Ballot? { ballots[job] }
    /// Whether an elector of the job may go on with what is here: it has all that it ever acknowledged.
    package func isWhole(_ job: Digest256) -> Bool { !mutilated.contains(job) }
    package func certificate(of job: Digest256) -> Certificate? { certificates[job] }
    /// Of a member, for its next process.
    func memberRemains(parse: Record.Parser) -> MemberRemains {
        var out = starts.remains
        out.logs = jobs.compactMap { job in
            guard let log = logs[.entries(job)], let certificate = certificates[job] else { return nil }
            return KeptLog(Array(log.readable), certificate, parse: parse)
        }.filter { $0.record.parameters.isCarriedByMany && $0.record.state.finished == nil }
        return out
    }

    /// Of the newest job.
    package var remains: (job: Digest256, remains: JobRemains)? {
        guard let job = jobs.last, let log = logs[.entries(job)], !log.readable.isEmpty else { return nil }
        let newest = checkpoints[job]?.last { !$0.isDamaged }
        return (
            job,
            JobRemains(
                log: Array(log.readable), receipts: Array(logs[.receipts(job)]?.readable ?? []),
                checkpoint: newest.map { ($0.round, $0.states) })
        )
    }
    /// Of round starts of a job, damaged ones too.
    func starts(of job: Digest256) -> [StartName] { starts.names(of: job) }
    /// Nil where there is none, or it is damaged.
    func start(_ name: StartName, of job: Digest256) -> VerifiedRoundStart? {
        guard case .read(let verified) = starts.read(job, name) else { return nil }
        return verified
    }
    func holdsStart(_ round: Int, of job: Digest256, isCopy: Bool) -> Bool {
        starts.has(round, of: job, isCopy: isCopy)
    }
    /// Whether the states of a round could be read back now.
    package func holdsCheckpoint(_ round: Int, of job: Digest256) -> Bool {
        checkpoints[job]?.contains { $0.round == round && !$0.isDamaged } ?? false
    }
}
