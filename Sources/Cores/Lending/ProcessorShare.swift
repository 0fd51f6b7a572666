public import Primitives
public import Telemetry

/// What the threads of a process have had of the processors since it began, and for how long they have waited to have one.
public struct ProcessorTime: Hashable, Sendable {
    public var ran: Duration
    public var waited: Duration
    public init(ran: Duration, waited: Duration) {
        self.ran = ran
        self.waited = waited
    }
}

/// Whether other programs take the processor: of the time that this process asked for in the last minute, the part that it had.
///
/// A thread that can run either runs or waits for a processor. Threads of the lowest priority wait for as long as others want all processors, so that
/// a peer may do nothing although no limit of its owner says so. Threads that wait for each other are no such case: where they have most of the
/// processors' time, nobody takes it from them.
public struct ProcessorShare: Core, Sendable {
    /// Of the last minute.
    public struct Report: Hashable, Sendable {
        /// So long it was looked at.
        public var over: Duration
        public var ran: Duration
        public var waited: Duration
        public var asked: Duration { ran + waited }
        /// 0...1.
        public var share: Double {
            let asked = asked.inSeconds
            return asked > 0 ? min(1, max(0, ran.inSeconds / asked)) : 1
        }
    }
    private struct Look: Hashable, Sendable {
        var at: Instant
        var time: ProcessorTime
    }
    private var looks: [Look] = []
    private var effects = EffectQueue<Happening>()
    /// More than two thirds of what it asks for are taken.
    public private(set) var isTaken = false
    /// Why that is not known; nil where it is, or nobody has looked yet.
    public private(set) var unseen: String?

    private static let window = Duration.seconds(60)
    /// Less than so much that was waited for, in all, says nothing.
    private static let least = Duration.seconds(3)
    /// Of what was asked for: less begins it, as much ends it.
    private static let (begins, ends) = (1.0 / 3, 0.5)

    public init() {}

    public mutating func receive(_ reading: Reading<ProcessorTime>, processors: Int, at now: Instant) {
        switch reading {
        case .unknown(let why):
            unseen = why
            looks = []
            turn(false)
        case .value(let time):
            unseen = nil
            looks.append(Look(at: now, time: time))
            // The first one is as old as the window, or a little older.
            while looks.count > 2, now - looks[1].at >= Self.window { looks.removeFirst() }
            decide(processors)
        }
    }
    private mutating func decide(_ processors: Int) {
        guard let report else { return }
        let room = report.over.inSeconds * Double(max(1, processors))
        let isCrowdOfOwn = report.ran.inSeconds > room / 2
        if isTaken {
            turn(!isCrowdOfOwn && report.share < Self.ends && report.waited >= Self.least)
        } else {
            turn(!isCrowdOfOwn && report.share < Self.begins && report.waited >= Self.least)
        }
    }
    private mutating func turn(_ isTaken: Bool) {
        guard isTaken != self.isTaken else { return }
        self.isTaken = isTaken
        effects.push(isTaken ? .processorTaken(percent: (report?.share ?? 0) * 100) : .processorBack)
    }

    /// Nil before there were two looks.
    public var report: Report? {
        guard let first = looks.first, let last = looks.last, last.at > first.at else { return nil }
        return Report(
            over: last.at - first.at, ran: max(.zero, last.time.ran - first.time.ran),
            waited: max(.zero, last.time.waited - first.time.waited))
    }
    public mutating func poll() -> Happening? { effects.pop() }
    /// It is told, once in a while.
    public mutating func wake(at now: Instant) {}
    public var nextWake: Instant? { nil }
}
