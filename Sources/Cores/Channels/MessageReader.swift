public import Primitives

/// Reads the messages between two peers off their connections as an onlooker does, for transcripts: nothing is checked, granted
/// or answered, and what goes on over another connection is told once. What does not parse is silence.
public struct MessageReader: Sendable {
    /// One direction of one connection.
    private struct Line {
        var parser = FrameParser()
        var standing: SessionStanding?
        var offsets = PerChannel<UInt64>(repeating: 0)
        init() { parser.proven = true }
    }
    private struct Place: Hashable {
        let connection: Int
        let isForth: Bool
    }
    private var lines: [Place: Line] = [:]
    /// The streams forth and back.
    private var streams = [Inbox(ChannelLimits()), Inbox(ChannelLimits())]

    public init() {}

    /// - Parameters:
    ///   - bytes: what comes next, in pieces of any size.
    ///   - connection: a number of the caller's.
    ///   - isForth: which of the two peers speaks.
    /// - Returns: the messages that are whole now, in order.
    public mutating func read(
        _ bytes: [UInt8], on connection: Int, isForth: Bool
    ) -> [(channel: Channel, bytes: [UInt8])] {
        let place = Place(connection: connection, isForth: isForth)
        var rest = bytes[...]
        var whole: [(channel: Channel, bytes: [UInt8])] = []
        while let event = try? lines[place, default: Line()].parser.next(&rest) {
            switch event {
            case .small(.hello, _, let payload): greet(payload, place)
            case .small(.seek, let channel, let payload):
                lines[place]!.offsets[channel] = payload.reversed().reduce(0) { $0 << 8 | UInt64($1) }
            case .small: continue
            case .data(let channel, let piece):
                for message in take(piece, channel, place) { whole.append((channel, message)) }
            }
        }
        return whole
    }

    private mutating func greet(_ payload: [UInt8], _ place: Place) {
        let back = Place(connection: place.connection, isForth: !place.isForth)
        guard let standing = Hello.standing(in: payload) else { return }
        lines[place]!.standing = standing
        lines[back, default: Line()].offsets = standing.received
        guard let other = lines[back]!.standing, !other.yours.fits(standing.mine) || !standing.yours.fits(other.mine)
        else { return }
        // One of them has started anew.
        streams = [Inbox(ChannelLimits()), Inbox(ChannelLimits())]
        lines[place]!.offsets = PerChannel(repeating: 0)
        lines[back]!.offsets = PerChannel(repeating: 0)
    }
    private mutating func take(_ bytes: ArraySlice<UInt8>, _ channel: Channel, _ place: Place) -> [[UInt8]] {
        let stream = place.isForth ? 0 : 1
        let (offset, received) = (lines[place]!.offsets[channel], streams[stream].received(channel))
        lines[place]!.offsets[channel] += UInt64(bytes.count)
        var rest = bytes.dropFirst(Int(clamping: received - min(received, offset)))
        var messages: [[UInt8]] = []
        while let event = try? streams[stream].take(&rest, channel, at: .zero) {
            if case .message(let message) = event { messages.append(message) }
        }
        return messages
    }
}
