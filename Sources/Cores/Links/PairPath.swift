import Primitives

/// What lies between two hosts beyond the sender's access line: a cap of the pair, then latency, jitter and loss.
@usableFromInline struct PairPath: Sendable {
    @usableFromInline var link: LinkProperties
    @usableFromInline var line: AccessLine
    private var random: SeededGenerator
    /// The last arrival of each stream, to keep its order.
    @usableFromInline var lastArrival: [UInt64: Instant] = [:]

    @usableFromInline init(link: LinkProperties, random: SeededGenerator) {
        self.link = link
        self.random = random
        line = AccessLine(rate: link.rate)
    }

    /// When the last of `bytes` arrives; nil for a lost datagram.
    @usableFromInline mutating func arrival(of bytes: Int, stream: UInt64?, left: Instant) -> Instant? {
        var arrival = max(left, link.rate == nil ? left : line.busyUntil) + link.latency
        if link.jitter > .zero { arrival = max(left, arrival + jitter()) }
        guard let stream else { return link.loss > 0 && isLost(bytes) ? nil : arrival }
        if link.loss > 0, isLost(bytes) {
            repeat { arrival += link.latency * 2 } while random.uniform() < link.loss
        }
        arrival = max(arrival, lastArrival[stream] ?? arrival)
        lastArrival[stream] = arrival
        return arrival
    }
    /// Four uniform draws (Irwin–Hall): standard deviation 1, at most 3.46, no transcendental function.
    private mutating func jitter() -> Duration {
        let sum = random.uniform() + random.uniform() + random.uniform() + random.uniform()
        let deviations = (sum - 2) * 1.732_050_807_568_877_2
        return .nanoseconds(Int64(deviations * Double(link.jitter.wholeNanoseconds)))
    }
    /// Whether at least one packet of `bytes` is lost.
    private mutating func isLost(_ bytes: Int) -> Bool {
        var none = 1.0
        for _ in 0..<(bytes + Shaping.packetBytes - 1) / Shaping.packetBytes { none *= 1 - link.loss }
        return random.uniform() >= none
    }
}
