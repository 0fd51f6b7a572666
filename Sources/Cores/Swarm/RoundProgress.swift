import Digests
import Primitives
import Wire

/// What the coordinator knows of the round in progress: who has finished it, and who holds whose part.
package struct RoundProgress: Sendable {
    struct Key: Hashable, Sendable {
        var rank: Int
        var attempt: Int
    }
    /// Receipts by stage.
    private(set) var receipts: [Key: [Int: PBWork]] = [:]
    private(set) var held: [Key: Set<PeerID>] = [:]
    private var round = 0

    package init(round: Int = 0) { self.round = round }

    package mutating func receive(_ work: PBWork) {
        guard Int(clamping: work.work.round) == round else { return }
        receipts[Key(rank: Int(work.work.rank), attempt: Int(work.work.attempt)), default: [:]][Int(work.stage)] = work
    }
    package mutating func receive(_ message: PBHeld, from peer: PeerID, state: JobState) {
        guard Int(clamping: message.round) == round else { return }
        held[Key(rank: Int(message.rank), attempt: Int(message.attempt)), default: []].insert(peer)
    }

    /// All stages of a pipeline have encoded their part.
    package func isComputed(rank: Int, _ plan: PlacedPlan) -> Bool {
        let pipeline = plan.pipelines[rank]
        return receipts[Key(rank: rank, attempt: pipeline.attempt)]?.count == pipeline.stages.count
    }

    /// Peers of `among` that do not yet hold all of `rank`'s part.
    package func missing(rank: Int, among ranks: [Int], _ plan: PlacedPlan) -> [PeerID] {
        let key = Key(rank: rank, attempt: plan.pipelines[rank].attempt)
        let holders = held[key] ?? []
        return ranks.filter { $0 != rank }.flatMap { plan.pipelines[$0].stages.map(\.peer) }.filter {
            !holders.contains($0)
        }
    }

    /// The largest set of pipelines found such that each has computed and all the others hold its part.
    package func sealable(among ranks: [Int], _ plan: PlacedPlan) -> [Int] {
        var set = ranks.filter { isComputed(rank: $0, plan) }
        while true {
            let gaps = set.map { (rank: $0, missing: missing(rank: $0, among: set, plan).count) }
            guard let worst = gaps.max(by: { ($0.missing, $0.rank) < ($1.missing, $1.rank) }), worst.missing > 0 else {
                return set
            }
            // Whoever lacks parts of several others is the straggler; else the one whose part is lacking.
            let lacking = set.map { rank in
                (
                    rank: rank,
                    lacks: set.filter { other in
                        other != rank && missing(rank: other, among: [other, rank], plan).isEmpty == false
                    }.count
                )
            }
            let slow = lacking.max { ($0.lacks, $0.rank) < ($1.lacks, $1.rank) }!
            set.removeAll { $0 == (slow.lacks > 1 ? slow.rank : worst.rank) }
        }
    }

    /// The seal of these pipelines.
    package func seal(_ ranks: [Int], spec: RoundSpec, plan: PlacedPlan, tokensPerMicroBatch: Int) -> PBSeal {
        var seal = PBSeal()
        seal.round = UInt64(spec.round)
        seal.firstStep = UInt64(spec.firstStep)
        seal.steps = UInt32(spec.steps)
        var lossSum = 0.0
        var microBatches = 0
        var evaluationSum = 0.0
        var evaluationTokens: UInt64 = 0
        for rank in ranks {
            let pipeline = plan.pipelines[rank]
            let works = receipts[Key(rank: rank, attempt: pipeline.attempt)]!
            let last = works[pipeline.stages.count - 1]!
            var entry = PBSeal.Contribution()
            entry.rank = UInt32(rank)
            entry.attempt = UInt32(pipeline.attempt)
            entry.microBatches = last.microBatches
            entry.digests = (0..<pipeline.stages.count).flatMap { works[$0]!.digests }
            seal.contributions.append(entry)
            lossSum += last.lossSum
            microBatches += Int(last.microBatches)
            evaluationSum += last.evaluationSum
            evaluationTokens += last.evaluationTokens
        }
        seal.tokens = UInt64(spec.sealedTokens + microBatches * tokensPerMicroBatch)
        seal.trainLoss = microBatches > 0 ? lossSum / Double(microBatches) : 0
        seal.validationTokens = evaluationTokens
        seal.validationLoss = evaluationTokens > 0 ? evaluationSum / Double(evaluationTokens) : 0
        return seal
    }
}
