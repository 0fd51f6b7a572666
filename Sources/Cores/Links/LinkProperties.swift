public import Primitives

/// One direction between two hosts, without their access lines.
public struct LinkProperties: Hashable, Sendable {
    /// One way.
    public var latency: Duration
    /// Standard deviation of the one-way delay; zero for none.
    public var jitter: Duration
    /// Share of packets lost, 0..<1. A stream sees it as delay (a retransmission), a datagram as silence.
    public var loss: Double
    /// A cap of this pair alone, beside the access rates; nil for none.
    public var rate: BitRate?
    public init(latency: Duration, jitter: Duration = .zero, loss: Double = 0, rate: BitRate? = nil) {
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.rate = rate
    }
}
