import Compute
import Planning
import Primitives
import Testing
import Topologies

@Suite struct `A job manifest` {
    /// The example of the design.
    static let example = """
        # job.yaml
        name: kjv-tiny
        model: {architecture: llama, hidden_size: 128, layers: 6, heads: 4, kv_heads: 2, intermediate_size: 384, context: 256, tokenizer: byte}
        data: {path: corpus.txt, validation_fraction: 0.05}          # a path at the launcher, or a content ID
        train: {tokens: 500_000, batch_tokens: auto, optimizer: adamw, learning_rate: 3e-3, schedule: cosine, clip: 1.0, seed: 1}
        parallel: {virtual_pipelines: 8, micro_batch: 4, pipelines: auto, stages: auto, inner_steps: auto}
        exchange: {codec: auto, quality_budget: 0.05}
        activations: {codec: auto}                                     # fp32 | bf16 | int8 | int4 | auto
        electors: 1
        checkpoint: {every_rounds: 10, copies: 2}
        """
    static func failure(_ old: String, _ new: String) -> ManifestError? {
        let parts = example.split(separator: old, maxSplits: 1, omittingEmptySubsequences: false)
        precondition(parts.count == 2, "\(old) is not in the example")
        do {
            _ = try JobManifest(parsing: "\(parts[0])\(new)\(parts[1])", file: "job.yaml")
            return nil
        } catch { return error }
    }

    @Test func `is read as the design writes it`() throws {
        let job = try JobManifest(parsing: Self.example)
        #expect(job.name == "kjv-tiny")
        #expect(job.tokens == 500_000 && job.learningRate == 3e-3 && job.seed == 1)
        #expect(job.model.parameters == 1_246_848)
        #expect(job.data == .path("corpus.txt"))
        #expect(job.innerSteps == .auto && job.exchangeCodec == .auto && job.batchTokens == .auto)
        #expect(job.geometry(microBatchesPerVirtual: 1).batchTokens == 8192)
        #expect(job.steps(microBatchesPerVirtual: 1) == 62)
        #expect(job.model.tieWordEmbeddings == false)
    }

    @Test func `takes a folder's model at its launcher, and is signed with its units`() throws {
        let text = Self.example.replacing(#/architecture[^}]*byte/#, with: "from: smol, context: 64")
        let shape = ModelShape(
            hiddenSize: 96, layers: 2, heads: 6, kvHeads: 2, intermediateSize: 200, context: 128, vocabulary: 5000,
            tieWordEmbeddings: true)
        var asked: [String] = []
        var job = try JobManifest(parsing: Array(text.utf8)) { folder in
            asked.append(folder)
            return shape
        }
        #expect(asked == ["smol"] && job.beginning.folder == "smol" && job.text.tokenizer == .ids)
        #expect(job.model.context == 64 && job.model.vocabulary == 5000 && job.model.tieWordEmbeddings)
        job.data = .content(String(repeating: "0a", count: 32))
        job.text.tokens = 123_456
        job.beginning.units = (0..<4).map { Digest256([UInt8](repeating: $0, count: 32))! }
        var again = try JobManifest(parsing: job.canonicalText)
        #expect(again.beginning.folder == nil && again.beginning.units == job.beginning.units)
        #expect(again.text.tokens == 123_456)
        again.beginning.folder = "smol"
        #expect(again == job)

        let cut = text.replacing("context: 64", with: "context: 64, tie_word_embeddings: false")
        #expect(try !JobManifest(parsing: Array(cut.utf8), folders: { _ in shape }).model.tieWordEmbeddings)
        for (old, new) in [("context: 64", "context: 129"), ("context: 64", "layers: 3")] {
            let wrong = text.replacing(old, with: new)
            #expect(throws: ManifestError.self) { try JobManifest(parsing: Array(wrong.utf8), folders: { _ in shape }) }
        }
        // Nobody else's job names a folder of ours.
        #expect(throws: ManifestError.self) { try JobManifest(parsing: text) }
        job.beginning.units.removeLast()
        #expect(throws: ManifestError.self) { try JobManifest(parsing: job.canonicalText) }
        job.beginning.units = []
        job.text.tokens = nil
        #expect(throws: ManifestError.self) { try JobManifest(parsing: job.canonicalText) }
    }

    @Test func `reads back equal from its canonical text, whatever it says`() throws {
        var job = try JobManifest(parsing: Self.example)
        #expect(try JobManifest(parsing: job.canonicalText) == job)
        job.name = "a name"
        job.data = .content(String(repeating: "0a", count: 32))
        job.exchangeCodec = .fixed(.sparse(k: 64))
        job.activationCodec = .fixed(.bf16)
        job.innerSteps = .fixed(5)
        job.batchTokens = .fixed(16_384)
        job.learningRate = 0.1 + 0.2
        job.clip = 0
        job.seed = 77
        job.model.tieWordEmbeddings = true
        job.electors.count = .fixed(3)
        let again = try JobManifest(parsing: job.canonicalText)
        #expect(again == job)
        #expect(again.canonicalText == job.canonicalText)
        job.data = .path("a \"quoted\" path/ü\n.txt")
        #expect(try JobManifest(parsing: job.canonicalText) == job)
    }

    @Test func `takes several sources with weights, and is signed with how long each is`() throws {
        let text = Self.example.replacing(
            "path: corpus.txt", with: "sources: [{path: a b.txt, weight: 3}, {path: c.jsonl, weight: 0.25}]")
        var job = try JobManifest(parsing: text)
        #expect(
            job.data == .mixture([.init(path: "a b.txt", weight: 3), .init(path: "c.jsonl", weight: 0.25)]))
        #expect(job.text.parts.isEmpty)
        #expect(try JobManifest(parsing: job.canonicalText) == job)
        job.data = .content(String(repeating: "0a", count: 32))
        job.text.parts = [DataPart(tokens: 700, weight: 3), DataPart(tokens: 41, weight: 0.25)]
        #expect(try JobManifest(parsing: job.canonicalText) == job)
        job.text.tokenizer = .ids
        job.model.vocabulary = 5000
        job.text.tokens = 741
        #expect(try JobManifest(parsing: job.canonicalText) == job)
        job.text.tokens = 742
        #expect(throws: ManifestError.self) { try JobManifest(parsing: job.canonicalText) }
    }

    @Test(arguments: [
        ("sources: []", "data.sources"), ("sources: a.txt", "data.sources"), ("sources: [a.txt]", "data.sources[0]"),
        ("sources: [{path: a.txt}]", "data.sources[0].weight"), ("sources: [{weight: 1}]", "data.sources[0].path"),
        ("sources: [{path: a.txt, weight: 0}]", "data.sources[0].weight"),
        ("sources: [{path: a.txt, weight: 1, tokens: 4}]", "data.sources[0].tokens"),
        ("sources: [{path: a.txt, weight: 1}, {path: b.txt, weight: 1e-7}]", "data.sources"),
        ("sources: [{path: a.txt, weight: 1}], path: b.txt", "data"),
    ]) func `whose sources make no mixture is refused`(data: String, key: String) {
        #expect(Self.failure("path: corpus.txt", data)?.key == key)
    }

    @Test func `says how many carry the record, and whose keys may found the job anew`() throws {
        for (text, count) in [
            ("1", Setting.fixed(1)), ("3", .fixed(3)), ("4", .fixed(4)), ("5", .fixed(5)), ("auto", .auto),
        ] {
            #expect(
                try JobManifest(parsing: Self.example.replacing("electors: 1", with: "electors: \(text)")).electors
                    .count == count)
        }
        func job(_ electors: String, _ recovery: String) throws(ManifestError) -> JobManifest {
            try JobManifest(
                parsing: Self.example.replacing("electors: 1", with: "electors: \(electors)\nrecovery: {\(recovery)}"))
        }
        let keys = (1...3).map { String(repeating: "\($0)a", count: 32) }
        let good = try job("auto", "needed: 2, keys: [\(keys.joined(separator: ", "))]")
        #expect(good.electors.recovery == RecoveryKeys(needed: 2, of: keys.compactMap { PeerID(hex: $0) }))
        #expect(try JobManifest(parsing: good.canonicalText) == good)
        for (electors, recovery, key) in [
            ("2", "needed: 1, keys: [\(keys[0])]", "electors"), ("6", "needed: 1, keys: [\(keys[0])]", "electors"),
            ("some", "needed: 1, keys: [\(keys[0])]", "electors"), ("1", "needed: 1, keys: [\(keys[0])]", "recovery"),
            ("3", "needed: 2, keys: [\(keys[0])]", "recovery.keys"),
            ("3", "needed: 0, keys: [\(keys[0])]", "recovery.needed"),
            ("3", "needed: 1, keys: [\(keys[0]), \(keys[0])]", "recovery.keys"),
            ("3", "needed: 1, keys: []", "recovery.keys"),
            ("3", "needed: 1, keys: [abc]", "recovery.keys"), ("3", "needed: 1", "recovery.keys"),
            ("3", "keys: [\(keys[0])]", "recovery.needed"),
        ] {
            do {
                _ = try job(electors, recovery)
                Issue.record("\(electors), \(recovery)")
            } catch {
                #expect(error.description.contains(key), "\(error)")
            }
        }
    }

    @Test func `says whose keys may collect the result, with one elector or several`() throws {
        func job(_ list: String, electors: Int = 1) throws(ManifestError) -> JobManifest {
            try JobManifest(
                parsing: Self.example.replacing(
                    "electors: 1", with: "electors: \(electors)\ncollectors: \(list)"))
        }
        let usual = try JobManifest(parsing: Self.example)
        #expect(usual.electors.collectors.isEmpty && !usual.canonicalText.contains("collectors"))
        let keys = (0..<17).map { String(repeating: String($0 + 160, radix: 16), count: 32) }
        for electors in [1, 3] {
            let good = try job("[\(keys[1]), \(keys[0])]", electors: electors)
            #expect(good.electors.collectors == keys[0...1].compactMap { PeerID(hex: $0) })
            #expect(good.canonicalText.contains("collectors: [\(keys[0]), \(keys[1])]\n"))
            #expect(try JobManifest(parsing: good.canonicalText) == good)
        }
        #expect(try job("[\(keys[..<16].joined(separator: ", "))]").electors.collectors.count == 16)
        for wrong in [
            "[\(keys.joined(separator: ", "))]", "[\(keys[0]), \(keys[0])]", "[]", "[abc]", keys[0],
            "{keys: [\(keys[0])]}",
        ] {
            do {
                _ = try job(wrong)
                Issue.record("\(wrong)")
            } catch {
                #expect(error.description.contains("collectors"), "\(error)")
            }
        }
    }

    @Test func `reads models and recipes that are not as usual, and only those make its text longer`() throws {
        var job = try JobManifest(parsing: Self.example)
        let usual = job.canonicalText
        let changes: [(inout JobManifest) -> Void] = [
            { $0.checkpoint.keep = 3 }, { $0.checkpoint.onDivergence = .retreat },
            { $0.model.headSize = 48 }, { $0.model.projectionBias = .queryKeyValue },
            { $0.model.projectionBias = .all },
            { $0.model.queryKeyNorm = true }, { $0.model.ropeScaling = .linear(factor: 2.5) },
            {
                $0.model.ropeScaling = .llama3(factor: 8, lowFactor: 1, highFactor: 4, originalContext: 8192)
            }, { $0.model.layersWithoutRope = [3, 5] }, { $0.schedule = .linear }, { $0.schedule = .wsd },
            { $0.recipe.beta1 = 0.8 }, { $0.recipe.beta2 = 0.999 }, { $0.recipe.epsilon = 1e-6 },
            { $0.recipe.decays = .blocks }, { $0.recipe.finalShare = 0 }, { $0.recipe.decayTokens = 1000 },
            { $0.recipe.zLoss = 1e-5 }, { $0.recipe.kept.state = .bf16 }, { $0.recipe.kept.weights = .bf16 },
            { $0.optimizer = .muon }, { $0.recipe.momentum = 0.9 },
        ]
        for change in changes {
            var one = try JobManifest(parsing: Self.example)
            change(&one)
            #expect(one.canonicalText != usual)
            #expect(try JobManifest(parsing: one.canonicalText) == one)
            change(&job)
        }
        for adapters in [Adapters(rank: 8, alpha: 12.5, targets: [.v, .q]), Adapters(rank: 4, alpha: 8)] {
            var one = try JobManifest(parsing: Self.example)
            one.recipe.adapters = adapters
            one.innerSteps = .fixed(20)
            #expect(try JobManifest(parsing: one.canonicalText) == one)
            // They live within rounds.
            one.innerSteps = .fixed(1)
            #expect(throws: ManifestError.self) { try JobManifest(parsing: one.canonicalText) }
        }
        #expect(try JobManifest(parsing: job.canonicalText) == job)
        #expect(job.innerOptimizer.recipe.zLoss == job.recipe.zLoss)
        #expect(job.innerOptimizer.recipe.kind == .muon)
        #expect(job.innerOptimizer.schedule == .wsd)
    }

    @Test(arguments: [
        ("tokenizer: byte", "head_dim: 7", "model.head_dim"),
        ("tokenizer: byte", "projection_bias: some", "model.projection_bias"),
        ("tokenizer: byte", "rope_scaling: {type: yarn, factor: 2}", "model.rope_scaling.type"),
        ("tokenizer: byte", "rope_scaling: {type: linear}", "model.rope_scaling"),
        ("tokenizer: byte", "rope_scaling: {type: linear, factor: 2, low_factor: 1}", "model.rope_scaling.low_factor"),
        (
            "tokenizer: byte",
            "rope_scaling: {type: llama3, factor: 8, low_factor: 4, high_factor: 4, original_context: 8192}",
            "model.rope_scaling.high_factor"
        ), ("tokenizer: byte", "layers_without_rope: [6]", "model.layers_without_rope"),
        ("tokenizer: byte", "layers_without_rope: [2, 1]", "model.layers_without_rope"),
        ("clip: 1.0", "beta1: 1", "train.beta1"), ("clip: 1.0", "decay: none", "train.decay"),
        ("clip: 1.0", "adapters: {alpha: 3}", "train.adapters"),
        ("clip: 1.0", "adapters: {rank: 3, targets: [z]}", "train.adapters.targets"),
        ("clip: 1.0", "adapters: {rank: 3, targets: []}", "train.adapters.targets"),
        ("clip: 1.0", "final_share: -1", "train.final_share"), ("schedule: cosine", "schedule: step", "train.schedule"),
    ])
    func `refuses models and recipes that do not go together`(old: String, new: String, key: String) throws {
        let problem = try #require(Self.failure(old, new))
        #expect(problem.key.hasPrefix(key), "\(problem)")
    }

    @Test func `fills in what is left out`() throws {
        let job = try JobManifest(
            parsing: """
                name: least
                model: {hidden_size: 64, layers: 2, heads: 4, intermediate_size: 96, context: 64}
                data: {path: a.txt}
                train: {tokens: 1000}
                """)
        #expect(
            job
                == JobManifest(
                    name: "least",
                    model: ModelShape(
                        hiddenSize: 64, layers: 2, heads: 4, kvHeads: 4, intermediateSize: 96, context: 64),
                    data: .path("a.txt"), tokens: 1000))
    }

    @Test(arguments: [
        ("tokens: 500_000", "tokens: many", FileProblem.Kind.wrongType, "train.tokens", 5),
        ("tokens: 500_000", "tokens: 0", .outOfRange, "train.tokens", 5),
        ("tokens: 500_000", "tokens: 1.5", .wrongType, "train.tokens", 5),
        ("tokens: 500_000", "tokens: 99999999999999999999", .outOfRange, "train.tokens", 5),
        ("hidden_size: 128", "hidden_size: 130", .outOfRange, "model.hidden_size", 3),
        ("hidden_size: 128", "hidden_size: 12", .outOfRange, "model.hidden_size", 3),
        ("kv_heads: 2", "kv_heads: 3", .outOfRange, "model.kv_heads", 3),
        ("batch_tokens: auto", "batch_tokens: 8000", .outOfRange, "train.batch_tokens", 5),
        ("codec: auto, quality", "codec: zip, quality", .outOfRange, "exchange.codec", 7),
        ("codec: auto, quality", "codec: 'sparse:k=5000', quality", .outOfRange, "exchange.codec", 7),
        ("activations: {codec: auto}", "activations: {codec: 'sparse:k=64'}", .outOfRange, "activations.codec", 8),
        ("electors: 1", "electors: 2", .outOfRange, "electors", 9),
        ("architecture: llama", "architecture: rnn", .outOfRange, "model.architecture", 3),
        ("pipelines: auto", "pipelines: 9", .outOfRange, "parallel.pipelines", 6),
        ("stages: auto", "stages: 9", .outOfRange, "parallel.stages", 6),
        ("path: corpus.txt", "path: a, content: b", .missingKey, "data", 4),
        ("path: corpus.txt", "content: xyz", .outOfRange, "data.content", 4),
        ("name: kjv-tiny", "nom: kjv-tiny", .unknownKey, "nom", 2),
        ("learning_rate: 3e-3", "learning_rate: -1", .outOfRange, "train.learning_rate", 5),
        ("learning_rate: 3e-3", "learning_rate: .nan", .outOfRange, "train.learning_rate", 5),
    ]) func `that is wrong names line, key and what is allowed`(
        old: String, new: String, kind: FileProblem.Kind, key: String, line: Int
    ) {
        let problem = Self.failure(old, new)
        #expect(problem?.key == key)
        #expect(problem?.line == line)
        #expect(problem?.kind == kind)
        #expect(problem?.allowed.isEmpty == false)
    }

    @Test func `with a misspelt key suggests the one that was meant`() {
        let problem = Self.failure("inner_steps: auto", "inner_step: auto")
        #expect(problem?.kind == .unknownKey)
        #expect(problem?.allowed.contains("did you mean inner_steps?") == true)
    }

    @Test func `that asks for impossible sizes is refused instead of overflowing`() {
        #expect(Self.failure("context: 256", "context: 65536") == nil)
        #expect(Self.failure("micro_batch: 4", "micro_batch: 65536")?.kind == nil)
        #expect(Self.failure("micro_batch: 4", "micro_batch: 65537")?.kind == .outOfRange)
        #expect(Self.failure("layers: 6", "layers: 100000")?.kind == .outOfRange)
    }

    @Test func `that was damaged at random is read or refused, never fatal`() {
        var random = SeededGenerator(seed: 5)
        for _ in 0..<400 {
            var bytes = Array(Self.example.utf8)
            for _ in 0...random.below(5) {
                let place = random.below(bytes.count)
                if random.below(2) == 0 {
                    bytes[place] = UInt8(random.below(256))
                } else {
                    bytes.insert(Array("0123456789[]{}:,-\"".utf8)[random.below(18)], at: place)
                }
            }
            if let job = try? JobManifest(parsing: bytes) {
                #expect((try? JobManifest(parsing: job.canonicalText)) == job)
            }
        }
    }
}
