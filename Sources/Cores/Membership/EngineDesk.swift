import Messages
import Primitives
import Training

/// Where work goes to the engine, and answers come back: it keeps what each job is for, matches answers in order, and says of each
/// how long the engine took and whether it still counts.
///
/// Jobs are done in the order given, so that what is submitted later sees what was submitted before. Running steps can be made void
/// (``void()``): their answers come, and count no more. While it is paused, jobs wait here.
package struct EngineDesk: Sendable {
    package enum Purpose: Hashable, Sendable {
        /// Of the measurement at start.
        case benchmark
        /// Of the measurement in a job, before it is planned.
        case rehearsal
        /// Nobody waits for the answer.
        case housekeeping
        /// A step of a round.
        case runner
        /// Units on their way in.
        case configured(recomputes: Bool), imported(recomputes: Bool)
        /// The seal of a round in which this stage did not take part, or which was sealed otherwise.
        case catchUp(round: Int)
        /// What is held once the round is applied.
        case digests(round: Int)
        case export(units: Range<Int>, round: Int)
        /// The start of a round, for this member's own disk.
        case keep(round: Int, epoch: Int, rank: Int, share: [Int])
        case exchange(RoundExchange.Purpose)

        /// Whether the answer counts although work has been made void since.
        fileprivate var outlivesVoid: Bool {
            switch self {
            case .runner, .configured, .imported, .catchUp, .digests: false
            case .benchmark, .rehearsal, .housekeeping, .export, .keep, .exchange: true
            }
        }
    }
    package struct Answer: Sendable {
        package var purpose: Purpose
        package var result: ComputeResult
        /// How long the engine worked on it.
        package var took: Duration
    }
    private struct Submitted: Sendable {
        var purpose: Purpose
        var generation: Int
        var since: Instant
        var mark: StepTrace.Mark?
    }
    private struct Waiting: Sendable {
        var job: ComputeJob
        var purpose: Purpose
        var generation: Int
    }

    private var pending = EffectQueue<Submitted>()
    private var waiting = EffectQueue<Waiting>()
    private var generation = 0
    /// Answers to come that belong to a job which is over.
    private var discarded = 0
    /// When the last answer came.
    private var free = Instant(nanoseconds: .min)
    package private(set) var isPaused = false
    private var effects = EffectQueue<ComputeJob>()
    /// When the pieces of a step were computed, for a leader who asks.
    package var stepWish = StepWish()

    package init() {}

    /// For the engine.
    package mutating func poll() -> ComputeJob? { effects.pop() }
    /// Answers that are still to come.
    package var isBusy: Bool { !pending.isEmpty }

    package mutating func submit(_ job: ComputeJob, _ purpose: Purpose, at now: Instant) {
        guard !isPaused else {
            return waiting.push(Waiting(job: job, purpose: purpose, generation: generation))
        }
        hand(job, purpose, generation, at: now)
    }
    private mutating func hand(_ job: ComputeJob, _ purpose: Purpose, _ generation: Int, at now: Instant) {
        pending.push(Submitted(purpose: purpose, generation: generation, since: now, mark: StepTrace.Mark(job)))
        effects.push(job)
    }

    /// - Returns: nil where the answer counts no more.
    package mutating func answered(_ result: ComputeResult, at now: Instant) -> Answer? {
        guard let submitted = pending.pop() else { return nil }
        let took = now - max(submitted.since, free)
        free = now
        if discarded > 0 {
            discarded -= 1
            guard submitted.purpose == .benchmark else { return nil }
        }
        guard submitted.generation == generation || submitted.purpose.outlivesVoid else { return nil }
        stepWish.note(submitted.mark, from: now - took, to: now)
        return Answer(purpose: submitted.purpose, result: result, took: took)
    }

    /// Steps under way count no more.
    package mutating func void() { generation += 1 }

    /// The log has gone back: exports under way of later rounds are of seals that are void, and nobody is to have them.
    package mutating func forgetExports(after round: Int) {
        func kept(_ purpose: Purpose) -> Purpose {
            switch purpose {
            case .export(_, let of) where of > round, .keep(let of, _, _, _) where of > round: .housekeeping
            default: purpose
            }
        }
        for _ in 0..<pending.count {
            var item = pending.pop()!
            item.purpose = kept(item.purpose)
            pending.push(item)
        }
        for _ in 0..<waiting.count {
            var item = waiting.pop()!
            item.purpose = kept(item.purpose)
            waiting.push(item)
        }
    }

    package mutating func pause() { isPaused = true }
    package mutating func resume(at now: Instant) {
        isPaused = false
        while let next = waiting.pop() { hand(next.job, next.purpose, next.generation, at: now) }
    }

    /// The job is over: nothing that was submitted for it counts, what waits is never done.
    package mutating func discard() {
        discarded = pending.count
        waiting = EffectQueue()
        isPaused = false
        generation += 1
    }
}
