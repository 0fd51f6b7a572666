import EventLoop
package import Primitives
package import Telemetry

/// Whether a daemon has nearly all files open that it may have open: said once when it begins, and once when it is over.
package struct DescriptorWatch {
    private var since: Instant?
    private var seen: Instant?
    /// Connections come and go: it is over when it has not been so for this long.
    private static let calm = Duration.seconds(10)

    package init() {}

    /// - Returns: what there is to be said.
    package mutating func look(isScarce: Bool, limit: Int, at now: Instant) -> Happening? {
        guard isScarce else {
            guard let began = since, let seen, now - seen >= Self.calm else { return nil }
            since = nil
            return .descriptorsBack(seconds: (seen - began).inSeconds)
        }
        seen = now
        guard since == nil else { return nil }
        since = now
        return .descriptorsScarce(limit: limit)
    }
}
