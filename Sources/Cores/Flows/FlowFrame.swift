internal import Primitives

/// What a packet says inside its seal, one after the other.
enum FlowFrame {
    case ping
    case acknowledgement(Acknowledgement)
    /// Bytes of the stream, valid while the packet is; the last ones of it where so marked.
    case stream(offset: UInt64, bytes: UnsafeRawBufferPointer, isLast: Bool)
    /// So many bytes of the stream may be sent in all.
    case window(UInt64)
    case challenge(UInt64)
    case response(UInt64)
    case close(FlowEnd)

    enum Kind: UInt8 {
        case padding = 0, ping, acknowledgement, stream, lastOfStream, window, challenge, response, close
    }
    /// Bytes of a stream frame before its text, which begins at most at an offset.
    static func streamHead(_ offset: UInt64) -> Int { 1 + [UInt8].width(ofNumber: offset) + 2 }

    /// - Returns: nil at the end of the packet. Throws what no honest end sends.
    static func next(_ reader: inout PacketReader) throws(Malformed) -> FlowFrame? {
        reader.skip(Kind.padding.rawValue)
        guard let first = reader.byte() else { return nil }
        switch Kind(rawValue: first) {
        case .ping: return .ping
        case .acknowledgement: return .acknowledgement(try Acknowledgement(&reader))
        case .stream: return try stream(&reader, isLast: false)
        case .lastOfStream: return try stream(&reader, isLast: true)
        case .window:
            guard let limit = reader.number() else { throw Malformed() }
            return .window(limit)
        case .challenge:
            guard let value = reader.integer(8) else { throw Malformed() }
            return .challenge(value)
        case .response:
            guard let value = reader.integer(8) else { throw Malformed() }
            return .response(value)
        case .close:
            guard let why = reader.byte() else { throw Malformed() }
            return .close(FlowEnd(rawValue: why) ?? .closed)
        case .padding, nil: throw Malformed()
        }
    }
    private static func stream(_ reader: inout PacketReader, isLast: Bool) throws(Malformed) -> FlowFrame {
        guard let offset = reader.number(), let count = reader.integer(2), let bytes = reader.take(Int(count)),
            offset + count <= FlowLimits.mostNumber
        else { throw Malformed() }
        return .stream(offset: offset, bytes: bytes, isLast: isLast)
    }

    struct Malformed: Error {}
}

/// Which packets have come: ranges of numbers, the highest first.
struct Acknowledgement: Hashable, Sendable {
    /// Descending, with gaps between them; never empty.
    var ranges: [ClosedRange<UInt64>]
    /// How long the highest was held back before this was sent.
    var delay: Duration
    var largest: UInt64 { ranges[0].upperBound }

    init(ranges: [ClosedRange<UInt64>], delay: Duration) {
        precondition(!ranges.isEmpty, "an acknowledgement of nothing")
        self.ranges = ranges
        self.delay = delay
    }
    /// largest ‖ delay (µs) ‖ count u8 ‖ length of the first range − 1 ‖ (gap − 1 ‖ length − 1)…
    init(_ reader: inout PacketReader) throws(FlowFrame.Malformed) {
        guard let largest = reader.number(), let held = reader.number(), let count = reader.byte(), count > 0,
            Int(count) <= FlowLimits.ranges, let first = reader.number(), first <= largest
        else { throw FlowFrame.Malformed() }
        ranges = [largest - first...largest]
        ranges.reserveCapacity(Int(count))
        for _ in 1..<Int(count) {
            let low = ranges[ranges.count - 1].lowerBound
            guard let gap = reader.number(), let length = reader.number(), gap + 2 <= low, gap + 2 + length <= low
            else { throw FlowFrame.Malformed() }
            let upper = low - gap - 2
            ranges.append(upper - length...upper)
        }
        delay = .microseconds(Int64(min(held, 1_000_000)))
    }
    func write(to bytes: inout [UInt8]) {
        bytes.append(FlowFrame.Kind.acknowledgement.rawValue)
        bytes.write(number: largest)
        bytes.write(number: UInt64(max(0, delay.wholeNanoseconds / 1000)))
        bytes.append(UInt8(ranges.count))
        bytes.write(number: largest - ranges[0].lowerBound)
        for (before, range) in zip(ranges, ranges.dropFirst()) {
            bytes.write(number: before.lowerBound - range.upperBound - 2)
            bytes.write(number: range.upperBound - range.lowerBound)
        }
    }
    /// The most bytes that so many ranges take.
    static func most(_ count: Int) -> Int { 1 + 8 + 4 + 1 + 8 + max(0, count - 1) * 8 }
}
