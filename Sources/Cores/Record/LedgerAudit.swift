import Digests
public import Primitives
public import Wire

/// The micro-batches again, from the log and the signed receipts alone: code of its own, so that agreement with ``Ledger``
/// means something.
///
/// It walks the entries once, keeping for each pipeline of the round in progress what the entries granted it, and counts a
/// pipeline only when every one of its stages has a receipt, and their digests together are the seal's. Where the seal says what
/// is added up, it must be these contributions.
public func auditMicroBatches(
    log: [PBEnvelope], receipts: [PBEnvelope], parameters: JobParameters
) throws(MalformedBytes) -> Ledger.Totals {
    guard let first = log.first else { throw MalformedBytes("an empty log") }
    let job = sha256([0] + [UInt8](first.body))
    var audit = LedgerAudit(parameters, works: try LedgerAudit.works(receipts, job: job))
    for envelope in log.dropFirst() {
        try audit.follow(try envelope.open(.logEntry, job: job, wall: nil, as: PBLogEntry.self).body)
    }
    return audit.totals
}

/// How far an audit has come.
private struct LedgerAudit {
    struct Grant {
        var attempt: UInt32
        var microBatches: Int
        var peers: [PeerID]
    }
    struct Claim: Hashable {
        var round: UInt64
        var rank: UInt32
        var attempt: UInt32
        var stage: UInt32
    }
    typealias Works = [Claim: [(signer: PeerID, work: PBWork)]]

    let parameters: JobParameters
    let works: Works
    var totals = Ledger.Totals()
    var grants: [Int: Grant] = [:]
    var present: Set<PeerID> = []
    var plan: PBPlanChange?
    var upcoming: PBPlanChange?
    var round: UInt64 = 0
    var tokens = 0
    var counted: [UInt64: (microBatches: Int, tokens: Int)] = [:]

    init(_ parameters: JobParameters, works: Works) {
        self.parameters = parameters
        self.works = works
    }

    static func works(_ receipts: [PBEnvelope], job: Digest256) throws(MalformedBytes) -> Works {
        var works: Works = [:]
        for envelope in receipts {
            let statement = try envelope.open(.receipt, job: job, wall: nil, as: PBWork.self)
            let work = statement.body
            let claim = Claim(
                round: work.work.round, rank: work.work.rank, attempt: work.work.attempt, stage: work.stage)
            works[claim, default: []].append((statement.signer, work))
        }
        return works
    }

    mutating func follow(_ entry: PBLogEntry) throws(MalformedBytes) {
        switch entry.body {
        case .members(let change)?:
            for joined in change.joined { if let peer = PeerID(joined.peer) { present.insert(peer) } }
            for left in change.left { if let peer = PeerID(left.peer) { present.remove(peer) } }
        case .plan(let change)?: follow(change)
        case .seal(let seal)?: try follow(seal)
        case .finish?: voidOpen()
        case .genesis?, .states?, .opening?, .electors?, nil: break
        }
    }

    private mutating func follow(_ change: PBPlanChange) {
        if change.rolledBack {
            voidOpen()
            for old in counted.keys where old >= change.round {
                totals.counted -= counted[old]!.microBatches
                totals.superseded += counted[old]!.microBatches
                tokens -= counted[old]!.tokens
                counted[old] = nil
            }
            round = change.round
            plan = change
            upcoming = nil
            grantAll(change)
        } else if change.round == round {
            plan = change
            grantAll(change)
        } else {
            upcoming = change
        }
    }

    private mutating func follow(_ seal: PBSeal) throws(MalformedBytes) {
        guard plan != nil, seal.round == round else { throw MalformedBytes("a seal out of order") }
        var here = 0
        var proven: [Int: [UInt32: [UInt8]]] = [:]
        for (rank, grant) in grants {
            if let entry = seal.contributions.first(where: { Int($0.rank) == rank }) {
                proven[rank] = try prove(grant, entry, rank)
                here += Int(entry.microBatches)
            } else if grant.peers.allSatisfy({ present.contains($0) }) {
                totals.late += grant.microBatches
            } else {
                totals.lost += grant.microBatches
            }
        }
        for part in seal.parts {
            let bytes = seal.contributions.flatMap { proven[Int($0.rank)]?[part.unit] ?? [] }
            guard sha256(bytes).bytes == Array(part.digest) else {
                throw MalformedBytes("round \(round), unit \(part.unit): what is added up is not what the receipts say")
            }
        }
        let perMicroBatch = parameters.microBatch * parameters.model.context
        totals.counted += here
        counted[round] = (here, here * perMicroBatch)
        tokens += here * perMicroBatch
        grants = [:]
        round += 1
        plan = upcoming ?? plan
        upcoming = nil
        if let plan, tokens < total(plan) { grantAll(plan) }
    }

    /// Every stage has signed for what the seal counts.
    ///
    /// - Returns: the digest of each of the pipeline's units.
    private func prove(
        _ grant: Grant, _ entry: PBSeal.Contribution, _ rank: Int
    ) throws(MalformedBytes) -> [UInt32: [UInt8]] {
        var candidates: [[PBWork]] = []
        for stage in grant.peers.indices {
            let claim = Claim(round: round, rank: UInt32(rank), attempt: entry.attempt, stage: UInt32(stage))
            let works = (works[claim] ?? []).filter { signer, work in
                signer == grant.peers[stage] && entry.attempt == grant.attempt
                    && work.microBatches == entry.microBatches
            }
            guard !works.isEmpty else {
                throw MalformedBytes("round \(round), pipeline \(rank), stage \(stage): no receipt")
            }
            candidates.append(works.map(\.work))
        }
        // A stage has one receipt, unless somebody signed two: then any choice that gives the digest will do.
        let choices = candidates.reduce(1) {
            $0.multipliedReportingOverflow(by: $1.count).overflow ? .max : $0 * $1.count
        }
        for choice in 0..<min(choices, Self.choices) {
            var rest = choice
            var digests: [UInt32: [UInt8]] = [:]
            for works in candidates {
                for digest in works[rest % works.count].digests { digests[digest.unit] = Array(digest.digest) }
                rest /= works.count
            }
            if sha256(digests.keys.sorted().flatMap { digests[$0]! }).bytes == Array(entry.digest) { return digests }
        }
        throw MalformedBytes("round \(round), pipeline \(rank): its receipts say something else than the seal")
    }
    /// Of contradicting receipts so many choices are tried.
    private static let choices = 1 << 12

    private func total(_ plan: PBPlanChange) -> Int {
        parameters.tokens(microBatchesPerVirtual: Int(plan.microBatchesPerVirtual))
    }
    private func steps(_ plan: PBPlanChange) -> Int {
        let sequences = parameters.virtualPipelines * Int(plan.microBatchesPerVirtual) * parameters.microBatch
        let batch = sequences * parameters.model.context
        return min(Int(plan.innerSteps), max(0, total(plan) - tokens + batch - 1) / batch)
    }
    private mutating func grantAll(_ plan: PBPlanChange) {
        for (rank, pipeline) in plan.pipelines.enumerated() {
            if let before = grants[rank], before.attempt == pipeline.attempt { continue }
            totals.superseded += grants[rank]?.microBatches ?? 0
            let share = pipeline.virtualPipelines.count * Int(plan.microBatchesPerVirtual) * steps(plan)
            grants[rank] = Grant(
                attempt: pipeline.attempt, microBatches: share, peers: pipeline.stages.compactMap { PeerID($0.peer) })
            totals.granted += share
        }
        for rank in grants.keys where rank >= plan.pipelines.count {
            totals.superseded += grants.removeValue(forKey: rank)!.microBatches
        }
    }
    private mutating func voidOpen() {
        for grant in grants.values { totals.superseded += grant.microBatches }
        grants = [:]
    }
}
