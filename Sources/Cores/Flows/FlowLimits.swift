internal import Primitives

/// What bounds a flow: sizes, counts and times. None of them is negotiated.
public enum FlowLimits {
    /// The first byte of every datagram of a flow is 0xA0…0xAF; the overlay's begin with `d`.
    public static let firstBytes: ClosedRange<UInt8> = 0xA0...0xAF
    /// What every path must carry (RFC 9000, §14): packets begin with this size, and a hello has it.
    public static let leastDatagram = 1_200
    /// Sizes that are tried above it, ascending: 1452 is what IPv6 and UDP leave of 1500 bytes.
    public static let datagramSizes = [1_400, 1_452]
    /// Bytes of a tag, which every sealed datagram ends with.
    public static let tag = 16

    /// Flows of one host, and of those the ones that others opened; of one source address.
    public static let flows = 512
    public static let inbound = 256
    public static let inboundOfSource = 32
    /// Packets in flight or being waited for, a flow.
    public static let packets = 16_384
    /// Ranges of packet numbers that a receiver remembers, and the most that an acknowledgement names.
    public static let ranges = 64
    /// Pieces of the stream that wait for an earlier one.
    public static let pieces = 512
    /// What a receiver grants ahead, at first and at most; all flows of a host together get no more than `windows` above the first.
    public static let firstWindow = 262_144
    public static let mostWindow = 16 << 20
    public static let windows = 64 << 20

    /// How long a cookie is good, by the clock of who made it.
    public static let cookieSeconds: Int64 = 10
    /// No answer to the opening within this: it has failed.
    static let openingTimeout: Duration = .seconds(5)
    /// Nothing was acknowledged for so long although something is in flight: the flow is over.
    static let silence: Duration = .seconds(10)
    /// A flow that is over still answers for so long, and three timeouts: perhaps its last acknowledgement was lost.
    static let linger: Duration = .seconds(5)
    /// Something is sent after so long without, so that routers keep their mappings (RFC 4787: 120 s; the least seen in gateways is 30 s).
    static let keepAlive: Duration = .seconds(15)
    /// Nothing at all came for so long: the flow is over.
    static let idle: Duration = .seconds(60)
    /// The longest that an acknowledgement is held back.
    static let ackDelay: Duration = .milliseconds(10)
    /// Packets that one acknowledgement is for, once a flow is under way.
    public static let ackEvery = 8
    /// Offsets and packet numbers stay below (RFC 9000, §16).
    static let mostNumber: UInt64 = 1 << 62 - 1
}

/// Why a flow ended.
public enum FlowEnd: UInt8, Hashable, Sendable {
    /// Both ends have said that they are done, or one has closed.
    case closed = 0
    /// Nobody answered the opening, or nothing was acknowledged any more.
    case timedOut = 1
    /// The other end does not know the flow: it was started again.
    case forgotten = 2
    /// The other end broke the rules.
    case violated = 3
    /// There are too many.
    case crowded = 4
}

/// What was dropped or refused since the start.
public struct FlowCounters: Hashable, Sendable {
    /// Not of any known form.
    public internal(set) var malformed = 0
    /// The seal is not one of this pool, or the bytes were changed.
    public internal(set) var unsealed = 0
    /// For flows that nobody has.
    public internal(set) var unknown = 0
    /// Cookies that were not made here for that address a moment ago.
    public internal(set) var cookies = 0
    /// Came twice.
    public internal(set) var duplicates = 0
    /// Flows ended because the other end broke the rules.
    public internal(set) var violations = 0
    /// Openings refused for want of room.
    public internal(set) var crowded = 0
    /// Packets lost, as their sender sees it, and paths that no longer carry large packets.
    public internal(set) var lost = 0
    public internal(set) var blackHoles = 0
    /// Datagrams of no meaning that were sent to make a router remember.
    public internal(set) var openers = 0
    /// Flows whose other end has another address now.
    public internal(set) var moves = 0
    public init() {}
}
