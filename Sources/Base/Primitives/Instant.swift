/// A point on a clock that counts suspend (`CLOCK_BOOTTIME` live, virtual time in the simulator).
/// Only differences mean anything; wall time never enters a core.
@frozen public struct Instant: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var nanoseconds: Int64

    @inlinable public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    public init(seconds: Double) { nanoseconds = Int64(seconds * 1e9) }
    public static let zero = Instant(nanoseconds: 0)

    @inlinable public var seconds: Double { Double(nanoseconds) * 1e-9 }
    public var description: String { "\(nanoseconds)ns" }

    @inlinable public static func < (a: Instant, b: Instant) -> Bool { a.nanoseconds < b.nanoseconds }
    @inlinable public static func + (a: Instant, b: Duration) -> Instant {
        Instant(nanoseconds: a.nanoseconds &+ b.wholeNanoseconds)
    }
    @inlinable public static func - (a: Instant, b: Duration) -> Instant {
        Instant(nanoseconds: a.nanoseconds &- b.wholeNanoseconds)
    }
    @inlinable public static func - (a: Instant, b: Instant) -> Duration {
        .nanoseconds(a.nanoseconds &- b.nanoseconds)
    }
    @inlinable public static func += (a: inout Instant, b: Duration) { a = a + b }
}

extension Duration {
    /// The duration in nanoseconds; durations in Atoll stay far below the 292 years that fit.
    @inlinable public var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
    }
    public var inSeconds: Double { Double(wholeNanoseconds) * 1e-9 }
    public var inMilliseconds: Double { Double(wholeNanoseconds) * 1e-6 }
}

/// The earlier of two optional moments; nil means never.
@inlinable public func earliest(_ a: Instant?, _ b: Instant?) -> Instant? {
    guard let a else { return b }
    guard let b else { return a }
    return min(a, b)
}
