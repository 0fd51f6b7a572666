import Consensus
import FoundationEssentials
import Primitives
import Testing

/// Thousands of worlds in which everything goes wrong that may; `make consensus` runs more of them.
@Suite struct `Electors in broken worlds` {
    static let count = ProcessInfo.processInfo.environment["ATOLL_CONSENSUS_WORLDS"].flatMap { Int($0) } ?? 100
    static let first = ProcessInfo.processInfo.environment["ATOLL_CONSENSUS_SEED"].flatMap { UInt64($0) } ?? 1

    /// What goes wrong differs from world to world, also how much.
    static func faults(_ seed: UInt64) -> ElectorWorld.Faults {
        var draw = SeededGenerator(seed: seed, stream: 1)
        func share(_ most: Double) -> Double { draw.below(3) == 0 ? 0 : draw.uniform() * most }
        return ElectorWorld.Faults(
            loss: share(0.3), duplication: share(0.3), straggling: share(0.1), delay: 1...(5 + draw.below(200)),
            disk: 1...(5 + draw.below(600)),
            every: 300 + draw.below(4000), mostVoters: 5)
    }

    static func live(_ seed: UInt64) throws -> ElectorWorld {
        var draw = SeededGenerator(seed: seed, stream: 2)
        var options = Elector.Options()
        if draw.below(2) == 0 { options.messageEntries = 1 + draw.below(4) }
        var world = ElectorWorld(
            voters: 1 + draw.below(5), others: draw.below(3), faults: faults(seed), options: options, seed: seed)
        try world.run(for: .seconds(60))
        let before = world.checker.history.count
        var after = world.healed()
        try after.run(for: .seconds(60))
        guard let leader = after.leader, after.machines[leader].elector!.isEstablished else {
            throw BrokenPromise(description: "nobody leads a minute after everything works again:\n\(after.picture)")
        }
        after.propose(on: leader)
        try after.drain(leader)
        try after.run(for: .seconds(20))
        guard let last = after.leader, last == leader else {
            throw BrokenPromise(description: "the leader changes where nothing is wrong")
        }
        let electorate = after.machines[leader].elector!.electorate
        for peer in electorate.everybody
        where after.machines[ElectorWorld.index(peer)].elector!.committed
            != after.checker.history.count
        {
            throw BrokenPromise(
                description: "\(ElectorWorld.index(peer)) does not learn what is committed:\n\(after.picture)")
        }
        guard after.checker.history.count > before, !electorate.isJoint else {
            throw BrokenPromise(
                description: "nothing is committed any more, or a change of voters is never done:\n\(after.picture)")
        }
        try after.checker.finish()
        return after
    }

    @Test func `one leads in a term, what is committed stays, logs agree, and it goes on when it can`() throws {
        var (entries, leaders, certificates) = (0, 0, 0)
        for seed in Self.first..<Self.first + UInt64(Self.count) {
            do {
                let world = try Self.live(seed)
                entries += world.checker.history.count
                leaders += world.changesOfLeader
                certificates += world.checker.certified.count
            } catch {
                Issue.record("\(error): make consensus SEED=\(seed) WORLDS=1")
                return
            }
        }
        print(
            "\(Self.count) worlds: \(entries) entries committed, \(certificates) certified lengths, \(leaders) elections"
        )
        #expect(entries > 20 * Self.count, "the worlds do nothing")
        #expect(leaders > 3 * Self.count, "the worlds are too quiet")
    }
}
