import ArgumentParser
import Experiments
import Foundation
import Node
import Primitives

/// `atoll sweep`: an experiment of many plans or replays.
struct SweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep", abstract: "Plan or replay every point of an experiment, and write one table.",
        subcommands: [SweepRun.self, SweepMerge.self], defaultSubcommand: SweepRun.self)
}

struct SweepRun: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Compute the points of an experiment's file; what is there already stays.")

    @Argument(help: "The experiment's file (docs/SWEEP.md).") var spec: String
    @Option(help: "Where results go.") var out = "out/sweep"
    @Option(help: "Only these points, by number from 0: 7, 0-9 or 3,5,8-11.") var points: String?
    @Option(help: "How many points at a time (default: as many as there are cores).") var threads: Int?
    @Flag(help: "Compute nothing: print a command for each point, for job arrays, GNU parallel or xargs.") var list =
        false
    @Flag(help: "Print one JSON object.") var json = false

    func run() throws {
        let inputs = try SweepInputs(spec)
        let wanted = try numbers(inputs.count)
        let threads = threads ?? ProcessInfo.processInfo.activeProcessorCount
        guard (1...1024).contains(threads) else { throw NodeError.badInput("--threads \(threads): 1 to 1024") }
        if list {
            for number in wanted { print("atoll sweep \(quoted(spec)) --out \(quoted(out)) --points \(number)") }
            return
        }
        // All are read before the first is computed: what is wrong is said at once.
        let all = try wanted.map { try inputs.point($0) }
        let folder = try SweepFolder(out)
        let experiment = try SweepExperiment(inputs, folder)
        try experiment.writeInputs()
        Interrupt.watch()
        let queue = SweepQueue(all, folder)
        queue.run(threads: threads)
        if let error = queue.error { throw error }
        let table = SweepTable(queue.results)
        // A part of an experiment beside others does not write what is made of all.
        if points == nil { try folder.writeTable(table) }
        try report(queue, table)
    }

    private func report(_ queue: SweepQueue, _ table: SweepTable) throws {
        let failed = table.results.filter { $0.failed != nil }
        let summary = SweepSummary(
            points: queue.count, computed: queue.computed, known: queue.known, failed: failed.count, folder: out,
            seconds: queue.seconds)
        if json { try printJSON(summary) } else { print(summary.text(first: failed.first?.failed), terminator: "") }
        if Interrupt.asked { throw ExitCode(130) }
        if !failed.isEmpty, failed.count == table.results.count {
            throw NodeError.failed("no point came to a result: \(failed[0].failed ?? "")")
        }
    }

    private func numbers(_ count: Int) throws -> [Int] {
        guard let points else { return Array(0..<count) }
        func bad(_ part: Substring) -> NodeError {
            .badInput("--points \(part): numbers from 0 to \(count - 1), such as 7, 0-9 or 3,5,8-11")
        }
        var chosen: [Int] = []
        for part in points.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends[0], let last = ends.count == 2 ? ends[1] : first, ends.count <= 2,
                0 <= first, first <= last, last < count
            else { throw bad(part) }
            chosen += Array(first...last)
        }
        return Array(Set(chosen)).sorted()
    }
    private func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.utf8.allSatisfy { byte in
                (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte)
                    || "-_./=+,:@".utf8.contains(byte)
            }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }
}

struct SweepMerge: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "merge", abstract: "Join results of one experiment from several folders into one.")

    @Argument(help: "Folders that sweep has written.") var parts: [String]
    @Option(help: "Where all of it goes.") var out: String

    func run() throws {
        let read = try parts.map { (name: $0, results: try SweepFolder(reading: $0).results()) }
        for part in read where part.results.isEmpty { throw NodeError.badInput("\(part.name): it has no results") }
        let table: SweepTable
        do throws(SweepTable.Mismatch) { table = try SweepTable(merging: read) } catch {
            throw NodeError.badInput("these parts do not belong together: \(error)")
        }
        let folder = try SweepFolder(out)
        for result in table.results { try folder.write(result) }
        for part in parts { try SweepExperiment.copyInputs(from: part, to: out) }
        try folder.writeTable(table)
        print("\(table.results.count) points of \(parts.count) parts: \(out)/results.csv")
    }
}

/// What a sweep came to.
struct SweepSummary: Encodable {
    var points: Int
    var computed: Int
    /// Of an earlier run.
    var known: Int
    var failed: Int
    var folder: String
    /// Not part of the results.
    var seconds: Double

    func text(first: String?) -> String {
        var out = "\(points) points: \(computed) computed in \(fixed(seconds, 1)) s, \(known) known from before"
        if failed > 0 { out += ", \(failed) without a result (the first: \(first ?? ""))" }
        return out + "\nresults: \(folder)\n"
    }
}

/// Points on several threads, each result on disk as soon as it is there.
final class SweepQueue: @unchecked Sendable {
    private let points: [SweepPoint]
    private let folder: SweepFolder
    private let lock = NSLock()
    private let line = ProgressLine()
    private let start = Date()
    private var next = 0
    private var done: [Int: SweepResult] = [:]
    private(set) var computed = 0
    private(set) var known = 0
    private(set) var error: (any Error)?

    init(_ points: [SweepPoint], _ folder: SweepFolder) {
        self.points = points
        self.folder = folder
    }
    var count: Int { points.count }
    var results: [SweepResult] { done.keys.sorted().compactMap { done[$0] } }
    var seconds: Double { Date().timeIntervalSince(start) }

    func run(threads: Int) {
        DispatchQueue.concurrentPerform(iterations: min(threads, max(1, points.count))) { _ in
            while let index = take() { work(index) }
        }
        lock.withLock { line.end() }
    }
    private func take() -> Int? {
        lock.withLock {
            guard next < points.count, error == nil, !Interrupt.asked else { return nil }
            defer { next += 1 }
            return next
        }
    }
    private func work(_ index: Int) {
        let point = points[index]
        do {
            let found = try folder.known(point.result)
            let result = found ?? point.computed()
            if found == nil { try folder.write(result) }
            lock.withLock {
                done[index] = result
                if found == nil { computed += 1 } else { known += 1 }
                show()
            }
        } catch {
            lock.withLock { self.error = error }
        }
    }
    private func show() {
        line.show {
            var text = "\(done.count) of \(points.count) points"
            if known > 0 { text += ", \(known) from before" }
            guard computed > 0, done.count < points.count else { return text }
            let left = seconds / Double(computed) * Double(points.count - done.count)
            return text + ", about \(fixed(left, 0)) s left"
        }
    }
}
