import Digests
import Primitives

/// 16 bytes by which one side of a session is told from all others of its peer: the process, and which of its sessions with
/// this other side. All zeros is none.
struct SessionID: Hashable, Sendable {
    let bytes: [UInt8]
    static let none = SessionID([UInt8](repeating: 0, count: 16)[...])

    init(_ bytes: ArraySlice<UInt8>) {
        precondition(bytes.count == 16, "a session ID of \(bytes.count) bytes")
        self.bytes = Array(bytes)
    }
    /// - Parameters:
    ///   - process: 12 bytes that no other process of this peer has.
    ///   - number: of the sessions that this process had with the other side before.
    init(process: [UInt8], number: UInt32) {
        self.init((process + (0..<4).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) })[...])
    }
    /// The TLS exporter is new with every connection, so what is made from the first one was never used before.
    static func process(exporter: [UInt8], isTLSClient: Bool) -> [UInt8] {
        Array(sha256(Array("atoll/process \(isTLSClient)".utf8) + exporter).bytes.prefix(12))
    }
    var isNone: Bool { self == .none }
    /// What all sessions of one process have in common.
    var process: [UInt8] { Array(bytes.prefix(12)) }
    /// Whether one side's memory of the other fits what the other says.
    func fits(_ actual: SessionID) -> Bool { isNone || self == actual }
}

/// Where one side stands, as it says in its hello.
struct SessionStanding: Hashable, Sendable {
    /// Streams are shorter than this, so that sums of offsets cannot overflow.
    static let streamMax: UInt64 = 1 << 62
    /// The sender's own session, and whose it remembers of the other side.
    var mine: SessionID
    var yours: SessionID
    /// How many connections this session has had.
    var generation: UInt32
    /// By channel: bytes of the other's stream that have come, and up to where more may come.
    var received = PerChannel<UInt64>(repeating: 0)
    var limits = PerChannel<UInt64>(repeating: 0)

    init(mine: SessionID, yours: SessionID, generation: UInt32) {
        (self.mine, self.yours, self.generation) = (mine, yours, generation)
    }
}

/// What two peers have between them, whatever connection carries it: the messages that were not confirmed, and those that have
/// come in part.
///
/// It begins when both hellos are read and ends with a goodbye, a broken rule, a restart of either side, or when no connection
/// could be made for ``SessionLimits/timeout``. A connection that ends between loses and repeats nothing: the next one
/// goes on where the receiver says it is.
struct Session: Sendable {
    var outbox = Outbox()
    var inbox: Inbox
    /// This side's name; nil before the first connection.
    var local: SessionID?
    var remote: SessionID?
    var generation: UInt32 = 0
    /// Whether others were told that it began.
    var isTold = false
    struct Away: Hashable, Sendable {
        let since: Instant
        /// The session ends then.
        var until: Instant
        /// Where the peer was.
        let endpoint: Endpoint
        let reason: LossReason
        /// False while another connection of the peer is at its hello, which may make the interruption none.
        var isTold: Bool
    }
    /// While there is no connection.
    var away: Away?
    /// Each message moves this on by what one takes at the rate that is allowed. While it lies ahead nothing is granted.
    var messagesPaidUntil = Instant(nanoseconds: .min / 4)

    init(_ limits: ChannelLimits) { inbox = Inbox(limits) }

    /// Nothing that either side knows would contradict a beginning from zero.
    var isVirgin: Bool { !outbox.isConfirmed && inbox.isVirgin }

    func standing(proposing id: SessionID) -> SessionStanding {
        var standing = SessionStanding(mine: local ?? id, yours: remote ?? .none, generation: generation)
        for channel in Channel.allCases {
            standing.received[channel] = inbox.received(channel)
            standing.limits[channel] = inbox.limit(channel)
        }
        return standing
    }
}
