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
    public private(set) var totals = Totals()
    /// The round in progress: (attempt, micro-batches) granted to each rank.
    private var open: [Int: (attempt: Int, microBatches: Int)] = [:]
    private var openRound = -1
    private var countedByRound: [Int: Int] = [:]

    public init() {}
    /// Granted, and not yet any of the four: of the round in progress.
    public var underWay: Int { open.values.reduce(0) { $0 + $1.microBatches } }
    /// Also of a job that is not over.
    public var isBalanced: Bool { totals.granted == totals.ended + underWay }
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
            }
            open[rank] = (pipeline.attempt, share)
            totals.granted += share
        }
        for rank in open.keys.sorted() where rank >= plan.pipelines.count {
            totals.superseded += open.removeValue(forKey: rank)!.microBatches
        }
    }

    /// - Parameter broken: ranks that lost a peer.
    mutating func seal(_ sealed: JobState.SealedRound, broken: Set<Int>) {
        for rank in open.keys.sorted() {
            let share = open[rank]!.microBatches
            if sealed.contributions.contains(where: { $0.rank == rank }) {
                totals.counted += share
                countedByRound[sealed.round, default: 0] += share
            } else if broken.contains(rank) {
                totals.lost += share
            } else {
                totals.late += share
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
        abandon()
    }
    /// The job ends (or is planned anew) with work under way.
    mutating func abandon() {
        for rank in open.keys.sorted() { totals.superseded += open[rank]!.microBatches }
        open = [:]
        openRound = -1
    }
}
