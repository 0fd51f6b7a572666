public import Daemon
public import Primitives

/// For whoever looks at a world while it runs.
extension World {
    /// What whoever leads is and does, and when.
    public var leaderStatus: (status: DaemonStatus, at: Instant)? {
        guard hasLed, let daemon = (leader ?? hosts[coordinatorIndex]).daemon else { return nil }
        return (daemon.status(at: now), now)
    }
}
