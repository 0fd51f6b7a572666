import Primitives

/// Which window every sequence of a job reads: a function of the seed and the sequence's number. Each source is gone through in
/// a new order every epoch, without replacement; sources take turns by weight. To resume is to know how many sequences were
/// read.
public struct DataPlan: Hashable, Sendable {
    public struct Source: Hashable, Sendable {
        public var tokens: Int
        public var weight: Double
        public init(tokens: Int, weight: Double) {
            self.tokens = tokens
            self.weight = weight
        }
    }
    public struct Place: Hashable, Sendable {
        public var source: Int
        /// How many times the source was gone through before.
        public var epoch: Int
        /// First token of the window.
        public var start: Int
    }

    public let sources: [Source]
    /// T.
    public let context: Int
    public let seed: UInt64
    /// Tokens at each source's end that are for validation.
    public let validation: [Int]
    private let mixture: Mixture

    /// A source needs two tokens: one to read, one to predict.
    public init(sources: [Source], context: Int, validationFraction: Double, seed: UInt64) throws(DatasetError) {
        guard context > 0 else { throw .badMixture(problem: "a context of \(context) tokens") }
        let share = min(max(validationFraction, 0), 1)
        validation = sources.map { Int((Double($0.tokens) * share).rounded(.down)) }
        for (source, kept) in zip(sources, validation) where source.tokens - kept < 2 {
            throw .badMixture(
                problem:
                    "a source of \(source.tokens) tokens has \(source.tokens - kept) for training; give more text or a "
                    + "smaller validation_fraction")
        }
        self.sources = sources
        self.context = context
        self.seed = seed
        mixture = try Mixture(weights: sources.map(\.weight), seed: seed)
    }

    /// Training windows of a source: window i reads [iT, iT+T) and predicts one on; the last may be short.
    public func windows(_ source: Int) -> Int {
        (sources[source].tokens - validation[source] - 2) / context + 1
    }

    /// What sequence `number` reads, counted from the job's beginning.
    public func place(_ number: Int) -> Place {
        let (source, index) = mixture.place(number)
        let windows = windows(source)
        let epoch = index / windows
        let order = IndexPermutation(
            count: windows, seed: seed,
            stream: UInt64(truncatingIfNeeded: source) << 40 ^ UInt64(truncatingIfNeeded: epoch))
        return Place(source: source, epoch: epoch, start: order[index % windows] * context)
    }

    /// Complete validation windows of a source.
    public func validationWindows(_ source: Int) -> Int { max(0, (validation[source] - 1) / context) }
    /// First token of a validation window.
    public func validationStart(_ source: Int, window: Int) -> Int {
        sources[source].tokens - validation[source] + window * context
    }
}
