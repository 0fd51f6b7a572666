import Primitives
import Wire

/// Messages of one connection as they come in, and what the other side may still send.
struct Inbox: Sendable {
    private struct Lane {
        /// What the other side may send without another grant.
        var allowance = 0
        /// Received and not granted again.
        var spent = 0
        var message: [UInt8] = []
        /// Length of the message under way.
        var length: Int?
        /// Whether memory for the whole message is promised; else credit is withheld.
        var admitted = true
    }
    /// By channel. An array, because its elements are read and changed in place.
    private var lanes = Channel.allCases.map { _ in Lane() }
    private let limits: ChannelLimits

    init(_ limits: ChannelLimits) {
        self.limits = limits
        for channel in Channel.allCases { lanes[channel.place].allowance = limits.windowBytes[channel] }
    }

    /// A message of `length` bytes begins. Memory beyond the window is not taken before ``admit(_:)``.
    /// - Returns: bytes beyond the window, to be admitted; 0 for most.
    mutating func open(_ channel: Channel, length: Int) throws(MalformedBytes) -> Int {
        guard lanes[channel.place].length == nil else { throw MalformedBytes("a message inside another") }
        guard length <= limits.messageBytes[channel] else {
            throw MalformedBytes("a message of \(length) bytes on \(channel), at most \(limits.messageBytes[channel])")
        }
        lanes[channel.place].length = length
        let excess = max(0, length - limits.windowBytes[channel])
        lanes[channel.place].admitted = excess == 0
        return excess
    }
    mutating func admit(_ channel: Channel) {
        lanes[channel.place].admitted = true
        lanes[channel.place].message.reserveCapacity(lanes[channel.place].length ?? 0)
    }
    mutating func append(_ piece: ArraySlice<UInt8>, _ channel: Channel) throws(MalformedBytes) {
        guard let length = lanes[channel.place].length else { throw MalformedBytes("a piece of no message") }
        guard lanes[channel.place].message.count + piece.count <= length else {
            throw MalformedBytes("more than was announced")
        }
        guard piece.count <= lanes[channel.place].allowance else {
            throw MalformedBytes("more than was granted on \(channel)")
        }
        lanes[channel.place].allowance -= piece.count
        lanes[channel.place].spent += piece.count
        if lanes[channel.place].message.isEmpty, piece.count < length {
            lanes[channel.place].message.reserveCapacity(min(length, 65_536))
        }
        lanes[channel.place].message.append(contentsOf: piece)
    }
    /// The message under way, once it is whole.
    mutating func take(_ channel: Channel) -> [UInt8]? {
        guard let length = lanes[channel.place].length, lanes[channel.place].message.count == length else { return nil }
        lanes[channel.place].length = nil
        lanes[channel.place].admitted = true
        var message: [UInt8] = []
        swap(&message, &lanes[channel.place].message)
        return message
    }
    /// What should be granted now: when a quarter of the window is spent, unless memory has yet to be promised.
    func due(_ channel: Channel) -> Int {
        let spent = lanes[channel.place].spent
        return spent * 4 >= limits.windowBytes[channel] && lanes[channel.place].admitted ? spent : 0
    }
    mutating func granted(_ bytes: Int, _ channel: Channel) {
        lanes[channel.place].spent -= bytes
        lanes[channel.place].allowance += bytes
    }
}
