import Primitives

/// How much the driver should hold below one connection: what it passes on in ``ChannelLimits/holdTime``, within bounds.
///
/// What the driver holds can no longer be overtaken. A fast line needs the full ``ChannelLimits/unsentBytes`` to stay busy; on a
/// slow one the same bytes are seconds, in which a control message would wait. In the spirit of Linux' byte queue limits: the
/// limit follows the measured rate, and doubles whenever the driver ran dry, because then the rate is not known.
struct HoldLimit: Sendable {
    private(set) var bytes: Int
    /// Bytes a second, smoothed (1/4); nil before the first measurement.
    private var rate: Double?
    private var reportedAt: Instant?

    /// A quarter to begin with: a fast line asks for more at once.
    init(_ limits: ChannelLimits) { bytes = max(Self.least, limits.unsentBytes / 4) }

    /// The driver held `before` bytes since the last report and now holds `after`.
    mutating func report(from before: Int, to after: Int, at now: Instant, _ limits: ChannelLimits) {
        defer { reportedAt = after > 0 ? now : nil }
        guard after > 0 else {
            bytes = min(limits.unsentBytes, bytes * 2)
            return
        }
        guard let reportedAt, now > reportedAt, after <= before else { return }
        let measured = Double(before - after) / (now - reportedAt).inSeconds
        let smoothed = rate.map { $0 + (measured - $0) / 4 } ?? measured
        rate = smoothed
        let wanted = smoothed * limits.holdTime.inSeconds
        bytes = min(limits.unsentBytes, max(Self.least, Int(min(wanted, 1e9))))
    }
    private static let least = 4_096

    /// Frames shrink with the limit: no less than half of it, so that the line stays busy between two of them.
    func frameBytes(_ limits: ChannelLimits) -> Int { min(limits.frameBytes, max(Self.least, bytes) / 2) }
}
