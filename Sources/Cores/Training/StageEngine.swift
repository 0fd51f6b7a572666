import CPU
public import Compute
import Datasets
import Wire

/// Performs every ``ComputeJob`` as documented there: a device engine's steps, and around them what all holders must agree on.
///
/// On this machine's processor it is bitwise reproducible: with fp32 activations the weights after any sequence of steps are the
/// same for any cut into stages, any mapping of virtual pipelines to pipelines, any thread count and any instruction set. What
/// comes from outside is checked before anything changes; what does not fit is answered with `.refused`.
///
/// Owned by one thread at a time, which may change between jobs.
public final class StageEngine: Engine, @unchecked Sendable {
    private let corpus: CorpusBytes
    private let device: any DeviceEngine
    private let threads: Int
    private let recorded: RecordedOrder?
    private var stage: Stage?
    /// While the device is measured, before there is a stage.
    private var rehearsal: Rehearsal?
    /// The corpus, once a stage was told that it is a file of tokens.
    private var tokens: TokenCorpus?
    /// Told how many windows of an evaluation are done, and of how many, on the thread that computes.
    var evaluationProgress: ((Int, Int) -> Void)?
    /// Where states are put down that come out; nil for memory.
    private let room: (any ByteRoom)?

    /// `corpus` may be empty on middle stages, which read no tokens. With `recorded`, which must hold every step that
    /// is asked for, sequences are read from there and not drawn.
    public convenience init(corpus: [UInt8], threads: Int, recorded: RecordedOrder? = nil) {
        self.init(
            corpus: CorpusBytes(corpus), on: CPUEngine(threads: threads), threads: threads, recorded: recorded)
    }
    package convenience init(
        corpus: [UInt8], on device: any DeviceEngine, threads: Int, recorded: RecordedOrder? = nil,
        room: (any ByteRoom)? = nil
    ) {
        self.init(corpus: CorpusBytes(corpus), on: device, threads: threads, recorded: recorded, room: room)
    }
    /// - Parameters:
    ///   - threads: of the arithmetic around the device's.
    ///   - room: where states are put down that come out; nil for memory.
    package init(
        corpus: CorpusBytes, on device: any DeviceEngine, threads: Int, recorded: RecordedOrder? = nil,
        room: (any ByteRoom)? = nil
    ) {
        self.room = room
        self.corpus = corpus
        self.device = device
        self.recorded = recorded
        self.threads = max(1, threads)
    }

    /// The last configuration accepted.
    public var configuration: StageConfiguration? { stage?.configuration }

    public func perform(_ job: ComputeJob) -> ComputeResult {
        do throws(Refusal) {
            return try answer(job)
        } catch {
            return .refused(error.reason)
        }
    }

    /// Stages in the middle read documents' ends, where the corpus is here.
    private func readTokens(_ configuration: StageConfiguration) throws(Refusal) -> TokenCorpus? {
        guard let count = configuration.dataTokens, !corpus.isEmpty || configuration.isFirst || configuration.isLast
        else { return nil }
        if tokens?.source.count != count { tokens = try TokenCorpus(corpus, tokens: count) }
        return tokens
    }

    private func answer(_ job: ComputeJob) throws(Refusal) -> ComputeResult {
        switch job {
        case .configure(let configuration):
            try Stage.check(configuration, corpus: corpus)
            stage = nil
            rehearsal = nil
            stage = try Stage(
                configuration, on: device, corpus: corpus, tokens: try readTokens(configuration), threads: threads,
                recorded: recorded, room: room)
            return .done
        case .benchmark(let flops):
            try device.benchmark(flops: flops)
            return .done
        case .rehearse(let configuration, let flops):
            try rehearse(configuration, flops)
            return .done
        default: break
        }
        guard let stage else { throw Refusal("no stage configured yet") }
        switch job {
        case .configure, .benchmark, .rehearse: return .done
        case .recompute(let recomputes): return try stage.recompute(recomputes)
        case .importState(let states): return try stage.importState(states)
        case .exportState(let units, let includeMoments, let includeResidue):
            return try stage.exportState(units, includeMoments, includeResidue)
        case .forward(let key, let input): return try stage.forward(key, input: input)
        case .backward(let key, let gradient): return try stage.backward(key, gradient: gradient)
        case .head(let key, let input): return try stage.head(key, input: input)
        case .evaluate(let windows, let input):
            return try stage.evaluate(windows, input: input, progress: evaluationProgress)
        case .evaluateHead(let windows, let input): return try stage.evaluateHead(windows, input: input)
        case .finishGradient(let microBatches): return try stage.finishGradient(microBatches: microBatches)
        case .aggregateGradients(let contributions): return try stage.aggregateGradients(contributions)
        case .optimizerStep(let norm, let rate): return try stage.optimizerStep(norm: norm, learningRate: rate)
        case .encodeContribution: return try stage.encodeContribution()
        case .returnContribution: return try stage.returnContribution()
        case .withdrawContribution: return try stage.withdrawContribution()
        case .outerStep(let contributions): return try stage.outerStep(contributions)
        case .checkContribution(let contribution): return try stage.checkContribution(contribution)
        case .averageChunk(let unit, let chunk, let parts, let codec):
            return try stage.averageChunk(unit, chunk, parts, codec)
        case .applyAggregates(let aggregates, let codec): return try stage.applyAggregates(aggregates, codec)
        case .rewind: return try stage.rewind()
        case .digests: return .digests(try stage.digests)
        }
    }

    /// A unit of a stage that is only evaluated.
    func load(_ state: UnitState) throws(TrainingError) {
        guard let stage else { throw .refused("no stage configured yet") }
        do throws(Refusal) { try stage.importWeights(state) } catch { throw .refused(error.reason) }
    }

    private func rehearse(_ configuration: StageConfiguration, _ flops: Double) throws(Refusal) {
        guard stage == nil else { throw Refusal("a rehearsal while a stage is at work") }
        guard flops > 0 else {
            rehearsal = nil
            return device.release()
        }
        if rehearsal?.configuration != configuration {
            rehearsal = nil
            rehearsal = try Rehearsal(configuration, on: device, threads: threads)
        }
        try rehearsal?.perform(flops: flops)
    }
}
