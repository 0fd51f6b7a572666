public import Flows
internal import Primitives

/// The owner's own upload on a simulated line: TCP with CUBIC (RFC 9438), as far as its window goes. Packets and acknowledgements are the world's.
struct OwnerUpload: Sendable {
    static let packetBytes = 1_500
    static let textBytes = 1_448
    private(set) var window = 10.0
    private var threshold = Double.infinity
    private var most = 0.0
    private var epoch: Instant?
    private var next = 0
    /// Sent and not acknowledged, ascending.
    private var flight: [(number: Int, at: Instant)] = []
    private var recoverUntil = -1
    private var roundTrip: Duration = .milliseconds(100)
    private(set) var delivered = 0
    private(set) var lastAck = Instant.zero

    /// The number of the next packet, while the window has room for it.
    mutating func send(at now: Instant) -> Int? {
        if let first = flight.first, now - max(first.at, lastAck) > .seconds(1) {
            // A timeout (RFC 6298).
            flight = []
            (window, threshold, epoch) = (2, max(2, window / 2), nil)
        }
        guard flight.count < Int(window) else { return nil }
        flight.append((next, now))
        next += 1
        return next - 1
    }
    mutating func acknowledged(_ number: Int, at now: Instant) {
        lastAck = now
        delivered += Self.textBytes
        guard let place = flight.firstIndex(where: { $0.number == number }) else { return }
        roundTrip = roundTrip * 7 / 8 + (now - flight[place].at) / 8
        flight.remove(at: place)
        let lost = flight.prefix { $0.number + 3 <= number }
        if let first = lost.first {
            flight.removeFirst(lost.count)
            if first.number > recoverUntil { cut() }
        }
        grow(at: now)
    }
    private mutating func cut() {
        recoverUntil = next - 1
        most = window < most ? window * 0.85 : window
        window = max(2, window * 0.7)
        threshold = window
        epoch = nil
    }
    private mutating func grow(at now: Instant) {
        if window < threshold {
            window += 1
            return
        }
        let start = epoch ?? now
        epoch = start
        most = max(most, window)
        let k = Self.cubeRoot(most * 0.3 / 0.4)
        let x = (now + roundTrip - start).inSeconds - k
        let target = min(max(0.4 * x * x * x + most, window), 1.5 * window)
        window += (target - window) / window
    }
    private static func cubeRoot(_ value: Double) -> Double {
        var root = max(value, 1e-6)
        for _ in 0..<40 { root -= (root * root * root - value) / (3 * root * root) }
        return root
    }
}
