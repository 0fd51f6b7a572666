import Compute
import Datasets
import Planning
import Primitives
import Simulation
import Telemetry
import Testing
import Topologies
import Training
import Wire

@Suite struct `A model that is continued on files of tokens` {
    /// Documents of all lengths, of a vocabulary that no byte has; some of their tokens are not learnt.
    private static let tokens: (bytes: [UInt8], count: Int) = {
        var builder = TokenFileBuilder(vocabulary: 300)
        var generator = SeededGenerator(seed: 8)
        for document in 0..<60 {
            let length = 1 + generator.below(90)
            let tokens = (0..<length).map { UInt32(($0 * $0 * 3 + document * 17) % 300) }
            builder.append(tokens[..<(length / 4)], bearsLoss: document % 3 != 0)
            builder.append(tokens[(length / 4)...])
            builder.endDocument()
        }
        return (builder.header + builder.takeBytes() + builder.trailer, builder.count)
    }()

    private func scene(peers: Int, stages: Int, steps: Int) throws -> Scene {
        var scene = Scene(peers: peers, pipelines: 1, stages: stages, innerSteps: 1, steps: steps)
        scene.realArithmetic = true
        scene.job.text.tokenizer = .ids
        scene.job.model.vocabulary = 300
        scene.content = Self.tokens.bytes
        scene.job.data = .content(ContentIndex.id(of: scene.content).hex)
        scene.job.text.tokens = Self.tokens.count
        scene.initial = ModelParameters(initialFor: scene.job.model, seed: 4711).states
        scene.job.beginning.units = scene.initial.map { ContentIndex.id(of: $0.parameters.all!) }
        return scene
    }

    /// Cut in three, so that a stage in the middle sees no tokens, only where documents begin.
    @Test func `ends with the weights that one process ends with, which begins with the same`() throws {
        let scene = try scene(peers: 3, stages: 3, steps: 3)
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(try outcome.weightsDigest() == scene.localDigest())
        var drawn = scene
        drawn.initial = []
        drawn.job.beginning.units = []
        #expect(try outcome.weightsDigest() != drawn.localDigest())
    }

    /// A killed stage is done again elsewhere: the same windows of the same sources come.
    @Test(arguments: [false, true]) func `on a mixture ends with one process's weights, though one is lost`(
        isBytes: Bool
    ) throws {
        var scene = try scene(peers: 3, stages: 2, steps: 3)
        if isBytes {
            scene = Scene(peers: 3, pipelines: 1, stages: 2, innerSteps: 1, steps: 3)
            scene.realArithmetic = true
            scene.job.data = .content(ContentIndex.id(of: scene.content).hex)
        }
        let plain = try scene.localDigest()
        let count = isBytes ? scene.content.count : Self.tokens.count
        scene.job.text.parts = [DataPart(tokens: count / 3, weight: 5), DataPart(tokens: count - count / 3, weight: 1)]
        let calm = scene.run()
        try calm.checkFinished()
        #expect(try calm.weightsDigest() == scene.localDigest() && plain != scene.localDigest())
        let first = try #require(calm.events("state_ready").first)
        let name = try #require(calm.workers.first)
        scene.faults = [Fault(.kill, at: .seconds((first.at - .zero).inSeconds + 0.01), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("replaced").map(\.peer) == [name])
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }

    @Test func `is fetched by whoever takes a lost one's place before the first seal`() throws {
        var scene = try scene(peers: 3, stages: 2, steps: 2)
        let calm = scene.run()
        let first = try #require(calm.events("state_ready").first)
        let name = try #require(calm.workers.first)
        scene.faults = [Fault(.kill, at: .seconds((first.at - .zero).inSeconds + 0.01), host: name)]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("replaced").map(\.peer) == [name])
        #expect(try outcome.weightsDigest() == scene.localDigest())
    }
}
