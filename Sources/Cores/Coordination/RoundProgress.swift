public import Messages
import Primitives
public import Record

/// What is known of the round in progress: who has finished it, and who holds whose part.
public struct RoundProgress: Sendable {
    /// Receipts by work and stage.
    package private(set) var receipts: [WorkKey: [Int: Receipt]] = [:]
    /// Who says that it holds a part, and the digests of what it holds.
    package private(set) var held: [WorkKey: [PeerID: [UnitDigest]]] = [:]
    /// Where chunks have owners: what each member gathered, by the group it gathered in.
    package private(set) var gathered: [PeerID: Gathered] = [:]
    public let round: Int

    public init(round: Int = 0) { self.round = round }

    public enum Verdict: Hashable, Sendable { case taken, known, contradicts }
    /// The first receipt of a stage's work counts.
    public mutating func receive(_ receipt: Receipt) -> Verdict {
        guard receipt.work.round == round else { return .known }
        if let before = receipts[receipt.work]?[receipt.stage] { return before == receipt ? .known : .contradicts }
        receipts[receipt.work, default: [:]][receipt.stage] = receipt
        return .taken
    }
    /// - Parameter rank: the pipeline whose part it is; only current work is kept.
    public mutating func receive(_ message: Held, from peer: PeerID, plan: PlacedPlan) {
        guard message.work.round == round, message.work.rank < plan.pipelines.count,
            message.work.attempt == plan.pipelines[message.work.rank].attempt
        else { return }
        held[message.work, default: [:]][peer] = message.digests
    }
    public mutating func receive(_ message: Gathered, from peer: PeerID) {
        guard message.group.round == round else { return }
        if let before = gathered[peer], before.group > message.group { return }
        gathered[peer] = message
    }

    package func work(_ rank: Int, _ plan: PlacedPlan) -> WorkKey {
        WorkKey(round: round, rank: rank, attempt: plan.pipelines[rank].attempt)
    }
    /// All stages of a pipeline have encoded their part.
    public func isComputed(rank: Int, _ plan: PlacedPlan) -> Bool {
        receipts[work(rank, plan)]?.count == plan.pipelines[rank].stages.count
    }
    package func receipt(rank: Int, stage: Int, _ plan: PlacedPlan) -> Receipt? { receipts[work(rank, plan)]?[stage] }

    /// Peers of `among` that do not yet hold all of `rank`'s part, or hold another than it signed.
    public func missing(rank: Int, among ranks: [Int], _ plan: PlacedPlan) -> [PeerID] {
        let key = work(rank, plan)
        let others = ranks.filter { $0 != rank }.flatMap { plan.pipelines[$0].stages.map(\.peer) }
        guard let holders = held[key], !holders.isEmpty else { return others }
        var signed: [Int: [UInt8]] = [:]
        for receipt in (receipts[key] ?? [:]).values {
            for entry in receipt.digests { signed[entry.unit] = entry.bytes }
        }
        return others.filter { peer in
            guard let here = holders[peer] else { return true }
            return !here.allSatisfy { signed[$0.unit] == $0.bytes }
        }
    }

    /// What a pipeline signed of a chunk: eight bytes of its SHA-256; nil without its receipt.
    public func signedChunk(rank: Int, unit: Int, chunk: Int, _ plan: PlacedPlan) -> [UInt8]? {
        let receipts = receipts[work(rank, plan)] ?? [:]
        for stage in receipts.keys.sorted() {
            if let entry = receipts[stage]!.chunks[unit: unit] { return entry.chunk(chunk) }
        }
        return nil
    }

    /// The largest set of pipelines such that each has computed and all the others hold its part; of equals, the one with the
    /// lower ranks. Exact for up to sixteen pipelines; beyond, the one that lacks or misses most leaves until the rest agrees.
    public func sealable(among ranks: [Int], _ plan: PlacedPlan) -> [Int] {
        let done = ranks.filter { isComputed(rank: $0, plan) }
        guard done.count <= 16 else { return greedy(done, plan) }
        // agrees[i]: bit j is set when i and j hold each other's parts.
        let agrees = done.map { a in
            done.enumerated().reduce(UInt64(0)) { bits, other in
                let (j, b) = other
                return a == b || agree(a, b, plan) ? bits | 1 << UInt64(j) : bits
            }
        }
        var best: UInt64 = 0
        for set in UInt64(0)..<1 << UInt64(done.count) {
            guard set.nonzeroBitCount > best.nonzeroBitCount else { continue }
            if done.indices.allSatisfy({ set >> UInt64($0) & 1 == 0 || set & ~agrees[$0] == 0 }) { best = set }
        }
        return done.indices.filter { best >> UInt64($0) & 1 == 1 }.map { done[$0] }
    }
    private func agree(_ a: Int, _ b: Int, _ plan: PlacedPlan) -> Bool {
        missing(rank: a, among: [a, b], plan).isEmpty && missing(rank: b, among: [a, b], plan).isEmpty
    }
    private func greedy(_ done: [Int], _ plan: PlacedPlan) -> [Int] {
        var set = done
        while true {
            let quarrels = set.map { a in set.count { b in a != b && !agree(a, b, plan) } }
            guard let most = quarrels.max(), most > 0 else { return set }
            set.remove(at: quarrels.lastIndex(of: most)!)
        }
    }

    /// The seal of these pipelines, as everybody adds up the contributions.
    /// - Parameter isTied: whether a pipeline's first stage has the head, and so the losses; else its last.
    public func seal(
        _ ranks: [Int], spec: RoundSpec, plan: PlacedPlan, tokensPerMicroBatch: Int, isTied: Bool = false
    ) -> Seal {
        var seal = Seal(round: spec.round, firstStep: spec.firstStep, steps: spec.steps, contributions: [], tokens: 0)
        var lossSum = 0.0
        var microBatches = 0
        var evaluationSum = 0.0
        var digests: [[UnitDigest]] = []
        for rank in ranks {
            let pipeline = plan.pipelines[rank]
            guard let receipts = receipts[work(rank, plan)],
                let losses = receipts[isTied ? 0 : pipeline.stages.count - 1]
            else { continue }
            digests.append(pipeline.stages.indices.flatMap { receipts[$0]?.digests ?? [] })
            seal.contributions.append(
                Seal.Contribution(
                    rank: rank, attempt: pipeline.attempt, microBatches: losses.microBatches,
                    digest: Seal.digest(digests.last!)))
            lossSum += losses.lossSum
            microBatches += losses.microBatches
            evaluationSum += losses.evaluationSum
            seal.validationTokens += losses.evaluationTokens
        }
        seal.parts = Seal.parts(digests)
        seal.tokens = spec.sealedTokens + microBatches * tokensPerMicroBatch
        seal.trainLoss = microBatches > 0 ? lossSum / Double(microBatches) : 0
        seal.validationLoss = seal.validationTokens > 0 ? evaluationSum / Double(seal.validationTokens) : nil
        return seal
    }
}
