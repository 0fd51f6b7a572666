public import Digests
public import Messages
public import Primitives
public import Record
import Telemetry
public import Training
import Wire

/// A volunteer's side of the swarm: says what it can do, accepts offers of accepted launchers, and works for the newest leader of its
/// job while that one's lease lasts.
///
/// It only routes: packets by conversation, answers of the engine and of the disk by what they are for. What it does in a job is
/// ``MemberJob``'s business.
public struct Member: Core, Sendable {
    public typealias Effect = MemberEffect

    let key: SigningKey
    public let terms: MemberTerms
    let parse: Record.Parser
    let wall: WallClock
    /// With no job; else the job has it.
    private var idleEngine: EngineDesk?
    package internal(set) var job: MemberJob?
    private var benchmark = Benchmark()
    /// While it is measured how fast it is at its job's work.
    private var rehearsal: (benchmark: Benchmark, sample: StageConfiguration)?
    var storage = StorageDesk()
    var remains: MemberRemains
    /// Of the last job that is over here.
    var results = ResultDesk()
    /// Who wants to know what this peer can do, before it knows itself.
    private var askedCapability: [PeerID] = []
    var ownersPause = OwnersPause()
    var socketBytes: (sent: Int, received: Int) = (0, 0)
    /// A new era of a job that is not followed without the owner's word.
    public internal(set) var refusedRefounding: (job: Digest256, entries: Int, certified: Int)?
    /// As its job is told of it, before there is one.
    private var machine = MemberJob.Machine()
    /// Nil: nobody has looked. And the plan for which it was looked at.
    private var room: (disk: DiskRoom?, epoch: Int) = (nil, 0)

    var effects = EffectQueue<MemberEffect>()

    /// - Parameters:
    ///   - remains: what earlier processes have left on its disk.
    ///   - wall: the time of day, for what is signed with an expiry.
    ///   - parse: reads a manifest's canonical text; the arithmetic's parameters come out.
    public init(
        key: SigningKey, terms: MemberTerms, remains: MemberRemains = MemberRemains(), wall: WallClock, at now: Instant,
        parse: @escaping Record.Parser
    ) {
        self.key = key
        self.terms = terms
        self.wall = wall
        self.parse = parse
        self.remains = remains
        idleEngine = EngineDesk()
        for what in remains.events { effects.push(.event(Event(what, at: now))) }
        if terms.computes { measure(at: now) }
    }
    /// FLOP/s; nil while it is measured.
    private var speed: Double? { terms.computes ? benchmark.speed : 0 }

    /// In a job, and within the lease of its leader.
    public var isWorking: Bool { job?.isServing ?? false }
    public var jobName: String? { present?.record.parameters.name }
    /// Remembered, because it is asked for after every input.
    public private(set) var jobID: Digest256?
    public var leader: PeerID? { present?.leader }
    /// Whose machine began the job, or its era.
    public var launcher: PeerID? { present?.record.founder }
    public var activity: Activity { present?.activity ?? .idle }
    /// Whether a peer leads the job in which this member is, or is a member of it, too. Changes nothing: who may be changed is asked
    /// where it lies, not copied.
    public mutating func sharesJob(with peer: PeerID) -> Bool {
        guard jobID != nil else { return false }
        return job?.isColleague(peer) == true
    }
    /// Of somebody in its job; nil for others.
    public func name(of peer: PeerID) -> String? { job?.job.member(peer)?.name }
    /// Where it is in its job: the leader's term, round, inner step from the job's first, and the units it holds.
    public var position: (term: Int, round: Int, step: Int, units: Range<Int>?)? { present?.position }
    /// Unless the leader has let this member go.
    var present: MemberJob? {
        guard let job else { return nil }
        if case .removed = job.standing { return nil }
        return job
    }

    // MARK: inputs

    /// Bytes at the socket since start, for the next heartbeat.
    public mutating func count(sent: Int, received: Int) { socketBytes = (sent, received) }

    /// What its disk has room for, seen now.
    public mutating func count(room disk: DiskRoom) { room.disk = disk }
    /// Whether others could dial it from outside, as far as is known.
    public mutating func count(isReachable: Bool) { machine.fitness.isReachable = isReachable }
    /// Of the processor time that it asked for lately, what other programs left it, 0...1; nil where that is enough, or not known.
    public mutating func count(processorShare: Double?) {
        guard processorShare != machine.processorShare else { return }
        machine.processorShare = processorShare
        job?.machine = machine
    }

    public mutating func receive(_ packet: Packet, from peer: PeerID, endpoint: Endpoint?, at now: Instant) {
        switch packet.message {
        case .capabilityRequest: answerCapability(to: peer)
        case .offer(let offer): receive(offer, term: packet.term, from: peer, at: now)
        case .lease where job == nil: disown(packet, to: peer)
        case _ where asksForResult(packet): giveResult(packet, to: peer, at: now)
        default:
            guard let id = job?.id else { return }
            // What peers say to each other before they are in a job together may name none.
            let isMeeting = packet.message.conversation == .meeting && packet.job == nil
            guard packet.job == id || isMeeting else { return }
            job!.receive(packet, from: peer, at: now)
        }
        drain(at: now)
    }

    /// The engine's answer to the oldest ``MemberEffect/compute(_:)`` that has none.
    public mutating func computed(_ result: ComputeResult, at now: Instant) {
        guard let answer = job?.engine.answered(result, at: now) ?? idleEngine?.answered(result, at: now) else {
            return
        }
        switch answer.purpose {
        case .benchmark: measured(answer.took, at: now)
        case .rehearsal: rehearsed(answer, at: now)
        default: job?.computed(answer, at: now)
        }
        drain(at: now)
    }

    /// What became of a ``MemberEffect/store(_:)``.
    public mutating func stored(_ ticket: StorageTicket, _ outcome: StorageOutcome, at now: Instant) {
        if storage.answered(ticket, outcome, at: now) { job?.stored(ticket, outcome, at: now) }
        drain(at: now)
    }

    /// A peer is connected, perhaps once more.
    public mutating func established(_ peer: PeerID, endpoint: Endpoint, at now: Instant) {
        job?.established(peer, at: now)
        drain(at: now)
    }
    /// How the session with a peer goes from now on.
    public mutating func noted(_ path: PeerPath, to peer: PeerID, at now: Instant) {
        guard machine.paths[peer] ?? .direct != path else { return }
        machine.paths[peer] = path == .direct ? nil : path
        job?.now = now
        job?.machine = machine
        job?.tellPaths()
        drain(at: now)
    }
    /// A connection ended for good.
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        askedCapability.removeAll { $0 == peer }
        if machine.paths.removeValue(forKey: peer) != nil { job?.machine = machine }
        job?.lost(peer, at: now)
        drain(at: now)
    }

    public mutating func wake(at now: Instant) {
        storage.now = now
        storage.wake(at: now)
        results.wake(at: now)
        machine.fitness.disk = storage.slowest
        job?.machine = machine
        job?.wake(at: now, sent: socketBytes.sent, received: socketBytes.received)
        job?.notice(isHeld: ownersPause.isHeld || ownersPause.isYielding, at: now)
        drain(at: now)
    }
    public mutating func poll() -> MemberEffect? { effects.pop() }
    /// As of the last input: asked for more often than it changes.
    public private(set) var nextWake: Instant?

    /// Leaves in good order.
    public mutating func leave(at now: Instant) {
        guard job != nil else { return }
        job!.report(.farewell(reason: "its owner stopped it"))
        job!.end("left")
        drain(at: now)
    }

    // MARK: what it can do

    private mutating func measure(at now: Instant) {
        guard let flops = benchmark.work else { return }
        if job != nil {
            job!.engine.submit(.benchmark(flops: flops), .benchmark, at: now)
        } else {
            idleEngine?.submit(.benchmark(flops: flops), .benchmark, at: now)
        }
        drain(at: now)
    }
    private mutating func measured(_ time: Duration, at now: Instant) {
        if benchmark.finished(in: time) { return measure(at: now) }
        guard let speed = benchmark.speed else { return }
        effects.push(.event(Event(.speedMeasured(flops: speed), at: now)))
        for peer in askedCapability { answerCapability(to: peer) }
        askedCapability = []
    }

    /// The job's text is here, and no work yet: that is when it is measured, and all who begin together measure at the same time. Where
    /// several share a machine, each sees its share of it.
    private mutating func rehearse(at now: Instant) {
        let memory = terms.computes ? terms.memory : ByteCount(0)
        guard rehearsal == nil, benchmark.work == nil || !terms.computes,
            let sample = job?.beginsRehearsal(memory: memory)
        else { return }
        rehearsal = (Benchmark(pieces: Benchmark.rehearsalPieces, speed: benchmark.speed), sample)
        submitRehearsal(at: now)
    }
    private mutating func submitRehearsal(at now: Instant) {
        guard let (benchmark, sample) = rehearsal, let flops = benchmark.work else { return }
        job?.rehearse(sample, flops: flops, at: now)
    }
    private mutating func rehearsed(_ answer: EngineDesk.Answer, at now: Instant) {
        guard var (benchmark, sample) = rehearsal, job != nil else { return }
        var speed: Double?
        if answer.result == .done {
            if benchmark.finished(in: answer.took) {
                rehearsal!.benchmark = benchmark
                return submitRehearsal(at: now)
            }
            speed = benchmark.speed
            job!.rehearse(sample, flops: 0, at: now)
        }
        rehearsal = nil
        job!.now = now
        job!.rehearsed(speed.map { capability(flops: $0) })
    }
    private func capability(flops: Double) -> Capability {
        Capability(
            name: terms.name, device: terms.device, memory: terms.memory, flops: flops, numerics: Record.numerics,
            accepts: Array(terms.accepts.prefix(Capability.mostAccepted)), job: isWorking ? job!.id.short : "")
    }

    /// Whoever leads a job takes this peer for a member: an earlier process was one, of which this one knows nothing. It is told so, and what
    /// this one can do, so that it offers the job.
    private mutating func disown(_ packet: Packet, to peer: PeerID) {
        guard let id = packet.job else { return }
        let farewell = Message.farewell(reason: "another process is here now, which is not in the job")
        effects.push(.send(Packet(job: id, term: packet.term, farewell), to: peer))
        answerCapability(to: peer)
    }
    mutating func answerCapability(to peer: PeerID) {
        guard let speed else {
            if !askedCapability.contains(peer), askedCapability.count < 64 { askedCapability.append(peer) }
            return
        }
        effects.push(.send(Packet(.capability(capability(flops: speed))), to: peer))
    }

    // MARK: offers

    private mutating func receive(_ offer: Offer, term: Int, from peer: PeerID, at now: Instant) {
        var answer = OfferAnswer(refusal: nil)
        var offered: Digest256?
        do throws(MalformedBytes) {
            let (record, succession) = try open(offer, from: peer)
            offered = record.job
            try heed(succession, of: record.job, at: now)
            try accept(record, succession, term: term, from: peer, at: now)
        } catch {
            answer.refusal = cleaned(error.description, bytes: Bounds.reasonBytes)
            effects.push(.event(Event(.offerDeclined(why: error.description), at: now, peer: peer.short)))
        }
        // What the job says first comes after its acceptance.
        effects.push(.send(Packet(job: offered, term: term, .offerAnswer(answer)), to: peer))
    }

    /// Cheap questions first: nobody whom the owner did not accept has a signature verified.
    private func open(
        _ offer: Offer, from peer: PeerID
    ) throws(MalformedBytes) -> (record: Record, succession: Record.Succession) {
        guard let signer = PeerID(offer.genesis.signer), terms.accepts.contains(signer) else {
            throw MalformedBytes(
                "launcher \(PeerID(offer.genesis.signer)?.short ?? "?") is not among those the owner of \(terms.name) accepts"
            )
        }
        let record = try Record(genesis: offer.genesis, parse: parse)
        let succession = try record.electors(after: offer.electors)
        guard succession.electors.contains(peer) else {
            throw MalformedBytes("the offer was passed on by \(peer.short), who is no elector")
        }
        return (record, succession)
    }

    private mutating func accept(
        _ record: Record, _ succession: Record.Succession, term: Int, from peer: PeerID, at now: Instant
    ) throws(MalformedBytes) {
        if let job {
            if job.id == record.job {
                if let why = self.job!.offered(by: peer, term: term, succession, at: now) { throw MalformedBytes(why) }
                return
            }
            // A process leads one job: whoever leads this one, alone, and offers another, leads it no more.
            guard !job.isServing || job.leader == peer && job.record.electors == [peer] else {
                throw MalformedBytes("\(terms.name) works for job \(job.id.short)")
            }
        }
        guard terms.computes || record.parameters.isCarriedByMany else {
            throw MalformedBytes("\(terms.name) computes nothing, and only its launcher carries this job's record")
        }
        guard terms.room != nil || record.genesis.contentBytes <= terms.memory.bytes else {
            throw MalformedBytes(
                "the job's text has \(ByteCount(record.genesis.contentBytes)); \(terms.name) offers \(terms.memory) of memory"
            )
        }
        if let why = declinesByOwner(from: peer) { throw MalformedBytes(why) }
        if let why = room.disk?.refusal(record.genesis.contentBytes, for: "the job's text") {
            throw MalformedBytes("\(why). Free some space on \(terms.name)")
        }
        room.epoch = 0
        release(
            job?.isServing == true
                ? "its coordinator offers another" : "another job is offered, and its own coordinator is silent",
            at: now)
        storage.forget(job: record.job, content: record.genesis.content)
        // Its memory is for this one.
        results = ResultDesk()
        let engine = idleEngine ?? EngineDesk()
        idleEngine = nil
        effects.push(
            .event(
                Event(
                    .jobAccepted(job: record.job.short, name: record.parameters.name), at: now, peer: peer.short)))
        job = MemberJob(
            record, succession, key: key, leader: peer, term: term, memory: terms.memory, engine: engine,
            wall: wall, kept: remains.stages(of: record.job), room: terms.room, at: now)
        self.job!.machine = machine
    }

    /// The job is over here: what was kept of it goes.
    private mutating func release(_ why: String, at now: Instant) {
        guard let job else { return }
        pass(at: now)
        var wasRemoved = false
        if case .removed = job.standing { wasRemoved = true }
        if !wasRemoved { effects.push(.event(Event(.jobReleased(job: job.id.short, why: why), at: now))) }
        var engine = job.engine
        engine.discard()
        idleEngine = engine
        self.job = nil
        rehearsal = nil
        storage.forget(job: job.id, content: job.record.genesis.content)
        remains.keep(job.aftermath == .over ? [] : job.holding.starts.stages, of: job.id)
        if job.aftermath == .over {
            remains.over = JobReading(job.record, job.log.proof, lease: .zero, term: job.allegiance.term)
            keepResult(of: job, at: now)
        }
        switch job.aftermath {
        // Whoever only leaves, or is left alone, may go on with it later.
        case .stays: break
        case .over: storage.store(.eraseRoundStarts(job: job.id, after: -1))
        case .forked: storage.store(.setLogAside(job: job.id, from: 0))
        }
        storage.store(.erase(job: job.id, content: job.record.genesis.content))
    }

    // MARK: one place to drain

    mutating func drain(at now: Instant) {
        rehearse(at: now)
        pass(at: now)
        if let why = job?.ending {
            if job!.aftermath == .over { job!.conclude(sent: socketBytes.sent, received: socketBytes.received) }
            let launcher = job!.aftermath == .forked ? job!.leader : nil
            release(why, at: now)
            if let launcher { answerCapability(to: launcher) }
        }
        followOwner(at: now)
        lookAtRoom(at: now)
        jobID = job?.presentID
        while let next = idleEngine?.poll() { effects.push(.compute(next)) }
        while let effect = storage.poll() {
            switch effect {
            case .store(let request): effects.push(.store(request))
            case .event(let what): effects.push(.event(Event(what, at: now)))
            }
        }
        nextWake = earliest(storage.nextWake, results.nextWake)
        if job != nil { nextWake = earliest(nextWake, job!.nextWake) }
        nextWake = earliest(nextWake, ownersPause.nextWake(after: now))
    }
    /// Once for each plan: round starts that do not fit are not kept, and the job goes on.
    private mutating func lookAtRoom(at now: Instant) {
        guard let disk = room.disk, let epoch = job?.record.state.planCount, epoch > room.epoch else { return }
        room.epoch = epoch
        guard let bytes = job?.roundStartBytes, bytes > disk.free.bytes else { return }
        effects.push(
            .event(
                Event(
                    .roomShort(
                        what: "round starts of this stage", neededBytes: bytes, freeBytes: disk.free.bytes,
                        place: disk.place), at: now)))
    }
    private mutating func pass(at now: Instant) {
        storage.now = now
        while let effect = job?.poll() {
            if case .store(let request) = effect { storage.store(request) } else { effects.push(effect) }
        }
    }
}
