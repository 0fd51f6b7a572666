import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// A peer's part in one job, from the accepted offer to the farewell. Everything it does follows from the job log.
///
/// The engine's state is described by ``Holding``: which units, as of the start of which round. When the log moves on, the
/// job *reconciles*: applies seals it has not applied, moves units when the plan says so, and runs the round in progress.
struct MemberJob: Sendable {
    /// What the engine holds.
    enum Holding: Sendable {
        case nothing
        case units(Range<Int>, round: Int)
        case moving(StateMove)
    }
    /// What a result of the engine is for; results come in the order of the jobs.
    enum Purpose: Sendable {
        case runner(generation: Int)
        case ignored
        case export(to: PeerID, round: Int)
        case exportForMove(generation: Int)
        case imported(generation: Int)
        case catchUp(round: Int, generation: Int)
        case chunk(GroupTerms, unit: Int, chunk: Int)
        case checked(round: Int, rank: Int, attempt: Int, digests: [Int: Digest256])
        case audit(GroupTerms, AuditKey)
        case digests(round: Int)
        /// What comes from others is looked at: a refusal is their fault.
        var isCheck: Bool { if case .checked = self { true } else { false } }
    }
    struct WaitingRequest: Sendable {
        var from: PeerID
        var round: Int
        var units: [Int]
        var moments: Bool
    }

    let key: SigningKey
    let launcher: PeerID
    let parameters: JobParameters
    let content: Digest256
    let contentBytes: Int
    let memoryOffered: ByteCount
    var log: JobLog
    var state: JobState
    var leaseUntil: Instant
    var effects = EffectQueue<SwarmEffect>()

    var holding = Holding.nothing
    /// Whether the engine recomputes.
    var recomputes = false
    var runner: StageRunner?
    /// Rises when running work becomes void; results of older generations are dropped.
    var generation = 0
    var pending = EffectQueue<(purpose: Purpose, since: Instant)>()
    /// When the engine gave its last answer, and how long it has worked for the round in progress.
    private var engineFree = Instant.zero
    var roundComputeTime = Duration.zero
    /// The round whose contribution has been encoded.
    var contributed: Int?
    /// What the receipt will say of it.
    var contributionDigests: [Int: ChunkedDigest] = [:]
    /// The round whose seal is being applied, and the peers of the pipeline it was computed in.
    var applying: Int?
    var sealedPipeline: [PeerID] = []
    var pipelinePeers: [PeerID] = []
    /// This stage's part in the round's exchange, and by round the coordinator's last word on who is in it.
    var group: GroupRound?
    var groupOrders: [Int: GroupTerms] = [:]
    var early: [(from: PeerID, packet: PBPacket, payload: [UInt8])] = []
    var earlyBytes = 0
    var requests: [WaitingRequest] = []
    /// Units exported before a move, so that others may still fetch them.
    var retained: [Int: UnitState] = [:]
    var retainedRound = -1
    /// Exports under way.
    var exporting = 0
    var missingSince: Instant?

    var fetch: ContentFetch
    var contentServed: ContentIndex?
    var corpus: [UInt8]?
    /// The plan for which this stage said that it is ready; nil again after its units had to be fetched.
    var readyReported: Int?
    /// Sent for exchanges since the last receipt.
    var exchangeBytes = 0
    var receiptSequence: UInt64 = 0
    var now = Instant.zero
    var refusedWork = 0

    static let earlyLimit = 256 << 20
    static let patience = Duration.seconds(3)

    init(
        key: SigningKey, launcher: PeerID, log: JobLog, genesis: PBGenesis, parameters: JobParameters,
        memoryOffered: ByteCount, lease: Duration, at now: Instant
    ) throws(MalformedBytes) {
        self.key = key
        self.launcher = launcher
        self.log = log
        self.parameters = parameters
        self.memoryOffered = memoryOffered
        state = JobState(parameters: parameters)
        leaseUntil = now + lease
        guard let content = Digest256(genesis.content), genesis.contentBytes < 1 << 40 else {
            throw MalformedBytes("genesis without content")
        }
        self.content = content
        contentBytes = Int(genesis.contentBytes)
        fetch = ContentFetch(id: content, holders: [launcher], offset: Int(key.peerID.bytes[0]))
        self.now = now
        for envelope in log.envelopes { effects.push(.storeLogEntry(job: log.job, envelope)) }
        var request = PBPacket()
        request.indexRequest.content = bytesOf(content)
        send(request, on: .bulk, to: launcher)
    }

    var me: PeerID { key.peerID }
    var placement: (rank: Int, stage: Int)? { state.plan?.placement(of: me) }
    /// Fixed validation windows a round uses: 64, or all there are.
    var sampleWindows: [Int] {
        DataOrder(
            corpusCount: contentBytes, validationFraction: parameters.validationFraction,
            context: parameters.model.context, seed: parameters.seed
        ).fixedValidationWindows()
    }

    mutating func poll() -> SwarmEffect? { effects.pop() }
    mutating func send(_ packet: PBPacket, payload: [UInt8] = [], on lane: Lane, to peer: PeerID) {
        effects.push(.send(packet, payload: payload, on: lane, to: peer))
    }
    mutating func event(_ kind: String, peer: String = "", _ fields: KeyValuePairs<String, Event.Value> = [:]) {
        effects.push(.event(Event(kind, at: now, peer: peer, fields)))
    }
    mutating func compute(_ job: ComputeJob, _ purpose: Purpose) {
        pending.push((purpose, now))
        effects.push(.compute(job))
    }

    // MARK: the log

    mutating func receive(_ entries: PBLogEntries, from peer: PeerID) {
        for envelope in entries.entries {
            do throws(MalformedBytes) {
                switch try log.receive(envelope) {
                case .known: continue
                case .gap(let from):
                    var request = PBPacket()
                    request.logRequest.from = UInt64(from)
                    send(request, on: .control, to: launcher)
                    return reconcile()
                case .appended(let entry, _):
                    effects.push(.storeLogEntry(job: log.job, envelope))
                    try state.apply(entry)
                    announce(entry)
                }
            } catch {
                event("log_entry_refused", peer: peer.short, ["why": .text(error.description)])
                return
            }
        }
        reconcile()
    }

    private mutating func announce(_ entry: PBLogEntry) {
        switch entry.body {
        case .members(let change)?:
            for joined in change.joined {
                guard let peer = PeerID(joined.peer), let endpoint = Endpoint(compact: joined.endpoint), peer != me
                else {
                    continue
                }
                effects.push(.connect(peer, endpoint))
                fetch.add(holder: peer)
            }
            requestChunks()
            for left in change.left {
                guard let peer = PeerID(left.peer) else { continue }
                fetch.lost(peer)
                event("peer_left", peer: state.name(of: peer), ["why": .text(left.reason)])
            }
        case .plan?:
            if let plan = state.nextPlan ?? state.plan {
                let role = plan.placement(of: me).map { place in
                    let units = plan.pipelines[place.rank].stages[place.stage].units
                    if let up = plan.pipelines[place.rank].stages[place.stage].up { effects.push(.uplink(up)) }
                    return "pipeline \(place.rank) stage \(place.stage) units \(units.lowerBound)..<\(units.upperBound)"
                }
                event("plan_received", ["epoch": .integer(plan.epoch), "role": .text(role ?? "spare")])
            }
        default: break
        }
    }

    // MARK: reconciling with the log

    /// Brings the engine to where the log says it should be, one thing at a time; called after every input.
    mutating func reconcile() {
        // Every member keeps the text, whatever its stage: it may have to take another's place.
        guard state.finished == nil, corpus != nil, let plan = state.plan else { return }
        guard let place = placement else {
            retire()
            return serveRequests()
        }
        let stage = plan.pipelines[place.rank].stages[place.stage]
        if let runner, runner.spec.round == state.round, runner.phase != .done,
            runner.attempt != plan.pipelines[place.rank].attempt || runner.rank != place.rank
        {
            rewindRound()
        }
        switch holding {
        case .moving(let move):
            if move.round != state.round || move.units != stage.units || move.epoch != plan.epoch {
                beginMove(to: stage.units, plan: plan)
            }
        case .nothing: beginMove(to: stage.units, plan: plan)
        case .units(let units, let round):
            if round < state.round {
                applySeal(of: round)
            } else if units != stage.units || round > state.round || plan.rolledBackFrom(round, state) {
                beginMove(to: stage.units, plan: plan)
            } else {
                runRound(plan: plan, place: place)
            }
        }
        serveRequests()
    }

    /// No longer in the plan: what is held is brought to the round that others need it for, and kept for them until it ends.
    private mutating func retire() {
        switch holding {
        case .units(_, let round) where round < state.round: applySeal(of: round)
        case .units(let units, let round):
            abandonRunner()
            export(units, round: round)
            holding = .nothing
        case .moving:
            abandonRunner()
            generation += 1
            holding = .nothing
        case .nothing: break
        }
    }

    /// Copies the engine's units out, so that others may still fetch them when the engine has moved on.
    mutating func export(_ units: Range<Int>, round: Int) {
        retained = [:]
        retainedRound = round
        exporting += 1
        compute(.exportState(units: units, includeMoments: true), .exportForMove(generation: generation))
    }

    /// Drops what runs without touching the engine's outer state.
    mutating func abandonRunner() {
        guard runner != nil else { return }
        generation += 1
        runner = nil
    }

    /// Back to the round's start: the contribution, if any, is withdrawn.
    mutating func rewindRound() {
        abandonRunner()
        if contributed == state.round {
            compute(.withdrawContribution, .ignored)
            group?.core.withdraw()
            contributed = nil
        }
        compute(.rewind, .ignored)
        event("round_rewound", ["round": .integer(state.round)])
    }

    mutating func runRound(plan: PlacedPlan, place: (rank: Int, stage: Int)) {
        if readyReported != plan.epoch {
            readyReported = plan.epoch
            var ready = PBPacket()
            ready.ready.epoch = UInt64(plan.epoch)
            ready.ready.round = UInt64(state.round)
            send(ready, on: .control, to: launcher)
        }
        ensureGroup()
        guard let spec = state.spec, runner == nil || runner!.spec.round != spec.round else { return }
        // A pipeline that has lost a stage waits for the log to say what becomes of it.
        guard !state.isBroken(rank: place.rank) else { return }
        // A plan may change that alone: what the engine holds stays.
        let recompute = plan.pipelines[place.rank].stages[place.stage].recompute
        if recompute != recomputes {
            recomputes = recompute
            compute(.recompute(recompute), .ignored)
        }
        runner = StageRunner(
            spec: spec, plan: plan, rank: place.rank, stage: place.stage, parameters: parameters,
            sampleWindows: sampleWindows)
        pipelinePeers = plan.pipelines[place.rank].stages.map(\.peer)
        runner!.start()
        drainRunner()
        replayEarly()
    }

    // MARK: results of the engine

    mutating func computed(_ result: ComputeResult) {
        guard let (purpose, since) = pending.pop() else { return }
        let time = now - max(since, engineFree)
        engineFree = now
        if case .refused(let why) = result, !purpose.isCheck {
            refusedWork += 1
            event("work_refused", ["why": .text(why)])
        }
        switch purpose {
        case .ignored: break
        case .runner(let generation):
            guard generation == self.generation, runner != nil else { break }
            // What comes after the receipt is not in its FLOPs.
            if runner!.phase != .applying { roundComputeTime += time }
            runner!.computed(result)
            drainRunner()
        case .export(let peer, let round):
            if case .state(let units) = result { sendState(units, round: round, to: peer) }
        case .exportForMove(let generation):
            exporting -= 1
            if case .state(let units) = result {
                for unit in units { retained[unit.unit] = unit }
                continueMove(generation)
            }
        case .imported(let generation): finishMove(generation)
        case .chunk(let terms, let unit, let chunk): averaged(result, terms, unit: unit, chunk: chunk)
        case .checked(let round, let rank, let attempt, let digests):
            checked(result, round: round, rank: rank, attempt: attempt, digests: digests)
        case .audit(let terms, let key): audited(result, terms, key)
        case .catchUp(let round, let generation):
            if case .digests(let digests, let squares) = result, generation == self.generation {
                applied(round: round, digests: digests, squares: squares)
            }
        case .digests(let round):
            if case .digests(let digests, _) = result { applied(round: round, digests: digests) }
        }
        reconcile()
    }

    func status() -> PBHeartbeat {
        var heartbeat = PBHeartbeat()
        heartbeat.logLength = UInt64(log.length)
        heartbeat.round = UInt64(state.round)
        heartbeat.step = UInt64(runner?.step ?? state.nextStep)
        heartbeat.doing = doing
        if let waiting = exchangeWaitsFor { heartbeat.waiting = waiting }
        return heartbeat
    }
    var doing: String {
        if corpus == nil, fetch.index != nil, !fetch.isComplete {
            return "text \(fetch.progress.have)/\(fetch.progress.of)"
        }
        if placement == nil { return state.plan == nil ? "ready" : "spare" }
        if case .moving = holding { return "fetching weights" }
        if runner?.phase == .waitingForSeal, let peer = exchangeWaitsFor.flatMap({ PeerID($0.peer) }) {
            return "exchanging: waits for \(state.name(of: peer))"
        }
        return runner?.doing ?? "waiting"
    }
}

extension PlacedPlan {
    /// Whether this plan took the job back to a round before the state at hand.
    func rolledBackFrom(_ held: Int, _ state: JobState) -> Bool { held > state.round }
}
