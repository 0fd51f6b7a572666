import Checkpoints
import Files
import Foundation
import JSON
import Primitives
import Testing
import Training
import Weights

@Suite struct ModelFolderTests {
    static func withFolder(_ body: (String) throws -> Void) throws {
        try CheckpointTests.withFolder { try body(($0 as NSString).deletingLastPathComponent) }
    }

    static func write(
        _ parameters: ModelParameters, to path: String, type: ElementType, largestFile: Int = .max,
        carrying: ModelFolder? = nil, files: [(name: String, bytes: [UInt8])] = []
    ) throws -> Digest256 {
        let configuration = try #require(ModelConfiguration(parameters.shape, type: type))
        let writer = try ModelWriter(
            to: path, carrying?.configuration ?? configuration, type: type, largestFile: largestFile,
            carrying: carrying,
            files: files)
        for unit in parameters.units {
            try unit.withUnsafeBufferPointer { values throws(CheckpointError) in try writer.append(values) }
        }
        return try writer.finish()
    }

    /// Values rounded as the type holds them.
    static func rounded(_ parameters: ModelParameters, _ type: ElementType) -> [[Float]] {
        parameters.units.map { unit in
            var raw = [UInt8](repeating: 0, count: unit.count * type.bytes)
            var back = unit
            raw.withUnsafeMutableBytes { raw in
                _ = unit.withUnsafeBufferPointer { type.write($0, into: raw) }
                _ = back.withUnsafeMutableBufferPointer { type.read(UnsafeRawBufferPointer(raw), into: $0) }
            }
            return back
        }
    }

    static var shapes: [ModelShape] {
        var plain = Small.model
        plain.headSize = 10
        var biased = Small.model
        biased.projectionBias = .queryKeyValue
        biased.tieWordEmbeddings = true
        var normed = Small.model
        normed.queryKeyNorm = true
        normed.projectionBias = .all
        var without = Small.model
        without.layersWithoutRope = [1, 3]
        without.ropeScaling = .llama3(factor: 8, lowFactor: 1, highFactor: 4, originalContext: 8192)
        var stretched = Small.model
        stretched.ropeScaling = .linear(factor: 2)
        stretched.projectionBias = .all
        return [plain, biased, normed, without, stretched]
    }

    @Test(arguments: shapes, ElementType.allCases)
    func `every kind of model comes back as its type holds it, in one file or many`(
        shape: ModelShape, type: ElementType
    ) throws {
        let parameters = ModelParameters(initialFor: shape, seed: 5)
        try Self.withFolder { base in
            for largest in [Int.max, 9000] {
                let path = base + "/m\(largest)"
                let digest = try Self.write(parameters, to: path, type: type, largestFile: largest)
                let folder = try ModelFolder(path)
                #expect(folder.shape == shape)
                #expect(folder.configuration.type == type)
                let expected = Self.rounded(parameters, type)
                for unit in shape.allUnits { #expect(try folder.unit(unit) == expected[unit]) }
                try folder.verify()
                #expect(try Checkpoint.read(from: path).weightsDigest == digest)
                let names = try folderContents(path)
                #expect(names.contains(ShardIndex.name) == (largest == 9000))
                #expect(names.filter { $0.hasSuffix(".safetensors") }.count > (largest == 9000 ? 4 : 0))
            }
        }
    }

    @Test func `tokenizer, template and generation files are carried along, weights and links out are not`() throws {
        let parameters = ModelParameters(initialFor: Small.model, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(
                parameters, to: base + "/a", type: .fp32, largestFile: 9000,
                files: [
                    ("tokenizer.json", [1]), ("chat_template.jinja", [2]), ("LICENSE", [3]), ("pytorch_model.bin", [4]),
                    ("generation_config.json", [5]), ("tokenizer.model", [6]), (".hidden.json", [7]),
                ])
            // Its own keys come through, whoever wrote them.
            let config = base + "/a/config.json"
            var json = try JSONValue(parsing: try fileContents(config, limit: 9999)).object!
            json["initializer_range"] = 0.041
            json["eos_token_id"] = [2, 7]
            try replaceFile(config, JSONValue.object(json).bytes())
            let first = try ModelFolder(base + "/a")
            _ = try Self.write(
                parameters, to: base + "/b", type: .bf16, carrying: first, files: [("generation_config.json", [8])])
            let names = try folderContents(base + "/b")
            #expect(
                names == [
                    "LICENSE", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
                    "tokenizer.json", "tokenizer.model",
                ])
            #expect(try fileContents(base + "/b/generation_config.json", limit: 9) == [8])
            let second = try ModelFolder(base + "/b")
            #expect(second.configuration.json["initializer_range"]?.double == 0.041)
            #expect(second.configuration.tokens("eos_token_id") == [2, 7])
            #expect(second.configuration.type == .bf16)
        }
    }

    /// Rewrites a folder's one file with other tensors.
    static func rewrite(_ path: String, _ change: (inout [TensorFile.Tensor]) -> Void) throws {
        let file = try TensorFile(path)
        var tensors = try file.entries.map {
            TensorFile.Tensor(name: $0.name, shape: $0.shape, values: try file.values($0))
        }
        change(&tensors)
        try TensorFile.write(tensors, to: path)
    }

    @Test func `a second head beside tied embeddings must be equal to them`() throws {
        var shape = Small.model
        shape.tieWordEmbeddings = true
        let parameters = ModelParameters(initialFor: shape, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(parameters, to: base + "/a", type: .fp32)
            let weights = base + "/a/model.safetensors"
            try Self.rewrite(weights) {
                $0.append(.init(name: "lm_head.weight", shape: [256, 24], values: parameters.units[0]))
            }
            #expect(try Checkpoint.read(from: base + "/a") == parameters)
            try Self.rewrite(weights) { $0[$0.count - 1].values[7] += 1 }
            #expect(throws: CheckpointError.self) { try Checkpoint.read(from: base + "/a") }
        }
    }

    @Test func `a head that is missing without a tie is named`() throws {
        let parameters = ModelParameters(initialFor: Small.model, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(parameters, to: base + "/a", type: .fp32)
            try Self.rewrite(base + "/a/model.safetensors") { $0.removeAll { $0.name == "lm_head.weight" } }
            #expect {
                try ModelFolder(base + "/a")
            } throws: { error in
                if case .missingTensor(_, "lm_head.weight") = error as? CheckpointError { true } else { false }
            }
        }
    }

    @Test func `old tables of frequencies are taken where they agree`() throws {
        let parameters = ModelParameters(initialFor: Small.model, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(parameters, to: base + "/a", type: .fp32)
            let table: [Float] = (0..<3).map { Float(pow(10_000, -2 * Double($0) / 6)) }
            let weights = base + "/a/model.safetensors"
            try Self.rewrite(weights) {
                $0.append(.init(name: "model.layers.2.self_attn.rotary_emb.inv_freq", shape: [3], values: table))
            }
            #expect(try Checkpoint.read(from: base + "/a") == parameters)
            try Self.rewrite(weights) { $0[$0.count - 1].values[1] *= 1.1 }
            #expect(throws: CheckpointError.self) { try Checkpoint.read(from: base + "/a") }
        }
    }

    @Test func `indices that lie are refused`() throws {
        let parameters = ModelParameters(initialFor: Small.model, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(parameters, to: base + "/a", type: .bf16, largestFile: 9000)
            let path = base + "/a/" + ShardIndex.name
            let good = try fileContents(path, limit: 1 << 20)
            let text = String(decoding: good, as: UTF8.self)
            for (old, new) in [
                ("\"model-00001-of", "\"../model-00001-of"), ("\"model-00001-of", "\"nowhere-00001-of"),
                ("\"model.norm.weight\"", "\"model.nerm.weight\""), ("\"weight_map\"", "\"weight_mop\""),
                ("\"model.embed_tokens.weight\": \"model-00001", "\"model.embed_tokens.weight\": \"model-00002"),
            ] {
                let changed = text.replacingOccurrences(of: old, with: new)
                #expect(changed != text)
                try replaceFile(path, Array(changed.utf8))
                #expect(throws: CheckpointError.self, "\(old)") { try ModelFolder(base + "/a") }
            }
            // A value changed in any file is seen by the digest.
            try replaceFile(path, good)
            try ModelFolder(base + "/a").verify()
            let shard = base + "/a/" + ShardIndex.fileName(2, of: try ShardIndex(parsing: good, path: path).files.count)
            var bytes = try fileContents(shard, limit: 1 << 20)
            bytes[bytes.count - 2] ^= 1
            try replaceFile(shard, bytes)
            #expect(throws: CheckpointError.self) { try ModelFolder(base + "/a").verify() }
        }
    }

    @Test func `what a type cannot hold is refused, and what was there stays`() throws {
        var parameters = ModelParameters(initialFor: Small.model, seed: 5)
        try Self.withFolder { base in
            _ = try Self.write(parameters, to: base + "/a", type: .fp16)
            var units = parameters.units
            units[3][5] = 1e6
            parameters = try #require(ModelParameters(shape: Small.model, units: units))
            #expect {
                try Self.write(parameters, to: base + "/a", type: .fp16)
            } throws: { error in
                guard case .tooLarge(_, let name, 5, "F16") = error as? CheckpointError else { return false }
                return name == "model.layers.2.input_layernorm.weight"
            }
            try ModelFolder(base + "/a").verify()
            #expect(try folderContents(base) == ["a"])
        }
    }
}
