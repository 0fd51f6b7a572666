public import Consensus
public import Primitives
public import Training
public import Wire

/// What a core wants on disk. The driver writes it off the loop, in order, and answers with the request's ticket.
public enum StorageRequest: Sendable {
    /// The log of a job up to and including this entry.
    case entry(job: Digest256, index: Int, PBEnvelope)
    /// A receipt that was counted, beside the log: the books of the job, up to and including this one.
    case receipt(job: Digest256, index: Int, PBEnvelope)
    /// The log of a job has only so many entries: those after them were never for ever.
    case truncate(job: Digest256, length: Int)
    /// An elector's term and vote; the newest takes the place of the one before.
    case ballot(job: Digest256, number: Int, Ballot)
    /// Of the log's newest certificate: it takes the place of the one before.
    case certificate(Certificate)
    /// Electors have contradicted themselves: kept for good, beside those that are known already.
    case contradiction(Contradiction)
    case chunk(content: Digest256, number: Int, StoredBytes)
    /// A checkpoint of the whole model as of the start of a round.
    case checkpoint(job: Digest256, round: Int, [UnitState])
    /// A stage of this member, or a copy of others' units, as of the start of a round; with those of the job that stay. All others go when it
    /// has been read back.
    case roundStart(RoundStart, retaining: [StartName])
    /// Read it back, and verify it; answered with ``StorageOutcome/read(_:)``.
    case readRoundStart(job: Digest256, StartName)
    /// The starts of later rounds go: their seals are void. After -1: all, the job has ended for good.
    case eraseRoundStarts(job: Digest256, after: Int)
    /// The log that is there is, from an entry on, of a history that is no more: all of it is put beside, and what is before that entry stays.
    case setLogAside(job: Digest256, from: Int)
    /// The job is over here: its chunks go; its log stays.
    case erase(job: Digest256, content: Digest256)

    public var ticket: StorageTicket {
        switch self {
        case .entry(let job, let index, _): .entry(job: job, index: index)
        case .receipt(let job, let index, _): .receipt(job: job, index: index)
        case .truncate(let job, let length): .truncated(job: job, length: length)
        case .ballot(let job, let number, _): .ballot(job: job, number: number)
        case .certificate(let certificate): .certificate(job: certificate.claim.job, size: certificate.claim.size)
        case .contradiction(let proof): .contradiction(job: proof.job, size: proof.size)
        case .chunk(let content, let number, _): .chunk(content: content, number: number)
        case .checkpoint(let job, let round, _): .checkpoint(job: job, round: round)
        case .roundStart(let start, _): .roundStart(job: start.job, start.name)
        case .readRoundStart(let job, let name): .readRoundStart(job: job, name)
        case .eraseRoundStarts(let job, let round): .erasedRoundStarts(job: job, after: round)
        case .setLogAside(let job, _): .logSetAside(job: job)
        case .erase(let job, _): .erased(job: job)
        }
    }
}

/// What an elector must find again after a crash, beside the log: the term it is in, and whom it gave its vote in it.
public struct Ballot: Hashable, Sendable {
    public var term: Int
    public var vote: PeerID?
    public init(term: Int, vote: PeerID?) {
        self.term = term
        self.vote = vote
    }
}

/// Names a ``StorageRequest`` in its answer.
public enum StorageTicket: Hashable, Sendable {
    case entry(job: Digest256, index: Int)
    case receipt(job: Digest256, index: Int)
    case truncated(job: Digest256, length: Int)
    case ballot(job: Digest256, number: Int)
    case certificate(job: Digest256, size: Int)
    case contradiction(job: Digest256, size: Int)
    case chunk(content: Digest256, number: Int)
    case checkpoint(job: Digest256, round: Int)
    case roundStart(job: Digest256, StartName)
    case readRoundStart(job: Digest256, StartName)
    case erasedRoundStarts(job: Digest256, after: Int)
    case logSetAside(job: Digest256)
    case erased(job: Digest256)

    /// For people.
    public var what: String {
        switch self {
        case .entry, .truncated: "the job log"
        case .ballot: "an elector's vote"
        case .receipt: "receipts"
        case .certificate: "the log's certificate"
        case .contradiction: "the proof that electors have lied"
        case .chunk: "a chunk of the text"
        case .checkpoint(_, let round): "the checkpoint of round \(round)"
        case .roundStart(_, let name), .readRoundStart(_, let name):
            "\(name.isCopy ? "a copy of units at " : "")the start of round \(name.round)"
        case .erasedRoundStarts: "a job's round starts"
        case .logSetAside: "the job log"
        case .erased: "a job's chunks"
        }
    }
}

/// What became of a ``StorageRequest``.
public enum StorageOutcome: Hashable, Sendable {
    /// Written, synced and there after a crash. For a checkpoint: where.
    case stored(path: String)
    /// Whole, and what it says it is.
    case read(VerifiedRoundStart)
    /// Nothing of it counts. What went wrong and what to try.
    case failed(String)
    /// Another record is in that place, which is not overwritten.
    case conflict(String)
}
