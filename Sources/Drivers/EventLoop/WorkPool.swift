import CUV
import Glibc

/// Threads for work that takes longer than a loop may: arithmetic, disk. Results come back on the loop.
public final class WorkPool: @unchecked Sendable {
    /// Jobs that run one at a time, in order: one for each engine or file.
    public final class Queue: @unchecked Sendable {
        fileprivate let pool: WorkPool
        /// Under the pool's lock.
        fileprivate var jobs: [@Sendable () -> Void] = []
        fileprivate var isScheduled = false
        fileprivate init(_ pool: WorkPool) { self.pool = pool }

        /// Runs `job` on a thread of the pool, after those submitted before, then `then` on the loop.
        ///
        /// Call it on the loop. `then` is not called once the pool is closed.
        public func submit<Result: Sendable>(
            _ job: @escaping @Sendable () -> Result, then: @escaping (Result) -> Void
        ) {
            let completion = Completion(then)
            let loop = pool.loop
            pool.add(self) {
                let result = job()
                loop.post { completion.finish(result) }
            }
        }
    }
    /// Made on the loop, called on the loop; only carried through the pool's threads.
    private final class Completion<Result>: @unchecked Sendable {
        private var then: ((Result) -> Void)?
        init(_ then: @escaping (Result) -> Void) { self.then = then }
        func finish(_ result: Result) {
            then?(result)
            then = nil
        }
    }
    private struct State {
        var runnable: [Queue] = []
        var isClosed = false
    }
    fileprivate let loop: Loop
    private let state = Locked(State())
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var threads: [pthread_t] = []
    private let niceness: Int32

    /// - Parameters:
    ///   - threads: how many jobs run at once.
    ///   - niceness: 0...19; higher gives way to other programs of this machine.
    public init(_ loop: Loop, threads count: Int, niceness: Int32 = 0) {
        precondition(count > 0, "a pool needs a thread")
        self.loop = loop
        self.niceness = niceness
        pthread_cond_init(changed, nil)
        for _ in 0..<count {
            var attributes = pthread_attr_t()
            pthread_attr_init(&attributes)
            pthread_attr_setstacksize(&attributes, 8 << 20)
            var thread: pthread_t = 0
            let made = pthread_create(
                &thread, &attributes,
                { pool in
                    Unmanaged<WorkPool>.fromOpaque(pool!).takeRetainedValue().work()
                    return nil
                }, Unmanaged.passRetained(self).toOpaque())
            precondition(made == 0, "no thread for the work pool: the system's limit is reached")
            pthread_attr_destroy(&attributes)
            threads.append(thread)
        }
    }
    deinit {
        pthread_cond_destroy(changed)
        changed.deallocate()
    }

    public func makeQueue() -> Queue { Queue(self) }

    /// Ends the threads after the jobs under way; waits for them. What is queued is dropped. Threads keep the pool alive
    /// until then.
    public func close() {
        let wasClosed = state.withLock { state in
            defer { state.isClosed = true }
            return state.isClosed
        }
        if wasClosed { return }
        pthread_cond_broadcast(changed)
        for thread in threads { pthread_join(thread, nil) }
    }

    fileprivate func add(_ queue: Queue, _ job: @escaping @Sendable () -> Void) {
        state.withLock { state in
            queue.jobs.append(job)
            if !queue.isScheduled {
                queue.isScheduled = true
                state.runnable.append(queue)
            }
        }
        pthread_cond_signal(changed)
    }

    private func work() {
        // On Linux a thread has a niceness of its own.
        if niceness > 0 { setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, niceness) }
        while let (queue, job) = next() {
            job()
            state.withLock { state in
                if queue.jobs.isEmpty { queue.isScheduled = false } else { state.runnable.append(queue) }
            }
            pthread_cond_signal(changed)
        }
    }
    private func next() -> (Queue, @Sendable () -> Void)? {
        state.wait(on: changed) { state -> (Queue, @Sendable () -> Void)?? in
            if state.isClosed { return .some(nil) }
            guard !state.runnable.isEmpty else { return nil }
            let queue = state.runnable.removeFirst()
            return (queue, queue.jobs.removeFirst())
        }
    }
}
