import Digests
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// A peer's part in one job, from the accepted offer until it is over: the machines of a member, and what goes between them. Everything
/// it does follows from the record.
///
/// The machines know nothing of each other: ``LogDesk`` (the record), ``Allegiance`` (whose commands count), ``TextDesk`` (the job's
/// text), ``EngineDesk`` (work for the engine), ``Holding`` (what the engine holds, and the round), ``StateDesk`` (states for others),
/// ``LinkProbe`` (lines). They are drained in one place (``drain()``).
package struct MemberJob: Sendable {
    package enum Standing: Hashable, Sendable {
        case serving
        /// Nothing was heard of the leader for longer than its lease: work stops, everything stays.
        case paused(since: Instant)
        /// The leader let this member go: it may come back.
        case removed(since: Instant)
    }
    package struct Refused: Sendable {
        package var stale = Complaints()
        package var notEntitled = Complaints()
    }

    package let key: SigningKey
    package let wall: WallClock
    package var log: LogDesk
    package var allegiance: Allegiance
    package private(set) var standing = Standing.serving
    package var text: TextDesk
    package var engine: EngineDesk
    package var holding: Holding
    package var states = StateDesk()
    package var probe = LinkProbe()
    package var reports = Reports()
    /// Sent for exchanges since the last receipt.
    package var exchangeBytes = 0
    /// What this machine is like, and its ways to others.
    package var machine = Machine()
    /// What the leader has been told.
    var said: Said
    struct Said: Sendable {
        var pace: Pace
        var readiness: Readiness?
        var kept: [KeptStage] = []
        var fitness: Fitness?
        var paths = PeerPaths()
        var isLeaving = false
        /// While it is silent: when colleagues are asked next what has become of the job, and whose turn it is.
        var asking: (next: Instant, turn: Int)?
    }
    /// How fast it is at this job's work.
    package enum Pace: Hashable, Sendable {
        case unknown
        case measuring
        /// What the leader was told of it; nil where nothing can be measured.
        case told(Capability?)
    }
    private var nextHeartbeat: Instant
    package var refused = Refused()
    /// Why it is over.
    package private(set) var ending: String?
    package enum Aftermath: Sendable {
        /// It may go on here later.
        case stays
        /// The job itself is over.
        case over
        /// The only elector goes on with another history: what is here has no place in it.
        case forked
    }
    package private(set) var aftermath = Aftermath.stays
    package var effects = EffectQueue<MemberEffect>()
    package var now: Instant

    package static let heartbeatEvery = Duration.seconds(1)
    /// How long everything stays when the leader is gone.
    package static let keep = Duration.seconds(3600)

    package init(
        _ record: Record, _ succession: Record.Succession, key: SigningKey, leader: PeerID, term: Int,
        memory: ByteCount,
        engine: EngineDesk, wall: WallClock, kept: [KeptStage] = [], room: (any ByteRoom)? = nil, at now: Instant
    ) {
        self.key = key
        self.wall = wall
        self.engine = engine
        self.now = now
        let genesis = record.genesis
        log = LogDesk(record.listing(workOf: key.peerID))
        allegiance = Allegiance(
            electors: succession.electors, era: succession.era, leader: leader, term: term,
            until: now + genesis.lease)
        text = TextDesk(
            content: genesis.content, bytes: genesis.contentBytes, holders: [leader],
            offset: 7 * Int(key.peerID.bytes[0]), room: room, at: now)
        holding = Holding(
            StageContext(
                me: key.peerID, parameters: record.parameters, memory: memory, contentBytes: genesis.contentBytes,
                room: room),
            RoundStarts(
                job: record.job, stages: kept,
                copiedRounds: record.parameters.copies > 0 ? record.parameters.checkpointRounds : 0))
        // Whoever comes back with a stage has work at once.
        said = Said(pace: kept.isEmpty ? .unknown : .told(nil))
        nextHeartbeat = now
        settle()
    }

    package var me: PeerID { key.peerID }
    package var record: Record { log.record }
    package var job: JobState { log.record.state }
    package var id: Digest256 { log.record.job }
    var position: (term: Int, round: Int, step: Int, units: Range<Int>?) {
        let units: Range<Int>? =
            switch holding.state {
            case .atRound(let held), .applying(let held): held.units
            case .empty, .fetching: nil
            }
        return (allegiance.term, job.round, holding.work?.step ?? job.nextStep, units)
    }
    /// The round whose start it holds, and which others know to be right: nobody loses anything if it leaves now. Nil in between.
    var agreedRound: Int? {
        guard case .atRound(let held) = holding.state, held.round == job.round, job.isAgreed(held.round) else {
            return nil
        }
        return held.round
    }
    /// Keeps in mind how long rounds take.
    package mutating func see() { log.see(round: job.round, at: now) }
    mutating func isColleague(_ peer: PeerID) -> Bool {
        allegiance.leader == peer || log.record.state.member(peer)?.present == true
    }
    package var leader: PeerID { allegiance.leader }
    package var isServing: Bool { standing == .serving }
    /// Unless the leader has let this member go.
    var presentID: Digest256? { if case .removed = standing { nil } else { id } }
    package var activity: Activity {
        guard isServing else { return .waiting }
        guard text.isComplete else { return .fetchingText(have: text.progress.have, of: text.progress.of) }
        if said.pace == .measuring, job.plan == nil { return .measuring }
        guard let plan = job.plan else { return .waiting }
        return plan.placement(of: me) == nil ? .spare : holding.activity
    }
    package func isEntitled(_ peer: PeerID) -> Bool { job.isPresent(peer) || allegiance.isElector(peer) }

    package mutating func poll() -> MemberEffect? { effects.pop() }

    // MARK: inputs

    package mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) {
        self.now = now
        if case .removed = standing { return }
        switch packet.message.conversation {
        case .meeting: receiveMeeting(packet.message, from: peer)
        case .command: receiveCommand(packet, from: peer)
        case .work:
            if job.isPresent(peer) {
                holding.receive(work: packet.message, from: peer, job, at: now)
            } else {
                refuse(packet.message, from: peer)
            }
        case .content: receiveContent(packet.message, from: peer)
        case .report, .election, .carriage: return
        }
        settle()
    }

    private mutating func receiveMeeting(_ message: Message, from peer: PeerID) {
        switch message {
        case .pong(let nonce): probe.receive(pong: nonce, from: peer, at: now)
        case .probeBurst(let burst):
            if job.isPresent(peer) { probe.receive(burst, from: peer, at: now) } else { refuse(message, from: peer) }
        default: break
        }
    }

    private mutating func receiveContent(_ message: Message, from peer: PeerID) {
        guard isEntitled(peer) else {
            // Whoever is not in the log yet shall not wait for an answer.
            if case .chunkRequest(let content, let chunk) = message {
                send(.chunkMissing(content: content, chunk: chunk), to: peer)
            }
            return refuse(message, from: peer)
        }
        if text.receive(message, from: peer, at: now) { return }
        if holding.receive(content: message, from: peer, job, at: now) { return }
        if case .stateRequest(let request) = message {
            states.kept = holding.starts.stages
            return states.receive(request, from: peer, holding.stock)
        }
        _ = states.receive(content: message, from: peer, at: now)
    }

    /// - Parameter answer: one of ``engine``'s.
    package mutating func computed(_ answer: EngineDesk.Answer, at now: Instant) {
        self.now = now
        switch answer.purpose {
        case .housekeeping:
            if case .refused(let why) = answer.result { event(.workRefused(why: why)) }
        case .export(let units, let round):
            if case .refused(let why) = answer.result { event(.workRefused(why: why, round: round)) }
            holding.computed(answer, at: now)
            states.exported(answer.result, units, round: round, holding.stock, at: now)
        default: holding.computed(answer, at: now)
        }
        holding.loadIfReady(job)
        settle()
    }

    package mutating func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) {
        self.now = now
        if case .entry(id, let index) = ticket { return log.stored(index) }
        // Another log was in its place.
        if case .logSetAside(id) = ticket { log.storeAgain() }
        guard let reading = holding.answered(ticket, outcome, job) else { return settle() }
        states.kept = holding.starts.stages
        states.read(reading, holding.stock, at: now)
        holding.loadIfReady(job)
        settle()
    }

    /// A peer is connected, perhaps once more: what was on its way may be lost.
    package mutating func established(_ peer: PeerID, at now: Instant) {
        self.now = now
        if case .removed = standing { return }
        if isEntitled(peer) { text.add(holder: peer, at: now) }
        holding.established(peer, job, leader: leader, at: now)
        if peer == leader { sayAgain() }
        settle()
    }
    package mutating func lost(_ peer: PeerID, at now: Instant) {
        self.now = now
        text.lost(peer, at: now)
        holding.lost(peer, at: now)
        states.forget(peer)
        settle()
    }

    // MARK: time

    package mutating func wake(at now: Instant, sent: Int, received: Int) {
        self.now = now
        if standing == .serving, allegiance.until <= now {
            pause("nothing heard of the coordinator for \(fixed(record.genesis.lease.inSeconds, 0)) s")
        }
        switch standing {
        case .serving:
            text.wake(at: now)
            log.wake(at: now)
            probe.wake(at: now)
            holding.wake(at: now, job)
        case .paused(let since), .removed(let since):
            log.wakeProof(at: now)
            askColleagues()
            if since + Self.keep <= now {
                ending = "nothing heard of its coordinator for \(Self.keep.components.seconds) s"
            }
        }
        states.wake(at: now)
        if nextHeartbeat <= now {
            nextHeartbeat = now + Self.heartbeatEvery
            beat(sent: sent, received: received)
            tellPaths()
            tellFitness()
        }
        settle()
    }
    package var nextWake: Instant? {
        var next = states.nextWake
        switch standing {
        case .serving:
            next = earliest(earliest(next, allegiance.until), earliest(text.nextWake, log.nextWake))
            return earliest(earliest(next, nextHeartbeat), earliest(holding.nextWake, probe.nextWake))
        case .paused(let since):
            next = earliest(next, log.nextProof)
            return earliest(earliest(next, since + Self.keep), earliest(nextHeartbeat, said.asking?.next))
        case .removed(let since): return earliest(earliest(next, log.nextProof), since + Self.keep)
        }
    }

    private mutating func beat(sent: Int, received: Int) {
        if case .removed = standing { return }
        var heartbeat = heartbeat(sent: sent, received: received)
        heartbeat.trace = engine.stepWish.take(at: now)
        report(.heartbeat(heartbeat))
    }
    /// The job is over: its leader hears once more how much went out for it, the weights that it has collected among that.
    mutating func conclude(sent: Int, received: Int) { beat(sent: sent, received: received) }
    /// Of a job that several electors carry; when it has changed enough to matter.
    private mutating func tellFitness() {
        guard record.parameters.isCarriedByMany, isServing else { return }
        if let before = said.fitness, before.isReachable == machine.fitness.isReachable {
            let (old, new) = (before.disk?.inSeconds ?? 0, machine.fitness.disk?.inSeconds ?? 0)
            guard new > 2 * old || old > 2 * new else { return }
        }
        said.fitness = machine.fitness
        report(.fitness(machine.fitness))
    }
    /// How its sessions with other members go, where that has changed since it was said.
    package mutating func tellPaths() {
        guard isServing else { return }
        let now = PeerPaths(machine.paths.filter { $0.key == leader || job.isPresent($0.key) })
        guard now != said.paths else { return }
        said.paths = now
        report(.paths(now))
    }
    /// What this member is at.
    func heartbeat(sent: Int, received: Int) -> Heartbeat {
        var heartbeat = Heartbeat()
        heartbeat.logLength = record.length
        heartbeat.round = job.round
        heartbeat.step = holding.work?.step ?? job.nextStep
        heartbeat.activity = holding.isYielding ? .idle : activity
        heartbeat.sent = ByteCount(sent)
        heartbeat.received = ByteCount(received)
        heartbeat.waiting = holding.work?.exchange.waits(at: now)
        heartbeat.isLeaving = said.isLeaving
        heartbeat.processorShare = machine.processorShare
        return heartbeat
    }

    /// Its owner has it leave, or stay after all: its leader is to know at once, to have others take its place in time.
    /// - Parameter atOnce: it computes nothing any more, and only gives what it holds.
    mutating func say(isLeaving: Bool, atOnce: Bool = false) {
        guard isLeaving != said.isLeaving || atOnce != holding.isYielding else { return }
        said.isLeaving = isLeaving
        nextHeartbeat = now
        guard atOnce != holding.isYielding else { return }
        holding.isYielding = atOnce
        settle()
    }
    /// Whether somebody else is here who could compute what this member does.
    var hasColleagues: Bool { job.members.contains { $0.present && $0.peer != me && $0.flops > 0 } }
    /// Whether nobody else would have one of these units, which it holds, if it left now. Whoever has come to its place has them when a round is
    /// sealed.
    func isOnlyHolder(of units: Range<Int>) -> Bool {
        guard let plan = job.plan else { return false }
        // Planned away: others fetch as of the round's start from whoever is named as its source.
        let isNew = plan.placement(of: me) == nil
        if isNew, job.round > plan.round { return false }
        return units.contains { unit in
            let others = isNew ? plan.sources[unit] ?? [] : plan.holders(of: unit)
            return !others.contains { $0 != me && job.isPresent($0) }
        }
    }

    // MARK: coming and going

    /// Work stops, everything stays.
    package mutating func pause(_ why: String) {
        guard standing == .serving else { return }
        standing = .paused(since: now)
        said.asking = (now, 0)
        engine.pause()
        event(.workPaused(why: why))
    }
    /// The leader is there, perhaps again.
    package mutating func resume(for lease: Duration) {
        allegiance.prolong(by: lease, at: now)
        guard standing != .serving else { return }
        standing = .serving
        engine.resume(at: now)
        nextHeartbeat = now
        event(.rejoined)
        sayAgain()
    }
    /// It may come back; until then it is as if it were not here.
    package mutating func remove() {
        standing = .removed(since: now)
        holding.reset()
        states.removeAll()
        probe = LinkProbe()
        reports = Reports()
        said = Said(pace: said.pace)
        drain()
    }
    package mutating func end(_ why: String, _ aftermath: Aftermath = .stays) {
        guard ending == nil || self.aftermath == .stays else { return }
        ending = ending ?? why
        self.aftermath = aftermath
    }

    /// An offer of this job, by a leader that does not know, or has forgotten, that this member has it.
    /// - Parameter succession: who the electors are, as the offer shows; it has been checked, and drops nothing that is certified here.
    /// - Returns: why not.
    package mutating func offered(
        by peer: PeerID, term: Int, _ succession: Record.Succession, at now: Instant
    ) -> String? {
        self.now = now
        if succession.era > record.era { allegiance.change(electors: succession.electors, era: succession.era) }
        switch allegiance.hear(term: term, from: peer, newest: record.term) {
        case .stranger: return "\(peer.short) is no elector of this job"
        case .stale: return "another coordinates this job, of term \(max(allegiance.term, record.term))"
        case .newLeader: follow(newLeader: peer)
        case .obeyed: break
        }
        let isBack = standing != .serving
        resume(for: record.genesis.lease)
        if !isBack { sayAgain() }
        settle()
        return nil
    }

    // MARK: saying

    package func packet(_ message: Message, term: Int = 0) -> Packet { Packet(job: id, term: term, message) }
    package mutating func send(_ message: Message, to peer: PeerID) { effects.push(.send(packet(message), to: peer)) }
    package mutating func report(_ message: Message) {
        effects.push(.send(packet(message, term: allegiance.term), to: leader))
    }
    package mutating func event(_ what: Happening, peer: PeerID? = nil) {
        effects.push(.event(Event(what, at: now, peer: peer.map { job.name(of: $0) } ?? "")))
    }
    /// Counted; one in a while is said.
    package mutating func refuse(_ message: Message, from peer: PeerID) {
        if refused.notEntitled.note(at: now) { event(.notEntitled(message: message.kind), peer: peer) }
    }
    /// To a leader that may not have heard it: how far this member is, and what the round needs.
    package mutating func sayAgain() {
        said = Said(pace: said.pace, isLeaving: said.isLeaving, asking: said.asking)
        if case .told(let capability?) = said.pace { report(.capability(capability)) }
        tellPaths()
        for message in reports.all { report(message) }
    }

    private var readiness: Readiness? {
        guard text.isComplete, case .told = said.pace else { return .fetchingText }
        return holding.readiness(job)
    }

    // MARK: how fast it is

    /// What is to be measured now: everything is here, and nothing is done yet.
    package mutating func beginsRehearsal(memory: ByteCount) -> StageConfiguration? {
        guard isServing, text.isComplete, said.pace == .unknown else { return nil }
        // Weights, gradients and moments of some blocks take no more than half of what there is.
        let text = holding.context.room == nil ? record.genesis.contentBytes : 0
        let room = max(0, memory.bytes / 2 - text) / 16
        let sample = record.parameters.rehearsal(parameters: room)
        guard sample.model.parameters(units: sample.units) <= room else {
            rehearsed(nil)
            return nil
        }
        said.pace = .measuring
        return sample
    }
    /// - Parameter flops: zero where it is over.
    package mutating func rehearse(_ sample: StageConfiguration, flops: Double, at now: Instant) {
        self.now = now
        engine.submit(.rehearse(sample, flops: flops), flops > 0 ? .rehearsal : .housekeeping, at: now)
        drain()
    }
    /// - Parameter capability: what this peer can do, at the speed that was measured; nil: it could not be.
    package mutating func rehearsed(_ capability: Capability?) {
        said.pace = .told(capability)
        if let capability {
            event(.rehearsed(flops: capability.flops))
            report(.capability(capability))
        }
        settle()
    }

    // MARK: one place to settle and drain

    /// After every input: what is held follows the log, who asks is served, the leader learns how far this member is.
    package mutating func settle() {
        drain()
        if isServing, ending == nil {
            if text.isComplete { holding.follow(job, leader: leader, at: now) }
            states.kept = holding.starts.stages
            states.serve(holding.stock)
            drain()
            if holding.starts.stages != said.kept {
                said.kept = holding.starts.stages
                report(.kept(said.kept))
            }
            if let fresh = readiness, fresh != said.readiness {
                said.readiness = fresh
                report(.readiness(fresh))
            }
        }
    }
}
