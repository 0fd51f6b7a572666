import Primitives

/// How much a sender keeps under way on a circuit: enough to fill it, and little more, because what waits at the relay cannot be overtaken.
///
/// Every credit says how long its bytes took, there and back. The least of that is the way; what is above it is waiting. Below a limit of
/// waiting the window grows, doubling at first; above it shrinks, once a round trip.
struct CircuitWindow: Sendable {
    private(set) var bytes = 32_768
    private var sent: UInt64 = 0
    private var taken: UInt64 = 0
    /// When the byte at an offset left; one mark a message.
    private var marks: [(offset: UInt64, at: Instant)] = []
    private var least: Duration?
    private var isDoubling = true
    private var nextChange = Instant(nanoseconds: .min / 4)

    private static let waitingMost = Duration.milliseconds(60)
    private static let least = 16_384

    var underWay: Int { Int(sent - taken) }
    var room: Int { max(0, bytes - underWay) }

    mutating func send(_ count: Int, at now: Instant) {
        sent += UInt64(count)
        marks.append((sent, now))
    }
    /// - Returns: false when more was taken than was sent.
    mutating func credit(_ count: Int, at now: Instant) -> Bool {
        guard count > 0, count <= underWay else { return false }
        taken += UInt64(count)
        var newest: Instant?
        while let first = marks.first, first.offset <= taken {
            newest = first.at
            marks.removeFirst()
        }
        guard let newest else { return true }
        let took = now - newest
        least = min(least ?? took, took)
        let waiting = took - least!
        if isDoubling, waiting * 2 <= Self.waitingMost {
            bytes = min(RelayLimits.window, bytes + count)
        } else if now >= nextChange {
            isDoubling = false
            nextChange = now + took
            let change = waiting > Self.waitingMost * 3 ? 0.7 : waiting > Self.waitingMost ? 0.9 : 1.125
            bytes = min(RelayLimits.window, max(Self.least, Int(Double(bytes) * change)))
        }
        return true
    }
}
