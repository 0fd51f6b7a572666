public import Primitives

/// How long somebody was here, of the time since it came first.
public struct Attendance: Hashable, Sendable {
    private var here = Duration.zero
    private var away = Duration.zero
    private var since: Instant?
    private var isHere = false
    package init() {}

    package mutating func turn(isHere: Bool, at now: Instant) {
        // Before it comes first it is not away.
        guard isHere || since != nil else { return }
        (here, away) = spans(at: now)
        (self.isHere, since) = (isHere, now)
    }
    private func spans(at now: Instant) -> (here: Duration, away: Duration) {
        let last = since.map { max(.zero, now - $0) } ?? .zero
        return isHere ? (here + last, away) : (here, away + last)
    }
    /// Time that was seen of it, and the share in which it was here.
    package func seen(at now: Instant) -> (time: Duration, share: Double) {
        let (here, away) = spans(at: now)
        let all = (here + away).inSeconds
        return (here + away, all > 0 ? here.inSeconds / all : 1)
    }
}
