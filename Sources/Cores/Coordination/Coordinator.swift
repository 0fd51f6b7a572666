public import Content
import Digests
public import Messages
public import Planning
public import Primitives
public import Record
public import Telemetry
public import Training
public import Wire

/// The leader of a job: gathers peers, has lines measured, asks for plans, writes the log, seals rounds, recovers, collects.
///
/// It consists of small machines that know nothing of each other: ``Roster`` (who is there), `LineBook` (their lines), `PlanningDesk`
/// (questions to the planner), ``RoundDesk`` (the round in progress), `Agreement` (what holders say they hold), `Collection` (states on
/// their way here). After every input it *settles*: it computes what is needed next, applies that one thing, and computes anew, until
/// nothing is left to do. What it decides is an entry of the record, proposed in one place (``propose(_:)``); what it knows besides only
/// informs those decisions.
public struct Coordinator: Core, Sendable {
    public typealias Effect = CoordinatorEffect

    let key: SigningKey
    let options: CoordinatorOptions
    /// Fences the commands of other leaders of this job.
    public let term: Int
    var text: ContentShelf
    public internal(set) var record: Record
    public internal(set) var roster: Roster
    var lines = LineBook()
    var speeds = SpeedWatch()
    var desk = PlanningDesk()
    public internal(set) var round: RoundDesk
    var agreement = Agreement()
    public internal(set) var books = Books()
    var collection: Collection?
    var checkpoint = Checkpoint()
    var disk = Disks()
    public internal(set) var stage: JobStage
    var timers: Timers
    var effects = EffectQueue<CoordinatorEffect>()
    var now: Instant

    /// What could not be stored of the log, of receipts, and of certificates.
    struct Disks: Sendable {
        var log = DiskWatch()
        var receipts = DiskWatch()
        var certificate = DiskWatch()
        var retryAt: Instant? { earliest(log.retryAt, receipts.retryAt) }
    }
    /// Moments of its own, and what is to be said at them.
    struct Timers: Sendable {
        let wall: WallClock
        /// When the first round began.
        var trainingSince: Instant?
        /// Sealed before this process began to train.
        var tokensBefore = 0
        var nextLease: Instant
        /// After a loss: since when, how far the furthest was, and the log with the loss in it.
        var lossAwaitingResume: (at: Instant, step: Int, entries: Int)?
        /// How much of the log has a certificate on disk, and when it is next looked at.
        var certified: (size: Int, next: Instant)
        /// Since when nobody at all is heard.
        var isolatedSince: Instant?
        /// Whose processor other programs take.
        var starved = StarvedPeers()
        /// Nothing can go on with who is here.
        var standstill: Standstill?
        /// When members were told last that some are somewhere else.
        var movesTold: Instant?
        /// The result is here, and on its way to the disk; of that round.
        var resultOnItsWay: Int?
        /// Where several electors carry the record.
        var seats: ElectorSeats?
        /// For people who look.
        var steps = StepWatch()
    }

    /// - Parameters:
    ///   - initial: the units that the job begins with, where the manifest names them.
    ///   - nonce: 32 random bytes, so that no two runs are one job.
    ///   - parse: reads the manifest.
    public init(
        key: SigningKey, manifest: String, content: StoredBytes, initial: [UnitState] = [], nonce: [UInt8],
        options: CoordinatorOptions, wall: WallClock, at now: Instant, parse: Record.Parser
    ) throws(MalformedBytes) {
        var text = ContentShelf()
        guard let id = text.put(content, at: now) else { throw MalformedBytes("the text cannot be read any more") }
        let genesis = Genesis(
            manifest: manifest, electors: [key.peerID], content: id, contentBytes: content.count, nonce: nonce,
            lease: options.lease, silence: options.silence)
        let record = try Record(genesis: Record.sign(genesis, by: key), parse: parse)
        self.init(record, text, key: key, term: 1, options: options, wall: wall, at: now)
        try begin(with: initial)
        event(.jobOpened(job: record.job.short, nonce: String(nonce.hex.prefix(8))))
        store(from: 0)
        nextWake = due
    }
    /// - Parameter text: with the job's.
    init(
        _ record: Record, _ text: ContentShelf, key: SigningKey, term: Int, options: CoordinatorOptions,
        wall: WallClock, at now: Instant
    ) {
        self.key = key
        self.options = options
        self.now = now
        self.term = term
        self.text = text
        self.record = record
        roster = Roster(at: now)
        round = RoundDesk(at: now)
        stage = .gathering(since: now, saidWaiting: now)
        timers = Timers(wall: wall, nextLease: now, certified: (0, now))
        nextWake = due
    }

    public var job: Digest256 { record.job }
    public var state: JobState { record.state }
    public var parameters: JobParameters { record.parameters }
    /// Of the plan in force, and of the first one, frozen before the first step.
    public var answer: PlanAnswer? { desk.answer }
    /// The same, as it was said when that plan was made.
    public var answerWhenMade: PlanAnswer? { desk.answerWhenMade }
    /// What was predicted of a plan when it was made; nil where others have made it.
    public func prediction(ofPlan epoch: Int) -> Prediction? { desk.prediction(ofPlan: epoch)?.prediction }
    public var predictionAtStart: PlanAnswer? { desk.predictionAtStart }
    /// When the first round began.
    public var trainingStarted: Instant? { timers.trainingSince }
    /// Sealed since then.
    public var tokensTrained: Int { max(0, state.sealedTokens - timers.tokensBefore) }

    public mutating func poll() -> CoordinatorEffect? { effects.pop() }

    /// When members computed a step, while ``watchSteps(at:)`` is called.
    public var tracedStep: StepWatch.Step? { timers.steps.done }
    /// Somebody looks: members are asked when they compute a step, until it is not said again for a while.
    public mutating func watchSteps(at now: Instant) {
        guard let plan = state.plan, case .training = stage else { return }
        timers.steps.look(
            roster.joined.compactMap { member in
                plan.placement(of: member.peer).map {
                    StepWatch.Place(peer: member.peer, rank: $0.rank, step: member.heartbeat.step)
                }
            }, at: now)
    }

    // MARK: saying

    /// A command, or an answer, to a peer.
    mutating func send(_ message: Message, to peer: PeerID) {
        effects.push(.send(Packet(job: job, term: term, message), to: peer))
    }
    mutating func event(_ what: Happening, peer: PeerID? = nil) {
        effects.push(.event(Event(what, at: now, peer: peer.map { roster.name(of: $0) } ?? "")))
    }

    mutating func event(_ what: Happening, named name: String) {
        effects.push(.event(Event(what, at: now, peer: name)))
    }

    // MARK: inputs

    /// A peer of the pool is connected: whoever it is, ask what it can do.
    public mutating func established(_ peer: PeerID, endpoint: Endpoint, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        guard !stage.isEnded else { return }
        if roster.met(peer, at: endpoint, now: now) { send(.capabilityRequest, to: peer) }
        if roster.isJoined(peer) { welcome(peer) }
        settle()
    }
    /// A member that another leader has taken in. Of an era after the first it may not know: then it is shown why this is the leader.
    private mutating func welcome(_ peer: PeerID) {
        if record.era > 0 { offer(to: peer) }
        if let message = roundMessage { send(message, to: peer) }
    }

    /// The session with a peer goes on after an interruption, perhaps from elsewhere. Nothing of it was lost; whoever was given
    /// up meanwhile may join again.
    public mutating func resumed(_ peer: PeerID, endpoint: Endpoint, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        guard !stage.isEnded else { return }
        if roster.met(peer, at: endpoint, now: now) { send(.capabilityRequest, to: peer) }
        if record.era > 0, roster.isJoined(peer) { offer(to: peer) }
        tellMoves()
        settle()
    }

    /// Its connection has broken, and its session waits for another: nothing is lost yet.
    public mutating func interrupted(_ peer: PeerID) { roster.interrupted(peer) }

    /// - Parameter isBack: another process with its key is connected.
    public mutating func lost(_ peer: PeerID, reason: String, isBack: Bool = false, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        lose(peer, reason: reason, isBack: isBack)
        settle()
    }

    public mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        guard !stage.isEnded, let known = roster[peer] else {
            // The last word of a member whose job is over.
            if case .heartbeat(let heartbeat) = packet.message, packet.job == job { roster.concludes(heartbeat, peer) }
            return
        }
        roster.heard(peer, at: now)
        switch packet.message.conversation {
        case .meeting: receiveMeeting(packet.message, from: peer)
        case .report, .content:
            guard packet.job == job else { return }
            if known.isJoined {
                receiveReport(packet.message, from: peer)
            } else if known.standing == .accepted {
                receiveBeforeJoining(packet.message, from: peer)
            } else if roster.mayAskAgain(peer, at: now) {
                // It was given up, but its connection lives and it still works for us: it may come back like any newcomer.
                send(.capabilityRequest, to: peer)
            }
        case .command, .work, .election, .carriage: break
        }
        settle()
    }

    /// What became of a ``CoordinatorEffect/store(_:)``.
    public mutating func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        receiveStored(ticket, outcome)
        settle()
    }

    /// The planner's answer, or why nothing fits.
    public mutating func planned(_ result: Result<PlanAnswer, NoPlan>, at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        receivePlan(result)
        settle()
    }

    /// The owner pressed ^C.
    public mutating func cancel(at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        fail("stopped by its launcher", endsAtOnce: true)
    }

    public mutating func wake(at now: Instant) {
        look(at: now)
        defer { nextWake = due }
        guard !stage.isEnded else { return }
        if timers.nextLease <= now {
            timers.nextLease = now + .seconds(2)
            var lease = Lease(duration: options.lease, logLength: record.committed)
            for member in roster.joined {
                lease.tracedStep = timers.steps.step(for: member.peer, at: now)
                send(.lease(lease), to: member.peer)
                if let message = roundMessage { send(message, to: member.peer) }
                send(lines.ping(member.peer, at: now), to: member.peer)
            }
            // Whoever waits to be taken in is not forgotten.
            if roster.acceptedCount > 0 {
                lease.tracedStep = nil
                for peer in roster.accepted where now - peer.idleSince >= .seconds(6) {
                    send(.lease(lease), to: peer.peer)
                }
            }
            for peer in roster.declinersToAskAgain(at: now) { send(.capabilityRequest, to: peer) }
            tellMoves()
            offerLeadership()
        }
        retryDisk()
        settle()
    }

    private mutating func look(at now: Instant) {
        self.now = now
        if let nap = roster.look(at: now) { excuse(nap) }
    }
    /// Time in which nobody could be heard counts for no deadline.
    mutating func excuse(_ pause: Duration) {
        stage.excuse(pause, at: now)
        if let standstill = timers.standstill { timers.standstill = standstill.excused(pause, at: now) }
        roster.excuse(pause)
        round.excuse(pause)
        lines.excuse(pause)
        collection?.excuse(pause)
    }

    /// As of the last input: asked for more often than it changes.
    public private(set) var nextWake: Instant?
    mutating func refreshWake() { nextWake = due }
    /// While it waits for peers it says so.
    static let sayWaitingEvery = Duration.seconds(5)
    private var due: Instant? {
        guard !stage.isEnded else { return nil }
        var next = earliest(timers.nextLease, lines.deadline)
        next = earliest(next, roster.nextSilence(options.silence, at: now))
        next = earliest(next, disk.retryAt)
        next = earliest(next, nextPreparation)
        switch stage {
        case .gathering(let since, let said):
            next = earliest(next, said + Self.sayWaitingEvery)
            if roster.lastArrival > since { next = earliest(next, roster.lastArrival + options.quiet) }
            next = earliest(next, max(roster.lastArrival, roster.lastMet) + options.quiet + .seconds(2))
            next = earliest(next, since + options.gatherLimit)
            if isResuming, since + Self.wholePatience > now { next = earliest(next, since + Self.wholePatience) }
        case .sharing: next = earliest(next, nextTextPatience)
        case .preparing, .training:
            if timers.isolatedSince == nil, let facts = facts() {
                next = earliest(earliest(next, round.nextWake(facts)), round.setbacks.deadline)
                next = earliest(next, round.repairs.deadline)
            }
        case .closing(_, let until): next = earliest(next, until)
        case .surveying, .planning, .collecting, .ended: break
        }
        if let standstill = timers.standstill {
            next = earliest(next, standstill.since + Self.standstillPatience)
            let heldBack = standstill.since + Self.holderPatience
            if heldBack > now { next = earliest(next, heldBack) }
            let whole = standstill.since + Self.wholePatience
            if whole > now { next = earliest(next, whole) }
        }
        if timers.isolatedSince == nil, let collection { next = earliest(next, collection.nextWake) }
        // What is overdue and could not be settled is looked at again soon, not at once.
        return next.map { $0 <= now ? now + .milliseconds(100) : $0 }
    }
}
