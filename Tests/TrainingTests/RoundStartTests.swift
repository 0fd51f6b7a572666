import CPU
import Digests
import Primitives
import Testing
import Training
import Wire

/// A stage as of the start of a round, on its way to a disk and back.
@Suite struct `The start of a round` {
    private static func states(_ engine: StageEngine, residue: Bool = true) throws -> [UnitState] {
        let units = engine.configuration!.units
        let job = ComputeJob.exportState(units: units, includeMoments: true, includeResidue: residue)
        guard case .state(let states) = engine.perform(job) else { throw TrainingError.unexpected(job: "exportState") }
        return states
    }
    private static func start(_ engine: StageEngine, rank: Int = 1) throws -> RoundStart {
        RoundStart(job: sha256([1, 2, 3]), round: 8, epoch: 3, rank: rank, share: [0, 3], states: try states(engine))
    }

    /// Lossy codecs, with and without momentum, with a delay: the rounds after it are the same to the bit, in other engines.
    @Test(arguments: [
        (ExchangeMode.rounds, Codec.int8, OuterOptimizer(learningRate: 0.7, momentum: 0.9)),
        (.rounds, .sparse(k: 8, values: .signMagnitude), OuterOptimizer()),
        (.rounds, .lowrank(rank: 2), OuterOptimizer(learningRate: 0.7, momentum: 0.9)),
        (.rounds, .int4, OuterOptimizer(learningRate: 0.7, momentum: 0.9, delay: 1)),
        (.everyStep, .int8, OuterOptimizer()), (.everyStep, .lowrank(rank: 2), OuterOptimizer()),
    ])
    func `is all that the next rounds need`(mode: ExchangeMode, codec: Codec, outer: OuterOptimizer) throws {
        let configuration = Small.configuration(mode: mode, codec: codec, virtualPipelines: 4, outer: outer)
        func rig() -> Rig {
            Rig(
                configuration, cuts: [ReproducibilityTests.halves, ReproducibilityTests.whole],
                virtuals: [[0, 1, 3], [2]])
        }
        func train(_ rig: Rig, _ rounds: Range<Int>) {
            for round in rounds {
                if mode == .rounds { _ = rig.round(round * 2..<round * 2 + 2) } else { _ = rig.step(round) }
            }
        }
        let straight = rig()
        let resumed = rig()
        train(straight, 0..<3)
        for (rank, stages) in straight.engines.enumerated() {
            for (place, engine) in stages.enumerated() {
                let start = try RoundStart(decoding: #require(Self.start(engine, rank: rank).encoded))
                #expect(start.units == engine.configuration!.units && start.rank == rank && start.share == [0, 3])
                // One unit after the other, as a member loads them.
                for state in start.states {
                    #expect(resumed.engines[rank][place].perform(.importState([state])) == .done)
                }
            }
        }
        // Looking at it changes nothing.
        let again = rig()
        train(again, 0..<3)
        for rig in [straight, resumed, again] { train(rig, 3..<5) }
        #expect(resumed.digests() == straight.digests() && again.digests() == straight.digests())
        #expect(resumed.digests(1) == straight.digests(1))
        // Without what only its holder has they are others.
        let bare = rig()
        let source = rig()
        train(source, 0..<3)
        for (rank, stages) in source.engines.enumerated() {
            for (place, engine) in stages.enumerated() {
                let states = try Self.states(engine, residue: false)
                #expect(bare.engines[rank][place].perform(.importState(states)) == .done)
            }
        }
        train(bare, 3..<5)
        #expect(bare.digests() != straight.digests())
    }

    @Test func `is refused wherever it is damaged or torn, or of another format`() throws {
        let rig = Rig(
            Small.configuration(mode: .rounds, codec: .lowrank(rank: 1), virtualPipelines: 4),
            cuts: [[0..<1, 1..<5]], virtuals: [[0, 1, 2, 3]])
        _ = rig.round(0..<1)
        let start = try Self.start(rig.engines[0][0])
        let bytes = try #require(start.encoded)
        #expect(try RoundStart(decoding: bytes) == start)
        for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 60)) {
            var damaged = bytes
            damaged[place] ^= 0x10
            #expect(throws: MalformedBytes.self) { try RoundStart(decoding: damaged) }
            #expect(throws: MalformedBytes.self) { try RoundStart(decoding: Array(bytes.prefix(place))) }
        }
        // Right digests over what makes no sense: bounds before memory.
        for place in [20, 60, 70, 90, 110] {
            var strange = Array(bytes.dropLast(32))
            for index in place..<place + 8 { strange[index] = 0x7F }
            strange += sha256(strange).bytes
            #expect(throws: MalformedBytes.self) {
                let read = try RoundStart(decoding: strange)
                if read.job != start.job { throw MalformedBytes("another job") }
            }
        }
    }

    @Test func `goes to a disk in pieces, and stays there when it is read`() throws {
        let rig = Rig(
            Small.configuration(mode: .rounds, codec: .lowrank(rank: 1), virtualPipelines: 4),
            cuts: [[0..<1, 1..<5]], virtuals: [[0, 1, 2, 3]])
        _ = rig.round(0..<1)
        let start = try Self.start(rig.engines[0][1])
        let bytes = try #require(start.encoded)
        var pieces: [[UInt8]] = []
        #expect(start.write { pieces.append($0) })
        #expect(pieces.flatMap { $0 } == bytes && start.byteCount == bytes.count)
        // Nothing is put together: the largest piece is the largest list.
        #expect(pieces.map(\.count).max() == start.states.map(\.parameters.count).max())
        let store = TestStore(bytes)
        let read = try RoundStart(StoredBytes(store, 0..<bytes.count))
        #expect(read == start && store.most == bytes.count)
        // What was large is read again where it is wanted, and where it cannot be any more that is said.
        store.gone = 0
        #expect(!read.write { _ in } && read.encoded == nil)
        #expect(VerifiedRoundStart(read).digests.isEmpty)
        for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 20)) {
            store.gone = place
            #expect(throws: MalformedBytes.self) { try RoundStart(StoredBytes(store, 0..<bytes.count)) }
        }
    }

    @Test func `comes out of an engine into a store, and its contributions, too, with the same bits`() throws {
        for (mode, codec) in [(ExchangeMode.everyStep, Codec.fp32), (.rounds, .int8)] {
            let configuration = Small.configuration(mode: mode, codec: codec, virtualPipelines: 4)
            let (plain, kept) = (StageEngine(corpus: Small.corpus, threads: 1), TestRoom())
            let roomy = StageEngine(corpus: Small.corpus, on: CPUEngine(threads: 1), threads: 1, room: kept)
            var found: [[ComputeResult]] = []
            for engine in [plain, roomy] { found.append(try Self.round(engine, configuration)) }
            #expect(found[0] == found[1] && kept.stores.count >= 3)
            #expect(found[1].contains { if case .state = $0 { true } else { false } })
            // Another takes all of it in from there.
            guard case .state(let states) = found[1].last else { throw TestFailure() }
            let another = StageEngine(corpus: Small.corpus, threads: 1)
            #expect(
                another.perform(.configure(configuration)) == .done && another.perform(.importState(states)) == .done)
            #expect(another.perform(.digests) == plain.perform(.digests))
            // And says so where it is gone.
            for store in kept.stores { store.gone = 0 }
            guard case .refused(let why) = another.perform(.importState(states)) else { throw TestFailure() }
            #expect(why.contains("the disk does not give it back"))
        }
    }
    private struct TestFailure: Error {}

    /// What a round begins anew with is on the disk: the same steps come of it.
    @Test func `begins anew with moments that were put down, or says that they are gone`() throws {
        let configuration = Small.configuration(mode: .rounds, codec: .int8, virtualPipelines: 4)
        let (plain, kept) = (StageEngine(corpus: Small.corpus, threads: 1), TestRoom())
        let roomy = StageEngine(corpus: Small.corpus, on: CPUEngine(threads: 1), threads: 1, room: kept)
        func step(_ engine: StageEngine) -> ComputeResult {
            for index in 0..<2 {
                let key = MicroBatchKey(step: 1, virtualPipeline: 0, index: index)
                _ = engine.perform(.forward(key, input: []))
                _ = engine.perform(.backward(key, gradient: []))
            }
            _ = engine.perform(.finishGradient(microBatches: 2))
            #expect(engine.perform(.optimizerStep(norm: 1, learningRate: 0.01)) == .done)
            return engine.perform(.encodeContribution)
        }
        var found: [[ComputeResult]] = []
        for engine in [plain, roomy] {
            // Rewound at once, too, when nothing was put down yet.
            #expect(engine.perform(.configure(configuration)) == .done && engine.perform(.rewind) == .done)
            _ = try Self.round(engine, configuration)
            let first = step(engine)
            #expect(engine.perform(.returnContribution) == .done && engine.perform(.rewind) == .done)
            let again = step(engine)
            #expect(engine.perform(.rewind) == .done)
            found.append([
                first, again, engine.perform(.exportState(units: configuration.units, includeMoments: true)),
            ])
        }
        #expect(found[0] == found[1])
        guard case .contribution = found[0][1] else { throw TestFailure() }
        for store in kept.stores { store.gone = 0 }
        #expect(refusal(roomy.perform(.rewind))?.contains("does not give back the moments") == true)
    }

    /// A round of one pipeline, alone, and the state after it.
    private static func round(_ engine: StageEngine, _ configuration: StageConfiguration) throws -> [ComputeResult] {
        #expect(engine.perform(.configure(configuration)) == .done)
        for virtual in 0..<4 {
            for index in 0..<configuration.geometry.microBatchesPerVirtual {
                let key = MicroBatchKey(step: 0, virtualPipeline: virtual, index: index)
                _ = engine.perform(.forward(key, input: []))
                _ = engine.perform(.backward(key, gradient: []))
            }
        }
        if configuration.mode == .rounds {
            _ = engine.perform(.finishGradient(microBatches: 4 * configuration.geometry.microBatchesPerVirtual))
            _ = engine.perform(.optimizerStep(norm: 1, learningRate: 0.01))
        }
        let sent = engine.perform(.encodeContribution)
        guard case .contribution(let units) = sent else { throw TestFailure() }
        let ranked = RankedContribution(
            rank: 0, microBatches: 4 * configuration.geometry.microBatchesPerVirtual, units: units)
        let taken = engine.perform(configuration.mode == .rounds ? .outerStep([ranked]) : .aggregateGradients([ranked]))
        if configuration.mode == .everyStep { _ = engine.perform(.optimizerStep(norm: 1, learningRate: 0.01)) }
        return [
            sent, taken,
            engine.perform(
                .exportState(
                    units: configuration.units, includeMoments: true, includeResidue: configuration.mode == .rounds)),
            engine.perform(.exportState(units: configuration.units, includeMoments: true)),
        ]
    }

    @Test func `is not imported where its residue does not fit`() throws {
        let configuration = Small.configuration(mode: .rounds, codec: .int8, virtualPipelines: 4)
        let rig = Rig(configuration, cuts: [ReproducibilityTests.whole], virtuals: [[0, 1, 2, 3]])
        _ = rig.round(0..<1)
        let good = try Self.states(rig.engines[0][0])[1]
        let before = rig.digests()
        func refused(_ change: (inout UnitResidue) -> Void) -> Bool {
            var state = good
            state.parameters.array[0] ^= 1
            change(&state.residue)
            return refusal(rig.engines[0][0].perform(.importState([state]))) != nil
        }
        #expect(refused { $0.nodes[0].feedback.array.removeLast() })
        #expect(refused { $0.nodes[0].node = 3 })
        #expect(
            refused {
                $0.nodes[0].feedback.array[3] = 0x7F; $0.nodes[0].feedback.array[2] = 0xC0
            })
        #expect(refused { $0.nodes[0].factors = [[0, 0, 0, 0]] })
        #expect(refused { $0.weights = $0.nodes[0].feedback })
        #expect(rig.digests() == before)
        #expect(rig.engines[0][0].perform(.importState([good])) == .done)
    }
}
