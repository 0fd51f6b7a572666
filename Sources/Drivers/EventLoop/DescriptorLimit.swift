import Glibc

/// How many files this process may have open, sockets included.
///
/// Descriptors are numbered from below, so the number of a new socket says how many are left. The last ones are a reserve:
/// connections, of which others decide how many there are, do not get them; timers, datagram sockets and files do.
public enum DescriptorLimit {
    /// What connections leave for everything else.
    static let reserve = 32
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
    /// Whether a connection's descriptor would take from the reserve. Small limits have a smaller one.
    static func isReserved(_ descriptor: Int32) -> Bool {
        let limit = current
        return Int(descriptor) >= limit - min(reserve, limit / 4)
    }
}
