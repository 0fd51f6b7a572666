import Coordination
import Exchange
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// Members and leaders that say, with each message, others in which every field has had every value that has ever broken a reader, in
/// every phase of a job. Nobody traps, and the honest go on.
@Suite struct `With a member that says anything at all` {
    private func run(_ hostile: [String], innerSteps: Int, seed: UInt64, many: Int, owners: Bool = false) throws
        -> Outcome
    {
        var scene = Scene(peers: 4, pipelines: 2, stages: 1, innerSteps: innerSteps, steps: 8 * innerSteps)
        scene.seed = seed
        scene.probeBytes = 64 << 10
        scene.job.checkpoint.everyRounds = 2
        if owners {
            scene.job.exchangeWay = .fixed(.owner(.fp32))
            scene.auditShare = 1
        }
        for name in hostile { scene.hostile[name] = many }
        return scene.run()
    }

    @Test(arguments: 0..<12) func `the job ends as it would, and its books close`(number: Int) throws {
        let outcome = try run(
            ["peer-\(number % 4)"], innerSteps: 1 + number % 2, seed: UInt64(number), many: 40, owners: number % 3 == 2)
        if case .failed(let why) = outcome.end { Issue.record("the job failed: \(why)") }
        #expect(outcome.events("entry_refused").isEmpty, "\(outcome.events("entry_refused").map(\.line))")
        let state = outcome.world.coordinator.state
        #expect(state.sealedTokens >= state.parameters.tokens)
        #expect(outcome.totals.isBalanced)
        let audit = try auditMicroBatches(
            log: outcome.world.coordinator.record.envelopes, receipts: outcome.world.coordinator.books.receiptEnvelopes,
            parameters: state.parameters)
        #expect(audit == outcome.totals)
        // No honest member was given up for it.
        for event in outcome.events("peer_lost") { #expect(event.peer == "peer-\(number % 4)", "\(event.line)") }
        // It was heard, and most of it refused at the door.
        #expect(!outcome.events("packet_malformed").isEmpty)
    }

    /// A leader may ruin its own job; its members survive it.
    @Test(arguments: 0..<6) func `members survive a leader that does`(number: Int) throws {
        var scene = Scene(peers: 3, pipelines: 1, stages: 2, innerSteps: 1 + number % 2, steps: 8)
        scene.seed = UInt64(number)
        scene.probeBytes = 64 << 10
        scene.limit = .seconds(900)
        scene.hostile["coordinator"] = 60
        let outcome = scene.run()
        #expect(!outcome.events("packet_malformed").isEmpty)
    }
}
