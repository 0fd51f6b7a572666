import Primitives

/// A cap on bytes a second: each spending moves the moment at which the next may happen.
struct RateLimiter: Sendable {
    private let rate: BitRate?
    /// Unused time that may be made up for.
    private static let burst: Duration = .milliseconds(50)
    private(set) var readyAt = Instant(nanoseconds: .min / 4)

    /// When ``isReady(at:)``: long ago where there is no cap.
    var readyFrom: Instant { rate == nil ? Instant(nanoseconds: .min / 4) : readyAt }

    init(_ rate: BitRate?) { self.rate = rate }
    func isReady(at now: Instant) -> Bool { rate == nil || readyAt <= now }
    mutating func spend(_ bytes: Int, at now: Instant) {
        if let rate { readyAt = max(readyAt, now - Self.burst) + rate.time(for: bytes) }
    }
}
