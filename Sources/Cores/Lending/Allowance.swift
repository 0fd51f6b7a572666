public import Primitives

/// Why a peer does not work now.
public enum LimitSense: String, CaseIterable, Codable, Sendable {
    case owner, battery, user, heat, load, metered, hours, quota

    /// Whether the machine is wanted back at once; else a round may end first.
    var isUrgent: Bool { self != .hours && self != .quota }
    /// The limit that it comes from.
    public var key: LimitKey? {
        switch self {
        case .owner: nil
        case .battery: .onBattery
        case .user: .userActive
        case .heat: .temperature
        case .load: .othersLoad
        case .metered: .metered
        case .hours: .hours
        case .quota: .monthly
        }
    }
}

/// What a peer may do at the moment, and why not more.
public struct Allowance: Hashable, Sendable {
    public enum Mode: String, Codable, Sendable {
        case work
        /// Nothing is computed; the job is kept, for it may be over in a moment.
        case hold
        /// It leaves its job where the next round begins.
        case drain
        /// It has no job and takes none.
        case away
    }
    public struct Reason: Hashable, Sendable {
        public var sense: LimitSense
        /// A clause: “this machine runs on its battery”.
        public var why: String
        public var since: Instant
        /// When it ends, where that is known.
        public var until: String?
    }
    public struct Unseen: Hashable, Sendable {
        public var sense: LimitSense
        public var why: String
        /// What is done without it, as a clause.
        public var instead: String
    }
    public var mode = Mode.work
    /// The first one is the one to be told.
    public var reasons: [Reason] = []
    public var unseen: [Unseen] = []
    /// 0...1 of the time.
    public var cpuShare = 1.0
    /// Only when nothing else wants the processor.
    public var isLowestPriority = true
    public var upload: BitRate?
    public var download: BitRate?
    public init() {}
    public var isComputing: Bool { mode == .work || mode == .drain }
}
