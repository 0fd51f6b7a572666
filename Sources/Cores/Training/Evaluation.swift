import CPU
import Compute
import Primitives

/// A loss over many windows.
public struct Evaluation: Hashable, Sendable {
    /// In nats, added window by window in order.
    public let lossSum: Double
    public let tokens: Int
    /// Nats a token; not a number where no window is complete.
    public var meanLoss: Double { lossSum / Double(tokens) }
}

/// The loss over all complete validation windows: the final figure of a job. The same bits for any number of threads.
/// - Parameters:
///   - dataTokens: where the corpus is a file of tokens: how many.
///   - progress: is told every few windows how many are done, and of how many.
public func evaluateAll(
    _ model: ModelUnits, corpus: CorpusBytes, dataTokens: Int? = nil, validationFraction: Double, threads: Int,
    progress: ((_ done: Int, _ of: Int) -> Void)? = nil
) throws(TrainingError) -> Evaluation {
    let context = model.shape.context
    let order = DataOrder(
        corpusCount: dataTokens ?? corpus.count, validationFraction: validationFraction, context: context, seed: 0)
    guard order.validationWindows > 0 else {
        throw .refused(
            "the validation part has \(order.validationCount) tokens, one window needs \(context + 1); use more text or a"
                + " larger validation_fraction")
    }
    let optimizer = InnerOptimizer(learningRate: 0, warmupTokens: 0, totalTokens: 1)
    let engine = StageEngine(corpus: corpus, on: CPUEngine(threads: threads), threads: threads)
    engine.evaluationProgress = progress
    let configuration = StageConfiguration(
        model: model.shape, units: model.shape.allUnits,
        geometry: BatchGeometry(
            virtualPipelines: 1, microBatch: min(8, order.validationWindows), microBatchesPerVirtual: 1,
            context: context),
        seed: 0, optimizer: optimizer, mode: .everyStep, exchangeCodec: .fp32, activationCodec: .fp32,
        validationFraction: validationFraction, dataTokens: dataTokens)
    if case .refused(let reason) = engine.perform(.configure(configuration)) { throw .refused(reason) }
    for unit in model.shape.allUnits { try engine.load(model.state(unit)) }
    switch engine.perform(.evaluate(windows: 0..<order.validationWindows, input: [])) {
    case .evaluation(let lossSum, let tokens): return Evaluation(lossSum: lossSum, tokens: tokens)
    case .refused(let reason): throw .refused(reason)
    default: throw .unexpected(job: "evaluate")
    }
}
