internal import Primitives

/// The bytes of a stream on their way in: those whose turn it is go on at once, others wait in a ring for what is before them.
///
/// The ring is as large as what waits is far ahead, and never larger than the window.
package struct ReceiveStream: Sendable {
    package enum Outcome: Equatable {
        /// Seen, or no longer wanted: it may be acknowledged.
        case taken
        /// Too many pieces wait: it is as if it had not come.
        case refused
        /// Beyond the window, or behind the end.
        case violation
    }
    /// The next byte of the stream that is not in ``ready``.
    package private(set) var next: UInt64 = 0
    /// In order, and not handed on yet.
    private(set) var ready: [UInt8] = []
    private var ring: [UInt8] = []
    private var pieces = NumberRanges()
    private var length: UInt64?
    /// What the other end may send in all, and the window that leads to it.
    private(set) var granted = UInt64(FlowLimits.firstWindow)
    private(set) var window = FlowLimits.firstWindow
    private var handed: UInt64 = 0
    private var lastGrant: Instant?
    /// As much as a burst brings (``FlowHost/mostBurst``).
    private static let likely = 60_000
    package init() {}

    /// All bytes, and the end, are here.
    package var isComplete: Bool { length == next }
    /// Of a flow: memory for what waits.
    package var memory: Int { ring.count + ready.count }
    package var waitingPieces: Int { pieces.count }

    package mutating func receive(_ bytes: UnsafeRawBufferPointer, at offset: UInt64, isLast: Bool) -> Outcome {
        let end = offset + UInt64(bytes.count)
        guard end <= granted, length.map({ end <= $0 }) ?? true else { return .violation }
        if isLast {
            guard length ?? end == end, end >= next, pieces.last.map({ end >= $0.upperBound }) ?? true else {
                return .violation
            }
        }
        guard end > next else {
            if isLast { length = end }
            return .taken
        }
        if offset <= next {
            if ready.isEmpty { ready.reserveCapacity(Self.likely) }
            ready.append(contentsOf: UnsafeRawBufferPointer(rebasing: bytes[Int(next - offset)...]))
            next = end
            drain()
        } else {
            guard pieces.countInserting(offset..<end) <= FlowLimits.pieces else { return .refused }
            keep(bytes, at: offset)
            pieces.insert(offset..<end)
        }
        if isLast { length = end }
        return .taken
    }
    /// What waited and is now next.
    private mutating func drain() {
        while let first = pieces.first, first.lowerBound <= next {
            if first.upperBound > next { take(next..<first.upperBound) }
            next = max(next, first.upperBound)
            pieces.removeFirst()
        }
        if pieces.isEmpty, ring.count > 1 << 18 { ring = [] }
    }
    private mutating func take(_ range: Range<UInt64>) {
        let mask = ring.count - 1
        let (start, count) = (Int(range.lowerBound) & mask, range.count)
        let first = min(count, ring.count - start)
        ready.append(contentsOf: ring[start..<start + first])
        if first < count { ready.append(contentsOf: ring[..<(count - first)]) }
    }
    private mutating func keep(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        let span = Int(offset - next) + bytes.count
        if span > ring.count { grow(to: span) }
        let mask = ring.count - 1
        let start = Int(offset) & mask
        let first = min(bytes.count, ring.count - start)
        ring.withUnsafeMutableBytes { ring in
            ring.baseAddress!.advanced(by: start).copyMemory(from: bytes.baseAddress!, byteCount: first)
            if first < bytes.count {
                ring.baseAddress!.copyMemory(
                    from: bytes.baseAddress!.advanced(by: first), byteCount: bytes.count - first)
            }
        }
    }
    private mutating func grow(to span: Int) {
        var size = 4_096
        while size < span { size *= 2 }
        var larger = [UInt8](repeating: 0, count: size)
        for piece in pieces.ranges {
            for offset in piece { larger[Int(offset) & (size - 1)] = ring[Int(offset) & (ring.count - 1)] }
        }
        ring = larger
    }

    /// Takes what is ready; the window moves on by as much.
    package mutating func takeReady() -> [UInt8] {
        var out: [UInt8] = []
        swap(&out, &ready)
        handed += UInt64(out.count)
        return out
    }
    /// - Parameters:
    ///   - roundTrip: a window that is used up within two of these holds its sender back, and is doubled (as TCP's receive buffers are tuned).
    ///   - spare: by so much the windows of all flows may still grow.
    /// - Returns: whether there is a grant to send, and by how much the window grew.
    mutating func regrant(roundTrip: Duration, spare: Int, at now: Instant) -> (isDue: Bool, grown: Int) {
        guard length == nil, handed + UInt64(window) >= granted + UInt64(window / 2) else { return (false, 0) }
        var grown = 0
        if let lastGrant, now - lastGrant < roundTrip * 2, window * 2 <= FlowLimits.mostWindow, window <= spare {
            grown = window
            window *= 2
        }
        lastGrant = now
        granted = max(granted, handed + UInt64(window))
        return (true, grown)
    }
}
