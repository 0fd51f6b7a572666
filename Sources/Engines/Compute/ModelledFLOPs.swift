import Primitives

/// Floating-point operations a job is charged with where it is not timed: the simulator and the pacing of emulated
/// devices.
///
/// Forward as in ``ModelShape/forwardFLOPs(units:sequences:)``, backward twice that, or thrice where the stage recomputes, a head that
/// is lent four times its forward (with the gradient of its input, and of its table from logits made again), an optimizer step 20 a parameter,
/// encoding and the outer step 30 a parameter, decoding 4 a parameter for each contribution, checking one 1. Import, export, digests
/// cost nothing.
public func modelledFLOPs(of job: ComputeJob, configuration: StageConfiguration?) -> Double {
    if let flops = job.timed { return flops }
    guard let configuration else { return 0 }
    let parameters = Double(configuration.model.parameters(units: configuration.units))
    func forward(_ sequences: Int) -> Double {
        configuration.model.forwardFLOPs(stage: configuration.units, sequences: sequences)
    }
    func head(_ sequences: Int) -> Double { configuration.model.headFLOPs(sequences: sequences) }
    switch job {
    case .forward: return forward(configuration.geometry.microBatch)
    case .backward:
        let own = (configuration.recompute ? 3 : 2) * forward(configuration.geometry.microBatch)
        return own + (configuration.lendsTable ? 2 * head(configuration.geometry.microBatch) : 0)
    case .head: return 2 * head(configuration.geometry.microBatch)
    case .evaluate(let windows, _): return forward(windows.count)
    case .evaluateHead(let windows, _): return head(windows.count)
    case .optimizerStep: return 20 * parameters
    case .encodeContribution: return 30 * parameters
    case .outerStep(let contributions): return (30 + 4 * Double(contributions.count)) * parameters
    case .aggregateGradients(let contributions): return 4 * Double(contributions.count) * parameters
    case .averageChunk(let unit, let chunk, let parts, _):
        return 4 * Double(parts.count * configuration.chunkLayout(unit: unit).values(chunk).count)
    case .checkContribution: return parameters
    case .applyAggregates: return (configuration.mode == .rounds ? 30 : 4) * parameters
    case .configure, .recompute, .importState, .exportState, .finishGradient, .returnContribution,
        .withdrawContribution, .rewind,
        .digests, .benchmark, .rehearse:
        return 0
    }
}

extension ComputeJob {
    /// Its time grows with the tokens: all others copy or fold what is held, once.
    package var isOfTokens: Bool {
        switch self {
        case .forward, .backward, .head, .evaluate, .evaluateHead: true
        default: false
        }
    }
    /// The operations of a job that is only there to be timed: where time is reckoned nothing needs to be computed for it. Nil for others.
    public var timed: Double? {
        switch self {
        case .benchmark(let flops), .rehearse(_, let flops): flops
        default: nil
        }
    }
    /// How a stage is configured once this job is done.
    public func configuration(before: StageConfiguration?) -> StageConfiguration? {
        if case .configure(let fresh) = self { return fresh }
        guard case .recompute(let recomputes) = self, var changed = before else { return before }
        changed.recompute = recomputes
        return changed
    }
}
