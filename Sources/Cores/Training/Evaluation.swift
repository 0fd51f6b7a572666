import CPU
public import Compute
import Primitives

/// A loss over many windows.
public struct Evaluation: Hashable, Sendable {
    /// In nats, added window by window in order.
    public let lossSum: Double
    public let tokens: Int
    /// Nats a token; not a number where no window is complete.
    public var meanLoss: Double { lossSum / Double(tokens) }
    /// Of a mixture: the mean loss of each source; nil where it has no complete window.
    public var sourceLosses: [Double?] = []
}

/// The loss over all complete validation windows: the final figure of a job. The same bits for any number of threads.
/// - Parameters:
///   - dataTokens: where the corpus is a file of tokens: how many.
///   - sources: of a mixture.
///   - progress: is told every few windows how many are done, and of how many.
public func evaluateAll(
    _ model: ModelUnits, corpus: CorpusBytes, dataTokens: Int? = nil, sources: [DataPart] = [],
    validationFraction: Double, threads: Int,
    progress: ((_ done: Int, _ of: Int) -> Void)? = nil
) throws(TrainingError) -> Evaluation {
    let context = model.shape.context
    let order = DataOrder(
        corpusCount: dataTokens ?? corpus.count, sources: sources, validationFraction: validationFraction,
        context: context, seed: 0)
    guard order.validationWindows > 0 else {
        throw .refused(
            "the validation part has \(order.validationCount) tokens, one window needs \(context + 1); use more text or a"
                + " larger validation_fraction")
    }
    let optimizer = InnerOptimizer(learningRate: 0, warmupTokens: 0, totalTokens: 1)
    let engine = StageEngine(corpus: corpus, on: CPUEngine(threads: threads), threads: threads)
    var configuration = StageConfiguration(
        model: model.shape, units: model.shape.allUnits,
        geometry: BatchGeometry(
            virtualPipelines: 1, microBatch: min(8, order.validationWindows), microBatchesPerVirtual: 1,
            context: context),
        seed: 0, optimizer: optimizer, mode: .everyStep, exchangeCodec: .fp32, activationCodec: .fp32,
        validationFraction: validationFraction, dataTokens: dataTokens)
    configuration.dataParts = sources
    if case .refused(let reason) = engine.perform(.configure(configuration)) { throw .refused(reason) }
    for unit in model.shape.allUnits { try engine.load(model.state(unit)) }
    var (lossSum, tokens) = (0.0, 0)
    var means: [Double?] = []
    for windows in order.validationRanges {
        engine.evaluationProgress = { done, _ in progress?(windows.lowerBound + done, order.validationWindows) }
        if windows.isEmpty {
            means.append(nil)
            continue
        }
        switch engine.perform(.evaluate(windows: windows, input: [])) {
        case .evaluation(let own, let learnt):
            means.append(learnt > 0 ? own / Double(learnt) : nil)
            lossSum += own
            tokens += learnt
        case .refused(let reason): throw .refused(reason)
        default: throw .unexpected(job: "evaluate")
        }
    }
    return Evaluation(lossSum: lossSum, tokens: tokens, sourceLosses: sources.isEmpty ? [] : means)
}
