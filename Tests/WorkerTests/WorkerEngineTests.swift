import CPU
import Compute
import Foundation
import Primitives
import Synchronization
import Testing
import Training
import Worker

@Suite struct `An engine in another process` {
    static let model = ModelShape(
        hiddenSize: 24, layers: 3, heads: 4, kvHeads: 2, intermediateSize: 40, context: 18)
    static let corpus: [UInt8] = (0..<3000).map { (i: Int) in UInt8((i * i * 7 + i * 3 + 11) % 97 + 32) }

    static func configuration(
        _ units: Range<Int> = 0..<5, mode: ExchangeMode = .rounds, isTied: Bool = false, adapters: Adapters? = nil,
        weights: NumberFormat = .fp32
    ) -> StageConfiguration {
        var model = model
        model.tieWordEmbeddings = isTied
        var optimizer = InnerOptimizer(learningRate: 0.01, warmupTokens: 0, totalTokens: 100_000)
        optimizer.recipe.zLoss = 1e-4
        optimizer.recipe.adapters = adapters
        optimizer.recipe.kept.weights = weights
        return StageConfiguration(
            model: model, units: units,
            geometry: BatchGeometry(virtualPipelines: 2, microBatch: 2, microBatchesPerVirtual: 2, context: 18),
            seed: 3, optimizer: optimizer, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9), mode: mode,
            exchangeCodec: .int8, activationCodec: .fp32, validationFraction: 0.1)
    }

    /// A round of two steps through stages that pass bytes to each other; the digests after it, and an evaluation.
    static func round(_ engines: [StageEngine], from step: Int) throws -> [ComputeResult] {
        var results: [ComputeResult] = []
        for step in step..<step + 2 {
            for virtual in 0..<2 {
                for index in 0..<2 {
                    let key = MicroBatchKey(step: step, virtualPipeline: virtual, index: index)
                    try pass(key, engines, &results)
                }
            }
            var sums: [Float] = []
            for engine in engines {
                guard case .sumSquares(let own) = engine.perform(.finishGradient(microBatches: 4)) else {
                    throw Refusal("finish")
                }
                sums += own
            }
            for engine in engines {
                let result = engine.perform(.optimizerStep(norm: gradientNorm(sums), learningRate: 0.01))
                guard result == .done else { throw Refusal("\(result)") }
            }
        }
        for engine in engines {
            guard case .contribution(let units) = engine.perform(.encodeContribution) else { throw Refusal("encode") }
            results.append(engine.perform(.outerStep([RankedContribution(rank: 0, microBatches: 8, units: units)])))
        }
        var bytes: [UInt8] = []
        for engine in engines {
            let result = engine.perform(.evaluate(windows: 0..<3, input: bytes))
            if case .activation(let out) = result { bytes = out } else { results.append(result) }
            if case .activation = result, engine === engines.last {
                results.append(engines[0].perform(.evaluateHead(windows: 0..<3, input: bytes)))
            }
        }
        for engine in engines {
            let state = engine.perform(.exportState(units: engine.configuration!.units, includeMoments: true))
            results.append(state)
        }
        return results
    }

    /// One micro-batch forward and backward.
    static func pass(
        _ key: MicroBatchKey, _ engines: [StageEngine], _ results: inout [ComputeResult]
    ) throws {
        var bytes: [UInt8] = []
        for engine in engines {
            let result = engine.perform(.forward(key, input: bytes))
            if case .activation(let out) = result { bytes = out } else { results.append(result) }
        }
        if engines.count > 1, engines[0].configuration!.lendsTable {
            guard case .head(let loss, let gradient) = engines[0].perform(.head(key, input: bytes)) else {
                throw Refusal("head")
            }
            results.append(.loss(loss))
            bytes = gradient
        } else {
            bytes = []
        }
        for engine in engines.reversed() {
            guard case .inputGradient(let out) = engine.perform(.backward(key, gradient: bytes)) else {
                throw Refusal("backward")
            }
            bytes = out
        }
    }

    static func engines(
        _ cuts: [Range<Int>], isTied: Bool = false, adapters: Adapters? = nil, weights: NumberFormat = .fp32,
        _ device: (StageConfiguration) -> any DeviceEngine
    ) -> [StageEngine] {
        cuts.map { units in
            let configuration = configuration(units, isTied: isTied, adapters: adapters, weights: weights)
            let engine = StageEngine(corpus: corpus, on: device(configuration), threads: 1)
            let result = engine.perform(.configure(configuration))
            #expect(result == .done)
            return engine
        }
    }

    @Test(arguments: [[0..<5], [0..<2, 2..<3, 3..<5]], [false, true])
    func `gives the bits that its numbers have, whatever carries them`(cuts: [Range<Int>], isTied: Bool) throws {
        let here = Self.engines(cuts, isTied: isTied) { _ in CPUEngine(threads: 1) }
        let there = Self.engines(cuts, isTied: isTied) { configuration in FakeWorker { configuration }.engine() }
        for step in [0, 2] { #expect(try Self.round(there, from: step) == Self.round(here, from: step)) }
        for engines in [here, there] {
            for engine in engines { #expect(engine.perform(.rewind) == .done) }
        }
        #expect(try Self.round(there, from: 4) == Self.round(here, from: 4))
    }

    static let adapters = Adapters(rank: 3, alpha: 6, targets: [.q, .v, .gate, .down])

    /// Weights stand still; the worker is told the factors' first values, and what moves has no moments to be asked for.
    @Test(arguments: [[0..<5], [0..<1, 1..<3, 3..<5]], [NumberFormat.fp32, .bf16])
    func `gives the bits of its adapters`(cuts: [Range<Int>], weights: NumberFormat) throws {
        let here = Self.engines(cuts, adapters: Self.adapters, weights: weights) { _ in CPUEngine(threads: 1) }
        let there = Self.engines(cuts, adapters: Self.adapters, weights: weights) { configuration in
            FakeWorker { configuration }.engine()
        }
        for step in [0, 2] { #expect(try Self.round(there, from: step) == Self.round(here, from: step)) }
        for engines in [here, there] {
            for engine in engines { #expect(engine.perform(.rewind) == .done) }
        }
        #expect(try Self.round(there, from: 4) == Self.round(here, from: 4))
    }

    /// Gradients exchanged every step: the worker sums each virtual pipeline, all else is done here. The bits are those of its numbers.
    @Test(arguments: [[0..<5], [0..<2, 2..<3, 3..<5]], [false, true])
    func `gives its part of an exchange every step`(cuts: [Range<Int>], isTied: Bool) throws {
        func steps(_ device: (StageConfiguration) -> any DeviceEngine) throws -> [ComputeResult] {
            let engines = cuts.map { units in
                var configuration = Self.configuration(units, mode: .everyStep, isTied: isTied)
                configuration.geometry.virtualPipelines = 3
                let engine = StageEngine(corpus: Self.corpus, on: device(configuration), threads: 1)
                #expect(engine.perform(.configure(configuration)) == .done)
                return engine
            }
            var results: [ComputeResult] = []
            for step in 0..<3 {
                for virtual in 0..<3 {
                    for index in 0..<2 {
                        try Self.pass(
                            MicroBatchKey(step: step, virtualPipeline: virtual, index: index), engines, &results)
                    }
                }
                let parts = engines.map { $0.perform(.encodeContribution) }
                results += parts
                let units = parts.flatMap {
                    if case .contribution(let units) = $0 { units } else { [UnitContribution]() }
                }
                let all = [RankedContribution(rank: 0, microBatches: 6, units: units)]
                let squares = engines.map { $0.perform(.aggregateGradients(all)) }
                results += squares
                let sums = squares.flatMap { if case .sumSquares(let sums) = $0 { sums } else { [Float]() } }
                for engine in engines {
                    let stepped = engine.perform(.optimizerStep(norm: gradientNorm(sums), learningRate: 0.01))
                    #expect(stepped == .done)
                }
            }
            return results
                + engines.map { $0.perform(.exportState(units: $0.configuration!.units, includeMoments: true)) }
        }
        let here = try steps { _ in CPUEngine(threads: 1) }
        let there = try steps { configuration in FakeWorker { configuration }.engine() }
        #expect(here == there)
        #expect(here.count > 18)
    }

    static let operations = [
        "hello", "load", "arena", "put", "forward", "backward", "finish", "step", "get", "evaluate", "drop",
    ]
    static let faults: [FakeWorker.Fault] = [
        .dies, .sendsGarbage, .announcesTooMuch, .answersAnother, .answersNothing, .refuses("internal"),
        .refuses("something new"),
    ]

    /// Whatever goes wrong, wherever: a word, a new worker with the next stage, and the round begins anew with the right bits.
    @Test(arguments: operations, faults)
    func `a worker that fails costs its round`(operation: String, fault: FakeWorker.Fault) throws {
        try Self.failAndRecover(FakeWorker((operation, fault)) { Self.configuration() }.engine())
    }

    /// An answer to each request, damaged at random: it is believed, or the worker is ended; the next round's bits are right.
    @Test(arguments: operations) func `whatever a worker answers, the peer stands`(operation: String) throws {
        let right = try Self.round(Self.engines([0..<5]) { _ in CPUEngine(threads: 1) }, from: 0)
        for seed in 0..<24 {
            let fake = FakeWorker((operation, .damages(seed: UInt64(seed)))) { Self.configuration() }
            let engine = StageEngine(corpus: Self.corpus, on: fake.engine(patience: 2), threads: 1)
            if engine.perform(.configure(Self.configuration())) == .done { _ = try? Self.round([engine], from: 0) }
            #expect(engine.perform(.configure(Self.configuration())) == .done, "\(operation), seed \(seed)")
            #expect(try Self.round([engine], from: 0) == right, "\(operation), seed \(seed)")
        }
    }

    @Test(arguments: ["forward", "finish", "get", "evaluate"])
    func `numbers that are none end a worker`(operation: String) throws {
        try Self.failAndRecover(FakeWorker((operation, .sendsNotANumber)) { Self.configuration() }.engine())
    }

    /// A stage of the middle: what comes back from it are an activation and a gradient.
    @Test(arguments: ["forward", "backward"])
    func `neither does a number that is none reach the stages beside it`(operation: String) throws {
        let configuration = Self.configuration(2..<4)
        let fake = FakeWorker((operation, .sendsNotANumber)) { configuration }
        let engine = StageEngine(corpus: Self.corpus, on: fake.engine(), threads: 1)
        #expect(engine.perform(.configure(configuration)) == .done)
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        let zeros = [UInt8](repeating: 0, count: 4 * 2 * 18 * 24)
        let forward = engine.perform(.forward(key, input: zeros))
        let last = operation == "forward" ? forward : engine.perform(.backward(key, gradient: zeros))
        guard case .refused(let why) = last else {
            Issue.record("passed on")
            return
        }
        #expect(why.contains("not finite"), "\(why)")
    }

    /// A stage that lends its table: what comes back from it is another stage's gradient.
    @Test(arguments: ["head", "evaluate_head"])
    func `nor the stage that a table is lent to`(operation: String) throws {
        let configuration = Self.configuration(0..<2, isTied: true)
        let fake = FakeWorker((operation, .sendsNotANumber)) { configuration }
        let engine = StageEngine(corpus: Self.corpus, on: fake.engine(), threads: 1)
        #expect(engine.perform(.configure(configuration)) == .done)
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        guard case .activation(let bytes) = engine.perform(.forward(key, input: [])) else {
            Issue.record("no activation")
            return
        }
        let window = [UInt8](repeating: 0, count: 4 * 18 * 24)
        let result = engine.perform(
            operation == "head" ? .head(key, input: bytes) : .evaluateHead(windows: 0..<1, input: window))
        guard case .refused(let why) = result else {
            Issue.record("passed on")
            return
        }
        #expect(why.contains("not finite"), "\(why)")
    }

    @Test(arguments: ["load", "forward"]) func `a worker that is silent is ended in time`(operation: String) throws {
        try Self.failAndRecover(
            FakeWorker((operation, .isSilent)) { Self.configuration() }.engine(patience: 2))
    }

    static func failAndRecover(_ device: WorkerEngine) throws {
        let engine = StageEngine(corpus: corpus, on: device, threads: 1)
        let reference = engines([0..<5]) { _ in CPUEngine(threads: 1) }
        let first = engine.perform(.configure(configuration()))
        var failed = first != .done
        if !failed {
            let tried = try? round([engine], from: 0)
            failed = tried.map { $0.contains { if case .refused = $0 { true } else { false } } } ?? true
        }
        #expect(failed)
        // Until a stage is loaded anew everything is refused, at once.
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        guard case .refused = engine.perform(.forward(key, input: [])) else {
            Issue.record("a job was done by nobody")
            return
        }
        #expect(engine.perform(.configure(configuration())) == .done)
        #expect(try round([engine], from: 0) == round(reference, from: 0))
    }

    @Test(arguments: ["unsupported", "out_of_memory", "bad_shape"])
    func `a worker may say no, and go on`(kind: String) throws {
        let fake = FakeWorker(("forward", .refuses(kind))) { Self.configuration() }
        let engine = StageEngine(corpus: Self.corpus, on: fake.engine(), threads: 1)
        #expect(engine.perform(.configure(Self.configuration())) == .done)
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        guard case .refused(let why) = engine.perform(.forward(key, input: [])) else {
            Issue.record("accepted")
            return
        }
        #expect(why.contains(kind))
        #expect(fake.started.withLock { $0 } == 1)
    }

    @Test func `a program that is not there, or ends at once, is named`() {
        for (program, words) in [("/nowhere/python3", "cannot be started"), ("true", "hello")] {
            let process = WorkerProcess(program: program, arguments: [])
            let device = WorkerEngine(patience: 5, startPatience: 5) { () throws(Refusal) in try process.start() }
            let engine = StageEngine(corpus: Self.corpus, on: device, threads: 1)
            guard case .refused(let why) = engine.perform(.configure(Self.configuration())) else {
                Issue.record("accepted")
                continue
            }
            #expect(why.contains(words), "\(why)")
        }
    }
}
