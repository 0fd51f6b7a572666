/// The time of day, for nothing but what expires: fixed when a process starts, so that a clock that is set meanwhile decides nothing.
public struct WallClock: Hashable, Sendable {
    /// Seconds since 1970 at ``Instant/zero``.
    public let secondsAtZero: Int64
    public init(secondsAtZero: Int64) { self.secondsAtZero = secondsAtZero }
    /// - Parameters:
    ///   - seconds: since 1970.
    public init(seconds: Int64, at now: Instant) {
        secondsAtZero = seconds - now.nanoseconds / 1_000_000_000
    }
    public func seconds(at now: Instant) -> Int64 { secondsAtZero + now.nanoseconds / 1_000_000_000 }
}
