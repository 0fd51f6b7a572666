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
        try requireSpace(byteCount(states), in: place, for: "the checkpoint of round \(round)", disk)
        try writeFile(path, disk: disk) { write throws(NodeError) in
            guard try encode(states, round: round, to: write) else {
                throw .failed("what was to be written to \(path) cannot be read from where it was put down")
            }
        }
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

    private static func byteCount(_ states: [UnitState]) -> Int {
        states.reduce(format.utf8.count + 48) { sum, state in
            lists(state).reduce(sum + 16) { $0 + 8 + $1.count }
        }
    }
    private static func lists(_ state: UnitState) -> [StoredBytes] {
        [state.parameters, state.outerMomentum, state.firstMoment, state.secondMoment]
    }
    /// - Returns: whether all was to be had from where it had been put down.
    private static func encode(
        _ states: [UnitState], round: Int, to out: ([UInt8]) throws(NodeError) -> Void
    ) throws(NodeError) -> Bool {
        var stream = SHA256Stream()
        func write(_ bytes: [UInt8]) throws(NodeError) {
            stream.update(bytes)
            try out(bytes)
        }
        func write(_ numbers: Int...) throws(NodeError) {
            var writer = ByteWriter()
            for number in numbers { writer.u64(UInt64(number)) }
            try write(writer.bytes)
        }
        try write(Array(format.utf8))
        try write(round, states.count)
        for state in states {
            try write(state.unit, state.optimizerSteps)
            for list in lists(state) {
                try write(list.count)
                let isThere = try list.eachPiece { piece throws(NodeError) in try write([UInt8](piece)) }
                guard isThere else { return false }
            }
        }
        try out(stream.finish().bytes)
        return true
    }

    /// Weights and moments stay in the file.
    static func read(_ path: String) throws(NodeError) -> (round: Int, states: [UnitState]) {
        let bytes = try OpenFile.bytes(path)
        guard bytes.count >= 32 + format.utf8.count, isWhole(bytes) else {
            throw .badInput("\(path) is no file of states of this version, or it is damaged")
        }
        do throws(MalformedBytes) {
            var place = format.utf8.count
            func number() throws(MalformedBytes) -> Int {
                guard place + 8 <= bytes.count - 32, let found = bytes.bytes(place..<place + 8),
                    let number = Int(exactly: found.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
                else { throw MalformedBytes("a number is missing, or out of range") }
                place += 8
                return number
            }
            func list() throws(MalformedBytes) -> StoredBytes {
                let count = try number()
                guard count <= bytes.count - 32 - place else { throw MalformedBytes("\(count) bytes wanted") }
                defer { place += count }
                return bytes[place..<place + count]
            }
            let round = try number()
            let units = try number()
            guard units <= (bytes.count - place) / 48 else { throw MalformedBytes("\(units) units") }
            var states: [UnitState] = []
            for _ in 0..<units {
                let (unit, steps) = (try number(), try number())
                states.append(
                    UnitState(
                        unit: unit, parameters: try list(), outerMomentum: try list(), firstMoment: try list(),
                        secondMoment: try list(), optimizerSteps: steps))
            }
            return (round, states)
        } catch {
            throw .badInput("\(path): \(error)")
        }
    }
    private static func isWhole(_ bytes: StoredBytes) -> Bool {
        var stream = SHA256Stream()
        return bytes.bytes(0..<format.utf8.count) == Array(format.utf8)
            && bytes[0..<bytes.count - 32].eachPiece { stream.update($0) }
            && bytes.bytes(bytes.count - 32..<bytes.count) == stream.finish().bytes
    }
}
