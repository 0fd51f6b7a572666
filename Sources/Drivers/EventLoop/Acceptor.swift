import Glibc
import Primitives

/// Accepts connections at a socket that listens, on the loop.
///
/// Some at a time, so that those who have come are heard before others take their places. Where the process may open no more files, it rests for a
/// second: who waits stays with the kernel, which would call again at once, and for ever.
public final class Acceptor {
    private let loop: Loop
    private let descriptor: Int32
    private let atOnce: Int
    private let accepted: (Int32) -> Void
    private var poller: Poller?
    private var rest: Timer?
    /// How often there was no descriptor to be had.
    public private(set) var rests = 0
    private static let pause = Duration.seconds(1)

    /// - Parameters:
    ///   - descriptor: its owner's; it listens, and does not block.
    ///   - atOnce: so many are accepted before the loop looks at what else there is.
    ///   - accepted: is handed descriptors that do not block, now its own to close.
    public init(_ loop: Loop, listening descriptor: Int32, atOnce: Int, accepted: @escaping (Int32) -> Void) {
        (self.loop, self.descriptor, self.atOnce, self.accepted) = (loop, descriptor, atOnce, accepted)
        rest = Timer(loop) { [unowned self] in poller?.resume() }
        poller = Poller(loop, readable: descriptor) { [unowned self] in accept() }
    }
    deinit { close() }
    public func close() {
        poller?.close()
        rest?.close()
        (poller, rest) = (nil, nil)
    }

    private func accept() {
        for _ in 0..<atOnce {
            let client = Glibc.accept(descriptor, nil, nil)
            if client >= 0 {
                guard fcntl(client, F_SETFD, FD_CLOEXEC) == 0, fcntl(client, F_SETFL, O_NONBLOCK) == 0 else {
                    Glibc.close(client)
                    continue
                }
                accepted(client)
                // Whoever is told may have closed this.
                guard poller != nil else { return }
                continue
            }
            switch errno {
            case EINTR, ECONNABORTED: continue
            case EAGAIN: return
            default:
                rests += 1
                poller?.pause()
                rest?.arm(at: loop.now + Self.pause)
                return
            }
        }
    }
}
