import Exchange
import Primitives
import Training
import Wire

/// An engine without arithmetic: every answer has the size and the kind of the real one, so that the job logic runs as it
/// would, while the simulator charges ``modelledFLOPs(of:configuration:)``.
///
/// A unit's "parameters" are zeros headed by the number of outer steps taken: holders agree exactly when they have taken the
/// same steps.
struct ModelledEngine: Engine {
    private var configuration: StageConfiguration?
    private var versions: [Int: Int] = [:]
    private var stepsSince = 0

    mutating func perform(_ job: ComputeJob) -> ComputeResult {
        if job.timed != nil { return .done }
        if case .configure(let fresh) = job {
            configuration = fresh
            versions = Dictionary(uniqueKeysWithValues: fresh.units.map { ($0, 0) })
            return .done
        }
        guard let configuration else { return .refused("no stage is configured") }
        switch job {
        case .configure, .recompute, .benchmark, .rehearse, .checkContribution, .returnContribution,
            .withdrawContribution,
            .rewind:
            return .done
        case .importState(let states):
            // Whoever has no moments counts steps anew; its weights are those of before.
            for state in states { versions[state.unit] = version(state.parameters) }
            return .done
        case .exportState(let units, let includeMoments, let includeResidue):
            // What goes to a member's own disk only has to be told apart.
            let moments = includeMoments && !includeResidue
            return .state(units.map { state(of: $0, includeMoments: moments, in: configuration) })
        case .forward, .head, .backward, .evaluate, .evaluateHead: return passed(job, through: configuration)
        case .finishGradient, .aggregateGradients: return squares(configuration)
        case .optimizerStep:
            if configuration.mode == .everyStep { advance() }
            return .done
        case .encodeContribution:
            return .contribution(
                configuration.units.map { unit in
                    let pieces = configuration.chunkLayout(unit: unit).pieces
                    return UnitContribution(
                        unit: unit, node: 0, bytes: blank(pieces[...], configuration.exchangeCodec))
                })
        case .averageChunk(let unit, let chunk, _, let codec):
            let layout = configuration.chunkLayout(unit: unit)
            return .chunk(blank(layout.pieces[layout.chunks[chunk]], codec))
        case .applyAggregates:
            guard configuration.mode == .rounds else { return squares(configuration) }
            advance()
            return .digests(digests)
        case .outerStep:
            advance()
            return .digests(digests)
        case .digests: return .digests(digests)
        }
    }

    /// What a micro-batch, or windows of the validation, become on their way through the stage.
    private func passed(_ job: ComputeJob, through stage: StageConfiguration) -> ComputeResult {
        func zeros(_ sequences: Int) -> [UInt8] {
            let count = stage.model.activationValues(sequences: sequences)
            return [UInt8](repeating: 0, count: stage.activationCodec.expectedBytes(for: count))
        }
        let microBatch = stage.geometry.microBatch
        func losses(_ windows: Range<Int>) -> ComputeResult {
            .evaluation(lossSum: 0, tokens: windows.count * stage.model.context)
        }
        if case .evaluate(let windows, _) = job {
            return stage.endsWithLoss ? losses(windows) : .activation(zeros(windows.count))
        }
        if case .evaluateHead(let windows, _) = job { return losses(windows) }
        if case .head = job { return .head(loss: 0, gradient: zeros(microBatch)) }
        if case .forward = job { return stage.endsWithLoss ? .loss(0) : .activation(zeros(microBatch)) }
        return .inputGradient(stage.isFirst ? [] : zeros(microBatch))
    }
    private func squares(_ stage: StageConfiguration) -> ComputeResult {
        .sumSquares(stage.units.flatMap { stage.model.tensors(unit: $0).map { _ in 1 } })
    }
    private func state(of unit: Int, includeMoments: Bool, in stage: StageConfiguration) -> UnitState {
        let blank = [UInt8](repeating: 0, count: stage.model.parameters(unit: unit) * 4)
        return UnitState(
            unit: unit, parameters: parameters(unit),
            outerMomentum: stage.mode == .rounds && stage.outer.momentum != 0 ? blank : [],
            firstMoment: includeMoments ? blank : [], secondMoment: includeMoments ? blank : [],
            optimizerSteps: versions[unit] ?? 0)
    }

    /// Pieces of the right sizes, lengths included.
    private func blank(_ pieces: ArraySlice<Range<Int>>, _ codec: Codec) -> [UInt8] {
        pieces.flatMap { piece in
            let isSparse = if case .sparse = codec { true } else { false }
            let count = isSparse ? codec.expectedBytes(for: piece.count) : codec.maximumBytes(for: piece.count)
            let length = withUnsafeBytes(of: UInt32(count).littleEndian) { Array($0) }
            return length + [UInt8](repeating: 0, count: count)
        }
    }

    private mutating func advance() { for unit in versions.keys { versions[unit]! += 1 } }

    private func parameters(_ unit: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: configuration!.model.parameters(unit: unit) * 4)
        let version = UInt64(versions[unit] ?? 0)
        for index in 0..<min(8, bytes.count) {
            bytes[index] = UInt8(truncatingIfNeeded: version >> (8 * UInt64(index)))
        }
        return bytes
    }
    private func version(_ parameters: StoredBytes) -> Int {
        let head = parameters.bytes(0..<min(8, parameters.count)) ?? []
        return Int(clamping: head.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
    }
    private var digests: [Int: UnitDigests] {
        let hasMomentum = configuration!.mode == .rounds && configuration!.outer.momentum != 0
        var out: [Int: UnitDigests] = [:]
        for unit in configuration!.units {
            let bytes = parameters(unit)
            out[unit] = UnitDigests(
                parameters: ContentIndex.id(of: bytes),
                outerMomentum: hasMomentum ? ContentIndex.id(of: [UInt8](repeating: 0, count: bytes.count)) : nil)
        }
        return out
    }
}
