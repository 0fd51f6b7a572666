import Consensus
public import Digests
import Exchange
public import Messages
public import Primitives
public import Record
public import Telemetry
public import Training

/// A job as whoever watches it from anywhere in the pool sees it: its log as peers have it, told as the events that its leader tells, and what
/// those who can be reached are at. It has no part in the job: closing it changes nothing.
public struct JobWatch: Core, Sendable {
    public enum Effect: Sendable {
        case send(Packet, to: PeerID)
        case event(Event)
        /// The log has its last entry; and what was to be collected has been, or will not be.
        case ended(Finish)
    }
    /// What has come of collecting the result.
    public enum Collected: Sendable {
        /// All units, as the log's last entry says.
        case weights([UnitState])
        case failed(String)
    }
    private var reader: JobReader
    private var nextStatus: Instant
    /// What had been sealed when the log was first read to its end, and when: only what comes after it has a speed.
    private var since: (tokens: Int, at: Instant)?
    private var sealedAt: Instant?
    /// Since when none of those who can be reached has a leader.
    private var leaderless: Instant?
    /// How the job ended: by its last entry, or done, where all is trained and nobody has the log any more.
    public private(set) var finish: Finish?
    private var hasEnded: Bool { collector == nil ? finish != nil : collected != nil }
    /// Whose key collects the result when the job is over; nil: it is watched only. And how long nothing may come of it.
    private let collector: PeerID?
    private let patience: Duration
    private var fetch: ResultFetch?
    public private(set) var collected: Collected?
    private var effects = EffectQueue<Effect>()
    private static let every = Duration.seconds(1)
    /// Leaders change within seconds: that is not worth a word.
    private static let patience = Duration.seconds(10)

    /// - Parameters:
    ///   - collector: whose key collects the result when the job is over.
    ///   - patience: that is given up when nothing has come for so long.
    public init(
        choosing choice: @escaping JobReader.Choice, collectingAs collector: PeerID? = nil,
        patience: Duration = .seconds(60), at now: Instant, parse: @escaping Record.Parser
    ) {
        self.collector = collector
        self.patience = patience
        reader = JobReader(choosing: choice, at: now, parse: parse)
        nextStatus = now + Self.every
    }

    /// Of the job that is watched; nil before somebody has told of it.
    public var record: Record? { reader.record }
    public var nextWake: Instant? {
        hasEnded ? nil : earliest(earliest(reader.nextWake, nextStatus), fetch?.nextWake)
    }
    /// Whether the result is fetched from a peer.
    public func collects(from peer: PeerID) -> Bool { fetch?.isSource(peer) ?? false }
    public mutating func poll() -> Effect? { effects.pop() }

    public mutating func established(_ peer: PeerID, at now: Instant) {
        reader.established(peer, at: now)
        drain(at: now)
    }
    public mutating func lost(_ peer: PeerID, at now: Instant) {
        reader.lost(peer)
        fetch?.lost(peer, at: now)
        drain(at: now)
    }
    public mutating func receive(_ packet: Packet, from peer: PeerID, at now: Instant) {
        guard !hasEnded else { return }
        if packet.message.conversation == .content {
            if packet.job == record?.job { fetch?.receive(packet.message, from: peer, at: now) }
        } else {
            reader.receive(packet, from: peer, at: now)
        }
        drain(at: now)
    }
    public mutating func wake(at now: Instant) {
        guard !hasEnded else { return }
        reader.wake(at: now)
        fetch?.wake(at: now)
        drain(at: now)
        guard nextStatus <= now, !hasEnded else { return }
        nextStatus = now + Self.every
        tellStatus(at: now)
    }

    private mutating func drain(at now: Instant) {
        read(at: now)
        collect(at: now)
    }
    private mutating func read(at now: Instant) {
        var entered: [Entry] = []
        while let effect = reader.poll() {
            switch effect {
            case .send(let packet, let peer): effects.push(.send(packet, to: peer))
            case .event(let event): effects.push(.event(event))
            case .entered(let entry): entered.append(entry)
            case .restarted: entered = []
            }
        }
        guard !entered.isEmpty, let record = reader.record else { return }
        if since == nil {
            say(.jobOpened(job: record.job.short, nonce: String(record.genesis.nonce.hex.prefix(8))), at: now)
        }
        for entry in entered { tell(entry, record, at: now) }
        let known = reader.sources.values.map(\.length).max() ?? 0
        if since == nil, record.length >= known { since = (record.state.sealedTokens, now) }
        if let finish = record.state.finished, self.finish == nil {
            self.finish = finish
            tellStatus(at: now)
            if collector == nil { effects.push(.ended(finish)) }
        }
    }

    // MARK: collecting

    private mutating func collect(at now: Instant) {
        guard let collector, collected == nil, let record = reader.record else { return }
        guard record.mayCollect(collector) else { return collected(.failed(Self.notNamed(collector, record))) }
        if fetch == nil, let finish {
            guard finish.reason == Finish.done, let weights = finish.weights else {
                return collected(.failed("the job has ended without a result: \(finish.reason)"))
            }
            fetch = ResultFetch(record, weights: weights, from: reader.tellers, patience: patience, at: now)
            if fetch == nil {
                collected(
                    .failed("the job is done, and its log does not say what its units were: nothing can be checked"))
            }
        }
        fetch?.hear(of: reader.tellers, at: now)
        while let effect = fetch?.poll() {
            switch effect {
            case .send(let message, let peer): effects.push(.send(Packet(job: record.job, message), to: peer))
            case .event(let what, let peer): say(what, peer.map { record.state.name(of: $0) } ?? "", at: now)
            case .done(let states): collected(.weights(states))
            case .failed(let why): collected(.failed(why))
            }
        }
    }
    private mutating func collected(_ what: Collected) {
        collected = what
        fetch = nil
        effects.push(.ended(finish ?? Finish(reason: "nothing is collected")))
    }
    private static func notNamed(_ collector: PeerID, _ record: Record) -> String {
        let named = record.parameters.collectors.map(\.short).joined(separator: ", ")
        return "job \(record.job.short) does not let \(collector.hex) collect its result: its manifest names "
            + (named.isEmpty
                ? "nobody (`collectors`, docs/JOB.md)" : "\(named). Give the key of one of those with --identity")
    }
    private mutating func say(_ what: Happening, _ peer: String = "", at now: Instant) {
        effects.push(.event(Event(what, at: now, peer: peer)))
    }

    // MARK: what the log says, as its leader tells it

    private mutating func tell(_ entry: Entry, _ record: Record, at now: Instant) {
        switch entry {
        case .members(let change):
            for peer in change.joined {
                say(
                    .peerFound(
                        device: peer.device, gflops: peer.flops / 1e9,
                        memoryMib: Double(peer.memory.bytes) / 1_048_576), peer.name, at: now)
                say(.peerJoined, peer.name, at: now)
            }
            for peer in change.left { say(.peerLost(why: peer.reason), record.state.name(of: peer.peer), at: now) }
        case .plan(let change): tell(change, record, at: now)
        case .seal(let seal):
            // The log has no clock: a round that had been sealed before anybody looked has no length. Only the last of those is told.
            if since == nil, seal.round < record.state.round - 1 { return }
            let seconds = since == nil ? 0 : sealedAt.map { (now - $0).inSeconds } ?? 0
            sealedAt = since == nil ? nil : now
            say(
                .roundSealed(
                    round: seal.round, steps: seal.firstStep + seal.steps, tokens: seal.tokens,
                    trainLoss: seal.trainLoss, validationLoss: seal.validationLoss,
                    pipelines: seal.contributions.count, seconds: seconds), at: now)
        case .states(let states):
            let every = record.parameters.checkpointRounds
            if every > 0, states.round % every == 0 { say(.checkpointSaved(round: states.round), at: now) }
        case .electors(let change):
            if let era = change.era {
                return say(
                    .jobRefounded(era: era, entries: change.proof?.claim.size ?? 0, why: change.reason), at: now)
            }
            guard !change.electorate.isJoint else { return }
            let names = change.electors.map { $0 == record.founder ? "launcher" : record.state.name(of: $0) }
            say(.electorsChosen(electors: names.joined(separator: ","), why: change.reason), at: now)
        case .genesis, .opening, .finish: break
        }
    }
    private mutating func tell(_ change: PlanChange, _ record: Record, at now: Instant) {
        let plan = change.plan
        if change.rolledBack {
            say(.rolledBack(round: plan.round, from: nil, why: change.reason), at: now)
        } else if plan.epoch > 1 {
            say(
                .replanned(
                    why: change.reason, round: plan.round, epoch: plan.epoch, pipelines: plan.pipelines.count,
                    stepSeconds: 0), at: now)
        } else {
            say(
                .planned(
                    epoch: plan.epoch, pipelines: plan.pipelines.count,
                    stages: plan.pipelines.map(\.stages.count).max() ?? 0, innerSteps: plan.innerSteps,
                    codec: plan.exchangeCodec.description, activations: plan.activationCodec.description,
                    exchange: plan.exchangeWay.description, stepSeconds: 0, totalSeconds: 0), at: now)
        }
        let workers = plan.pipelines.flatMap(\.stages).map { record.state.name(of: $0.peer) }
        say(.placed(workers: workers.joined(separator: ",")), at: now)
    }

    // MARK: what those who can be reached are at

    private mutating func tellStatus(at now: Instant) {
        guard let record = reader.record, let since else { return }
        watchLeader(at: now)
        let state = record.state
        let members = reader.tellers.compactMap { peer in
            reader.sources[peer]!.heartbeat.map { (name: state.name(of: peer), heartbeat: $0) }
        }
        let seconds = (now - since.at).inSeconds
        let speed = seconds > 0 ? Double(state.sealedTokens - since.tokens) / seconds : 0
        let phase = finish != nil ? "ended" : state.plan == nil ? "gathering" : "training"
        // What each has sent since its process began says nothing of this job.
        say(
            .status(of: state, phase: phase, members: members, sentBytes: 0, tokensPerSecond: max(0, speed)), at: now)
    }
    private mutating func watchLeader(at now: Instant) {
        let sources = reader.sources.values
        guard !sources.isEmpty, finish == nil else { return }
        if sources.contains(where: { $0.ledUntil > now }) {
            if let since = leaderless, now - since >= Self.patience {
                say(.resumed(seconds: (now - since).inSeconds), at: now)
            }
            leaderless = nil
        } else if leaderless == nil {
            leaderless = now
        } else if collector == nil, now - leaderless! >= Self.patience, let state = reader.record?.state,
            state.sealedTokens >= state.tokens
        {
            // Its members have let go of it with its last entry, which nobody has any more.
            finish = Finish(reason: Finish.done)
            effects.push(.ended(finish!))
        } else if collector != nil, now - leaderless! >= max(patience, Self.patience), let record = reader.record,
            record.state.sealedTokens >= record.state.tokens
        {
            collected(
                .failed(
                    "all of the job is trained, and nobody who can be reached leads it or has its last entry, so that no weights can be checked. Try "
                        + "again later; or ask the owner of the peer that led last for checkpoints/\(record.job.hex) in its folder"
                ))
        } else if now - leaderless! >= Self.patience, now - leaderless! < Self.patience + Self.every {
            say(
                .interrupted(
                    why: "none of the \(sources.count) peers that can be reached hears a coordinator of the job"),
                at: now)
        }
    }
}

extension Happening {
    /// Once a second: who does what, for whoever watches.
    /// - Parameters:
    ///   - members: those who are there.
    ///   - sentBytes: for the job, by all who are or were members; 0 where that is not known.
    public static func status(
        of state: JobState, phase: String, members: [(name: String, heartbeat: Heartbeat)], sentBytes: Int,
        tokensPerSecond: Double
    ) -> Happening {
        // The separators of the list are not for names.
        func plain(_ text: String) -> String { String(text.map { $0 == ";" || $0 == "=" ? "," : $0 }) }
        let doing = members.map { "\(plain($0.name))=\(plain($0.heartbeat.activity.text))" }
        let step = members.map(\.heartbeat.step).max() ?? 0
        let batch = state.plan.map { state.batchTokens($0) } ?? 0
        // A member may say any step: no product of it may overflow.
        let perStep =
            8 * Double(max(0, (state.plan?.pipelines.count ?? 0) - 1)) * Double(state.parameters.model.parameters)
        return .status(
            phase: phase, step: step, round: state.round,
            stepsTotal: batch > 0 ? (state.tokens + batch - 1) / batch : 0, tokens: state.sealedTokens,
            tokensTotal: state.tokens, tokensPerSecond: tokensPerSecond,
            trainLoss: state.seals.last?.trainLoss ?? 0,
            validationLoss: state.seals.last { $0.validationLoss != nil }?.validationLoss ?? 0,
            sentBytes: sentBytes,
            uncompressedBytes: Int(min(9e18, perStep * Double(step))),
            doing: doing.joined(separator: ";"))
    }
}
