import Primitives
import Wire

/// What waits for one peer, by channel, which channel's turn it is, and what was sent and is not confirmed.
///
/// A channel is a stream of bytes: messages one after the other, each after its length in four bytes. What was sent is kept
/// until the receiver confirms it; a new connection starts where the receiver is.
///
/// Strict priority with a floor: every byte that a channel sends adds a twentieth to what each waiting lower channel may claim,
/// and a channel whose claim covers its next frame goes first.
struct Outbox: Sendable {
    fileprivate struct Message {
        var header: [UInt8]
        var payload: [UInt8]
        /// In the stream.
        var count: Int { Outbox.prefixBytes + header.count + payload.count }
    }
    fileprivate struct Lane {
        /// From `first` on; those before it are confirmed and empty.
        var messages: [Message?] = []
        var first = 0
        /// Where `messages[first]` begins in the stream.
        var base: UInt64 = 0
        var confirmed: UInt64 = 0
        /// The next byte to send: in `messages[cursor]`, which begins at `cursorBase`.
        var next: UInt64 = 0
        var cursor = 0
        var cursorBase: UInt64 = 0
        /// Where the receiver takes what comes next on this connection to be.
        var wire: UInt64 = 0
        /// The first byte that was never sent, and the end of the stream so far.
        var fresh: UInt64 = 0
        var end: UInt64 = 0
        /// Up to where the receiver takes bytes.
        var limit: UInt64 = 0
        /// Twentieths of bytes that the floor owes this channel.
        var claim = 0
        /// Bytes that may go now; nil when nothing waits or the receiver's window is used up.
        var sendable: Int? { next < end && next < limit ? Int(min(end, limit) - next) : nil }
        /// Memory, with what a message costs beside its bytes.
        var weight: Int { Int(end - base) + (messages.count - first) * Outbox.overheadBytes }
    }
    /// By channel. An array, because its elements are read and changed in place.
    private var lanes = Channel.allCases.map { _ in Lane() }
    private static let floor = 20
    static let prefixBytes = 4
    /// Two arrays and their places.
    static let overheadBytes = 128

    /// Bytes of the stream that wait to be sent.
    func queuedBytes(_ channel: Channel) -> Int { Int(lanes[channel.place].end - lanes[channel.place].next) }
    /// Whether a message may still be queued. One that is longer than the limit may when nothing waits.
    func hasRoom(for bytes: Int, on channel: Channel, limit: Int) -> Bool {
        let weight = lanes[channel.place].weight
        return weight + bytes + Self.overheadBytes <= limit || (queuedBytes(channel) == 0 && weight * 2 <= limit)
    }
    /// Down to a channel.
    func hasSendable(_ lowest: Channel = .bulk) -> Bool {
        for place in 0...lowest.place where lanes[place].sendable != nil { return true }
        return false
    }
    /// Whether the receiver has said of a byte that it has it.
    var isConfirmed: Bool { lanes.contains { $0.confirmed > 0 } }

    mutating func push(_ header: [UInt8], _ payload: [UInt8], on channel: Channel) {
        let message = Message(header: header, payload: payload)
        let place = channel.place
        lanes[place].messages.append(message)
        lanes[place].end += UInt64(message.count)
    }

    /// The receiver has `received` bytes and takes up to `limit`. False when it cannot have them, or the grant is absurd.
    mutating func confirm(_ received: UInt64, limit: UInt64, _ channel: Channel) -> Bool {
        let place = channel.place
        guard received <= lanes[place].fresh, limit < SessionStanding.streamMax else { return false }
        lanes[place].confirm(received)
        lanes[place].limit = max(lanes[place].limit, limit)
        return true
    }
    /// A new connection: the receiver is at `received`. False when it cannot be there.
    mutating func resume(from standing: SessionStanding) -> Bool {
        for channel in Channel.allCases {
            let place = channel.place
            let received = standing.received[channel]
            guard received >= lanes[place].confirmed, received <= lanes[place].fresh else { return false }
            lanes[place].confirm(received)
            lanes[place].rewind()
            lanes[place].wire = received
            lanes[place].limit = standing.limits[channel]
        }
        return true
    }
    /// The other side begins anew and has confirmed nothing, so that everything can be sent to it from the start.
    mutating func restart(windows standing: SessionStanding) {
        for channel in Channel.allCases {
            precondition(lanes[channel.place].confirmed == 0, "what was confirmed cannot be sent again")
            lanes[channel.place].rewind()
            lanes[channel.place].wire = 0
            lanes[channel.place].limit = standing.limits[channel] - standing.received[channel]
        }
    }

    /// Appends the next frame of the channels down to `lowest`, at most `frameBytes` with its header.
    /// - Returns: the channel, and the bytes of messages in it that were never sent before; nil when nothing may go.
    mutating func nextFrame(
        _ frameBytes: Int, lowest: Channel = .bulk, into out: inout [UInt8]
    ) -> (channel: Channel, fresh: Int)? {
        guard let channel = turn(frameBytes, lowest), let sendable = lanes[channel.place].sendable else { return nil }
        let place = channel.place
        let bytes = min(sendable, frameBytes - Frame.headerBytes)
        if lanes[place].wire != lanes[place].next { Frame.appendSeek(lanes[place].next, channel, to: &out) }
        Frame.append(.data, channel, bytes, to: &out)
        let fresh = lanes[place].take(bytes, to: &out)
        lanes[place].claim = max(0, lanes[place].claim - Self.floor * bytes)
        for lower in lanes.indices where lower > place {
            // At most two frames are owed, so that a claim does not grow while credit is missing.
            let claim = min(lanes[lower].claim + bytes, Self.floor * frameBytes * 2)
            lanes[lower].claim = lanes[lower].sendable == nil ? 0 : claim
        }
        return (channel, fresh)
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
    /// Moves the next bytes of the stream into a frame.
    ///
    /// - Returns: bytes of messages, without their lengths, that were never sent before.
    fileprivate mutating func take(_ count: Int, to out: inout [UInt8]) -> Int {
        var left = count
        var counted = 0
        while left > 0 {
            let start = Int(next - cursorBase)
            let total = messages[cursor]!.count
            let end = min(total, start + left)
            copy(start, end, to: &out)
            next += UInt64(end - start)
            left -= end - start
            if next > fresh {
                let from = max(start, Int(fresh - cursorBase), Outbox.prefixBytes)
                counted += max(0, end - from)
                fresh = next
            }
            if end == total {
                cursor += 1
                cursorBase = next
            }
        }
        wire = next
        return counted
    }
    /// Bytes `start..<end` of the message at the cursor.
    private func copy(_ start: Int, _ end: Int, to out: inout [UInt8]) {
        var from = start
        let prefix = Outbox.prefixBytes
        if from < prefix {
            let length = messages[cursor]!.count - prefix
            while from < min(end, prefix) {
                out.append(UInt8(truncatingIfNeeded: length >> (8 * from)))
                from += 1
            }
        }
        let inHeader = prefix + messages[cursor]!.header.count
        if from < min(end, inHeader) {
            out += messages[cursor]!.header[from - prefix..<min(end, inHeader) - prefix]
            from = min(end, inHeader)
        }
        if from < end { out += messages[cursor]!.payload[from - inHeader..<end - inHeader] }
    }

    /// Lets go of what the receiver has.
    fileprivate mutating func confirm(_ received: UInt64) {
        guard received > confirmed else { return }
        confirmed = received
        while first < messages.count, base + UInt64(messages[first]!.count) <= received {
            base += UInt64(messages[first]!.count)
            messages[first] = nil
            first += 1
        }
        // On a new connection it may have got further than we have sent again.
        if next < confirmed { rewind() }
        if first == messages.count {
            messages.removeAll(keepingCapacity: first < 1_024)
            (first, cursor) = (0, 0)
        } else if first > 256, first * 2 > messages.count {
            messages.removeFirst(first)
            cursor -= first
            first = 0
        }
    }
    /// The next byte to send is the first that was not confirmed.
    fileprivate mutating func rewind() {
        next = confirmed
        cursor = first
        cursorBase = base
        if cursor < messages.count, next >= cursorBase + UInt64(messages[cursor]!.count) {
            preconditionFailure("a confirmed message was kept")
        }
    }
}
