import Primitives
import Wire

/// The other side's streams as they come in, one a channel, cut into messages; and how far it may go on.
struct Inbox: Sendable {
    enum Event {
        /// A message has begun that is longer than the window.
        case long(length: Int)
        case message([UInt8])
    }
    private struct Lane {
        /// Bytes of the stream that have come, and of these as last confirmed.
        var received: UInt64 = 0
        var confirmed: UInt64 = 0
        /// Up to where the other side may send, and how far ahead that is.
        var limit: UInt64
        var window: CreditWindow
        /// The length of the message under way: its bytes so far, then all of it.
        var prefix: UInt32 = 0
        var prefixCount = 0
        var length: Int?
        var message: [UInt8] = []
        var beganAt = Instant.zero
    }
    /// By channel. An array, because its elements are read and changed in place.
    private var lanes: [Lane]
    private let limits: ChannelLimits
    /// What a stranger may send is less.
    var isTrusted: Bool
    /// Memory taken for a message before any of it has come.
    private static let trust = 65_536

    init(_ limits: ChannelLimits) {
        self.limits = limits
        isTrusted = limits.inbound.strangers == nil
        lanes = []
        lanes = Channel.allCases.map { channel in
            let window = CreditWindow(
                from: limits.inbound.firstWindowBytes[channel], upTo: limits.windowBytes[channel])
            return Lane(limit: UInt64(min(window.bytes, longestWindow(channel))), window: window)
        }
    }
    /// Of a line that is fast enough.
    private func longestWindow(_ channel: Channel) -> Int {
        guard !isTrusted, let strangers = limits.inbound.strangers else { return limits.windowBytes[channel] }
        return min(limits.windowBytes[channel], strangers.windowBytes)
    }
    private func window(_ channel: Channel) -> Int { min(lanes[channel.place].window.bytes, longestWindow(channel)) }
    private func longest(_ channel: Channel) -> Int {
        guard !isTrusted, let strangers = limits.inbound.strangers else { return limits.messageBytes[channel] }
        return min(limits.messageBytes[channel], strangers.messageBytes)
    }

    /// The other side begins anew; what it was told it may send from the start of its streams.
    mutating func restart(windows said: SessionStanding) {
        lanes = Channel.allCases.map {
            Lane(limit: said.limits[$0] - said.received[$0], window: lanes[$0.place].window)
        }
    }

    func received(_ channel: Channel) -> UInt64 { lanes[channel.place].received }
    func limit(_ channel: Channel) -> UInt64 { lanes[channel.place].limit }
    var isVirgin: Bool { lanes.allSatisfy { $0.received == 0 } }
    /// Memory of messages that are not whole.
    var partialBytes: Int { lanes.reduce(0) { $0 + $1.message.count } }
    func partialBytes(_ channel: Channel) -> Int { lanes[channel.place].message.count }
    /// The channel whose unfinished message comes slowest, in bytes a second, of those older than `age`.
    func slowest(olderThan age: Duration, at now: Instant) -> Double? {
        lanes.filter { $0.message.count > 0 && now - $0.beganAt > age }.map {
            Double($0.message.count) / (now - $0.beganAt).inSeconds
        }.min()
    }

    /// Whether the other side may send so many bytes more.
    func allows(_ count: Int, _ channel: Channel) -> Bool {
        lanes[channel.place].received + UInt64(count) <= lanes[channel.place].limit
    }
    /// Bytes of the stream have come.
    mutating func heed(_ count: Int, _ channel: Channel, at now: Instant) {
        lanes[channel.place].window.received(count, at: now)
    }
    /// Takes bytes of the stream from the front up to the next event; nil when all are taken.
    mutating func take(
        _ bytes: inout ArraySlice<UInt8>, _ channel: Channel, at now: Instant
    ) throws(MalformedBytes) -> Event? {
        let place = channel.place
        guard let length = lanes[place].length else {
            guard let length = takePrefix(&bytes, place) else { return nil }
            guard length <= longest(channel) else {
                throw MalformedBytes("a message of \(length) bytes on \(channel), at most \(longest(channel))")
            }
            lanes[place].length = length
            lanes[place].beganAt = now
            if length > longestWindow(channel) { return .long(length: length) }
            return try take(&bytes, channel, at: now)
        }
        let piece = bytes.prefix(length - lanes[place].message.count)
        bytes = bytes.dropFirst(piece.count)
        lanes[place].received += UInt64(piece.count)
        if lanes[place].message.isEmpty, piece.count == length {
            finish(place)
            return .message(Array(piece))
        }
        if lanes[place].message.isEmpty { lanes[place].message.reserveCapacity(min(length, Self.trust)) }
        // Who has sent that much may have the rest in one piece; to announce it is not enough.
        if lanes[place].message.count < Self.trust, lanes[place].message.count + piece.count >= Self.trust {
            lanes[place].message.reserveCapacity(length)
        }
        lanes[place].message.append(contentsOf: piece)
        guard lanes[place].message.count == length else { return nil }
        var message: [UInt8] = []
        swap(&message, &lanes[place].message)
        finish(place)
        return .message(message)
    }
    private mutating func takePrefix(_ bytes: inout ArraySlice<UInt8>, _ place: Int) -> Int? {
        while lanes[place].prefixCount < Outbox.prefixBytes {
            guard let byte = bytes.popFirst() else { return nil }
            lanes[place].prefix |= UInt32(byte) << UInt32(8 * lanes[place].prefixCount)
            lanes[place].prefixCount += 1
            lanes[place].received += 1
        }
        return Int(lanes[place].prefix)
    }
    private mutating func finish(_ place: Int) {
        lanes[place].length = nil
        lanes[place].prefix = 0
        lanes[place].prefixCount = 0
    }

    /// Whether more should be granted now: when a quarter of the window is spent.
    func isDue(_ channel: Channel) -> Bool {
        let window = window(channel)
        // Whoever is trusted no more has more left than its window.
        let left = min(window, Int(lanes[channel.place].limit - lanes[channel.place].received))
        return (window - left) * 4 >= window
    }
    /// Whether something came since the last confirmation.
    func isUnconfirmed(_ channel: Channel) -> Bool {
        lanes[channel.place].received > lanes[channel.place].confirmed
    }
    /// A whole window from here on.
    mutating func grant(_ channel: Channel) {
        let place = channel.place
        lanes[place].window.adapt()
        lanes[place].limit = max(lanes[place].limit, lanes[place].received + UInt64(window(channel)))
    }
    /// What is to be told to the other side now.
    mutating func confirmation(_ channel: Channel) -> (received: UInt64, limit: UInt64) {
        lanes[channel.place].confirmed = lanes[channel.place].received
        return (lanes[channel.place].received, lanes[channel.place].limit)
    }
}
