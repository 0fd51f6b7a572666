public import Primitives

/// A host in link arithmetic: a node's index in the simulator, a remote address in the live shaper.
@frozen public struct HostID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var value: UInt64
    @inlinable public init(_ value: UInt64) { self.value = value }
    public var description: String { "host \(value)" }
    @inlinable public static func < (a: HostID, b: HostID) -> Bool { a.value < b.value }
}

/// One direction of one host's access line: it carries bytes at a rate, first in, first out.
///
/// Headers below the stream (TCP, IP, Ethernet) are not counted: rates are rates of useful bytes.
public struct AccessLine: Hashable, Sendable {
    /// Nil for a line that is never the bottleneck.
    public var rate: BitRate?
    /// When the last byte admitted so far has passed.
    public private(set) var busyUntil: Instant

    public init(rate: BitRate?) {
        precondition(
            rate.map { $0.bitsPerSecond > 0 && $0.bitsPerSecond.isFinite } ?? true, "a line needs a positive rate")
        self.rate = rate
        busyUntil = Instant(nanoseconds: .min / 4)
    }

    /// How long `bytes` occupy the line.
    public func time(for bytes: Int) -> Duration { rate?.time(for: bytes) ?? .zero }

    /// The sending end: `bytes` are all there at `now` and begin to leave when the line is free.
    /// - Returns: when the last byte has left.
    public mutating func admit(bytes: Int, at now: Instant) -> Instant {
        busyUntil = max(now, busyUntil) + time(for: bytes)
        return busyUntil
    }

    /// The receiving end of a longer path: the last of `bytes` reaches the line at `now`; the earlier ones came before it, so
    /// that a line at least as fast as the sender's adds nothing (cut-through). Slower lines space what comes after.
    ///
    /// When the line was idle the first chunk passes at once even if this line is the slower one: at most one chunk's time
    /// (6.6 ms for 16 KiB at 20 Mbit/s) too early, once a busy period. A live receiver cannot know better: it sees only the end.
    /// - Returns: when the last byte has passed.
    public mutating func absorb(bytes: Int, lastByteAt now: Instant) -> Instant {
        busyUntil = max(now, busyUntil + time(for: bytes))
        return busyUntil
    }
}

/// A piece of what one host sends to another: at most ``Shaping/chunkBytes`` bytes of a stream, or a datagram.
@frozen public struct Parcel<Payload> {
    /// The other end: the destination in a ``Shaper``, the source in a ``Reception``.
    public var host: HostID
    /// The stream, chosen by the caller; datagrams have nil.
    public var stream: UInt64?
    public var bytes: Int
    /// What was offered; it travels with the last piece, earlier ones carry nil.
    public var payload: Payload?
    @inlinable public init(host: HostID, stream: UInt64?, bytes: Int, payload: Payload?) {
        self.host = host
        self.stream = stream
        self.bytes = bytes
        self.payload = payload
    }
}
extension Parcel: Sendable where Payload: Sendable {}

/// Numbers of the link model that both ends share.
public enum Shaping {
    /// Streams interleave in pieces of this size.
    public static let chunkBytes = 16_384
    /// One packet on the wire, for loss.
    public static let packetBytes = 1_448
    /// Datagrams waiting for one host beyond this are dropped, as a router would.
    public static let datagramQueueBytes = 262_144
}
