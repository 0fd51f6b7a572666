import Primitives

/// When the parts of bursts came in one turn.
package struct BurstMeter: Sendable {
    package struct Pace: Hashable, Sendable {
        package var bytes: Int
        package var nanoseconds: Int64
    }
    private struct Part: Sendable {
        var sender: PeerID
        var at: Instant
        var bytes: Int
    }
    private var parts: [Part] = []
    private var left: [PeerID: Int] = [:]
    package static let mostParts = 16_384
    /// What comes within this time of each other came at once: a reader that looks now and then.
    package static let grain = Duration.microseconds(500)

    package mutating func add(_ bytes: Int, of count: Int, from sender: PeerID, at now: Instant) {
        guard count >= 2, count <= 4096, parts.count < Self.mostParts,
            left[sender] != nil || left.count < 64, left[sender] != 0
        else { return }
        left[sender] = (left[sender] ?? count) - 1
        parts.append(Part(sender: sender, at: now, bytes: bytes))
    }
    package func isComplete(_ sender: PeerID) -> Bool { left[sender] == 0 }

    /// Of one burst, without a slow start: in its second half, if that is faster than the whole. Nil when less than two parts came.
    package func pace(from sender: PeerID) -> Pace? {
        let marks = Self.marks(of: parts.filter { $0.sender == sender })
        guard let first = marks.first?.at, let last = marks.last?.at, last > first else { return nil }
        let whole = Self.pace(marks, first, last)
        return Self.faster(whole, Self.pace(marks, marks[marks.count / 2].at, last))
    }
    /// Of all who send: while they all do, if that is faster than from the first part to the last.
    package var paceTogether: Pace? {
        let marks = Self.marks(of: parts)
        guard let first = marks.first?.at, let last = marks.last?.at else { return nil }
        var spans: [PeerID: (first: Instant, last: Instant)] = [:]
        for part in parts { spans[part.sender, default: (part.at, part.at)].last = part.at }
        let (begin, end) = (spans.values.map(\.first).max()!, spans.values.map(\.last).min()!)
        return Self.faster(Self.pace(marks, first, last), Self.pace(marks, begin, end))
    }

    private typealias Mark = (at: Instant, bytes: Int)
    /// Parts that came at once are one.
    private static func marks(of parts: [Part]) -> [Mark] {
        var marks: [Mark] = []
        var began = Instant.zero
        for part in parts {
            if let last = marks.indices.last, part.at - began < grain {
                marks[last] = (part.at, marks[last].bytes + part.bytes)
            } else {
                marks.append((part.at, part.bytes))
                began = part.at
            }
        }
        return marks.count < 4 ? parts.map { ($0.at, $0.bytes) } : marks
    }
    /// Of what came after `begin`, until `end`; nil when that is nothing.
    private static func pace(_ marks: [Mark], _ begin: Instant, _ end: Instant) -> Pace? {
        let bytes = marks.reduce(0) { $1.at > begin && $1.at <= end ? $0 + $1.bytes : $0 }
        return bytes > 0 ? Pace(bytes: bytes, nanoseconds: (end - begin).wholeNanoseconds) : nil
    }
    private static func faster(_ a: Pace?, _ b: Pace?) -> Pace? {
        guard let a, let b else { return a ?? b }
        return Double(a.bytes) * Double(b.nanoseconds) >= Double(b.bytes) * Double(a.nanoseconds) ? a : b
    }
}
