import Coordination
import Exchange
import Links
import Planning
import Primitives
import Record
import Simulation
import Telemetry
import Testing
import Topologies

/// Four pipelines of one, so that every chunk has contributions of all.
@Suite struct `Where chunks have owners` {
    static func scene(_ way: ExchangeWay, innerSteps: Int = 2, codec: Codec = .fp32) -> Scene {
        var scene = Scene(peers: 4, pipelines: 4, stages: 1, innerSteps: innerSteps, steps: 24)
        scene.job.exchangeCodec = .fixed(codec)
        scene.job.exchangeWay = .fixed(way)
        scene.realArithmetic = true
        scene.limit = .seconds(200)
        return scene
    }

    @Test(arguments: [1, 2], [Codec.fp32, .int8])
    func `a job ends with the same weights as with an all-gather`(innerSteps: Int, codec: Codec) throws {
        let gathered = Self.scene(.allGather, innerSteps: innerSteps, codec: codec).run()
        let scattered = Self.scene(.reduceScatter, innerSteps: innerSteps, codec: codec).run()
        try gathered.checkFinished()
        try scattered.checkFinished()
        #expect(try gathered.weightsDigest() == scattered.weightsDigest())
        #expect(scattered.world.coordinator.state.seals.allSatisfy { !$0.aggregates.isEmpty })
        #expect(scattered.events("exchange_regrouped").isEmpty)
    }

    @Test func `a lossy owner's sums are applied alike by all`() throws {
        let outcome = Self.scene(.owner(.int8), codec: .sparse(k: 512)).run()
        try outcome.checkFinished()
        #expect(outcome.events("weights_differ").isEmpty)
    }

    @Test(arguments: [1, 2], [0.3, 0.55]) func `an owner's death is survived by a new group`(
        innerSteps: Int, moment: Double
    ) throws {
        var scene = Self.scene(.reduceScatter, innerSteps: innerSteps)
        scene.job.pipelines = .auto
        scene.faults = [Fault(.kill, at: .progress(moment), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("weights_differ").isEmpty)
    }

    @Test func `a straggler is left out and the others go on`() throws {
        var scene = Self.scene(.reduceScatter)
        scene.faults = [Fault(.slow(factor: 200), at: .progress(0.4), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.totals.late > 0)
        #expect(outcome.events("waiting_for").contains { $0.text("peers") == "peer-1" })
        #expect(outcome.events("exchange_regrouped").contains { $0.text("why") == "not done by the deadline" })
    }

    /// The goal for a death: the round ends at most one deadline later, and everybody has the same weights.
    @Test(arguments: [ExchangeWay.allGather, .reduceScatter, .owner(.int8)], [1, 2])
    func `a death in the middle of an exchange costs less than a deadline`(way: ExchangeWay, seed: Int) throws {
        var scene = Self.scene(way)
        scene.seed = UInt64(seed)
        scene.job.pipelines = .auto
        // Lines so slow that a round is exchange for its most part: the kill falls into it.
        scene.hosts = scene.hosts.map {
            Host(name: $0.name, flops: 5e8, memory: .mebibytes(64), up: .megabits(2), down: .megabits(4))
        }
        scene.limit = .seconds(900)
        let calm = scene.run()
        try calm.checkFinished()
        let usual = calm.world.coordinator.books.roundTimes.map(\.seconds).sorted()[3]
        scene.faults = [Fault(.kill, at: .progress(0.4), host: "peer-1")]
        let outcome = scene.run()
        try outcome.checkFinished()
        let lost = try #require(outcome.events("peer_lost").first)
        let next = try #require(outcome.events("round_sealed").first { $0.at > lost.at })
        #expect((next.at - lost.at).inSeconds < 2 * usual + 5)
        #expect(outcome.events("weights_differ").isEmpty)
    }

    @Test(arguments: [ExchangeWay.allGather, .reduceScatter])
    func `a link that becomes slow is named, with what it is late for`(way: ExchangeWay) throws {
        var scene = Self.scene(way)
        scene.faults = [Fault(.throttle(factor: 100), at: .progress(0.4), host: "peer-1")]
        scene.limit = .seconds(900)
        let outcome = scene.run()
        try outcome.checkFinished()
        let waiting = outcome.events("waiting_for")
        #expect(waiting.contains { $0.text("peers") == "peer-1" })
        let why = waiting.compactMap { $0.text("why") }.first { $0.contains("late; link ") }
        #expect(try #require(why).contains(" of units "))
        #expect(outcome.events("weights_differ").isEmpty)
    }

    @Test(arguments: [ExchangeWay.allGather, .reduceScatter])
    func `a contribution that is not finite is refused by most and left out`(way: ExchangeWay) throws {
        var scene = Self.scene(way)
        scene.lies = ["peer-1": .notFinite]
        let outcome = scene.run()
        try outcome.checkFinished()
        #expect(outcome.events("contribution_refused").contains { $0.text("by") != nil && $0.peer == "peer-1" })
        #expect(
            outcome.events("exchange_regrouped").contains {
                $0.text("why") == "most members cannot use a contribution"
            })
        // It is in none of the sums, and nobody is expelled: an accusation proves nothing.
        let rank = try #require(outcome.workers.firstIndex(of: "peer-1"))
        #expect(
            outcome.world.coordinator.state.seals.allSatisfy { seal in !seal.contributions.contains { $0.rank == rank }
            })
        #expect(outcome.events("peer_lost").isEmpty)
    }

    /// With owners it has nothing to accuse until an audit lets everybody see all contributions: which chunk is audited is drawn, and of
    /// a few jobs at least one draws it as an auditor.
    @Test(arguments: [ExchangeWay.allGather, .reduceScatter])
    func `one accuser alone excludes nobody but itself`(way: ExchangeWay) throws {
        var accusations = 0
        for seed in 1...6 where accusations == 0 {
            var scene = Self.scene(way)
            scene.seed = UInt64(seed)
            let workers = scene.run().workers
            let rank = try #require(workers.firstIndex(of: "peer-1"))
            let accuser = try #require(workers.first { $0 != "peer-1" })
            scene.lies = [accuser: .accuses(rank: rank)]
            let outcome = scene.run()
            try outcome.checkFinished()
            let regroupings = outcome.events("exchange_regrouped")
            #expect(!regroupings.contains { $0.text("why") == "most members cannot use a contribution" })
            #expect(outcome.events("peer_lost").allSatisfy { $0.peer == accuser })
            for round in outcome.events("contribution_refused").compactMap({ $0.integer("round") }).prefix(1) {
                accusations += 1
                let sealed = try #require(outcome.world.coordinator.state.seals.first { $0.round == round })
                #expect(sealed.contributions.contains { $0.rank == rank } && sealed.contributions.count == 3)
            }
        }
        #expect(accusations > 0)
    }

    /// Which chunk is audited is drawn; of a few jobs at least one draws the liar as an owner before it has quarrelled as an auditor.
    @Test func `an owner that adds wrongly is refuted by two auditors, and the round is redone`() throws {
        var refutations = 0
        for seed in 1...6 where refutations == 0 {
            var scene = Self.scene(.reduceScatter)
            scene.lies = ["peer-1": .wrongSums]
            scene.seed = UInt64(seed)
            scene.auditShare = 1
            let outcome = scene.run()
            try outcome.checkFinished()
            let refuted = outcome.events("owner_refuted")
            #expect(refuted.allSatisfy { $0.peer == "peer-1" })
            #expect(outcome.events("audit_differs").allSatisfy { $0.text("by") == "peer-1" })
            #expect(outcome.events("peer_lost").isEmpty)
            refutations += refuted.count
            guard !refuted.isEmpty else { continue }
            // From then on it owns nothing, and every sum is right: what follows is sealed by owners again.
            let last = try #require(outcome.world.coordinator.state.seals.last)
            #expect(!last.aggregates.isEmpty && last.contributions.count == 4)
        }
        #expect(refutations == 1)
    }

    /// A liar as auditor: it quarrels with honest owners, who must not suffer for it.
    @Test func `one auditor alone refutes nobody, and is found out`() throws {
        var scene = Self.scene(.reduceScatter)
        scene.job.tokens = 128 * 60
        scene.lies = ["peer-1": .wrongAudits]
        scene.auditShare = 1
        let outcome = scene.run()
        try outcome.checkFinished()
        let disputes = outcome.events("audit_differs")
        #expect(Set(disputes.map(\.peer)).count == 2 && disputes.allSatisfy { $0.text("by") == "peer-1" })
        #expect(outcome.events("owner_refuted").isEmpty && outcome.events("peer_lost").isEmpty)
    }

    @Test func `honest owners pass every audit`() throws {
        var scene = Self.scene(.owner(.int8))
        scene.auditShare = 1
        let outcome = scene.run()
        try outcome.checkFinished()
        for kind in ["owner_refuted", "audit_differs", "audit_unanswered", "exchange_regrouped"] {
            #expect(outcome.events(kind).isEmpty, "\(outcome.events(kind).map(\.line))")
        }
    }

    @Test(arguments: [ExchangeWay.allGather, .reduceScatter])
    func `a contribution a thousand times too large does little`(way: ExchangeWay) throws {
        var scene = Self.scene(way)
        let calm = scene.run()
        scene.lies = ["peer-1": .tooLarge]
        let outcome = scene.run()
        try outcome.checkFinished()
        func last(_ outcome: Outcome) throws -> Double {
            try #require(outcome.world.coordinator.state.seals.last?.validationLoss)
        }
        #expect(try last(outcome) < last(calm) + 0.3)
    }

    @Test func `auto takes owners where that saves time, and all-gather where it does not`() throws {
        func way(_ codec: Codec) throws -> String {
            var scene = Self.scene(.allGather, codec: codec)
            scene.job.exchangeWay = .auto
            return try #require(scene.run().events("planned").first?.text("exchange"))
        }
        #expect(try way(.fp32) == "reduce-scatter")
        #expect(try way(.int4) == "all-gather")
    }
}
