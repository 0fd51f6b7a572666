import CUV
import Glibc

/// What a thread that computes passes before each job: shut, it waits; with a share below 1 it rests after each job for as long as that
/// share asks. Set on the loop, passed on one thread.
public final class WorkGate: @unchecked Sendable {
    private struct State {
        var isShut = false
        /// What is short passes although it is shut, and what is long is left out.
        var isYielding = false
        var share = 1.0
        /// Nanoseconds of `CLOCK_MONOTONIC`: it rests until then.
        var restsUntil: Int64 = 0
        var wantsIdle = false
        var isIdle = false
    }
    /// However long a job was, its rest is no longer.
    private static let longestRest = 10e9
    /// `SCHED_IDLE`, which the importer leaves out.
    private static let idlePolicy: Int32 = 5
    private let state = Locked(State())
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    public init() {
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(changed, &attributes)
        pthread_condattr_destroy(&attributes)
    }
    deinit {
        pthread_cond_destroy(changed)
        changed.deallocate()
    }

    /// - Parameters:
    ///   - share: above 0, at most 1: of the time.
    ///   - lowestPriority: the thread, and threads that it starts later, run when nothing else wants the processor (sched(7), `SCHED_IDLE`). There
    ///     is no way back without privileges, and none is tried.
    public func set(isShut: Bool, share: Double, lowestPriority: Bool) {
        precondition(share > 0 && share <= 1, "a share of \(share)")
        state.withLock { state in
            if share > state.share { state.restsUntil = 0 }
            (state.isShut, state.share) = (isShut, share)
            state.wantsIdle = state.wantsIdle || lowestPriority
        }
        pthread_cond_broadcast(changed)
    }
    /// Lets everything through: the process ends.
    public func open() { set(isShut: false, share: 1, lowestPriority: false) }

    /// From now on what is short passes although it is shut, and what is long, or waits here and is long, is left out.
    public func yields(_ isYielding: Bool) {
        state.withLock { $0.isYielding = isYielding }
        pthread_cond_broadcast(changed)
    }

    /// Does a job when it may; on the thread that computes.
    public func pass<Result>(_ job: () -> Result) -> Result {
        wait(evenYielding: true)
        return perform(job)
    }
    /// The same; nil where the gate yields and the job is long: it was left out.
    ///
    /// - Parameter isLong: it keeps the processor for longer than it takes to copy what is held.
    public func pass<Result>(isLong: Bool, _ job: () -> Result) -> Result? {
        wait(evenYielding: false)
        return isLong && state.withLock { $0.isYielding } ? nil : perform(job)
    }
    private func wait(evenYielding: Bool) {
        state.wait(on: changed) { state in
            if state.isYielding, !evenYielding { return nil }
            if state.isShut { return .some(nil) }
            return state.restsUntil > monotonicNanoseconds() ? .some(state.restsUntil) : nil
        }
    }
    private func perform<Result>(_ job: () -> Result) -> Result {
        let becomesIdle = state.withLock { state in
            defer { state.isIdle = state.wantsIdle }
            return state.wantsIdle && !state.isIdle
        }
        if becomesIdle {
            var parameters = sched_param()
            sched_setscheduler(0, Self.idlePolicy, &parameters)
        }
        let began = monotonicNanoseconds()
        let result = job()
        let now = monotonicNanoseconds()
        state.withLock { state in
            guard state.share < 1 else { return }
            let rest = min(Self.longestRest, Double(now - began) * (1 / state.share - 1))
            state.restsUntil = now + Int64(rest)
        }
        return result
    }
}

private func monotonicNanoseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}
