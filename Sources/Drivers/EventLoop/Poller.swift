import CUV
import Glibc

/// Calls back on the loop whenever somebody else's descriptor can be read. The descriptor stays its owner's.
public final class Poller {
    private final class Poll: Handle {
        let raw = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        var fire: (() -> Void)?
        deinit { raw.deallocate() }
        override func forget() { fire = nil }
    }
    private let poll = Poll()

    public init(_ loop: Loop, readable descriptor: Int32, fire: @escaping () -> Void) {
        let made = uv_poll_init(loop.raw, poll.raw, descriptor)
        precondition(made == 0, "descriptor \(descriptor) cannot be polled")
        poll.raw.pointee.data = poll.retainForLibuv()
        poll.fire = fire
        resume()
    }
    deinit { close() }
    /// What there is to be read is passed over until ``resume()``.
    func pause() { if uv_is_closing(atoll_handle_poll(poll.raw)) == 0 { uv_poll_stop(poll.raw) } }
    func resume() {
        guard uv_is_closing(atoll_handle_poll(poll.raw)) == 0 else { return }
        uv_poll_start(poll.raw, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            (Handle.from(handle!.pointee.data) as? Poll)?.fire?()
        }
    }
    public func close() { Handle.close(atoll_handle_poll(poll.raw)) }
}
