public import Consensus
import Digests
import Messages
import Primitives
public import Record
import Wire

/// Reads a log file as its bytes are: framing, signatures, the chain of hashes, the rules of the fold, the certificate; and stops at the
/// first byte that does not hold.
public struct LogVerifier {
    private let bytes: [UInt8]
    private let parse: Record.Parser
    private let peer: PeerID?
    private var verdict: LogVerdict
    private var tree = MerkleFrontier()
    /// Of the first entries at each length that the certificate may be of.
    private var roots: (size: Int, root: Digest256, term: Int)?

    /// - Parameters:
    ///   - log: a whole file.
    ///   - certificate: the file beside it, if there is one.
    ///   - lies: what electors are said to have lied about; each proves itself, but for who the electors were.
    ///   - job: whose log it must be, if its name says so.
    ///   - peer: whose work is listed.
    ///   - progress: is told how many bytes have been read.
    public static func verify(
        log: [UInt8], certificate: [UInt8]? = nil, lies: [Contradiction] = [], job: Digest256? = nil,
        listing peer: PeerID? = nil,
        parse: @escaping Record.Parser,
        progress: (Int) -> Void = { _ in }
    ) -> LogVerdict {
        var verifier = LogVerifier(log, listing: peer, parse)
        let read = certificate.map { verifier.read(certificate: $0) }
        verifier.walk(job: job, certified: try? read?.get().claim.size, progress)
        if let read { verifier.weigh(read) }
        if let record = verifier.verdict.record {
            verifier.verdict.lies = lies.filter { lie in
                lie.size <= record.length
                    && (try? lie.check(job: record.job, record.electorate(at: lie.size), era: record.era(at: lie.size)))
                        != nil
            }
        }
        return verifier.verdict
    }

    private init(_ bytes: [UInt8], listing peer: PeerID?, _ parse: @escaping Record.Parser) {
        self.bytes = bytes
        self.peer = peer
        self.parse = parse
        verdict = LogVerdict(bytes: bytes.count)
    }

    // MARK: records

    private mutating func walk(job: Digest256?, certified: Int?, _ progress: (Int) -> Void) {
        let format = Array(LogFile.Kind.entries.format.utf8)
        guard bytes.starts(with: format) else {
            let wrong = zip(bytes, format).enumerated().first { $1.0 != $1.1 }?.offset ?? bytes.count
            return fail(
                .format, at: wrong, isExact: true,
                "a job log of this version begins with \(LogFile.Kind.entries.format.debugDescription)")
        }
        verdict.end = format.count
        while verdict.end < bytes.count {
            guard let envelope = envelope(at: verdict.end), take(envelope, job: job) else { return }
            verdict.end = envelope.upperBound
            if verdict.record!.length == certified {
                roots = (verdict.record!.length, tree.root, verdict.record!.term)
            }
            progress(verdict.end)
        }
        if verdict.record == nil {
            fail(.torn, at: bytes.count, isExact: true, "the file ends before the first entry")
        }
    }

    private mutating func fail(
        _ kind: LogVerdict.Fault.Kind, at offset: Int, isExact: Bool, record: Range<Int>? = nil, _ why: String
    ) {
        guard verdict.fault == nil else { return }
        verdict.fault = LogVerdict.Fault(
            kind: kind, offset: offset, isExact: isExact,
            entry: kind == .format || kind == .certificate ? nil : verdict.record?.length ?? 0, record: record, why: why
        )
    }

    /// The envelope of the record at a place; nil where the record is not whole.
    private mutating func envelope(at start: Int) -> Range<Int>? {
        let left = bytes.count - start
        guard left >= 12 else {
            fail(
                .torn, at: bytes.count, isExact: true, record: start..<bytes.count,
                "the file ends within the head of this record")
            return nil
        }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[start + $1]) << (8 * $1) }
        let check = Array(bytes[start + 4..<start + 12])
        let body = start + 12
        if length <= left - 12, Array(sha256(bytes[body..<body + length]).bytes.prefix(8)) == check {
            return body..<body + length
        }
        explain(start: start, length: length, check: check)
        return nil
    }

    /// What is wrong with a record whose length or check does not fit it.
    private mutating func explain(start: Int, length: Int, check: [UInt8]) {
        let body = start + 12
        let rest = bytes[body...]
        if let meant = DamageSearch.length(of: rest, check: check, atMost: LogFile.entryLimit) {
            let wrong = (0..<4).first { bytes[start + $0] != UInt8(truncatingIfNeeded: meant >> (8 * $0)) } ?? 0
            return fail(
                .damaged, at: start + wrong, isExact: true, record: start..<body + meant,
                "the record's length says \(length), and its check that it was \(meant)")
        }
        guard length <= rest.count else {
            guard length <= LogFile.entryLimit else {
                return fail(
                    .damaged, at: start, isExact: false, record: start..<bytes.count,
                    "a record of \(length) bytes, at most \(LogFile.entryLimit) allowed")
            }
            return fail(
                .torn, at: bytes.count, isExact: true, record: start..<bytes.count,
                "the file ends within this record, \(length - rest.count) bytes before its end")
        }
        let envelope = Array(bytes[body..<body + length])
        let record = start..<body + length
        if isSigned(envelope) {
            let right = Array(sha256(envelope).bytes.prefix(8))
            let wrong = (0..<8).first { right[$0] != check[$0] }!
            return fail(
                .damaged, at: start + 4 + wrong, isExact: true, record: record,
                "the record's check has changed: the entry itself is whole")
        }
        guard let found = DamageSearch.changedByte(of: envelope, check: check) else {
            return fail(
                .damaged, at: body, isExact: false, record: record,
                "the record does not fit its check: several of its bytes have changed")
        }
        fail(
            .damaged, at: body + found.place, isExact: true, record: record,
            "the byte is \(envelope[found.place].hexadecimal) and was \(found.was.hexadecimal)")
    }

    private func isSigned(_ envelope: [UInt8]) -> Bool {
        guard let envelope = PBEnvelope(encoded: envelope) else { return false }
        return (try? envelope.open(.logEntry, job: nil, wall: nil, as: PBLogEntry.self)) != nil
    }

    // MARK: entries

    /// Whether an entry holds after those before it.
    private mutating func take(_ place: Range<Int>, job: Digest256?) -> Bool {
        let record = place.lowerBound - 12..<place.upperBound
        func refuse(_ why: String) -> Bool {
            fail(.refused, at: place.lowerBound, isExact: false, record: record, why)
            return false
        }
        let written = Array(bytes[place])
        guard let envelope = PBEnvelope(encoded: written) else { return refuse("no signed envelope") }
        guard envelope.isWritten(as: written) else {
            return refuse("an envelope with bytes that nobody has signed: it is not as it is written")
        }
        do throws(MalformedBytes) {
            guard verdict.record != nil else {
                let first = try Record(genesis: envelope, listing: peer, parse: parse)
                if let job, job != first.job {
                    return refuse("the file is named for job \(job.short), and holds job \(first.job.short)")
                }
                verdict.record = first
                note(envelope, term: 0, nil)
                return true
            }
            let length = verdict.record!.length
            switch try verdict.record!.receive(envelope) {
            case .appended(let entry): note(envelope, term: verdict.record!.term, entry)
            case .known: return refuse("entry \(envelope.sequence) is here a second time")
            case .gap(let from):
                return refuse("entry \(envelope.sequence) follows entry \(from - 1): entries are missing")
            case .fork(let index):
                return refuse("another entry \(index) than before: the log forks after \(length - 1)")
            }
        } catch { return refuse(error.description) }
        return true
    }

    /// Keeps what is to be said of an entry that holds.
    private mutating func note(_ envelope: PBEnvelope, term: Int, _ entry: Entry?) {
        let index = verdict.record!.length - 1
        tree.append(MerkleFrontier.leaf(envelope.body))
        guard let leader = PeerID(envelope.signer) else { return }
        if let last = verdict.terms.last, last.term == term, last.leader == leader {
            verdict.terms[verdict.terms.count - 1].entries = last.entries.lowerBound..<index + 1
        } else {
            // The genesis is of no term.
            if let last = verdict.terms.last, last.entries.lowerBound > 0 || last.entries.count > 1 {
                let who = last.leader == leader ? "the same leader" : "another leader"
                verdict.breaks.append(.init(entry: index, what: "term \(term) begins: \(who)"))
            }
            verdict.terms.append(.init(term: term, leader: leader, entries: index..<index + 1))
        }
        switch entry {
        case .plan(let change)? where change.rolledBack:
            verdict.breaks.append(.init(entry: index, what: "back to round \(change.plan.round): \(change.reason)"))
        case .electors(let change)?:
            guard let era = change.era else { break }
            let electors = change.electors.map(\.short).joined(separator: ", ")
            verdict.breaks.append(
                .init(
                    entry: index,
                    what:
                        "era \(era) begins, founded by \(leader.short)\(Self.word(of: change.grant)) after the \(index) entries that are certified, with "
                        + "\(electors) in the place of the electors before: \(change.reason)"))
        default: break
        }
    }

    private static func word(of grant: RecoveryGrant?) -> String {
        grant.map { ", as the recovery keys \($0.signers.map(\.short).joined(separator: ", ")) have signed," } ?? ""
    }

    // MARK: the certificate

    private func read(certificate file: [UInt8]) -> Result<Certificate, MalformedBytes> {
        let format = Array(LogFile.certificateFormat.utf8)
        guard file.starts(with: format) else {
            return .failure(MalformedBytes("it begins otherwise than \(LogFile.certificateFormat.debugDescription)"))
        }
        do throws(MalformedBytes) {
            return .success(try Certificate(encoded: Array(file[format.count...])))
        } catch { return .failure(error) }
    }

    private mutating func weigh(_ read: Result<Certificate, MalformedBytes>) {
        guard let record = verdict.record else { return }
        func refuse(_ why: String) {
            fail(.certificate, at: verdict.end, isExact: false, "the certificate beside the log: \(why)")
        }
        do throws(MalformedBytes) {
            let certificate = try read.get()
            let claim = certificate.claim
            try certificate.check(
                job: record.job, record.electorate(at: claim.size), era: record.era(at: claim.size))
            guard claim.size <= record.length else {
                return refuse(
                    "\(claim.size) entries are certified, and \(record.length) are here: the last are missing")
            }
            guard let roots, roots.size == claim.size, roots.root == claim.root, roots.term == claim.term else {
                return refuse("other entries are certified than the first \(claim.size) that are here")
            }
            verdict.certificate = certificate
        } catch { refuse(error.description) }
    }
}

extension UInt8 {
    fileprivate var hexadecimal: String { "0x" + [self].hex }
}
