import CPU
import Primitives
import Testing
import Training

@Suite struct `A stage that recomputes` {
    private static let cuts = [[0..<2, 2..<5], [0..<1, 1..<4, 4..<5], [0..<5]]
    private static let virtuals = [[0, 1], [2, 3], [4]]
    /// Of the six stages: none, all, the first, middles and lasts of some.
    private static let choices: [Set<Int>] = [[], [0, 1, 2, 3, 4, 5], [0], [1, 3], [5], [2, 4]]

    @Test func `gives the weights that it gives without, three micro-batches in flight`() {
        var found: Set<[UnitDigests]> = []
        for recomputing in Self.choices {
            let rig = Rig(Small.configuration(), cuts: Self.cuts, virtuals: Self.virtuals, recomputing: recomputing)
            for step in 0..<3 { _ = rig.step(step) }
            for rank in Self.cuts.indices { found.insert(rig.digests(rank)) }
        }
        #expect(found == [ReproducibilityTests.digests([[0..<5]], [[0, 1, 2, 3, 4]], steps: 3)])
    }

    @Test func `does so with rounds, coarse codecs and a tied embedding`() {
        var model = Small.model
        for tied in [false, true] {
            model.tieWordEmbeddings = tied
            let configuration = Small.configuration(
                model: model, mode: .rounds, codec: .int8, activations: .bf16,
                outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
            let cuts = Self.cuts
            var found: Set<[UnitDigests]> = []
            for recomputing in Self.choices {
                let rig = Rig(configuration, cuts: cuts, virtuals: Self.virtuals, recomputing: recomputing)
                for round in 0..<2 { _ = rig.round(round * 2..<round * 2 + 2) }
                for rank in cuts.indices { found.insert(rig.digests(rank)) }
            }
            #expect(found.count == 1)
        }
    }

    @Test func `may begin and end while micro-batches are in flight`() {
        func contributions(_ changes: [Int: Bool]) -> [UnitContribution] {
            let rig = Rig(
                Small.configuration(microBatches: 1), cuts: [[0..<2, 2..<5]], virtuals: [[0, 1, 2, 3, 4]])
            let keys = (0..<5).map { MicroBatchKey(step: 0, virtualPipeline: $0, index: 0) }
            for (index, key) in keys.enumerated() {
                if let recompute = changes[index] {
                    for stage in rig.engines[0] { #expect(stage.perform(.recompute(recompute)) == .done) }
                }
                _ = rig.forward(rig.engines[0], key)
                if index > 1 { rig.backward(rig.engines[0], keys[index - 2]) }
            }
            for key in keys.suffix(2) { rig.backward(rig.engines[0], key) }
            return rig.contribution(0, microBatches: 5).units
        }
        let plain = contributions([:])
        #expect(!plain.isEmpty)
        #expect(contributions([1: true]) == plain)
        #expect(contributions([0: true, 3: false]) == plain)
        #expect(contributions([1: true, 2: false, 3: true, 4: false]) == plain)
    }

    /// The engine's buffers against the law, byte by byte. Besides them there are an activation between codec and device, and the
    /// attention's scores.
    @Test(arguments: [0..<1, 0..<3, 1..<3, 1..<5, 4..<5, 0..<5]) func `holds what the memory law says`(
        units: Range<Int>
    ) {
        var other = Small.model
        other.queryKeyNorm = true
        other.headSize = 10
        var tied = Small.model
        tied.tieWordEmbeddings = true
        for (model, recompute) in [
            (Small.model, false), (Small.model, true), (other, false), (other, true), (tied, false), (tied, true),
        ] {
            let rows = 2 * model.context
            var configuration = Small.configuration(model: model)
            configuration.units = units
            configuration.recompute = recompute
            let device = CPUEngine(threads: 1)
            let engine = StageEngine(corpus: Small.corpus, on: device, threads: 1)
            #expect(engine.perform(.configure(configuration)) == .done)
            let input = [UInt8](repeating: 0, count: units.lowerBound == 0 ? 0 : rows * model.hiddenSize * 4)
            let scores = units.clamped(to: 1..<4).isEmpty ? 0 : Stretches.scores(length: model.context)
            for inFlight in 1...5 {
                let key = MicroBatchKey(step: 0, virtualPipeline: inFlight - 1, index: 0)
                #expect(refusal(engine.perform(.forward(key, input: input))) == nil)
                let law = model.memory(
                    units: units, rounds: false, sequences: 2, inFlight: inFlight, recompute: recompute
                ).bytes
                let besides = 16 * model.parameters(units: units) + 4 * (rows * model.hiddenSize + scores)
                #expect(device.workingBytes + besides == law)
            }
        }
    }

    @Test func `is charged one forward more`() {
        var configuration = Small.configuration()
        let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
        let forward = modelledFLOPs(of: .forward(key, input: []), configuration: configuration)
        let job = ComputeJob.backward(key, gradient: [])
        #expect(modelledFLOPs(of: job, configuration: configuration) == 2 * forward)
        configuration.recompute = true
        #expect(modelledFLOPs(of: job, configuration: configuration) == 3 * forward)
        #expect(modelledFLOPs(of: .forward(key, input: []), configuration: configuration) == forward)
        #expect(ComputeJob.recompute(false).configuration(before: configuration) == Small.configuration())
        #expect(ComputeJob.digests.configuration(before: configuration) == configuration)
    }
}
