import Glibc

/// How many files this process may have open, sockets included.
///
/// Descriptors are numbered from below, so the number of a new socket says how many are left. The last ones are a reserve:
/// connections, of which others decide how many there are, do not get them; timers, datagram sockets and files do.
public enum DescriptorLimit {
    /// Whose word it is that a descriptor is opened.
    public enum Side: Sendable {
        /// Other peers'. How many there are they decide, and they leave some to the owner.
        case others
        /// The owner's, or a program's of this machine: pages and figures.
        case owner
    }
    /// What connections leave for everything else.
    private static let reserve = 32
    /// What others' leave for the owner's.
    private static let ownersShare = 16
    /// With fewer no daemon runs: what it has open itself, the reserve, the owner's share, and some connections.
    public static let least = 128
    /// More than this is never asked for.
    private static let most: rlim_t = 65_536

    /// What the kernel allows now.
    public static var current: Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        return Int(clamping: min(limit.rlim_cur, rlim_t(Int32.max)))
    }
    /// Allows as many as this user may have, up to 65 536; call it once, at the start.
    ///
    /// - Returns: how many are allowed now.
    @discardableResult public static func raise() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return current }
        let wanted = min(limit.rlim_max, most)
        if limit.rlim_cur < wanted {
            limit.rlim_cur = wanted
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        return current
    }
    /// Whether the next one to be opened would take from the reserve.
    public static var isScarce: Bool {
        let next = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)
        guard next >= 0 else { return errno == EMFILE || errno == EINVAL }
        defer { Glibc.close(next) }
        return isReserved(next)
    }
    /// Whether a connection's descriptor would take from the reserve. Small limits have a smaller one.
    public static func isReserved(_ descriptor: Int32, from side: Side = .others) -> Bool {
        let limit = current
        let kept = min(reserve, limit / 4) + (side == .others ? min(ownersShare, limit / 8) : 0)
        return Int(descriptor) >= limit - kept
    }
}
