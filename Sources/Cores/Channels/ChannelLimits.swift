public import Paths
public import Primitives

/// Bounds and times of ``Channels``. All byte counts are of message bytes unless they say otherwise.
public struct ChannelLimits: Hashable, Sendable {
    /// The longest message; checked before memory is taken.
    public var messageBytes = PerChannel(control: 1 << 20, activations: 64 << 20, exchange: 64 << 20, bulk: 64 << 20)
    /// What a peer may send ahead of our grants where its line passes as much in a second.
    public var windowBytes = PerChannel(control: 1 << 20, activations: 4 << 20, exchange: 4 << 20, bulk: 4 << 20)
    /// What may wait for one peer on one channel or be unconfirmed, with 132 bytes for each message. A message longer than
    /// this still enters an empty queue.
    public var queueBytes = PerChannel(control: 16 << 20, activations: 256 << 20, exchange: 512 << 20, bulk: 128 << 20)
    /// Frames are cut to this size with their header, at most 64 KiB. Smaller frames let control overtake sooner.
    public var frameBytes = 16_384
    /// What the driver may hold unsent below one connection, at most: less where a line takes longer than `holdTime` for it.
    public var unsentBytes = 131_072
    public var holdTime: Duration = .milliseconds(50)
    public var inbound = InboundLimits()
    /// Caps over all peers; nil for none. Control messages are not held back by `download`.
    public var upload: BitRate?
    public var download: BitRate?

    /// Between two pings of a connection that is used; of one that rests, because for so long no message went over it.
    public var pingInterval: Duration = .seconds(1)
    public var restingPingInterval: Duration = .seconds(5)
    public var restsAfter: Duration = .seconds(3)
    /// A peer with an unanswered ping, from which nothing came and to which nothing went for this long, is lost.
    public var silence: Duration = .seconds(5)
    public var helloTimeout: Duration = .seconds(10)
    public var dialTimeout: Duration = .seconds(5)
    /// Of a dial that meets another one on its way; then the round is over.
    public var punchTimeout: Duration = .seconds(4)
    public var sessions = SessionLimits()
    /// Whom to dial, when, and how often. A connection that loses the tie waits for its `grace` for the one that should
    /// survive.
    public var dialing = DialLimits()
    /// Connections in all; three quarters of them may be those of one address.
    public var connections = 512
    /// Inbound connections that have not said hello. When more come, some of them have to go: see ``WaitingRoom``.
    public var unproven = 128

    public init() {}

    /// Of a daemon: whoever shares no job with it may make it hold little.
    ///
    /// - Parameter computes: false where nobody works, so that nobody has long messages for it.
    public static func daemon(computes: Bool) -> ChannelLimits {
        var limits = ChannelLimits()
        limits.inbound.strangers = StrangerLimits()
        if !computes { limits.messageBytes = PerChannel(repeating: 1 << 20) }
        return limits
    }
}

/// What members may make us hold, and how fast.
public struct InboundLimits: Hashable, Sendable {
    /// What a peer may send ahead of our grants at first, at most ``ChannelLimits/windowBytes``: more where its line passes as much in a
    /// second (``CreditWindow``).
    public var firstWindowBytes = PerChannel(
        control: 1 << 20, activations: 4 << 20, exchange: 256 << 10, bulk: 64 << 10)
    /// While unfinished messages of all peers together hold more than this, only one of those that are longer than their window
    /// goes on; another if it does not get 256 KiB further within `patience`.
    public var reassemblyBytes = 64 << 20
    public var patience: Duration = .seconds(5)
    /// When unfinished messages hold more than this, the peer whose one comes slowest is turned out, unless it is new.
    public var partialBytes = 96 << 20
    /// Messages a second that a peer may send for long, and at once. Beyond that its credit waits.
    public var messagesPerSecond = 10_000
    public var messageBurst = 20_000
    /// A peer that is ahead of that rate by more than this breaks the rules: its credit cannot explain it.
    public var messageDebt: Duration = .seconds(10)
    /// Of whoever is not trusted (``Channels/trust(_:_:at:)``). Nil: everybody is.
    public var strangers: StrangerLimits?

    public init() {}
}

/// What members of the pool with whom we share no job may make us hold.
public struct StrangerLimits: Hashable, Sendable {
    /// Bytes that one of them may send ahead of our grants, on each channel.
    public var windowBytes = 32 << 10
    public var messageBytes = 1 << 20
    /// When unfinished messages of all of them hold more than this, whoever holds most is turned out.
    public var partialBytes = 16 << 20

    public init() {}
}

/// How long sessions live without a connection.
public struct SessionLimits: Hashable, Sendable {
    /// Another way is tried beside a connection to a public address from which nothing comes for so long, or for four round trips. Zero: never.
    public var quiet: Duration = .milliseconds(750)
    /// Then the peer is lost. Zero: sessions end with their connection. Longer than a coordinator that hears nobody waits for
    /// its own line.
    public var timeout: Duration = .seconds(150)
    /// Sessions without a connection that are kept.
    public var away = 256
    /// Who did not open the last connection waits so long before it opens the next.
    public var redialDelay: Duration = .milliseconds(100)
    /// When nobody listens at an address that never worked, the peer itself has so long to come.
    public var refusedGrace: Duration = .seconds(1)

    public init() {}
}
