import Primitives

/// Floating-point operations a job is charged with where it is not timed: the simulator and the pacing of emulated
/// devices.
///
/// Forward as in ``ModelShape/forwardFLOPs(units:sequences:)``, backward twice that, or thrice where the stage recomputes, an optimizer step 20 a parameter,
/// encoding and the outer step 30 a parameter, decoding 4 a parameter for each contribution, checking one 1. Import, export, digests
/// cost nothing.
public func modelledFLOPs(of job: ComputeJob, configuration: StageConfiguration?) -> Double {
    if let flops = job.timed { return flops }
    guard let configuration else { return 0 }
    let parameters = Double(configuration.model.parameters(units: configuration.units))
    func forward(_ sequences: Int) -> Double {
        configuration.model.forwardFLOPs(units: configuration.units, sequences: sequences)
    }
    switch job {
    case .forward: return forward(configuration.geometry.microBatch)
    case .backward: return (configuration.recompute ? 3 : 2) * forward(configuration.geometry.microBatch)
    case .evaluate(let windows, _): return forward(windows.count)
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
