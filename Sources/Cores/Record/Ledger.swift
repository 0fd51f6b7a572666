import Primitives

/// Every micro-batch ends as counted, late, lost or superseded, and the numbers add up.
///
/// Granted: by the log, when a plan maps a round's share onto a pipeline. Superseded: the pipeline began its round anew, or
/// the round was rolled back. Lost: the pipeline lost a peer before the seal. Late: it was whole but not in time.
public struct Ledger: Hashable, Sendable {
    public struct Totals: Hashable, Sendable {
        public var granted = 0
        public var counted = 0
        public var late = 0
        public var lost = 0
        public var superseded = 0
        public var ended: Int { counted + late + lost + superseded }
        public var isBalanced: Bool { granted == ended }
        public init() {}
    }
    /// What became of one peer's part in a round.
    public struct Ending: Hashable, Sendable {
        public enum Outcome: String, Hashable, Sendable, Codable { case counted, late, lost, superseded }
        public var round: Int
        public var rank: Int
        public var stage: Int
        public var units: Range<Int>
        public var microBatches: Int
        public var outcome: Outcome
        /// A clause.
        public var why: String
    }
    private struct Grant: Sendable {
        var attempt: Int
        var microBatches: Int
        /// Of the peer whose work is listed.
        var own: (stage: Int, units: Range<Int>)?
    }
    public private(set) var totals = Totals()
    /// Whose work is listed one by one; nil for nobody's.
    let listed: PeerID?
    /// Of that peer, in the order in which they ended; what is rolled back ends anew, in its place.
    public private(set) var endings: [Ending] = []
    /// The round in progress, by rank.
    private var open: [Int: Grant] = [:]
    private var openRound = -1
    private var countedByRound: [Int: Int] = [:]

    public init() { self.init(listing: nil) }
    init(listing peer: PeerID?) { listed = peer }
    /// Granted, and not yet any of the four: of the round in progress.
    public var underWay: Int { open.values.reduce(0) { $0 + $1.microBatches } }
    /// Also of a job that is not over.
    public var isBalanced: Bool { totals.granted == totals.ended + underWay }
    /// Of the peer whose work is listed: micro-batches under way.
    public var ownUnderWay: Int { open.values.reduce(0) { $0 + ($1.own == nil ? 0 : $1.microBatches) } }
    /// Of the peer whose work is listed: micro-batches that ended in some way.
    public func own(_ outcome: Ending.Outcome) -> Int {
        endings.reduce(0) { $0 + ($1.outcome == outcome ? $1.microBatches : 0) }
    }
    private mutating func end(_ rank: Int, _ round: Int, _ outcome: Ending.Outcome, _ why: String) {
        guard let grant = open[rank], let own = grant.own else { return }
        endings.append(
            Ending(
                round: round, rank: rank, stage: own.stage, units: own.units, microBatches: grant.microBatches,
                outcome: outcome, why: why))
    }
    public static func == (a: Ledger, b: Ledger) -> Bool { a.totals == b.totals }
    public func hash(into hasher: inout Hasher) { hasher.combine(totals) }

    /// What an entry takes back, ends or counts, before it is applied. ``grant(_:)`` follows when it is.
    mutating func follow(_ change: JobState.Change, before state: JobState) {
        switch change {
        case .seal(let sealed):
            let plan = state.plan
            seal(sealed, broken: Set((plan?.pipelines.indices ?? 0..<0).filter { state.isBroken(rank: $0) }))
        case .plan(let plan, let rolledBack):
            guard rolledBack else { break }
            if plan.round < state.round { rollBack(to: plan.round) } else { abandon() }
        case .finish: abandon()
        case .nothing, .members, .states: break
        }
    }

    /// Grants the round in progress to the plan's pipelines; what a pipeline was granted under an older attempt is void.
    mutating func grant(_ state: JobState) {
        guard let plan = state.plan, let spec = state.spec else { return }
        if spec.round != openRound { open = [:] }
        openRound = spec.round
        for (rank, pipeline) in plan.pipelines.enumerated() {
            let share = plan.share(rank: rank, steps: spec.steps)
            if let before = open[rank] {
                guard before.attempt != pipeline.attempt else { continue }
                totals.superseded += before.microBatches
                end(rank, spec.round, .superseded, "its pipeline began the round anew")
            }
            let place = listed.flatMap { peer in pipeline.stages.firstIndex { $0.peer == peer } }
            open[rank] = Grant(
                attempt: pipeline.attempt, microBatches: share, own: place.map { ($0, pipeline.stages[$0].units) })
            totals.granted += share
        }
        for rank in open.keys.sorted() where rank >= plan.pipelines.count {
            end(rank, spec.round, .superseded, "a new plan has no such pipeline")
            totals.superseded += open.removeValue(forKey: rank)!.microBatches
        }
    }

    /// - Parameter broken: ranks that lost a peer.
    mutating func seal(_ sealed: JobState.SealedRound, broken: Set<Int>) {
        for rank in open.keys.sorted() {
            let share = open[rank]!.microBatches
            if sealed.contributions.contains(where: { $0.rank == rank }) {
                totals.counted += share
                end(rank, sealed.round, .counted, "the round's seal has it")
                countedByRound[sealed.round, default: 0] += share
            } else if broken.contains(rank) {
                totals.lost += share
                end(rank, sealed.round, .lost, "somebody of its pipeline left")
            } else {
                totals.late += share
                end(rank, sealed.round, .late, "the round was sealed without its pipeline")
            }
        }
        open = [:]
        openRound = -1
    }

    /// Seals from `round` on are void, and so is what is open.
    mutating func rollBack(to round: Int) {
        for old in countedByRound.keys.sorted() where old >= round {
            totals.counted -= countedByRound[old]!
            totals.superseded += countedByRound.removeValue(forKey: old)!
        }
        for index in endings.indices where endings[index].round >= round && endings[index].outcome == .counted {
            endings[index].outcome = .superseded
            endings[index].why = "everybody went back to round \(round)"
        }
        abandon()
    }
    /// The job ends (or is planned anew) with work under way.
    mutating func abandon() {
        for rank in open.keys.sorted() {
            totals.superseded += open[rank]!.microBatches
            end(rank, openRound, .superseded, "the round was given up")
        }
        open = [:]
        openRound = -1
    }
}
