import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Telemetry
import Testing
import Training

/// The owner's word, and what else takes a machine away for a while, in the middle of a round.
@Suite struct `A member whose processor is wanted by its owner` {
    private func village(_ numbers: [Int], _ plan: PlacedPlan, seed: UInt64) throws -> Village {
        let village = try Village(Small.parameters(tokens: 4000), seed: seed)
        try #require(try village.gather(numbers))
        try village.plan(plan)
        return village
    }

    /// H = 1: moments are everybody's, so that the weights must be those of an undisturbed run.
    @Test(arguments: 0..<6 as Range<UInt64>)
    func `computes nothing, and leaves when another has what it alone holds`(seed: UInt64) throws {
        let first = Small.plan([[1]], innerSteps: 1, spares: [2])
        let village = try village([1, 2], first, seed: seed)
        #expect(try village.train(until: 2))
        // Somewhere in a round.
        var left = 7 * seed
        _ = try village.run(until: { _ in
            left -= min(left, 1)
            return left == 0
        })
        village.yield(1, by: .seconds(500))
        #expect(village.member(1).isYieldingByOwner && village.member(1).isWorking)
        // What was under way may still be sealed: the leader goes back to a round whose start is agreed on.
        #expect(try village.run(for: .seconds(5), until: { $0.leader.state.isAgreed($0.leader.state.round) }))
        let round = village.leader.state.round
        var next = Small.plan([[2]], round: round, innerSteps: 1, spares: [1])
        for unit in Small.model.allUnits { next.sources[unit] = [Small.peer(1)] }
        next.pipelines[0].attempt += 1
        try village.plan(next, rolledBack: true)
        #expect(village.member(1).isWorking, "nobody has it yet")
        #expect(try village.run(for: .seconds(10), until: { $0.member(1).isPausedByOwner }))
        #expect(village.leader.state.round > round, "another has trained what it gave")
        #expect(try village.train(until: round + 2))
        let undisturbed = try self.village([1, 2], first, seed: 1)
        #expect(try undisturbed.train(until: round + 2))
        #expect(village.roots(round + 2) == undisturbed.roots(round + 2))
        // Answers of what was left out count for nothing.
        let refused = [1, 2].flatMap { village.events($0) }.filter { if case .workRefused = $0 { true } else { false } }
        #expect(refused.isEmpty)
    }

    @Test func `leaves at once where nobody else could have what it holds, or others have it`() throws {
        let alone = try village([1], Small.plan([[1]], innerSteps: 2), seed: 5)
        #expect(try alone.train(until: 1))
        alone.yield(1, by: .seconds(500))
        #expect(alone.member(1).isPausedByOwner && !alone.member(1).isYieldingByOwner)
        let both = try village([1, 2], Small.plan([[1], [2]], innerSteps: 2), seed: 5)
        #expect(try both.train(until: 1))
        both.yield(1, by: .seconds(500))
        #expect(both.member(1).isPausedByOwner)
        // Where nobody takes its place it leaves after a while, and then it may come back.
        let waits = try village([1, 2], Small.plan([[1]], innerSteps: 2, spares: [2]), seed: 5)
        #expect(try waits.train(until: 1))
        let since = waits.now
        waits.yield(1, by: .seconds(500))
        #expect(try waits.run(until: { $0.member(1).isPausedByOwner }))
        #expect(waits.now - since >= .seconds(15) && waits.now - since < .seconds(20), "\(waits.now - since)")
        // Called off: it has given up its part of the round, which others may wait for.
        let back = try village([1, 2], Small.plan([[1]], innerSteps: 2, spares: [2]), seed: 5)
        #expect(try back.train(until: 1))
        back.yield(1, by: .seconds(500))
        back.resume(1)
        #expect(!back.member(1).isWorking && !back.member(1).isPausedByOwner && !back.member(1).isYieldingByOwner)
    }

    /// What its owner reads when a job stands still: since when, and for whom that waits.
    @Test func `that waits for another stage says since when nothing has moved, and for whom`() throws {
        let village = try village([1, 2, 3], Small.plan([[1, 2]], innerSteps: 2, spares: [3]), seed: 4)
        #expect(try village.train(until: 1))
        village.stick(2, true)
        let since = village.now
        #expect(try village.run(for: .seconds(60), until: { $0.member(1).standstill(at: $0.now) != nil }))
        let still = try #require(village.member(1).standstill(at: village.now))
        #expect(still.peers == [Small.peer(2)] && still.gone.isEmpty, "\(still)")
        #expect(still.what.contains("gradients") || still.what.contains("norms"), "\(still)")
        #expect(village.now - still.since >= .seconds(10) && still.since <= since + .seconds(3))
        // The other one waits for its own engine, and a spare for the round.
        _ = try village.run(for: .seconds(3), until: { _ in false })
        #expect(village.member(2).standstill(at: village.now)?.peers == [Small.peer(2)])
        #expect(village.member(3).standstill(at: village.now)?.what.contains("spare") == true)
        // Whoever has left is named, also where it was never waited for itself.
        try village.leader.leave(2)
        village.drainLeader()
        _ = try village.run(for: .seconds(14), until: { _ in false })
        for number in [1, 3] {
            let left = try #require(village.member(number).standstill(at: village.now), "\(number)")
            #expect(left.peers == [Small.peer(2)] && left.gone == left.peers, "\(number): \(left)")
        }
        #expect(village.member(1).silence == nil)
        // What its owner does is no standing still.
        village.hold(1)
        _ = try village.run(for: .seconds(14), until: { _ in false })
        #expect(village.member(1).standstill(at: village.now) == nil)
    }

    /// A pause that may soon be over costs nobody a place, and gives nobody one.
    @Test func `that is held for a moment keeps its place, and gets none where it has none`() throws {
        let village = try village([1, 2], Small.plan([[1]], innerSteps: 2, spares: [2]), seed: 5)
        #expect(try village.train(until: 1))
        func saysLeaving(_ number: Int) -> Bool? { village.leader.heartbeats[Small.peer(number)]?.isLeaving }
        func hears(_ first: Bool, _ second: Bool) throws -> Bool {
            // A village has thousands of rounds between two heartbeats.
            village.leader.seals = false
            defer { village.leader.seals = true }
            return try village.run(
                for: .seconds(5), until: { _ in saysLeaving(1) == first && saysLeaving(2) == second })
        }
        for number in [1, 2] { village.hold(number) }
        #expect(try hears(false, true))
        #expect(village.member(2).isWorking && !village.member(2).isLeavingByOwner)
        #expect(!village.events(2).contains(.ownerPaused))
        // A plan that was made before that was known changes nothing: the next one is to be without it.
        village.resume(1)
        #expect(try village.run(until: { $0.leader.state.isAgreed($0.leader.state.round) }))
        let round = village.leader.state.round
        var next = Small.plan([[2]], round: round + 1, innerSteps: 2, spares: [1])
        for unit in Small.model.allUnits { next.sources[unit] = [Small.peer(1)] }
        try village.plan(next)
        #expect(try village.run(until: { $0.leader.state.round == round + 2 }))
        #expect(try hears(false, true))
        village.resume(2)
        #expect(try hears(false, false))
        #expect(!village.events(2).contains(.ownerResumed), "it was never away")
        // Held until its owner's limit has it leave.
        village.hold(1)
        village.drain(1, by: .seconds(500))
        #expect(village.member(1).isPausedByOwner)
        village.resume(1)
        #expect(!village.member(1).isPausedByOwner)
    }
}
