import Primitives
import Wire

/// What waits for one peer, by channel, and which channel's turn it is.
///
/// Strict priority with a floor: every byte that a channel sends adds a twentieth to what each waiting lower channel may claim,
/// and a channel whose claim covers its next frame goes first.
struct Outbox: Sendable {
    private struct Message {
        var header: [UInt8]
        var payload: [UInt8]
        var sent = 0
        var opened = false
        var count: Int { header.count + payload.count }
    }
    private struct Lane {
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
    private var lanes = PerChannel(repeating: Lane())
    private static let floor = 20

    func queuedBytes(_ channel: Channel) -> Int { lanes[channel].bytes }
    /// Down to a channel.
    func hasSendable(_ lowest: Channel = .bulk) -> Bool {
        Channel.allCases.contains { $0 <= lowest && lanes[$0].sendable != nil }
    }

    mutating func push(_ header: [UInt8], _ payload: [UInt8], on channel: Channel) {
        let message = Message(header: header, payload: payload)
        lanes[channel].bytes += message.count
        if lanes[channel].front == nil { lanes[channel].front = message } else { lanes[channel].queue.push(message) }
    }
    /// A new connection grants anew.
    mutating func begin(windows: PerChannel<UInt32>) {
        for channel in Channel.allCases { lanes[channel].credit = Int(windows[channel]) }
    }
    /// False when the grant is absurd.
    mutating func grant(_ bytes: Int, _ channel: Channel) -> Bool {
        guard lanes[channel].credit + bytes <= Int(UInt32.max) else { return false }
        lanes[channel].credit += bytes
        return true
    }

    /// Appends the next frame of the channels down to `lowest`, at most `frameBytes` with its header.
    /// - Returns: the channel and the message bytes in it; nil when nothing may go.
    mutating func nextFrame(
        _ frameBytes: Int, lowest: Channel = .bulk, into out: inout [UInt8]
    ) -> (channel: Channel, bytes: Int)? {
        guard let channel = turn(frameBytes, lowest), let sendable = lanes[channel].sendable else { return nil }
        let opening = !lanes[channel].front!.opened
        let bytes = min(sendable, frameBytes - Frame.headerBytes - (opening ? Frame.openBytes : 0))
        append(bytes, of: channel, opening: opening, to: &out)
        lanes[channel].credit -= bytes
        lanes[channel].bytes -= bytes
        lanes[channel].claim = max(0, lanes[channel].claim - Self.floor * bytes)
        if lanes[channel].front!.sent == lanes[channel].front!.count {
            lanes[channel].front = lanes[channel].queue.pop()
        }
        for lower in Channel.allCases where lower > channel {
            // At most two frames are owed, so that a claim does not grow while credit is missing.
            let claim = min(lanes[lower].claim + bytes, Self.floor * frameBytes * 2)
            lanes[lower].claim = lanes[lower].sendable == nil ? 0 : claim
        }
        return (channel, bytes)
    }

    private func turn(_ frameBytes: Int, _ lowest: Channel) -> Channel? {
        var first: Channel?
        for channel in Channel.allCases where channel <= lowest {
            guard let sendable = lanes[channel].sendable else { continue }
            if first == nil {
                first = channel
            } else if lanes[channel].claim >= Self.floor * min(sendable, frameBytes - Frame.headerBytes) {
                return channel
            }
        }
        return first
    }

    private mutating func append(_ bytes: Int, of channel: Channel, opening: Bool, to out: inout [UInt8]) {
        let total = lanes[channel].front!.count
        if opening {
            out += Frame.header(.open, channel, bytes + Frame.openBytes)
            for shift in [0, 8, 16, 24] { out.append(UInt8(truncatingIfNeeded: total >> shift)) }
            lanes[channel].front!.opened = true
        } else {
            out += Frame.header(.more, channel, bytes)
        }
        let start = lanes[channel].front!.sent
        let end = start + bytes
        let inHeader = lanes[channel].front!.header.count
        if start < inHeader { out += lanes[channel].front!.header[start..<min(end, inHeader)] }
        if end > inHeader { out += lanes[channel].front!.payload[max(0, start - inHeader)..<end - inHeader] }
        lanes[channel].front!.sent = end
    }
}
