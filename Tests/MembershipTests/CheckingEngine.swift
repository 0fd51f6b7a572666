import Digests
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Training

/// Knows no arithmetic, but which job may follow which, and whose bytes belong to it; complains of everything else.
struct CheckingEngine {
    let stage: Int
    let stageCount: Int
    let keys: [MicroBatchKey]
    let inFlight: Int
    let mode: ExchangeMode
    let delay: Int
    /// Whether the first stage lends the head to the last (tied embeddings).
    let isRing: Bool
    /// Keys whose gradient has been delivered here: what a backward could begin with.
    var delivered: Set<MicroBatchKey> = []
    private(set) var forwards = 0
    private(set) var backwards = 0
    private(set) var windows = 0
    private(set) var heads = 0
    private(set) var headWindows = 0
    private(set) var finished: [Int] = []
    private(set) var updates: [Float] = []
    private(set) var encoded = 0
    private(set) var applied = 0
    private(set) var complaints: [String] = []

    init(
        stage: Int, stageCount: Int, keys: [MicroBatchKey], inFlight: Int, mode: ExchangeMode, delay: Int = 0,
        isRing: Bool = false
    ) {
        self.delay = delay
        self.isRing = isRing
        self.stage = stage
        self.stageCount = stageCount
        self.keys = keys
        self.inFlight = inFlight
        self.mode = mode
    }

    /// Ends with the loss.
    private var isLast: Bool { stage == stageCount - 1 && !isRing }
    private var lends: Bool { stage == 0 && isRing }
    static func bytes(_ word: String, from stage: Int, _ key: MicroBatchKey) -> [UInt8] {
        Array("\(word) of stage \(stage), \(key)".utf8)
    }
    static func window(_ number: Int, from stage: Int) -> [UInt8] { Array("window \(number) of stage \(stage)".utf8) }
    /// Sums that differ by stage and step, so that a mixed-up norm shows.
    static func sums(stage: Int, step: Int) -> [Float] { [Float(stage + 1), Float(step) + 0.5] }

    /// Inner steps whose gradients are complete before this one.
    private var innerStep: Int { mode == .rounds ? finished.count : 0 }
    private var perStep: Int { keys.count / max(1, Set(keys.map(\.step)).count) }

    private mutating func require(_ condition: Bool, _ complaint: String) {
        if !condition { complaints.append("stage \(stage): \(complaint)") }
    }

    mutating func perform(_ job: ComputeJob) -> ComputeResult {
        switch job {
        case .evaluate(let range, let input):
            require(forwards == 0, "validation after the first forward")
            require(range.count == 1, "windows \(range)")
            require(
                input == (stage == 0 ? [] : Self.window(range.lowerBound, from: stage - 1)),
                "window \(range) with another's bytes")
            windows += 1
            return isLast
                ? .evaluation(lossSum: Double(range.lowerBound), tokens: 8)
                : .activation(Self.window(range.lowerBound, from: stage))
        case .forward(let key, let input): return forward(key, input)
        case .backward(let key, let gradient):
            require(backwards < forwards && key == keys[backwards], "backward \(key) out of order")
            require(
                gradient
                    == (isLast
                        ? []
                        : stage == stageCount - 1
                            ? Self.bytes("head", from: 0, key) : Self.bytes("gradient", from: stage + 1, key)),
                "backward \(key) with another's bytes")
            require(!lends || backwards < heads, "backward \(key) without its head")
            backwards += 1
            return .inputGradient(stage == 0 ? [] : Self.bytes("gradient", from: stage, key))
        case .head, .evaluateHead: return lend(job)
        case .finishGradient(let microBatches):
            require(mode == .rounds && microBatches == perStep, "finishGradient of \(microBatches)")
            require(backwards == perStep * (finished.count + 1), "finishGradient after \(backwards) backwards")
            finished.append(keys[backwards - 1].step)
            return .sumSquares(Self.sums(stage: stage, step: keys[backwards - 1].step))
        case .aggregateGradients(let contributions):
            require(mode == .everyStep && encoded == 1, "aggregateGradients out of place")
            require(contributions.count == 2, "\(contributions.count) contributions")
            applied += 1
            return .sumSquares(Self.sums(stage: stage, step: keys[0].step))
        case .optimizerStep(let norm, let rate):
            let step = mode == .rounds ? finished.last ?? -1 : keys[0].step
            let sums = (0..<stageCount).flatMap { Self.sums(stage: $0, step: step) }
            require(norm == gradientNorm(sums), "norm \(norm) of step \(step) is not that of all stages in order")
            updates.append(rate)
            require(mode == .rounds ? updates.count == finished.count : applied == 1, "an optimizer step too many")
            return .done
        case .encodeContribution:
            let before = keys.count - delay * perStep
            require(backwards == before, "encoded after \(backwards) backwards, not \(before)")
            require(mode == .everyStep || updates.count == finished.count, "encoded before the last step is taken")
            encoded += 1
            return .contribution([UnitContribution(unit: stage, node: 0, bytes: [UInt8(stage)])])
        case .outerStep(let contributions):
            require(
                mode == .rounds && encoded == 1 && contributions.count == 2 && backwards == keys.count,
                "outer step out of place")
            applied += 1
            return .digests([stage: UnitDigests(parameters: sha256([UInt8(stage)]))])
        default:
            complaints.append("stage \(stage): \(job) is not a runner's business")
            return .done
        }
    }
    private mutating func lend(_ job: ComputeJob) -> ComputeResult {
        switch job {
        case .head(let key, let input):
            require(lends && heads < forwards && key == keys[heads], "head \(key) out of order")
            require(input == Self.bytes("activation", from: stageCount - 1, key), "head \(key) with another's bytes")
            heads += 1
            return .head(loss: Float(heads), gradient: Self.bytes("head", from: 0, key))
        case .evaluateHead(let range, let input):
            require(lends && forwards == 0 && range.count == 1, "the head of windows \(range)")
            require(
                input == Self.window(range.lowerBound, from: stageCount - 1), "window \(range) with another's bytes")
            headWindows += 1
            return .evaluation(lossSum: Double(range.lowerBound), tokens: 8)
        default: preconditionFailure("\(job)")
        }
    }
    private mutating func forward(_ key: MicroBatchKey, _ input: [UInt8]) -> ComputeResult {
        require(forwards < keys.count && key == keys[min(forwards, keys.count - 1)], "forward \(key) out of order")
        require(
            forwards / perStep == updates.count || mode == .everyStep, "forward before the step before is taken")
        require(
            input == (stage == 0 ? [] : Self.bytes("activation", from: stage - 1, key)),
            "forward \(key) with another's bytes")
        if stage == 0 { require(forwards - backwards < inFlight, "\(forwards - backwards + 1) in flight") }
        if backwards < forwards {
            require(
                !isLast && !delivered.contains(keys[backwards]), "forward \(key) before a backward that is ready")
        }
        forwards += 1
        return isLast ? .loss(Float(forwards)) : .activation(Self.bytes("activation", from: stage, key))
    }
}
