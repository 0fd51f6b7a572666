import Digests
import Foundation
public import Primitives
public import Training
import Wire

/// All units of a model as of the start of a round, as one file: what a job goes on from when nobody holds them any more.
///
/// A line that names the format, the round and the number of units (u64), and of each unit its number, its optimizer's steps, and
/// parameters, outer momentum, first and second moments, each after its length (u64); then the SHA-256 of all of it. Little-endian.
/// Beside it lies the one before: a crash, a full disk or a flipped bit costs one generation, never both.
public enum StateFile {
    static let format = "atoll-states 1\n"
    /// Generations that are kept.
    package static let kept = 2
    private static let suffix = ".states"

    static func folder(_ folder: String, _ job: Digest256) -> String { folder + "/checkpoints/" + job.hex }
    package static func path(_ folder: String, _ job: Digest256, round: Int) -> String {
        self.folder(folder, job) + "/round-\(round)" + suffix
    }

    /// Writes one, syncs it, reads it back, and takes older generations away, and those of later rounds: the job has gone back since, and they are
    /// of seals that are void.
    /// - Returns: its path.
    @discardableResult
    public static func write(
        _ states: [UnitState], round: Int, job: Digest256, in folder: String, disk: DiskOperations = .system
    ) throws(NodeError) -> String {
        let place = self.folder(folder, job)
        try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        let path = path(folder, job, round: round)
        let bytes = encoded(states, round: round)
        try requireSpace(bytes.count, in: place, for: "the checkpoint of round \(round)", disk)
        try writeFile(path, bytes, disk: disk)
        guard let back = try? read(path), back.round == round, back.states == states else {
            unlink(path)
            throw .failed("\(path) reads back otherwise than it was written. Look at the disk")
        }
        let all = rounds(in: place)
        let stay = all.filter { $0 <= round }.suffix(kept)
        for other in all where !stay.contains(other) { unlink(self.path(folder, job, round: other)) }
        return path
    }

    /// The newest that is whole; damaged ones are passed over.
    public static func newest(
        of job: Digest256, in folder: String
    ) -> (found: (round: Int, states: [UnitState])?, damaged: [String]) {
        var damaged: [String] = []
        for round in rounds(in: self.folder(folder, job)).reversed() {
            let path = path(folder, job, round: round)
            if let found = try? read(path), found.round == round { return (found, damaged) }
            damaged.append(path)
        }
        return (nil, damaged)
    }
    /// The result is where it was wanted: nothing goes on from these any more.
    static func erase(of job: Digest256, in folder: String) {
        try? FileManager.default.removeItem(atPath: self.folder(folder, job))
    }
    /// Of the files there are, ascending.
    private static func rounds(in place: String) -> [Int] {
        ((try? FileManager.default.contentsOfDirectory(atPath: place)) ?? []).compactMap { name in
            guard name.hasPrefix("round-"), name.hasSuffix(suffix) else { return nil }
            return Int(name.dropFirst(6).dropLast(suffix.count))
        }.sorted()
    }

    static func encoded(_ states: [UnitState], round: Int) -> [UInt8] {
        let bytes = states.reduce(0) { $0 + 4 * $1.parameters.count + 64 }
        var writer = ByteWriter(capacity: bytes + 64)
        writer.raw(Array(format.utf8))
        writer.u64(UInt64(round))
        writer.u64(UInt64(states.count))
        for state in states {
            writer.u64(UInt64(state.unit))
            writer.u64(UInt64(state.optimizerSteps))
            for part in [state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment] {
                writer.u64(UInt64(part.count))
                writer.raw(part)
            }
        }
        return writer.bytes + sha256(writer.bytes).bytes
    }

    static func read(_ path: String) throws(NodeError) -> (round: Int, states: [UnitState]) {
        let bytes = try readFile(path)
        guard bytes.count >= 32, bytes.starts(with: format.utf8),
            sha256(Array(bytes.dropLast(32))).bytes == Array(bytes.suffix(32))
        else { throw .badInput("\(path) is no file of states of this version, or it is damaged") }
        do throws(MalformedBytes) {
            var reader = ByteReader(bytes[format.utf8.count..<bytes.count - 32])
            func count(_ reader: inout ByteReader) throws(MalformedBytes) -> Int {
                guard let count = Int(exactly: try reader.u64()) else { throw MalformedBytes("a number out of range") }
                return count
            }
            let round = try count(&reader)
            let units = try count(&reader)
            guard units <= reader.remaining / 48 else { throw MalformedBytes("\(units) units") }
            var states: [UnitState] = []
            for _ in 0..<units {
                let unit = try count(&reader)
                let steps = try count(&reader)
                var parts: [[UInt8]] = []
                for _ in 0..<4 {
                    let length = try count(&reader)
                    parts.append(Array(try reader.take(length)))
                }
                states.append(
                    UnitState(
                        unit: unit, parameters: parts[0], outerMomentum: parts[1], firstMoment: parts[2],
                        secondMoment: parts[3], optimizerSteps: steps))
            }
            return (round, states)
        } catch {
            throw .badInput("\(path): \(error)")
        }
    }
}
