public import Digests
import Foundation
public import Membership
import Messages
public import Primitives
import Record
import Training
import Wire

/// A member's round starts on its disk: `rounds/JOB/round-N.start` of its own stage, `rounds/JOB/copy-N-UNIT.start` of others' units from that one
/// on; two generations of a job, each written beside its place, synced, renamed and read back.
public enum RoundStartFile {
    private static let suffix = ".start"
    /// Of a job that has not been heard of for so long nothing is kept.
    public static let keep = 7 * 86_400.0

    package static func folder(_ folder: String, _ job: Digest256) -> String { folder + "/rounds/" + job.hex }
    package static func path(_ folder: String, _ job: Digest256, _ name: StartName) -> String {
        let file = name.copyFrom.map { "copy-\(name.round)-\($0)" } ?? "round-\(name.round)"
        return self.folder(folder, job) + "/" + file + suffix
    }
    private static func name(_ file: String) -> StartName? {
        guard file.hasSuffix(suffix) else { return nil }
        let parts = file.dropLast(suffix.count).split(separator: "-", omittingEmptySubsequences: false)
        let numbers = parts.dropFirst().compactMap { Int($0) }
        switch (parts.first, parts.count, numbers.count) {
        case ("round", 2, 1): return StartName(round: numbers[0])
        case ("copy", 3, 2): return StartName(round: numbers[0], copyFrom: numbers[1])
        default: return nil
        }
    }

    static func perform(_ request: StorageRequest, in folder: String, _ disk: DiskOperations) -> StorageOutcome {
        do throws(NodeError) {
            switch request {
            case .roundStart(let start, let retaining):
                return .stored(path: try write(start, retaining: retaining, in: folder, disk))
            case .readRoundStart(let job, let name):
                return .read(VerifiedRoundStart(try read(path(folder, job, name), job: job, name)))
            case .eraseRoundStarts(let job, let after):
                for name in names(in: self.folder(folder, job)) where name.round > after {
                    unlink(path(folder, job, name))
                }
                if names(in: self.folder(folder, job)).isEmpty { rmdir(self.folder(folder, job)) }
                return .stored(path: "")
            default: return .failed("no round start")
            }
        } catch {
            return .failed(error.description)
        }
    }

    private static func write(
        _ start: RoundStart, retaining: [StartName], in folder: String, _ disk: DiskOperations
    ) throws(NodeError) -> String {
        let place = self.folder(folder, start.job)
        let path = path(folder, start.job, start.name)
        try checkFormat(path)
        try requireSpace(
            start.byteCount, in: place, for: StorageTicket.roundStart(job: start.job, start.name).what, disk)
        try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        var digest: [UInt8] = []
        try writeFile(path, disk: disk) { write throws(NodeError) in
            let isThere = try start.write { piece throws(NodeError) in
                digest = piece
                try write(piece)
            }
            guard isThere else {
                throw .failed("what was to be written to \(path) cannot be read from where it was put down")
            }
        }
        // The generations before go when this one is known to be there: all of its bytes are those of its digest, which came last.
        guard let back = try? OpenFile.bytes(path), back.count == start.byteCount,
            back.bytes(back.count - digest.count..<back.count) == digest, RoundStart.isWhole(back)
        else {
            unlink(path)
            throw .failed("\(path) reads back otherwise than it was written. Look at the disk")
        }
        for old in names(in: place) where old != start.name && !retaining.contains(old) {
            guard (try? checkFormat(self.path(folder, start.job, old))) != nil else { continue }
            unlink(self.path(folder, start.job, old))
        }
        return path
    }
    /// What is not ours is neither overwritten nor taken away.
    private static func checkFormat(_ path: String) throws(NodeError) {
        guard let file = FileHandle(forReadingAtPath: path) else { return }
        let head = (try? file.read(upToCount: RoundStart.format.utf8.count)) ?? Data()
        try? file.close()
        guard head.isEmpty || Array(head) == Array(RoundStart.format.utf8) else {
            throw .failed("\(path) is no round start of this version: it is not overwritten. Move it away")
        }
    }

    /// Weights and moments stay in the file.
    static func read(_ path: String, job: Digest256, _ name: StartName) throws(NodeError) -> RoundStart {
        let bytes = try OpenFile.bytes(path)
        let start: RoundStart
        do throws(MalformedBytes) { start = try RoundStart(bytes) } catch {
            throw .badInput("\(path): \(error)")
        }
        guard start.job == job else {
            throw .badInput("\(path) is of job \(start.job.short), and lies among those of job \(job.short)")
        }
        guard start.name == name else {
            let units = "units \(start.units.lowerBound)..<\(start.units.upperBound)"
            throw .badInput("\(path) is \(start.isCopy ? "a copy of \(units) " : "")of round \(start.round)")
        }
        return start
    }

    /// What an earlier process has left: every file is read whole, and only what is right counts. Of jobs of long ago nothing is left.
    public static func remains(in folder: DataFolder) -> MemberRemains {
        let all = folder.path + "/rounds"
        var out = MemberRemains()
        for name in ((try? FileManager.default.contentsOfDirectory(atPath: all)) ?? []).sorted() {
            guard let bytes = [UInt8](hex: name), let job = Digest256(bytes) else { continue }
            let place = self.folder(folder.path, job)
            let attributes = try? FileManager.default.attributesOfItem(atPath: place)
            if let changed = attributes?[.modificationDate] as? Date, -changed.timeIntervalSinceNow > keep {
                _ = perform(.eraseRoundStarts(job: job, after: -1), in: folder.path, .system)
                continue
            }
            var stages: [KeptStage] = []
            for name in names(in: place) {
                let path = path(folder.path, job, name)
                do throws(NodeError) {
                    let start = try read(path, job: job, name)
                    stages.append(KeptStage(start))
                } catch {
                    out.refused.append(MemberRemains.Refused(what: path, why: error.description))
                }
            }
            if !stages.isEmpty { out.jobs.append(MemberRemains.Job(job: job, stages: stages)) }
        }
        return out
    }
    /// Of the files there are, ascending.
    private static func names(in place: String) -> [StartName] {
        ((try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []).compactMap(name).sorted()
    }
}
