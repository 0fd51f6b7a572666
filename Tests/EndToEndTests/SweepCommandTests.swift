import Foundation
import Testing

/// `atoll sweep` and `atoll cite` as a person would run them: one folder, parts of it, and the whole again from its crate.
struct SweepCommandTests {
    private static let job = """
        name: small
        model: {architecture: llama, hidden_size: 32, layers: 2, heads: 2, kv_heads: 2, intermediate_size: 64, context: 32, tokenizer: byte}
        data: {path: text.txt}
        train: {tokens: 4096, batch_tokens: 256, seed: 1}
        parallel: {virtual_pipelines: 4, micro_batch: 2, inner_steps: 4}
        exchange: {codec: int8, quality_budget: 1}
        """
    private static let pool = """
        name: pool
        about: Three machines.
        expect: Nothing in particular.
        default_link: {latency_ms: 4}
        hosts:
          - {name: a, gflops: 3, memory_mib: 64, up_mbps: 20, down_mbps: 50}
          - {name: b, gflops: 2, memory_mib: 64, up_mbps: 20, down_mbps: 50}
          - {name: c, gflops: 1, memory_mib: 64, up_mbps: 20, down_mbps: 50}
        events:
          - {at_s: 100000, kind: slow, host: a, factor: 20}
        """
    static func spec(_ run: String, _ grid: String) -> String {
        "name: experiment\nabout: A test.\nrun: \(run)\ntopology: ../pools/pool.yaml\njob: job.yaml\nseeds: 2\n"
            + "set: {planner.iterations: 20}\ngrid:\n\(grid)\n"
    }
    /// An experiment in `work/specs`, its pool beside that.
    static func folder(_ spec: String) throws -> URL {
        let folder = try DemoTests.makeFolder()
        for (path, text) in [
            ("work/specs/e.yaml", spec), ("work/specs/job.yaml", job), ("work/pools/pool.yaml", pool),
            ("work/specs/text.txt", String(repeating: "It was a dark and stormy night. ", count: 200)),
        ] {
            let file = folder.appendingPathComponent(path)
            try FileManager.default.createDirectory(
                at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(text.utf8).write(to: file)
        }
        return folder
    }
    static func text(_ folder: URL, _ path: String) throws -> String {
        try String(contentsOf: folder.appendingPathComponent(path), encoding: .utf8)
    }

    @Test func `a plan's points come out the same on one thread, on several, in parts, again, and from the crate`()
        throws
    {
        let folder = try Self.folder(
            Self.spec("plan", "  what_if: [none, latency=x20]\n  topology.hosts.a.gflops: [3, 30]"))
        defer { try? FileManager.default.removeItem(at: folder) }
        func atoll(_ arguments: String..., at place: URL? = nil) throws -> (code: Int32, out: String, error: String) {
            let run = try DemoTests.atoll(arguments, in: folder, at: place ?? folder)
            return (run.code, run.out, run.error)
        }
        let first = try atoll("sweep", "work/specs/e.yaml", "--out", "one", "--threads", "1")
        #expect(first.code == 0 && first.out.contains("8 points: 8 computed"), "\(first.error)")
        let table = try Self.text(folder, "one/results.csv")
        #expect(table.contains("what_if,topology.hosts.a.gflops,seed,measure,unit,value,seeds,mean,ci95_low"))
        #expect(table.split(separator: "\n").count == 1 + 8 * 17)
        // Again: nothing is computed. One result lost: one is.
        #expect(try atoll("sweep", "work/specs/e.yaml", "--out", "one").out.contains("0 computed"))
        let points = try FileManager.default.contentsOfDirectory(
            atPath: folder.appendingPathComponent("one/points").path)
        #expect(points.count == 8)
        try FileManager.default.removeItem(at: folder.appendingPathComponent("one/points/\(points[0])"))
        try Data("{".utf8).write(to: folder.appendingPathComponent("one/points/\(points[1])"))
        #expect(try atoll("sweep", "work/specs/e.yaml", "--out", "one").out.contains("2 computed"))
        #expect(try Self.text(folder, "one/results.csv") == table)
        // Every line of the list by itself, in two folders.
        let list = try atoll("sweep", "work/specs/e.yaml", "--out", "part", "--list").out.split(separator: "\n")
        #expect(list.count == 8 && list[7] == "atoll sweep work/specs/e.yaml --out part --points 7")
        #expect(try atoll("sweep", "work/specs/e.yaml", "--out", "part-1", "--points", "0-2,7").code == 0)
        #expect(try atoll("sweep", "work/specs/e.yaml", "--out", "part-2", "--points", "3-6").code == 0)
        #expect(!FileManager.default.fileExists(atPath: folder.appendingPathComponent("part-1/results.csv").path))
        #expect(try atoll("sweep", "merge", "part-1", "part-2", "--out", "whole").code == 0)
        #expect(try Self.text(folder, "whole/results.csv") == table)
        // From the crate alone, somewhere else.
        #expect(try atoll("cite", "whole").code == 2)
        let cite = try atoll("cite", "whole", "--author", "Ada Lovelace", "--date", "2026-02-29")
        #expect(cite.code == 2 && cite.error.contains("2026-02-29"))
        #expect(try atoll("cite", "whole", "--author", "Ada Lovelace", "--date", "2026-02-28").code == 0)
        let elsewhere = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: elsewhere) }
        try FileManager.default.moveItem(
            at: folder.appendingPathComponent("whole"), to: elsewhere.appendingPathComponent("crate"))
        let crate = elsewhere.appendingPathComponent("crate")
        try Self.check(crate)
        #expect(try atoll("sweep", "inputs/specs/e.yaml", "--out", "again", at: crate).code == 0)
        #expect(try Self.text(crate, "again/results.csv") == table)
        // A topology that has changed since is another experiment's.
        try Data(Self.pool.replacing("latency_ms: 4", with: "latency_ms: 5").utf8).write(
            to: folder.appendingPathComponent("work/pools/pool.yaml"))
        #expect(try atoll("sweep", "work/specs/e.yaml", "--out", "part-2", "--points", "3").code == 0)
        let refused = try atoll("sweep", "merge", "part-1", "part-2", "--out", "other")
        #expect(refused.code == 2 && refused.error.contains("topology ../pools/pool.yaml is not the same file"))
    }

    /// What RO-Crate 1.1 asks for, and every file that it names.
    private static func check(_ crate: URL) throws {
        let data = try Data(contentsOf: crate.appendingPathComponent("ro-crate-metadata.json"))
        let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let graph = try #require(object["@graph"] as? [[String: Any]])
        // Every key of an entry is a word of RO-Crate 1.1, or defined in the crate.
        let words = try #require(object["@context"] as? [Any])
        #expect(words.first as? String == "https://w3id.org/ro/crate/1.1/context")
        #expect((words.last as? [String: String])?.keys.sorted() == ["sha256"])
        let entries = Dictionary(uniqueKeysWithValues: graph.map { ($0["@id"] as! String, $0) })
        let root = try #require(entries["./"])
        for key in ["name", "description", "datePublished", "license"] { #expect(root[key] != nil, "\(key)") }
        let parts = try #require(root["hasPart"] as? [[String: String]]).compactMap { $0["@id"] }
        #expect(parts.contains("inputs/specs/e.yaml") && parts.contains("inputs/pools/pool.yaml"))
        #expect(parts.contains("results.csv") && parts.count == 13)
        for part in parts {
            let size = try Data(contentsOf: crate.appendingPathComponent(part)).count
            #expect(entries[part]?["contentSize"] as? String == "\(size)")
        }
        // Nothing is referred to that is not there.
        func references(_ value: Any) -> [String] {
            if let list = value as? [Any] { return list.flatMap(references) }
            guard let object = value as? [String: Any] else { return [] }
            if object.count == 1, let id = object["@id"] as? String { return [id] }
            return object.values.flatMap(references)
        }
        let known = Set(entries.keys).union(["https://w3id.org/ro/crate/1.1"])
        #expect(Set(graph.flatMap { references(Array($0.values)) }).isSubset(of: known))
        #expect(try text(crate, "CITATION.cff").contains("given-names: \"Ada\"\n    family-names: \"Lovelace\""))
    }

    @Test func `a replay's points take a given plan, a trace's pace and real losses; what is wrong is said by line`()
        throws
    {
        let folder = try Self.folder(
            Self.spec("replay", "  replay.trace_scale: [1, 0.00000001]\n  replay.real: [true]").replacing(
                "seeds: 2", with: "seeds: [5]"
            )
            .replacing("iterations: 20", with: "iterations: 20, replay.steps: 8, replay.plan: plan.json"))
        defer { try? FileManager.default.removeItem(at: folder) }
        let plan = try DemoTests.atoll(
            ["plan", "work/pools/pool.yaml", "--job", "work/specs/job.yaml", "--json"], in: folder, at: folder)
        try Data(plan.out.utf8).write(to: folder.appendingPathComponent("work/specs/plan.json"))
        let run = try DemoTests.atoll(["sweep", "work/specs/e.yaml", "--out", "out"], in: folder, at: folder)
        #expect(run.code == 0 && run.out.contains("2 points: 2 computed"), "\(run.error)")
        let lines = try Self.text(folder, "out/results.csv").split(separator: "\n").map {
            $0.split(separator: ",", omittingEmptySubsequences: false)
        }
        func value(_ scale: String, _ measure: String) -> Double? {
            lines.first { $0[1] == scale && $0[3] == measure }.flatMap { Double($0[5]) }
        }
        #expect(value("1", "trained") == 2048 && value("0.00000001", "trained") == 2048)
        // The fastest becomes slow at the beginning instead of a day later.
        #expect(try #require(value("1", "validation_loss")) < 6)
        #expect(try #require(value("0.00000001", "total")) > 1.5 * #require(value("1", "total")))
        // The plan is checked against each point's topology.
        let spec = folder.appendingPathComponent("work/specs/e.yaml")
        let good = try Self.text(folder, "work/specs/e.yaml")
        for (found, put, line, said) in [
            (
                "replay.real: [true]", "topology.hosts.a.memory_mib: [0.01]", nil as Int?,
                "host a of topology pool offers"
            ),
            ("replay.real: [true]", "job.parallel.inner_step: [4]", 10, "inner_step"),
            ("replay.real: [true]", "job.parallel.inner_steps: [4, many]", 10, "many"),
            ("replay.real: [true]", "what_if: [latancy=x2]", 10, "latancy"),
            ("replay.real: [true]", "planner.exclude: [[z]]", 10, "no host z"),
            ("replay.real: [true]", "replay.reel: [true]", 10, "did you mean replay.real"),
        ] {
            try Data(good.replacing(found, with: put).utf8).write(to: spec)
            let run = try DemoTests.atoll(["sweep", "work/specs/e.yaml", "--out", "out"], in: folder, at: folder)
            #expect(run.code == 2 && run.error.contains(said), "\(put): \(run.error)")
            if let line { #expect(run.error.contains("e.yaml:\(line)"), "\(run.error)") }
        }
    }
}
