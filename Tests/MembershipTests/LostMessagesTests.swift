import JobFixtures
import Membership
import Messages
import Primitives
import Record
import Testing

/// Two stages of a pipeline whose session is over: what was on its way comes never, and neither would notice.
@Suite struct `Messages that are lost between stages` {
    private func village(_ plan: PlacedPlan, seed: UInt64) throws -> Village {
        let village = try Village(Small.parameters(tokens: 4000), seed: seed)
        try #require(try village.gather([1, 2, 3, 4]))
        try village.plan(plan)
        return village
    }

    @Test(arguments: 0..<4 as Range<UInt64>)
    func `are told to the leader by both, and by nobody else, and the round ends as it would have`(seed: UInt64) throws
    {
        var plan = Small.plan([[1, 2], [3, 4]])
        let undisturbed = try village(plan, seed: seed)
        try #require(try undisturbed.train(until: 3))
        let village = try village(plan, seed: seed)
        try #require(try village.train(until: 1))
        // One activation of round 1 is on its way when its receiver's process comes to its end, and is there again at once.
        var lost = 0
        village.delivers = { line, packet in
            guard lost == 0, line.from == Small.peer(1), line.to == Small.peer(2),
                case .activation = packet.message
            else { return true }
            lost += 1
            return false
        }
        #expect(try !village.run(for: .seconds(60), until: { $0.leader.state.isAgreed(2) }))
        #expect(lost == 1 && village.leader.setbacks.isEmpty)
        for (one, other) in [(1, 3), (2, 4)] { village.startAnew(one, other) }
        #expect(try !village.run(for: .seconds(5), until: { !$0.leader.setbacks.isEmpty }), "of another pipeline")
        village.startAnew(1, 2)
        _ = try village.run(for: .seconds(5), until: { $0.leader.setbacks.count == 2 })
        let said = village.leader.setbacks.sorted { $0.stage < $1.stage }
        #expect(said.map(\.cause) == [.messagesLost, .messagesLost])
        #expect(said.map(\.stage) == [0, 1] && said.allSatisfy { $0.work.rank == 0 && $0.work.round == 1 })
        // The launcher has that pipeline begin the round anew.
        plan.round = village.leader.state.round
        plan.epoch += 1
        plan.pipelines[0].attempt = 1
        for unit in Small.model.allUnits { plan.sources[unit] = plan.holders(of: unit) }
        try village.plan(plan)
        #expect(try village.train(until: 3))
        #expect(village.roots(3) == undisturbed.roots(3))
    }
}
