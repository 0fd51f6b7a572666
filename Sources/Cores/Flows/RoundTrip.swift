internal import Primitives

/// How long the way there and back takes, smoothed (RFC 9002, §5), and how long to wait for an answer (§6.2).
package struct RoundTrip: Sendable {
    /// Before anything was measured (RFC 9002, §6.2.2).
    static let initial: Duration = .milliseconds(333)
    static let granularity: Duration = .milliseconds(1)
    package private(set) var latest: Duration?
    package private(set) var smoothed = initial
    package private(set) var variation: Duration = .milliseconds(166)
    private(set) var least: Duration?

    package init() {}

    /// - Parameters:
    ///   - sample: from sending a packet until its acknowledgement came.
    ///   - delay: what the other end says that it held the acknowledgement back; believed up to ``FlowLimits/ackDelay``.
    /// - Returns: the sample without that.
    @discardableResult
    package mutating func measured(_ sample: Duration, delay: Duration) -> Duration {
        let sample = max(sample, .microseconds(1))
        least = min(least ?? sample, sample)
        let held = min(max(delay, .zero), FlowLimits.ackDelay)
        let adjusted = sample - held >= least! ? sample - held : sample
        guard latest != nil else {
            (latest, smoothed, variation) = (adjusted, adjusted, adjusted / 2)
            return adjusted
        }
        let difference = smoothed > adjusted ? smoothed - adjusted : adjusted - smoothed
        variation = (variation * 3 + difference) / 4
        smoothed = (smoothed * 7 + adjusted) / 8
        latest = adjusted
        return adjusted
    }
    /// A probe is sent when nothing was acknowledged for so long (RFC 9002, §6.2.1).
    package var probeTimeout: Duration { smoothed + max(variation * 4, Self.granularity) + FlowLimits.ackDelay }
    /// A packet is lost when one sent so much later has arrived (RFC 9002, §6.1.2).
    var lossDelay: Duration { max(max(smoothed, latest ?? smoothed) * 9 / 8, Self.granularity) }
    /// Losses that span so long mean that nothing gets through (RFC 9002, §7.6.1).
    var persistence: Duration { probeTimeout * 3 }
}
