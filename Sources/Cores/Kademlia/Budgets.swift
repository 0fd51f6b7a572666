import Primitives

/// A token bucket: `rate` a second, never more than `burst` saved up.
struct Allowance: Sendable {
    private var level: Double
    private var at: Instant
    init(full burst: Double, at now: Instant) {
        level = burst
        at = now
    }
    mutating func take(_ amount: Double, rate: Double, burst: Double, at now: Instant) -> Bool {
        if now > at {
            level = min(burst, level + (now - at).inSeconds * rate)
            at = now
        }
        guard level >= amount else { return false }
        level -= amount
        return true
    }
}

/// What a stranger may cost: queries per prefix, bytes of full answers to sources that never proved their address, pings to
/// nodes that were merely mentioned. All maps are bounded; when one is full of strangers, newcomers share one bucket.
struct Budgets: Sendable {
    private let limits: OverlayConfiguration.Limits
    private var queries: [UInt64: Allowance] = [:]
    private var bytes: [UInt64: Allowance] = [:]
    private var allBytes: Allowance
    private var pings: Allowance
    private var recentPings: [PackedEndpoint: Instant] = [:]
    private var proven: [PackedEndpoint: Instant] = [:]
    static let mapLimit = 4096
    /// How long an answer proves its source.
    static let verification = Duration.seconds(600)

    init(_ limits: OverlayConfiguration.Limits, at now: Instant) {
        self.limits = limits
        allBytes = Allowance(full: limits.unverifiedBytes * 10, at: now)
        pings = Allowance(full: max(20, limits.curiosity * 10), at: now)
    }

    mutating func verified(_ address: PackedEndpoint, at now: Instant) {
        if proven.count >= Self.mapLimit { proven = proven.filter { now - $0.value < .seconds(60) } }
        if proven.count >= Self.mapLimit { proven.removeAll() }
        proven[address] = now
    }
    func isVerified(_ address: PackedEndpoint, at now: Instant) -> Bool {
        proven[address].map { now - $0 < Self.verification } ?? false
    }

    mutating func allowsQuery(from address: PackedEndpoint, at now: Instant) -> Bool {
        Self.take(
            1, &queries, address.prefix, rate: limits.queriesPerPrefix, burst: limits.queryBurst, at: now)
    }
    mutating func takeUnverified(_ count: Int, for address: PackedEndpoint, at now: Instant) -> Bool {
        let amount = Double(count)
        guard
            Self.take(
                amount, &bytes, address.prefix, rate: limits.unverifiedBytesPerPrefix,
                burst: limits.unverifiedBytesPerPrefix * 10, at: now)
        else { return false }
        return allBytes.take(amount, rate: limits.unverifiedBytes, burst: limits.unverifiedBytes * 10, at: now)
    }
    /// At most one ping to an address in ten seconds.
    mutating func allowsPing(to address: PackedEndpoint, at now: Instant) -> Bool {
        if let last = recentPings[address], now - last < .seconds(10) { return false }
        guard pings.take(1, rate: limits.curiosity, burst: max(20, limits.curiosity * 10), at: now) else { return false }
        if recentPings.count >= 1024 { recentPings = recentPings.filter { now - $0.value < .seconds(10) } }
        if recentPings.count < 1024 { recentPings[address] = now }
        return true
    }

    /// Key 0 is nobody's prefix: the bucket that newcomers share while the map is full.
    private static func take(
        _ amount: Double, _ map: inout [UInt64: Allowance], _ prefix: UInt64, rate: Double, burst: Double,
        at now: Instant
    ) -> Bool {
        var key = prefix
        if map[key] == nil, map.count >= mapLimit { key = 0 }
        return map[key, default: Allowance(full: burst, at: now)].take(amount, rate: rate, burst: burst, at: now)
    }

    /// Forgets everybody now and then, so that a crowd of one day does not shut out the next.
    mutating func housekeep(at now: Instant) {
        if queries.count >= Self.mapLimit { queries.removeAll() }
        if bytes.count >= Self.mapLimit { bytes.removeAll() }
        proven = proven.filter { now - $0.value < Self.verification }
        recentPings = recentPings.filter { now - $0.value < .seconds(10) }
    }
}
