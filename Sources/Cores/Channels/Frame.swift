import Primitives
import Wire

/// The unit on the wire: kind (1 byte), channel (1), length of what follows (2, little endian). At most 64 KiB with the header.
enum Frame {
    enum Kind: UInt8 {
        /// The first frame of each side; see ``Hello``.
        case hello = 1
        /// The next bytes of the channel's stream: messages one after the other, each after its length (4 bytes).
        case data = 2
        /// What follows of the channel's stream on this connection begins there (8 bytes): a step over what was confirmed
        /// meanwhile.
        case seek = 3
        /// The receiver has so many bytes of the channel's stream (8 bytes), and takes it up to there (8).
        case ack = 4
        /// Any 8 bytes, sent back by pong.
        case ping = 5
        case pong = 6
        /// A goodbye, which ends the session: UTF-8 text, at most 200 bytes.
        case bye = 7
        /// In pools that keep members (``PoolBook``), before any hello: a ``Credential`` of who would join.
        case apply = 8
        /// The answer: a ``PoolGrant``.
        case grant = 9
        /// Or why not, or why no more: the number of a ``PoolRefusal`` (1 byte). Then the connection is closed.
        case refusal = 10
        /// A ``PoolStatement``.
        case statement = 11

        /// What may come while nothing is proven.
        var isFirst: Bool { self == .hello || self == .apply || self == .grant || self == .refusal }
    }
    static let headerBytes = 4
    static let maxBytes = 65_536
    /// Frames other than `data` are kept whole, so they must be short.
    static let maxSmallBytes = 512
    static let maxByeBytes = 200

    static func append(_ kind: Kind, _ channel: Channel, _ length: Int, to out: inout [UInt8]) {
        precondition(length >= 0 && length <= maxBytes - headerBytes, "a frame of \(length) bytes")
        out.append(kind.rawValue)
        out.append(channel.rawValue)
        out.append(UInt8(length & 255))
        out.append(UInt8(length >> 8))
    }
    static func small(_ kind: Kind, _ payload: [UInt8], _ channel: Channel = .control) -> [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(headerBytes + payload.count)
        append(kind, channel, payload.count, to: &out)
        return out + payload
    }
    static func appendSeek(_ offset: UInt64, _ channel: Channel, to out: inout [UInt8]) {
        var writer = ByteWriter(capacity: 8)
        writer.u64(offset)
        append(.seek, channel, writer.bytes.count, to: &out)
        out += writer.bytes
    }
    static func ack(received: UInt64, limit: UInt64, _ channel: Channel) -> [UInt8] {
        var writer = ByteWriter(capacity: 16)
        writer.u64(received)
        writer.u64(limit)
        return small(.ack, writer.bytes, channel)
    }
    static func ping(_ kind: Kind, _ number: UInt64) -> [UInt8] {
        var writer = ByteWriter(capacity: 8)
        writer.u64(number)
        return small(kind, writer.bytes)
    }
    static func bye(_ reason: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for scalar in reason.unicodeScalars {
            let more = UTF8.encode(scalar)!
            guard bytes.count + more.count <= maxByeBytes else { break }
            bytes += more
        }
        return small(.bye, bytes)
    }
}

/// Cuts a byte stream of any piece sizes into frames. Pieces of messages pass through without being collected.
struct FrameParser: Sendable {
    enum Event {
        case small(Frame.Kind, Channel, [UInt8])
        case data(Channel, ArraySlice<UInt8>)
    }
    /// Until then only a hello is let through, and what pools that keep members have instead.
    var proven = false
    private var pending: [UInt8] = []
    /// The kind is nil for an extension that is skipped.
    private var frame: (kind: Frame.Kind?, channel: Channel, left: Int)?

    /// The next event in `bytes`, which is cut from the front; nil when more bytes are needed.
    mutating func next(_ bytes: inout ArraySlice<UInt8>) throws(MalformedBytes) -> Event? {
        while true {
            guard let (kind, channel, left) = frame else {
                guard collect(Frame.headerBytes, &bytes) else { return nil }
                try begin()
                continue
            }
            switch kind {
            case .data?, nil:
                guard !bytes.isEmpty else { return nil }
                let piece = bytes.prefix(left)
                bytes = bytes.dropFirst(piece.count)
                frame = piece.count < left ? (kind, channel, left - piece.count) : nil
                if kind != nil { return .data(channel, piece) }
            case .some(let kind):
                guard collect(left, &bytes) else { return nil }
                frame = nil
                defer { pending.removeAll(keepingCapacity: true) }
                return .small(kind, channel, pending)
            }
        }
    }

    /// Fills `pending` up to `count`; true when it holds that many.
    private mutating func collect(_ count: Int, _ bytes: inout ArraySlice<UInt8>) -> Bool {
        let taken = bytes.prefix(count - pending.count)
        pending.append(contentsOf: taken)
        bytes = bytes.dropFirst(taken.count)
        return pending.count == count
    }

    private mutating func begin() throws(MalformedBytes) {
        let number = pending[0]
        let kind = Frame.Kind(rawValue: number)
        let length = Int(pending[2]) | Int(pending[3]) << 8
        guard let channel = Channel(rawValue: pending[1]) else { throw MalformedBytes("channel \(pending[1])") }
        pending.removeAll(keepingCapacity: true)
        guard proven || kind?.isFirst == true else {
            throw MalformedBytes("a frame of kind \(number) before membership is proven")
        }
        guard length <= Frame.maxBytes - Frame.headerBytes else { throw MalformedBytes("a frame of \(length) bytes") }
        switch kind {
        case .data?:
            guard length > 0 else { throw MalformedBytes("a frame of nothing") }
        case nil:
            // Kinds from 128 on are extensions that may be skipped.
            guard number >= 128 else { throw MalformedBytes("frame kind \(number)") }
            if length == 0 { return }
        case .some:
            guard length <= Frame.maxSmallBytes else {
                throw MalformedBytes("a \(length)-byte frame of kind \(number)")
            }
        }
        frame = (kind, channel, length)
    }
}
