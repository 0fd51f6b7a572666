import CPU
import Compute
import Kernels
import Primitives
import Testing

/// Every kind of model a job may name, against ``NaiveModel``: the loss, and of every tensor's gradient the largest value and
/// one at random, as slopes of the naive loss.
@Suite struct `Models of the Llama family` {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var shape = ModelShape(
            hiddenSize: 24, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 40, context: 18, vocabulary: 50)
        var zLoss: Float = 0
        var documents = false
        var masked = false
        init(_ name: String, _ change: (inout Case) -> Void = { _ in }) {
            testDescription = name
            change(&self)
        }
    }

    static let cases = [
        Case("plain"),
        Case("tied") { $0.shape.tieWordEmbeddings = true },
        Case("heads of their own size") { $0.shape.headSize = 10 },
        Case("one key-value head, bias of q, k and v") {
            $0.shape.kvHeads = 1
            $0.shape.projectionBias = .queryKeyValue
        },
        Case("bias of all projections") { $0.shape.projectionBias = .all },
        Case("norms of queries and keys") {
            $0.shape.queryKeyNorm = true
            $0.shape.headSize = 8
        },
        Case("a layer without positions") { $0.shape.layersWithoutRope = [1] },
        Case("positions stretched evenly") { $0.shape.ropeScaling = .linear(factor: 4) },
        Case("positions stretched as Llama 3.1 does") {
            $0.shape.headSize = 16
            $0.shape.ropeScaling = .llama3(factor: 8, lowFactor: 1, highFactor: 4, originalContext: 16)
        },
        Case("z-loss") { $0.zLoss = 0.01 },
        Case("documents and masked labels") {
            $0.documents = true
            $0.masked = true
        },
        Case("all at once") {
            $0.shape.headSize = 10
            $0.shape.projectionBias = .all
            $0.shape.queryKeyNorm = true
            $0.shape.layersWithoutRope = [0]
            $0.shape.ropeScaling = .linear(factor: 2)
            $0.shape.tieWordEmbeddings = true
            $0.zLoss = 0.001
            $0.documents = true
            $0.masked = true
        },
    ]

    @Test(arguments: cases) func `have the loss and the gradients of their definition`(one: Case) throws {
        let shape = one.shape
        let weights = Self.weights(shape)
        let text = Self.text(one)
        let (loss, gradients) = try Self.engine(one, weights, text)
        var naive = NaiveModel(shape: shape, weights: weights.mapValues { $0.map(Double.init) })
        naive.zLoss = Double(one.zLoss)
        func naiveLoss(_ model: NaiveModel) -> Double {
            model.loss(tokens: text.tokens, targets: text.targets, firstSeen: text.firstSeen)
        }
        var plain = naive
        plain.zLoss = 0
        #expect(abs(Double(loss) - naiveLoss(plain)) < 2e-6)
        var generator = SeededGenerator(seed: 9)
        for unit in shape.allUnits {
            for tensor in shape.tensors(unit: unit) {
                let found = gradients[tensor.name]!
                let largest = found.indices.max { abs(found[$0]) < abs(found[$1]) }!
                let size = Double(abs(found[largest]))
                #expect(size > 0)
                for index in [largest, generator.below(found.count)] {
                    let width = 2e-4
                    var moved = naive
                    moved.weights[tensor.name]![index] += width
                    let above = naiveLoss(moved)
                    moved.weights[tensor.name]![index] -= 2 * width
                    let slope = (above - naiveLoss(moved)) / (2 * width)
                    #expect(abs(slope - Double(found[index])) < 1e-5 * size + 2e-8, "\(tensor.name)[\(index)]")
                }
            }
        }
    }

    @Test func `have the same bits however their rows are cut, on any number of threads`() throws {
        let one = Self.cases.last!
        let weights = Self.weights(one.shape)
        let text = Self.text(one)
        let whole = try Self.engine(one, weights, text)
        for (rows, attentionRows, headRows) in [(5, 18, 7), (36, 36, 1), (1, 18, 36)] {
            let cut = Stretches(rows: rows, attentionRows: attentionRows, headRows: headRows)
            let found = try Self.engine(one, weights, text, threads: rows % 3 + 1, stretches: cut)
            #expect(found.loss.bitPattern == whole.loss.bitPattern)
            for (name, values) in found.gradients {
                #expect(values.map(\.bitPattern) == whole.gradients[name]!.map(\.bitPattern), "\(name)")
            }
        }
    }

    // MARK: parts

    struct Text {
        var tokens: [[Int]]
        var targets: [[Int]]
        var firstSeen: [[Int]]?
    }

    static func text(_ one: Case) -> Text {
        var generator = SeededGenerator(seed: 5)
        let length = one.shape.context
        func row() -> [Int] { (0..<length).map { _ in generator.below(one.shape.vocabulary) } }
        var text = Text(tokens: [row(), row()], targets: [row(), row()])
        if one.masked {
            for (sequence, position) in [(0, 0), (0, 7), (0, 8), (1, 17), (1, 3)] {
                text.targets[sequence][position] = -1
            }
        }
        if one.documents {
            text.firstSeen = [
                (0..<length).map { $0 < 5 ? 0 : $0 < 11 ? 5 : 11 }, (0..<length).map { $0 < 17 ? 0 : 17 },
            ]
        }
        return text
    }

    static func weights(_ shape: ModelShape) -> [String: [Float]] {
        var generator = SeededGenerator(seed: 3)
        var weights: [String: [Float]] = [:]
        for tensor in shape.allUnits.flatMap({ shape.tensors(unit: $0) }) {
            let isGain = tensor.shape.count == 1 && !tensor.name.hasSuffix(".bias")
            weights[tensor.name] = (0..<tensor.count).map { _ in
                Float(generator.uniform() - 0.5) * 0.6 + (isGain ? 1 : 0)
            }
        }
        return weights
    }

    /// Through the port: one micro-batch forward and backward.
    static func engine(
        _ one: Case, _ weights: [String: [Float]], _ text: Text, threads: Int = 1, stretches: Stretches? = nil
    ) throws -> (loss: Float, gradients: [String: [Float]]) {
        let shape = one.shape
        var configuration = Small.configuration(model: shape, virtualPipelines: 1, microBatches: 1, microBatch: 2)
        configuration.optimizer.recipe.zLoss = one.zLoss
        let engine = CPUEngine(threads: threads, stretches: stretches)
        engine.configure(configuration)
        for unit in shape.allUnits {
            let values = shape.tensors(unit: unit).flatMap { weights[$0.name]! }
            try values.withUnsafeBufferPointer { try engine.write(.parameters, unit: unit, from: $0) }
        }
        var tokens = TokenText()
        tokens.tokens = text.tokens.flatMap { $0.map(Int32.init) }
        tokens.targets = text.targets.flatMap { $0.map(Int32.init) }
        tokens.firstSeen = text.firstSeen?.flatMap { $0.map(Int32.init) } ?? []
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        let loss = try engine.forward(key, text: tokens, input: nil, output: nil)
        try engine.backward(key, gradient: nil, inputGradient: nil)
        _ = try engine.finishGradient(microBatches: 1)
        var gradients: [String: [Float]] = [:]
        for unit in shape.allUnits {
            var values = [Float](repeating: 0, count: shape.parameters(unit: unit))
            try values.withUnsafeMutableBufferPointer { try engine.read(.gradient, unit: unit, into: $0) }
            for tensor in shape.tensors(unit: unit) {
                gradients[tensor.name] = Array(values.prefix(tensor.count))
                values.removeFirst(tensor.count)
            }
        }
        return (loss, gradients)
    }
}
