import Consensus
public import Coordination
public import Digests
import Foundation
import Primitives
public import Record
import Training
import Wire

/// What an elector keeps on disk beside the log.
extension LogWriter {
    func store(_ ballot: Ballot, of job: Digest256) -> StorageOutcome {
        let path = LogFile.path(folder, job) + LogFile.ballotSuffix
        var writer = ByteWriter(capacity: 64)
        writer.raw(Array(LogFile.ballotFormat.utf8))
        writer.u64(UInt64(ballot.term))
        writer.raw(ballot.vote?.bytes ?? [UInt8](repeating: 0, count: 32))
        do throws(NodeError) {
            try writeFile(path, writer.bytes, disk: disk)
            return .stored(path: path)
        } catch {
            return .failed(error.description)
        }
    }
    /// Added to those that are there.
    func store(_ proof: Contradiction) -> StorageOutcome {
        let path = LogFile.path(folder, proof.job) + LogFile.liesSuffix
        do throws(NodeError) {
            var all = try LogFile.lies(beside: LogFile.path(folder, proof.job))
            guard !all.contains(proof), all.count < LogFile.mostLies else { return .stored(path: path) }
            all.append(proof)
            try writeFile(path, Array(LogFile.liesFormat.utf8) + all.flatMap(\.encoded), disk: disk)
            return .stored(path: path)
        } catch {
            return .failed(error.description)
        }
    }
    /// Whoever leads keeps the newest states of the job, to go on from.
    func store(_ states: [UnitState], _ round: Int, _ job: Digest256) -> StorageOutcome {
        do throws(NodeError) {
            return .stored(path: try StateFile.write(states, round: round, job: job, in: folder, disk: disk))
        } catch {
            return .failed(error.description)
        }
    }
}

extension LogFile {
    /// What electors of a log are proven to have lied about, as it lies beside the log's file; each proves itself.
    package static func lies(beside log: String) throws(NodeError) -> [Contradiction] {
        let path = log + liesSuffix
        guard FileManager.default.fileExists(atPath: path) else { return [] }
        let bytes = try readFile(path, limit: 1 << 20)
        guard bytes.starts(with: Array(liesFormat.utf8)) else {
            throw .badInput("\(path) begins otherwise than \(liesFormat.debugDescription). Move it away")
        }
        do throws(MalformedBytes) {
            var reader = ByteReader(bytes[liesFormat.utf8.count...])
            var out: [Contradiction] = []
            while reader.remaining > 0 { out.append(try Contradiction(&reader)) }
            return out
        } catch {
            throw .badInput("\(path): \(error.description). Move it away")
        }
    }
    /// Nil where there is none that can be read: then this machine has promised nothing.
    package static func ballot(of job: Digest256, in folder: String) throws(NodeError) -> Ballot? {
        let path = path(folder, job) + ballotSuffix
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        let bytes = try readFile(path)
        let format = Array(ballotFormat.utf8)
        guard bytes.starts(with: format), bytes.count == format.count + 40 else {
            throw .badInput(
                "\(path) is no vote of an elector, or damaged. Move it away with the log: this peer then is no elector")
        }
        do throws(MalformedBytes) {
            var reader = ByteReader(bytes[format.count...])
            let term = Int(clamping: try reader.u64())
            let vote = Array(try reader.take(32))
            return Ballot(term: term, vote: vote.allSatisfy { $0 == 0 } ? nil : PeerID(vote))
        } catch {
            throw .badInput("\(path): \(error)")
        }
    }
}

extension JobArchive {
    /// The newest job of which this daemon was an elector and which is not over: what it has promised stays promised.
    public static func elector(
        in folder: DataFolder, provisions: ElectorDesk.Provisions, at now: Instant, parse: @escaping Record.Parser
    ) throws(NodeError) -> ElectorDesk? {
        let logs = folder.path + "/log"
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: logs)) ?? []).filter {
            $0.hasSuffix(LogFile.ballotSuffix)
        }
        var newest: (desk: ElectorDesk, at: Date)?
        for name in names.sorted() {
            guard let bytes = [UInt8](hex: String(name.dropLast(LogFile.ballotSuffix.count))),
                let job = Digest256(bytes),
                let ballot = try LogFile.ballot(of: job, in: folder.path),
                // What has lost more than a crash tears has promised what it cannot keep: it begins again as one that knows nothing.
                isWhole(job, in: folder.path, parse: parse),
                let desk = try? ElectorDesk(
                    restoring: remains(of: job, in: folder), ballot: ballot, key: folder.key, provisions: provisions,
                    at: now,
                    parse: parse), desk.record.state.finished == nil
            else { continue }
            let attributes = try? FileManager.default.attributesOfItem(atPath: logs + "/" + name)
            let modified = attributes?[.modificationDate] as? Date ?? .distantPast
            if newest.map({ $0.at < modified }) ?? true { newest = (desk, modified) }
        }
        return newest?.desk
    }
    private static func isWhole(_ job: Digest256, in folder: String, parse: @escaping Record.Parser) -> Bool {
        let log = (try? read(folder, job: job)) ?? []
        return loss(
            of: job, in: folder, held: (try? Record.restoring(log, parse: parse).record.length) ?? 0, parse: parse)
            == nil
    }
    private static func remains(of job: Digest256, in folder: DataFolder) throws(NodeError) -> JobRemains {
        let receipts = LogFile.path(folder.path, job, .receipts)
        return JobRemains(
            log: try read(folder.path, job: job),
            receipts: (try? LogFile.envelopes(in: readFile(receipts), .receipts, path: receipts)) ?? [])
    }
}
