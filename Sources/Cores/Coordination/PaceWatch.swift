import Primitives

/// Whether rounds take what was predicted, apart from what peers' speeds explain.
///
/// When the median of the last ``window`` undisturbed rounds is ``tolerance`` away from what is usual, either way, it is time to
/// look at the links. What is usual is the prediction at first, and after each alarm what the next rounds turn out to take: a
/// model that is off for good raises the alarm once.
package struct PaceWatch: Sendable {
    package static let window = 6
    package static let tolerance = 1.4

    /// Rounds of some milliseconds differ by more than that all the time: between two alarms there is at least this.
    package static let pause = Duration.seconds(5)

    private var usual: Double? = 1
    private var alarmed: Instant?
    private var ratios: [Double] = []

    package init() {}

    /// - Parameter ratio: seconds measured over seconds predicted.
    /// - Returns: the median ratio, when it is time to measure.
    package mutating func sealed(_ ratio: Double, at now: Instant) -> Double? {
        guard ratio.isFinite, ratio > 0 else { return nil }
        ratios.append(ratio)
        guard ratios.count >= Self.window else { return nil }
        if ratios.count > Self.window { ratios.removeFirst() }
        let median = ratios.sorted()[Self.window / 2]
        guard let before = usual else {
            usual = median
            ratios = []
            return nil
        }
        guard max(median, before) / min(median, before) > Self.tolerance else { return nil }
        usual = nil
        ratios = []
        if let alarmed, now - alarmed < Self.pause { return nil }
        alarmed = now
        return median
    }
    /// Something else explains the last rounds.
    package mutating func forgive() { ratios = [] }
}
