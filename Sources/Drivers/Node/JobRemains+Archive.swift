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
}

extension JobArchive {
    /// The newest job of this manifest and text that this launcher has begun here and not ended.
    ///
    /// Logs of others, of other versions, and damaged ones are passed over: nothing is written.
    public static func stopped(
        in folder: DataFolder, manifest: String, content: Digest256, parse: Record.Parser
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
                head.electors.contains(folder.key.peerID),
                let record = try? Record.restoring(log, parse: parse).record, record.state.finished == nil,
                record.state.plan != nil || record.electors.count > 1
            else { continue }
            let receipts = LogFile.path(folder.path, job, .receipts)
            let (checkpoint, damaged) = StateFile.newest(of: job, in: folder.path)
            return StoppedJob(
                job: job, round: record.state.round, sealedTokens: record.state.sealedTokens,
                tokens: record.state.tokens,
                remains: JobRemains(
                    log: log,
                    receipts: (try? LogFile.envelopes(in: readFile(receipts), .receipts, path: receipts)) ?? [],
                    checkpoint: checkpoint), ballot: try? LogFile.ballot(of: job, in: folder.path),
                certificate: certificate(of: job, in: folder.path), damaged: damaged)
        }
        return nil
    }
}
