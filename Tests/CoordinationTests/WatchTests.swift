import Coordination
import Digests
import Exchange
import JobFixtures
import Messages
import Primitives
import Record
import Testing
import Wire

@Suite struct `A watch over the disk` {
    @Test func `tries again from the first entry that failed, less and less often`() {
        var disk = DiskWatch()
        var now = Instant.zero
        #expect(disk.retryAt == nil)
        #expect(disk.retry(at: now) == nil)
        #expect(disk.failed(7, at: now) == true)
        #expect(disk.failed(5, at: now) == false)
        #expect(disk.failed(9, at: now) == false)
        var pauses: [Duration] = []
        for _ in 0..<8 {
            guard let due = disk.retryAt else {
                Issue.record("nothing is tried again")
                return
            }
            #expect(disk.retry(at: due - .nanoseconds(1)) == nil)
            pauses.append(due - now)
            now = due
            #expect(disk.retry(at: now) == 5)
            #expect(disk.retryAt == nil)
            #expect(disk.failed(5, at: now) == false)
        }
        #expect(pauses == [1, 2, 4, 8, 10, 10, 10, 10].map { .seconds($0) })
    }

    @Test func `tries at once what failed, when the disk takes something else`() {
        var disk = DiskWatch()
        disk.hurry(at: .zero)
        #expect(disk.retryAt == nil)
        for _ in 0..<3 { _ = disk.failed(5, at: .zero) }
        disk.hurry(at: Instant(seconds: 0.5))
        #expect(disk.retry(at: Instant(seconds: 0.5)) == 5)
        // While it is on its way there it is not tried once more.
        disk.hurry(at: Instant(seconds: 0.6))
        #expect(disk.retryAt == nil)
        // Beside something else that is stored.
        _ = disk.failed(5, at: Instant(seconds: 0.7))
        #expect(disk.takeUp() == 5 && disk.retryAt == nil)
        #expect(disk.recovered(through: 5, at: Instant(seconds: 0.8)) && disk.takeUp() == nil)
    }

    @Test func `has recovered when what failed first is stored, not before`() {
        var disk = DiskWatch()
        #expect(disk.recovered(through: 3, at: .zero) == false)
        _ = disk.failed(5, at: .zero)
        #expect(disk.recovered(through: 4, at: .zero) == false)
        #expect(disk.recovered(through: 5, at: .zero) == true)
        #expect(disk.retryAt == nil)
        #expect(disk.retry(at: .zero + .seconds(100)) == nil)
        // It is news again, and the pause is short again.
        #expect(disk.failed(6, at: .zero) == true)
        #expect(disk.retryAt == Instant.zero + .seconds(1))
    }
}

@Suite struct `A job's stage` {
    private static let all: [JobStage] = [
        .gathering(since: .zero, saidWaiting: .zero), .sharing(since: .zero), .surveying, .planning, .preparing,
        .training, .collecting, .closing(.failed("why"), until: .zero), .ended(at: .zero),
    ]

    @Test func `goes forward, also over some`() {
        for (from, stage) in Self.all.enumerated() {
            for next in Self.all[from...] {
                var here = stage
                here.go(to: next)
                #expect(here == next)
            }
        }
    }
    @Test func `never goes back`() async {
        await #expect(processExitsWith: .failure) {
            var stage = JobStage.training
            stage.go(to: .planning)
        }
        await #expect(processExitsWith: .failure) {
            var stage = JobStage.ended(at: .zero)
            stage.go(to: .closing(.failed("why"), until: .zero))
        }
    }
    @Test func `runs between the first plan and the collection`() {
        #expect(Self.all.filter(\.isRunning) == [.preparing, .training])
        #expect(Self.all.filter(\.hasPlan) == Array(Self.all[4...]))
        #expect(Self.all.filter(\.isEnded) == [.ended(at: .zero)])
    }
}

@Suite struct `A watch over the pace` {
    private func alarms(_ ratios: [Double], roundsOf time: Duration = .seconds(1)) -> [Double] {
        var watch = PaceWatch()
        return ratios.enumerated().compactMap { watch.sealed($1, at: Instant.zero + time * $0) }
    }
    @Test func `is silent where rounds take about what was predicted`() {
        var generator = SeededGenerator(seed: 1, stream: 1)
        #expect(alarms((0..<500).map { _ in 0.8 + 0.5 * generator.uniform() }) == [])
        #expect(alarms([1, 1, 9, 1, 1, 9, 1, 1, 9, 1, 1]) == [])
        #expect(alarms([.nan, .infinity, -1, 0]) == [])
    }
    @Test(arguments: [0.2, 0.7, 1.5, 30]) func `raises the alarm once for a change that stays`(factor: Double) {
        let found = alarms(Array(repeating: 1, count: 10) + Array(repeating: factor, count: 50))
        #expect(found == [factor])
    }
    @Test func `raises it again when the pace changes again`() {
        #expect(alarms(Array(repeating: 2, count: 30) + Array(repeating: 5, count: 30)) == [2, 5])
    }
    @Test func `is silent for a while after an alarm, however short rounds are`() {
        let ratios = (0..<600).map { $0 / 20 % 2 == 0 ? 2.0 : 5 }
        let (long, short) = (alarms(ratios), alarms(ratios, roundsOf: .milliseconds(10)))
        #expect(long.count > 20 && (1...2).contains(short.count), "\(long.count), \(short.count) in six seconds")
    }
    @Test func `begins anew when something else explains the last rounds`() {
        var watch = PaceWatch()
        for _ in 0..<(PaceWatch.window - 1) { #expect(watch.sealed(3, at: .zero) == nil) }
        watch.forgive()
        for _ in 0..<(PaceWatch.window - 1) { #expect(watch.sealed(3, at: .zero) == nil) }
        #expect(watch.sealed(3, at: .zero) == 3)
    }
}

@Suite struct `A watch over speeds` {
    /// Rounds of a peer planned at 100 FLOP/s that computes at the given speeds.
    private func changes(_ speeds: [Double], _ watch: inout SpeedWatch, from first: Int = 0) -> [SpeedWatch.Change] {
        speeds.enumerated().compactMap { index, speed in
            watch.worked(Small.peer(1), round: first + index, flops: 1000)
            return watch.took(1000 / speed, Small.peer(1), round: first + index, planned: 100)
        }
    }
    @Test func `takes one slow round for nothing, and five for a new speed`() {
        var watch = SpeedWatch()
        #expect(changes([100, 100, 20, 100, 110, 90, 20, 100, 100, 80, 120], &watch) == [])
        let found = changes([50, 50, 50, 50, 50], &watch, from: 20)
        #expect(found.count == 1)
        #expect(abs((found.first?.after ?? 0) - 50) < 1e-9 && found.first?.before == 100)
        #expect(watch.measured[Small.peer(1)] == found.first?.after)
        // What it is planned at now is what it does.
        #expect(changes(Array(repeating: 50, count: 20), &watch, from: 30) == [])
        #expect(changes([100, 100, 100, 100, 100], &watch, from: 60).map(\.before) == [found.first?.after ?? 0])
    }
    @Test func `believes a speed that comes and goes less each time, and forgets that in a hundred rounds`() {
        var watch = SpeedWatch()
        let trembling = (0..<10).flatMap { [Double](repeating: $0 % 2 == 0 ? 150 : 100, count: 10) }
        #expect(changes(trembling, &watch).count == 2)
        // What is much more is a change all the same.
        #expect(changes([Double](repeating: 400, count: 10), &watch, from: 100).map { $0.after.rounded() } == [400])
        #expect(changes([Double](repeating: 300, count: 90), &watch, from: 110) == [])
        #expect(changes([Double](repeating: 300, count: 30), &watch, from: 200).count == 1)
    }
    @Test func `believes nothing that cannot be`() {
        var watch = SpeedWatch()
        let peer = Small.peer(1)
        for (round, flops) in [Double.nan, .infinity, -1, 0].enumerated() {
            watch.worked(peer, round: round, flops: flops)
            #expect(watch.took(1, peer, round: round, planned: 100) == nil)
        }
        for (round, seconds) in [Double.nan, .infinity, -1, 0].enumerated() {
            watch.worked(peer, round: round, flops: 1000)
            #expect(watch.took(seconds, peer, round: round, planned: 100) == nil)
        }
        // Of another round than the work.
        watch.worked(peer, round: 7, flops: 1000)
        #expect(watch.took(1, peer, round: 8, planned: 100) == nil)
        // A thousand times at most, either way.
        let found = (0..<5).compactMap { round -> SpeedWatch.Change? in
            watch.worked(peer, round: 20 + round, flops: 1e30)
            return watch.took(1e-30, peer, round: 20 + round, planned: 100)
        }
        #expect(found.map(\.after) == [100_000])
    }
    @Test func `forgets who comes back`() {
        var watch = SpeedWatch()
        _ = changes([50, 50, 50, 50, 50], &watch)
        watch.forget(Small.peer(1))
        #expect(watch.measured[Small.peer(1)] == nil)
        #expect(changes([50, 50, 50, 50], &watch, from: 10) == [])
    }
}

@Suite struct `The books` {
    private func time(_ round: Int, _ seconds: Double, undisturbed: Bool = true, epoch: Int = 1) -> RoundTime {
        RoundTime(round: round, at: .zero, seconds: seconds, steps: 2, undisturbed: undisturbed, planEpoch: epoch)
    }
    @Test func `say how long a round is waited for only after three that nothing disturbed, of this plan`() {
        var books = Books()
        for round in 0..<10 { books.keep(time(round, 100, undisturbed: false), exchange: 1) }
        for round in 10..<20 { books.keep(time(round, 50, epoch: 2), exchange: 1) }
        #expect(books.roundPatience(epoch: 1) == nil)
        for round in 20..<22 { books.keep(time(round, 1), exchange: 1) }
        #expect(books.roundPatience(epoch: 1) == nil)
        books.keep(time(22, 1), exchange: 1)
        #expect(books.roundPatience(epoch: 1) == 7)
        #expect(books.roundPatience(epoch: 2) == 105)
    }
    @Test func `forget what is long ago`() {
        var books = Books()
        for round in 0..<1000 { books.keep(time(round, round < 900 ? 10 : 1), exchange: round < 900 ? 10 : 1) }
        #expect(books.roundPatience(epoch: 1) == 7)
        #expect(books.exchangePatience == 4)
        #expect(books.exchangeSeconds.count <= 64)
        #expect(books.roundTimes.count == 1000)
    }
    @Test func `keep every receipt with its signer, in order`() {
        var books = Books()
        for number in 1...3 {
            let receipt = Receipt(
                work: WorkKey(round: 0, rank: number, attempt: 0), stage: 0, microBatches: 1, tokens: 8, firstStep: 0,
                steps: 1)
            books.keep(
                receipt, receipt.signed(job: sha256([1]), epoch: 1, wall: 0, by: Small.key(number)),
                from: Small.peer(number))
        }
        #expect(books.receipts.map(\.peer) == (1...3).map { Small.peer($0) })
        #expect(books.receipts.map(\.receipt.work.rank) == [1, 2, 3])
        #expect(books.receiptEnvelopes.count == 3)
    }
    /// Squares of a round are added up until the next is sealed; those of another round count nowhere.
    @Test func `estimate the noise of whole rounds`() {
        var books = Books()
        let squares = GradientSquares(contributors: 2, mean: 1.5)
        for round in 0..<10 {
            books.estimateNoise(sealed: round, contributors: 2, tokens: 100)
            books.keep(squares, round: round)
            books.keep(squares, round: round + 1)
        }
        #expect(books.noise.rounds == 9)
        var naive = GradientNoise()
        for _ in 0..<9 { naive.add(squares, contributors: 2, tokens: 100) }
        #expect(books.noise == naive)
    }
}
