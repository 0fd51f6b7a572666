public import Consensus
public import Coordination
public import Digests
import Foundation
public import Primitives
public import Record
import Wire

/// A job that was begun from this folder and is not over.
public struct StoppedJob: Sendable {
    public let job: Digest256
    /// In progress, and tokens sealed before it.
    public let round: Int
    public let sealedTokens: Int
    public let tokens: Int
    public let remains: JobRemains
    /// What the launcher has promised as an elector; nil where it is the only one.
    public let ballot: Ballot?
    /// Of the log, as far as it lies beside it.
    public let certificate: Certificate?
    /// Files of states that were passed over.
    public let damaged: [String]
    /// It is done, and its result was kept here: it was not written, or not all of it.
    public let isOver: Bool
    /// What has become of the log, where more of it is lost than a crash tears: what is wrong, and what to try.
    public let lost: String?
}

extension JobArchive {
    /// The newest job of this manifest and text that this launcher has begun here and not ended.
    ///
    /// Logs of others, of other versions, and damaged ones are passed over: nothing is written.
    public static func stopped(
        in folder: DataFolder, manifest: String, content: Digest256, parse: @escaping Record.Parser
    ) -> StoppedJob? {
        let logs = folder.path + "/log"
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: logs)) ?? []).filter { $0.count == 64 }
        func modified(_ name: String) -> Date {
            let attributes = try? FileManager.default.attributesOfItem(atPath: logs + "/" + name)
            return attributes?[.modificationDate] as? Date ?? .distantPast
        }
        for name in names.sorted(by: { (modified($0), $0) > (modified($1), $1) }) {
            guard let bytes = [UInt8](hex: name), let job = Digest256(bytes),
                let log = try? read(folder.path, job: job), let first = log.first,
                let head = try? Record(genesis: first, parse: parse), head.job == job,
                head.genesis.manifest == manifest, head.genesis.content == content,
                let record = try? Record.restoring(log, parse: parse).record,
                // Whoever has founded it anew goes on with it, too.
                head.electors.contains(folder.key.peerID) || record.founder == folder.key.peerID,
                record.state.plan != nil || record.electors.count > 1
            else { continue }
            let receipts = LogFile.path(folder.path, job, .receipts)
            let (checkpoint, damaged) = StateFile.newest(of: job, in: folder.path)
            let remains = JobRemains(
                log: log,
                receipts: (try? LogFile.envelopes(in: readFile(receipts), .receipts, path: receipts)) ?? [],
                checkpoint: checkpoint)
            let isOver = record.state.finished != nil
            guard !isOver || remains.result(of: record.state) != nil else { continue }
            return StoppedJob(
                job: job, round: record.state.round, sealedTokens: record.state.sealedTokens,
                tokens: record.state.tokens, remains: remains,
                ballot: try? LogFile.ballot(of: job, in: folder.path),
                certificate: certificate(of: job, in: folder.path), damaged: damaged, isOver: isOver,
                lost: loss(of: job, in: folder.path, held: record.length, parse: parse))
        }
        return nil
    }

    /// Whether entries are missing that had been shown to others. A crash tears the last record at most, and that one was not shown yet; whatever
    /// else is wrong has changed later, and peers hold what was there.
    package static func loss(of job: Digest256, in folder: String, held: Int, parse: @escaping Record.Parser) -> String?
    {
        let path = LogFile.path(folder, job)
        guard let log = try? readFile(path) else { return nil }
        let certificate = try? readFile(path + LogFile.certificateSuffix)
        let certified = certificate.flatMap { file in
            try? Certificate(encoded: Array(file.dropFirst(LogFile.certificateFormat.utf8.count))).claim.size
        }
        guard LogFile.records(in: log, .entries)?.end != log.count || certified ?? 0 > held else { return nil }
        let verdict = LogVerifier.verify(log: log, certificate: certificate, job: job, parse: parse)
        guard let fault = verdict.fault else { return nil }
        let isTail = fault.kind == .torn || fault.record?.upperBound == log.count
        guard !isTail || certified ?? 0 > held else { return nil }
        return "\(path) holds \(held) entries that are right, and then, at byte \(fault.offset), \(fault.why). "
            + (certified.map { "\($0) were certified. " } ?? "")
            + "Peers have the rest: put one of theirs in its place (log/\(job.hex) in a peer's folder) and try again. Where there is none, keep a copy "
            + "and cut it: truncate -s \(verdict.end) FILE; what peers hold beyond that is then void"
    }
}
