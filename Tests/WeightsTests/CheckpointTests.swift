import Checkpoints
import Foundation
import Primitives
import Testing
import Training
import Weights

/// A model that trains nothing.
enum Small {
    static let model = ModelShape(
        hiddenSize: 24, layers: 4, heads: 4, kvHeads: 2, intermediateSize: 40, context: 16)
}

@Suite struct CheckpointTests {
    static let parameters = ModelParameters(initialFor: Small.model, seed: 7)

    /// A folder of its own for each test, gone afterwards.
    static func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("atoll-test-\(UUID().uuidString)")
            .path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder + "/model")
    }

    /// Writes a checkpoint, damages one of its files, and answers what reading it throws.
    static func error(
        damaging file: String = "model.safetensors", _ damage: (inout Data) -> Void
    ) throws -> CheckpointError? {
        var found: CheckpointError?
        try withFolder { folder in
            try Checkpoint.write(parameters, to: folder)
            let url = URL(fileURLWithPath: folder + "/" + file)
            var data = try Data(contentsOf: url)
            damage(&data)
            try data.write(to: url)
            do throws(CheckpointError) { _ = try Checkpoint.read(from: folder) } catch { found = error }
        }
        return found
    }

    /// Replaces text in the safetensors header, keeping its length.
    static func edit(_ data: inout Data, _ old: String, _ new: String) {
        let padded = new + String(repeating: " ", count: max(0, old.utf8.count - new.utf8.count))
        let range = data.range(of: Data(old.utf8))!
        data.replaceSubrange(range, with: Data(padded.utf8))
    }

    @Test func `what is written is read back bit by bit, over an older checkpoint too`() throws {
        try Self.withFolder { folder in
            try Checkpoint.write(ModelParameters(initialFor: Small.model, seed: 8), to: folder)
            try Checkpoint.write(Self.parameters, to: folder)
            #expect(try Checkpoint.read(from: folder) == Self.parameters)
            let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
            #expect(
                names == [
                    "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
                    "tokenizer_config.json",
                ])
            let around = try FileManager.default.contentsOfDirectory(
                atPath: (folder as NSString).deletingLastPathComponent)
            #expect(around == ["model"])
        }
    }

    @Test func `tied embeddings and other numbers of the shape survive`() throws {
        var shape = Small.model
        shape.tieWordEmbeddings = true
        shape.ropeTheta = 50_000
        shape.normEpsilon = 1e-6
        let parameters = ModelParameters(initialFor: shape, seed: 1)
        try Self.withFolder { folder in
            try Checkpoint.write(parameters, to: folder)
            #expect(try Checkpoint.read(from: folder) == parameters)
        }
    }

    @Test func `a folder that is not there names the file`() {
        #expect {
            try Checkpoint.read(from: "/nonexistent")
        } throws: { error in
            guard case .file(let path, _) = error as? CheckpointError else { return false }
            return path == "/nonexistent/config.json"
        }
    }

    @Test func `a file cut anywhere is refused`() throws {
        for count in [0, 5, 8, 100, 2000, 50_000] {
            let error = try Self.error { $0 = $0.prefix(count) }
            guard case .truncated = error else {
                Issue.record("\(count) bytes: \(String(describing: error))")
                continue
            }
        }
    }

    @Test func `a lying header length takes no memory`() throws {
        let error = try Self.error { $0.replaceSubrange(0..<8, with: [UInt8](repeating: 0xff, count: 8)) }
        guard case .malformed(_, let problem) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(problem.contains("header"))
    }

    @Test func `lying offsets, types, shapes and names are refused`() throws {
        let overlapping = try Self.error { Self.edit(&$0, #""data_offsets":[0,24576]"#, #""data_offsets":[4,24580]"#) }
        guard case .wrongOffsets = overlapping else {
            Issue.record("\(String(describing: overlapping))")
            return
        }
        let short = try Self.error { Self.edit(&$0, #""data_offsets":[0,24576]"#, #""data_offsets":[0,24572]"#) }
        guard case .wrongOffsets = short else {
            Issue.record("\(String(describing: short))")
            return
        }
        let far = try Self.error { Self.edit(&$0, #""data_offsets":[0,24576]"#, #""data_offsets":[-9,9]"#) }
        guard case .wrongOffsets = far else {
            Issue.record("\(String(describing: far))")
            return
        }
        let type = try Self.error { Self.edit(&$0, #""dtype":"F32""#, #""dtype":"F64""#) }
        guard case .wrongType(_, _, "F64") = type else {
            Issue.record("\(String(describing: type))")
            return
        }
        let shape = try Self.error { Self.edit(&$0, #""shape":[256,24]"#, #""shape":[24,256]"#) }
        guard case .wrongShape = shape else {
            Issue.record("\(String(describing: shape))")
            return
        }
        let name = try Self.error { Self.edit(&$0, #""model.norm.weight""#, #""model.nerm.weight""#) }
        #expect(name == .missingTensor(path: Self.path(name), name: "model.norm.weight"))
    }

    static func path(_ error: CheckpointError?) -> String {
        if case .missingTensor(let path, _) = error { path } else { "" }
    }

    @Test func `values that are not finite and flipped bits are refused`() throws {
        let last = try Self.error { $0.replaceSubrange($0.count - 4..<$0.count, with: [0, 0, 0xc0, 0x7f]) }
        guard case .notFinite(_, "lm_head.weight", let index) = last else {
            Issue.record("\(String(describing: last))")
            return
        }
        #expect(index == 256 * 24 - 1)
        guard case .wrongDigest = try Self.error({ $0[$0.count - 100] ^= 1 }) else {
            Issue.record("a flipped bit was not seen")
            return
        }
    }

    @Test func `a configuration that cannot be run names the key and what is allowed`() throws {
        for (old, new, key) in [
            (#""hidden_size": 24"#, #""hidden_size": -4"#, "hidden_size"),
            (#""hidden_act": "silu""#, #""hidden_act": "gelu""#, "hidden_act"),
            (#""num_key_value_heads": 2"#, #""num_key_value_heads": 3"#, "num_attention_heads"),
            (#""attention_bias": false"#, #""attention_bias": "no" "#, "attention_bias"),
            (#""mlp_bias": false"#, #""mlp_bias": true "#, "mlp_bias"),
            (#""use_cache": true"#, #""use_magic": 1   "#, "use_magic"),
        ] {
            let error = try Self.error(damaging: "config.json") { Self.edit(&$0, old, new) }
            guard case .unsupported(_, let found, _, _) = error, found == key else {
                Issue.record("\(key): \(String(describing: error))")
                continue
            }
        }
    }

    /// Random bytes over random places: an error or the same weights, never a trap.
    @Test func `random damage never traps`() throws {
        try Self.withFolder { folder in
            try Checkpoint.write(Self.parameters, to: folder)
            var generator = SeededGenerator(seed: 31)
            for _ in 0..<200 {
                let name = generator.below(4) == 0 ? "config.json" : "model.safetensors"
                let url = URL(fileURLWithPath: folder + "/" + name)
                let good = try Data(contentsOf: url)
                var data = good
                for _ in 0...generator.below(4) {
                    data[generator.below(min(data.count, 3000))] = UInt8(truncatingIfNeeded: generator.next())
                }
                try data.write(to: url)
                do throws(CheckpointError) {
                    #expect(try Checkpoint.read(from: folder).units == Self.parameters.units)
                } catch {
                    #expect("\(error)".contains(";"), "an error that says what to try")
                }
                try good.write(to: url)
            }
        }
    }
}
