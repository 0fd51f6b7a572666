import Primitives

/// How fast the engine is: work of which a little warms it up, then more and more until a piece lasts long enough to be timed; and that as
/// often as is asked for, because whatever else the machine does for a moment is in one piece and not in the others.
package struct Benchmark: Sendable {
    /// FLOPs of the first measurement.
    package static let flops = 4e8
    /// A measurement shorter than this says little: a turn of the scheduler is in it.
    package static let leastTime = Duration.milliseconds(100)
    /// In a job, where a plan rests on it: so many pieces, unless they take longer than this together.
    package static let rehearsalPieces = 9
    package static let rehearsalTime = Duration.seconds(3)
    private static let longWarmUp = Duration.seconds(1)
    /// Nobody waits for more than this.
    private static let mostFLOPs = 1e12

    /// How many pieces are to be timed, and what the first of them is.
    private let pieces: Int
    private let first: Double
    private var isWarm = false
    /// Of pieces that lasted long enough: FLOP/s.
    private var speeds: [Double] = []
    private var spent = Duration.zero
    /// What is to be done next, or is under way; nil when it is over.
    package private(set) var work: Double?
    /// FLOP/s: the median of the pieces.
    package private(set) var speed: Double?

    /// - Parameter speed: where it is known about how fast the engine is, FLOP/s.
    package init(pieces: Int = 1, speed: Double? = nil) {
        self.pieces = max(1, pieces)
        first = speed.map { max(1, $0 * Self.leastTime.inSeconds) } ?? Self.flops
        work = first / 8
    }

    /// - Returns: whether there is more to do.
    package mutating func finished(in time: Duration) -> Bool {
        guard let done = work else { return false }
        guard isWarm else {
            isWarm = true
            // Who needs so long to get warm is not asked for eight times as much.
            work = time > Self.longWarmUp ? max(1, done * (Self.leastTime / time) * 1.25) : first
            return true
        }
        if time < Self.leastTime, done < Self.mostFLOPs {
            // As much as should last long enough, at most eight times as much as before.
            let wanted = done * Self.leastTime.inSeconds / max(time.inSeconds, 1e-9) * 1.25
            // Pieces that others have slowed down were too small; those before a slower one are about right.
            guard speeds.isEmpty || wanted > 2 * done else { return timed(done, time) }
            work = min(max(wanted, 2 * done), 8 * done, Self.mostFLOPs)
            return true
        }
        return timed(done, time)
    }
    private mutating func timed(_ done: Double, _ time: Duration) -> Bool {
        speeds.append(min(max(done / max(time.inSeconds, 1e-9), 1e3), 1e18))
        spent += time
        guard speeds.count >= pieces || spent >= Self.rehearsalTime || done >= Self.mostFLOPs else { return true }
        speed = speeds.sorted()[speeds.count / 2]
        work = nil
        return false
    }
}
