import Exchange
import Primitives
import Testing

/// Members that pass each other's messages on in a drawn order; a sum is the concatenation in rank order.
struct GroupRig {
    var members: [GroupExchange]
    var messages: [(GroupExchange.Effect, from: Int)] = []
    var refusals: [(rank: Int, by: Int)] = []
    var held: [[Int]]
    var order: GroupExchange.Order
    let chunks: Int
    var generator: SeededGenerator

    init(count: Int, contributors: [Int], chunks: Int, seed: UInt64, owners: Bool = true) {
        self.chunks = chunks
        held = (0..<count).map { _ in [] }
        order = Self.order(count, contributors, chunks, owners: owners)
        let unit = GroupExchange.Unit(unit: 3, contributionLimits: (0..<chunks).map { _ in 8 })
        members = (0..<count).map { [order] in GroupExchange(rank: $0, units: [unit], order: order) }
        generator = SeededGenerator(seed: seed)
    }

    static func order(_ count: Int, _ contributors: [Int], _ chunks: Int, owners: Bool) -> GroupExchange.Order {
        GroupExchange.Order(
            contributors: contributors, members: Array(0..<count),
            owners: owners ? [(0..<chunks).map { contributors[$0 % contributors.count] }] : [],
            aggregateLimits: owners ? [(0..<chunks).map { _ in 64 }] : [])
    }

    mutating func drain(_ rank: Int) {
        while let effect = members[rank].poll() {
            switch effect {
            case .refused(let other, _): refusals.append((other, rank))
            case .held(let other): held[rank].append(other)
            case .complete: break
            default: messages.append((effect, rank))
            }
        }
    }
    mutating func contribute(_ rank: Int) {
        members[rank].contribute(unit: 3, chunks: (0..<chunks).map { [UInt8(rank), UInt8($0)] })
        drain(rank)
    }
    mutating func begin(_ order: GroupExchange.Order) {
        self.order = order
        for rank in members.indices {
            members[rank].begin(order)
            drain(rank)
        }
    }
    /// Delivers everything but what the filter holds back; sums under an older order are passed over, as a driver does.
    mutating func deliver(_ passes: (GroupExchange.Effect, Int) -> Bool = { _, _ in true }) {
        while let place = drawn(passes) {
            let (effect, from) = messages.remove(at: place)
            switch effect {
            case .sendContribution(let unit, let chunk, let bytes, let to):
                members[to].receive(contribution: bytes, unit: unit, chunk: chunk, from: from)
                drain(to)
            case .sendAggregate(let unit, let chunk, let bytes, let to):
                members[to].receive(aggregate: bytes, unit: unit, chunk: chunk, from: from)
                drain(to)
            case .aggregate(let unit, let chunk, let parts):
                #expect(parts.map(\.rank) == members[from].order.contributors)
                members[from].aggregated(unit: unit, chunk: chunk, parts.flatMap(\.bytes))
                drain(from)
            case .complete, .refused, .held: break
            }
        }
    }
    private mutating func drawn(_ passes: (GroupExchange.Effect, Int) -> Bool) -> Int? {
        let ready = messages.indices.filter { passes(messages[$0].0, messages[$0].from) }
        return ready.isEmpty ? nil : ready[generator.below(ready.count)]
    }
    func expected(_ contributors: [Int]) -> [[UInt8]] {
        (0..<chunks).map { chunk in contributors.flatMap { [UInt8($0), UInt8(chunk)] } }
    }
}

@Suite struct `The exchange of a group` {
    @Test(arguments: 1...6, [[0], [0, 1], [1, 2], [0, 1, 2, 3]])
    func `ends with the same sums in rank order everywhere, in any order of messages`(
        seed: Int, contributors: [Int]
    ) throws {
        var rig = GroupRig(count: 4, contributors: contributors, chunks: 9, seed: UInt64(seed))
        for rank in contributors.reversed() { rig.contribute(rank) }
        rig.deliver()
        for member in rig.members {
            #expect(member.isComplete)
            #expect(try #require(member.aggregates(unit: 3)) == rig.expected(contributors))
            #expect(member.waitsFor == nil)
        }
        #expect(rig.refusals.isEmpty)
    }

    @Test(arguments: 1...6) func `without owners gives every contribution to every member`(seed: Int) throws {
        var rig = GroupRig(count: 4, contributors: [0, 1, 2, 3], chunks: 5, seed: UInt64(seed), owners: false)
        for rank in 0..<4 { rig.contribute(rank) }
        rig.deliver()
        for (rank, member) in rig.members.enumerated() {
            #expect(rig.held[rank].sorted() == (0..<4).filter { $0 != rank })
            for other in 0..<4 {
                #expect(member.contribution(of: other, unit: 3) == (0..<5).map { [UInt8(other), UInt8($0)] })
            }
            #expect(member.waitsFor == nil)
        }
    }

    /// Somebody dies in the middle: the order changes while messages are under way.
    @Test(arguments: 1...20, [true, false]) func `goes on without one that has left, sending nothing twice`(
        seed: Int, owners: Bool
    ) throws {
        var rig = GroupRig(count: 4, contributors: [0, 1, 2, 3], chunks: 9, seed: UInt64(seed))
        for rank in 0..<4 { rig.contribute(rank) }
        // What number 1 sends is lost from some moment on.
        var left = 12
        rig.deliver { effect, from in
            left -= 1
            return left > 0 && from != 1
        }
        rig.messages.removeAll { effect, from in
            if from == 1 { return true }
            switch effect {
            case .sendAggregate, .aggregate: return true
            case .sendContribution(_, _, _, let to): return to == 1
            default: return false
            }
        }
        var sent: [GroupExchange.Effect] = []
        rig.begin(GroupRig.order(4, [0, 2, 3], 9, owners: owners))
        for (effect, _) in rig.messages { if case .sendContribution = effect { sent.append(effect) } }
        #expect(Set(sent).count == sent.count)
        rig.messages.removeAll { $0.from == 1 }
        rig.deliver()
        for rank in [0, 2, 3] {
            if owners {
                #expect(rig.members[rank].aggregates(unit: 3) == rig.expected([0, 2, 3]))
            } else {
                for other in [0, 2, 3] { #expect(rig.members[rank].contribution(of: other, unit: 3) != nil) }
            }
        }
    }

    @Test(arguments: 1...10) func `sends again what a lost connection may have swallowed`(seed: Int) throws {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 6, seed: UInt64(seed))
        for rank in 0..<3 { rig.contribute(rank) }
        // Everything between 0 and 1 is lost, both ways.
        rig.deliver { effect, from in
            switch effect {
            case .sendContribution(_, _, _, let to), .sendAggregate(_, _, _, let to): Set([from, to]) != [0, 1]
            default: true
            }
        }
        rig.messages = []
        #expect(!rig.members[0].isComplete)
        for (rank, other) in [(0, 1), (1, 0)] {
            rig.members[rank].resend(to: other)
            rig.drain(rank)
        }
        rig.deliver()
        for member in rig.members { #expect(member.aggregates(unit: 3) == rig.expected([0, 1, 2])) }
    }

    @Test func `takes a new contribution of a member that begins anew, and gives it everything again`() {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 3, seed: 1, owners: false)
        for rank in 0..<3 { rig.contribute(rank) }
        rig.deliver()
        let unit = rig.members[1].units[0]
        rig.members[1] = GroupExchange(rank: 1, units: [unit], order: rig.order)
        for rank in [0, 2] {
            rig.members[rank].forget(1)
            #expect(rig.members[rank].contribution(of: 1, unit: 3) == nil)
            rig.members[rank].begin(rig.order)
            rig.drain(rank)
        }
        rig.members[1].contribute(unit: 3, chunks: [[9], [9], [9]])
        rig.drain(1)
        rig.deliver()
        for member in rig.members { #expect(member.contribution(of: 1, unit: 3) == [[9], [9], [9]]) }
        #expect(rig.members[1].contribution(of: 0, unit: 3) != nil)
    }

    @Test func `names whom it waits for, and for what`() throws {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 6, seed: 1)
        for rank in [0, 2] { rig.contribute(rank) }
        rig.deliver()
        let waiting = try #require(rig.members[0].waitsFor)
        #expect(waiting.rank == 1 && waiting.contribution && waiting.units == 3..<4 && waiting.chunks == 2)
        #expect(rig.members[0].aggregates(unit: 3) == nil)
        rig.contribute(1)
        rig.deliver { effect, from in
            if case .sendAggregate = effect { from != 2 } else { true }
        }
        let later = try #require(rig.members[0].waitsFor)
        #expect(later.rank == 2 && !later.contribution)
    }

    @Test func `refuses what is too large, what another owns and chunks there are none of`() {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 3, seed: 1)
        let big = [UInt8](repeating: 0, count: 9)
        rig.members[0].receive(contribution: big, unit: 3, chunk: 0, from: 1)
        rig.members[0].receive(contribution: [1], unit: 3, chunk: 9, from: 1)
        rig.members[0].receive(aggregate: [1], unit: 3, chunk: 1, from: 2)
        rig.members[0].receive(aggregate: [UInt8](repeating: 0, count: 65), unit: 3, chunk: 1, from: 1)
        rig.drain(0)
        #expect(rig.refusals.map(\.rank) == [1, 1, 2, 1])
        // Strangers and other units are passed over.
        rig.members[0].receive(contribution: [1], unit: 4, chunk: 0, from: 1)
        rig.members[0].receive(contribution: [1], unit: 3, chunk: 0, from: 8)
        rig.drain(0)
        #expect(rig.refusals.count == 4)
    }

    @Test func `counts a repeated contribution once`() {
        var rig = GroupRig(count: 2, contributors: [0, 1], chunks: 1, seed: 1)
        for bytes in [[UInt8(1)], [2]] { rig.members[0].receive(contribution: bytes, unit: 3, chunk: 0, from: 1) }
        rig.drain(0)
        #expect(rig.messages.isEmpty)
        rig.contribute(0)
        guard case .aggregate(_, _, let parts)? = rig.messages.first?.0 else {
            Issue.record("nothing to add up")
            return
        }
        #expect(parts.map(\.bytes) == [[0, 0], [1]])
    }
}
