public import Paths
public import Primitives

/// Bounds and times of ``Channels``. All byte counts are of message bytes unless they say otherwise.
public struct ChannelLimits: Hashable, Sendable {
    /// The longest message; checked before memory is taken.
    public var messageBytes = PerChannel(control: 1 << 20, activations: 64 << 20, exchange: 256 << 20, bulk: 64 << 20)
    /// What a peer may send ahead of our grants.
    public var windowBytes = PerChannel(control: 1 << 20, activations: 4 << 20, exchange: 4 << 20, bulk: 4 << 20)
    /// What may wait for one peer on one channel. A message longer than this still enters an empty queue.
    public var queueBytes = PerChannel(control: 16 << 20, activations: 256 << 20, exchange: 512 << 20, bulk: 128 << 20)
    /// Frames are cut to this size with their header, at most 64 KiB. Smaller frames let control overtake sooner.
    public var frameBytes = 16_384
    /// What the driver may hold unsent below one connection, at most: less where a line takes longer than `holdTime` for it.
    public var unsentBytes = 131_072
    public var holdTime: Duration = .milliseconds(50)
    /// Memory for unfinished messages that are longer than their window, of all peers together. Others wait for their turn;
    /// a single message may exceed it.
    public var reassemblyBytes = 1 << 30
    /// Caps over all peers; nil for none. Control messages are not held back by `download`.
    public var upload: BitRate?
    public var download: BitRate?

    public var pingInterval: Duration = .seconds(1)
    /// A peer with an unanswered ping, from which nothing came and to which nothing went for this long, is lost.
    public var silence: Duration = .seconds(5)
    public var helloTimeout: Duration = .seconds(10)
    public var dialTimeout: Duration = .seconds(5)
    /// Whom to dial, when, and how often. A connection that loses the tie waits for its `grace` for the one that should
    /// survive.
    public var dialing = DialLimits()
    /// Connections in all; three quarters of them may be those of one address.
    public var connections = 512
    /// Inbound connections that have not said hello. When more come, some of them have to go: see ``WaitingRoom``.
    public var unproven = 128

    public init() {}
}
