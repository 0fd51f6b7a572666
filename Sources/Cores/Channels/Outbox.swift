import Primitives
import Wire

/// What waits for one peer, by channel, and which channel's turn it is.
///
/// Strict priority with a floor: every byte that a channel sends adds a twentieth to what each waiting lower channel may claim,
/// and a channel whose claim covers its next frame goes first.
struct Outbox: Sendable {
    fileprivate struct Message {
        var header: [UInt8]
        var payload: [UInt8]
        var sent = 0
        var opened = false
        var count: Int { header.count + payload.count }
    }
    fileprivate struct Lane {
        var queue = EffectQueue<Message>()
        var front: Message?
        /// Message bytes that wait.
        var bytes = 0
        /// What the receiver still lets us send.
        var credit = 0
        /// Twentieths of bytes that the floor owes this channel.
        var claim = 0
        /// Bytes that may go now; nil when nothing waits or the receiver's window is used up.
        var sendable: Int? {
            guard let front else { return nil }
            let left = front.count - front.sent
            return left == 0 ? 0 : credit > 0 ? min(left, credit) : nil
        }
    }
    /// By channel. An array, because its elements are read and changed in place.
    private var lanes = Channel.allCases.map { _ in Lane() }
    private static let floor = 20

    func queuedBytes(_ channel: Channel) -> Int { lanes[channel.place].bytes }
    /// Down to a channel.
    func hasSendable(_ lowest: Channel = .bulk) -> Bool {
        for place in 0...lowest.place where lanes[place].sendable != nil { return true }
        return false
    }

    mutating func push(_ header: [UInt8], _ payload: [UInt8], on channel: Channel) {
        let message = Message(header: header, payload: payload)
        let place = channel.place
        lanes[place].bytes += message.count
        if lanes[place].front == nil { lanes[place].front = message } else { lanes[place].queue.push(message) }
    }
    /// A new connection grants anew.
    mutating func begin(windows: PerChannel<UInt32>) {
        for channel in Channel.allCases { lanes[channel.place].credit = Int(windows[channel]) }
    }
    /// False when the grant is absurd.
    mutating func grant(_ bytes: Int, _ channel: Channel) -> Bool {
        guard lanes[channel.place].credit + bytes <= Int(UInt32.max) else { return false }
        lanes[channel.place].credit += bytes
        return true
    }

    /// Appends the next frame of the channels down to `lowest`, at most `frameBytes` with its header.
    /// - Returns: the channel and the message bytes in it; nil when nothing may go.
    mutating func nextFrame(
        _ frameBytes: Int, lowest: Channel = .bulk, into out: inout [UInt8]
    ) -> (channel: Channel, bytes: Int)? {
        guard let channel = turn(frameBytes, lowest), let sendable = lanes[channel.place].sendable else { return nil }
        let place = channel.place
        let opening = !lanes[place].front!.opened
        let bytes = min(sendable, frameBytes - Frame.headerBytes - (opening ? Frame.openBytes : 0))
        lanes[place].take(bytes, of: channel, opening: opening, to: &out)
        lanes[place].claim = max(0, lanes[place].claim - Self.floor * bytes)
        for lower in lanes.indices where lower > place {
            // At most two frames are owed, so that a claim does not grow while credit is missing.
            let claim = min(lanes[lower].claim + bytes, Self.floor * frameBytes * 2)
            lanes[lower].claim = lanes[lower].sendable == nil ? 0 : claim
        }
        return (channel, bytes)
    }

    private func turn(_ frameBytes: Int, _ lowest: Channel) -> Channel? {
        var first: Channel?
        for place in 0...lowest.place {
            guard let sendable = lanes[place].sendable else { continue }
            if first == nil {
                first = Channel(rawValue: UInt8(place))
            } else if lanes[place].claim >= Self.floor * min(sendable, frameBytes - Frame.headerBytes) {
                return Channel(rawValue: UInt8(place))
            }
        }
        return first
    }
}

extension Outbox.Lane {
    /// Moves the next `bytes` of the message in front into a frame.
    fileprivate mutating func take(_ bytes: Int, of channel: Channel, opening: Bool, to out: inout [UInt8]) {
        let total = front!.count
        if opening {
            Frame.append(.open, channel, bytes + Frame.openBytes, to: &out)
            var shift = 0
            while shift < 32 {
                out.append(UInt8(truncatingIfNeeded: total >> shift))
                shift += 8
            }
            front!.opened = true
        } else {
            Frame.append(.more, channel, bytes, to: &out)
        }
        let start = front!.sent
        let end = start + bytes
        let inHeader = front!.header.count
        if start < inHeader { out += front!.header[start..<min(end, inHeader)] }
        if end > inHeader { out += front!.payload[max(0, start - inHeader)..<end - inHeader] }
        front!.sent = end
        credit -= bytes
        self.bytes -= bytes
        if end == total { front = queue.pop() }
    }
}
