import CPU
import Compute
import Primitives
import Testing
import Training

@Suite struct DataOrderTests {
    /// Starts printed by Tools/engine/reference.py, which draws them with its own generator.
    @Test func `windows are where the second implementation says`() {
        let order = DataOrder(corpusCount: 400, validationFraction: 0, context: 16, seed: 5)
        #expect((0..<2).map { order.windowStart(step: 0, sequence: $0) } == [13, 52])
        #expect((0..<4).map { order.windowStart(step: 9, sequence: $0) } == [167, 128, 308, 92])
    }

    @Test func `every window and its last target lie in the training part, and all starts come`() {
        let order = DataOrder(corpusCount: 100, validationFraction: 0.25, context: 10, seed: 1)
        #expect(order.trainingCount == 75 && order.validationCount == 25)
        var seen: Set<Int> = []
        for step in 0..<100 {
            for sequence in 0..<20 { seen.insert(order.windowStart(step: step, sequence: sequence)) }
        }
        #expect(seen == Set(0...64))
    }

    @Test func `validation windows are complete and lie side by side`() {
        let order = DataOrder(corpusCount: 1000, validationFraction: 0.1, context: 16, seed: 1)
        #expect(order.validationWindows == 6)
        #expect((0..<6).map { order.validationStart(window: $0) } == [900, 916, 932, 948, 964, 980])
        #expect(order.fixedValidationWindows() == [0, 1, 2, 3, 4, 5])
        let large = DataOrder(corpusCount: 100_000, validationFraction: 0.05, context: 10, seed: 1)
        #expect(large.validationWindows == 499)
        #expect(large.fixedValidationWindows().count == 64)
        #expect(large.fixedValidationWindows().last == 63 * 499 / 64)
        #expect(DataOrder(corpusCount: 20, validationFraction: 0.5, context: 10, seed: 1).validationWindows == 0)
    }

    @Test func `a text shorter than one window cannot be trained on`() {
        #expect(!DataOrder(corpusCount: 16, validationFraction: 0, context: 16, seed: 1).canTrain)
        #expect(DataOrder(corpusCount: 17, validationFraction: 0, context: 16, seed: 1).canTrain)
    }

    static func mixture(_ parts: [DataPart], fraction: Double, seed: UInt64 = 3) -> StageConfiguration {
        var out = Small.configuration(virtualPipelines: 4, microBatches: 1, microBatch: 2)
        out.geometry.context = 10
        out.validationFraction = fraction
        out.dataParts = parts
        out.seed = seed
        return out
    }

    /// Every window is looked at: where it begins, what it may see, how often its source came.
    @Test func `a mixture's sources are read in shares by weight, each whole before it is read again`() {
        let parts = [DataPart(tokens: 1001, weight: 1), DataPart(tokens: 500, weight: 3)]
        let order = DataOrder(Self.mixture(parts, fraction: 0.1), bytes: 1501)
        #expect(order.canTrain && order.trainingCount == 901 + 450 && order.validationCount == 150)
        var starts: [[Int]] = [[], []]
        for step in 0..<512 {
            for sequence in 0..<8 {
                let window = order.window(step: step, sequence: sequence)
                let source = window.start < 1001 ? 0 : 1
                #expect(window.limit == (source == 0 ? 901 : 1001 + 450))
                #expect((window.start - 1001 * source) % 10 == 0 && window.start + 1 < window.limit)
                starts[source].append(window.start)
            }
        }
        #expect(abs(starts[0].count - 1024) < 4 && abs(starts[1].count - 3072) < 4)
        // 90 windows of the one, 45 of the other; within 1024 sequences the order is shuffled, so epochs are counted there.
        #expect(Set(starts[0].prefix(256)).count == 90 && Set(starts[1].prefix(768)).count == 45)
        // What comes at a place hangs on nothing but that place.
        let later = DataOrder(Self.mixture(parts, fraction: 0.1), bytes: 1501)
        #expect(later.window(step: 511, sequence: 7) == order.window(step: 511, sequence: 7))
        let other = DataOrder(Self.mixture(parts, fraction: 0.1, seed: 4), bytes: 1501)
        #expect((0..<8).contains { other.window(step: 0, sequence: $0) != order.window(step: 0, sequence: $0) })
    }

    @Test func `each source of a mixture has a validation part of its own`() {
        let parts = [
            DataPart(tokens: 400, weight: 1), DataPart(tokens: 40, weight: 1), DataPart(tokens: 300, weight: 1),
        ]
        let order = DataOrder(Self.mixture(parts, fraction: 0.1), bytes: 740)
        #expect(order.validationRanges == [0..<3, 3..<3, 3..<5] && order.validationWindows == 5)
        #expect((0..<5).map { order.validationStart(window: $0) } == [360, 370, 380, 710, 720])
        #expect(!DataOrder(Self.mixture(parts, fraction: 0.1), bytes: 741).canTrain)
        let short = [DataPart(tokens: 400, weight: 1), DataPart(tokens: 11, weight: 1)]
        #expect(!DataOrder(Self.mixture(short, fraction: 0.1), bytes: 411).canTrain)
        #expect(DataOrder(Self.mixture(short, fraction: 0), bytes: 411).canTrain)
    }

    @Test func `sequences of a step are numbered through all virtual pipelines`() {
        let geometry = BatchGeometry(virtualPipelines: 4, microBatch: 3, microBatchesPerVirtual: 2, context: 8)
        let firsts = (0..<4).flatMap { virtual in
            (0..<2).map {
                DataOrder.firstSequence(MicroBatchKey(step: 7, virtualPipeline: virtual, index: $0), geometry)
            }
        }
        #expect(firsts == [0, 3, 6, 9, 12, 15, 18, 21])
    }
}

@Suite struct InnerOptimizerTests {
    @Test func `the learning rate warms up linearly and decays as a cosine`() {
        let optimizer = InnerOptimizer(learningRate: 1, warmupTokens: 100, totalTokens: 1100)
        #expect(optimizer.learningRate(atTokens: 0) == 0)
        #expect(optimizer.learningRate(atTokens: 50) == 0.5)
        #expect(optimizer.learningRate(atTokens: 100) == 1)
        #expect(abs(optimizer.learningRate(atTokens: 600) - 0.55) < 1e-6)
        #expect(abs(optimizer.learningRate(atTokens: 1100) - 0.1) < 1e-6)
        #expect(abs(optimizer.learningRate(atTokens: 9999) - 0.1) < 1e-6)
        var constant = optimizer
        constant.schedule = .constant
        #expect(constant.learningRate(atTokens: 900) == 1)
        #expect(InnerOptimizer(learningRate: 2, warmupTokens: 0, totalTokens: 0).learningRate(atTokens: 0) == 2)
    }

    @Test func `the learning rate falls in a line, or at the end only`() {
        var optimizer = InnerOptimizer(learningRate: 1, schedule: .linear, warmupTokens: 100, totalTokens: 1100)
        optimizer.recipe.finalShare = 0
        #expect(optimizer.learningRate(atTokens: 50) == 0.5)
        #expect(optimizer.learningRate(atTokens: 350) == 0.75)
        #expect(optimizer.learningRate(atTokens: 1100) == 0)
        #expect(optimizer.learningRate(atTokens: 5000) == 0)
        optimizer.schedule = .wsd
        optimizer.recipe.finalShare = 0.5
        // A fifth of all: from 880 on.
        #expect(optimizer.learningRate(atTokens: 880) == 1)
        #expect(optimizer.learningRate(atTokens: 990) == 0.75)
        #expect(optimizer.learningRate(atTokens: 1100) == 0.5)
        optimizer.recipe.decayTokens = 100
        #expect(optimizer.learningRate(atTokens: 1000) == 1)
        #expect(optimizer.learningRate(atTokens: 1050) == 0.75)
        // Longer than what is left after the warm-up.
        optimizer.recipe.decayTokens = 5000
        #expect(optimizer.learningRate(atTokens: 100) == 1)
        #expect(optimizer.learningRate(atTokens: 600) == 0.75)
    }

    /// One step with a gradient of nothing but decay: what moves is what decays.
    @Test(arguments: InnerOptimizer.DecayTargets.allCases)
    func `weight decay pulls at what it is told to`(targets: InnerOptimizer.DecayTargets) throws {
        var model = Small.model
        model.projectionBias = .all
        var configuration = Small.configuration(model: model)
        configuration.optimizer.recipe.decays = targets
        let engine = CPUEngine(threads: 1)
        engine.configure(configuration)
        for unit in model.allUnits {
            let ones = [Float](repeating: 1, count: model.parameters(unit: unit))
            let none = [Float](repeating: 0, count: ones.count)
            try ones.withUnsafeBufferPointer { try engine.write(.parameters, unit: unit, from: $0) }
            try none.withUnsafeBufferPointer { try engine.write(.gradient, unit: unit, from: $0) }
        }
        try engine.optimizerStep(
            DeviceStep(learningRate: 0.1, gradientScale: 1, steps: model.allUnits.map { _ in 1 }))
        for unit in model.allUnits {
            var values = [Float](repeating: 0, count: model.parameters(unit: unit))
            try values.withUnsafeMutableBufferPointer { try engine.read(.parameters, unit: unit, into: $0) }
            for tensor in model.tensors(unit: unit) {
                let isMatrix = tensor.shape.count == 2
                let isBlock = (1...model.layers).contains(unit)
                let decays = targets == .all || isMatrix && (targets == .matrices || isBlock)
                #expect(values.prefix(tensor.count).allSatisfy { ($0 < 1) == decays }, "\(tensor.name)")
                values.removeFirst(tensor.count)
            }
        }
    }

    @Test func `the norm is that of all tensors together`() {
        #expect(gradientNorm([9, 16]) == 5)
    }
}

@Suite struct GenerationTests {
    static let parameters = ModelParameters(initialFor: Small.model, seed: 2)

    @Test func `the same seed gives the same text, another seed another`() throws {
        func text(_ seed: UInt64, _ threads: Int = 1) throws -> [UInt8] {
            try generate(Self.parameters, prompt: [65], count: 40, temperature: 1, seed: seed, threads: threads)
        }
        #expect(try text(1) == text(1, 2))
        #expect(try text(1) != text(2))
        #expect(try text(1).count == 40)
        #expect(throws: TrainingError.emptyPrompt) {
            try generate(Self.parameters, prompt: [], count: 1, temperature: 1, seed: 1, threads: 1)
        }
    }

    /// A model taught a cycle of four bytes repeats it.
    @Test func `what was learnt is said`() throws {
        var configuration = Small.configuration(virtualPipelines: 1, microBatches: 1, microBatch: 4)
        configuration.optimizer.schedule = .constant
        let corpus = (0..<2000).map { [UInt8]("abcd".utf8)[$0 % 4] }
        let trainer = LocalTrainer(configuration: configuration, pipelines: [[0]], innerSteps: 1, totalSteps: 30)
        let parameters = try trainer.run(corpus: CorpusBytes(corpus), threads: 1)
        let text = try generate(
            parameters, prompt: [UInt8]("ab".utf8), count: 30, temperature: 0, seed: 1, threads: 1)
        #expect(String(decoding: text, as: UTF8.self) == "cdabcdabcdabcdabcdabcdabcdabcd")
    }

    @Test func `initial weights depend on seed and name alone`() {
        let deeper = ModelShape(
            hiddenSize: 24, layers: 3, heads: 2, kvHeads: 2, intermediateSize: 40, context: 9)
        let name = "model.layers.1.self_attn.q_proj.weight"
        let other = ModelParameters(initialFor: deeper, seed: 2)
        #expect(other.values(name)!.elementsEqual(Self.parameters.values(name)!))
        #expect(!ModelParameters(initialFor: Small.model, seed: 3).values(name)!.elementsEqual(other.values(name)!))
        let values = Self.parameters.values("lm_head.weight")!
        let mean = values.reduce(0, +) / Float(values.count)
        let deviation = (values.reduce(0) { $0 + $1 * $1 } / Float(values.count)).squareRoot()
        #expect(abs(mean) < 0.001 && abs(deviation - 0.02) < 0.001)
        #expect(Self.parameters.values("model.norm.weight")!.allSatisfy { $0 == 1 })
    }
}
