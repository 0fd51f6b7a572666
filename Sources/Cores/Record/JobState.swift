import Digests
public import Messages
public import Primitives
public import Training
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
        public var memory: ByteCount
        public var present: Bool
        /// What it said of itself when it joined.
        public var device = ""
        public var flops = 0.0
        /// The round in progress when it left last.
        var leftIn = -1
        /// Plans that there were when it came back within the round in which it had left; 0: it did not.
        var cameBack = 0
    }
    public struct SealedRound: Hashable, Sendable {
        public var round: Int
        public var firstStep: Int
        public var steps: Int
        public var planEpoch: Int
        public var contributions: [Contribution]
        /// Where chunks have owners: the digest of what every member applies, by unit; else empty.
        public var aggregates: [Int: Digest256] = [:]
        /// Where they have none: what is added up for each unit (``Seal/part(_:)``); else empty.
        public var parts: [Int: Digest256] = [:]
        public var tokens: Int
        public var trainLoss: Double
        /// Of the parameters the round began with.
        public var validationLoss: Double?
        public struct Contribution: Hashable, Sendable {
            public var rank: Int
            public var attempt: Int
            public var microBatches: Int
            public var digest: Digest256
        }
    }
    /// An entry that was checked against a state: applying it cannot fail.
    enum Change {
        case nothing
        case members(MembersChange)
        case plan(PlacedPlan, rolledBack: Bool)
        case seal(SealedRound)
        case states(States)
        case finish(Finish)
    }

    public let parameters: JobParameters
    public private(set) var members: [Member] = []
    private var places: [PeerID: Int] = [:]
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
    /// What holders agreed on, by round whose start it is and unit: of the last rounds, and of those of checkpoints.
    public private(set) var agreed: [Int: [Int: UnitRoots]] = [:]
    /// Of rounds of which checkpoints may be: the hash of all that was agreed on, which stays known.
    private var checkpoints: [Int: Digest256] = [:]
    public private(set) var finished: Finish?

    public init(parameters: JobParameters) { self.parameters = parameters }

    public func member(_ peer: PeerID) -> Member? { places[peer].map { members[$0] } }
    public func name(of peer: PeerID) -> String { member(peer)?.name ?? peer.short }
    public func isPresent(_ peer: PeerID) -> Bool { member(peer)?.present ?? false }
    /// Members that compute, and hold nothing of a plan.
    public func spares(of plan: PlacedPlan) -> [PeerID] {
        members.filter { $0.present && $0.flops > 0 && plan.placement(of: $0.peer) == nil }.map(\.peer)
    }

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
    /// Whether somebody of a pipeline left and came back within the round in progress, and no plan has been made since: what it had is gone,
    /// and a plan is to say from where to go on.
    public func awaitsPlan(rank: Int) -> Bool {
        guard let plan, rank < plan.pipelines.count else { return true }
        return plan.pipelines[rank].stages.contains { stage in
            member(stage.peer).map { $0.leftIn == round && $0.cameBack >= plan.epoch } ?? false
        }
    }
    /// Ranks that can still finish the round in progress.
    public var wholeRanks: [Int] { plan.map { $0.pipelines.indices.filter { !isBroken(rank: $0) } } ?? [] }

    /// What is known of a round's start: agreed on, or for round 0 named by the genesis where it is not drawn from the seed.
    public func roots(_ round: Int) -> [Int: UnitRoots] {
        agreed[round] ?? (round == 0 ? parameters.initialRoots : nil) ?? [:]
    }

    /// Whether every unit's state as of the start of a round has been agreed on. Round 0 follows from the genesis.
    public func isAgreed(_ round: Int) -> Bool { round == 0 || agreed[round]?.count == parameters.model.unitCount }

    /// Whether this is what holders agreed on as of the start of a round: all units, in order. Known of recent rounds, and of all of which
    /// checkpoints may be.
    public func wasAgreed(_ roots: [UnitRoots], round: Int) -> Bool {
        guard roots.map(\.unit) == Array(parameters.model.allUnits) else { return false }
        if let known = agreed[round], known.count == roots.count { return roots.allSatisfy { known[$0.unit] == $0 } }
        return checkpoints[round] == Self.digest(of: roots)
    }
    private static func digest(of roots: [UnitRoots]) -> Digest256 {
        sha256(roots.flatMap { $0.parameters.bytes + ($0.outerMomentum?.bytes ?? []) })
    }

    // MARK: checking

    /// What an entry would change; throws the rule that it breaks.
    func check(_ entry: Entry) throws(MalformedBytes) -> Change {
        if case .opening = entry { return .nothing }
        if finished != nil { throw MalformedBytes("an entry after the last") }
        switch entry {
        case .genesis: throw MalformedBytes("a second genesis")
        case .members(let change): return .members(try check(change))
        case .plan(let change): return try check(change)
        case .seal(let seal): return .seal(try check(seal))
        case .states(let states): return .states(try check(states))
        case .finish(let finish): return .finish(finish)
        // Who may become an elector is the record's to check.
        case .opening, .electors: return .nothing
        }
    }

    private func check(_ change: MembersChange) throws(MalformedBytes) -> MembersChange {
        guard members.count + change.joined.count <= 1 << 16 else { throw MalformedBytes("too many members") }
        return change
    }

    private func check(_ change: PlanChange) throws(MalformedBytes) -> Change {
        var placed = change.plan
        try placed.check(
            model: parameters.model,
            geometry: parameters.geometry(microBatchesPerVirtual: placed.microBatchesPerVirtual))
        placed.epoch = planCount + 1
        for peer in placed.peers + placed.spares where places[peer] == nil {
            throw MalformedBytes("plan names a stranger")
        }
        if change.rolledBack {
            guard placed.round <= round else { throw MalformedBytes("rolled back to a round that is not sealed") }
        } else {
            guard placed.round == round || (placed.round == round + 1 && plan != nil) else {
                throw MalformedBytes("plan for round \(placed.round) while round \(round) is in progress")
            }
        }
        return .plan(placed, rolledBack: change.rolledBack)
    }

    private func check(_ seal: Seal) throws(MalformedBytes) -> SealedRound {
        guard let plan, let spec, seal.round == round, seal.steps == spec.steps, seal.firstStep == spec.firstStep else {
            throw MalformedBytes("seal does not fit round \(round)")
        }
        guard
            (seal.aggregates + seal.parts).allSatisfy({ $0.unit < parameters.model.unitCount })
        else { throw MalformedBytes("a seal names a unit that the model has not") }
        let ranks = seal.contributions.map(\.rank)
        guard !ranks.isEmpty, zip(ranks, ranks.dropFirst()).allSatisfy({ $0 < $1 }), ranks.last! < plan.pipelines.count
        else {
            throw MalformedBytes("seal lists pipelines out of order, or none")
        }
        for contribution in seal.contributions {
            let pipeline = plan.pipelines[contribution.rank]
            guard contribution.attempt == pipeline.attempt,
                contribution.microBatches == plan.share(rank: contribution.rank, steps: spec.steps)
            else { throw MalformedBytes("seal counts what pipeline \(contribution.rank) was not granted") }
        }
        let perMicroBatch = parameters.microBatch * parameters.model.context
        let counted = seal.contributions.reduce(0) { $0 + $1.microBatches * perMicroBatch }
        guard seal.tokens == sealedTokens + counted else { throw MalformedBytes("seal miscounts tokens") }
        var sealed = SealedRound(
            round: round, firstStep: spec.firstStep, steps: spec.steps, planEpoch: plan.epoch,
            contributions: seal.contributions.map {
                SealedRound.Contribution(
                    rank: $0.rank, attempt: $0.attempt, microBatches: $0.microBatches, digest: $0.digest)
            }, tokens: seal.tokens, trainLoss: seal.trainLoss, validationLoss: seal.validationLoss)
        for entry in seal.aggregates { sealed.aggregates[entry.unit] = Digest256(entry.bytes) }
        for entry in seal.parts { sealed.parts[entry.unit] = Digest256(entry.bytes) }
        return sealed
    }

    private func check(_ states: States) throws(MalformedBytes) -> States {
        guard states.round <= round, states.round > 0 else {
            throw MalformedBytes("states of round \(states.round) while round \(round) is in progress")
        }
        for roots in states.units {
            guard roots.unit < parameters.model.unitCount else { throw MalformedBytes("a unit that the model has not") }
            if let before = agreed[states.round]?[roots.unit], before != roots {
                throw MalformedBytes("unit \(roots.unit) of round \(states.round) was agreed on otherwise")
            }
        }
        return states
    }

    // MARK: applying

    mutating func apply(_ change: Change) {
        switch change {
        case .nothing: break
        case .members(let change): apply(change)
        case .plan(let placed, let rolledBack): apply(placed, rolledBack: rolledBack)
        case .seal(let sealed): apply(sealed)
        case .states(let states):
            for roots in states.units { agreed[states.round, default: [:]][roots.unit] = roots }
            if parameters.checkpointRounds > 0, states.round % parameters.checkpointRounds == 0, isAgreed(states.round)
            {
                let all = agreed[states.round]!
                checkpoints[states.round] = Self.digest(of: all.keys.sorted().map { all[$0]! })
            }
            forgetOldStates()
        case .finish(let finish): finished = finish
        }
    }

    private mutating func apply(_ change: MembersChange) {
        for joined in change.joined {
            var entry = Member(
                peer: joined.peer, endpoint: joined.endpoint, name: joined.name, memory: joined.memory, present: true,
                device: joined.device, flops: joined.flops)
            if let index = places[joined.peer] {
                let before = members[index]
                entry.leftIn = before.leftIn
                entry.cameBack = before.present ? before.cameBack : before.leftIn == round ? planCount : 0
                members[index] = entry
            } else {
                places[joined.peer] = members.count
                members.append(entry)
            }
        }
        for left in change.left {
            guard let index = places[left.peer] else { continue }
            members[index].present = false
            members[index].leftIn = round
        }
    }

    private mutating func apply(_ placed: PlacedPlan, rolledBack: Bool) {
        plans.append(placed)
        if rolledBack {
            while let last = seals.last, last.round >= placed.round { seals.removeLast() }
            agreed = agreed.filter { $0.key <= placed.round }
            checkpoints = checkpoints.filter { $0.key <= placed.round }
            round = placed.round
            sealedTokens = seals.last?.tokens ?? 0
            nextStep = seals.last.map { $0.firstStep + $0.steps } ?? 0
            plan = placed
            nextPlan = nil
        } else if placed.round == round {
            plan = placed
        } else {
            nextPlan = placed
        }
    }

    private mutating func apply(_ sealed: SealedRound) {
        seals.append(sealed)
        sealedTokens = sealed.tokens
        nextStep = sealed.firstStep + sealed.steps
        round += 1
        if let next = nextPlan {
            plan = next
            nextPlan = nil
        }
        forgetOldStates()
    }

    /// Rounds whose agreed states stay known.
    private static let recentStates = 8
    /// And starts that members' disks may still have: of more than an exact one may be older than one that is not.
    private static let recentStarts = 8
    private mutating func forgetOldStates() {
        let every = parameters.checkpointRounds
        let checkpoints = every > 0 ? agreed.keys.filter { $0 % every == 0 }.sorted().suffix(4) : []
        let starts = agreed.keys.filter { parameters.keepsStart(of: $0) }.sorted().suffix(Self.recentStarts)
        agreed = agreed.filter {
            $0.key >= round - Self.recentStates || checkpoints.contains($0.key) || starts.contains($0.key)
        }
    }
}
