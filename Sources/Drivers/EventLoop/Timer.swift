import CUV
import Glibc
public import Primitives

/// Calls back once at a moment of the loop's clock. A timer descriptor on `CLOCK_BOOTTIME`: to the microsecond, and it counts
/// suspend, which libuv's own timers do not. When the process is out of descriptors it is one of those after all.
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
    /// Needs no descriptor: milliseconds, and late by what the machine slept.
    private final class Coarse: Handle {
        let raw = UnsafeMutablePointer<uv_timer_t>.allocate(capacity: 1)
        var fire: (() -> Void)?
        deinit { raw.deallocate() }
        override func forget() { fire = nil }
    }
    private enum Source {
        case exact(Poll)
        case coarse(Coarse)
    }
    private let loop: Loop
    private var source: Source?
    private var armed: Instant?
    /// `TFD_TIMER_ABSTIME`, an enum that the importer leaves out.
    private static let absolute: Int32 = 1

    /// - Parameter fire: called on the loop; re-arm in it as you like.
    public convenience init(_ loop: Loop, fire: @escaping () -> Void) {
        self.init(loop, descriptor: timerfd_create(CLOCK_BOOTTIME, Int32(O_NONBLOCK | O_CLOEXEC)), fire: fire)
    }
    /// - Parameter descriptor: a timer descriptor, now owned here; negative when there is none to be had.
    package init(_ loop: Loop, descriptor: Int32, fire: @escaping () -> Void) {
        self.loop = loop
        let fire = { [unowned self] in
            armed = nil
            fire()
        }
        source = descriptor < 0 ? nil : Self.exact(loop, descriptor, fire).map { .exact($0) }
        if source == nil { source = .coarse(makeCoarse(fire)) }
    }
    deinit { close() }

    private static func exact(_ loop: Loop, _ descriptor: Int32, _ fire: @escaping () -> Void) -> Poll? {
        let poll = Poll(descriptor)
        guard uv_poll_init(loop.raw, poll.raw, descriptor) == 0 else { return nil }
        poll.raw.pointee.data = poll.retainForLibuv()
        poll.fire = fire
        uv_poll_start(poll.raw, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            guard let poll = Handle.from(handle!.pointee.data) as? Poll else { return }
            var count: UInt64 = 0
            if read(poll.descriptor, &count, 8) == 8 { poll.fire?() }
        }
        return poll
    }
    private func makeCoarse(_ fire: @escaping () -> Void) -> Coarse {
        let coarse = Coarse()
        uv_timer_init(loop.raw, coarse.raw)
        coarse.raw.pointee.data = coarse.retainForLibuv()
        coarse.fire = { [unowned self] in
            // libuv rounds to its own milliseconds.
            guard let moment = armed, loop.now < moment else { return fire() }
            armed = nil
            arm(at: moment)
        }
        return coarse
    }

    /// Replaces what was armed; nil disarms. A moment that has passed fires at once, from the loop.
    public func arm(at moment: Instant?) {
        if moment == armed { return }
        armed = moment
        switch source {
        case .exact(let poll)?:
            var setting = itimerspec()
            if let moment {
                // All zeros would disarm.
                let nanoseconds = max(1, moment.nanoseconds)
                setting.it_value.tv_sec = Int(nanoseconds / 1_000_000_000)
                setting.it_value.tv_nsec = Int(nanoseconds % 1_000_000_000)
            }
            timerfd_settime(poll.descriptor, Self.absolute, &setting, nil)
        case .coarse(let coarse)? where uv_is_closing(atoll_handle_timer(coarse.raw)) == 0:
            guard let moment else {
                uv_timer_stop(coarse.raw)
                return
            }
            uv_update_time(loop.raw)
            let wait = max(0, (moment - loop.now).wholeNanoseconds)
            let milliseconds = UInt64(wait / 1_000_000) + (wait % 1_000_000 == 0 ? 0 : 1)
            uv_timer_start(
                coarse.raw, { (Handle.from($0!.pointee.data) as? Coarse)?.fire?() }, milliseconds, 0)
        case .coarse?, nil: break
        }
    }
    public func close() {
        switch source {
        case .exact(let poll)?: Handle.close(atoll_handle_poll(poll.raw))
        case .coarse(let coarse)?: Handle.close(atoll_handle_timer(coarse.raw))
        case nil: break
        }
    }
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
