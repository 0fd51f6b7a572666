import CPU
import Compute
import Exchange
import Kernels
import Primitives
import Testing
import Training

/// Moments, error feedback and weights in sixteen bits, and the optimizers that keep less.
@Suite struct `What a stage keeps between steps` {
    /// A recipe by name.
    struct Recipe: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let value: InnerOptimizer.Recipe
        init(_ name: String, _ change: (inout InnerOptimizer.Recipe) -> Void) {
            testDescription = name
            var recipe = InnerOptimizer.Recipe()
            change(&recipe)
            value = recipe
        }
    }
    static let recipes = [
        Recipe("moments in bf16") { $0.kept.state = .bf16 },
        Recipe("all in bf16") { $0.kept = KeptFormats(state: .bf16, weights: .bf16) },
        Recipe("Muon") { $0.kind = .muon },
        Recipe("Muon, all in bf16") {
            $0.kind = .muon
            $0.kept = KeptFormats(state: .bf16, weights: .bf16)
        },
    ]

    @Test(arguments: recipes) func `gives the same weights for any cut, mapping and number of threads`(recipe: Recipe) {
        var configuration = Small.configuration()
        configuration.optimizer.recipe = recipe.value
        func digests(_ cuts: [[Range<Int>]], _ virtuals: [[Int]], threads: Int = 1) -> [UnitDigests] {
            ReproducibilityTests.digests(cuts, virtuals, threads: threads, configuration: configuration, steps: 3)
        }
        let (whole, halves, single) = (
            ReproducibilityTests.whole, ReproducibilityTests.halves, ReproducibilityTests.single
        )
        let reference = digests([whole], [[0, 1, 2, 3, 4]])
        #expect(digests([halves, single], [[1, 4], [0, 2, 3]]) == reference)
        #expect(digests([whole], [[0, 1, 2, 3, 4]], threads: 3) == reference)
        #expect(ReproducibilityTests.reference != reference)
    }

    @Test(arguments: recipes) func `is rewound, and moved to another peer, bit by bit`(recipe: Recipe) {
        var configuration = Small.configuration(
            mode: .rounds, codec: .int8, outer: OuterOptimizer(learningRate: 0.7, momentum: 0.9))
        configuration.optimizer.recipe = recipe.value
        func rig(_ cuts: [Range<Int>]) -> Rig { Rig(configuration, cuts: [cuts], virtuals: [[0, 1, 2, 3, 4]]) }
        let (straight, rewound, moved) = (rig([0..<5]), rig([0..<5]), rig([0..<2, 2..<5]))
        for one in [straight, rewound] { _ = one.round(0..<2) }
        guard case .state(let states) = straight.engines[0][0].perform(.exportState(units: 0..<5, includeMoments: true))
        else { preconditionFailure("no state") }
        #expect(moved.engines[0][0].perform(.importState(Array(states[..<2]))) == .done)
        #expect(moved.engines[0][1].perform(.importState(Array(states[2...]))) == .done)
        _ = rewound.runMicroBatches(0, step: 2)
        #expect(rewound.engines[0][0].perform(.finishGradient(microBatches: 10)).isSums)
        #expect(rewound.engines[0][0].perform(.optimizerStep(norm: 1, learningRate: 0.1)) == .done)
        #expect(rewound.engines[0][0].perform(.rewind) == .done)
        // Error feedback stays with a peer: without it the newcomer sends what it has.
        for one in [straight, rewound] { _ = one.round(2..<3) }
        #expect(straight.digests() == rewound.digests())
        let again = rig([0..<5])
        #expect(again.engines[0][0].perform(.importState(states)) == .done)
        for one in [moved, again] { _ = one.round(2..<3) }
        #expect(moved.digests() == again.digests())
    }

    @Test(arguments: recipes) func `learns as in fp32`(recipe: Recipe) {
        func loss(_ recipe: InnerOptimizer.Recipe, _ mode: ExchangeMode) -> Float {
            var configuration = Small.configuration(mode: mode, virtualPipelines: 2)
            configuration.optimizer.recipe = recipe
            let rig = Rig(configuration, cuts: [[0..<5]], virtuals: [[0, 1]])
            var last: Float = 0
            for step in 0..<24 {
                let losses = mode == .rounds ? rig.round(step..<step + 1) : rig.step(step)
                last = losses.reduce(0, +) / Float(losses.count)
            }
            return last
        }
        for mode in [ExchangeMode.everyStep, .rounds] {
            let plain = loss(InnerOptimizer.Recipe(), mode)
            #expect(loss(recipe.value, mode) < plain + 0.15, "\(mode): \(plain) in fp32 with AdamW")
        }
    }

    @Test(arguments: recipes) func `takes as many bytes as the memory law says`(recipe: Recipe) {
        var configuration = Small.configuration()
        configuration.optimizer.recipe = recipe.value
        let model = configuration.model
        for units in [0..<1, 0..<3, 1..<3, 2..<5, 4..<5] {
            configuration.units = units
            let device = CPUEngine(threads: 1)
            let engine = StageEngine(corpus: Small.corpus, on: device, threads: 1)
            #expect(engine.perform(.configure(configuration)) == .done)
            let rows = 2 * model.context
            let input = [UInt8](repeating: 0, count: units.lowerBound == 0 ? 0 : rows * model.hiddenSize * 4)
            let key = MicroBatchKey(step: 0, virtualPipeline: 0, index: 0)
            #expect(refusal(engine.perform(.forward(key, input: input))) == nil)
            let law = model.memory(
                units: units, rounds: false, sequences: 2, inFlight: 1, kept: configuration.optimizer.kept
            ).bytes
            let scores = units.clamped(to: 1..<4).isEmpty ? 0 : Stretches.scores(length: model.context)
            let gradient = 4 * model.parameters(units: units)
            #expect(device.workingBytes + device.keptBytes + gradient + 4 * (rows * model.hiddenSize + scores) == law)
        }
    }

    /// Steps far below the spacing of bf16 move a weight as far as in fp32, on average.
    @Test func `steps smaller than the spacing are not lost`() {
        let count = 20_000
        var weights = [UInt16](repeating: 0x3f80, count: count)  // 1, whose neighbours are 1/256 and 1/128 away
        let ones = [Float](repeating: 1, count: count)
        for step in 0..<40 {
            weights.withUnsafeMutableBytes {
                let kept = kernels_stored(values: $0.baseAddress, format: KERNELS_BF16)
                kernels_move_stored(1, count, 1, -1e-4, UInt64(step) &* 0x9e37_79b9_7f4a_7c15, ones, kept)
            }
        }
        let mean = weights.reduce(0.0) { $0 + Double(Float(bitPattern: UInt32($1) << 16)) } / Double(count)
        #expect(abs(mean - 0.996) < 1e-4)
        #expect(Set(weights).count > 1)
    }

    @Test func `numbers are rounded to the nearest, ties to even`() {
        var generator = SeededGenerator(seed: 2)
        var values = (0..<2000).map { _ in Float(bitPattern: UInt32(truncatingIfNeeded: generator.next())) }
        values += [0, -0, .infinity, -.infinity, .nan, 1, 1.003_906_25, 1.011_718_75, 3.4e38, 1e-45]
        values.append(Float(bitPattern: 0x7f80_0001))  // a NaN whose upper half is empty
        var narrow = [UInt16](repeating: 0, count: values.count)
        kernels_narrow(1, values.count, values, &narrow)
        var wide = [Float](repeating: 0, count: values.count)
        kernels_widen(1, narrow.count, narrow, &wide)
        for (value, found) in zip(values, wide) {
            if value.isNaN {
                #expect(found.isNaN)
                continue
            }
            let below = Float(bitPattern: value.bitPattern & 0xffff_0000)
            let above = Float(bitPattern: (value.bitPattern & 0xffff_0000) &+ 0x1_0000)
            let (down, up) = (abs(Double(value) - Double(below)), abs(Double(above) - Double(value)))
            let isEven = below.bitPattern >> 16 & 1 == 0
            let right = value.isInfinite || down < up || down == up && isEven ? below : above
            // Beyond the largest finite number the next bit pattern is infinity.
            #expect(found.bitPattern == right.bitPattern || above.isInfinite && found.isInfinite, "\(value)")
        }
    }
}

extension ComputeResult {
    fileprivate var isSums: Bool { if case .sumSquares = self { true } else { false } }
}

extension InstructionSets {
    @Test func `kept numbers move alike on every instruction set and thread`() {
        var generator = SeededGenerator(seed: 6)
        let count = 70_001
        func random() -> [Float] { (0..<count).map { _ in Float(generator.uniform() - 0.5) } }
        let (gradient, weights, first, second) = (random(), random(), random(), random().map { $0 * $0 })
        let step = kernels_adamw_step(
            learning_rate: 0.01, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, correction1: 2,
            correction2: 3, gradient_scale: 0.5)
        defer { kernels_set_instruction_set(KERNELS_AUTO) }
        for format in [KERNELS_FP32, KERNELS_BF16] {
            var found: Set<[UInt8]> = []
            for set in Self.available {
                kernels_set_instruction_set(set)
                for threads: Int32 in [1, 3] {
                    func kept(_ values: [Float]) -> [UInt8] {
                        var narrow = [UInt16](repeating: 0, count: count)
                        kernels_narrow(threads, count, values, &narrow)
                        return format == KERNELS_FP32
                            ? values.withUnsafeBytes { [UInt8]($0) } : narrow.withUnsafeBytes { [UInt8]($0) }
                    }
                    var (w, m, v) = (kept(weights), kept(first), kept(second))
                    var direction = [Float](repeating: 0, count: count)
                    w.withUnsafeMutableBytes { w in
                        m.withUnsafeMutableBytes { m in
                            v.withUnsafeMutableBytes { v in
                                func stored(_ bytes: UnsafeMutableRawBufferPointer) -> kernels_stored {
                                    kernels_stored(values: bytes.baseAddress, format: format)
                                }
                                kernels_adamw_stored(
                                    threads, count, step, 77, gradient, stored(w), stored(m), stored(v))
                                kernels_momentum_stored(threads, count, 0.5, 0.95, 78, gradient, stored(m), &direction)
                                kernels_move_stored(threads, count, 0.99, -0.01, 79, direction, stored(w))
                            }
                        }
                    }
                    found.insert(w + m + v + direction.withUnsafeBytes { [UInt8]($0) })
                }
            }
            #expect(found.count == 1)
        }
    }
}
