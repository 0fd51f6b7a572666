import Primitives

/// Smoothed round-trip time and its mean deviation (Jacobson & Karels 1988; RFC 6298), in microseconds.
/// Eight bytes, because every contact has one.
struct RoundTrip: Hashable, Sendable {
    private var smoothed: UInt32 = 0
    private var deviation: UInt32 = 0

    /// Whether anything was measured yet.
    var isKnown: Bool { smoothed != 0 }
    var estimate: Duration { .microseconds(Int64(smoothed)) }

    mutating func measure(_ sample: Duration) {
        let micros = UInt32(clamping: max(1, sample.wholeNanoseconds / 1000))
        guard isKnown else {
            smoothed = micros
            deviation = micros / 2
            return
        }
        let error = micros > smoothed ? micros - smoothed : smoothed - micros
        deviation = UInt32((UInt64(deviation) * 3 + UInt64(error)) / 4)
        smoothed = max(1, UInt32((UInt64(smoothed) * 7 + UInt64(micros)) / 8))
    }

    /// The estimate and four deviations, kept between `floor` and `ceiling`; nil before the first measurement.
    func timeout(floor: Duration, ceiling: Duration) -> Duration? {
        guard isKnown else { return nil }
        return min(ceiling, max(floor, .microseconds(Int64(smoothed) + 4 * Int64(deviation))))
    }
}
