import Foundation
import Testing

/// Three electors on loopback: the launcher's process is killed, the peers go on, and the launcher comes back for the result.
@Suite(.serialized) struct ElectorCommandTests {
    private static let job = """
        name: electors
        model: {architecture: llama, hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 64, context: 64, tokenizer: byte}
        data: {path: corpus.txt, validation_fraction: 0.05}
        train: {tokens: 262_144, batch_tokens: 2048, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
        parallel: {virtual_pipelines: 8, micro_batch: 4, pipelines: 2, stages: 1, inner_steps: 1}
        exchange: {codec: fp32, quality_budget: 10}
        activations: {codec: fp32}
        electors: ELECTORS
        checkpoint: {every_rounds: 1000, copies: 1}

        """

    @Test func `a launcher that is killed is not missed, and comes back for the weights of an undisturbed run`() throws
    {
        let folder = try DemoTests.makeFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
        let text = try DemoTests.writeText(folder)
        func job(electors: Int) throws -> String {
            let file = path("job-\(electors).yaml")
            try Self.job.replacingOccurrences(of: "corpus.txt", with: text)
                .replacingOccurrences(of: "ELECTORS", with: "\(electors)")
                .write(toFile: file, atomically: true, encoding: .utf8)
            return file
        }
        let pool = try RunningPool(folder, peers: 3)
        defer { pool.end() }
        let peers = pool.peers
        let whole = try pool.launch(job(electors: 1), "whole")
        whole.process.waitUntilExit()
        try #require(whole.process.terminationStatus == 0, "\(whole.text.suffix(2000))")

        let first = try pool.launch(job(electors: 3), "killed")
        try #require(first.prints("electors_chosen"), "\(first.text.suffix(2000))")
        try #require(first.prints("\"round_sealed\""), "\(first.text.suffix(2000))")
        first.end(SIGKILL)
        let isTaken = (0..<400).contains { _ in
            Thread.sleep(forTimeInterval: 0.05)
            // A node says it in a sentence.
            return peers.contains { $0.text.contains("leadership_taken") }
                || pool.node.text.contains("this machine coordinates the job from round")
        }
        try #require(isTaken, "\(peers.map { $0.text.suffix(500) })")
        let second = try pool.launch(job(electors: 3), "killed", ["--resume"])
        second.process.waitUntilExit()
        try #require(second.process.terminationStatus == 0, "\(second.text.suffix(2000))")
        let (a, b) = (try pool.report("whole"), try pool.report("killed"))
        #expect(a["weights_sha256"] as? String == b["weights_sha256"] as? String)
        let books = try #require(b["micro_batches"] as? [String: Any])
        #expect(books["audit_agrees"] as? Bool == true && books["lost"] as? Int == 0)
        // Nobody went back, and nobody was missed but the launcher.
        for peer in peers { #expect(!peer.text.contains("rolled_back") && !peer.text.contains("\"peer_lost\"")) }
        try checkLog(folder)
    }
    /// An elector's log is checked alone.
    private func checkLog(_ folder: URL) throws {
        func path(_ name: String) -> String { folder.appendingPathComponent(name).path }
        let logs = try FileManager.default.contentsOfDirectory(atPath: path("node/launcher/log"))
        #expect(logs.contains { $0.hasSuffix(".ballot") } && logs.contains { $0.hasSuffix(".certificate") })
        let log = try #require(logs.first { $0.hasSuffix(".ballot") }?.dropLast(7))
        let verify = try Running(["verify", path("node/launcher/log/\(log)")], folder, "verify")
        verify.process.waitUntilExit()
        #expect(verify.process.terminationStatus == 0 && verify.text.contains("term"), "\(verify.text)")
    }
}
