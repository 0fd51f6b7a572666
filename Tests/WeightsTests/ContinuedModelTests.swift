import Checkpoints
import Foundation
import Primitives
import Testing
import Training
import Weights

@Suite struct `A folder whose model a job continues` {
    private func folder(tied: Bool) throws -> (path: String, parameters: ModelParameters) {
        let path = NSTemporaryDirectory() + "/atoll-continued-\(UUID().uuidString)"
        let shape = ModelShape(
            hiddenSize: 16, layers: 2, heads: 2, kvHeads: 1, intermediateSize: 24, context: 32, tieWordEmbeddings: tied)
        let parameters = ModelParameters(initialFor: shape, seed: 9)
        try Checkpoint.write(parameters, to: path)
        try Data("a licence\n".utf8).write(to: URL(fileURLWithPath: path + "/LICENSE"))
        return (path, parameters)
    }

    @Test(arguments: [true, false])
    func `gives its units, and is written as it was, with what else lay in it`(tied: Bool) throws {
        let (path, parameters) = try folder(tied: tied)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var shape = parameters.shape
        shape.context = 8
        let model = try ContinuedModel(path, shape: shape)
        let states = try shape.allUnits.map { try model.state($0) }
        #expect(states == parameters.states)
        #expect(try model.contents() == states.map { UnitDigests(of: $0)?.parameters })
        let out = path + "/out"
        try model.write(ModelUnits(parameters), to: out)
        let back = try Checkpoint.read(from: out)
        #expect(back.weightsDigest == parameters.weightsDigest && back.shape == parameters.shape)
        #expect(FileManager.default.contents(atPath: out + "/LICENSE") == Data("a licence\n".utf8))
        #expect(FileManager.default.fileExists(atPath: out + "/tokenizer.json"))
    }

    @Test func `has a head of its own that begins as the embedding, where the job wants it so`() throws {
        let (path, parameters) = try folder(tied: true)
        defer { try? FileManager.default.removeItem(atPath: path) }
        var shape = parameters.shape
        shape.tieWordEmbeddings = false
        let model = try ContinuedModel(path, shape: shape)
        let states = try shape.allUnits.map { try model.state($0) }
        let cut = try #require(ModelParameters(shape: shape, states: states))
        #expect(cut.values("lm_head.weight") == cut.values("model.embed_tokens.weight"))
        #expect(try model.contents() == states.map { UnitDigests(of: $0)?.parameters })
        try model.write(ModelUnits(cut), to: path + "/out")
        #expect(try Checkpoint.read(from: path + "/out").shape == shape)
    }
}
