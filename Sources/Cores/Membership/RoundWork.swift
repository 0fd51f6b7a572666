import Exchange
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// What a stage needs to know of its job.
package struct StageContext: Sendable {
    package let me: PeerID
    package let parameters: JobParameters
    /// Offered by the owner.
    package let memory: ByteCount
    /// For states that are kept for others, or come from them; nil for memory.
    package let room: (any ByteRoom)?
    /// Fixed validation windows that rounds use: 64, or all there are.
    package let sampleWindows: [Int]

    package init(
        me: PeerID, parameters: JobParameters, memory: ByteCount, contentBytes: Int, room: (any ByteRoom)? = nil
    ) {
        self.me = me
        self.room = room
        self.parameters = parameters
        self.memory = memory
        sampleWindows =
            DataOrder(
                corpusCount: parameters.dataTokens ?? contentBytes, sources: parameters.dataParts,
                validationFraction: parameters.validationFraction,
                context: parameters.model.context, seed: parameters.seed
            ).fixedValidationWindows()
    }
}

/// One round at one stage: its steps and its exchange, from the round's start to the seal and the outer step.
///
/// The pipeline may begin the round anew (another attempt), the exchange goes on through that. An attempt that the engine refused, or
/// whose loss is not finite, is not begun again: the leader says what becomes of the round.
package struct RoundWork: Sendable {
    package enum Effect: Sendable {
        case compute(ComputeJob, EngineDesk.Purpose)
        /// Steps under way count no more.
        case void
        case send(Message, to: PeerID)
        /// For the leader.
        case report(Message)
        case receipt(Receipt)
        /// The engine holds the start of the next round; digests where it gave them.
        case applied([Int: UnitDigests]?, GradientSquares?)
        case event(Happening)
    }
    /// What became of a message.
    package enum Verdict: Hashable, Sendable {
        case taken
        case later
        case stale
        case notEntitled
        /// Its bytes are not what was sent.
        case corrupt
    }
    /// The attempt under way.
    private struct Attempt: Sendable {
        var runner: StageRunner
        /// Of the pipeline, by stage.
        let peers: [PeerID]
        /// The stage's contribution, once it is encoded: what the receipt says of it.
        var contribution: [Int: ChunkedDigest]?
    }

    package let units: Range<Int>
    package private(set) var exchange: RoundExchange
    private var attempt: Attempt?
    /// Nothing comes of it.
    private var failed: WorkKey?
    /// The engine's time for the last attempt, until its receipt.
    package private(set) var engineTime = Duration.zero
    private let context: StageContext
    private var effects = EffectQueue<Effect>()

    package init(_ exchange: RoundExchange, context: StageContext) {
        units = exchange.units
        self.exchange = exchange
        self.context = context
    }

    package var round: Int { exchange.round }
    package var rank: Int { exchange.rank }
    /// Of the terms that it follows.
    package var stamp: GroupStamp { exchange.terms.stamp }
    package var hasBegun: Bool { attempt != nil }
    package var phase: StageRunner.Phase? { attempt?.runner.phase }
    /// That grows while the attempt goes on.
    package var pieces: Int { attempt?.runner.pieces ?? 0 }
    /// Who of its pipeline is waited for, and for what; nil where the pipeline owes it nothing.
    package var waits: (peers: [PeerID], what: String)? {
        guard let attempt, let waits = attempt.runner.waits else { return nil }
        return (waits.stages.filter(attempt.peers.indices.contains).map { attempt.peers[$0] }, waits.what)
    }
    /// Global, while steps are taken.
    package var step: Int? { attempt?.runner.step }
    package var activity: Activity { attempt?.runner.activity ?? .waiting }
    /// The engine has encoded a contribution of this round that has not been taken back.
    package var hasContributed: Bool { attempt?.contribution != nil }
    /// Who computes the attempt together.
    package var pipeline: [PeerID] { attempt?.peers ?? [] }

    package mutating func poll() -> Effect? { effects.pop() }

    // MARK: plan and log

    /// The leader's terms, or the plan, have changed: the same round, units and rank.
    package mutating func follow(_ terms: GroupTerms, _ plan: PlacedPlan) {
        if let attempt, plan.pipelines[rank].attempt != attempt.runner.work.attempt { rewind() }
        exchange.follow(terms, plan)
        drainExchange()
    }

    /// Begins the round's steps, if they are to be begun.
    package mutating func begin(_ spec: RoundSpec, stage: Int) {
        let plan = exchange.plan
        let work = WorkKey(round: round, rank: rank, attempt: plan.pipelines[rank].attempt)
        guard attempt == nil, failed != work else { return }
        let runner = StageRunner(
            spec: spec, plan: plan, rank: rank, stage: stage, parameters: context.parameters,
            sampleWindows: context.sampleWindows)
        attempt = Attempt(runner: runner, peers: plan.pipelines[rank].stages.map(\.peer))
        engineTime = .zero
        attempt!.runner.start()
        drainRunner()
    }

    /// Back to the round's start: the contribution, if any, is withdrawn.
    package mutating func rewind() {
        guard abandon() else { return }
        effects.push(.compute(.rewind, .housekeeping))
        effects.push(.event(.roundRewound(round: round)))
    }
    /// Steps and contribution are given up; the engine's error feedback is as it was.
    /// - Returns: whether there was anything to give up.
    private mutating func abandon() -> Bool {
        guard let attempt else { return false }
        effects.push(.void)
        if attempt.contribution != nil {
            effects.push(.compute(.withdrawContribution, .housekeeping))
            exchange.withdraw()
        }
        self.attempt = nil
        return true
    }

    /// The round is sealed with what this stage computed.
    /// - Returns: false where it did not take part in it as the seal says.
    package mutating func apply(_ contributions: [RankedContribution]) -> Bool {
        guard attempt?.runner.phase == .waitingForSeal else { return false }
        attempt!.runner.apply(contributions)
        drainRunner()
        return true
    }
    package mutating func apply(_ aggregates: [UnitAggregate], codec: Codec) -> Bool {
        guard attempt?.runner.phase == .waitingForSeal else { return false }
        attempt!.runner.apply(aggregates, codec: codec)
        drainRunner()
        return true
    }
    package func isIn(_ seal: JobState.SealedRound) -> Bool {
        guard let work = attempt?.runner.work, work.round == seal.round else { return false }
        return seal.contributions.contains { $0.rank == work.rank && $0.attempt == work.attempt }
    }

    /// The seal is made without this stage's steps: the engine goes back to the round's start and takes the outer step from there. What
    /// was contributed is kept for the next round.
    package mutating func catchUp(_ outerStep: ComputeJob) {
        effects.push(.void)
        if attempt?.contribution != nil { effects.push(.compute(.returnContribution, .housekeeping)) }
        attempt = nil
        effects.push(.compute(.rewind, .housekeeping))
        effects.push(.compute(outerStep, .catchUp(round: round)))
    }

    // MARK: messages

    package mutating func receive(_ message: Activation, payload: [UInt8], from peer: PeerID) -> Verdict {
        if let verdict = misses(message.work) { return verdict }
        let sender = attempt!.runner.sender(of: message.part)
        guard isStage(sender, peer) else { return .notEntitled }
        guard message.matches(payload) else { return .corrupt }
        attempt!.runner.receive(message, payload: payload)
        drainRunner()
        return .taken
    }
    package mutating func receive(_ message: Norms, from peer: PeerID) -> Verdict {
        if let verdict = misses(message.work) { return verdict }
        guard isStage(message.stage, peer) else { return .notEntitled }
        attempt!.runner.receive(message)
        drainRunner()
        return .taken
    }
    /// Nil: it is the attempt under way.
    private func misses(_ work: WorkKey) -> Verdict? {
        guard let current = attempt?.runner.work, work.rank == current.rank, work.round == current.round,
            work.attempt <= current.attempt
        else { return .later }
        return work == current ? nil : .stale
    }
    private func isStage(_ stage: Int, _ peer: PeerID) -> Bool {
        guard let peers = attempt?.peers else { return false }
        return peers.indices.contains(stage) && peers[stage] == peer
    }

    package mutating func receive(_ part: ExchangePart, from peer: PeerID, at now: Instant) -> Verdict {
        guard part.work.round == round else { return part.work.round > round ? .later : .stale }
        let verdict = exchange.receive(part, from: peer, at: now)
        drainExchange()
        return switch verdict {
        case .taken: .taken
        case .later: .later
        case .stale: .stale
        case .notEntitled: .notEntitled
        }
    }
    package mutating func receive(_ order: AuditOrder) {
        exchange.receive(order)
        drainExchange()
    }
    package mutating func resend(to peer: PeerID) {
        exchange.resend(to: peer)
        drainExchange()
    }

    // MARK: answers of the engine

    package mutating func stepped(_ result: ComputeResult, took: Duration) {
        guard attempt != nil else { return }
        // What comes after the receipt is not in its FLOPs.
        if attempt!.runner.phase != .applying { engineTime += took }
        attempt!.runner.computed(result)
        drainRunner()
    }
    package mutating func exchanged(_ result: ComputeResult, _ purpose: RoundExchange.Purpose) {
        exchange.computed(result, purpose)
        drainExchange()
    }

    // MARK: draining

    private mutating func drainRunner() {
        while let effect = attempt?.runner.poll() {
            switch effect {
            case .compute(let job): effects.push(.compute(job, .runner))
            case .send(let message, let payload, let stage):
                guard attempt!.peers.indices.contains(stage) else { continue }
                effects.push(.send(.activation(message, payload: payload), to: attempt!.peers[stage]))
            case .norms(let message):
                for peer in attempt!.peers where peer != context.me { effects.push(.send(.norms(message), to: peer)) }
            case .contribution(let units):
                guard let digests = exchange.contribute(units) else {
                    refused("its own contribution cannot be read from this machine's disk", isDivergence: false)
                    continue
                }
                attempt!.contribution = digests
                drainExchange()
            case .finished: effects.push(.receipt(receipt()))
            case .applied(let digests, let squares): effects.push(.applied(digests, squares))
            case .refused(let why, let isDivergence): refused(why, isDivergence: isDivergence)
            }
        }
    }
    private mutating func refused(_ why: String, isDivergence: Bool) {
        failed = attempt!.runner.work
        effects.push(.event(.workRefused(why: why, round: round)))
        report(why, isDivergence ? .notFinite : .refused)
    }
    private mutating func report(_ why: String, _ cause: Setback.Cause) {
        let runner = attempt!.runner
        effects.push(
            .report(
                .setback(
                    Setback(
                        work: runner.work, stage: runner.stage, step: runner.step,
                        why: cleaned(why, bytes: Bounds.reasonBytes), cause: cause))))
    }
    /// The session with a peer is over, and what was on its way with it: another stage of the pipeline may wait for that for ever, or this one.
    /// Whoever left for good leaves the plan, too; a session may also end late, when the peer has long come back and has a place again.
    package mutating func lost(_ peer: PeerID) {
        guard attempt?.peers.contains(peer) == true else { return }
        report("what was on its way to or from another stage is lost", .messagesLost)
    }

    private func receipt() -> Receipt {
        let attempt = self.attempt!
        let (runner, digests) = (attempt.runner, attempt.contribution ?? [:])
        let parameters = context.parameters
        let units = digests.keys.sorted()
        return Receipt(
            work: runner.work, stage: runner.stage, microBatches: runner.microBatchesInRound,
            tokens: runner.microBatchesInRound * parameters.microBatch * parameters.model.context,
            firstStep: runner.spec.firstStep, steps: runner.spec.steps, lossSum: runner.tally.lossSum,
            evaluationSum: runner.tally.evaluationSum, evaluationTokens: runner.tally.evaluationTokens,
            flops: runner.tally.flops, digests: units.map { UnitDigest($0, digests[$0]!.unit.bytes) },
            chunks: units.map { UnitDigest($0, digests[$0]!.short) })
    }

    private mutating func drainExchange() {
        while let effect = exchange.poll() {
            switch effect {
            case .compute(let job, let purpose): effects.push(.compute(job, .exchange(purpose)))
            case .send(let part, let peer): effects.push(.send(.exchangePart(part), to: peer))
            case .report(let message): effects.push(.report(message))
            case .event(let what): effects.push(.event(what))
            }
        }
    }
}
