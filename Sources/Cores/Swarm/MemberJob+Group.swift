import Digests
import Exchange
import Primitives
import Telemetry
import Training
import Wire

/// A stage's part in the exchange of one round.
struct GroupRound: Sendable {
    var terms: GroupTerms
    var plan: PlacedPlan
    let units: Range<Int>
    var core: GroupExchange
    /// Other pipelines' parts that decode, with the digest of each unit.
    var checked: [Int: [Int: Digest256]] = [:]
    /// What came from each rank, and since when.
    var received: [Int: (bytes: Int, since: Instant)] = [:]
    /// Chunks that are added up once more here, by ``AuditKey``.
    var audits: [AuditKey: AuditSheet] = [:]
}

/// What all holders of a unit have: SHA-256 over the SHA-256 of its chunks, and these.
struct ChunkedDigest {
    let unit: Digest256
    let chunks: [Digest256]
    init(_ chunks: [[UInt8]]) {
        self.chunks = chunks.map { sha256($0) }
        unit = sha256(self.chunks.flatMap(\.bytes))
    }
    /// The first eight bytes of each chunk's.
    var short: [UInt8] { chunks.flatMap { $0.bytes.prefix(8) } }
}

extension PBUnitDigest {
    init(_ unit: Int, _ bytes: [UInt8]) {
        self.init()
        self.unit = UInt32(unit)
        digest = bytesOf(bytes)
    }
}

/// The exchange of the round in progress: who is in it, what is sent, what is made of it.
extension MemberJob {
    /// What is in force for a round under a plan.
    private func groupTerms(_ round: Int, _ plan: PlacedPlan) -> GroupTerms {
        if let order = groupOrders[round], order.epoch == plan.epoch { return order }
        return GroupTerms(round: round, plan: plan)
    }

    /// The coordinator has left somebody out, or changed the way. It says so more than once.
    mutating func receive(_ message: PBGroup) {
        guard let way = ExchangeWay(message.way), message.ranks.count <= 4096, message.barred.count <= 4096 else {
            return
        }
        let order = GroupTerms(
            round: Int(clamping: message.round), epoch: Int(clamping: message.epoch), version: Int(message.version),
            ranks: message.ranks.map { Int($0) }, way: way, barred: message.barred.map { Int($0) })
        guard !order.ranks.isEmpty, order.ranks == Set(order.ranks).sorted(), order.round >= heldRound,
            order.round <= state.round + 1, order.isNewer(than: groupOrders[order.round])
        else { return }
        groupOrders[order.round] = order
        reconcile()
    }

    /// Begins the exchange of the round in progress, or goes on with it where plan or group have changed.
    mutating func ensureGroup() {
        guard let plan = state.plan, case .units(_, state.round) = holding else { return }
        ensureGroup(state.round, plan)
    }

    /// The exchange of a round that is sealed already: what came of it while this stage was busy is looked through.
    mutating func ensureGroup(of seal: JobState.SealedRound) {
        guard group?.terms.round != seal.round, seal.planEpoch >= 1, seal.planEpoch <= state.plans.count else { return }
        ensureGroup(seal.round, state.plans[seal.planEpoch - 1])
    }

    private mutating func ensureGroup(_ round: Int, _ plan: PlacedPlan) {
        guard let place = plan.placement(of: me), case .units(let units, _) = holding,
            plan.pipelines[place.rank].stages[place.stage].units == units
        else { return }
        let terms = groupTerms(round, plan)
        guard group?.terms != terms, terms.ranks.allSatisfy({ $0 < plan.pipelines.count }) else { return }
        let order = terms.order(plan, units: units, parameters: parameters)
        if group?.terms.round == terms.round, group?.core.rank == place.rank, group?.units == units {
            for (rank, pipeline) in plan.pipelines.enumerated() where rank != place.rank {
                let before = rank < group!.plan.pipelines.count ? group!.plan.pipelines[rank] : nil
                guard before?.attempt != pipeline.attempt || before?.stages != pipeline.stages else { continue }
                group!.core.forget(rank)
                group!.checked[rank] = nil
            }
            group!.terms = terms
            group!.plan = plan
            group!.audits = [:]
            group!.core.begin(order)
        } else {
            let configuration = parameters.configuration(units: units, plan: plan)
            // Every tree node of a contributor has a head and its own lengths.
            let nodes = plan.mode == .rounds ? 1 : plan.pipelines.map(\.virtualPipelines.count).max() ?? 1
            let parts = units.map { unit in
                let layout = configuration.chunkLayout(unit: unit)
                return GroupExchange.Unit(
                    unit: unit,
                    contributionLimits: layout.chunks.map {
                        nodes * (8 + layout.maximumBytes($0, codec: plan.exchangeCodec))
                    })
            }
            group = GroupRound(
                terms: terms, plan: plan, units: units,
                core: GroupExchange(rank: place.rank, units: parts, order: order))
        }
        drainGroup()
        replayEarly()
    }

    /// This stage's part of the round goes out.
    mutating func contributeToGroup(_ units: [UnitContribution]) -> [Int: ChunkedDigest] {
        guard let held = group else { return [:] }
        let configuration = parameters.configuration(units: held.units, plan: held.plan)
        var digests: [Int: ChunkedDigest] = [:]
        for unit in held.units {
            let layout = configuration.chunkLayout(unit: unit)
            guard let chunks = chunked(units.filter { $0.unit == unit }, layout: layout) else {
                preconditionFailure("this stage's own contribution to unit \(unit) does not fit its layout")
            }
            digests[unit] = ChunkedDigest(chunks)
            group!.core.contribute(unit: unit, chunks: chunks)
        }
        drainGroup()
        return digests
    }

    /// A connection was lost and is there again: what was on its way may be lost too.
    mutating func resendParts(to peer: PeerID) {
        guard let group else { return }
        for (rank, pipeline) in group.plan.pipelines.enumerated() where pipeline.contains(peer) && peer != me {
            self.group!.core.resend(to: rank)
        }
        drainGroup()
    }

    mutating func averaged(_ result: ComputeResult, _ terms: GroupTerms, unit: Int, chunk: Int) {
        guard group?.terms == terms else { return }
        switch result {
        case .chunk(let bytes): group!.core.aggregated(unit: unit, chunk: chunk, bytes)
        case .chunkRefused(let rank, let why): refuse(rank, why)
        default: break
        }
        drainGroup()
    }

    mutating func drainGroup() {
        var bundles = PartBundler<PeerID>()
        while let effect = group?.core.poll() {
            switch effect {
            case .sendContribution(let unit, let chunk, let bytes, let rank):
                bundle(
                    PartBundle<PeerID>.Chunk(unit: unit, chunk: chunk, bytes: bytes), to: rank, isAggregate: false,
                    &bundles)
            case .sendAggregate(let unit, let chunk, let bytes, let rank):
                bundle(
                    PartBundle<PeerID>.Chunk(unit: unit, chunk: chunk, bytes: bytes), to: rank, isAggregate: true,
                    &bundles)
            case .aggregate(let unit, let chunk, let parts):
                compute(averageJob(unit, chunk, parts), .chunk(group!.terms, unit: unit, chunk: chunk))
            case .held(let rank): check(rank)
            case .refused(let rank, let why): refuse(rank, why)
            case .complete: sendGathered()
            }
        }
        for rest in bundles.rest() { send(rest) }
    }

    func averageJob(_ unit: Int, _ chunk: Int, _ parts: [GroupExchange.Ranked]) -> ComputeJob {
        let contributions = parts.map {
            ChunkContribution(rank: $0.rank, microBatches: microBatches(of: $0.rank), bytes: $0.bytes)
        }
        return .averageChunk(unit: unit, chunk: chunk, contributions, codec: group!.terms.way.aggregateCodec)
    }

    /// Micro-batches that a pipeline was granted for the round of the exchange: its weight.
    func microBatches(of rank: Int) -> Int {
        guard let group, rank < group.plan.pipelines.count else { return 1 }
        let steps = state.spec.flatMap { $0.round == group.terms.round ? $0.steps : nil }
        let sealed = state.seals.last { $0.round == group.terms.round }?.steps
        return group.plan.pipelines[rank].virtualPipelines.count * group.plan.microBatchesPerVirtual
            * (steps ?? sealed ?? group.plan.innerSteps)
    }

    // MARK: others' parts, without owners

    /// Another pipeline's part of the round, whole: as the engine takes it.
    func rankedContribution(_ rank: Int) -> RankedContribution? {
        guard let group else { return nil }
        let configuration = parameters.configuration(units: group.units, plan: group.plan)
        var parts: [UnitContribution] = []
        for unit in group.units {
            guard let chunks = group.core.contribution(of: rank, unit: unit),
                let own = unchunked(chunks, unit: unit, layout: configuration.chunkLayout(unit: unit))
            else { return nil }
            parts += own
        }
        return RankedContribution(rank: rank, microBatches: microBatches(of: rank), units: parts)
    }

    private mutating func check(_ rank: Int) {
        guard let group, rank < group.plan.pipelines.count else { return }
        guard let contribution = rankedContribution(rank) else {
            return refuse(rank, "its parts do not fit their lengths")
        }
        var digests: [Int: Digest256] = [:]
        for unit in group.units { digests[unit] = ChunkedDigest(group.core.contribution(of: rank, unit: unit)!).unit }
        compute(
            .checkContribution(contribution),
            .checked(
                round: group.terms.round, rank: rank, attempt: group.plan.pipelines[rank].attempt, digests: digests))
    }

    mutating func checked(_ result: ComputeResult, round: Int, rank: Int, attempt: Int, digests: [Int: Digest256]) {
        guard let group, group.terms.round == round, rank < group.plan.pipelines.count,
            group.plan.pipelines[rank].attempt == attempt
        else { return }
        if case .refused(let why) = result { return refuse(rank, why) }
        self.group!.checked[rank] = digests
        var packet = PBPacket()
        packet.held.round = UInt64(round)
        packet.held.rank = UInt32(rank)
        packet.held.attempt = UInt32(attempt)
        packet.held.digests = digests.keys.sorted().map { PBUnitDigest($0, digests[$0]!.bytes) }
        send(packet, on: .control, to: launcher)
    }

    // MARK: words to the coordinator

    private mutating func sendGathered() {
        guard let group else { return }
        var packet = PBPacket()
        packet.gathered.round = UInt64(group.terms.round)
        packet.gathered.epoch = UInt64(group.terms.epoch)
        packet.gathered.version = UInt32(group.terms.version)
        for unit in group.units {
            let digest = ChunkedDigest(group.core.aggregates(unit: unit) ?? [])
            packet.gathered.aggregates.append(PBUnitDigest(unit, digest.unit.bytes))
            packet.gathered.chunks.append(PBUnitDigest(unit, digest.short))
        }
        send(packet, on: .control, to: launcher)
    }

    private mutating func refuse(_ rank: Int, _ why: String) {
        guard let group, rank < group.plan.pipelines.count else { return }
        event("contribution_refused", ["rank": .integer(rank), "why": .text(why)])
        var packet = PBPacket()
        packet.refusal.work.round = UInt64(group.terms.round)
        packet.refusal.work.rank = UInt32(rank)
        packet.refusal.work.attempt = UInt32(group.plan.pipelines[rank].attempt)
        packet.refusal.why = String(why.prefix(200))
        send(packet, on: .control, to: launcher)
    }

    /// What the seal says all apply; nil while it is not here, or differs.
    func sealedAggregates(_ seal: JobState.SealedRound, units: Range<Int>) -> [UnitAggregate]? {
        guard let group, group.terms.round == seal.round else { return nil }
        var out: [UnitAggregate] = []
        for unit in units {
            guard let chunks = group.core.aggregates(unit: unit), ChunkedDigest(chunks).unit == seal.aggregates[unit]
            else { return nil }
            out.append(UnitAggregate(unit: unit, chunks: chunks))
        }
        return out
    }

    /// The sealed contributions for `units`, in rank order; nil while one is missing or differs from the seal.
    func sealedContributions(_ seal: JobState.SealedRound, units: Range<Int>) -> [RankedContribution]? {
        guard let group, group.terms.round == seal.round else { return nil }
        var out: [RankedContribution] = []
        for entry in seal.contributions {
            guard entry.rank < group.plan.pipelines.count, group.plan.pipelines[entry.rank].attempt == entry.attempt,
                var contribution = rankedContribution(entry.rank)
            else { return nil }
            for unit in units {
                let digest =
                    group.checked[entry.rank]?[unit]
                    ?? group.core.contribution(of: entry.rank, unit: unit).map { ChunkedDigest($0).unit }
                guard digest == entry.digests[unit] else { return nil }
            }
            contribution.microBatches = entry.microBatches
            out.append(contribution)
        }
        return out
    }

    /// Whom the exchange waits for here, and for what.
    var exchangeWaitsFor: PBHeartbeat.Waiting? {
        guard let group, group.core.hasContributed, let waiting = group.core.waitsFor,
            waiting.rank < group.plan.pipelines.count,
            let stage = group.plan.pipelines[waiting.rank].stages.first(where: {
                $0.units.contains(waiting.units.lowerBound)
            })
        else { return nil }
        var out = PBHeartbeat.Waiting()
        out.peer = bytesOf(stage.peer)
        out.firstUnit = UInt32(waiting.units.lowerBound)
        out.endUnit = UInt32(waiting.units.upperBound)
        out.contribution = waiting.contribution
        if let received = group.received[waiting.rank], now > received.since {
            out.bitsPerSecond = UInt64(Double(received.bytes) * 8 / (now - received.since).inSeconds)
        }
        return out
    }
}
