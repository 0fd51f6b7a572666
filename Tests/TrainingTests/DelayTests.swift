import Digests
import Primitives
import Testing
import Training
import Wire

/// An exchange hidden behind inner steps.
@Suite struct `A contribution that is taken before the round ends` {
    private static func configuration(_ outer: OuterOptimizer, codec: Codec = .fp32) -> StageConfiguration {
        Small.configuration(mode: .rounds, codec: codec, virtualPipelines: 4, outer: outer)
    }
    private static func floats(_ bytes: [UInt8]) -> [Float] {
        bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)))
            }
        }
    }
    private func parameters(_ rig: Rig, _ rank: Int = 0) throws -> [Float] {
        guard case .state(let states) = rig.engines[rank][0].perform(.exportState(units: 0..<5, includeMoments: false))
        else {
            throw TrainingError.unexpected(job: "exportState")
        }
        return states.flatMap { Self.floats($0.parameters.array) }
    }

    @Test func `is of the weights at that step, all of them in the last round, at least one step's`() {
        let outer = OuterOptimizer(delay: 3)
        #expect(outer.contributes(afterStep: 7, isLast: false) == 4)
        #expect(outer.contributes(afterStep: 7, isLast: true) == 7)
        #expect(outer.contributes(afterStep: 2, isLast: false) == 1)
        #expect(OuterOptimizer().contributes(afterStep: 7, isLast: false) == 7)
    }

    /// With one pipeline and plain averaging the outer weights are those that were sent, and the steps since are kept: the
    /// training is the one without rounds, to rounding.
    @Test(arguments: [1, 2]) func `loses nothing of what the steps meanwhile have changed`(delay: Int) throws {
        var weights: [[Float]] = []
        for delay in [0, delay] {
            var trainer = LocalTrainer(
                configuration: Self.configuration(OuterOptimizer(delay: delay, carry: 1)), pipelines: [[0, 1, 2, 3]],
                innerSteps: 3,
                totalSteps: 9)
            trainer.validationEvery = 0
            let model = try trainer.run(corpus: CorpusBytes(Small.corpus), threads: 1)
            weights.append(model.states.flatMap { Self.floats($0.parameters.array) })
        }
        let worst = zip(weights[0], weights[1]).map { abs($0 - $1) }.max() ?? .infinity
        #expect(worst < 1e-4)
        #expect(weights[0] != weights[1])
    }

    @Test func `gives the same weights for any cut, and in the local trainer`() throws {
        let configuration = Self.configuration(OuterOptimizer(learningRate: 0.7, momentum: 0.9, delay: 1), codec: .int8)
        let virtuals = [[0, 1, 3], [2]]
        let digests = [
            [ReproducibilityTests.whole, ReproducibilityTests.whole],
            [ReproducibilityTests.halves, ReproducibilityTests.single],
        ].map { cuts in
            let rig = Rig(configuration, cuts: cuts, virtuals: virtuals)
            for round in 0..<3 { _ = rig.round(round * 3..<round * 3 + 3, isLast: round == 2) }
            #expect(rig.digests(0) == rig.digests(1))
            return rig.digests()
        }
        #expect(digests[0] == digests[1])
        var trainer = LocalTrainer(configuration: configuration, pipelines: virtuals, innerSteps: 3, totalSteps: 9)
        trainer.validationEvery = 0
        let one = try trainer.run(corpus: CorpusBytes(Small.corpus), threads: 1).weightsDigest
        #expect(try trainer.run(corpus: CorpusBytes(Small.corpus), threads: 2).weightsDigest == one)
    }

    @Test func `is dropped when the round begins anew`() throws {
        let configuration = Self.configuration(OuterOptimizer(delay: 1))
        let rig = Rig(configuration, cuts: [ReproducibilityTests.whole], virtuals: [[0, 1, 2, 3]])
        let once = Rig(configuration, cuts: [ReproducibilityTests.whole], virtuals: [[0, 1, 2, 3]])
        _ = rig.round(0..<2)
        _ = once.round(0..<2)
        // A round that came as far as its contribution and one step more, and then begins anew, from the outer weights.
        let engine = rig.engines[0][0]
        let before = try parameters(rig)
        rig.innerStep(0, step: 2)
        guard case .contribution = engine.perform(.encodeContribution) else {
            throw TrainingError.unexpected(job: "encode")
        }
        rig.innerStep(0, step: 3)
        #expect(engine.perform(.rewind) == .done)
        #expect(try parameters(rig) == before)
        #expect(once.engines[0][0].perform(.rewind) == .done)
        _ = rig.round(2..<4)
        _ = once.round(2..<4)
        #expect(rig.digests() == once.digests())
    }

    @Test func `leaves validation to the weights that all holders share`() throws {
        let configuration = Self.configuration(OuterOptimizer(delay: 1))
        let rig = Rig(configuration, cuts: [ReproducibilityTests.whole], virtuals: [[0, 1, 2, 3]])
        _ = rig.round(0..<2)
        let evaluate = ComputeJob.evaluate(windows: 0..<2, input: [])
        let here = rig.engines[0][0].perform(evaluate)
        let other = Rig(configuration, cuts: [ReproducibilityTests.whole], virtuals: [[0, 1, 2, 3]])
        guard case .state(let states) = rig.engines[0][0].perform(.exportState(units: 0..<5, includeMoments: true))
        else {
            throw TrainingError.unexpected(job: "exportState")
        }
        #expect(other.engines[0][0].perform(.importState(states)) == .done)
        #expect(other.engines[0][0].perform(evaluate) == here)
    }
}
