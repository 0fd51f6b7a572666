import Primitives

/// How fast the engine is: work of which a little warms it up, then more and more until it lasts long enough to be timed.
package struct Benchmark: Sendable {
    /// FLOPs of the first measurement.
    package static let flops = 4e8
    /// A measurement shorter than this says little: a turn of the scheduler is in it.
    package static let leastTime = Duration.milliseconds(100)
    /// In a job, where a plan rests on it: with the scheduler's turns, and whatever else this machine does at the time, in it.
    package static let rehearsalTime = Duration.milliseconds(500)
    /// Nobody waits for more than this.
    private static let mostFLOPs = 1e12

    private let least: Duration
    private var isWarm = false
    /// What is to be done next, or is under way; nil when it is over.
    package private(set) var work: Double? = Benchmark.flops / 8
    /// FLOP/s.
    package private(set) var speed: Double?

    package init(least: Duration = leastTime) { self.least = least }

    /// - Returns: whether there is more to do.
    package mutating func finished(in time: Duration) -> Bool {
        guard let done = work else { return false }
        guard isWarm else {
            isWarm = true
            work = Self.flops
            return true
        }
        if time < least, done < Self.mostFLOPs {
            // As much as should last long enough, at most eight times as much as before.
            let wanted = done * least.inSeconds / max(time.inSeconds, 1e-9) * 1.25
            work = min(max(wanted, 2 * done), 8 * done, Self.mostFLOPs)
            return true
        }
        speed = min(max(done / max(time.inSeconds, 1e-9), 1e3), 1e18)
        work = nil
        return false
    }
}
