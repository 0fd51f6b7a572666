/// The bytes of a stream on their way out: what was not sent yet, what was lost, what still waits to be acknowledged.
struct SendStream: Sendable {
    /// From offset ``base`` on; `head` bytes at the front are already acknowledged.
    private var buffer: [UInt8] = []
    private var head = 0
    /// All before it was acknowledged.
    private(set) var base: UInt64 = 0
    /// The next byte that was never sent.
    private(set) var next: UInt64 = 0
    /// The other end lets us send to here.
    private(set) var limit: UInt64 = UInt64(FlowLimits.firstWindow)
    private var acknowledged = NumberRanges()
    private var lost = NumberRanges()
    private enum End { case open, wanted, sent, acknowledged }
    private var end = End.open

    struct Piece: Hashable, Sendable {
        var offset: UInt64
        var count: Int
        /// The stream ends behind it.
        var isLast: Bool
        var range: Range<UInt64> { offset..<offset + UInt64(count) }
    }

    /// Everything that was written.
    var written: UInt64 { base + UInt64(buffer.count - head) }
    /// Not sent yet.
    var unsent: Int { Int(written - next) }
    /// Sent and perhaps not there.
    var unacknowledged: Int { mutating get { Int(next - base) } }
    /// Everything, and the end, has arrived.
    var isFinished: Bool { mutating get { end == .acknowledged && base == written } }
    var isOpen: Bool { mutating get { end == .open } }

    mutating func write(_ bytes: some Collection<UInt8>) {
        precondition(end == .open, "written behind the end of a stream")
        buffer.append(contentsOf: bytes)
    }
    mutating func finish() { if end == .open { end = .wanted } }
    mutating func grant(_ limit: UInt64) { self.limit = max(self.limit, limit) }

    /// Whether a packet has anything to carry.
    var hasPiece: Bool {
        mutating get {
            let isAllSent = base + UInt64(buffer.count - head) == next
            return !lost.isEmpty || (isAllSent ? end == .wanted : next < limit)
        }
    }
    /// The next piece of at most `most` bytes: what was lost goes first.
    mutating func take(_ most: Int) -> Piece? {
        if let first = lost.first {
            let upper = min(first.upperBound, first.lowerBound + UInt64(most))
            lost.remove(first.lowerBound..<upper)
            return piece(first.lowerBound..<upper)
        }
        let upper = min(written, limit, next + UInt64(most))
        if upper > next {
            defer { next = upper }
            return piece(next..<upper)
        }
        return end == .wanted && unsent == 0 ? piece(next..<next) : nil
    }
    private mutating func piece(_ range: Range<UInt64>) -> Piece {
        let isLast = end != .open && range.upperBound == written
        if isLast, end == .wanted { end = .sent }
        return Piece(offset: range.lowerBound, count: range.count, isLast: isLast)
    }
    /// The bytes of a piece that is not acknowledged.
    mutating func copy(_ piece: Piece, to bytes: inout [UInt8]) {
        let start = head + Int(piece.offset - base)
        buffer.withUnsafeBufferPointer {
            bytes.append(contentsOf: UnsafeBufferPointer(rebasing: $0[start..<start + piece.count]))
        }
    }
    /// The oldest bytes that were sent and not acknowledged, once more.
    mutating func takeOldest(_ most: Int) -> Piece? {
        let start = base
        let upper = min(next, acknowledged.first?.lowerBound ?? next, start + UInt64(most))
        guard upper > start || (end == .sent && next == start) else { return nil }
        lost.remove(start..<upper)
        if upper == written, end == .sent { end = .wanted }
        return piece(start..<upper)
    }

    mutating func acknowledge(_ piece: Piece) {
        if piece.isLast { end = .acknowledged }
        guard piece.count > 0, piece.range.upperBound > base else { return }
        lost.remove(piece.range)
        acknowledged.insert(max(piece.offset, base)..<piece.range.upperBound)
        guard let first = acknowledged.first, first.lowerBound <= base else { return }
        head += Int(first.upperBound - base)
        base = first.upperBound
        acknowledged.removeFirst()
        lost.remove(below: base)
        if head == buffer.count {
            buffer.removeAll(keepingCapacity: buffer.capacity <= 1 << 20)
            head = 0
        } else if head > 65_536, head * 2 > buffer.count {
            buffer.removeFirst(head)
            head = 0
        }
    }
    mutating func lose(_ piece: Piece) {
        if piece.isLast, end == .sent { end = .wanted }
        guard piece.range.upperBound > base else { return }
        var gone = NumberRanges()
        gone.insert(max(piece.offset, base)..<piece.range.upperBound)
        for range in acknowledged.ranges where range.overlaps(piece.range) { gone.remove(range) }
        for range in gone.ranges { lost.insert(range) }
    }
}
