public import Primitives

/// A job as its events tell it: the one fold that terminal, report, replay and whatever comes later are views of.
///
/// Pure: the same events give the same view. It decides nothing, and it takes events in whatever order they come; what it cannot
/// place it counts. Memory is bounded: of rounds, losses, checkpoints and the story the last ones are kept, with a count of the rest,
/// and of members so many; a report asks for more with ``Limits``.
public struct JobView: Hashable, Sendable {
    /// How much is kept.
    public struct Limits: Hashable, Sendable {
        public var rounds = 256
        public var losses = 64
        public var checkpoints = 16
        public var story = 256
        public var members = 1024
        public init() {}
        /// Every round, for a report; of all else enough for any honest run.
        public static var report: Limits {
            var limits = Limits()
            limits.rounds = .max
            limits.losses = 4096
            limits.checkpoints = 4096
            limits.story = 16_384
            return limits
        }
    }

    public let limits: Limits
    /// Moment of the newest event.
    public private(set) var now = Instant.zero
    /// The job's ID and its run's nonce, as far as they were told.
    public internal(set) var job = ""
    public internal(set) var nonce = ""
    public internal(set) var stage = Stage.idle
    public internal(set) var roster: MemberList
    public internal(set) var plan: Plan?
    public internal(set) var progress = Progress()
    public internal(set) var rounds: Recent<Round>
    /// From seal to seal, of all rounds that were sealed.
    public internal(set) var roundSeconds = Histogram(
        bounds: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600])
    /// Of training, over the whole job.
    public internal(set) var lossCurve = Thinned()
    public internal(set) var losses: Recent<Loss>
    /// Whom the job waits for, while it does.
    public internal(set) var waiting: Waiting?
    public internal(set) var checkpoints: Recent<Checkpoint>
    /// What somebody will want to read afterwards (``Happening/isStory``), with the host that told it.
    public internal(set) var story: Recent<Told>
    /// All events, by case.
    public private(set) var counts: [Happening.Name: Int] = [:]
    var pace = Pace()

    public init(limits: Limits = Limits()) {
        self.limits = limits
        roster = MemberList(limit: limits.members)
        rounds = Recent(limit: limits.rounds)
        losses = Recent(limit: limits.losses)
        checkpoints = Recent(limit: limits.checkpoints)
        story = Recent(limit: limits.story)
    }

    /// Folds one event in.
    /// - Parameter host: who told it; empty where there is one process only, or for the coordinator's.
    public mutating func apply(_ event: Event, from host: String = "") {
        now = max(now, event.at)
        counts[event.what.name, default: 0] += 1
        if event.what.isStory { story.append(Told(host: host, event: event)) }
        switch event.what.section {
        case .gathering: gather(event)
        case .rounds: seal(event)
        case .states: collect(event)
        case .recovery: recover(event)
        case .drivers: drive(event)
        case .record: keepRecord(event)
        case .peer, .member: hear(event, from: host)
        case .overlay: break
        }
    }

    public func count(_ name: Happening.Name) -> Int { counts[name] ?? 0 }
    public var members: [Member] { roster.members }

    // MARK: figures

    /// Undisturbed rounds that count for what is usual: the last eight, without the job's first; all of the last eight where every
    /// one was disturbed. Of the plan in force, where it has sealed any: what one before took says nothing of it.
    private var usualRounds: [Round] {
        // How long rounds took that were sealed before anybody looked is not known.
        var sealed = rounds.items.suffix(64).filter { !$0.isUndone && $0.seconds > 0 }
        let own = sealed.filter { $0.planEpoch == plan?.epoch && $0.steps > 0 }
        if !own.isEmpty { sealed = own }
        let calm = sealed.filter { $0.isUndisturbed && $0.steps > 0 }.suffix(8)
        return Array(calm.isEmpty ? sealed.filter { $0.steps > 0 }.suffix(8) : calm)
    }
    /// Median seconds of a step, from seal to seal; before any seal, as predicted.
    public var stepSeconds: Double? {
        let seconds = usualRounds.map { $0.seconds / Double($0.steps) }.sorted()
        return seconds.isEmpty ? plan?.stepSeconds : seconds[seconds.count / 2]
    }
    /// Steps of the job: as told once a second, else what the prediction amounts to.
    public var stepsTotal: Int? {
        if progress.stepsTotal > 0 { return progress.stepsTotal }
        return pace.stepsPlanned
    }
    /// Until the last seal, as things go.
    /// - Parameter now: what has passed since the last seal counts; never below 0.
    public func secondsLeft(at now: Instant) -> Double? {
        guard stage == .training || stage == .preparing, let total = stepsTotal, let step = stepSeconds else {
            return nil
        }
        let since = rounds.last.map { max(0, (now - $0.at).inSeconds) } ?? 0
        let left = max(0, Double(total) - Double(pace.stepsSealed)) * step
        return left.isFinite ? max(0, left - since) : nil
    }
    /// Tokens a second since training began.
    public var tokensPerSecond: Double { progress.tokensPerSecond }
    /// When the first round that is kept began.
    public var trainingSince: Instant? { pace.trainingSince }
}
