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
/// sequence of every step on its own. Files of tokens, and the sources of a mixture, are gone through window by window, in another
/// order every epoch (``DataPlan``). Of a mixture each source has a validation part of its own, and their windows follow each other.
public struct DataOrder: Hashable, Sendable {
    /// Bytes before the validation part; of a mixture the sources' together.
    public let trainingCount: Int
    public let validationCount: Int
    /// Of a mixture; else one.
    private let parts: [Part]
    private struct Part: Hashable {
        /// First token.
        var start: Int
        /// Where its validation part begins, and where that ends.
        var training: Int, end: Int
        func validationWindows(_ context: Int) -> Int { max(0, (end - training - 1) / context) }
    }
    /// What a sequence reads: the token that it begins with, and the first one that it does not see.
    public struct Window: Hashable, Sendable {
        public var start: Int
        public var limit: Int
    }
    /// Whether the sources are what there is.
    private let fits: Bool
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

    /// - Parameter sources: of a mixture; they are `corpusCount` tokens together, or nothing can be trained.
    public init(
        corpusCount: Int, sources: [DataPart] = [], validationFraction: Double, context: Int, seed: UInt64,
        recorded: RecordedOrder? = nil
    ) {
        self.recorded = recorded
        let share = min(max(validationFraction, 0), 1)
        let counts = sources.isEmpty ? [corpusCount] : sources.map(\.tokens)
        var parts: [Part] = []
        for count in counts {
            let start = parts.last?.end ?? 0
            let kept = Int((Double(count) * share).rounded(.down))
            parts.append(Part(start: start, training: start + count - kept, end: start + count))
        }
        self.parts = parts
        fits = parts.last?.end == corpusCount
        validationCount = parts.reduce(0) { $0 + $1.end - $1.training }
        trainingCount = parts.reduce(0) { $0 + $1.training - $1.start }
        self.context = context
        self.seed = seed
    }

    /// Of a stage: over the job's tokens where its data are such, else over a text of `bytes`.
    public init(_ configuration: StageConfiguration, bytes: Int, recorded: RecordedOrder? = nil) {
        let geometry = configuration.geometry
        self.init(
            corpusCount: configuration.dataTokens ?? bytes, sources: configuration.dataParts,
            validationFraction: configuration.validationFraction,
            context: geometry.context, seed: configuration.seed, recorded: recorded)
        var sources = configuration.dataParts
        if sources.isEmpty, let tokens = configuration.dataTokens { sources = [DataPart(tokens: tokens, weight: 1)] }
        guard !sources.isEmpty else { return }
        let plan = try? DataPlan(
            sources: sources.map { .init(tokens: $0.tokens, weight: $0.weight) }, context: geometry.context,
            validationFraction: configuration.validationFraction, seed: configuration.seed)
        epochs = plan.map {
            Epochs(sequencesPerStep: geometry.microBatchesPerStep * geometry.microBatch, plan: $0)
        }
    }

    /// Whether there is at least one training window, of each source.
    public var canTrain: Bool { fits && parts.allSatisfy { $0.training - $0.start > context } }

    /// What sequence `sequence` of step `step` reads; needs ``canTrain``.
    public func window(step: Int, sequence: Int) -> Window {
        if let epochs, recorded == nil {
            let place = epochs.plan.place(step * epochs.sequencesPerStep + sequence)
            let part = parts[place.source]
            return Window(start: part.start + place.start, limit: part.training)
        }
        return Window(start: drawn(step: step, sequence: sequence), limit: trainingCount)
    }
    /// The first byte of it.
    public func windowStart(step: Int, sequence: Int) -> Int { window(step: step, sequence: sequence).start }
    private func drawn(step: Int, sequence: Int) -> Int {
        if let recorded { return recorded.starts[step * recorded.sequencesPerStep + sequence] }
        let stream = UInt64(truncatingIfNeeded: step) << 32 ^ UInt64(truncatingIfNeeded: sequence)
        var generator = SeededGenerator(seed: seed, stream: stream)
        return generator.below(trainingCount - context)
    }

    /// Number of a micro-batch's first sequence within its step.
    public static func firstSequence(_ key: MicroBatchKey, _ geometry: BatchGeometry) -> Int {
        (key.virtualPipeline * geometry.microBatchesPerVirtual + key.index) * geometry.microBatch
    }

    /// Complete validation windows: window i reads [iT, iT+T) of the validation part and predicts [iT+1, iT+T+1). Those of a
    /// mixture's sources follow each other.
    public var validationWindows: Int { parts.reduce(0) { $0 + $1.validationWindows(context) } }
    /// The validation windows of each source.
    public var validationRanges: [Range<Int>] {
        var first = 0
        return parts.map { part in
            defer { first += part.validationWindows(context) }
            return first..<first + part.validationWindows(context)
        }
    }
    /// First byte of a validation window, counted from the corpus' start.
    public func validationStart(window: Int) -> Int {
        var rest = window
        for part in parts.dropLast() {
            let own = part.validationWindows(context)
            if rest < own { return part.training + rest * context }
            rest -= own
        }
        return (parts.last?.training ?? 0) + rest * context
    }
    /// The windows that rounds are judged by: at most `count`, evenly spread over the complete ones.
    public func fixedValidationWindows(_ count: Int = 64) -> [Int] {
        let taken = min(count, validationWindows)
        return (0..<taken).map { $0 * validationWindows / taken }
    }
}
