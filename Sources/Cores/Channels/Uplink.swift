import Primitives

/// The line that a host's connections share, kept free for activations while some are on their way.
///
/// Priorities within a connection do not help an activation whose neighbour is another connection with an exchange: on a slow line
/// the two take turns. So for as long as an activation needs on the line, alone, nothing below it leaves on any connection, and
/// neither does the next activation to somebody else: the first is there sooner, the second no later. This is reckoned, not
/// observed: where something else than this line is the limit, the others wait no longer than that.
struct Uplink: Sendable {
    var rate: BitRate?
    /// Until then only activations and what is above them.
    private(set) var reservedUntil = Instant(nanoseconds: .min / 4)
    private var began = Instant(nanoseconds: .min / 4)
    /// At most so long in a row, then a break of a twentieth: others have their floor.
    private static let longest = Duration.milliseconds(500)
    private static let pause = Duration.milliseconds(25)

    /// - Returns: when the line is free of activations that came before.
    mutating func reserve(_ bytes: Int, at now: Instant) -> Instant {
        guard let rate, rate.bitsPerSecond > 0 else { return now }
        if reservedUntil + Self.pause <= now || began + Self.longest + Self.pause <= now { began = now }
        guard now < began + Self.longest else { return now }
        let start = max(reservedUntil, now)
        reservedUntil = min(start + rate.time(for: bytes), began + Self.longest)
        return start
    }
    func lowest(at now: Instant) -> Channel { now < reservedUntil ? .activations : .bulk }
}
