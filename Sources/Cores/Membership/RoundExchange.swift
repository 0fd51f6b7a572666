import Digests
import Exchange
import Messages
import Primitives
import Record
import Telemetry
import Training

/// A stage's part in the exchange of one round: who is in it, what is sent, what is made of it.
///
/// It goes by the leader's terms: with the plan they say whose contributions are added and who owns which chunk. Terms and plan may
/// change while the round runs; what is here of those who stay is not lost.
package struct RoundExchange: Sendable {
    package enum Effect: Sendable {
        case compute(ComputeJob, Purpose)
        case send(ExchangePart, to: PeerID)
        /// For the leader.
        case report(Message)
        case event(Happening)
    }
    /// What an answer of the engine is for.
    package enum Purpose: Hashable, Sendable {
        case average(GroupStamp, unit: Int, chunk: Int)
        case check(WorkKey)
        case audit(GroupStamp, AuditKey)
    }
    /// What became of a part that arrived.
    package enum Verdict: Hashable, Sendable {
        case taken
        /// Of a group, or a plan, that is not known here yet.
        case later
        /// Of one that is over.
        case stale
        /// Its sender does not hold what it speaks for.
        case notEntitled
    }
    /// What came from a pipeline.
    private struct Arrivals: Sendable {
        var bytes = 0
        var since: Instant
    }

    package private(set) var terms: GroupTerms
    package private(set) var plan: PlacedPlan
    package let units: Range<Int>
    /// Inner steps of the round: they weigh contributions.
    package let steps: Int
    private let parameters: JobParameters
    private let layouts: [ChunkLayout]
    package var core: GroupExchange
    /// This stage's own part, where no other pipeline is to have it: it is not cut into chunks that wait to be sent.
    private var own: [UnitContribution]?
    /// Pipelines' parts that decode, and this stage's own: the digest of each unit.
    private var checked: [Int: [Int: Digest256]] = [:]
    /// The sums of the group that there is, once all are here: the digest of each unit.
    private var summed: [Int: Digest256] = [:]
    private var checking: [WorkKey: [Int: Digest256]] = [:]
    private var received: [Int: Arrivals] = [:]
    /// Said once each.
    private var objected: Set<WorkKey> = []
    /// Chunks that are added up once more here.
    package var audits: [AuditKey: AuditSheet] = [:]
    package var effects = EffectQueue<Effect>()

    package var rank: Int { core.rank }
    package var round: Int { terms.round }

    /// - Parameter steps: inner steps of the round.
    package init?(
        _ terms: GroupTerms, plan: PlacedPlan, rank: Int, units: Range<Int>, steps: Int, parameters: JobParameters
    ) {
        guard terms.fits(plan) else { return nil }
        self.terms = terms
        self.plan = plan
        self.units = units
        self.steps = steps
        self.parameters = parameters
        let configuration = parameters.configuration(units: units, plan: plan)
        let layouts = units.map { configuration.chunkLayout(unit: $0) }
        self.layouts = layouts
        // Every tree node of a contributor has a head and its own lengths.
        let nodes = plan.mode == .rounds ? 1 : plan.pipelines.map(\.virtualPipelines.count).max() ?? 1
        let parts = zip(units, layouts).map { unit, layout in
            GroupExchange.Unit(
                unit: unit,
                contributionLimits: layout.chunks.map {
                    nodes * (8 + layout.maximumBytes($0, codec: plan.exchangeCodec))
                })
        }
        core = GroupExchange(rank: rank, units: parts, order: terms.order(plan, units: units, parameters: parameters))
    }

    package mutating func poll() -> Effect? { effects.pop() }
    package func layout(_ unit: Int) -> ChunkLayout { layouts[unit - units.lowerBound] }

    // MARK: plan and terms

    /// Whether it can go on under another plan: the same round, units and rank, cut the same way.
    package func goesOn(_ plan: PlacedPlan, rank: Int, units: Range<Int>, round: Int) -> Bool {
        self.round == round && self.rank == rank && self.units == units && self.plan.exchangeCodec == plan.exchangeCodec
            && self.plan.mode == plan.mode
    }

    /// Somebody was left out, an owner is not believed, or the plan has changed.
    package mutating func follow(_ terms: GroupTerms, _ plan: PlacedPlan) {
        guard terms != self.terms, terms.fits(plan) else { return }
        for (other, pipeline) in plan.pipelines.enumerated() where other != rank {
            let before = other < self.plan.pipelines.count ? self.plan.pipelines[other] : nil
            guard before?.attempt != pipeline.attempt || before?.stages != pipeline.stages else { continue }
            core.forget(other)
            checked[other] = nil
            received[other] = nil
        }
        self.terms = terms
        self.plan = plan
        audits = [:]
        summed = [:]
        core.begin(terms.order(plan, units: units, parameters: parameters))
        sendOwn()
        drain()
    }

    // MARK: this stage's own part

    /// This stage's part of the round goes out.
    /// - Returns: what the receipt says of it; nil where it cannot be read from where it was put down.
    package mutating func contribute(_ contribution: [UnitContribution]) -> [Int: ChunkedDigest]? {
        let isAlone = isAlone
        var digests: [Int: ChunkedDigest] = [:]
        for unit in units {
            var digest: [Digest256] = []
            var chunks: [[UInt8]] = []
            let isWhole = eachChunk(of: contribution.filter { $0.unit == unit }, layout: layout(unit)) {
                digest.append(sha256($0))
                if !isAlone { chunks.append($0) }
            }
            guard isWhole else { return nil }
            digests[unit] = ChunkedDigest(digest)
            if !isAlone { core.contribute(unit: unit, chunks: chunks) }
        }
        own = isAlone ? contribution : nil
        checked[rank] = digests.mapValues(\.unit)
        drain()
        return digests
    }
    private var isAlone: Bool { plan.pipelines.count == 1 && !terms.way.hasOwners }
    /// Others are to have what nobody was to have.
    private mutating func sendOwn() {
        guard let own, !isAlone else { return }
        self.own = nil
        for unit in units {
            guard let chunks = chunked(own.filter { $0.unit == unit }, layout: layout(unit)) else { continue }
            core.contribute(unit: unit, chunks: chunks)
        }
    }
    /// The round begins anew here.
    package mutating func withdraw() {
        checked[rank] = nil
        own = nil
        core.withdraw()
    }
    /// A connection was lost and is there again: what was on its way may be lost too.
    package mutating func resend(to peer: PeerID) {
        for (other, pipeline) in plan.pipelines.enumerated() where other != rank && pipeline.contains(peer) {
            core.resend(to: other)
        }
        drain()
    }

    // MARK: answers of the engine

    package mutating func computed(_ result: ComputeResult, _ purpose: Purpose) {
        switch purpose {
        case .average(let stamp, let unit, let chunk):
            guard terms.stamp == stamp else { return }
            switch result {
            case .chunk(let bytes): core.aggregated(unit: unit, chunk: chunk, bytes)
            case .chunkRefused(let other, let why): object(to: other, why)
            case .refused(let why): effects.push(.event(.workRefused(why: why, round: round)))
            default: break
            }
        case .check(let work): judge(result, work)
        case .audit(let stamp, let key):
            if terms.stamp == stamp { audited(result, key) }
        }
        drain()
    }

    package mutating func drain() {
        var bundler = PartBundler<PeerID>()
        while let effect = core.poll() {
            switch effect {
            case .sendContribution(let unit, let chunk, let bytes, let other):
                bundle((unit, chunk, bytes), to: other, isAggregate: false, &bundler)
            case .sendAggregate(let unit, let chunk, let bytes, let other):
                bundle((unit, chunk, bytes), to: other, isAggregate: true, &bundler)
            case .aggregate(let unit, let chunk, let parts):
                effects.push(.compute(average(unit, chunk, parts), .average(terms.stamp, unit: unit, chunk: chunk)))
            case .held(let other): check(other)
            case .refused(let other, let why): object(to: other, why)
            case .complete: sayGathered()
            }
        }
        for rest in bundler.rest() { send(rest) }
    }

    package func average(_ unit: Int, _ chunk: Int, _ parts: [GroupExchange.Ranked]) -> ComputeJob {
        let contributions = parts.map {
            ChunkContribution(rank: $0.rank, microBatches: microBatches(of: $0.rank), bytes: $0.bytes)
        }
        return .averageChunk(unit: unit, chunk: chunk, contributions, codec: terms.way.aggregateCodec)
    }
    /// Micro-batches that a pipeline was granted for the round: its weight.
    package func microBatches(of rank: Int) -> Int {
        rank < plan.pipelines.count ? plan.share(rank: rank, steps: steps) : 1
    }

    // MARK: others' parts, without owners

    /// A pipeline's part of the round, whole: as the engine takes it.
    private func contribution(of rank: Int) -> RankedContribution? {
        if rank == self.rank, let own {
            return RankedContribution(rank: rank, microBatches: microBatches(of: rank), units: own)
        }
        var parts: [UnitContribution] = []
        for unit in units {
            guard let chunks = core.contribution(of: rank, unit: unit),
                let own = unchunked(chunks, unit: unit, layout: layout(unit))
            else { return nil }
            parts += own
        }
        return RankedContribution(rank: rank, microBatches: microBatches(of: rank), units: parts)
    }

    private func work(of rank: Int) -> WorkKey? {
        guard rank < plan.pipelines.count else { return nil }
        return WorkKey(round: round, rank: rank, attempt: plan.pipelines[rank].attempt)
    }

    private mutating func check(_ other: Int) {
        guard let work = work(of: other) else { return }
        guard let contribution = contribution(of: other) else {
            return object(to: other, "its parts do not fit their lengths")
        }
        var digests: [Int: Digest256] = [:]
        for unit in units { digests[unit] = ChunkedDigest(core.contribution(of: other, unit: unit)!).unit }
        checking[work] = digests
        effects.push(.compute(.checkContribution(contribution), .check(work)))
    }

    private mutating func judge(_ result: ComputeResult, _ work: WorkKey) {
        guard let digests = checking.removeValue(forKey: work), self.work(of: work.rank) == work else { return }
        if case .refused(let why) = result { return object(to: work.rank, why) }
        checked[work.rank] = digests
        let list = digests.keys.sorted().map { UnitDigest($0, digests[$0]!.bytes) }
        effects.push(.report(.held(Held(work: work, digests: list))))
    }

    // MARK: words to the leader

    private mutating func sayGathered() {
        var gathered = Gathered(group: terms.stamp, aggregates: [], chunks: [])
        for unit in units {
            let digest = ChunkedDigest(core.aggregates(unit: unit) ?? [])
            summed[unit] = digest.unit
            gathered.aggregates.append(UnitDigest(unit, digest.unit.bytes))
            gathered.chunks.append(UnitDigest(unit, digest.short))
        }
        effects.push(.report(.gathered(gathered)))
    }

    private mutating func object(to other: Int, _ why: String) {
        guard let work = work(of: other), objected.insert(work).inserted else { return }
        let reason = cleaned(why, bytes: Bounds.reasonBytes)
        effects.push(.event(.contributionUnusable(rank: other, why: reason)))
        effects.push(.report(.objection(Objection(work: work, why: reason))))
    }

    // MARK: what a seal wants of it

    /// The sums that the seal says all apply; nil while one is not here, or differs.
    package func aggregates(of seal: JobState.SealedRound) -> [UnitAggregate]? {
        var out: [UnitAggregate] = []
        for unit in units {
            guard let chunks = core.aggregates(unit: unit),
                (summed[unit] ?? ChunkedDigest(chunks).unit) == seal.aggregates[unit]
            else { return nil }
            out.append(UnitAggregate(unit: unit, chunks: chunks))
        }
        return out
    }

    /// The sealed contributions to this stage's units, in rank order; nil while one is missing, or differs from the seal.
    package func contributions(of seal: JobState.SealedRound) -> [RankedContribution]? {
        for entry in seal.contributions {
            guard work(of: entry.rank)?.attempt == entry.attempt else { return nil }
        }
        for unit in units {
            var digests: [[UInt8]] = []
            for entry in seal.contributions {
                guard let digest = digest(of: entry.rank, unit: unit) else { return nil }
                digests.append(digest.bytes)
            }
            guard Seal.part(digests) == seal.parts[unit] else { return nil }
        }
        var out: [RankedContribution] = []
        for entry in seal.contributions {
            guard var contribution = contribution(of: entry.rank) else { return nil }
            contribution.microBatches = entry.microBatches
            out.append(contribution)
        }
        return out
    }

    /// Of a contribution that is here; it is hashed only where that was not done before.
    private func digest(of rank: Int, unit: Int) -> Digest256? {
        checked[rank]?[unit] ?? core.contribution(of: rank, unit: unit).map { ChunkedDigest($0).unit }
    }

    /// Whom the exchange waits for here, and for what.
    package func waits(at now: Instant) -> Heartbeat.Waiting? {
        guard core.hasContributed, let waiting = core.waitsFor,
            let peer = plan.holder(waiting.rank, of: waiting.units.lowerBound)
        else { return nil }
        var rate: BitRate?
        if let arrivals = received[waiting.rank], now > arrivals.since {
            rate = BitRate(bitsPerSecond: Double(arrivals.bytes) * 8 / (now - arrivals.since).inSeconds)
        }
        return Heartbeat.Waiting(
            peer: peer, units: waiting.units, isContribution: waiting.contribution, rate: rate)
    }
    package mutating func count(_ bytes: Int, from rank: Int, at now: Instant) {
        received[rank, default: Arrivals(since: now)].bytes += bytes
    }
}

extension GroupTerms {
    /// Whether all it names are pipelines of the plan.
    func fits(_ plan: PlacedPlan) -> Bool {
        epoch == plan.epoch && ranks.allSatisfy { $0 < plan.pipelines.count }
            && barred.allSatisfy { $0 < plan.pipelines.count }
    }
}
