import Foundation
import Testing

/// Figures beside the report, and numbers that are none.
@Suite struct `Figures and numbers on the command line` {
    private static let job = """
        name: small
        model: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, kv_heads: 2, intermediate_size: 32, context: 16, tokenizer: byte}
        data: {path: text.txt, validation_fraction: 0.1}
        train: {tokens: 1024, batch_tokens: 128, optimizer: adamw, learning_rate: 3e-3, seed: 1}
        parallel: {virtual_pipelines: 2, micro_batch: 4, inner_steps: 2}
        """
    private static func folder() throws -> URL {
        let folder = try DemoTests.makeFolder()
        try job.write(to: folder.appendingPathComponent("job.yaml"), atomically: true, encoding: .utf8)
        try String(repeating: "in the beginning ", count: 400).write(
            to: folder.appendingPathComponent("text.txt"), atomically: true, encoding: .utf8)
        return folder
    }

    @Test func `a run in one process leaves a table and TensorBoard's file`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(
            ["launch", "job.yaml", "--local", "--out", "out", "--json"], in: folder, at: folder)
        #expect(run.code == 0, "\(run.error)")
        let table = try String(contentsOf: folder.appendingPathComponent("out/rounds.csv"), encoding: .utf8)
        let rows = table.split(separator: "\n").map { $0.split(separator: ",", omittingEmptySubsequences: false) }
        #expect(rows.count == 5 && rows.allSatisfy { $0.count == rows[0].count })
        #expect(rows.last?[1] == "8" && rows.last?[2] == "1024")
        // The table's validation is of the start of a round, the report's of its end.
        let report = try #require(try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any])
        let rounds = try #require(report["rounds"] as? [[String: Any]])
        #expect(rows[1][4] == "" && Double(rows[2][4]) == rounds[0]["validation_loss"] as? Double)
        #expect(Double(rows[4][3]) == rounds[3]["train_loss"] as? Double)
        let boards = try FileManager.default.contentsOfDirectory(
            atPath: folder.appendingPathComponent("out/tensorboard").path)
        #expect(boards.count == 1 && boards[0].hasPrefix("events.out.tfevents."))
    }

    /// What a pool would do is in SimulationTests; here are the files, and what is said of them.
    @Test func `a mixture of two texts is read by weight, and judged text by text`() throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try String(repeating: "und die Erde war wüst ", count: 100).write(
            to: folder.appendingPathComponent("other.txt"), atomically: true, encoding: .utf8)
        let sources = "sources: [{path: text.txt, weight: 1}, {path: other.txt, weight: 3}]"
        try Self.job.replacingOccurrences(of: "path: text.txt", with: sources).write(
            to: folder.appendingPathComponent("mixed.yaml"), atomically: true, encoding: .utf8)
        let run = try DemoTests.atoll(
            ["launch", "mixed.yaml", "--local", "--out", "out", "--json"], in: folder, at: folder)
        #expect(run.code == 0, "\(run.error)")
        #expect(
            run.error.contains("300 bytes, 75.0 % of what is read, 0.37 times in all"),
            "\(run.error)")
        let report = try #require(try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any])
        let final = try #require(report["final"] as? [String: Any])
        #expect((final["source_losses"] as? [Double])?.count == 2)
        try "short".write(to: folder.appendingPathComponent("other.txt"), atomically: true, encoding: .utf8)
        let refused = try DemoTests.atoll(["launch", "mixed.yaml", "--local"], in: folder, at: folder)
        #expect(refused.code == 2 && refused.error.contains("other.txt has 5 bytes"), "\(refused.error)")
    }

    @Test(arguments: [
        (["--steps", "-1"], "--steps -1: at least 1"), (["--steps=-1"], "--steps -1: at least 1"),
        (["--threads", "-2"], "--threads -2: 1 to 1024"), (["--wait", "-3"], "--wait -3.0: seconds, at least 0"),
        (["--peers", "-1"], "--peers -1: at least 1"),
    ])
    func `a number below zero is called too small`(option: [String], says: String) throws {
        let folder = try Self.folder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = try DemoTests.atoll(["launch", "job.yaml", "--local"] + option, in: folder, at: folder)
        #expect(run.code == 2)
        #expect(run.error.contains(says), "\(run.error)")
    }
}
