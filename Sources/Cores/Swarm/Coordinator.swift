import Digests
public import Exchange
public import Primitives
import Telemetry
import Training
public import Wire

public struct CoordinatorOptions: Sendable {
    /// Begin when this many have accepted; nil: when nobody new has come for ``quiet``.
    public var expectedPeers: Int?
    public var quiet: Duration = .seconds(3)
    /// Give up when too few peers came in this time.
    public var gatherLimit: Duration = .seconds(120)
    public var lease: Duration = .seconds(15)
    /// Nothing heard of a member for this long: it is lost. A closed connection is noticed sooner.
    public var silence: Duration = .seconds(5)
    /// Longest burst of a survey of the links.
    public var probeBytes = 2 << 20
    /// Share of the rounds with owners in which one chunk is added up by others too.
    public var auditShare = 0.25
    public init() {}
}

/// The launcher's side: gathers peers, measures, asks for a plan, writes the job log, seals rounds, recovers, collects.
///
/// It is the only elector for now. What it decides is an entry of the log; what it knows besides (measurements, receipts,
/// heartbeats) only informs those decisions.
public struct Coordinator: Core, Sendable {
    public typealias Effect = SwarmEffect

    public enum Phase: Hashable, Sendable {
        case gathering, sharing, probing, planning, preparing, training, collecting, ended
    }

    public struct Candidate: Sendable {
        public var peer: PeerID
        public var endpoint: Endpoint
        public var capability: PBCapability?
        public var accepted = false
        public var refusal: String?
        public var name: String
        var lastHeard: Instant
        public var heartbeat = PBHeartbeat()
        var roundTrip: Duration?
        var askedAgain: Instant?
        public var lost = false
    }
    /// When a round was sealed, and how long it took since the one before (or since training began).
    public struct RoundTime: Hashable, Sendable {
        public var round: Int
        public var at: Instant
        public var seconds: Double
        public var steps: Int
        /// Nobody left, and nobody was left out.
        public var undisturbed: Bool
        public var planEpoch: Int
    }

    let key: SigningKey
    let options: CoordinatorOptions
    let parameters: JobParameters
    let manifest: String
    let contentIndex: ContentIndex
    let contentBytes: [UInt8]
    var effects = EffectQueue<SwarmEffect>()
    var now: Instant

    public internal(set) var log: JobLog
    public internal(set) var state: JobState
    public internal(set) var phase = Phase.gathering
    public internal(set) var candidates: [PeerID: Candidate] = [:]
    var arrivalOrder: [PeerID] = []
    public internal(set) var ledger = Ledger()
    /// Verified receipts, in order of arrival.
    public internal(set) var receipts: [(peer: PeerID, work: PBWork)] = []
    public internal(set) var receiptEnvelopes: [PBEnvelope] = []
    public internal(set) var roundTimes: [RoundTime] = []
    public internal(set) var answer: PlanAnswer?
    public internal(set) var predictionAtStart: PlanAnswer?
    public internal(set) var trainingStarted: Instant?
    public internal(set) var ended: Instant?
    let started: Instant
    var lastArrival: Instant
    var nextLease: Instant?
    var saidWaiting: Instant?

    var sharingSince = Instant.zero

    // Links
    var survey: LinkSurvey?
    var surveyTurn: UInt64 = 0
    var links = LinkSurvey.Findings()
    var paces = PaceWatch()
    var pingNonces: [UInt64: (peer: PeerID, at: Instant)] = [:]
    var nextNonce: UInt64 = 1

    // The round in progress
    var progress = RoundProgress()
    var watch = GroupWatch()
    /// What the last exchanges took, from the last contribution to the seal.
    public internal(set) var exchangeSeconds: [Double] = []
    /// Rounds in a row that a peer was late for.
    var lateRounds: [PeerID: Int] = [:]
    /// Rounds in which a peer was left out for its own fault.
    var faults: [PeerID: Int] = [:]
    /// With whom a peer has disagreed about a sum, without proof; and peers that neither own nor audit any more.
    var disputes: [PeerID: Set<PeerID>] = [:]
    var barredOwners: Set<PeerID> = []
    var roundStarted: Instant
    var disturbed = false
    var pendingJoins: [PeerID] = []
    var wantsPlan: String?
    var planningFor: (reason: String, rollBack: Bool)?
    var readyAnswer: (answer: PlanAnswer, reason: String)?
    var lossAwaitingResume: (at: Instant, step: UInt64)?
    var appliedDigests: [Int: [Int: [PeerID: Digest256]]] = [:]
    var seenSequence: [PeerID: UInt64] = [:]
    var speeds = SpeedWatch()
    public internal(set) var noise = GradientNoise()
    /// Of sealed rounds, until their holders' reports are complete: contributors, tokens, and what was reported so far.
    var noiseReports: [Int: (contributors: Int, tokens: Int, sum: GradientSquares)] = [:]
    /// Peers whose stage holds what the plan in force gives it; the others are fetching, and are waited for longer.
    var readyPeers: Set<PeerID> = []
    /// Times in a row that nobody finished a round.
    var stuck = 0

    var collection: Collection?
    public internal(set) var checkpointRound = -1
    var checkpoint: [UnitState] = []

    public init(
        key: SigningKey, manifest: String, parameters: JobParameters, content: [UInt8], options: CoordinatorOptions,
        at now: Instant
    ) {
        self.key = key
        self.options = options
        self.manifest = manifest
        self.parameters = parameters
        contentBytes = content
        contentIndex = ContentIndex(of: content)
        let genesis = JobLog.genesis(
            manifest: manifest, content: contentIndex.id, contentBytes: content.count, by: key)
        do { log = try JobLog(genesis: genesis) } catch { preconditionFailure("own genesis refused: \(error)") }
        state = JobState(parameters: parameters)
        self.now = now
        started = now
        lastArrival = now
        roundStarted = now
        effects.push(.storeLogEntry(job: log.job, genesis))
    }

    public var jobID: Digest256 { log.job }
    public mutating func poll() -> SwarmEffect? { effects.pop() }

    /// Present members in order of arrival.
    public var members: [Candidate] {
        arrivalOrder.compactMap { candidates[$0] }.filter { $0.accepted && !$0.lost }
    }

    mutating func send(_ packet: PBPacket, payload: [UInt8] = [], on lane: Lane = .control, to peer: PeerID) {
        effects.push(.send(packet, payload: payload, on: lane, to: peer))
    }
    mutating func event(_ kind: String, peer: PeerID? = nil, _ fields: KeyValuePairs<String, Event.Value> = [:]) {
        effects.push(.event(Event(kind, at: now, peer: peer.map { candidates[$0]?.name ?? $0.short } ?? "", fields)))
    }

    // MARK: the log

    /// Signs an entry, folds it, and sends it to every member.
    mutating func append(_ body: PBLogEntry.OneOf_Body) {
        let (envelope, entry) = log.append(body, epoch: 1, by: key)
        do { try state.apply(entry) } catch { preconditionFailure("own log entry refused: \(error)") }
        effects.push(.storeLogEntry(job: log.job, envelope))
        var packet = PBPacket()
        packet.logEntries.entries = [envelope]
        for member in members { send(packet, to: member.peer) }
    }
    mutating func sendLog(to peer: PeerID, from index: Int) {
        var packet = PBPacket()
        packet.logEntries.entries = Array(log.envelopes.dropFirst(index))
        send(packet, to: peer)
    }

    // MARK: inputs

    /// A peer of the pool is connected: whoever it is, ask what it can do.
    public mutating func established(_ peer: PeerID, endpoint: Endpoint, at now: Instant) {
        self.now = now
        guard phase != .ended, peer != key.peerID else { return }
        if var known = candidates[peer] {
            known.lastHeard = now
            known.endpoint = endpoint
            let wasLost = known.lost
            candidates[peer] = known
            if !wasLost, known.accepted { return }
        } else {
            arrivalOrder.append(peer)
            candidates[peer] = Candidate(peer: peer, endpoint: endpoint, name: peer.short, lastHeard: now)
        }
        var packet = PBPacket()
        packet.capabilityRequest = PBCapabilityRequest()
        send(packet, to: peer)
    }

    public mutating func lost(_ peer: PeerID, reason: String, at now: Instant) {
        self.now = now
        memberLost(peer, reason: reason)
        advance()
    }

    public mutating func receive(_ packet: PBPacket, payload: [UInt8], from peer: PeerID, at now: Instant) {
        self.now = now
        guard phase != .ended, candidates[peer] != nil else { return }
        candidates[peer]!.lastHeard = now
        if candidates[peer]!.lost, case .heartbeat? = packet.body { return askAgain(peer) }
        switch packet.body {
        case .capability(let capability)?: receive(capability, from: peer)
        case .offerAnswer(let answer)?: receive(answer, from: peer)
        case .logRequest(let request)?: if isMember(peer) { sendLog(to: peer, from: Int(clamping: request.from)) }
        case .heartbeat(let heartbeat)?: receive(heartbeat, from: peer)
        case .probeResult(let result)?:
            survey?.receive(result, from: peer, trip: { candidates[$0]?.roundTrip ?? .zero }, at: now)
        case .ping(let ping)?:
            var answer = PBPacket()
            answer.pong.nonce = ping.nonce
            send(answer, to: peer)
        case .pong(let pong)?:
            if let sent = pingNonces.removeValue(forKey: pong.nonce), sent.peer == peer {
                let trip = now - sent.at
                candidates[peer]!.roundTrip = min(candidates[peer]!.roundTrip ?? trip, trip)
            }
        case .ready(let ready)?: if Int(clamping: ready.epoch) == state.planCount { readyPeers.insert(peer) }
        case .stateRequest(let request)?: serve(request, to: peer)
        case .receipt(let receipt)?: receive(receipt, from: peer)
        case .held(let held)?: progress.receive(held, from: peer, state: state)
        case .applied(let applied)?: receive(applied, from: peer)
        case .gathered(let gathered)?: if isMember(peer) { progress.receive(gathered, from: peer) }
        case .refusal(let refusal)?: if isMember(peer) { receive(refusal, from: peer) }
        case .audited(let report)?: if isMember(peer) { receive(report, from: peer) }
        case .state(let message)?: receive(message, payload: payload, from: peer)
        case .indexRequest(let request)?:
            guard isMember(peer) || candidates[peer]!.capability != nil, Array(request.content) == contentIndex.id.bytes
            else { break }
            var answer = PBPacket()
            answer.contentIndex.content = request.content
            answer.contentIndex.index = bytesOf(contentIndex.encoded)
            answer.contentIndex.holders = [bytesOf(key.peerID)]
            send(answer, on: .bulk, to: peer)
        case .chunkRequest(let request)?: serve(request, to: peer)
        case .farewell(let farewell)?: memberLost(peer, reason: farewell.reason)
        default: break
        }
        advance()
    }

    /// It was given up, but its connection lives and it still works for us: it may come back like any newcomer.
    private mutating func askAgain(_ peer: PeerID) {
        guard now - (candidates[peer]!.askedAgain ?? started) >= .seconds(5) else { return }
        candidates[peer]!.askedAgain = now
        var packet = PBPacket()
        packet.capabilityRequest = PBCapabilityRequest()
        send(packet, to: peer)
    }

    func isMember(_ peer: PeerID) -> Bool { candidates[peer].map { $0.accepted && !$0.lost } ?? false }

    private mutating func serve(_ request: PBChunkRequest, to peer: PeerID) {
        let number = Int(request.chunk)
        guard isMember(peer), Array(request.content) == contentIndex.id.bytes, number < contentIndex.count else {
            return
        }
        var answer = PBPacket()
        answer.chunk.content = request.content
        answer.chunk.chunk = request.chunk
        let start = number * ContentIndex.chunkBytes
        send(answer, payload: Array(contentBytes[start..<start + contentIndex.lengths[number]]), on: .bulk, to: peer)
    }

    private mutating func receive(_ heartbeat: PBHeartbeat, from peer: PeerID) {
        candidates[peer]!.heartbeat = heartbeat
        noticeProgress(step: heartbeat.step)
    }

    // MARK: gathering

    private mutating func receive(_ capability: PBCapability, from peer: PeerID) {
        guard capability.numerics == JobLog.numerics else {
            candidates[peer]!.refusal = "numerics \(capability.numerics), this job needs \(JobLog.numerics)"
            return event("peer_unfit", peer: peer, ["why": .text(candidates[peer]!.refusal!)])
        }
        candidates[peer]!.capability = capability
        let wanted = String(capability.name.prefix(40))
        let taken = candidates.values.contains { $0.peer != peer && $0.name == wanted }
        candidates[peer]!.name = wanted.isEmpty || taken ? "\(wanted)-\(peer.short)" : wanted
        event(
            "peer_found", peer: peer,
            [
                "device": .text(capability.device), "gflops": .real(capability.flops / 1e9),
                "memory_mib": .real(Double(capability.memoryBytes) / 1_048_576),
            ])
        var packet = PBPacket()
        packet.offer.genesis = log.envelopes[0]
        packet.offer.leaseMilliseconds = UInt32(options.lease.inMilliseconds)
        send(packet, to: peer)
    }

    private mutating func receive(_ answer: PBOfferAnswer, from peer: PeerID) {
        guard answer.accepted else {
            candidates[peer]!.refusal = answer.reason
            return event("peer_declined", peer: peer, ["why": .text(answer.reason)])
        }
        guard !candidates[peer]!.accepted || candidates[peer]!.lost else { return }
        candidates[peer]!.accepted = true
        candidates[peer]!.lost = false
        candidates[peer]!.refusal = nil
        lastArrival = now
        event("peer_joined", peer: peer)
        if phase == .gathering { return }
        pendingJoins.append(peer)
    }

    // MARK: time

    public mutating func wake(at now: Instant) {
        self.now = now
        guard phase != .ended else { return }
        for member in members where now - member.lastHeard > options.silence {
            memberLost(member.peer, reason: "nothing heard for \(fixed(options.silence.inSeconds, 0)) s")
        }
        if nextLease == nil || nextLease! <= now {
            nextLease = now + .seconds(2)
            var packet = PBPacket()
            packet.lease.job = bytesOf(log.job)
            packet.lease.milliseconds = UInt32(options.lease.inMilliseconds)
            for member in members {
                send(packet, to: member.peer)
                sendGroup(to: member.peer)
                ping(member.peer)
            }
        }
        advance()
    }

    mutating func ping(_ peer: PeerID) {
        var packet = PBPacket()
        packet.ping.nonce = nextNonce
        if pingNonces.count > 4096 { pingNonces = [:] }
        pingNonces[nextNonce] = (peer, now)
        nextNonce += 1
        send(packet, to: peer)
    }

    public var nextWake: Instant? {
        guard phase != .ended else { return nil }
        var next = earliest(nextLease ?? now, survey?.deadline)
        if phase == .gathering {
            if lastArrival > started { next = earliest(next, lastArrival + options.quiet) }
            next = earliest(next, started + options.gatherLimit)
        }
        if phase == .training {
            next = earliest(next, earliest(exchangeDeadline, watch.audit?.deadline))
            next = earliest(next, earliest(lateAt.map { max($0, now + .seconds(1)) }, habitual?.until))
        }
        if let collection { next = earliest(next, collection.deadline) }
        for peer in arrivalOrder {
            guard let member = candidates[peer], member.accepted, !member.lost else { continue }
            next = earliest(next, member.lastHeard + options.silence + .milliseconds(1))
        }
        // What is overdue and could not be settled is looked at again soon, not at once.
        return next.map { $0 <= now ? now + .milliseconds(100) : $0 }
    }

    // MARK: what comes next

    mutating func advance() {
        switch phase {
        case .gathering: advanceGathering()
        case .sharing:
            let waiting = members.contains { !$0.heartbeat.doing.hasPrefix("ready") }
            if !waiting || now - sharingSince >= .seconds(600) { beginProbing() }
        case .probing: advanceSurvey()
        case .planning: if members.isEmpty { fail("every peer left before there was a plan") }
        case .preparing, .training:
            advanceSurvey()
            advanceRound()
        case .collecting: advanceCollection()
        case .ended: break
        }
    }

    private mutating func advanceGathering() {
        let accepted = members.count
        let enough =
            options.expectedPeers.map { accepted >= $0 } ?? (accepted > 0 && now - lastArrival >= options.quiet)
        if enough { return beginSharing() }
        let declined = arrivalOrder.compactMap { candidates[$0] }.filter { $0.refusal != nil && !$0.lost }
        if accepted == 0, !declined.isEmpty, now - lastArrival >= options.quiet + .seconds(2) {
            let reasons = declined.prefix(3).map { "\($0.name): \($0.refusal!)" }.joined(separator: "; ")
            return fail(
                "none of the \(declined.count) peers found works for this launcher (\(key.peerID.hex)): \(reasons). "
                    + "Ask their owners to add it to `accept`, or launch with a key that the invite names")
        }
        if now - started >= options.gatherLimit {
            if accepted > 0, options.expectedPeers == nil { return beginSharing() }
            let wanted = options.expectedPeers.map { "\($0) peers" } ?? "a peer"
            return fail(
                "only \(accepted) of the wanted \(wanted) came in \(fixed(options.gatherLimit.inSeconds, 0)) s; "
                    + "start more with `atoll peer --invite FILE`, or check that they reach the pool's bootstrap node")
        }
        if now - (saidWaiting ?? started) >= .seconds(5) {
            saidWaiting = now
            event("waiting_for_peers", ["have": .integer(accepted), "want": .integer(options.expectedPeers ?? 1)])
        }
    }

    mutating func fail(_ why: String) {
        guard phase != .ended else { return }
        if state.plan != nil {
            var finish = PBFinish()
            finish.reason = "failed: \(why)"
            append(.finish(finish))
        }
        ledger.abandon()
        farewell("the job ended: \(why)")
        phase = .ended
        ended = now
        effects.push(.ended(.failed(why)))
    }

    mutating func farewell(_ reason: String) {
        var packet = PBPacket()
        packet.farewell.reason = reason
        for member in members { send(packet, to: member.peer) }
    }

    /// The owner pressed ^C.
    public mutating func cancel(at now: Instant) {
        self.now = now
        fail("stopped by its launcher")
    }
}
