import Experiments
import Foundation
import Node
import Primitives

/// Where a sweep's results lie: `points/` has a file for each, named by what it was computed from; `results.csv` is made of those.
struct SweepFolder {
    let path: String
    private var points: String { path + "/points" }

    init(_ path: String) throws {
        self.path = path
        try makeFolder(path)
        try makeFolder(path + "/points")
    }
    /// Somebody else's, which is read only.
    init(reading path: String) throws {
        self.path = path
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path + "/points", isDirectory: &isFolder), isFolder.boolValue
        else {
            throw NodeError.badInput("\(path): no results of a sweep: it has no folder points")
        }
    }

    private func file(_ point: String) -> String { "\(points)/\(point.prefix(32)).json" }

    /// What an earlier run left of a point; nil where there is nothing, or less than a whole result.
    func known(_ wanted: SweepResult) throws -> SweepResult? {
        guard let bytes = try? readFile(file(wanted.point), limit: 1 << 20),
            let found = try? JSONDecoder().decode(SweepResult.self, from: Data(bytes)), found.point == wanted.point
        else { return nil }
        var described = wanted
        (described.measures, described.failed) = (found.measures, found.failed)
        // The same computation at another place of the experiment's file, to which values were added.
        if described != found { try write(described) }
        return described
    }
    func write(_ result: SweepResult) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try writeShared(file(result.point), Array(try encoder.encode(result)) + [10])
    }
    /// All of them, by name.
    func results() throws -> [SweepResult] {
        let names: [String]
        do { names = try FileManager.default.contentsOfDirectory(atPath: points).sorted() } catch {
            throw NodeError.badInput("cannot read \(points)")
        }
        return try names.filter { $0.hasSuffix(".json") }.map { name in
            let bytes = try readFile("\(points)/\(name)", limit: 1 << 20)
            do { return try JSONDecoder().decode(SweepResult.self, from: Data(bytes)) } catch {
                throw NodeError.badInput(
                    "\(points)/\(name): no whole result of a sweep's point; delete it, and run its point again")
            }
        }
    }
    /// Those of ``results()`` that the table has: there may be others, of an earlier form of the experiment.
    func tabled() throws -> SweepTable {
        let lines = String(decoding: try readFile(path + "/results.csv"), as: UTF8.self).split(separator: "\n")
        let points = Set(lines.dropFirst().map { $0.prefix { $0 != "," } })
        return SweepTable(try results().filter { points.contains($0.point.prefix(16)) })
    }
    func writeTable(_ table: SweepTable) throws { try writeShared(path + "/results.csv", Array(table.csv.utf8)) }
}

/// Writes a file that other processes, here or on another machine, may be writing too, with the same bytes: each under a name of its own, and
/// the last one stays.
func writeShared(_ path: String, _ bytes: [UInt8]) throws {
    let own = "\(path).\(UUID().uuidString)"
    try writeFile(own, bytes)
    guard rename(own, path) == 0 else {
        let why = String(cString: strerror(errno))
        unlink(own)
        throw NodeError.failed("cannot write \(path): \(why)")
    }
}
