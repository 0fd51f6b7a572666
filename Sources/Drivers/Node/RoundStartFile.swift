public import Digests
import Foundation
public import Membership
import Messages
public import Primitives
import Record
import Training
import Wire

/// A member's round starts on its disk: `rounds/JOB/round-N.start`, two generations of a job, each written beside its place, synced, renamed
/// and read back.
public enum RoundStartFile {
    private static let suffix = ".start"
    /// Of a job that has not been heard of for so long nothing is kept.
    public static let keep = 7 * 86_400.0

    package static func folder(_ folder: String, _ job: Digest256) -> String { folder + "/rounds/" + job.hex }
    package static func path(_ folder: String, _ job: Digest256, round: Int) -> String {
        self.folder(folder, job) + "/round-\(round)" + suffix
    }

    static func perform(_ request: StorageRequest, in folder: String, _ disk: DiskOperations) -> StorageOutcome {
        do throws(NodeError) {
            switch request {
            case .roundStart(let start): return .stored(path: try write(start, in: folder, disk))
            case .readRoundStart(let job, let round):
                return .read(VerifiedRoundStart(try read(path(folder, job, round: round), job: job, round: round)))
            case .eraseRoundStarts(let job, let after):
                for round in rounds(in: self.folder(folder, job)) where round > after {
                    unlink(path(folder, job, round: round))
                }
                if rounds(in: self.folder(folder, job)).isEmpty { rmdir(self.folder(folder, job)) }
                return .stored(path: "")
            default: return .failed("no round start")
            }
        } catch {
            return .failed(error.description)
        }
    }

    private static func write(_ start: RoundStart, in folder: String, _ disk: DiskOperations) throws(NodeError)
        -> String
    {
        let place = self.folder(folder, start.job)
        let path = path(folder, start.job, round: start.round)
        try checkFormat(path)
        let bytes = start.encoded
        try requireSpace(bytes.count, in: place, for: "the start of round \(start.round)", disk)
        try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        try writeFile(path, bytes, disk: disk)
        // The generations before go when this one is known to be there.
        guard let back = try? readFile(path), back == bytes else {
            unlink(path)
            throw .failed("\(path) reads back otherwise than it was written. Look at the disk")
        }
        for old in rounds(in: place).dropLast(RoundStarts.generations)
        where (try? checkFormat(self.path(folder, start.job, round: old))) != nil {
            unlink(self.path(folder, start.job, round: old))
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

    static func read(_ path: String, job: Digest256, round: Int) throws(NodeError) -> RoundStart {
        let bytes = try readFile(path)
        let start: RoundStart
        do throws(MalformedBytes) { start = try RoundStart(decoding: bytes) } catch {
            throw .badInput("\(path): \(error)")
        }
        guard start.job == job else {
            throw .badInput("\(path) is of job \(start.job.short), and lies among those of job \(job.short)")
        }
        guard start.round == round else { throw .badInput("\(path) is of round \(start.round)") }
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
            for round in rounds(in: place) {
                let path = path(folder.path, job, round: round)
                do throws(NodeError) {
                    let start = try read(path, job: job, round: round)
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
    private static func rounds(in place: String) -> [Int] {
        ((try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []).compactMap { name in
            guard name.hasPrefix("round-"), name.hasSuffix(suffix) else { return nil }
            return Int(name.dropFirst(6).dropLast(suffix.count))
        }.sorted()
    }
}
