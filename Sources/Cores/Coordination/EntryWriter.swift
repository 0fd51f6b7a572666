import Consensus
import Digests
import Messages
import Primitives
import Record
import Wire

/// What an elector has to make durable, as a log, a list of receipts and a ballot on disk.
///
/// One batch is out at a time; what comes meanwhile is the next. Nothing counts before all of a batch is durable, so that a failed one is
/// simply written again.
struct EntryWriter: Sendable {
    enum Answer {
        case waiting
        case failed(String, isNews: Bool)
        /// Another log is there from an entry on: the batch is written again when that was put aside.
        case conflict(String, from: Int)
        /// All writes up to this ticket.
        case durable(Int, hadFailed: Bool)
    }
    private struct Batch: Sendable {
        var requests: [StorageRequest]
        var ticket: Int
        var answers = 0
        var failure: String?
        var conflict: (index: Int, why: String)?
    }
    private let job: Digest256
    private let genesis: PBEnvelope
    private var waiting: [ElectorWrite] = []
    private var batch: Batch?
    /// Entries and receipts that are on disk, or on their way there.
    private var entries: Int
    private var receipts: Int
    private var known: Set<Digest256>
    private var hasFailed = false
    private(set) var retryAt: Instant?
    private static let pause = Duration.seconds(1)

    /// - Parameters:
    ///   - genesis: which no write has, because every elector begins with it.
    ///   - entries: on disk.
    ///   - receipts: on disk, in order.
    init(job: Digest256, genesis: PBEnvelope, entries: Int, receipts: [PBEnvelope]) {
        self.job = job
        self.genesis = genesis
        self.entries = entries
        self.receipts = receipts.count
        known = Set(receipts.map(ReceiptShelf.name))
    }

    mutating func add(_ write: ElectorWrite) { waiting.append(write) }

    /// What is to be written now.
    /// - Parameter isWhole: whether all entries hold; else nothing is made durable.
    mutating func issue(isWhole: Bool, at now: Instant) -> [StorageRequest] {
        if let due = retryAt {
            guard due <= now else { return [] }
            retryAt = nil
            batch!.answers = 0
            batch!.failure = nil
            batch!.conflict = nil
            return batch!.requests
        }
        guard isWhole, batch == nil, let last = waiting.last else { return [] }
        var requests: [StorageRequest] = []
        if entries == 0 {
            requests.append(.entry(job: job, index: 0, genesis))
            entries = 1
        }
        for write in waiting { if let change = write.change { append(change, to: &requests) } }
        requests.append(.ballot(job: job, number: last.ticket, Ballot(term: last.term, vote: last.vote)))
        waiting = []
        batch = Batch(requests: requests, ticket: last.ticket)
        return requests
    }
    private mutating func append(_ change: ElectorWrite.Change, to requests: inout [StorageRequest]) {
        if change.from < entries {
            requests.append(.truncate(job: job, length: change.from))
            entries = change.from
        }
        for entry in change.entries {
            guard let carried = try? CarriedEntry(encoded: entry.body) else { continue }
            // Whoever has an entry has what it rests on.
            for receipt in carried.receipts where known.insert(ReceiptShelf.name(of: receipt)).inserted {
                requests.append(.receipt(job: job, index: receipts, receipt))
                receipts += 1
            }
            requests.append(.entry(job: job, index: entries, carried.envelope))
            entries += 1
        }
    }

    mutating func answered(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) -> Answer {
        guard var batch else { return .waiting }
        batch.answers += 1
        switch outcome {
        case .failed(let why): batch.failure = batch.failure ?? why
        case .conflict(let why):
            batch.failure = batch.failure ?? why
            if case .entry(_, let index) = ticket, batch.conflict == nil { batch.conflict = (index, why) }
        case .stored, .read: break
        }
        self.batch = batch
        guard batch.answers == batch.requests.count else { return .waiting }
        if let conflict = batch.conflict {
            retryAt = now
            return .conflict(conflict.why, from: conflict.index)
        }
        if let why = batch.failure {
            defer { hasFailed = true }
            retryAt = now + Self.pause
            return .failed(why, isNews: !hasFailed)
        }
        self.batch = nil
        defer { hasFailed = false }
        return .durable(batch.ticket, hadFailed: hasFailed)
    }

    /// A record's entries, each seal with the receipts of its round: what an elector begins with.
    static func carried(_ record: Record, _ receipts: [PBEnvelope]) -> [ReplicatedEntry] {
        var byRound: [Int: [PBEnvelope]] = [:]
        for receipt in receipts {
            guard let work = PBWork(encoded: [UInt8](receipt.body)) else { continue }
            byRound[Int(clamping: work.work.round), default: []].append(receipt)
        }
        return record.envelopes.enumerated().map { index, envelope in
            var entry = CarriedEntry(envelope)
            if case .seal(let seal)? = PBLogEntry(encoded: [UInt8](envelope.body))?.body {
                entry.receipts = byRound.removeValue(forKey: Int(clamping: seal.round)) ?? []
            }
            return ReplicatedEntry(
                term: record.leaf(index).term, body: entry.encoded, electorate: index == 0 ? nil : entry.electorate)
        }
    }
}
