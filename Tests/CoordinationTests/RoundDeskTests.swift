import Coordination
import Digests
import Exchange
import JobFixtures
import Messages
import Primitives
import Record
import Testing

@Suite struct `What a round needs next` {
    @Test func `is nothing until all have computed and hold each other's parts, then a seal`() throws {
        var world = try RoundWorld([[1, 2], [3, 4]])
        try world.settle()
        world.compute(0)
        world.compute(1)
        try world.settle()
        for number in [1, 2, 3] { for rank in [0, 1] { world.hold(number, rank) } }
        try world.settle()
        #expect(world.sealed.isEmpty && world.said.isEmpty)
        world.hold(4, 0)
        try world.settle()
        #expect(world.sealed == [[0, 1]])
        #expect(world.complaints == [])
    }

    @Test func `is a word about who is late, and at the deadline a seal without it`() throws {
        var world = try RoundWorld([[1], [2], [3]])
        world.compute(0)
        world.compute(1)
        world.holdAll()
        try world.wait()
        #expect(world.sealed == [[0, 1]])
        #expect(world.now >= .zero + .seconds(30) && world.now <= .zero + .seconds(60))
        #expect(!world.said.isEmpty && world.said.count <= 2)
        #expect(world.complaints == [])
    }

    @Test func `is the way back when nobody can finish it, after three times the patience`() throws {
        var world = try RoundWorld([[1], [2]])
        try world.wait()
        #expect(world.rolledBack.count == 1 && world.sealed.isEmpty)
        #expect(world.now >= .zero + .seconds(90) && world.now <= .zero + .seconds(180))
        #expect(world.complaints == [])
    }

    @Test func `is the way back at once when whoever is left fetched from one that has left`() throws {
        var world = try RoundWorld([[1], [2]])
        for rank in 0...1 { world.compute(rank) }
        world.holdAll()
        try world.wait()
        #expect(world.sealed == [[0, 1]])
        try world.replace(2, by: 3, from: 1)
        #expect(world.facts.ableRanks == [0, 1])
        try world.leave(1)
        #expect(world.whole == [1] && world.facts.ableRanks == [])
        let before = world.now
        try world.wait()
        #expect(world.rolledBack.count == 1 && world.now == before)
        #expect(world.complaints == [])
    }

    @Test func `is nothing while no pipeline is whole`() throws {
        var world = try RoundWorld([[1, 2], [3, 4]])
        try world.leave(1)
        try world.leave(3)
        try world.wait()
        #expect(world.sealed.isEmpty && world.rolledBack.isEmpty && world.regroupings.isEmpty)
    }

    @Test func `does not wait for one that was late twice as long as for the deadline`() throws {
        var world = try RoundWorld([[1], [2], [3]])
        for _ in 0..<3 {
            world.compute(0)
            world.compute(1)
            world.holdAll()
            let before = world.now
            try world.wait()
            if world.sealed.count == 3 {
                #expect(world.now - before < .seconds(5))
                #expect(world.regroupings.map(\.ranks) == [[0, 1]])
            } else {
                #expect(world.now - before >= .seconds(30))
            }
        }
        // It is in time again, and is a member like the others.
        for _ in 0..<2 {
            for rank in 0..<3 { world.compute(rank) }
            world.holdAll()
            try world.wait()
        }
        #expect(world.sealed == [[0, 1], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]])
        #expect(world.complaints == [])
    }

    /// Heard until now every half a second are all of these; the round takes as long as the books say.
    /// - Parameter before: for so many seconds all of them were.
    private func silence(of silent: Set<Int>, roundSeconds: Double, for seconds: Int, before: Int = 0) throws
        -> RoundWorld
    {
        var world = try RoundWorld([[1, 2], [3, 4], [5]])
        for _ in 0..<2 * before {
            world.now += .milliseconds(500)
            world.hear([1, 2, 3, 4, 5])
        }
        if before > 0 {
            for rank in 0..<3 { world.compute(rank) }
            world.holdAll()
            try world.settle()
            #expect(world.sealed == [[0, 1, 2]])
        }
        let earlier = world.sealed.count
        for round in 0..<3 {
            world.books.keep(
                RoundTime(
                    round: round, at: .zero, seconds: roundSeconds, steps: 1, undisturbed: true,
                    planEpoch: world.plan.epoch), exchange: 0.1)
        }
        world.compute(0)
        world.compute(2)
        for _ in 0..<2 * seconds where world.sealed.count == earlier {
            world.now += .milliseconds(500)
            world.hear([1, 2, 3, 4, 5].filter { !silent.contains($0) })
            try world.settle()
            world.holdAll()
            try world.settle()
        }
        #expect(world.complaints == [])
        return world
    }
    @Test func `does not wait for one that is silent where rounds are short, and keeps it`() throws {
        let world = try silence(of: [4], roundSeconds: 1, for: 6)
        #expect(world.sealed == [[0, 2]] && world.regroupings.map(\.ranks) == [[0, 2]])
        #expect(world.now > .zero + .milliseconds(3500) && world.now <= .zero + .seconds(4))
        #expect(world.whole == [0, 1, 2])
        // A long round's work is worth more than the wait; and where nobody is heard it is our own line.
        #expect(try silence(of: [4], roundSeconds: 2.5, for: 6).sealed.isEmpty)
        #expect(try silence(of: [1, 2, 3, 4, 5], roundSeconds: 1, for: 6).sealed.isEmpty)
        // Of whom others wait for something to compute, too.
        #expect(try silence(of: [1, 2, 5], roundSeconds: 1, for: 6).sealed.isEmpty)
    }

    @Test func `waits less for one that is silent once it is known how often members are heard`() throws {
        // Twice the longest gap is a second: 1.5 s are the least, and a quarter of the round besides.
        let whole = [0, 1, 2]
        let world = try silence(of: [4], roundSeconds: 1, for: 6, before: 12)
        #expect(world.sealed == [whole, [0, 2]] && world.whole == whole)
        #expect(world.now > .zero + .milliseconds(13_750) && world.now <= .zero + .milliseconds(14_500))
        #expect(try silence(of: [4], roundSeconds: 8, for: 6, before: 12).sealed == [whole, [0, 2]])
        #expect(try silence(of: [4], roundSeconds: 14, for: 6, before: 12).sealed == [whole], "it is given up as soon")
        #expect(try silence(of: [1, 2, 3, 4, 5], roundSeconds: 1, for: 6, before: 12).sealed == [whole])
        #expect(try silence(of: [1, 2, 5], roundSeconds: 1, for: 6, before: 12).sealed == [whole])
    }

    /// Everything in any order: verdicts are legal, the round comes to an end, and whoever is whole and done is in it.
    @Test(arguments: 0..<60 as Range<UInt64>)
    func `is legal and comes to an end, whatever happens`(seed: UInt64) throws {
        let layouts = [[[1], [2], [3]], [[1, 2], [3, 4]], [[1, 2], [3], [4, 5, 6], [7]], [[1]]]
        var generator = SeededGenerator(seed: seed, stream: 14)
        let layout = layouts[generator.below(layouts.count)]
        let numbers = layout.flatMap { $0 }
        var world = try RoundWorld(layout)
        for _ in 0..<4 {
            let goal = world.sealed.count
            for _ in 0..<80 where world.sealed.count == goal {
                switch generator.below(40) {
                case 0..<8: world.compute(generator.below(layout.count))
                case 8..<36: world.hold(numbers[generator.below(numbers.count)], generator.below(layout.count))
                case 36: world.now += .milliseconds(Int64(generator.below(9000)))
                case 37: if generator.below(8) == 0 { try world.leave(numbers[generator.below(numbers.count)]) }
                default: break
                }
                try world.settle()
            }
            if world.sealed.count > goal || world.whole.isEmpty { continue }
            let candidates = world.whole.filter { world.desk.terms.ranks.contains($0) }
            for rank in layout.indices { world.compute(rank) }
            world.holdAll()
            try world.wait()
            // All who were left in the group are in.
            if !candidates.isEmpty, world.sealed.count > goal { #expect(world.sealed.last == candidates) }
            #expect(world.sealed.count + world.rolledBack.count > goal)
        }
        #expect(world.complaints == [], "seed \(seed)")
    }
}

@Suite struct `A round whose chunks have owners` {
    private func computed(_ layout: [[Int]] = [[1], [2], [3]], audits: Double = 0) throws -> RoundWorld {
        var world = try RoundWorld(layout, way: .reduceScatter)
        world.auditShare = audits
        for rank in layout.indices { world.compute(rank) }
        try world.settle()
        return world
    }

    @Test func `is sealed when all have the sums`() throws {
        var world = try computed()
        for number in [1, 2] { world.gather(number) }
        try world.settle()
        #expect(world.sealed.isEmpty)
        world.gather(3)
        try world.settle()
        #expect(world.sealed == [[0, 1, 2]])
        #expect(world.complaints == [])
    }

    @Test func `is done again by all when two hold different sums`() throws {
        var world = try computed()
        world.gather(1)
        world.gather(2, tag: 9)
        try world.settle()
        #expect(world.regroupings.map(\.way) == [.allGather])
        #expect(world.desk.terms.way == .allGather && world.desk.terms.version == 1)
        world.holdAll()
        try world.settle()
        #expect(world.sealed == [[0, 1, 2]])
        #expect(world.complaints == [])
    }

    @Test func `is done again by all when somebody cannot use a part, and most of them decide`() throws {
        var world = try computed()
        #expect(world.object(0, by: 2) == true)
        #expect(world.object(0, by: 2) == false)
        #expect(world.object(0, by: 1) == false)
        #expect(world.object(0, by: 9) == false)
        try world.settle()
        #expect(world.desk.terms.way == .allGather && world.desk.terms.ranks == [0, 1, 2])
        #expect(world.object(0, by: 3) == true)
        try world.settle()
        #expect(world.desk.terms.ranks == [1, 2])
        world.holdAll()
        try world.settle()
        #expect(world.sealed == [[1, 2]])
        #expect(world.complaints == [])
    }

    @Test func `goes on without an accuser that stands alone`() throws {
        var world = try computed()
        #expect(world.object(0, by: 2) == true)
        try world.settle()
        world.hold(3, 0)
        try world.settle()
        #expect(world.desk.terms.ranks == [0, 2])
        #expect(world.complaints == [])
    }

    /// The naive rule, over every combination of what owner and auditors say: two with the same other sum of the very bytes that were
    /// signed, and an owner that added the same, are proof; one of them is word against word.
    @Test func `is audited by others who add the same bytes`() throws {
        let base = try { () throws -> RoundWorld in
            var world = try computed(audits: 1)
            for number in 1...3 { world.gather(number) }
            try world.settle()
            return world
        }()
        let drawn = try #require(base.drawn)
        #expect(base.sealed.isEmpty && drawn.auditors.count == 2 && !drawn.auditors.contains(drawn.owner))
        let signed = (0..<3).flatMap { RoundWorld.signed($0, drawn.unit) }
        let made = Array(sha256([0, UInt8(drawn.unit)]).bytes.prefix(8))
        let sums: [[UInt8]] = [made, [1], [2]]
        for ownerAddedTheSame in [true, false] {
            for first in 0..<6 {
                for second in 0..<6 {
                    var world = base
                    world.report(drawn.owner + 1, inputs: ownerAddedTheSame ? signed : [7], sum: made)
                    for (auditor, choice) in zip(drawn.auditors, [first, second]) {
                        world.report(
                            auditor + 1, inputs: choice < 3 ? signed : [8], sum: sums[choice % 3])
                        // The first word counts.
                        world.report(auditor + 1, inputs: signed, sum: [99])
                    }
                    try world.settle()
                    let against = [first, second].filter { $0 == 1 || $0 == 2 }
                    let finding = try #require(world.findings.first)
                    let isRight =
                        switch finding {
                        case .confirmed: against.isEmpty && ownerAddedTheSame
                        case .refuted: ownerAddedTheSame && against.count == 2 && against[0] == against[1]
                        case .differs:
                            !(against.isEmpty && ownerAddedTheSame)
                                && !(ownerAddedTheSame && against.count == 2 && against[0] == against[1])
                        case .unanswered: false
                        }
                    #expect(isRight, "\(ownerAddedTheSame) \(first) \(second): \(finding)")
                }
            }
        }
    }

    @Test func `is sealed although an auditor says nothing`() throws {
        var world = try computed(audits: 1)
        for number in 1...3 { world.gather(number) }
        try world.settle()
        let drawn = try #require(world.drawn)
        world.report(drawn.owner + 1, inputs: [], sum: [])
        // Who was not asked, and who speaks of something else, says nothing.
        try world.wait()
        guard case .unanswered? = world.findings.first else {
            Issue.record("\(world.findings)")
            return
        }
        #expect(world.sealed == [[0, 1, 2]])
        #expect(world.now < .zero + .seconds(30))
    }
}

@Suite struct `A reputation` {
    private let plan = Small.plan([[1, 2], [3], [4]])

    @Test func `counts rounds in a row that a peer was late for`() {
        var reputation = Reputation()
        for ranks in [[0, 1, 2], [0, 2], [0, 2], [0]] { reputation.sealed(ranks, plan) { _ in true } }
        #expect(reputation.lateRounds[Small.peer(1)] == nil)
        #expect(reputation.lateRounds[Small.peer(3)] == 3)
        #expect(reputation.lateRounds[Small.peer(4)] == 1)
        // Who is not there is not late.
        reputation.sealed([0], plan) { $0 != Small.peer(3) }
        #expect(reputation.lateRounds[Small.peer(3)] == 3)
        #expect(reputation.lateRounds[Small.peer(4)] == 2)
        reputation.sealed([0, 1], plan) { _ in true }
        #expect(reputation.lateRounds[Small.peer(3)] == nil)
        reputation.sealed([0], plan) { _ in true }
        #expect(reputation.lateRounds[Small.peer(4)] == 4)
        var next = plan
        next.epoch += 1
        reputation.sealed([0, 1], next) { _ in true }
        #expect(reputation.lateRounds[Small.peer(4)] == 1 && reputation.lateRounds[Small.peer(3)] == nil)
        reputation.forget(Small.peer(4))
        #expect(reputation.lateRounds.isEmpty)
    }
    @Test func `bars who quarrels with two others, and nobody for one quarrel`() {
        var reputation = Reputation()
        for _ in 0..<5 { reputation.quarrel(Small.peer(1), [Small.peer(2)]) }
        #expect(reputation.barredOwners.isEmpty)
        reputation.quarrel(Small.peer(3), [Small.peer(2)])
        #expect(reputation.barredOwners == [Small.peer(2)])
        reputation.bar(Small.peer(9))
        #expect(reputation.barredOwners == [Small.peer(2), Small.peer(9)])
    }
}

@Suite struct `Weights on their way to the coordinator` {
    @Test func `are told of now and then, and given up when nothing has come for long`() {
        let fetch = StateFetchFixture.make()
        var collection = Collection(round: 3, isFinal: true, fetch: fetch, at: .zero)
        var told = 0
        for tenth in 0..<100 where collection.look(at: .zero + .milliseconds(Int64(100 * tenth))) != nil { told += 1 }
        #expect(told == 4)
        #expect(!collection.isGivenUp(at: .zero + Collection.patience - .nanoseconds(1)))
        #expect(collection.isGivenUp(at: .zero + Collection.patience))
        #expect(collection.nextWake.map { $0 <= .zero + .seconds(12) } == true)
        var quiet = Collection(round: 3, isFinal: false, fetch: fetch, at: .zero)
        #expect(quiet.look(at: .zero + .seconds(100)) == nil)
    }
}
