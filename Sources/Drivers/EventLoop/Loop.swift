import CUV
import Glibc
public import Primitives

/// One libuv loop on one thread. Everything made on it (sockets, timers, callbacks) is confined to that thread; only
/// ``post(_:)`` and ``stop()`` may be called from others.
public final class Loop: @unchecked Sendable {
    let raw = UnsafeMutablePointer<uv_loop_t>.allocate(capacity: 1)
    /// An eventfd that threads write to. `uv_async_send` is not for threads of the lowest priority: the loop that it wakes spins until the call
    /// has returned, and takes the processor from the very thread that has to return.
    private let bell = atoll_event_descriptor()
    private let waker = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
    private let idler = UnsafeMutablePointer<uv_idle_t>.allocate(capacity: 1)
    /// Nil once closed: nobody may wake what is no more.
    private let posted = Locked<[@Sendable () -> Void]?>([])
    /// Of the loop's thread only.
    private var later: [() -> Void] = []
    private var isClosed = false
    /// Where all connections read, one after the other: what a callback is handed is valid only while it runs.
    let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 262_144, alignment: 64)

    public init() {
        precondition(uv_loop_init(raw) == 0, "libuv cannot make a loop: out of descriptors or memory")
        let me = Unmanaged.passUnretained(self).toOpaque()
        precondition(bell >= 0 && uv_poll_init(raw, waker, bell) == 0, "no descriptor to wake a loop with")
        waker.pointee.data = me
        uv_poll_start(waker, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            Loop.from(handle!.pointee.data).runPosted()
        }
        uv_idle_init(raw, idler)
        idler.pointee.data = me
    }
    deinit {
        close()
        // Not before: whoever posts holds the loop.
        Glibc.close(bell)
        waker.deallocate()
        idler.deallocate()
        readBuffer.deallocate()
        raw.deallocate()
    }
    private static func from(_ data: UnsafeMutableRawPointer?) -> Loop {
        Unmanaged<Loop>.fromOpaque(data!).takeUnretainedValue()
    }

    /// `CLOCK_BOOTTIME`: counts while the machine sleeps.
    public var now: Instant {
        var time = timespec()
        clock_gettime(CLOCK_BOOTTIME, &time)
        return Instant(nanoseconds: Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec))
    }

    /// Runs callbacks until ``stop()``.
    public func run() { uv_run(raw, UV_RUN_DEFAULT) }
    /// Ends ``run()`` after the callback under way; from any thread.
    public func stop() { post { uv_stop(self.raw) } }

    /// Runs `work` on the loop's thread soon; from any thread, in the order of posting. What comes after ``close()`` is dropped.
    public func post(_ work: @escaping @Sendable () -> Void) {
        let isFirst = posted.withLock { queue in
            queue?.append(work)
            return queue?.count == 1
        }
        // Not under the lock: this thread may lose the processor to the loop as soon as it is woken.
        var one: UInt64 = 1
        if isFirst { write(bell, &one, 8) }
    }
    private func runPosted() {
        var rung: UInt64 = 0
        read(bell, &rung, 8)
        let work = posted.withLock { queue in
            defer { if queue != nil { queue = [] } }
            return queue ?? []
        }
        for item in work { item() }
    }

    /// Runs `work` after the callback under way, before the loop sleeps; from the loop's thread. It breaks recursions.
    public func soon(_ work: @escaping () -> Void) {
        if later.isEmpty { uv_idle_start(idler) { Loop.from($0!.pointee.data).runLater() } }
        later.append(work)
    }
    private func runLater() {
        var work: [() -> Void] = []
        swap(&work, &later)
        for item in work { item() }
        if later.isEmpty { uv_idle_stop(idler) }
    }

    /// Closes whatever is still open on the loop. Call it when ``run()`` has returned; deinit does otherwise.
    public func close() {
        if isClosed { return }
        isClosed = true
        posted.withLock { $0 = nil }
        later = []
        uv_close(atoll_handle_poll(waker), nil)
        uv_walk(
            raw,
            { handle, _ in
                if uv_is_closing(handle) == 0 { Handle.close(handle!) }
            }, nil)
        uv_run(raw, UV_RUN_DEFAULT)
        uv_loop_close(raw)
    }
}

/// What keeps a handle's memory and owner until libuv lets go of it.
///
/// `data` holds one reference to the owner, given up in the close callback. The loop's own handles have none.
class Handle {
    /// The reference that libuv holds.
    func retainForLibuv() -> UnsafeMutableRawPointer { Unmanaged.passRetained(self).toOpaque() }
    static func from(_ data: UnsafeMutableRawPointer?) -> Handle {
        Unmanaged<Handle>.fromOpaque(data!).takeUnretainedValue()
    }
    /// Drops callbacks, which may hold the owner.
    func forget() {}
    static func close(_ handle: UnsafeMutablePointer<uv_handle_t>) {
        if uv_is_closing(handle) != 0 { return }
        switch handle.pointee.type {
        case UV_IDLE: uv_close(handle, nil)
        default:
            from(handle.pointee.data).forget()
            uv_close(handle) { Unmanaged<Handle>.fromOpaque($0!.pointee.data!).release() }
        }
    }
}

/// A value behind a pthread mutex, which thread sanitizers understand.
final class Locked<Value>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var value: Value
    init(_ value: Value) {
        self.value = value
        pthread_mutex_init(mutex, nil)
    }
    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }
    func withLock<R>(_ body: (inout Value) -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&value)
    }
    /// Waits on `condition` until `ready` says nil; a moment of `CLOCK_MONOTONIC` that it says is waited for at most.
    func wait(on condition: UnsafeMutablePointer<pthread_cond_t>, while ready: (inout Value) -> Int64??) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while let moment = ready(&value) {
            guard let moment else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            var time = timespec(tv_sec: Int(moment / 1_000_000_000), tv_nsec: Int(moment % 1_000_000_000))
            pthread_cond_timedwait(condition, mutex, &time)
        }
    }
    /// Waits on `condition` until `ready`, then changes the value.
    func wait<R>(on condition: UnsafeMutablePointer<pthread_cond_t>, until ready: (inout Value) -> R?) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = ready(&value) { return result }
            pthread_cond_wait(condition, mutex)
        }
    }
}
