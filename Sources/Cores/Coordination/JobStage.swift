public import Primitives

/// Where a job is. It only ever goes forward.
public enum JobStage: Hashable, Sendable {
    /// Peers come.
    case gathering(since: Instant, saidWaiting: Instant)
    /// The text spreads among members.
    case sharing(since: Instant)
    /// Links are measured for the first plan.
    case surveying
    /// The first plan is searched for.
    case planning
    /// - trainingSince: when the first round began; nil until somebody has finished one's work.
    case running(trainingSince: Instant?)
    /// The final weights come in.
    case collecting
    /// The last entry is on its way to the disk and to members.
    case closing(until: Instant)
    case ended(at: Instant)

    private var place: Int {
        switch self {
        case .gathering: 0
        case .sharing: 1
        case .surveying: 2
        case .planning: 3
        case .running: 4
        case .collecting: 5
        case .closing: 6
        case .ended: 7
        }
    }
    mutating func go(to next: JobStage) {
        precondition(next.place >= place, "a job goes from \(self) to \(next)")
        self = next
    }
    public var isEnded: Bool { if case .ended = self { true } else { false } }
    /// Work is under way, or its result is fetched.
    var hasPlan: Bool { place >= 4 }
    var isRunning: Bool { place == 4 }
    /// For people: as the reports say it.
    public var word: String {
        switch self {
        case .gathering: "gathering"
        case .sharing: "sharing"
        case .surveying: "probing"
        case .planning: "planning"
        case .running(let since): since == nil ? "preparing" : "training"
        case .collecting, .closing: "collecting"
        case .ended: "ended"
        }
    }
}
