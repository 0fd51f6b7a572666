import Compute
import Exchange
import Primitives
import Testing
import Training
import Wire

/// What the jobs promise besides their arithmetic: refusals, rounds, rewinding, error feedback, import and export.
@Suite struct StageEngineTests {
    static let whole = [0..<5]
    static let all = [0, 1, 2, 3, 4]

    static func state(_ engine: StageEngine) -> [UnitState] {
        guard case .state(let states) = engine.perform(.exportState(units: 0..<5, includeMoments: true)) else {
            return []
        }
        return states
    }

    // MARK: refusals

    @Test func `jobs before a configuration are refused`() {
        let engine = StageEngine(corpus: [], threads: 1)
        #expect(refusal(engine.perform(.digests)) != nil)
        #expect(engine.perform(.benchmark(flops: 1e6)) == .done)
    }

    /// It is measured before a stage is here, and leaves nothing behind.
    @Test func `a rehearsal changes no bits, and is refused beside a stage`() {
        var block = Small.configuration(virtualPipelines: 1, microBatches: 1 << 20)
        block.units = 1..<2
        let engine = StageEngine(corpus: Small.corpus, threads: 1)
        #expect(engine.perform(.rehearse(block, flops: 1)) == .done)
        #expect(engine.perform(.rehearse(block, flops: 1e7)) == .done)
        block.geometry.microBatch = 3
        #expect(engine.perform(.rehearse(block, flops: 1)) == .done)
        for units in [0..<2, 1..<block.model.unitCount, 7..<9] {
            var other = block
            other.units = units
            #expect(refusal(engine.perform(.rehearse(other, flops: 1))) != nil)
        }
        #expect(engine.perform(.rehearse(block, flops: 0)) == .done)
        let fresh = StageEngine(corpus: Small.corpus, threads: 1)
        for one in [engine, fresh] {
            #expect(one.perform(.configure(Small.configuration())) == .done)
            #expect(refusal(one.perform(.rehearse(block, flops: 1))) != nil)
        }
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        for job in [ComputeJob.forward(key, input: []), .backward(key, gradient: []), .digests] {
            #expect(engine.perform(job) == fresh.perform(job))
        }
    }

    @Test func `configurations that cannot work are refused`() {
        let engine = StageEngine(corpus: Small.corpus, threads: 1)
        func refused(_ change: (inout StageConfiguration) -> Void) -> Bool {
            var configuration = Small.configuration()
            change(&configuration)
            return refusal(engine.perform(.configure(configuration))) != nil
        }
        #expect(refused { $0.units = 3..<9 })
        #expect(refused { $0.units = 2..<2 })
        #expect(refused { $0.model.heads = 5 })
        #expect(refused { $0.model.kvHeads = 3 })
        #expect(refused { $0.model.kvHeads = 0 })
        #expect(refused { $0.geometry.context = 4000 })
        #expect(refused { $0.model.vocabulary = 100 })
        #expect(
            !refused {
                $0.model.tieWordEmbeddings = true
                $0.units = 0..<3
            })
        #expect(!refused { $0.units = 1..<3 })
    }

    @Test func `activations and gradients of the wrong size or kind are refused and change nothing`() {
        let rig = Rig(Small.configuration(), cuts: [[0..<2, 2..<5]], virtuals: [Self.all])
        let (first, last) = (rig.engines[0][0], rig.engines[0][1])
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        #expect(refusal(first.perform(.forward(key, input: [1]))) != nil)
        guard case .activation(let bytes) = first.perform(.forward(key, input: [])) else {
            Issue.record("no activation")
            return
        }
        #expect(refusal(last.perform(.forward(key, input: Array(bytes.dropLast())))) != nil)
        #expect(refusal(last.perform(.forward(key, input: bytes + [0]))) != nil)
        var infinite = bytes
        infinite.replaceSubrange(0..<4, with: [0, 0, 0x80, 0x7f])
        #expect(refusal(last.perform(.forward(key, input: infinite))) != nil)
        #expect(refusal(last.perform(.backward(key, gradient: []))) != nil)
        guard case .loss = last.perform(.forward(key, input: bytes)) else {
            Issue.record("no loss")
            return
        }
        #expect(refusal(first.perform(.backward(key, gradient: [0, 0]))) != nil)
        for other in [
            MicroBatchKey(step: -1, virtualPipeline: 0, index: 0), MicroBatchKey(step: 0, virtualPipeline: 5, index: 0),
            MicroBatchKey(step: 0, virtualPipeline: 0, index: 2),
        ] {
            #expect(refusal(first.perform(.forward(other, input: []))) != nil)
        }
    }

    @Test func `backward out of key order is refused`() {
        let rig = Rig(Small.configuration(), cuts: [Self.whole], virtuals: [Self.all])
        let engine = rig.engines[0][0]
        let keys = [(0, 0), (0, 1), (1, 0)].map { MicroBatchKey(step: 0, virtualPipeline: $0.0, index: $0.1) }
        for key in keys { _ = engine.perform(.forward(key, input: [])) }
        // The first one's head is added with its forward: its backward is due before any other.
        #expect(refusal(engine.perform(.backward(keys[1], gradient: []))) != nil)
        #expect(refusal(engine.perform(.encodeContribution)) != nil)
        #expect(refusal(engine.perform(.backward(keys[0], gradient: []))) == nil)
        #expect(refusal(engine.perform(.backward(keys[2], gradient: []))) == nil)
        #expect(refusal(engine.perform(.backward(keys[1], gradient: []))) != nil)
        #expect(refusal(engine.perform(.optimizerStep(norm: 1, learningRate: 1))) != nil)
    }

    @Test(arguments: [Codec.fp32, .int8, .sparse(k: 64)])
    func `damaged contributions are refused and change nothing`(codec: Codec) {
        for mode in [ExchangeMode.everyStep, .rounds] {
            let rig = Rig(Small.configuration(mode: mode, codec: codec), cuts: [Self.whole], virtuals: [Self.all])
            let engine = rig.engines[0][0]
            _ = rig.runMicroBatches(0, step: 0)
            if mode == .rounds {
                _ = engine.perform(.finishGradient(microBatches: 10))
                _ = engine.perform(.optimizerStep(norm: 1, learningRate: 0.01))
            }
            let good = rig.contribution(0, microBatches: 10)
            let before = rig.digests()
            func isRefused(_ contributions: [RankedContribution]) -> Bool {
                let result = engine.perform(
                    mode == .rounds ? .outerStep(contributions) : .aggregateGradients(contributions))
                return refusal(result) != nil && rig.digests() == before
            }
            func damaged(_ damage: (inout RankedContribution) -> Void) -> [RankedContribution] {
                var bad = good
                damage(&bad)
                return [bad]
            }
            #expect(isRefused([]))
            #expect(isRefused([good, good]))
            #expect(isRefused(damaged { $0.microBatches = 0 }))
            #expect(isRefused(damaged { $0.units.removeLast() }))
            #expect(isRefused(damaged { $0.units[2].bytes.array.removeLast() }))
            #expect(isRefused(damaged { $0.units[2].bytes.array.append(0) }))
            #expect(isRefused(damaged { $0.units[2].bytes.array = [] }))
            #expect(isRefused(damaged { $0.units[2].bytes.array.replaceSubrange(0..<4, with: [255, 255, 255, 255]) }))
            #expect(isRefused(damaged { $0.units[2].bytes.array.replaceSubrange(0..<4, with: [0, 0, 0, 0]) }))
            #expect(isRefused(damaged { $0.units[1].node = 77 }))
            #expect(isRefused(damaged { $0.units.append($0.units[0]) }))
            #expect(!isRefused([good]) || mode == .everyStep)
        }
    }

    @Test func `a share inside another share is refused`() {
        let rig = Rig(Small.configuration(), cuts: [Self.whole, Self.whole], virtuals: [[0, 1], [1]])
        for rank in 0..<2 { _ = rig.runMicroBatches(rank, step: 0) }
        let contributions = (0..<2).map { rig.contribution($0, microBatches: 2) }
        let result = rig.engines[0][0].perform(.aggregateGradients(contributions))
        #expect(refusal(result)?.contains("twice") == true)
    }

    // MARK: rounds

    @Test(arguments: [Codec.fp32, .bf16, .int8, .int4, .sparse(k: 512)])
    func `rounds lower the loss with every codec, and all pipelines agree`(codec: Codec) {
        let configuration = Small.configuration(mode: .rounds, codec: codec, virtualPipelines: 4)
        let rig = Rig(configuration, cuts: [Self.whole, [0..<2, 2..<5]], virtuals: [[0, 1], [2, 3]])
        var losses: [Float] = []
        for round in 0..<5 {
            let all = rig.round(round * 4..<round * 4 + 4)
            losses.append(all.reduce(0, +) / Float(all.count))
        }
        #expect(losses.last! < losses[0] - 0.5, "\(losses)")
        #expect(rig.digests(0) == rig.digests(1))
    }

    /// With plain averaging and one pipeline, an exact codec moves the outer parameters to where the pipeline is.
    @Test func `one pipeline with fp32 goes where its steps lead`() throws {
        let rig = Rig(Small.configuration(mode: .rounds), cuts: [Self.whole], virtuals: [Self.all])
        let exact = Rig(Small.configuration(), cuts: [Self.whole], virtuals: [Self.all])
        _ = rig.round(0..<3)
        for step in 0..<3 { _ = exact.step(step) }
        let found = try #require(ModelParameters(shape: Small.model, states: Self.state(rig.engines[0][0])))
        let expected = try #require(ModelParameters(shape: Small.model, states: Self.state(exact.engines[0][0])))
        for (a, b) in zip(found.units.joined(), expected.units.joined()) { #expect(abs(a - b) < 1e-6) }
    }

    /// The outer step against plain arithmetic: G −= lr·(D + μm), m = μm + D, D weighted by micro-batches.
    @Test func `the outer step is Nesterov momentum on the weighted mean`() throws {
        let outer = OuterOptimizer(learningRate: 0.5, momentum: 0.75)
        let configuration = Small.configuration(mode: .rounds, virtualPipelines: 3, outer: outer)
        let rig = Rig(configuration, cuts: [Self.whole, Self.whole], virtuals: [[0, 1], [2]])
        var momentum = [Float](repeating: 0, count: Small.model.parameters)
        for round in 0..<2 {
            let before = try #require(ModelParameters(shape: Small.model, states: Self.state(rig.engines[0][0])))
            var local: [[Float]] = []
            var contributions: [RankedContribution] = []
            for rank in 0..<2 {
                _ = rig.runMicroBatches(rank, step: round)
                _ = rig.engines[rank][0].perform(.finishGradient(microBatches: 2))
                _ = rig.engines[rank][0].perform(.optimizerStep(norm: 1, learningRate: 0.01))
                let part = rig.contribution(rank, microBatches: rank == 0 ? 4 : 2)
                local.append(Self.values(of: part))
                contributions.append(part)
            }
            for stages in rig.engines { _ = stages[0].perform(.outerStep(contributions)) }
            let after = try #require(ModelParameters(shape: Small.model, states: Self.state(rig.engines[1][0])))
            for (index, (g, found)) in zip(before.units.joined(), after.units.joined()).enumerated() {
                let delta = (4 * local[0][index] + 2 * local[1][index]) / 6
                momentum[index] = 0.75 * momentum[index] + delta
                #expect(abs(found - (g - 0.5 * (delta + 0.75 * momentum[index]))) < 1e-6)
            }
        }
    }

    /// All values of an fp32 contribution.
    static func values(of contribution: RankedContribution) -> [Float] {
        contribution.units.flatMap { part in
            var rest = part.bytes.array[...]
            let layout = ChunkLayout(tensors: Small.model.tensors(unit: part.unit).map(\.count), codec: .fp32)
            return layout.pieces.flatMap { piece in
                rest = rest.dropFirst(4)
                defer { rest = rest.dropFirst(piece.count * 4) }
                return [Float](unsafeUninitializedCapacity: piece.count) { values, count in
                    UnsafeMutableRawBufferPointer(values).copyBytes(from: rest.prefix(piece.count * 4))
                    count = piece.count
                }
            }
        }
    }

    @Test func `a rewound round is the round itself again`() {
        let configuration = Small.configuration(mode: .rounds, codec: .int8, virtualPipelines: 2)
        let straight = Rig(configuration, cuts: [Self.whole], virtuals: [[0, 1]])
        let rewound = Rig(configuration, cuts: [Self.whole], virtuals: [[0, 1]])
        for rig in [straight, rewound] { _ = rig.round(0..<2) }
        let engine = rewound.engines[0][0]
        _ = rewound.runMicroBatches(0, step: 2)
        _ = engine.perform(.finishGradient(microBatches: 4))
        _ = engine.perform(.optimizerStep(norm: 1, learningRate: 0.01))
        _ = rewound.runMicroBatches(0, step: 3)
        #expect(engine.perform(.rewind) == .done)
        for rig in [straight, rewound] { _ = rig.round(2..<4) }
        #expect(straight.digests() == rewound.digests())
        #expect(Self.state(straight.engines[0][0]) == Self.state(engine))
    }

    /// What was left out comes with the next contribution: sent twice, it arrives once.
    @Test func `a returned contribution is sent again`() {
        let configuration = Small.configuration(mode: .rounds, codec: .int8)
        let rig = Rig(configuration, cuts: [Self.whole], virtuals: [Self.all])
        let engine = rig.engines[0][0]
        _ = rig.runMicroBatches(0, step: 0)
        _ = engine.perform(.finishGradient(microBatches: 10))
        _ = engine.perform(.optimizerStep(norm: 1, learningRate: 0.01))
        #expect(refusal(engine.perform(.returnContribution)) != nil)
        _ = rig.contribution(0, microBatches: 10)
        #expect(engine.perform(.returnContribution) == .done)
        #expect(refusal(engine.perform(.returnContribution)) != nil)
        // Back at the round's start the pseudo-gradient is zero: what is encoded now is the feedback alone.
        _ = engine.perform(.rewind)
        let again = rig.contribution(0, microBatches: 10)
        let before = rig.digests()
        guard case .digests = engine.perform(.outerStep([again])) else {
            Issue.record("outer step")
            return
        }
        #expect(rig.digests() != before)
    }

    @Test func `every step with a lossy codec keeps feedback and learns`() {
        let configuration = Small.configuration(codec: .sparse(k: 256), virtualPipelines: 3)
        let rig = Rig(configuration, cuts: [Self.whole, Self.whole], virtuals: [[0, 2], [1]])
        var losses: [Float] = []
        for step in 0..<30 {
            let all = rig.step(step)
            losses.append(all.reduce(0, +) / Float(all.count))
        }
        #expect(losses.last! < losses[0] - 0.5, "\(losses)")
        #expect(rig.digests(0) == rig.digests(1))
    }

    // MARK: state

    @Test func `an imported state goes on bit by bit as the exporter would`() {
        for mode in [ExchangeMode.everyStep, .rounds] {
            let configuration = Small.configuration(
                mode: mode, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
            let original = Rig(configuration, cuts: [Self.whole], virtuals: [Self.all])
            let copy = Rig(configuration, cuts: [[0..<2, 2..<5]], virtuals: [Self.all])
            func go(_ rig: Rig, _ step: Int) { _ = mode == .rounds ? rig.round(step..<step + 1) : rig.step(step) }
            go(original, 0)
            go(original, 1)
            let states = Self.state(original.engines[0][0])
            #expect(copy.engines[0][0].perform(.importState(Array(states[..<2]))) == .done)
            #expect(copy.engines[0][1].perform(.importState(Array(states[2...]))) == .done)
            #expect(copy.digests() == original.digests())
            go(original, 2)
            go(copy, 2)
            #expect(copy.digests() == original.digests())
        }
    }

    @Test func `digests name what is exported, chunk by chunk`() {
        for (mode, momentum) in [(ExchangeMode.everyStep, Float(0.9)), (.rounds, 0.9), (.rounds, 0)] {
            let rig = Rig(
                Small.configuration(mode: mode, outer: OuterOptimizer(learningRate: 0.7, momentum: momentum)),
                cuts: [Self.whole], virtuals: [Self.all])
            _ = mode == .rounds ? rig.round(0..<1) : rig.step(0)
            let states = Self.state(rig.engines[0][0])
            #expect(rig.digests() == states.map(UnitDigests.init(of:)))
            for (state, digests) in zip(states, rig.digests()) {
                #expect(digests.parameters == ContentIndex(of: state.parameters.array).id)
                #expect((digests.outerMomentum == nil) == (mode == .everyStep || momentum == 0))
                #expect(digests.outerMomentum.map { $0 == ContentIndex(of: state.outerMomentum.array).id } != false)
            }
        }
    }

    @Test func `states that do not fit are refused`() {
        let rig = Rig(Small.configuration(), cuts: [[0..<2, 2..<5]], virtuals: [Self.all])
        let engine = rig.engines[0][0]
        guard case .state(let states) = engine.perform(.exportState(units: 0..<2, includeMoments: false)) else {
            Issue.record("export")
            return
        }
        func isRefused(_ damage: (inout UnitState) -> Void) -> Bool {
            var state = states[1]
            damage(&state)
            return refusal(engine.perform(.importState([state]))) != nil
        }
        #expect(isRefused { $0.unit = 4 })
        #expect(isRefused { $0.parameters.array.removeLast() })
        #expect(isRefused { $0.parameters.array = [] })
        #expect(isRefused { $0.firstMoment = $0.parameters })
        #expect(isRefused { $0.secondMoment.array = [1, 2, 3] })
        #expect(isRefused { $0.optimizerSteps = -1 })
        #expect(isRefused { $0.parameters.array.replaceSubrange(4..<8, with: [0, 0, 0xc0, 0x7f]) })
        #expect(!isRefused { _ in })
        #expect(refusal(engine.perform(.exportState(units: 0..<3, includeMoments: false))) != nil)
    }

    @Test func `evaluation through stages equals evaluation in one`() throws {
        let configuration = Small.configuration()
        let cut = Rig(configuration, cuts: [[0..<2, 2..<5]], virtuals: [Self.all])
        let one = Rig(configuration, cuts: [Self.whole], virtuals: [Self.all])
        guard case .activation(let bytes) = cut.engines[0][0].perform(.evaluate(windows: 2..<7, input: [])) else {
            Issue.record("no activation")
            return
        }
        let found = cut.engines[0][1].perform(.evaluate(windows: 2..<7, input: bytes))
        #expect(found == one.engines[0][0].perform(.evaluate(windows: 2..<7, input: [])))
        #expect(refusal(cut.engines[0][1].perform(.evaluate(windows: 2..<8, input: bytes))) != nil)
        #expect(refusal(one.engines[0][0].perform(.evaluate(windows: 0..<1000, input: []))) != nil)
        let parameters = try #require(ModelParameters(shape: Small.model, states: Self.state(one.engines[0][0])))
        var told: [[Int]] = []
        let all = try evaluateAll(
            ModelUnits(parameters), corpus: CorpusBytes(Small.corpus), validationFraction: 0.1, threads: 2
        ) {
            told.append([$0, $1])
        }
        #expect(told == [[8, 16], [16, 16]])
        #expect(all.tokens == 16 * 18)
        #expect(
            one.engines[0][0].perform(.evaluate(windows: 0..<16, input: []))
                == .evaluation(lossSum: all.lossSum, tokens: all.tokens))
    }

    @Test func `a mixture's stages are refused where its sources are not the data, and judged source by source`() throws
    {
        var configuration = Small.configuration()
        configuration.dataParts = [DataPart(tokens: 1000, weight: 1), DataPart(tokens: 1999, weight: 2)]
        let engine = StageEngine(corpus: Small.corpus, threads: 1)
        #expect(refusal(engine.perform(.configure(configuration))) != nil)
        configuration.dataParts[1].tokens = 2000
        #expect(engine.perform(.configure(configuration)) == .done)
        let parameters = try #require(ModelParameters(shape: Small.model, states: Self.state(engine)))
        var told: [Int] = []
        let all = try evaluateAll(
            ModelUnits(parameters), corpus: CorpusBytes(Small.corpus), sources: configuration.dataParts,
            validationFraction: 0.1, threads: 1
        ) { done, of in
            #expect(of == 16)
            told.append(done)
        }
        // 100 bytes have 5 windows of 18, 200 have 11.
        #expect(all.tokens == 16 * 18 && told == [5, 13, 16])
        let parts = [0..<5, 5..<16].map { engine.perform(.evaluate(windows: $0, input: [])) }
        for (part, mean) in zip(parts, all.sourceLosses) {
            guard case .evaluation(let sum, let tokens) = part else { throw Unexpected() }
            #expect(mean == sum / Double(tokens))
        }
    }
    private struct Unexpected: Error {}

    @Test(arguments: [Codec.bf16, .int8])
    func `compressed activations train nearly as well`(codec: Codec) {
        let losses = [Codec.fp32, codec].map { activations in
            let rig = Rig(Small.configuration(activations: activations), cuts: [[0..<2, 2..<5]], virtuals: [Self.all])
            return (0..<8).map { rig.step($0) }.last!.reduce(0, +) / 10
        }
        #expect(abs(losses[0] - losses[1]) < 0.05, "\(losses)")
    }
}
