public import Primitives
import Training
public import Wire

/// What a round is, as the log defines it.
public struct RoundSpec: Hashable, Sendable {
    public var round: Int
    /// Global optimizer step it begins with.
    public var firstStep: Int
    /// H, or fewer in the last round.
    public var steps: Int
    /// Counted tokens before it: what schedules count.
    public var sealedTokens: Int
    /// Whether the job has all its tokens when this round is sealed with every pipeline.
    public var isLast: Bool
    /// Whether the parameters it begins with are evaluated on the fixed windows.
    public var evaluates: Bool
}

/// The job as a pure fold of its log: every peer that holds the same entries holds the same value.
public struct JobState: Sendable {
    public struct Member: Hashable, Sendable {
        public var peer: PeerID
        public var endpoint: Endpoint
        public var name: String
        public var present: Bool
    }
    public struct SealedRound: Hashable, Sendable {
        public var round: Int
        public var firstStep: Int
        public var steps: Int
        public var planEpoch: Int
        public var contributions: [Contribution]
        /// Where chunks have owners: the digest of what every member applies, by unit; else empty.
        public var aggregates: [Int: Digest256] = [:]
        public var tokens: Int
        public var trainLoss: Double
        /// Of the parameters the round began with.
        public var validationLoss: Double?
        public struct Contribution: Hashable, Sendable {
            public var rank: Int
            public var attempt: Int
            public var microBatches: Int
            public var digests: [Int: Digest256]
        }
    }

    public let parameters: JobParameters
    public private(set) var members: [Member] = []
    public private(set) var plan: PlacedPlan?
    /// Agreed, but in force only when the round in progress is sealed.
    public private(set) var nextPlan: PlacedPlan?
    /// Every plan there was, by epoch from 1.
    public private(set) var plans: [PlacedPlan] = []
    public var planCount: Int { plans.count }
    /// The round in progress.
    public private(set) var round = 0
    public private(set) var nextStep = 0
    public private(set) var sealedTokens = 0
    public private(set) var seals: [SealedRound] = []
    public private(set) var finished: String?

    public init(parameters: JobParameters) { self.parameters = parameters }

    public func member(_ peer: PeerID) -> Member? { members.first { $0.peer == peer } }
    public func name(of peer: PeerID) -> String { member(peer)?.name ?? peer.short }
    public func isPresent(_ peer: PeerID) -> Bool { member(peer)?.present ?? false }

    /// Tokens in one full step of the batch.
    public func batchTokens(_ plan: PlacedPlan) -> Int {
        parameters.geometry(microBatchesPerVirtual: plan.microBatchesPerVirtual).batchTokens
    }

    /// What the whole job trains on; without a plan, with the smallest batch.
    public var tokens: Int {
        parameters.tokens(microBatchesPerVirtual: plan?.microBatchesPerVirtual ?? 1)
    }

    /// The round in progress; nil without a plan or when enough tokens are sealed.
    public var spec: RoundSpec? {
        guard let plan, finished == nil, sealedTokens < tokens else { return nil }
        let batch = batchTokens(plan)
        let left = (tokens - sealedTokens + batch - 1) / batch
        return RoundSpec(
            round: round, firstStep: nextStep, steps: min(plan.innerSteps, left), sealedTokens: sealedTokens,
            isLast: left <= plan.innerSteps,
            evaluates: plan.mode == .rounds || round % 10 == 0)
    }

    /// A pipeline that lost a member cannot finish the round in progress.
    public func isBroken(rank: Int) -> Bool {
        guard let plan, rank < plan.pipelines.count else { return true }
        return plan.pipelines[rank].stages.contains { !isPresent($0.peer) }
    }

    /// Folds one entry; refuses what the rules forbid, and then nothing has changed.
    public mutating func apply(_ entry: PBLogEntry) throws(MalformedBytes) {
        switch entry.body {
        case .genesis?: break
        case .members(let change)?: try apply(change)
        case .plan(let change)?: try apply(change)
        case .seal(let seal)?: try apply(seal)
        case .finish(let finish)?: finished = finish.reason
        case nil: throw MalformedBytes("log entry without a body")
        }
    }

    private mutating func apply(_ change: PBMembers) throws(MalformedBytes) {
        for joined in change.joined {
            guard let peer = PeerID(joined.peer), let endpoint = Endpoint(compact: joined.endpoint) else {
                throw MalformedBytes("malformed member")
            }
            let entry = Member(peer: peer, endpoint: endpoint, name: joined.name, present: true)
            if let index = members.firstIndex(where: { $0.peer == peer }) {
                members[index] = entry
            } else {
                members.append(entry)
            }
        }
        for left in change.left {
            guard let peer = PeerID(left.peer), let index = members.firstIndex(where: { $0.peer == peer }) else {
                continue
            }
            members[index].present = false
        }
    }

    private mutating func apply(_ change: PBPlanChange) throws(MalformedBytes) {
        let placed = try PlacedPlan(
            change, epoch: planCount + 1, model: parameters.model,
            geometry: parameters.geometry(microBatchesPerVirtual: Int(change.microBatchesPerVirtual)))
        for peer in placed.peers + placed.spares where member(peer) == nil {
            throw MalformedBytes("plan names a stranger")
        }
        if change.rolledBack {
            guard placed.round <= round else { throw MalformedBytes("rolled back to a round that is not sealed") }
            seals.removeAll { $0.round >= placed.round }
            round = placed.round
            sealedTokens = seals.last?.tokens ?? 0
            nextStep = seals.last.map { $0.firstStep + $0.steps } ?? 0
            plan = placed
            nextPlan = nil
        } else if placed.round == round {
            plan = placed
        } else if placed.round == round + 1, plan != nil {
            nextPlan = placed
        } else {
            throw MalformedBytes("plan for round \(placed.round) while round \(round) is in progress")
        }
        plans.append(placed)
    }

    private mutating func apply(_ seal: PBSeal) throws(MalformedBytes) {
        guard let plan, let spec, seal.round == UInt64(round), Int(seal.steps) == spec.steps,
            seal.firstStep == UInt64(spec.firstStep)
        else { throw MalformedBytes("seal does not fit round \(round)") }
        let contributions = seal.contributions.map { entry in
            SealedRound.Contribution(
                rank: Int(entry.rank), attempt: Int(entry.attempt), microBatches: Int(entry.microBatches),
                digests: Dictionary(
                    entry.digests.compactMap { d in Digest256(d.digest).map { (Int(d.unit), $0) } },
                    uniquingKeysWith: { first, _ in first }))
        }
        guard seal.aggregates.allSatisfy({ Int($0.unit) < parameters.model.unitCount && Digest256($0.digest) != nil })
        else { throw MalformedBytes("malformed aggregates in a seal") }
        let ranks = contributions.map(\.rank)
        guard ranks == Set(ranks).sorted(), ranks.allSatisfy({ $0 < plan.pipelines.count }) else {
            throw MalformedBytes("seal lists pipelines out of order")
        }
        let perMicroBatch = parameters.microBatch * parameters.model.context
        let counted = contributions.reduce(0) { $0 + $1.microBatches * perMicroBatch }
        guard Int(clamping: seal.tokens) == sealedTokens + counted else {
            throw MalformedBytes("seal miscounts tokens")
        }
        seals.append(
            SealedRound(
                round: round, firstStep: spec.firstStep, steps: spec.steps, planEpoch: plan.epoch,
                contributions: contributions, tokens: Int(seal.tokens), trainLoss: seal.trainLoss,
                validationLoss: seal.validationTokens > 0 ? seal.validationLoss : nil))
        for entry in seal.aggregates { seals[seals.count - 1].aggregates[Int(entry.unit)] = Digest256(entry.digest) }
        sealedTokens = Int(seal.tokens)
        nextStep = spec.firstStep + spec.steps
        round += 1
        if let next = nextPlan {
            self.plan = next
            nextPlan = nil
        }
    }
}
