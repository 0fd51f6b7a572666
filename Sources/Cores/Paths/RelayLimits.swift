public import Primitives

/// What an owner lets a daemon carry for others.
public struct RelayLimits: Hashable, Sendable {
    /// Of all circuits together, each way of a circuit counted.
    public var rate: BitRate
    /// In a day.
    public var daily: ByteCount
    /// Circuits at a time, and of one peer.
    public var circuits: Int
    public var circuitsOfPeer: Int
    /// Who may be reached through this daemon, at a time.
    public var berths = 64
    public var berthLife: Duration = .seconds(3600)
    /// Circuits that a peer may open in a minute; beyond that they are refused.
    public var opensAMinute = 60

    /// - Parameter rate: zero: nothing is carried. A circuit gets 64 kbit/s at least: so many there may be, and sixteen in any case.
    public init(rate: BitRate, daily: ByteCount) {
        self.rate = rate
        self.daily = daily
        circuits = max(16, min(512, Int(min(1e9, rate.bitsPerSecond) / 64_000)))
        circuitsOfPeer = max(8, circuits / 4)
    }
    /// What everybody who can be reached does for the pool, if its owner has said nothing: sixteen times 64 kbit/s.
    public static let little = RelayLimits(rate: .megabits(1.024), daily: ByteCount(2_000_000_000))
    /// What a node does, which is there for others.
    public static let node = RelayLimits(rate: .megabits(4), daily: ByteCount(10_000_000_000))
    public static let nothing = RelayLimits(rate: BitRate(bitsPerSecond: 0), daily: ByteCount(0))
    public var isWilling: Bool { rate.bitsPerSecond > 0 && daily.bytes > 0 && berths > 0 }

    /// Bytes that may be under way in each direction of a circuit.
    public static let window = 262_144
}
