import Primitives
import Testing
import Training
import Wire

/// The same weights for any cut, any mapping of virtual pipelines, any thread count (instruction sets: see
/// InstructionSets).
@Suite struct ReproducibilityTests {
    /// Cuts of the five units of the small model.
    static let whole = [0..<5]
    static let halves = [0..<2, 2..<5]
    static let single = [0..<1, 1..<2, 2..<3, 3..<4, 4..<5]

    static func digests(
        _ cuts: [[Range<Int>]], _ virtuals: [[Int]], threads: Int = 1, configuration: StageConfiguration? = nil,
        steps: Int = 4
    ) -> [UnitDigests] {
        let rig = Rig(configuration ?? Small.configuration(), cuts: cuts, virtuals: virtuals, threads: threads)
        for step in 0..<steps { _ = rig.step(step) }
        let digests = rig.digests()
        for rank in cuts.indices { #expect(rig.digests(rank) == digests) }
        return digests
    }

    static let reference = digests([whole], [[0, 1, 2, 3, 4]])

    @Test func `any cut into stages gives the same weights`() {
        #expect(Self.digests([Self.halves], [[0, 1, 2, 3, 4]]) == Self.reference)
        #expect(Self.digests([Self.single], [[0, 1, 2, 3, 4]]) == Self.reference)
        #expect(Self.digests([[0..<4, 4..<5]], [[0, 1, 2, 3, 4]]) == Self.reference)
    }

    @Test func `any mapping of virtual pipelines gives the same weights`() {
        #expect(Self.digests([Self.whole, Self.halves], [[0, 1, 2], [3, 4]]) == Self.reference)
        #expect(Self.digests([Self.halves, Self.whole], [[1, 4], [0, 2, 3]]) == Self.reference)
        #expect(
            Self.digests([Self.whole, Self.halves, Self.single, Self.whole, Self.whole], [[3], [1], [4], [0], [2]])
                == Self.reference)
    }

    @Test func `two threads give the weights of one`() {
        let model = ModelShape(hiddenSize: 64, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 160, context: 96)
        let configuration = Small.configuration(model: model, virtualPipelines: 2, microBatch: 5)
        let one = Self.digests([[0..<4]], [[0, 1]], configuration: configuration)
        #expect(Self.digests([[0..<4]], [[0, 1]], threads: 2, configuration: configuration) == one)
        #expect(Self.digests([[0..<2, 2..<4]], [[0, 1]], threads: 3, configuration: configuration) == one)
    }

    @Test func `with rounds and int8 any cut gives the same weights`() {
        let configuration = Small.configuration(
            mode: .rounds, codec: .int8, virtualPipelines: 4, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
        let digests = [[Self.whole, Self.whole], [Self.halves, Self.single]].map { cuts in
            let rig = Rig(configuration, cuts: cuts, virtuals: [[0, 1, 3], [2]])
            for round in 0..<3 { _ = rig.round(round * 2..<round * 2 + 2) }
            #expect(rig.digests(0) == rig.digests(1))
            return rig.digests()
        }
        #expect(digests[0] == digests[1])
    }

    /// The sum of leaves by naive recursion over the whole tree against pipelines' stacks and the receiver's fold.
    /// Floats whose sum depends on the order, so that another order would be seen.
    @Test func `gradients fold the same way whoever holds which share`() {
        for count in 1...9 {
            var generator = SeededGenerator(seed: UInt64(count))
            var configuration = Small.configuration(virtualPipelines: count, microBatches: 1, microBatch: 1)
            configuration.optimizer.clip = 0
            let all = Array(0..<count)
            let reference = Rig(configuration, cuts: [Self.whole], virtuals: [all])
            _ = reference.step(0)
            var shuffled = all
            generator.shuffle(&shuffled)
            let middle = generator.below(count)
            let virtuals = [shuffled[..<middle].sorted(), shuffled[middle...].sorted()].filter { !$0.isEmpty }
            let rig = Rig(configuration, cuts: virtuals.map { _ in Self.whole }, virtuals: virtuals)
            _ = rig.step(0)
            #expect(rig.digests() == reference.digests(), "\(virtuals)")
        }
    }

    @Test func `a pipeline that holds all shares sends one sum`() {
        let rig = Rig(Small.configuration(virtualPipelines: 5), cuts: [Self.whole], virtuals: [[0, 1, 2, 3, 4]])
        _ = rig.runMicroBatches(0, step: 0)
        #expect(rig.contribution(0, microBatches: 10).units.map(\.node) == [1, 1, 1, 1, 1])
        let other = Rig(Small.configuration(virtualPipelines: 5), cuts: [Self.whole], virtuals: [[0, 1, 3]])
        _ = other.runMicroBatches(0, step: 0)
        #expect(Set(other.contribution(0, microBatches: 6).units.map(\.node)) == [4, 11])
    }

    @Test func `the local trainer gives the weights of the peers' jobs`() throws {
        var configuration = Small.configuration()
        configuration.optimizer.schedule = .constant
        let rig = Rig(configuration, cuts: [Self.halves, Self.single], virtuals: [[0, 1], [2, 3, 4]])
        for step in 0..<4 { _ = rig.step(step, learningRate: 0.01) }
        let trainer = LocalTrainer(
            configuration: configuration, pipelines: [[0, 3, 4], [1, 2]], innerSteps: 1, totalSteps: 4)
        var reports: [LocalTrainer.Report] = []
        let parameters = try trainer.run(corpus: CorpusBytes(Small.corpus), threads: 2) { report in
            reports.append(report)
            return true
        }
        let digests = parameters.units.map { unit in
            unit.withUnsafeBytes { UnitDigests(parameters: ContentIndex.id(of: $0)) }
        }
        #expect(digests == rig.digests())
        #expect(reports.map(\.tokens) == [360, 720, 1080, 1440])
        #expect(reports.last!.validationLoss! < 5.6)
    }
}
