public import Primitives

/// Where a job is. It only ever goes forward, but that it gathers anew when all have left before there is a plan, and trains again when what it
/// came to was lost with whoever held it.
public enum JobStage: Hashable, Sendable {
    /// Peers come.
    case gathering(since: Instant, saidWaiting: Instant)
    /// The text spreads among members.
    case sharing(since: Instant)
    /// Links are measured for the first plan.
    case surveying
    /// The first plan is searched for.
    case planning
    /// The first round is under way, and nobody has finished its work on it.
    case preparing
    case training
    /// The final weights come in.
    case collecting
    /// How it ends is decided; the last entry is on its way to the disk and to members.
    case closing(JobEnd, until: Instant)
    case ended(at: Instant)

    private var place: Int {
        switch self {
        case .gathering: 0
        case .sharing: 1
        case .surveying: 2
        case .planning: 3
        case .preparing: 4
        case .training: 5
        case .collecting: 6
        case .closing: 7
        case .ended: 8
        }
    }
    package mutating func go(to next: JobStage) {
        precondition(next.place >= place || next.place == 0 && !hasPlan, "a job goes from \(self) to \(next)")
        self = next
    }
    package mutating func trainsAgain() {
        precondition(self == .collecting, "a job trains again from \(self)")
        self = .preparing
    }
    /// Nobody could be heard for so long, or this process slept: peers have as long to come as if that time had not been.
    package mutating func excuse(_ pause: Duration, at now: Instant) {
        switch self {
        case .gathering(let since, let said): self = .gathering(since: min(since + pause, now), saidWaiting: said)
        case .sharing(let since): self = .sharing(since: min(since + pause, now))
        case .surveying, .planning, .preparing, .training, .collecting, .closing, .ended: break
        }
    }
    public var isEnded: Bool { if case .ended = self { true } else { false } }
    /// How it ends is decided.
    package var isDecided: Bool { place >= 7 }
    /// Work is under way, or its result is fetched.
    package var hasPlan: Bool { place >= 4 }
    /// Members have the text.
    package var isPastSharing: Bool { place >= 2 && place < 7 }
    package var isRunning: Bool { self == .preparing || self == .training }
    /// For people: as the reports say it.
    public var word: String {
        switch self {
        case .gathering: "gathering"
        case .sharing: "sharing"
        case .surveying: "probing"
        case .planning: "planning"
        case .preparing: "preparing"
        case .training: "training"
        case .collecting, .closing: "collecting"
        case .ended: "ended"
        }
    }
}
