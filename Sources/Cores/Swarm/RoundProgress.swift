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
    /// Who says that it holds a part, and the digests of what it holds.
    private(set) var held: [Key: [PeerID: [PBUnitDigest]]] = [:]
    /// Where chunks have owners: what each member gathered, by the group it gathered in.
    private(set) var gathered: [PeerID: PBGathered] = [:]
    private var round = 0

    package init(round: Int = 0) { self.round = round }

    package mutating func receive(_ work: PBWork) {
        guard Int(clamping: work.work.round) == round else { return }
        receipts[Key(rank: Int(work.work.rank), attempt: Int(work.work.attempt)), default: [:]][Int(work.stage)] = work
    }
    package mutating func receive(_ message: PBHeld, from peer: PeerID, state: JobState) {
        guard Int(clamping: message.round) == round else { return }
        held[Key(rank: Int(message.rank), attempt: Int(message.attempt)), default: [:]][peer] = message.digests
    }

    package mutating func receive(_ message: PBGathered, from peer: PeerID) {
        guard Int(clamping: message.round) == round else { return }
        gathered[peer] = message
    }

    /// All stages of a pipeline have encoded their part.
    package func isComputed(rank: Int, _ plan: PlacedPlan) -> Bool {
        let pipeline = plan.pipelines[rank]
        return receipts[Key(rank: rank, attempt: pipeline.attempt)]?.count == pipeline.stages.count
    }

    /// Peers of `among` that do not yet hold all of `rank`'s part, or hold another than it signed.
    package func missing(rank: Int, among ranks: [Int], _ plan: PlacedPlan) -> [PeerID] {
        let key = Key(rank: rank, attempt: plan.pipelines[rank].attempt)
        let holders = held[key] ?? [:]
        guard !holders.isEmpty else { return holdersOf(ranks.filter { $0 != rank }, plan) }
        var signed: [UInt32: [UInt8]] = [:]
        for work in (receipts[key] ?? [:]).values {
            for entry in work.digests { signed[entry.unit] = Array(entry.digest) }
        }
        return holdersOf(ranks.filter { $0 != rank }, plan).filter { peer in
            guard let here = holders[peer] else { return true }
            return !here.allSatisfy { signed[$0.unit] == Array($0.digest) }
        }
    }
    private func holdersOf(_ ranks: [Int], _ plan: PlacedPlan) -> [PeerID] {
        ranks.flatMap { plan.pipelines[$0].stages.map(\.peer) }
    }

    /// What a pipeline signed of a chunk: eight bytes of its SHA-256; nil without its receipt.
    package func signedChunk(rank: Int, unit: Int, chunk: Int, _ plan: PlacedPlan) -> [UInt8]? {
        let works = receipts[Key(rank: rank, attempt: plan.pipelines[rank].attempt)] ?? [:]
        for stage in works.keys.sorted() {
            guard let entry = works[stage]!.chunks.first(where: { Int($0.unit) == unit }) else { continue }
            let bytes = Array(entry.digest)
            return bytes.count >= 8 * (chunk + 1) ? Array(bytes[8 * chunk..<8 * chunk + 8]) : nil
        }
        return nil
    }

    /// The largest set of pipelines such that each has computed and all the others hold its part; of equals, the one with the
    /// lower ranks. Exact for up to sixteen pipelines; beyond, the one that lacks or misses most leaves until the rest agrees.
    package func sealable(among ranks: [Int], _ plan: PlacedPlan) -> [Int] {
        let done = ranks.filter { isComputed(rank: $0, plan) }
        // agrees[i]: bit j is set when i and j hold each other's parts.
        let agrees = done.map { a in
            done.enumerated().reduce(UInt64(0)) { bits, other in
                let (j, b) = other
                let both =
                    missing(rank: a, among: [a, b], plan).isEmpty && missing(rank: b, among: [a, b], plan).isEmpty
                return a == b || both ? bits | 1 << UInt64(j & 63) : bits
            }
        }
        guard done.count <= 16 else { return greedy(done, plan) }
        var best: UInt64 = 0
        for set in UInt64(0)..<1 << UInt64(done.count) {
            guard set.nonzeroBitCount > best.nonzeroBitCount else { continue }
            if done.indices.allSatisfy({ set >> UInt64($0) & 1 == 0 || set & ~agrees[$0] == 0 }) { best = set }
        }
        return done.indices.filter { best >> UInt64($0) & 1 == 1 }.map { done[$0] }
    }

    private func greedy(_ done: [Int], _ plan: PlacedPlan) -> [Int] {
        var set = done
        while true {
            let quarrels = set.map { a in
                set.filter { b in
                    a != b
                        && !(missing(rank: a, among: [a, b], plan).isEmpty
                            && missing(rank: b, among: [a, b], plan).isEmpty)
                }.count
            }
            guard let most = quarrels.max(), most > 0 else { return set }
            set.remove(at: quarrels.lastIndex(of: most)!)
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
