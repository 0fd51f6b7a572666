import Primitives

/// When something that lies with others is given to them again: after 2 s, 10 s and a minute, because a network that is
/// just forming changes under one's feet; then every quarter of an hour, jittered; and soon after somebody new has become
/// one of the closest.
struct Renewal {
    private(set) var next: Instant?
    private(set) var request: RequestID?
    private var rounds = 0
    private var began: Instant?
    private var neighbours: [NodeID] = []
    /// A newcomer was seen while a round was running.
    private var isDirty = false

    static let early: [Duration] = [.seconds(2), .seconds(10), .seconds(60)]
    static let steady = Duration.seconds(900)
    /// Between two rounds that newcomers cause.
    static let pause = Duration.seconds(1)

    init(at now: Instant) { next = now }

    func isDue(_ now: Instant) -> Bool { request == nil && next.map { $0 <= now } ?? false }

    mutating func begin(_ request: RequestID, _ neighbours: [NodeID], at now: Instant) {
        self.request = request
        self.neighbours = neighbours
        began = now
        next = nil
        isDirty = false
    }

    /// - Parameter jitter: uniform in [0, 1).
    mutating func end(_ replicas: Int, jitter: Double, at now: Instant) {
        request = nil
        if replicas == 0 {
            next = now + .seconds(1) + .milliseconds(Int64(jitter * 1000))
            return
        }
        let rest = rounds < Self.early.count ? Self.early[rounds] : Self.steady
        rounds += 1
        next = now + .nanoseconds(Int64(Double(rest.wholeNanoseconds) * (0.8 + 0.4 * jitter)))
        if isDirty { hurry(at: now) }
    }

    /// Looks whether the neighbourhood has somebody who was not there in the last round.
    mutating func look(_ current: [NodeID], at now: Instant) {
        guard began != nil, current.contains(where: { !neighbours.contains($0) }) else { return }
        if request == nil { hurry(at: now) } else { isDirty = true }
    }

    mutating func hurry(at now: Instant) {
        guard request == nil else {
            isDirty = true
            return
        }
        let soon = max(now, (began ?? now - Self.pause) + Self.pause)
        next = min(next ?? soon, soon)
    }
}
