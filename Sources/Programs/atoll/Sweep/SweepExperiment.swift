import ArgumentParser
import Digests
import Experiments
import Foundation
import Node
import Planning
import Primitives

/// An experiment as it lies beside its results: every file that it reads, laid out as the experiment's file names them, so that the
/// folder alone is enough to repeat it.
struct SweepExperiment: Codable {
    var name: String
    var about: String
    var run: String
    var version: String
    /// Of the experiment's file, relative to `inputs/`.
    var spec: String
    /// All files, relative to `inputs/`, the experiment's first.
    var files: [String]
    /// Files that are named by their place on this machine: nobody else has those.
    var absolute: [String]
    private var contents: [[UInt8]] = []
    private var folder = ""

    enum CodingKeys: String, CodingKey { case name, about, run, version, spec, files, absolute }

    init(_ inputs: SweepInputs, _ folder: SweepFolder) throws {
        let named = try inputs.everyFile()
        let paths = [inputs.spec.file] + named.map(\.path)
        let places = paths.map { URL(fileURLWithPath: $0).standardized.pathComponents }
        // The deepest folder that has them all: below it they lie as they do now.
        var common = places[0].dropLast().count
        for place in places {
            common = zip(places[0].prefix(common), place.dropLast()).prefix { $0 == $1 }.count
        }
        let relative = places.map { $0.dropFirst(common).joined(separator: "/") }
        name = inputs.spec.name
        about = inputs.spec.about
        run = inputs.spec.run.rawValue
        version = Atoll.configuration.version
        spec = relative[0]
        absolute = named.filter { $0.name.hasPrefix("/") }.map(\.name)
        var seen: Set<String> = []
        let kept = relative.indices.filter { seen.insert(relative[$0]).inserted }
        files = kept.map { relative[$0] }
        contents = try kept.map { $0 == 0 ? inputs.bytes : try readFile(paths[$0], limit: 1 << 34) }
        self.folder = folder.path
    }

    func writeInputs() throws {
        for (file, bytes) in zip(files, contents) {
            let path = "\(folder)/inputs/\(file)"
            // Another part of the experiment may be at it too.
            if let there = try? readFile(path), there == bytes { continue }
            try makeFolder((path as NSString).deletingLastPathComponent)
            try writeShared(path, bytes)
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try writeShared(folder + "/experiment.json", Array(try encoder.encode(self)) + [10])
    }

    init(reading folder: String) throws {
        let path = folder + "/experiment.json"
        let bytes = try readFile(path, limit: 1 << 24)
        do { self = try JSONDecoder().decode(SweepExperiment.self, from: Data(bytes)) } catch {
            throw NodeError.badInput("\(path): not what atoll sweep writes; run the sweep again with --out \(folder)")
        }
        self.folder = folder
    }

    static func copyInputs(from part: String, to out: String) throws {
        var one = try SweepExperiment(reading: part)
        one.contents = try one.files.map { try readFile("\(part)/inputs/\($0)") }
        one.folder = out
        try one.writeInputs()
    }
}

extension SweepInputs {
    /// All files that any point reads: as named, and where they lie.
    func everyFile() throws -> [(name: String, path: String)] {
        var names: [String] = []
        for combination in spec.combinations {
            for key in ["topology", "job", "replay.plan"] {
                if let name = combination.last(key)?.text, !names.contains(name) { names.append(name) }
            }
        }
        var found = names.map { (name: $0, path: path($0)) }
        guard spec.run == .replay else { return found }
        // A replay knows its text by size and hash, so it belongs to the experiment where it is at hand.
        for combination in spec.combinations {
            for (name, path) in try texts(combination) where !found.contains(where: { $0.path == path }) {
                found.append((name, path))
            }
        }
        return found
    }
}
