import Consensus
import Digests
import Foundation
import Primitives
import Record
package import Telemetry
import Wire

/// A job's log on disk, or its receipts: a line that names the format, then records of a length (u32), the first eight bytes of the
/// SHA-256 of what follows, and an envelope. What is torn or flipped is noticed; what precedes it counts.
package enum LogFile {
    /// What is in a file.
    package enum Kind: Sendable {
        case entries, receipts
        var what: String { self == .entries ? "job log" : "list of receipts" }
        package var format: String { self == .entries ? "atoll-log 3\n" : "atoll-receipts 1\n" }
        var suffix: String { self == .entries ? "" : ".receipts" }
    }
    /// Longest envelope.
    static let entryLimit = 4 << 20
    /// Beside a log, where this machine is or was an elector: a line that names the format, the term (u64), and the key of whoever has its vote
    /// in it (32 bytes, zeros for nobody).
    package static let ballotSuffix = ".ballot"
    package static let ballotFormat = "atoll-ballot 1\n"
    /// Beside a log: a line that names the format, and the newest certificate.
    package static let certificateSuffix = ".certificate"
    package static let certificateFormat = "atoll-certificate 1\n"
    /// Beside a log, where electors have been seen to lie: a line that names the format, and one ``Contradiction`` after the other.
    package static let liesSuffix = ".lies"
    package static let liesFormat = "atoll-lies 1\n"
    /// More of one job say nothing new.
    static let mostLies = 64

    package static func path(_ folder: String, _ job: Digest256, _ kind: Kind = .entries) -> String {
        folder + "/log/" + job.hex + kind.suffix
    }

    static func record(_ envelope: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: envelope.count + 12)
        writer.u32(UInt32(envelope.count))
        writer.raw(sha256(envelope).bytes.prefix(8))
        writer.raw(envelope)
        return writer.bytes
    }

    /// Whole records from the beginning, and where the last of them ends.
    package static func records(in bytes: [UInt8], _ kind: Kind) -> (envelopes: [[UInt8]], end: Int)? {
        let format = kind.format.utf8
        guard bytes.starts(with: format) else { return nil }
        var reader = ByteReader(bytes[format.count...])
        var envelopes: [[UInt8]] = []
        var end = format.count
        while reader.remaining > 0 {
            do throws(MalformedBytes) {
                let length = Int(try reader.u32())
                guard length <= entryLimit else { break }
                let check = Array(try reader.take(8))
                let envelope = Array(try reader.take(length))
                guard Array(sha256(envelope).bytes.prefix(8)) == check else { break }
                envelopes.append(envelope)
                end = reader.position
            } catch {
                break
            }
        }
        return (envelopes, end)
    }

    package static func envelopes(
        in bytes: [UInt8], _ kind: Kind = .entries, path: String
    ) throws(NodeError) -> [PBEnvelope] {
        // Each receipt stands alone: those behind a damage count as well.
        let whole = kind == .receipts ? LogSalvage(bytes, kind) : nil
        guard
            let records = whole.flatMap({ $0.isOfAnotherFormat ? nil : $0.envelopes })
                ?? records(in: bytes, kind)?.envelopes
        else {
            throw .badInput(
                "\(path) is not a \(kind.what) of this version: it must begin with \(kind.format.debugDescription). Use the "
                    + "version that wrote it")
        }
        var out: [PBEnvelope] = []
        for record in records {
            guard let envelope = PBEnvelope(encoded: record) else { break }
            out.append(envelope)
        }
        return out
    }
}

/// Writes logs and chunks, on a thread of the work pool. Confined to the archive's queue.
package final class LogWriter: @unchecked Sendable {
    private struct Place: Hashable, Comparable {
        var job: Digest256
        var kind: LogFile.Kind
        static func < (a: Place, b: Place) -> Bool {
            a.job == b.job ? a.kind == .entries && b.kind == .receipts : a.job < b.job
        }
    }
    private struct Log {
        var file: Int32
        /// Hashes of the records that are durable, so that what is stored again is recognised.
        var records: [Digest256]
        var end: Int
        /// Of receipts, once somebody has counted others before them than are here.
        var known: Set<Digest256>?
        /// A sync failed: the file is not to be trusted any more, and is written anew.
        var isBroken = false
    }
    let folder: String
    let disk: DiskOperations
    private var logs: [Place: Log] = [:]
    /// What was found to be damaged, and is to be said.
    private var damages: [Happening] = []

    package init(_ folder: String, _ disk: DiskOperations) {
        self.folder = folder
        self.disk = disk
    }
    deinit { for log in logs.values { Glibc.close(log.file) } }

    /// What was found to be damaged since this was asked last.
    package func takeDamages() -> [Happening] {
        defer { damages = [] }
        return damages
    }
    package func write(_ requests: [StorageRequest]) -> [StorageOutcome] {
        var outcomes: [StorageOutcome] = []
        var unsynced: [Place: [Int]] = [:]
        func append(_ envelope: PBEnvelope, at index: Int, to log: Place) {
            do throws(NodeError) {
                let record = envelope.encoded
                var index = index
                if log.kind == .receipts {
                    guard let end = try place(ofReceipt: sha256(record), at: index, in: log) else {
                        return outcomes.append(.stored(path: ""))
                    }
                    index = end
                }
                guard try !holdsAnother(record, at: index, in: log) else {
                    let path = LogFile.path(folder, log.job, log.kind)
                    return outcomes.append(.conflict("\(path) holds another entry \(index), which is not overwritten"))
                }
                let isNew = try self.append(record, at: index, to: log)
                if isNew { unsynced[log, default: []].append(outcomes.count) }
                outcomes.append(.stored(path: ""))
            } catch {
                outcomes.append(.failed(error.description))
            }
        }
        for request in requests {
            switch request {
            case .entry(let job, let index, let envelope):
                append(envelope, at: index, to: Place(job: job, kind: .entries))
            case .receipt(let job, let index, let envelope):
                append(envelope, at: index, to: Place(job: job, kind: .receipts))
            case .certificate(let certificate): outcomes.append(store(certificate))
            case .contradiction(let proof): outcomes.append(store(proof))
            case .ballot(let job, _, let ballot): outcomes.append(store(ballot, of: job))
            case .truncate(let job, let length): outcomes.append(truncate(Place(job: job, kind: .entries), to: length))
            case .chunk(let content, let number, let bytes): outcomes.append(store(content, number, bytes))
            case .erase(let job, let content):
                try? FileManager.default.removeItem(atPath: folder + "/chunks/" + content.hex)
                for kind in [LogFile.Kind.entries, .receipts] {
                    if let log = logs.removeValue(forKey: Place(job: job, kind: kind)) { Glibc.close(log.file) }
                }
                outcomes.append(.stored(path: ""))
            case .checkpoint(let job, let round, let states): outcomes.append(store(states, round, job))
            case .setLogAside(let job, let first): outcomes.append(setAside(job, from: first))
            case .roundStart, .readRoundStart, .eraseRoundStarts:
                outcomes.append(RoundStartFile.perform(request, in: folder, disk))
            }
        }
        for place in unsynced.keys.sorted() {
            guard let log = logs[place], disk.sync(log.file) != 0 else { continue }
            let why =
                "cannot write the \(place.kind.what) in \(folder)/log: \(reason(errno)). Free some space, or look at the disk"
            logs[place]!.isBroken = true
            logs[place]!.known = nil
            for index in unsynced[place]! { outcomes[index] = .failed(why) }
            logs[place]!.records.removeLast(min(log.records.count, unsynced[place]!.count))
        }
        return outcomes
    }

    /// What is before the entry is never away, not for a moment: an elector may have vouched for it.
    private func setAside(_ job: Digest256, from first: Int) -> StorageOutcome {
        let path = LogFile.path(folder, job)
        guard FileManager.default.fileExists(atPath: path) else { return .stored(path: "") }
        var number = 1
        while FileManager.default.fileExists(atPath: "\(path).lost-\(number)") { number += 1 }
        let beside = "\(path).lost-\(number)"
        if first > 0 {
            do throws(NodeError) { try writeFile(beside, readFile(path), disk: disk) } catch {
                return .failed(error.description)
            }
            if case .failed(let why) = truncate(Place(job: job, kind: .entries), to: first) { return .failed(why) }
            return .stored(path: beside)
        }
        if let log = logs.removeValue(forKey: Place(job: job, kind: .entries)) { Glibc.close(log.file) }
        guard disk.rename(path, beside) == 0 else {
            return .failed("cannot put \(path) aside: \(reason(errno))")
        }
        return .stored(path: beside)
    }

    private func store(_ certificate: Certificate) -> StorageOutcome {
        let path = LogFile.path(folder, certificate.claim.job) + LogFile.certificateSuffix
        do throws(NodeError) {
            try writeFile(path, Array(LogFile.certificateFormat.utf8) + certificate.encoded, disk: disk)
            return .stored(path: path)
        } catch {
            return .failed(error.description)
        }
    }

    private func store(_ content: Digest256, _ number: Int, _ stored: StoredBytes) -> StorageOutcome {
        let path = folder + "/chunks/" + content.hex
        do throws(NodeError) {
            guard let bytes = stored.all else {
                throw .failed("chunk \(number) of the text cannot be read from where it was put down")
            }
            try requireSpace(bytes.count, in: path, for: "chunk \(number) of the text", disk)
            try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try writeFile(path + "/\(number)", bytes, disk: disk)
            return .stored(path: path + "/\(number)")
        } catch {
            return .failed(error.description)
        }
    }

    /// Receipts are a set, each named by what it is for: whoever carries a record again, in another era or on a disk that knows others, counts
    /// from 0, and those that are here stay.
    /// - Returns: where it is to be; nil where it is already.
    private func place(ofReceipt hash: Digest256, at index: Int, in place: Place) throws(NodeError) -> Int? {
        var log = try open(place)
        let count = log.records.count
        if log.known == nil, index < count, log.records[index] != hash {
            log.known = Set(log.records)
            logs[place] = log
        }
        guard let known = log.known, index <= count else { return index }
        return known.contains(hash) ? nil : count
    }
    private func holdsAnother(_ envelope: [UInt8], at index: Int, in place: Place) throws(NodeError) -> Bool {
        let log = try open(place)
        return index < log.records.count && log.records[index] != sha256(envelope)
    }
    /// Appends a record; the caller syncs. False when the very entry is there already.
    private func append(_ envelope: [UInt8], at index: Int, to place: Place) throws(NodeError) -> Bool {
        var log = try open(place)
        let path = LogFile.path(folder, place.job, place.kind)
        if log.isBroken {
            log = try rewrite(log, place)
            logs[place] = log
        }
        let hash = sha256(envelope)
        if index < log.records.count { return false }
        guard index == log.records.count else {
            throw .failed("number \(log.records.count) of the \(place.kind.what) is not stored yet")
        }
        let record = LogFile.record(envelope)
        do throws(NodeError) { try writeAll(record, to: log.file, path, disk) } catch {
            // A torn record is cut off again, so that the next one follows a whole one.
            ftruncate(log.file, off_t(log.end))
            lseek(log.file, off_t(log.end), SEEK_SET)
            throw error
        }
        log.records.append(hash)
        log.known?.insert(hash)
        log.end += record.count
        logs[place] = log
        return true
    }

    /// Cuts a log to its first so many records.
    private func truncate(_ place: Place, to length: Int) -> StorageOutcome {
        do throws(NodeError) {
            var log = try open(place)
            guard log.records.count > length else { return .stored(path: "") }
            log.records.removeLast(log.records.count - length)
            logs[place] = try rewrite(log, place)
            return .stored(path: "")
        } catch {
            return .failed(error.description)
        }
    }

    /// Keeps a damaged file beside its place, and leaves there what can be used of it: of entries those before the damage, of receipts all that are
    /// whole.
    /// - Returns: what is there now; nil where the file is as it was.
    private func putRight(_ bytes: [UInt8], _ path: String, _ kind: LogFile.Kind) throws(NodeError) -> [UInt8]? {
        let salvage = LogSalvage(bytes, kind)
        guard let first = salvage.damages.first, !salvage.isOfAnotherFormat else { return nil }
        var number = 1
        while FileManager.default.fileExists(atPath: "\(path).damaged-\(number)") { number += 1 }
        let beside = "\(path).damaged-\(number)"
        try writeFile(beside, bytes, disk: disk)
        let used = kind == .receipts ? salvage.envelopes : LogFile.records(in: bytes, kind)?.envelopes ?? []
        let whole = used.reduce(into: Array(kind.format.utf8)) { $0 += LogFile.record($1) }
        try writeFile(path, whole, disk: disk)
        damages.append(
            .logDamaged(
                path: path, byte: first.bytes.lowerBound, lost: salvage.lost, why: "as it was, it is \(beside) now"))
        return whole
    }

    /// Opens a log, or begins one; what a crash has torn is cut off.
    private func open(_ place: Place) throws(NodeError) -> Log {
        if let log = logs[place] { return log }
        let path = LogFile.path(folder, place.job, place.kind)
        var bytes = (try? readFile(path)) ?? []
        var found = bytes.isEmpty ? nil : LogFile.records(in: bytes, place.kind)
        if let end = found?.end, end < bytes.count, let whole = try putRight(bytes, path, place.kind) {
            (bytes, found) = (whole, LogFile.records(in: whole, place.kind))
        }
        let file = Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw .failed("cannot write \(path): \(reason(errno))") }
        var log = Log(file: file, records: [], end: 0)
        if bytes.isEmpty {
            do throws(NodeError) { try writeAll(Array(place.kind.format.utf8), to: file, path, disk) } catch {
                ftruncate(file, 0)
                Glibc.close(file)
                throw error
            }
            log.end = place.kind.format.utf8.count
        } else {
            guard let (records, end) = found else {
                Glibc.close(file)
                throw .failed("\(path) is no \(place.kind.what) of this version: it is not overwritten. Move it away")
            }
            log.records = records.map { sha256($0) }
            log.end = end
            ftruncate(file, off_t(end))
            lseek(file, off_t(end), SEEK_SET)
        }
        logs[place] = log
        return log
    }

    /// After a failed sync nobody knows what of a file is on disk: what can be read of it is written to another, synced, and takes its
    /// place.
    private func rewrite(_ log: Log, _ place: Place) throws(NodeError) -> Log {
        let path = LogFile.path(folder, place.job, place.kind)
        guard let (records, _) = LogFile.records(in: try readFile(path), place.kind),
            records.count >= log.records.count,
            zip(records, log.records).allSatisfy({ sha256($0) == $1 })
        else { throw .failed("\(path) cannot be read back after a failed write. Look at the disk") }
        var bytes = Array(place.kind.format.utf8)
        for record in records.prefix(log.records.count) { bytes += LogFile.record(record) }
        try writeFile(path, bytes, disk: disk)
        Glibc.close(log.file)
        let file = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard file >= 0 else { throw .failed("cannot open \(path) again: \(reason(errno))") }
        lseek(file, 0, SEEK_END)
        return Log(file: file, records: log.records, end: bytes.count)
    }
}
