import Primitives

/// How much a peer may send on a channel ahead of our grants: what comes in about a second, within bounds.
///
/// What is on its way can no longer be overtaken. Where several send over one slow line, whole windows of megabytes would stand before
/// a heartbeat for longer than silence lasts. So a window begins small and follows the rate at which its bytes arrive, like TCP's receive
/// buffer (Linux' DRS): bytes that left together come as the slowest line on their way lets them, so that the first few say how much it may be, and
/// where several share that line, or it has become slow, it shrinks. Pauses of the sender do not count.
package struct CreditWindow: Sendable {
    package private(set) var bytes: Int
    private let least: Int
    private let most: Int
    /// Since the window last changed: bytes that came, and for how long some were on their way.
    private var came = 0
    private var busy = Duration.zero
    private var last: Instant?

    /// What is sent in this time may be on its way.
    static let time = Duration.seconds(1)
    /// Where nothing came for so long, nothing was on its way.
    static let pause = Duration.milliseconds(300)

    /// - Parameters:
    ///   - first: bytes to begin with, and never fewer.
    ///   - most: bytes.
    package init(from first: Int, upTo most: Int) {
        self.most = most
        least = min(first, most)
        bytes = least
    }

    /// Bytes have come.
    package mutating func received(_ count: Int, at now: Instant) {
        defer { last = now }
        // The first piece after a pause says only when the others began.
        guard let last, now - last < Self.pause else { return }
        busy += now - last
        came += count
    }
    /// A good part of the window is used up.
    package mutating func adapt() {
        defer { (came, busy) = (0, .zero) }
        guard came > 0, busy > .zero else { return }
        let wanted = Double(came) / busy.inSeconds * Self.time.inSeconds
        bytes = min(most, max(least, bytes / 2, Int(min(wanted, 1e9))))
    }
}
