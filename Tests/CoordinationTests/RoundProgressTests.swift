import Coordination
import JobFixtures
import Messages
import Primitives
import Record
import Testing

@Suite struct `Which pipelines a round can be sealed with` {
    static let plan = Small.plan([[1, 2], [3, 4], [5]], attempts: [0, 1, 0])

    private func progress(
        computed: [Int], lacking: [(peer: Int, rank: Int)] = [], plan: PlacedPlan = plan
    ) throws -> RoundProgress {
        var progress = RoundProgress(round: 4)
        for (rank, pipeline) in plan.pipelines.enumerated() {
            let work = WorkKey(round: 4, rank: rank, attempt: pipeline.attempt)
            for stage in pipeline.stages.indices where computed.contains(rank) {
                _ = progress.receive(Self.receipt(work, stage: stage))
            }
            for number in 1...6 where !lacking.contains(where: { $0.peer == number && $0.rank == rank }) {
                progress.receive(Held(work: work, digests: []), from: Small.peer(number), plan: plan)
            }
        }
        return progress
    }

    private static func receipt(_ work: WorkKey, stage: Int) -> Receipt {
        Receipt(work: work, stage: stage, microBatches: 1, tokens: 0, firstStep: 0, steps: 1)
    }

    @Test func `none before anything is computed`() throws {
        #expect(try progress(computed: []).sealable(among: [0, 1, 2], Self.plan) == [])
    }

    @Test func `all when all have computed and hold each other's parts`() throws {
        let progress = try progress(computed: [0, 1, 2])
        #expect(progress.sealable(among: [0, 1, 2], Self.plan) == [0, 1, 2])
        #expect(progress.sealable(among: [0, 2], Self.plan) == [0, 2])
        #expect([0, 1, 2].map { progress.isComputed(rank: $0, Self.plan) } == [true, true, true])
    }

    @Test func `without the one that has not computed`() throws {
        #expect(try progress(computed: [0, 2]).sealable(among: [0, 1, 2], Self.plan) == [0, 2])
    }

    @Test func `without the one whose part has not reached somebody`() throws {
        let progress = try progress(computed: [0, 1, 2], lacking: [(2, 1), (5, 1)])
        #expect(progress.missing(rank: 1, among: [0, 1, 2], Self.plan) == [Small.peer(2), Small.peer(5)])
        #expect(progress.sealable(among: [0, 1, 2], Self.plan) == [0, 2])
    }

    @Test func `without the one that lacks the parts of several others`() throws {
        let progress = try progress(computed: [0, 1, 2], lacking: [(5, 0), (5, 1)])
        #expect(progress.sealable(among: [0, 1, 2], Self.plan) == [0, 1])
    }

    @Test func `alone, a pipeline needs nobody to hold its part`() throws {
        let progress = try progress(computed: [1], lacking: [(1, 1), (2, 1), (5, 1)])
        #expect(progress.sealable(among: [0, 1, 2], Self.plan) == [1])
    }

    @Test func `receipts of some stages, of another round or of an older attempt do not count`() throws {
        var progress = RoundProgress(round: 4)
        func receive(round: Int = 4, attempt: Int, stage: Int) -> RoundProgress.Verdict {
            progress.receive(Self.receipt(WorkKey(round: round, rank: 1, attempt: attempt), stage: stage))
        }
        #expect(receive(attempt: 1, stage: 0) == .taken)
        #expect(receive(round: 3, attempt: 1, stage: 1) == .known)
        #expect(receive(attempt: 0, stage: 1) == .taken)
        #expect(!progress.isComputed(rank: 1, Self.plan))
        #expect(receive(attempt: 1, stage: 1) == .taken)
        #expect(progress.isComputed(rank: 1, Self.plan))
        var held = Held(work: WorkKey(round: 4, rank: 1, attempt: 0), digests: [])
        progress.receive(held, from: Small.peer(5), plan: Self.plan)
        #expect(progress.missing(rank: 1, among: [1, 2], Self.plan) == [Small.peer(5)])
        held.work.attempt = 1
        progress.receive(held, from: Small.peer(5), plan: Self.plan)
        #expect(progress.missing(rank: 1, among: [1, 2], Self.plan) == [])
    }

    @Test func `the same receipt again is known, and another for the same work contradicts it`() {
        var progress = RoundProgress(round: 4)
        var receipt = Self.receipt(WorkKey(round: 4, rank: 0, attempt: 0), stage: 0)
        #expect(progress.receive(receipt) == .taken)
        #expect(progress.receive(receipt) == .known)
        receipt.lossSum = 7
        #expect(progress.receive(receipt) == .contradicts)
    }

    /// Every way in which three pipelines may have computed and hold each other's parts, beside the largest set there is.
    @Test func `always a set that can be sealed, and the whole where that can be`() throws {
        let plan = Small.plan([[1], [2], [3]])
        let pairs = (0..<3).flatMap { a in (0..<3).filter { $0 != a }.map { (peer: a + 1, rank: $0) } }
        for computed in 0..<8 {
            let done = (0..<3).filter { computed >> $0 & 1 == 1 }
            for mask in 0..<64 {
                let lacking = pairs.indices.filter { mask >> $0 & 1 == 1 }.map { pairs[$0] }
                func isSealable(_ set: [Int]) -> Bool {
                    set.allSatisfy { done.contains($0) }
                        && !lacking.contains { set.contains($0.peer - 1) && set.contains($0.rank) }
                }
                let found = try progress(computed: done, lacking: lacking, plan: plan).sealable(among: [0, 1, 2], plan)
                #expect(isSealable(found))
                let largest = (0..<8).map { set in (0..<3).filter { set >> $0 & 1 == 1 } }.filter(isSealable)
                    .map(\.count).max()!
                #expect(found.count == largest, "computed \(done), lacking \(lacking), found \(found)")
                #expect(found.isEmpty == (largest == 0))
                if largest == 3 { #expect(found == [0, 1, 2]) }
            }
        }
    }

    @Test func `the seal adds up what the last stages report`() throws {
        var script = try Script()
        try script.join([1, 2, 3])
        try script.plan(Small.plan([[1, 2], [3]]))
        var progress = RoundProgress(round: 0)
        for (rank, stage, loss) in [(0, 0, 99.0), (0, 1, 10.0), (1, 0, 6.0)] {
            let pipeline = script.state.plan!.pipelines[rank]
            var receipt = Receipt(
                work: WorkKey(round: 0, rank: rank, attempt: 0), stage: stage, microBatches: script.share(rank),
                tokens: 0,
                firstStep: 0, steps: 2, digests: script.digests(rank: rank, attempt: 0, stage: pipeline.stages[stage]))
            if stage == pipeline.stages.count - 1 {
                receipt.lossSum = loss
                receipt.evaluationSum = loss * 2
                receipt.evaluationTokens = 8
            }
            _ = progress.receive(receipt)
        }
        let seal = progress.seal([0, 1], spec: script.state.spec!, plan: script.state.plan!, tokensPerMicroBatch: 8)
        #expect(seal.tokens == 64)
        #expect(seal.trainLoss == 2)
        #expect(seal.validationTokens == 16)
        #expect(seal.validationLoss == 2)
        #expect(seal.contributions == script.makeSeal([0, 1]).contributions)
        try script.append(.seal(seal))
        #expect(script.state.seals.first?.validationLoss == 2)
    }
}
