import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Testing
import Training

/// All stages of a pipeline, with messages and results on their way: a generator decides what arrives next.
struct RunningPipeline {
    var runners: [StageRunner]
    var engines: [CheckingEngine]
    /// What each engine is computing, judged by what was there when it began.
    private var computing: [Int: ComputeResult] = [:]
    private var mail: [(to: Int, message: Activation, payload: [UInt8])] = []
    private var norms: [(to: Int, message: Norms)] = []
    private(set) var contributions: [Int: [UnitContribution]] = [:]
    private(set) var finished: Set<Int> = []
    private(set) var applied: [Int: [Int: UnitDigests]?] = [:]
    private(set) var refusals: [String] = []
    private var generator: SeededGenerator
    /// A message may come twice.
    private let repeats: Bool

    init(
        stages: Int, innerSteps: Int, inFlight: Int, microBatchesPerVirtual: Int, windows: [Int] = [], seed: UInt64,
        repeats: Bool = false, delay: Int = 0, parameters: JobParameters = Small.parameters()
    ) throws {
        var script = try Script(parameters)
        try script.join(Array(1...5))
        let plan = Small.plan(
            [Array(1...stages), [5]], innerSteps: innerSteps, inFlight: inFlight,
            microBatchesPerVirtual: microBatchesPerVirtual, delay: delay)
        try script.plan(plan)
        try script.seal([0, 1])
        if innerSteps == 1 { for _ in 0..<9 { try script.seal([0, 1]) } }
        let spec = try #require(script.state.spec)
        let keys = (spec.firstStep..<spec.firstStep + spec.steps).flatMap { step in
            (0..<2).flatMap { share in
                (0..<microBatchesPerVirtual).map {
                    MicroBatchKey(step: step, virtualPipeline: share, index: $0)
                }
            }
        }
        runners = (0..<stages).map {
            StageRunner(
                spec: spec, plan: plan, rank: 0, stage: $0, parameters: parameters, sampleWindows: windows)
        }
        engines = (0..<stages).map {
            CheckingEngine(
                stage: $0, stageCount: stages, keys: keys, inFlight: inFlight, mode: plan.mode, delay: delay,
                isRing: parameters.model.tieWordEmbeddings && stages > 1)
        }
        generator = SeededGenerator(seed: seed, stream: 55)
        self.repeats = repeats
        for stage in 0..<stages {
            runners[stage].start()
            drain(stage)
        }
    }

    private mutating func drain(_ stage: Int) {
        while let effect = runners[stage].poll() {
            switch effect {
            case .compute(let job):
                if computing[stage] != nil { refusals.append("stage \(stage) wants two jobs at a time") }
                computing[stage] = engines[stage].perform(job)
            case .send(let message, let payload, let toStage):
                for _ in 0..<(repeats ? 2 : 1) { mail.append((toStage, message, payload)) }
            case .norms(let message):
                for other in runners.indices where other != stage { norms.append((other, message)) }
            case .contribution(let units):
                if finished.contains(stage) { refusals.append("stage \(stage) is done before its contribution") }
                contributions[stage] = units
            case .finished: finished.insert(stage)
            case .applied(let digests, _): applied[stage] = .some(digests)
            case .refused(let why, _): refusals.append(why)
            }
        }
    }

    /// One thing that may happen next; false when nothing is left.
    mutating func step() -> Bool {
        let count = computing.count + mail.count + norms.count
        guard count > 0 else { return false }
        var choice = generator.below(count)
        let stage: Int
        if choice < computing.count {
            stage = computing.keys.sorted()[choice]
            runners[stage].computed(computing.removeValue(forKey: stage)!)
        } else {
            choice -= computing.count
            if choice < mail.count {
                let item = mail.remove(at: choice)
                stage = item.to
                if case .microBatch(let step, let virtualPipeline, let index, isGradient: true) = item.message.part {
                    engines[stage].delivered.insert(
                        MicroBatchKey(step: step, virtualPipeline: virtualPipeline, index: index))
                }
                runners[stage].receive(item.message, payload: item.payload)
            } else {
                let item = norms.remove(at: choice - mail.count)
                stage = item.to
                runners[stage].receive(item.message)
            }
        }
        drain(stage)
        return true
    }
    mutating func run() { while step() {} }

    /// The seal is in: this pipeline's parts and another's.
    mutating func applySeal() {
        for stage in runners.indices {
            let own = RankedContribution(rank: 0, microBatches: 1, units: contributions[stage] ?? [])
            runners[stage].apply([own, RankedContribution(rank: 1, microBatches: 1, units: [])])
            drain(stage)
        }
    }
    var complaints: [String] { engines.flatMap(\.complaints) + refusals }
}

@Suite struct `A stage's round` {
    static let cases: [(stages: Int, innerSteps: Int, inFlight: Int, perVirtual: Int)] = [
        (1, 1, 1, 1), (1, 3, 2, 2), (2, 1, 1, 3), (2, 1, 2, 3), (3, 1, 3, 4), (4, 1, 6, 4), (2, 2, 1, 2), (3, 3, 3, 3),
        (4, 4, 4, 2), (4, 2, 9, 2),
    ]

    /// The contribution goes out while later steps run; the receipt, and with it the seal, waits for them.
    @Test(arguments: [(1, 3, 1), (2, 3, 2), (3, 4, 1), (4, 2, 1)])
    func `may give its contribution away before its last steps`(stages: Int, innerSteps: Int, delay: Int) throws {
        for seed in 0..<25 as Range<UInt64> {
            var pipeline = try RunningPipeline(
                stages: stages, innerSteps: innerSteps, inFlight: 2, microBatchesPerVirtual: 2, windows: [0, 3],
                seed: seed,
                delay: delay)
            var stepsBetween = 0
            while pipeline.step() {
                if pipeline.contributions.count == stages, pipeline.finished.count < stages { stepsBetween += 1 }
            }
            #expect(stepsBetween > delay)
            #expect(pipeline.finished.count == stages)
            #expect(pipeline.engines.allSatisfy { $0.updates.count == innerSteps })
            pipeline.applySeal()
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.runners.allSatisfy { $0.phase == .done })
        }
    }

    @Test(arguments: cases)
    func `goes to its end in whatever order things arrive`(
        stages: Int, innerSteps: Int, inFlight: Int, perVirtual: Int
    ) throws {
        for seed in 0..<25 as Range<UInt64> {
            var pipeline = try RunningPipeline(
                stages: stages, innerSteps: innerSteps, inFlight: inFlight, microBatchesPerVirtual: perVirtual,
                windows: [0, 3, 5, 8, 9], seed: seed)
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.contributions.count == stages && pipeline.finished.count == stages)
            #expect(pipeline.runners.allSatisfy { $0.phase == .waitingForSeal })
            #expect(pipeline.runners.allSatisfy { $0.microBatchesInRound == 2 * perVirtual * innerSteps })
            pipeline.applySeal()
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.applied.count == stages)
            #expect(pipeline.runners.allSatisfy { $0.phase == .done })
            for (stage, digests) in pipeline.applied { #expect((digests?[stage] != nil) == (innerSteps > 1)) }
            #expect(pipeline.engines.allSatisfy { $0.updates.count == innerSteps })
            // Half of the five windows are this pipeline's: the others are the other's.
            #expect(pipeline.engines.map(\.windows) == [Int](repeating: 2, count: stages))
            let last = try #require(pipeline.runners.last)
            #expect(last.tally.evaluationTokens == 16)
            #expect(last.tally.evaluationSum == 3)
            #expect(last.tally.lossCount == 2 * perVirtual * innerSteps)
            #expect(last.tally.lossSum == Double(last.tally.lossCount * (last.tally.lossCount + 1)) / 2)
        }
    }

    /// The same where the first stage lends the head to the last: it has the losses then, of the steps and of the windows.
    @Test(arguments: cases)
    func `goes to its end with tied embeddings`(stages: Int, innerSteps: Int, inFlight: Int, perVirtual: Int) throws {
        var parameters = Small.parameters()
        parameters.model.tieWordEmbeddings = true
        for seed in 0..<25 as Range<UInt64> {
            var pipeline = try RunningPipeline(
                stages: stages, innerSteps: innerSteps, inFlight: inFlight, microBatchesPerVirtual: perVirtual,
                windows: [0, 3, 5, 8, 9], seed: seed, repeats: seed % 2 == 1, parameters: parameters)
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.runners.allSatisfy { $0.phase == .waitingForSeal })
            pipeline.applySeal()
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.runners.allSatisfy { $0.phase == .done })
            let all = 2 * perVirtual * innerSteps
            for (stage, runner) in pipeline.runners.enumerated() {
                #expect(runner.tally.evaluationTokens == (stage == 0 ? 16 : 0))
                #expect(runner.tally.evaluationSum == (stage == 0 ? 3 : 0))
                #expect(runner.tally.lossSum == (stage == 0 ? Double(all * (all + 1)) / 2 : 0))
            }
            #expect(pipeline.engines[0].heads == (stages > 1 ? all : 0))
            #expect(pipeline.engines[0].headWindows == (stages > 1 ? 2 : 0))
        }
    }

    @Test func `takes each message once, however often it comes`() throws {
        for seed in 0..<25 as Range<UInt64> {
            var pipeline = try RunningPipeline(
                stages: 3, innerSteps: 2, inFlight: 2, microBatchesPerVirtual: 2, windows: [0, 1], seed: seed,
                repeats: true)
            pipeline.run()
            #expect(pipeline.complaints == [])
            #expect(pipeline.runners.allSatisfy { $0.phase == .waitingForSeal })
        }
    }

    @Test func `counts the learning rate in sealed tokens and full batches`() throws {
        var pipeline = try RunningPipeline(
            stages: 2, innerSteps: 3, inFlight: 2, microBatchesPerVirtual: 2, seed: 1)
        pipeline.run()
        // One round of three steps of 4·2·8 tokens is sealed: the rates are those of the next three.
        let optimizer = Small.parameters().optimizer
        let expected = (1...3).map { optimizer.learningRate(atTokens: 192 + $0 * 64) }
        #expect(Set(expected).count == 3)
        for engine in pipeline.engines { #expect(engine.updates == expected) }
    }

    @Test func `waits for the norms of every stage`() throws {
        var pipeline = try RunningPipeline(
            stages: 1, innerSteps: 2, inFlight: 1, microBatchesPerVirtual: 1, seed: 1)
        pipeline.run()
        #expect(pipeline.engines[0].updates.count == 2)
        // Alone in a pipeline of three: the other stages' gradients come, their norms do not.
        var script = try Script()
        try script.join([1, 2, 3])
        let plan = Small.plan([[1, 2, 3]], innerSteps: 2, inFlight: 8)
        try script.plan(plan)
        var runner = StageRunner(
            spec: script.state.spec!, plan: plan, rank: 0, stage: 0, parameters: Small.parameters(), sampleWindows: [])
        runner.start()
        var jobs: [ComputeJob] = []
        func settle(_ runner: inout StageRunner) {
            while let effect = runner.poll() {
                guard case .compute(let job) = effect else { continue }
                jobs.append(job)
                switch job {
                case .forward: runner.computed(.activation([]))
                case .backward: runner.computed(.inputGradient([]))
                case .finishGradient: runner.computed(.sumSquares([1]))
                default: break
                }
            }
        }
        settle(&runner)
        let work = WorkKey(round: 0, rank: 0, attempt: 0)
        for share in 0..<4 {
            let part = Activation.Part.microBatch(step: 0, virtualPipeline: share, index: 0, isGradient: true)
            runner.receive(Activation(work: work, part: part, payload: []), payload: [])
            settle(&runner)
        }
        #expect(runner.phase == .norms)
        func norms(stage: Int, step: Int, _ sum: Float = 4) {
            runner.receive(Norms(work: work, step: step, stage: stage, sumSquares: [sum]))
        }
        norms(stage: 1, step: 0)
        norms(stage: 2, step: 1)
        norms(stage: 3, step: 0)
        norms(stage: 0, step: 0)
        norms(stage: 2, step: 9)
        settle(&runner)
        #expect(runner.phase == .norms)
        norms(stage: 2, step: 0)
        settle(&runner)
        #expect(runner.phase == .updating)
        guard case .optimizerStep(let norm, _)? = jobs.last else {
            Issue.record("no optimizer step, but \(String(describing: jobs.last))")
            return
        }
        #expect(norm == 3)
    }

    @Test func `ignores work that is not its own`() throws {
        var script = try Script()
        try script.join([1, 2, 3])
        let plan = Small.plan([[1, 2], [3]], innerSteps: 2)
        try script.plan(plan)
        var runner = StageRunner(
            spec: script.state.spec!, plan: plan, rank: 0, stage: 1, parameters: Small.parameters(), sampleWindows: [])
        runner.start()
        func isTaken(
            step: Int = 0, virtualPipeline: Int = 0, index: Int = 0, isGradient: Bool = false
        ) -> Bool {
            var copy = runner
            let part = Activation.Part.microBatch(
                step: step, virtualPipeline: virtualPipeline, index: index, isGradient: isGradient)
            copy.receive(Activation(work: copy.work, part: part, payload: [1]), payload: [1])
            return copy.poll() != nil
        }
        #expect(isTaken())
        #expect(!isTaken(virtualPipeline: 2))
        #expect(!isTaken(index: 1))
        #expect(!isTaken(step: 1))
        #expect(!isTaken(step: 2))
        #expect(!isTaken(step: .max))
        #expect(!isTaken(isGradient: true))
        var copy = runner
        copy.receive(Activation(work: copy.work, part: .windows(0..<1), payload: [1]), payload: [1])
        #expect(copy.poll() == nil)
    }

    @Test func `keeps work of the step in progress and the next, and of no other`() throws {
        var script = try Script()
        try script.join([1, 2, 3])
        let plan = Small.plan([[1, 2], [3]], innerSteps: 4)
        try script.plan(plan)
        var runner = StageRunner(
            spec: script.state.spec!, plan: plan, rank: 0, stage: 1, parameters: Small.parameters(), sampleWindows: [])
        runner.start()
        // All steps' inputs at once: an earlier stage can be ahead by one step, never by more.
        for step in 0..<4 {
            for share in 0..<2 {
                let part = Activation.Part.microBatch(
                    step: step, virtualPipeline: share, index: 0, isGradient: false)
                runner.receive(Activation(work: runner.work, part: part, payload: []), payload: [])
            }
        }
        var forwards: [Int] = []
        while let effect = runner.poll() {
            guard case .compute(let job) = effect else { continue }
            switch job {
            case .forward(let key, _):
                forwards.append(key.step)
                runner.computed(.loss(1))
            case .backward: runner.computed(.inputGradient([]))
            case .finishGradient:
                runner.computed(.sumSquares([1]))
                runner.receive(Norms(work: runner.work, step: runner.step, stage: 0, sumSquares: [1]))
            case .optimizerStep: runner.computed(.done)
            default: Issue.record("\(job)")
            }
        }
        #expect(forwards == [0, 0, 1, 1])
        #expect(runner.phase == .stepping && runner.innerStep == 2)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func `ends the attempt where a loss or a norm is not finite, and says where`(value: Float) throws {
        var script = try Script()
        try script.join([1, 2])
        let plan = Small.plan([[1, 2]], innerSteps: 2)
        try script.plan(plan)
        func begun(stage: Int) -> StageRunner {
            var runner = StageRunner(
                spec: script.state.spec!, plan: plan, rank: 0, stage: stage, parameters: Small.parameters(),
                sampleWindows: [])
            runner.start()
            for share in 0..<4 {
                for isGradient in [false, true] {
                    let part = Activation.Part.microBatch(
                        step: 0, virtualPipeline: share, index: 0, isGradient: isGradient)
                    runner.receive(Activation(work: runner.work, part: part, payload: []), payload: [])
                }
            }
            return runner
        }
        func run(_ runner: inout StageRunner, loss: Float) -> [String] {
            var said: [String] = []
            while let effect = runner.poll() {
                switch effect {
                case .refused(let why, _): said.append(why)
                case .compute(.forward): runner.computed(runner.isLast ? .loss(loss) : .activation([]))
                case .compute(.backward): runner.computed(.inputGradient([]))
                case .compute(.finishGradient): runner.computed(.sumSquares([1]))
                case .compute(let job): said.append("\(job)")
                default: break
                }
            }
            return said
        }
        var last = begun(stage: 1)
        let losses = run(&last, loss: value)
        #expect(losses.count == 1)
        #expect(losses.first?.contains("step 1 at stage 2 of pipeline 1") == true, "\(losses)")
        #expect(last.phase == .refused)
        var first = begun(stage: 0)
        #expect(run(&first, loss: 1) == [])
        first.receive(Norms(work: first.work, step: 0, stage: 1, sumSquares: [value]))
        let norms = run(&first, loss: 1)
        #expect(norms.count == 1)
        #expect(
            norms.first?.contains("norm") == true && norms.first?.contains("stage 1 of pipeline 1") == true, "\(norms)")
        // Nothing more comes of it.
        first.receive(Norms(work: first.work, step: 0, stage: 1, sumSquares: [1]))
        #expect(first.poll() == nil)
    }

    @Test func `an engine's refusal, or an answer of another kind, is reported`() throws {
        var script = try Script()
        try script.join([1])
        let plan = Small.plan([[1]])
        try script.plan(plan)
        for (answer, expected) in [(ComputeResult.refused("no room"), "no room"), (.done, "engine answered done")] {
            var runner = StageRunner(
                spec: script.state.spec!, plan: plan, rank: 0, stage: 0, parameters: Small.parameters(),
                sampleWindows: [])
            runner.start()
            _ = runner.poll()
            runner.computed(answer)
            guard case .refused(let why, let isDivergence)? = runner.poll() else {
                Issue.record("not reported")
                continue
            }
            #expect(why.hasPrefix(expected) && !isDivergence)
        }
    }
}
