public import Consensus
public import Digests
public import Messages
public import Primitives
public import Record
import Telemetry
public import Wire

/// A job's log that a quorum has signed for, as an earlier process has left it on this disk.
public struct KeptLog: Sendable {
    public let record: Record
    public let certificate: Certificate
    public var job: Digest256 { record.job }

    /// Nil where the certificate is of another log, or nothing of it holds.
    public init?(_ envelopes: [PBEnvelope], _ certificate: Certificate, parse: Record.Parser) {
        // Read no further: an elector that is the only one takes all of its own for committed, and more was on the disk than it had signed for.
        let certified = envelopes.prefix(max(0, certificate.claim.size))
        guard var record = try? Record.restoring(Array(certified), parse: parse).record,
            record.length == certificate.claim.size, (try? record.check(certificate)) != nil
        else { return nil }
        record.commit(through: certificate.claim.size)
        self.record = record
        self.certificate = certificate
    }
}

/// What whoever reads a job's log is told of it.
public struct JobReading: Sendable {
    public var record: Record
    /// Where several electors carry it.
    public var certificate: Certificate?
    /// For how long whoever leads is still believed to; zero: nobody is.
    public var lease: Duration
    public var term: Int
    /// The newer era first, then the longer log.
    package func isBehind(_ other: JobReading) -> Bool {
        (record.era, record.committed) < (other.record.era, other.record.committed)
    }
    /// - Parameter certificate: of entries that the record has: they are for ever, whatever its owner knew of that.
    public init(_ record: Record, _ certificate: Certificate?, lease: Duration, term: Int) {
        var record = record
        if let certificate { record.commit(through: certificate.claim.size) }
        self.record = record
        self.certificate = certificate
        self.lease = lease
        self.term = term
    }
}

/// The eras of jobs, as a member sees them.
extension Member {
    /// Throws why a job is not followed where an offer leads: it is of an era that is over, or drops what is certified here.
    mutating func heed(_ succession: Record.Succession, of id: Digest256, at now: Instant) throws(MalformedBytes) {
        let here = [job.flatMap { $0.id == id ? $0.record : nil }, remains.log(of: id)?.record]
        guard let best = here.compactMap({ $0 }).max(by: { ($0.era, $0.committed) < ($1.era, $1.committed) }) else {
            return
        }
        guard succession.era >= best.era else {
            throw MalformedBytes("the job was founded anew since: this is era \(best.era), not \(succession.era)")
        }
        guard best.parameters.isCarriedByMany, succession.era > best.era,
            succession.foundedAt.indices.contains(best.era)
        else { return }
        let founded = succession.foundedAt[best.era]
        let certified = max(best.committed, job.flatMap { $0.id == id ? $0.log.certifiedHere : nil } ?? 0)
        guard founded < certified else { return }
        guard terms.refounds.contains(id) else {
            effects.push(
                .event(Event(.refoundingRefused(entries: founded, certified: certified), at: now, peer: "")))
            refusedRefounding = (id, founded, certified)
            throw MalformedBytes(
                "founded anew after \(founded) entries, and \(certified) are certified at \(terms.name). Its owner may follow: atoll "
                    + "peer --accept-refound \(id.short)")
        }
        refusedRefounding = nil
        // Nothing of what is here has a place in the new era: its log is put aside, and the job begins anew here.
        remains.logs.removeAll { $0.job == id }
        if job?.id == id {
            job!.end("the job was founded anew without entries that are here", .forked)
            drain(at: now)
        } else {
            storage.store(.setLogAside(job: id, from: 0))
        }
    }

    /// What whoever only reads is told of a job; of the one that is here where none is named.
    public func reading(of id: Digest256?, at now: Instant) -> JobReading? {
        var out: JobReading?
        if let job, id == nil || id == job.id {
            let lease = job.isServing ? max(.zero, job.allegiance.until - now) : .zero
            out = JobReading(job.record, job.log.proof, lease: lease, term: job.allegiance.term)
        }
        if let id, let over = remains.over, over.record.job == id, out?.isBehind(over) ?? true { out = over }
        if let id, let kept = remains.log(of: id) {
            let other = JobReading(kept.record, kept.certificate, lease: .zero, term: kept.record.term)
            if out?.isBehind(other) ?? true { out = other }
        } else if id == nil, out == nil, let kept = remains.logs.last {
            out = JobReading(kept.record, kept.certificate, lease: .zero, term: kept.record.term)
        }
        return out
    }
    /// What this member is at, in a job; nil where it is in another, or in none.
    public func heartbeat(of id: Digest256) -> Heartbeat? {
        guard let job, job.id == id, job.presentID != nil else { return nil }
        return job.heartbeat(sent: socketBytes.sent, received: socketBytes.received)
    }
    /// So many entries are certified at this machine's elector.
    public mutating func note(certified: Int, of id: Digest256) {
        guard job?.id == id else { return }
        job!.log.certifiedHere = max(job!.log.certifiedHere, certified)
    }
    /// The era and the length of the log of a job that this member is in.
    public func era(of id: Digest256) -> Int? { job.flatMap { $0.id == id ? $0.record.era : nil } }
    /// Its copy of the log was this machine's elector's, which belongs to an era that is over: from now on it is its own.
    public mutating func takeOverLog(at now: Instant) {
        guard let founded = job?.record.foundings.last else { return }
        takeOverLog(from: founded, at: now)
    }
    /// The same where this machine is no elector any more.
    /// - Parameter index: entries before it are on disk.
    public mutating func takeOverLog(from index: Int, at now: Instant) {
        job?.takeOverLog(from: index)
        drain(at: now)
    }
    /// Entries that are here.
    public func logLength(of id: Digest256) -> Int? { job.flatMap { $0.id == id ? $0.record.length : nil } }
}

extension MemberJob {
    mutating func takeOverLog(from index: Int) {
        log.takeOver(from: index)
        drain()
    }
}

extension MemberRemains {
    func log(of job: Digest256) -> KeptLog? { logs.first { $0.job == job } }
}
