import Foundation
import Testing

/// Runs the built program as a person would: real processes, real sockets, real TLS, a real model.
@Suite(.serialized) struct DemoTests {
    static let program: URL = {
        // The test bundle lies beside the program in the build folder.
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
        for _ in 0..<6 {
            let candidate = folder.appendingPathComponent("atoll")
            if FileManager.default.isExecutableFile(atPath: candidate.path) { return candidate }
            let release = folder.appendingPathComponent(".build/release/atoll")
            if FileManager.default.isExecutableFile(atPath: release.path) { return release }
            folder.deleteLastPathComponent()
        }
        return URL(fileURLWithPath: FileManager.default.currentDirectoryPath + "/.build/release/atoll")
    }()

    struct Run {
        var code: Int32
        var out: String
        var error: String
    }

    /// - Parameter place: the folder that paths are relative to; nil: this process's.
    static func atoll(_ arguments: [String], in folder: URL, at place: URL? = nil) throws -> Run {
        let process = Process()
        process.executableURL = program
        process.arguments = arguments
        process.currentDirectoryURL = place ?? URL(fileURLWithPath: FileManager.default.currentDirectoryPath)
        var environment = ProcessInfo.processInfo.environment
        environment["ATOLL_HOME"] = folder.appendingPathComponent("home").path
        process.environment = environment
        let outFile = folder.appendingPathComponent("stdout-\(UUID().uuidString)")
        let errorFile = folder.appendingPathComponent("stderr-\(UUID().uuidString)")
        for file in [outFile, errorFile] { _ = FileManager.default.createFile(atPath: file.path, contents: nil) }
        process.standardOutput = try FileHandle(forWritingTo: outFile)
        process.standardError = try FileHandle(forWritingTo: errorFile)
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return Run(
            code: process.terminationStatus, out: try String(contentsOf: outFile, encoding: .utf8),
            error: try String(contentsOf: errorFile, encoding: .utf8))
    }

    static func makeFolder() throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder
    }

    /// Something like English, the same each time: enough structure that a few steps lower the loss.
    static func writeText(_ folder: URL) throws -> String {
        let words = [
            "the ", "sea ", "and ", "island ", "of ", "coral ", "light ", "was ", "wide ", "wind ", "over ", "deep. ",
        ]
        var state: UInt64 = 1
        var text = ""
        while text.utf8.count < 120_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            text += words[Int(state >> 33) % words.count]
        }
        let path = folder.appendingPathComponent("text.txt")
        try text.write(to: path, atomically: true, encoding: .utf8)
        return path.path
    }

    static func job(_ folder: URL, _ name: String, innerSteps: String, codec: String, activations: String) throws
        -> String
    {
        let text = """
            name: \(name)
            model: {architecture: llama, hidden_size: 64, layers: 4, heads: 4, kv_heads: 2, intermediate_size: 192, context: 64, tokenizer: byte}
            data: {path: text.txt, validation_fraction: 0.1}
            train: {tokens: 16384, learning_rate: 3e-3, seed: 3}
            parallel: {virtual_pipelines: 8, micro_batch: 2, pipelines: auto, stages: auto, inner_steps: \(innerSteps)}
            exchange: {codec: "\(codec)"}
            activations: {codec: \(activations)}
            """
        let path = folder.appendingPathComponent(name + ".yaml")
        try text.write(to: path, atomically: true, encoding: .utf8)
        return path.path
    }

    /// Four peers of which none holds the whole model; quick links, so that the test is about correctness.
    static func topology(_ folder: URL) throws -> String {
        let text = """
            name: test
            about: "Four small computers in one house, for tests."
            expect: "Two pipelines of two stages."
            regions:
              - {name: house, latency_ms: 3}
            hosts:
              - {name: ada, device: laptop, gflops: 8, memory_mib: 7, up_mbps: 200, down_mbps: 200, region: house}
              - {name: bea, device: laptop, gflops: 8, memory_mib: 7, up_mbps: 200, down_mbps: 200, region: house}
              - {name: cleo, device: laptop, gflops: 6, memory_mib: 7, up_mbps: 200, down_mbps: 200, region: house}
              - {name: dora, device: laptop, gflops: 6, memory_mib: 7, up_mbps: 200, down_mbps: 200, region: house}
            """
        let path = folder.appendingPathComponent("test.yaml")
        try text.write(to: path, atomically: true, encoding: .utf8)
        return path.path
    }

    static func object(_ text: String) throws -> [String: Any] {
        try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }
    static func descend(_ object: [String: Any], _ path: String...) throws -> Any {
        var value: Any = object
        for key in path { value = try #require((value as? [String: Any])?[key], "\(key)") }
        return value
    }

    @Test func `a demo loses a peer, goes on, and ends with a checkpoint whose books balance`() throws {
        let folder = try Self.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let text = try Self.writeText(folder)
        let out = folder.appendingPathComponent("demo").path
        let run = try Self.atoll(
            [
                "demo", "--job", Self.job(folder, "auto", innerSteps: "4", codec: "int8", activations: "bf16"),
                "--topology",
                Self.topology(folder), "--data", text, "--out", out, "--json", "--seed", "5",
            ], in: folder)
        #expect(run.code == 0, "\(run.error)")
        let report = try Self.object(run.out)
        let pipelines = try #require(try Self.descend(report, "plan", "pipelines") as? [[String: Any]])
        #expect(!pipelines.isEmpty)
        let kinds = try #require(report["events"] as? [[String: Any]]).compactMap { $0["kind"] as? String }
        #expect(kinds.contains("peer_lost") && kinds.contains("training_resumed"))
        let books = try #require(report["micro_batches"] as? [String: Any])
        let number = { (key: String) in books[key] as? Int ?? -1 }
        #expect(number("granted") == number("counted") + number("late") + number("lost") + number("superseded"))
        #expect(books["audit_agrees"] as? Bool == true)
        let rounds = try #require(report["rounds"] as? [[String: Any]])
        let first = try #require(rounds.first?["train_loss"] as? Double)
        let last = try #require(try Self.descend(report, "final", "validation_loss") as? Double)
        #expect(last < first * 0.8, "the loss went from \(first) to \(last) only")
        for file in ["config.json", "model.safetensors", "tokenizer.json", "generation_config.json"] {
            #expect(FileManager.default.fileExists(atPath: out + "/checkpoint/" + file), "\(file)")
        }
        let sample = try Self.atoll(
            ["generate", out + "/checkpoint", "--prompt", "the sea", "--count", "20"], in: folder)
        #expect(sample.code == 0 && sample.out.hasPrefix("the sea"))
    }

    @Test func `over the pool one step an exchange in fp32 gives the bits of a local run`() throws {
        let folder = try Self.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let text = try Self.writeText(folder)
        let job = try Self.job(folder, "exact", innerSteps: "1", codec: "fp32", activations: "fp32")
        let pool = try Self.atoll(
            [
                "demo", "--job", job, "--topology", Self.topology(folder), "--data", text, "--out",
                folder.appendingPathComponent("demo").path, "--json", "--no-kill", "--steps", "6", "--seed", "3",
            ], in: folder)
        #expect(pool.code == 0, "\(pool.error)")
        let local = try Self.atoll(
            [
                "launch", job, "--local", "--data", text, "--steps", "6", "--seed", "3", "--json", "--out",
                folder.appendingPathComponent("local").path,
            ], in: folder)
        #expect(local.code == 0, "\(local.error)")
        let a = try Self.object(pool.out)
        let b = try Self.object(local.out)
        let stages = try #require(
            (try Self.descend(a, "plan", "pipelines") as? [[String: Any]])?.first?["stages"] as? [Any])
        #expect(stages.count >= 2, "the plan must cut the model for this test to mean something")
        #expect(a["weights_sha256"] as? String == b["weights_sha256"] as? String)
        let x = try #require(try Self.descend(a, "final", "validation_loss") as? Double)
        let y = try #require(try Self.descend(b, "final", "validation_loss") as? Double)
        #expect(x == y)
    }

    @Test func `bad input ends with code 2 and says what, where and what to try`() throws {
        let folder = try Self.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let text = try Self.writeText(folder)
        let job = try Self.job(folder, "fine", innerSteps: "1", codec: "fp32", activations: "fp32")
        let out = folder.appendingPathComponent("out").path
        func expectRefusal(_ arguments: [String], _ words: String...) throws {
            let run = try Self.atoll(arguments, in: folder)
            #expect(run.code == 2, "\(arguments): \(run.code) \(run.error)")
            for word in words { #expect(run.error.contains(word), "\(arguments): \(run.error)") }
        }
        try expectRefusal(["launch", job, "--local", "--data", folder.path + "/none.txt", "--out", out], "none.txt")
        let empty = folder.appendingPathComponent("empty.txt")
        try Data().write(to: empty)
        try expectRefusal(["launch", job, "--local", "--data", empty.path, "--out", out], "empty")
        let broken = folder.appendingPathComponent("broken.yaml")
        let good = try String(contentsOfFile: job, encoding: .utf8)
        try good.replacingOccurrences(of: "learning_rate", with: "learning_rat").write(
            to: broken, atomically: true, encoding: .utf8)
        try expectRefusal(
            ["launch", broken.path, "--local", "--data", text, "--out", out], "learning_rat", "broken.yaml:4")
        try good.replacingOccurrences(of: "layers: 4", with: "layers: many").write(
            to: broken, atomically: true, encoding: .utf8)
        try expectRefusal(["launch", broken.path, "--local", "--data", text, "--out", out], "layers", "many")
        try expectRefusal(["launch", job, "--data", text], "--invite")
        try expectRefusal(["peer", "--invite", folder.path + "/none"], "none")
        try expectRefusal(["generate", folder.path], "config.json")
        try expectRefusal(["replay", folder.path + "/none.yaml", "--job", job], "none.yaml")
        try expectRefusal(["no-such-command"])
        #expect(!FileManager.default.fileExists(atPath: out + "/report.json"))
    }
}
