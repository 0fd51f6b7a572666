import Content
import Digests
import Exchange
import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Training
import Wire

/// No arithmetic, but a memory of what it holds: the *version* of its weights is made of the one before and of the contributions that
/// went into the outer step. Complains of every job that is out of place.
struct RememberingEngine {
    private(set) var configuration: StageConfiguration?
    private(set) var version: UInt64?
    /// Units come in one after the other.
    private var imported: Int?
    private var importing: UInt64 = 0
    private var contributes = false
    private var tag: UInt32 = 0
    private(set) var complaints: [String] = []
    /// Of the last contribution.
    var lastTag: UInt32 { tag }

    static func next(_ version: UInt64, _ tags: [UInt32]) -> UInt64 {
        sha256(Array("\(version) \(tags)".utf8)).bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } >> 24
    }
    static func roots(_ unit: Int, _ version: UInt64) -> UnitRoots {
        let state = state(unit, version)
        return UnitRoots(
            unit: unit, parameters: ContentIndex.id(of: state.parameters.array),
            outerMomentum: ContentIndex.id(of: state.outerMomentum.array))
    }
    static func state(_ unit: Int, _ version: UInt64) -> UnitState {
        let count = 4 * Small.model.parameters(unit: unit)
        var bytes = [UInt8](repeating: UInt8(unit), count: count)
        for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: version >> (8 * UInt64(index))) }
        return UnitState(
            unit: unit, parameters: bytes, outerMomentum: bytes, firstMoment: bytes, secondMoment: bytes,
            optimizerSteps: Int(version))
    }
    /// A unit's contribution of the right size, headed by a tag.
    static func contribution(_ unit: Int, _ layout: ChunkLayout, tag: UInt32) -> UnitContribution {
        var bytes: [UInt8] = []
        for piece in layout.pieces {
            let count = 4 * piece.count
            withUnsafeBytes(of: UInt32(count).littleEndian) { bytes.append(contentsOf: $0) }
            withUnsafeBytes(of: tag.littleEndian) { bytes.append(contentsOf: $0) }
            bytes += [UInt8](repeating: 0, count: count - 4)
        }
        return UnitContribution(unit: unit, node: 0, bytes: bytes)
    }
    private static func tag(of contribution: RankedContribution) -> UInt32 {
        contribution.units[0].bytes.array[4..<8].reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }

    private mutating func require(_ condition: Bool, _ complaint: String) {
        if !condition { complaints.append(complaint) }
    }

    mutating func perform(_ job: ComputeJob) -> ComputeResult {
        if case .configure(let fresh) = job {
            configuration = fresh
            imported = nil
            version = nil
            contributes = false
            return .done
        }
        guard let configuration else {
            complaints.append("\(job) before a configuration")
            return .refused("not configured")
        }
        if case .importState(let states) = job { return load(states, into: configuration) }
        guard let version else {
            complaints.append("\(job) before an import")
            return .refused("nothing imported")
        }
        switch job {
        case .configure, .importState, .benchmark, .rehearse: return .done
        case .recompute, .rewind, .checkContribution: return .done
        case .exportState(let units, _, _):
            require(
                units.clamped(to: configuration.units) == units && !units.isEmpty,
                "export of \(units) out of \(configuration.units)")
            return .state(units.map { Self.state($0, version) })
        case .forward: return configuration.isLast ? .loss(1) : .activation([1])
        case .backward: return .inputGradient(configuration.isFirst ? [] : [2])
        case .evaluate: return configuration.isLast ? .evaluation(lossSum: 1, tokens: 1) : .activation([3])
        case .finishGradient: return .sumSquares([1])
        case .optimizerStep: return .done
        case .encodeContribution:
            contributes = true
            tag += 1
            return .contribution(
                configuration.units.map { Self.contribution($0, configuration.chunkLayout(unit: $0), tag: tag) })
        case .withdrawContribution, .returnContribution:
            require(contributes, "\(job) without a contribution")
            contributes = false
            return .done
        case .outerStep(let contributions):
            require(!contributions.isEmpty, "an outer step of nothing")
            contributes = false
            self.version = Self.next(version, contributions.map { Self.tag(of: $0) })
            return .digests(digests)
        case .digests: return .digests(digests)
        case .head, .evaluateHead, .aggregateGradients, .averageChunk, .applyAggregates:
            complaints.append("\(job) is not of this job")
            return .refused("out of place")
        }
    }
    /// All at once, or one after the other.
    private mutating func load(_ states: [UnitState], into configuration: StageConfiguration) -> ComputeResult {
        let units = states.map(\.unit)
        if units.count > 1 {
            require(units == Array(configuration.units), "import of \(units) into \(configuration.units)")
            version = UInt64(states[0].optimizerSteps)
            return .done
        }
        let next = imported.map { $0 + 1 } ?? configuration.units.lowerBound
        require(
            units.isEmpty && imported == nil || units == [next] && configuration.units.contains(next),
            "import of \(units) into \(configuration.units) after \(imported.map(String.init) ?? "none")")
        let versions = Set(states.map { UInt64($0.optimizerSteps) })
        require(imported == nil || versions == [importing], "a mixture of versions")
        importing = versions.first ?? 0
        imported = units.last
        if units.isEmpty || next == configuration.units.upperBound - 1 { version = importing }
        return .done
    }
    private var digests: [Int: UnitDigests] {
        var out: [Int: UnitDigests] = [:]
        for unit in configuration!.units {
            let roots = Self.roots(unit, version!)
            out[unit] = UnitDigests(parameters: roots.parameters, outerMomentum: roots.outerMomentum)
        }
        return out
    }
}

/// One ``Holding`` (peer 1's) in a world that is played by a generator: other stages, other pipelines, the leader's log, the engine,
/// time. It checks what may never happen; what must happen in the end is asked of it when the world has calmed down.
struct HoldingWorld {
    var script: Script
    var holding: Holding
    var desk = EngineDesk()
    var engine = RememberingEngine()
    var jobs = EffectQueue<ComputeJob>()
    private var states = StateDesk()
    var now = Instant.zero
    var generator: SeededGenerator
    private(set) var complaints: [String] = []
    private(set) var events: [Happening] = []
    private(set) var farewells: [String] = []
    private(set) var applied: [Applied] = []
    /// Messages for this member, from whom.
    private var mail: [(from: Int, message: Message)] = []
    /// Versions of the weights by the round whose start they are.
    private var versions: [UInt64] = [0]
    private var tags: [WorkKey: UInt32] = [:]
    private var nextTag: UInt32 = 1_000_000
    private var receipts: [WorkKey: Receipt] = [:]
    private var fakeShelves: [Int: StateShelf] = [:]
    /// This member's own disk, and what is on its way there.
    private var disk: (starts: [StartName: RoundStart], writes: EffectQueue<StorageRequest>) = ([:], EffectQueue())
    /// The share of messages that are lost.
    var losses = 0.0
    static let me = Small.peer(1)
    static let parameters = Small.parameters(tokens: 100_000)

    init(seed: UInt64) throws {
        script = try Script(Self.parameters)
        try script.join(Array(1...6))
        holding = Holding(
            StageContext(me: Self.me, parameters: Self.parameters, memory: .mebibytes(64), contentBytes: 1000),
            RoundStarts(job: script.record.job))
        generator = SeededGenerator(seed: seed, stream: 21)
    }

    var job: JobState { script.state }
    private mutating func below(_ count: Int) -> Int { generator.below(count) }

    // MARK: the log

    mutating func enter(_ entry: Entry) throws { try enter([entry]) }
    /// A batch of entries: the member looks at the result only.
    mutating func enter(_ entries: [Entry]) throws {
        for entry in entries { try script.append(entry) }
        for entry in entries {
            if case .plan(let change) = entry, change.rolledBack {
                drain()
                desk.forgetExports(after: change.plan.round)
            }
            holding.entered(entry, at: now)
        }
    }
    private func layout(_ unit: Int, _ plan: PlacedPlan) -> ChunkLayout {
        Self.parameters.configuration(units: unit..<unit + 1, plan: plan).chunkLayout(unit: unit)
    }
    private mutating func tag(_ work: WorkKey) -> UInt32 {
        if let known = tags[work] { return known }
        nextTag += 1
        tags[work] = nextTag
        return nextTag
    }
    private func work(_ rank: Int) -> WorkKey {
        WorkKey(round: job.round, rank: rank, attempt: job.plan!.pipelines[rank].attempt)
    }
    private func rankOfMine(_ plan: PlacedPlan) -> Int? { plan.placement(of: Self.me)?.rank }

    /// Ends the round with all pipelines that others have computed, and this member's if it has.
    mutating func makeSeal(withMine: Bool) -> Seal? {
        guard let plan = job.plan, job.spec != nil else { return nil }
        let mine = rankOfMine(plan)
        var seal = script.makeSeal([])
        var sealed: [UInt32] = []
        var parts: [[UnitDigest]] = []
        for rank in plan.pipelines.indices {
            let key = work(rank)
            if rank == mine, !withMine || receipts[key] == nil { continue }
            let tag = tag(key)
            sealed.append(tag)
            parts.append(
                Small.model.allUnits.map { unit in
                    let part = RememberingEngine.contribution(unit, layout(unit, plan), tag: tag)
                    return UnitDigest(unit, ChunkedDigest(chunked([part], layout: layout(unit, plan))!).unit.bytes)
                })
            seal.contributions.append(
                Seal.Contribution(
                    rank: rank, attempt: key.attempt, microBatches: script.share(rank),
                    digest: Seal.digest(parts.last!)))
            seal.tokens += script.share(rank) * 8
        }
        guard !seal.contributions.isEmpty else { return nil }
        seal.parts = Seal.parts(parts)
        versions.append(RememberingEngine.next(versions[job.round], sealed))
        return seal
    }
    mutating func rollBack(_ plan: PlacedPlan) -> Entry {
        versions = Array(versions[...plan.round])
        tags = tags.filter { $0.key.round < plan.round }
        receipts = receipts.filter { $0.key.round < plan.round }
        fakeShelves = fakeShelves.filter { $0.key <= plan.round }
        return .plan(PlanChange(plan, reason: "test", rolledBack: true))
    }
    /// What holders agree on as of the start of the round in progress.
    mutating func agree() throws {
        guard job.round > 0, job.round < versions.count, !job.isAgreed(job.round) else { return }
        let version = versions[job.round]
        try enter(
            .states(States(round: job.round, units: Small.model.allUnits.map { RememberingEngine.roots($0, version) })))
    }

    // MARK: the others

    /// Parts of the round of other pipelines, on their way here.
    mutating func sendParts() {
        guard let plan = job.plan, let mine = rankOfMine(plan), let stage = plan.stage(of: Self.me) else { return }
        for (rank, pipeline) in plan.pipelines.enumerated() where rank != mine {
            let key = work(rank)
            let tag = tag(key)
            for sender in pipeline.stages where sender.units.overlaps(stage.units) {
                var chunks: [ExchangePart.Chunk] = []
                for unit in stage.units where sender.units.contains(unit) {
                    let part = RememberingEngine.contribution(unit, layout(unit, plan), tag: tag)
                    for (index, bytes) in chunked([part], layout: layout(unit, plan))!.enumerated() {
                        chunks.append(ExchangePart.Chunk(unit: unit, chunk: index, bytes: bytes))
                    }
                }
                post(
                    .exchangePart(
                        ExchangePart(
                            work: key, group: GroupStamp(round: job.round, epoch: plan.epoch, version: 0),
                            purpose: .contribution, chunks: chunks)), from: sender.peer)
            }
        }
    }
    private mutating func post(_ message: Message, from peer: PeerID) {
        guard generator.uniform() >= losses else { return }
        mail.append(((1...6).first { Small.peer($0) == peer }!, message))
    }
    /// The other stage of this member's pipeline: it answers at once.
    private mutating func neighbour(_ message: Message, _ peer: PeerID) {
        guard job.isPresent(peer) else { return }
        switch message {
        case .activation(let activation, _):
            if case .microBatch(let step, let virtualPipeline, let index, false) = activation.part {
                let part = Activation.Part.microBatch(
                    step: step, virtualPipeline: virtualPipeline, index: index, isGradient: true)
                post(.activation(Activation(work: activation.work, part: part, payload: [7]), payload: [7]), from: peer)
            }
        case .norms(let norms):
            guard let stages = job.plan?.pipelines[norms.work.rank].stages, stages.count == 2 else { return }
            post(.norms(Norms(work: norms.work, step: norms.step, stage: 1 - norms.stage, sumSquares: [1])), from: peer)
        case .stateRequest(let request):
            guard request.round == job.round, request.round < versions.count else {
                return post(
                    .stateOffer(StateOffer(round: request.round, parts: [], unavailable: "not here")), from: peer)
            }
            if fakeShelves[request.round]?.offer(request) == nil {
                var shelf = StateShelf()
                shelf.put(
                    Small.model.allUnits.map { RememberingEngine.state($0, versions[request.round]) },
                    round: request.round, keep: nil, at: now)
                fakeShelves[request.round] = shelf
            }
            if let offer = fakeShelves[request.round]!.offer(request) { post(.stateOffer(offer), from: peer) }
        case .indexRequest(let id, let first):
            for round in fakeShelves.keys.sorted() {
                guard let part = fakeShelves[round]!.answer(indexOf: id, from: first, at: now) else { continue }
                return post(.indexPart(part), from: peer)
            }
        case .chunkRequest(let id, let number):
            for round in fakeShelves.keys.sorted() {
                guard let bytes = fakeShelves[round]!.answer(chunk: number, of: id, at: now) else { continue }
                return post(.chunk(content: id, chunk: number, bytes: bytes), from: peer)
            }
        default: break
        }
    }

    // MARK: what happens

    mutating func follow() {
        holding.follow(job, leader: Small.launcher.peerID, at: now)
        drain()
    }
    private mutating func drain() {
        while let effect = holding.poll() {
            switch effect {
            case .compute(let job, let purpose): desk.submit(job, purpose, at: now)
            case .void: desk.void()
            case .send(let message, let peer): neighbour(message, peer)
            case .report(.applied(let message)): applied.append(message)
            case .report(.farewell(let reason)): farewells.append(reason)
            case .report: break
            case .receipt(let receipt):
                receipts[receipt.work] = receipt
                tags[receipt.work] = engine.lastTag
            case .store(let request): disk.writes.push(request)
            case .notEntitled(let peer, let message): complaints.append("\(peer) may not say \(message.kind)")
            case .event(let what, _): events.append(what)
            }
        }
        while let job = desk.poll() { jobs.push(job) }
        guard let request = disk.writes.pop() else { return }
        write(request)
        drain()
    }
    /// A disk that keeps what it is given.
    private mutating func write(_ request: StorageRequest) {
        var outcome = StorageOutcome.stored(path: "")
        switch request {
        case .roundStart(let start, let retaining):
            disk.starts = disk.starts.filter { retaining.contains($0.key) }
            disk.starts[start.name] = start
        case .readRoundStart(_, let name):
            outcome = disk.starts[name].map { .read(VerifiedRoundStart($0)) } ?? .failed("nothing is there")
        case .eraseRoundStarts(_, let after): disk.starts = disk.starts.filter { $0.key.round <= after }
        default: complaints.append("\(request.ticket) is no business of what is held")
        }
        _ = holding.answered(request.ticket, outcome, job)
        holding.loadIfReady(job)
    }
    /// The engine does one job. False when it has none.
    @discardableResult
    mutating func compute(refuses: Bool = false) -> Bool {
        guard let next = jobs.pop() else { return false }
        let result = refuses ? ComputeResult.refused("on purpose") : engine.perform(next)
        if let answer = desk.answered(result, at: now) {
            holding.computed(answer, at: now)
            holding.loadIfReady(job)
        }
        follow()
        return true
    }
    @discardableResult
    mutating func deliver() -> Bool {
        guard !mail.isEmpty else { return false }
        let item = mail.remove(at: below(min(mail.count, 4)))
        switch item.message.conversation {
        case .content: _ = holding.receive(content: item.message, from: Small.peer(item.from), job, at: now)
        default:
            if job.isPresent(Small.peer(item.from)) {
                holding.receive(work: item.message, from: Small.peer(item.from), job, at: now)
            }
        }
        follow()
        return true
    }
    mutating func pass(_ time: Duration) {
        now += time
        holding.wake(at: now, job)
        follow()
    }
    /// Nothing new: everything there is happens, and time passes.
    mutating func settle(for limit: Duration = .seconds(60)) {
        let end = now + limit
        follow()
        while true {
            if jobs.isEmpty, mail.isEmpty {
                guard let next = holding.nextWake, next <= end else { return }
                pass(max(next - now, .milliseconds(1)))
            } else if below(2) == 0 {
                if !compute() { deliver() }
            } else if !deliver() {
                compute()
            }
        }
    }

    /// What may never be.
    mutating func check() {
        complaints += engine.complaints
        guard !desk.isBusy else { return }
        if case .atRound(let held) = holding.state, held.round < versions.count, held.round <= job.round,
            engine.version != versions[held.round]
        {
            complaints.append(
                "holds version \(engine.version ?? 0) of round \(held.round), not \(versions[held.round])")
        }
    }
}
