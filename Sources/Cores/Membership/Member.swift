import Digests
public import Primitives
import Telemetry
public import Training
public import Wire

/// What a peer offers and whom it works for: its owner's decision, enforced here.
public struct MemberTerms: Sendable {
    public var name: String
    public var device: String
    public var memory: ByteCount
    /// Launchers its owner accepted.
    public var accepts: [PeerID]
    public init(name: String, device: String, memory: ByteCount, accepts: [PeerID]) {
        self.name = name
        self.device = device
        self.memory = memory
        self.accepts = accepts
    }
}

/// A volunteer's side of the swarm: says what it can do, accepts offers of accepted launchers, works while its lease lasts.
public struct Member: Core, Sendable {
    public typealias Effect = SwarmEffect

    private let key: SigningKey
    public let terms: MemberTerms
    private let parse: @Sendable (String) throws(MalformedBytes) -> JobParameters
    private var job: MemberJob?
    private var probe = LinkProbe()
    private var effects = EffectQueue<SwarmEffect>()
    private var flops = 0.0
    private var benchmark: (since: Instant, flops: Double, warmed: Bool)?
    private var askedCapability: [PeerID] = []
    private var nextHeartbeat: Instant?
    private var socketBytes: (sent: Int, received: Int) = (0, 0)
    /// Micro-batches this peer has contributed to sealed rounds, over all jobs of this run.
    public private(set) var roundsWorked = 0

    static let heartbeatEvery = Duration.seconds(1)
    static let benchmarkFLOPs = 4e8

    /// - Parameter parse: reads a manifest's canonical text; the arithmetic's parameters come out.
    public init(
        key: SigningKey, terms: MemberTerms, at now: Instant,
        parse: @escaping @Sendable (String) throws(MalformedBytes) -> JobParameters = JobParameters.init(manifest:)
    ) {
        self.key = key
        self.terms = terms
        self.parse = parse
        benchmark = (now, Self.benchmarkFLOPs / 8, false)
        effects.push(.compute(.benchmark(flops: Self.benchmarkFLOPs / 8)))
    }

    public var isWorking: Bool { job != nil }
    public var jobName: String? { job?.parameters.name }
    public var doing: String { job?.doing ?? "free" }
    public var jobID: Digest256? { job?.log.job }

    // MARK: inputs

    /// Bytes at the socket since start, for the next heartbeat.
    public mutating func count(sent: Int, received: Int) { socketBytes = (sent, received) }

    public mutating func receive(
        _ packet: PBPacket, payload: [UInt8], from peer: PeerID, endpoint: Endpoint? = nil, at now: Instant
    ) {
        job?.now = now
        switch packet.body {
        case .capabilityRequest?: answerCapability(to: peer)
        case .offer(let offer)?: receive(offer, from: peer, at: now)
        case .ping(let ping)?:
            var answer = PBPacket()
            answer.pong.nonce = ping.nonce
            effects.push(.send(answer, on: .control, to: peer))
        case .pong(let pong)?: probe.receive(pong, from: peer, at: now)
        case .probeOrder(let order)?: if peer == job?.launcher { probe.receive(order, from: peer, at: now) }
        case .probeBurst(let burst)?:
            if job?.state.member(peer) != nil { probe.receive(burst, bytes: payload.count, from: peer, at: now) }
        case .lease(let lease)?:
            if peer == job?.launcher, Array(lease.job) == job?.log.job.bytes {
                job!.leaseUntil = now + .milliseconds(Int64(lease.milliseconds))
            }
        case .farewell(let farewell)?: if peer == job?.launcher { release(farewell.reason, at: now) }
        default:
            guard job != nil else { return }
            receiveForJob(packet, payload, from: peer)
            if job?.state.finished != nil { release("finished", at: now) }
        }
        drain()
    }

    private mutating func receiveForJob(_ packet: PBPacket, _ payload: [UInt8], from peer: PeerID) {
        // Only the launcher and members of the job get past here.
        guard peer == job!.launcher || job!.state.member(peer) != nil else { return }
        switch packet.body {
        case .logEntries(let entries)?: job!.receive(entries, from: peer)
        case .activation?, .norms?:
            job!.receiveWork(packet, payload: payload, from: peer)
            job!.reconcile()
        case .exchangePart(let message)?:
            job!.receive(message, payload: payload, from: peer)
            job!.reconcile()
        case .group(let message)?: if peer == job!.launcher { job!.receive(message) }
        case .audit(let message)?: if peer == job!.launcher { job!.receive(message) }
        case .stateRequest(let message)?: job!.receive(message, from: peer)
        case .state(let message)?:
            job!.receive(message, payload: payload, from: peer)
            job!.reconcile()
        case .indexRequest?, .chunkRequest?, .contentIndex?, .chunk?:
            job!.receiveContent(packet, payload: payload, from: peer)
        default: break
        }
    }

    public mutating func computed(_ result: ComputeResult, at now: Instant) {
        if let running = benchmark {
            let elapsed = (now - running.since).inSeconds
            if running.warmed {
                benchmark = nil
                flops = running.flops / max(elapsed, 1e-9)
                effects.push(.event(Event("speed_measured", at: now, ["flops": .real(flops)])))
                for peer in askedCapability { answerCapability(to: peer) }
                askedCapability = []
            } else {
                benchmark = (now, Self.benchmarkFLOPs, true)
                effects.push(.compute(.benchmark(flops: Self.benchmarkFLOPs)))
            }
            return
        }
        if abandoned > 0 {
            abandoned -= 1
            return
        }
        job?.now = now
        job?.computed(result)
        drain()
    }

    /// A peer is connected, perhaps once more.
    public mutating func established(_ peer: PeerID, at now: Instant) {
        guard job != nil else { return }
        job!.now = now
        job!.resendParts(to: peer)
        drain()
    }

    /// A connection ended for good.
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        guard job != nil else { return }
        job!.now = now
        job!.fetch.lost(peer)
        job!.requestChunks()
        drain()
    }

    public mutating func wake(at now: Instant) {
        probe.wake(at: now)
        if job != nil {
            job!.now = now
            if job!.leaseUntil <= now { release("the lease ran out: nothing heard of the launcher", at: now) }
        }
        if job != nil {
            if nextHeartbeat == nil || nextHeartbeat! <= now {
                nextHeartbeat = now + Self.heartbeatEvery
                var packet = PBPacket()
                packet.heartbeat = job!.status()
                packet.heartbeat.sentBytes = UInt64(socketBytes.sent)
                packet.heartbeat.receivedBytes = UInt64(socketBytes.received)
                effects.push(.send(packet, on: .control, to: job!.launcher))
            }
            job!.requestChunks()
            job!.retryMove()
            job!.reconcile()
        }
        drain()
    }

    public mutating func poll() -> SwarmEffect? { effects.pop() }
    public var nextWake: Instant? {
        var next = probe.nextWake
        if let job { next = earliest(next, earliest(nextHeartbeat, job.leaseUntil)) }
        return next
    }

    /// Leaves in good order.
    public mutating func leave(at now: Instant) {
        guard let job else { return }
        var packet = PBPacket()
        packet.farewell.reason = "its owner stopped it"
        effects.push(.send(packet, on: .control, to: job.launcher))
        release("left", at: now)
        drain()
    }

    // MARK: offers

    private mutating func answerCapability(to peer: PeerID) {
        guard flops > 0 else {
            if !askedCapability.contains(peer), askedCapability.count < 64 { askedCapability.append(peer) }
            return
        }
        var packet = PBPacket()
        packet.capability.name = terms.name
        packet.capability.device = terms.device
        packet.capability.memoryBytes = UInt64(terms.memory.bytes)
        packet.capability.flops = flops
        packet.capability.numerics = JobLog.numerics
        packet.capability.accepts = terms.accepts.map { bytesOf($0) }
        packet.capability.job = job?.log.job.short ?? ""
        effects.push(.send(packet, on: .control, to: peer))
    }

    private mutating func receive(_ offer: PBOffer, from peer: PeerID, at now: Instant) {
        var answer = PBOfferAnswer()
        answer.job = offer.genesis.job
        do throws(MalformedBytes) {
            guard let signer = PeerID(offer.genesis.signer), terms.accepts.contains(signer) else {
                throw MalformedBytes(
                    "launcher \(PeerID(offer.genesis.signer)?.short ?? "?") is not among those the owner of \(terms.name) accepts"
                )
            }
            let log = try JobLog(genesis: offer.genesis)
            if let job, job.log.job != log.job || job.launcher != peer {
                throw MalformedBytes("\(terms.name) works for job \(job.log.job.short)")
            }
            if job == nil {
                guard signer == peer else { throw MalformedBytes("the offer was signed by another launcher") }
                let statement = try offer.genesis.open(.logEntry, job: log.job, as: PBLogEntry.self)
                let parameters = try parse(statement.body.genesis.manifest)
                job = try MemberJob(
                    key: key, launcher: peer, log: log, genesis: statement.body.genesis, parameters: parameters,
                    memoryOffered: terms.memory, lease: .milliseconds(Int64(offer.leaseMilliseconds)), at: now)
                nextHeartbeat = now
                effects.push(
                    .event(
                        Event(
                            "job_accepted", at: now, peer: peer.short,
                            ["job": .text(log.job.short), "name": .text(parameters.name)])))
            }
            answer.accepted = true
        } catch {
            answer.reason = error.description
            effects.push(.event(Event("offer_declined", at: now, peer: peer.short, ["why": .text(error.description)])))
        }
        var packet = PBPacket()
        packet.offerAnswer = answer
        effects.push(.send(packet, on: .control, to: peer))
    }

    private mutating func release(_ reason: String, at now: Instant) {
        drain()
        guard let job else { return }
        roundsWorked += job.state.seals.count
        effects.push(.event(Event("job_released", at: now, ["job": .text(job.log.job.short), "why": .text(reason)])))
        effects.push(.eraseJob(job: job.log.job, content: job.content))
        abandoned += job.pending.count
        self.job = nil
        nextHeartbeat = nil
    }
    /// Compute jobs of a released job whose results are still to come.
    private var abandoned = 0

    private mutating func drain() {
        while let effect = job?.poll() { effects.push(effect) }
        while let effect = probe.poll() {
            switch effect {
            case .connect(let peer, let endpoint): effects.push(.connect(peer, endpoint))
            case .send(let packet, let payload, let lane, let peer):
                effects.push(.send(packet, payload: payload, on: lane, to: peer))
            }
        }
    }
}
