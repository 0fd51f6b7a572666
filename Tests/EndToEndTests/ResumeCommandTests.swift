import Foundation
import Testing

/// A launcher that is killed, and one that goes on: real processes on loopback.
@Suite(.serialized) struct ResumeCommandTests {
    private static let job = """
        name: resume
        model: {architecture: llama, hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 64, context: 64, tokenizer: byte}
        data: {path: corpus.txt, validation_fraction: 0.05}
        train: {tokens: 131_072, batch_tokens: 2048, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
        parallel: {virtual_pipelines: 8, micro_batch: 4, pipelines: 2, stages: 1, inner_steps: 1}
        exchange: {codec: fp32, quality_budget: 10}
        activations: {codec: fp32}
        electors: 1
        checkpoint: {every_rounds: 5, copies: 1}

        """

    @Test func `a launcher that is killed goes on with what its peers hold, and ends with the same weights`() throws {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
        let text = try DemoTests.writeText(folder)
        let job = path("job.yaml")
        try Self.job.replacingOccurrences(of: "corpus.txt", with: text).write(
            toFile: job, atomically: true, encoding: .utf8)
        let pool = try RunningPool(folder, peers: 2)
        defer { pool.end() }
        // Uninterrupted.
        let whole = try pool.launch(job, "whole")
        whole.process.waitUntilExit()
        try #require(whole.process.terminationStatus == 0, "\(whole.text.suffix(2000))")
        // With H = 1 the weights do not depend on who computes which share. Killed in the middle, then stopped by ^C, then to the end.
        let first = try pool.launch(job, "broken")
        try #require(first.prints("round_sealed"), "\(first.text.suffix(2000))")
        first.end(SIGKILL)
        let second = try pool.launch(job, "broken", ["--resume"])
        try #require(second.prints("job_resumed") && second.prints("round_sealed"), "\(second.text.suffix(2000))")
        second.end(SIGINT)
        #expect(second.text.contains("--resume"))
        // The job is done, and the result cannot be written where it is wanted.
        let obstacle = path("broken/report.json")
        try FileManager.default.createDirectory(atPath: obstacle, withIntermediateDirectories: true)
        let failed = try pool.launch(job, "broken", ["--resume"])
        failed.process.waitUntilExit()
        #expect(failed.process.terminationStatus == 1 && failed.text.contains("--resume writes what is missing"))
        try FileManager.default.removeItem(atPath: obstacle)
        let third = try pool.launch(job, "broken", ["--resume", "--json"])
        third.process.waitUntilExit()
        try #require(third.process.terminationStatus == 0, "\(third.text.suffix(2000))")
        let (a, b) = (try pool.report("whole"), try pool.report("broken"))
        #expect(a["weights_sha256"] as? String == b["weights_sha256"] as? String)
        let books = try #require(b["micro_batches"] as? [String: Any])
        #expect(books["audit_agrees"] as? Bool == true)
        // It is over: there is nothing to go on from.
        let fourth = try pool.launch(job, "broken", ["--resume"])
        fourth.process.waitUntilExit()
        #expect(fourth.process.terminationStatus == 2 && fourth.text.contains("nothing to resume"))
    }
}
