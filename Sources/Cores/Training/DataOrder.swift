public import Compute
import Datasets
public import Primitives

/// A data order written down by another program, so that both train on the same sequences.
public struct RecordedOrder: Hashable, Sendable {
    /// First byte of each sequence's window, step by step; every window lies within the corpus.
    public let starts: [Int]
    public let sequencesPerStep: Int
    public init(starts: [Int], sequencesPerStep: Int) {
        self.starts = starts
        self.sequencesPerStep = sequencesPerStep
    }
    public var steps: Int { starts.count / max(1, sequencesPerStep) }
}

/// Which bytes, or tokens, of the corpus are read when: a pure function of the seed, never of who computes it.
///
/// The last ⌊n·f⌋ of them are for validation, the rest for training. Of a text a training window is drawn uniformly, for every
/// sequence of every step on its own. Files of tokens are gone through window by window, in another order every epoch
/// (``DataPlan``).
public struct DataOrder: Hashable, Sendable {
    /// Bytes before the validation part.
    public let trainingCount: Int
    public let validationCount: Int
    /// T: tokens of one window; each needs one byte more, its last target.
    public let context: Int
    public let seed: UInt64
    /// Window starts that are read instead of drawn ones; nil outside comparisons with other programs.
    public let recorded: RecordedOrder?
    /// Over tokens: sequences of a step, and the order of windows.
    private var epochs: Epochs?
    private struct Epochs: Hashable, Sendable {
        var sequencesPerStep: Int
        var plan: DataPlan
    }

    public init(
        corpusCount: Int, validationFraction: Double, context: Int, seed: UInt64, recorded: RecordedOrder? = nil
    ) {
        self.recorded = recorded
        let share = min(max(validationFraction, 0), 1)
        validationCount = Int((Double(corpusCount) * share).rounded(.down))
        trainingCount = corpusCount - validationCount
        self.context = context
        self.seed = seed
    }

    /// Of a stage: over the job's tokens where its data are such, else over a text of `bytes`.
    public init(_ configuration: StageConfiguration, bytes: Int, recorded: RecordedOrder? = nil) {
        let geometry = configuration.geometry
        self.init(
            corpusCount: configuration.dataTokens ?? bytes, validationFraction: configuration.validationFraction,
            context: geometry.context, seed: configuration.seed, recorded: recorded)
        guard let tokens = configuration.dataTokens else { return }
        let plan = try? DataPlan(
            sources: [.init(tokens: tokens, weight: 1)], context: geometry.context,
            validationFraction: configuration.validationFraction, seed: configuration.seed)
        epochs = plan.map {
            Epochs(sequencesPerStep: geometry.microBatchesPerStep * geometry.microBatch, plan: $0)
        }
    }

    /// Whether there is at least one training window.
    public var canTrain: Bool { trainingCount > context }

    /// First byte of the window that sequence `sequence` of step `step` reads; needs ``canTrain``.
    public func windowStart(step: Int, sequence: Int) -> Int {
        if let recorded { return recorded.starts[step * recorded.sequencesPerStep + sequence] }
        if let epochs { return epochs.plan.place(step * epochs.sequencesPerStep + sequence).start }
        let stream = UInt64(truncatingIfNeeded: step) << 32 ^ UInt64(truncatingIfNeeded: sequence)
        var generator = SeededGenerator(seed: seed, stream: stream)
        return generator.below(trainingCount - context)
    }

    /// Number of a micro-batch's first sequence within its step.
    public static func firstSequence(_ key: MicroBatchKey, _ geometry: BatchGeometry) -> Int {
        (key.virtualPipeline * geometry.microBatchesPerVirtual + key.index) * geometry.microBatch
    }

    /// Complete validation windows: window i reads [iT, iT+T) of the validation part and predicts [iT+1, iT+T+1).
    public var validationWindows: Int { max(0, (validationCount - 1) / context) }
    /// First byte of a validation window, counted from the corpus' start.
    public func validationStart(window: Int) -> Int { trainingCount + window * context }
    /// The windows that rounds are judged by: at most `count`, evenly spread over the complete ones.
    public func fixedValidationWindows(_ count: Int = 64) -> [Int] {
        let taken = min(count, validationWindows)
        return (0..<taken).map { $0 * validationWindows / taken }
    }
}
