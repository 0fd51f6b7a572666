import Compute
import Primitives
import Testing
import Training
import Wire

/// Embeddings that are the head too, in a model that is cut: one parameter, held by the first stage, which lends its table to the
/// last. Everything is compared with the same model in one piece.
@Suite struct `A cut between tied embeddings and the final norm` {
    static let model: ModelShape = {
        var model = Small.model
        model.tieWordEmbeddings = true
        return model
    }()
    static let cuts = [
        ReproducibilityTests.halves, ReproducibilityTests.single, [0..<4, 4..<5], [0..<1, 1..<5],
        [0..<2, 2..<4, 4..<5],
    ]
    static let whole = ReproducibilityTests.whole
    static let all = [0, 1, 2, 3, 4]

    @Test(arguments: cuts) func `gives the losses and the weights of the whole model, bit by bit`(cut: [Range<Int>]) {
        let configuration = Small.configuration(model: Self.model)
        let (one, two) = (
            Rig(configuration, cuts: [Self.whole], virtuals: [Self.all]),
            Rig(configuration, cuts: [cut], virtuals: [Self.all])
        )
        let before = one.digests()
        for step in 0..<4 { #expect(one.step(step) == two.step(step)) }
        #expect(one.digests() == two.digests())
        #expect(zip(before, one.digests()).allSatisfy { $0 != $1 })
        let (a, b) = (one.evaluate(0..<3), two.evaluate(0..<3))
        #expect(a.sum == b.sum && a.tokens == b.tokens && a.tokens == 54)
    }

    /// However many micro-batches are in flight: with one the table's gradient is added with the head, with more later.
    @Test(arguments: 1...10) func `does so at any depth`(inFlight: Int) {
        let configuration = Small.configuration(model: Self.model)
        let digests = [[Self.whole], [ReproducibilityTests.single]].map { cuts in
            let rig = Rig(configuration, cuts: cuts, virtuals: [Self.all])
            _ = rig.runMicroBatches(0, step: 0, inFlight: inFlight)
            return rig.contribution(0, microBatches: 10).units
        }
        #expect(digests[0] == digests[1])
        let usual = Rig(configuration, cuts: [Self.whole], virtuals: [Self.all])
        _ = usual.runMicroBatches(0, step: 0)
        #expect(usual.contribution(0, microBatches: 10).units == digests[0])
    }

    @Test func `does so where pipelines are cut differently, with any number of threads`() {
        let configuration = Small.configuration(model: Self.model)
        let reference = ReproducibilityTests.digests([Self.whole], [Self.all], configuration: configuration)
        #expect(
            ReproducibilityTests.digests(
                [Self.cuts[0], Self.whole, Self.cuts[4]], [[1, 4], [0], [2, 3]], threads: 3,
                configuration: configuration)
                == reference)
        #expect(reference != ReproducibilityTests.reference)
    }

    static let recipes: [@Sendable (inout InnerOptimizer.Recipe) -> Void] = [
        { _ in }, { $0.kept = KeptFormats(state: .bf16, weights: .bf16) }, { $0.kind = .muon }, { $0.zLoss = 0.01 },
        { $0.adapters = Primitives.Adapters(rank: 2, alpha: 4) },
    ]
    @Test(arguments: recipes.indices) func `does so with rounds, and every recipe`(index: Int) {
        var configuration = Small.configuration(
            model: Self.model, mode: .rounds, codec: .int8, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
        Self.recipes[index](&configuration.optimizer.recipe)
        let rigs = [[Self.whole, Self.whole], [Self.cuts[0], Self.cuts[1]]].map {
            Rig(configuration, cuts: $0, virtuals: [[0, 1, 3], [2, 4]])
        }
        for round in 0..<3 {
            #expect(rigs[0].round(round * 2..<round * 2 + 2) == rigs[1].round(round * 2..<round * 2 + 2))
        }
        #expect(rigs[0].digests() == rigs[1].digests(0))
        #expect(rigs[1].digests(0) == rigs[1].digests(1))
    }

    @Test func `does so within a delayed round, whose windows are of the outer weights`() {
        let outer = OuterOptimizer(learningRate: 0.7, momentum: 0.9, delay: 1)
        let configuration = Small.configuration(model: Self.model, mode: .rounds, outer: outer)
        let (one, two) = (
            Rig(configuration, cuts: [Self.whole, Self.whole], virtuals: [[0, 1], [2, 3, 4]]),
            Rig(configuration, cuts: [Self.cuts[4], Self.cuts[0]], virtuals: [[0, 1], [2, 3, 4]])
        )
        for round in 0..<2 { #expect(one.round(round * 3..<round * 3 + 3) == two.round(round * 3..<round * 3 + 3)) }
        #expect(one.evaluate(0..<5).sum == two.evaluate(0..<5).sum)
        #expect(one.evaluate(0..<5).sum == two.evaluate(0..<5, rank: 1).sum)
    }

    @Test func `sends what a codec leaves of it both ways, and learns all the same`() {
        func losses(_ codec: Codec) -> [Float] {
            let rig = Rig(
                Small.configuration(model: Self.model, activations: codec), cuts: [ReproducibilityTests.halves],
                virtuals: [Self.all])
            return (0..<12).map { rig.step($0).reduce(0, +) / 10 }
        }
        let (exact, coarse) = (losses(.fp32), losses(.int8))
        #expect(exact != coarse)
        #expect(coarse.last! < exact.first! - 0.5 && abs(coarse.last! - exact.last!) < 0.1)
    }

    /// One table in one place: what is moved, exported and kept is what the whole model has, by unit.
    @Test func `moves to and from one piece`() {
        let configuration = Small.configuration(
            model: Self.model, mode: .rounds, codec: .int4, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
        let (whole, cut) = (
            Rig(configuration, cuts: [Self.whole], virtuals: [Self.all]),
            Rig(configuration, cuts: [[0..<3, 3..<5]], virtuals: [Self.all])
        )
        _ = whole.round(0..<2)
        guard
            case .state(let states) = whole.engines[0][0].perform(
                .exportState(units: 0..<5, includeMoments: true, includeResidue: true))
        else { return #expect(Bool(false), "no state") }
        #expect(states[4].parameters.count == 4 * Self.model.hiddenSize)
        #expect(cut.engines[0][0].perform(.importState(Array(states[..<3]))) == .done)
        #expect(cut.engines[0][1].perform(.importState(Array(states[3...]))) == .done)
        #expect(whole.round(2..<4) == cut.round(2..<4))
        #expect(whole.digests() == cut.digests())
        // A round begun anew is the round itself.
        _ = cut.runMicroBatches(0, step: 4)
        for engine in cut.engines[0] {
            #expect(engine.perform(.rewind) == .done)
        }
        #expect(whole.round(4..<6) == cut.round(4..<6))
        #expect(whole.digests() == cut.digests())
    }

    @Test func `refuses what does not fit, and is none the worse`() {
        let configuration = Small.configuration(model: Self.model)
        let (rig, plain) = (
            Rig(configuration, cuts: [ReproducibilityTests.halves], virtuals: [Self.all]),
            Rig(configuration, cuts: [ReproducibilityTests.halves], virtuals: [Self.all])
        )
        let (first, last) = (rig.engines[0][0], rig.engines[0][1])
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        let activation = [UInt8](repeating: 0, count: 4 * 36 * 24)
        #expect(refusal(first.perform(.head(key, input: activation)))?.contains("without its forward") == true)
        _ = first.perform(.forward(key, input: []))
        #expect(refusal(first.perform(.backward(key, gradient: activation)))?.contains("without its head") == true)
        #expect(refusal(first.perform(.head(key, input: [1, 2, 3]))) != nil)
        let notNumbers = [UInt8](repeating: 0xFF, count: activation.count)
        #expect(refusal(first.perform(.head(key, input: notNumbers))) != nil)
        #expect(refusal(last.perform(.head(key, input: activation)))?.contains("lends no table") == true)
        #expect(refusal(last.perform(.evaluateHead(windows: 0..<1, input: activation))) != nil)
        let window = [UInt8](repeating: 0, count: 4 * 18 * 24)
        #expect(refusal(first.perform(.evaluateHead(windows: 0..<2, input: window))) != nil)
        #expect(refusal(first.perform(.evaluateHead(windows: 0..<0, input: []))) != nil)
        #expect(refusal(first.perform(.evaluateHead(windows: 0..<1000, input: window))) != nil)
        guard case .evaluation = first.perform(.evaluateHead(windows: 0..<1, input: window)) else {
            return #expect(Bool(false), "a window was refused")
        }
        #expect(rig.step(0) == plain.step(0))
        #expect(rig.digests() == plain.digests())
        guard case .head = first.perform(.forward(key, input: [])) else { return }
        #expect(Bool(false), "a first stage's forward is no head")
    }
}
