import CUV
import Glibc
public import Primitives

/// Calls back once at a moment of the loop's clock. A timer descriptor on `CLOCK_BOOTTIME`: to the microsecond, and it counts
/// suspend, which libuv's own timers do not.
public final class Timer {
    private final class Poll: Handle {
        let raw = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let descriptor: Int32
        var fire: (() -> Void)?
        init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit {
            Glibc.close(descriptor)
            raw.deallocate()
        }
        override func forget() { fire = nil }
    }
    private let poll: Poll
    private var armed: Instant?
    /// `TFD_TIMER_ABSTIME`, an enum that the importer leaves out.
    private static let absolute: Int32 = 1

    /// - Parameter fire: called on the loop; re-arm in it as you like.
    public init(_ loop: Loop, fire: @escaping () -> Void) {
        let descriptor = timerfd_create(CLOCK_BOOTTIME, Int32(O_NONBLOCK | O_CLOEXEC))
        precondition(descriptor >= 0, "no timer descriptor: the limit of open files is reached")
        poll = Poll(descriptor)
        uv_poll_init(loop.raw, poll.raw, descriptor)
        poll.raw.pointee.data = poll.retainForLibuv()
        poll.fire = { [unowned self] in
            armed = nil
            fire()
        }
        uv_poll_start(poll.raw, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            guard let poll = Handle.from(handle!.pointee.data) as? Poll else { return }
            var count: UInt64 = 0
            if read(poll.descriptor, &count, 8) == 8 { poll.fire?() }
        }
    }
    deinit { close() }

    /// Replaces what was armed; nil disarms. A moment that has passed fires at once, from the loop.
    public func arm(at moment: Instant?) {
        if moment == armed { return }
        armed = moment
        var setting = itimerspec()
        if let moment {
            // All zeros would disarm.
            let nanoseconds = max(1, moment.nanoseconds)
            setting.it_value.tv_sec = Int(nanoseconds / 1_000_000_000)
            setting.it_value.tv_nsec = Int(nanoseconds % 1_000_000_000)
        }
        timerfd_settime(poll.descriptor, Self.absolute, &setting, nil)
    }
    public func close() { Handle.close(atoll_handle_poll(poll.raw)) }
}

/// Calls back for a signal, on the loop.
public final class SignalWatcher {
    private final class Signal: Handle {
        let raw = UnsafeMutablePointer<uv_signal_t>.allocate(capacity: 1)
        var fire: (() -> Void)?
        deinit { raw.deallocate() }
        override func forget() { fire = nil }
    }
    private let signal = Signal()

    public init(_ loop: Loop, signal number: Int32, fire: @escaping () -> Void) {
        uv_signal_init(loop.raw, signal.raw)
        signal.raw.pointee.data = signal.retainForLibuv()
        signal.fire = fire
        uv_signal_start(
            signal.raw, { handle, _ in (Handle.from(handle!.pointee.data) as? Signal)?.fire?() }, number)
    }
    deinit { close() }
    public func close() { Handle.close(atoll_handle_signal(signal.raw)) }
}
