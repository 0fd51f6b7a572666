import CPU
public import Compute
import Primitives
import Wire

/// Trains a whole job in one process: M pipelines, each a full-model ``StageEngine``, doing exactly the jobs that peers
/// would do. The reference for `--local` runs, and the instrument that measures what (M, H, codec) cost in loss.
public struct LocalTrainer: Sendable {
    /// `units` must be all of the model's; `mode` decides between exchanging gradients and rounds.
    public var configuration: StageConfiguration
    /// The virtual pipelines that each pipeline works on, ascending; together every one exactly once.
    public var pipelines: [[Int]]
    /// H; 1 with `everyStep`.
    public var innerSteps: Int
    public var totalSteps: Int
    /// Every how many rounds the fixed validation windows are read; zero for never. The last round always is.
    public var validationEvery = 1
    /// Weights to start from instead of those drawn from the seed, and sequences instead of drawn ones (of all
    /// `totalSteps`): what a comparison with another program needs.
    public var initial: ModelParameters?
    public var recorded: RecordedOrder?

    public init(configuration: StageConfiguration, pipelines: [[Int]], innerSteps: Int, totalSteps: Int) {
        self.configuration = configuration
        self.pipelines = pipelines
        self.innerSteps = innerSteps
        self.totalSteps = totalSteps
    }

    /// After each round (with `everyStep`, each step).
    public struct Report: Hashable, Sendable {
        /// From 0.
        public let round: Int
        /// Steps and tokens done so far.
        public let steps: Int
        public let tokens: Int
        /// Mean over the round's micro-batches, in nats.
        public let trainLoss: Float
        /// Mean over the 64 fixed windows on the outer parameters; nil where not asked for, or no window is complete.
        public let validationLoss: Double?
        /// Bytes of the first pipeline's contribution, as encoded: one copy, without records around it.
        public let contributionBytes: Int
    }

    /// Runs to the end, or until `onRound` answers false. The same result for any number of threads.
    public func run(
        corpus: CorpusBytes, threads: Int, onRound: (Report) -> Bool = { _ in true }
    ) throws(TrainingError) -> ModelParameters {
        try check()
        let engines = pipelines.map { _ in
            StageEngine(corpus: corpus, on: CPUEngine(threads: threads), threads: threads, recorded: recorded)
        }
        for engine in engines {
            try expectDone(engine, .configure(configuration))
            if let initial { try expectDone(engine, .importState(initial.states)) }
        }
        let order = DataOrder(
            corpusCount: configuration.dataTokens ?? corpus.count, sources: configuration.dataParts,
            validationFraction: configuration.validationFraction,
            context: configuration.geometry.context, seed: configuration.seed)
        var steps = 0
        var round = 0
        while steps < totalSteps {
            let end = min(totalSteps, steps + innerSteps)
            let (trainLoss, bytes) = try runRound(engines, steps: steps..<end)
            steps = end
            let isLast = steps == totalSteps
            var validation: Double?
            if isLast || validationEvery > 0 && (round + 1) % validationEvery == 0 {
                validation = try validationLoss(engines[0], windows: order.fixedValidationWindows())
            }
            let report = Report(
                round: round, steps: steps, tokens: steps * configuration.geometry.batchTokens, trainLoss: trainLoss,
                validationLoss: validation, contributionBytes: bytes)
            if !onRound(report) { break }
            round += 1
        }
        let export = ComputeJob.exportState(units: configuration.units, includeMoments: false)
        guard case .state(let states) = engines[0].perform(export),
            let parameters = ModelParameters(shape: configuration.model, states: states)
        else { throw .unexpected(job: "exportState") }
        return parameters
    }

    // MARK: parts

    private func runRound(_ engines: [StageEngine], steps: Range<Int>) throws(TrainingError) -> (Float, Int) {
        let perVirtual = configuration.geometry.microBatchesPerVirtual
        var losses: [Float] = []
        var contributions: [RankedContribution] = []
        let taken = configuration.outer.contributes(afterStep: steps.count, isLast: steps.upperBound == totalSteps)
        for (rank, engine) in engines.enumerated() {
            let virtuals = pipelines[rank]
            var units: [UnitContribution] = []
            for (done, step) in steps.enumerated() {
                if configuration.mode == .rounds, done == taken { units = try contribution(engine) }
                losses += try runMicroBatches(engine, step: step, virtuals: virtuals)
                if configuration.mode == .rounds {
                    let sums = try sumSquares(engine, .finishGradient(microBatches: virtuals.count * perVirtual))
                    try optimizerStep(engine, step: step, sums: sums)
                }
            }
            if configuration.mode == .everyStep || taken == steps.count { units = try contribution(engine) }
            contributions.append(
                RankedContribution(rank: rank, microBatches: virtuals.count * perVirtual * steps.count, units: units))
        }
        for engine in engines {
            switch configuration.mode {
            case .everyStep:
                let sums = try sumSquares(engine, .aggregateGradients(contributions))
                try optimizerStep(engine, step: steps.lowerBound, sums: sums)
            case .rounds:
                guard case .digests = try perform(engine, .outerStep(contributions)) else {
                    throw .unexpected(job: "outerStep")
                }
            }
        }
        let bytes = contributions[0].units.reduce(0) { $0 + $1.bytes.count }
        return (losses.reduce(0, +) / Float(losses.count), bytes)
    }

    private func contribution(_ engine: StageEngine) throws(TrainingError) -> [UnitContribution] {
        guard case .contribution(let units) = try perform(engine, .encodeContribution) else {
            throw .unexpected(job: "encodeContribution")
        }
        return units
    }

    private func runMicroBatches(
        _ engine: StageEngine, step: Int, virtuals: [Int]
    ) throws(TrainingError) -> [Float] {
        var losses: [Float] = []
        for virtual in virtuals {
            for index in 0..<configuration.geometry.microBatchesPerVirtual {
                let key = MicroBatchKey(step: step, virtualPipeline: virtual, index: index)
                guard case .loss(let loss) = try perform(engine, .forward(key, input: [])) else {
                    throw .unexpected(job: "forward")
                }
                losses.append(loss)
                guard case .inputGradient = try perform(engine, .backward(key, gradient: [])) else {
                    throw .unexpected(job: "backward")
                }
            }
        }
        return losses
    }

    private func optimizerStep(_ engine: StageEngine, step: Int, sums: [Float]) throws(TrainingError) {
        let tokens = (step + 1) * configuration.geometry.batchTokens
        let rate = configuration.optimizer.learningRate(atTokens: tokens)
        try expectDone(engine, .optimizerStep(norm: gradientNorm(sums), learningRate: rate))
    }

    private func validationLoss(_ engine: StageEngine, windows: [Int]) throws(TrainingError) -> Double? {
        var sum = 0.0
        var tokens = 0
        for window in windows {
            let job = ComputeJob.evaluate(windows: window..<window + 1, input: [])
            guard case .evaluation(let lossSum, let count) = try perform(engine, job) else {
                throw .unexpected(job: "evaluate")
            }
            sum += lossSum
            tokens += count
        }
        return tokens > 0 ? sum / Double(tokens) : nil
    }

    private func check() throws(TrainingError) {
        let all = pipelines.flatMap { $0 }
        guard all.sorted() == Array(0..<configuration.geometry.virtualPipelines),
            pipelines.allSatisfy({ !$0.isEmpty && $0 == $0.sorted() })
        else { throw .pipelines(found: pipelines, virtualPipelines: configuration.geometry.virtualPipelines) }
        guard innerSteps >= 1, configuration.mode == .rounds || innerSteps == 1 else {
            throw .innerSteps(innerSteps)
        }
        guard configuration.units == configuration.model.allUnits else { throw .unexpected(job: "configure") }
    }

    private func perform(_ engine: StageEngine, _ job: ComputeJob) throws(TrainingError) -> ComputeResult {
        let result = engine.perform(job)
        if case .refused(let reason) = result { throw .refused(reason) }
        return result
    }
    private func expectDone(_ engine: StageEngine, _ job: ComputeJob) throws(TrainingError) {
        guard case .done = try perform(engine, job) else { throw .unexpected(job: "optimizerStep") }
    }
    private func sumSquares(_ engine: StageEngine, _ job: ComputeJob) throws(TrainingError) -> [Float] {
        guard case .sumSquares(let sums) = try perform(engine, job) else { throw .unexpected(job: "sumSquares") }
        return sums
    }
}

/// Why a local run, an evaluation or a generation cannot be done.
public enum TrainingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The engine's own words.
    case refused(String)
    case pipelines(found: [[Int]], virtualPipelines: Int)
    case innerSteps(Int)
    case emptyPrompt
    case unexpected(job: String)

    public var description: String {
        switch self {
        case .refused(let reason): "training stopped: \(reason)"
        case .pipelines(let found, let count):
            "the pipelines \(found) must hold each of the virtual pipelines 0 to \(count - 1) once, in ascending order"
        case .innerSteps(let steps):
            "\(steps) inner steps: at least 1 is needed, and exactly 1 where gradients are exchanged every step"
        case .emptyPrompt: "the prompt is empty; give at least one byte to continue from"
        case .unexpected(let job): "the engine gave an answer of another kind to \(job)"
        }
    }
}
