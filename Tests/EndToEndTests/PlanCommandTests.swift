import Foundation
import Testing

/// `atoll plan` as a person would run it.
@Suite struct `Plans on the command line` {
    private static let configuration = """
        {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
         "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu",
         "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false}
        """

    /// The job's model has two layers, the folder's five; no weights are there.
    @Test func `a plan for a folder's model needs its configuration alone`() throws {
        let folder = try SweepCommandTests.folder("")
        defer { try? FileManager.default.removeItem(at: folder) }
        let model = folder.appendingPathComponent("model")
        try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
        try Data(Self.configuration.utf8).write(to: model.appendingPathComponent("config.json"))
        func plan(_ more: [String]) throws -> DemoTests.Run {
            try DemoTests.atoll(
                ["plan", "work/pools/pool.yaml", "--job", "work/specs/job.yaml", "--iterations", "20"] + more,
                in: folder,
                at: folder)
        }
        for path in ["model", "model/config.json"] {
            let run = try plan(["--model", path, "--json"])
            #expect(run.code == 0, "\(run.error)")
            let json = try #require(try JSONSerialization.jsonObject(with: Data(run.out.utf8)) as? [String: Any])
            let pipelines = try #require(json["pipelines"] as? [[String: Any]])
            let units = (pipelines[0]["stages"] as? [[String: Any]])?.last?["units"]
            #expect("\(try #require(units))".contains("7"))
        }
        #expect(try plan(["--model", "model"]).error.contains("in 5 layers, with sequences of 32 tokens"))
        let missing = try plan(["--model", "nothing"])
        #expect(missing.code == 2 && missing.error.contains("--model nothing: there is no such folder or file"))
        try Data(Self.configuration.replacing("llama", with: "mamba").utf8).write(
            to: model.appendingPathComponent("config.json"))
        let unknown = try plan(["--model", "model"])
        #expect(unknown.code == 2 && unknown.error.contains("model/config.json"), "\(unknown.error)")
    }
}
