import Primitives

/// The longest that any member was silent lately, between two signs of life: members say something every second, and what a line or a busy machine
/// adds to that differs from pool to pool. A silence well beyond it says that somebody is gone or asleep (after the failure detectors of Hayashibara
/// et al. 2004, which learn from arrivals what silence means).
struct HeardGaps: Equatable {
    /// What is looked back on: so many spans of so long.
    private static let spans = 8
    private static let span = Duration.seconds(10)

    private var began: Instant?
    private var current = Duration.zero
    private var past: [Duration] = []

    /// Nil before a whole span was seen.
    var longest: Duration? { past.max().map { max($0, current) } }

    mutating func heard(after gap: Duration, at now: Instant) {
        guard let began else {
            self.began = now
            return
        }
        current = max(current, gap)
        guard now - began >= Self.span else { return }
        past = past.suffix(Self.spans - 1) + [current]
        (self.began, current) = (now, .zero)
    }
}
