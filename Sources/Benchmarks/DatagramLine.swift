public import Primitives

/// One direction of a line as datagrams see it: a rate with a buffer before it that drops what is too much, then a delay. Arithmetic of times; it carries nothing.
///
/// Unlike `Shaper` of the module `Links`, which knows hosts and streams and is fair to them, this is the router of a home: first in, first out, whoever it is of.
public struct DatagramLine: Sendable {
    public struct Properties: Hashable, Sendable {
        /// Nil where it is never the bottleneck.
        public var rate: BitRate?
        /// Bytes that may wait before the rate.
        public var buffer: Int
        public var delay: Duration
        /// Drawn between nothing and this, on top; the order is kept.
        public var jitter: Duration
        /// Shares of datagrams: lost, doubled, delayed by up to `detour` so that others overtake them.
        public var loss: Double
        public var duplication: Double
        public var reordering: Double
        public var detour: Duration
        /// Larger ones vanish without a word.
        public var largest: Int
        public init(
            rate: BitRate? = nil, buffer: Int = 1 << 20, delay: Duration = .zero, jitter: Duration = .zero,
            loss: Double = 0, duplication: Double = 0, reordering: Double = 0, detour: Duration = .milliseconds(20),
            largest: Int = 65_535
        ) {
            self.rate = rate
            self.buffer = buffer
            self.delay = delay
            self.jitter = jitter
            self.loss = loss
            self.duplication = duplication
            self.reordering = reordering
            self.detour = detour
            self.largest = largest
        }
    }
    public var properties: Properties
    private var busyUntil = Instant.zero
    private var lastArrival = Instant.zero
    private var random: SeededGenerator
    /// Dropped for want of buffer, and lost otherwise.
    public private(set) var overflowed = 0
    public private(set) var lost = 0
    public private(set) var carriedBytes = 0

    public init(_ properties: Properties, seed: UInt64) {
        self.properties = properties
        random = SeededGenerator(seed: seed)
    }
    /// What waits before the rate, as time.
    public func queue(at now: Instant) -> Duration { max(busyUntil - now, .zero) }

    /// - Returns: when a datagram arrives: never, once, or twice.
    public mutating func carry(_ bytes: Int, at now: Instant) -> [Instant] {
        guard bytes <= properties.largest else {
            lost += 1
            return []
        }
        var left = now
        if let rate = properties.rate {
            guard Int(queue(at: now).inSeconds * rate.bytesPerSecond) + bytes <= properties.buffer else {
                overflowed += 1
                return []
            }
            busyUntil = max(busyUntil, now) + rate.time(for: bytes)
            left = busyUntil
        }
        carriedBytes += bytes
        if random.uniform() < properties.loss {
            lost += 1
            return []
        }
        let jitter = Duration.nanoseconds(Int64(random.uniform() * Double(properties.jitter.wholeNanoseconds)))
        var arrival = left + properties.delay + jitter
        if properties.reordering > 0, random.uniform() < properties.reordering {
            arrival += .nanoseconds(Int64(random.uniform() * Double(properties.detour.wholeNanoseconds)))
        } else {
            arrival = max(arrival, lastArrival)
            lastArrival = arrival
        }
        guard properties.duplication > 0, random.uniform() < properties.duplication else { return [arrival] }
        return [arrival, arrival + .microseconds(Int64(random.below(5_000)))]
    }
}
