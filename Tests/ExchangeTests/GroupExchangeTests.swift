import Exchange
import Primitives
import Testing

@Suite struct `Shares of owners` {
    /// Lines in MB/s; 8 MB, four peers at 100 Mbit/s, one of which sends with 20.
    @Test func `follow water filling`() {
        let up = [12.5, 12.5, 12.5, 2.5], down = [12.5, 12.5, 12.5, 12.5]
        let best = ExchangeCost.ownerShares(contribution: 8, aggregate: 8, up: up, down: down)
        #expect(abs(best.seconds - 3.2) < 1e-9)
        #expect(best.shares[3] < 1e-9)
        #expect(abs(best.shares.reduce(0, +) - 1) < 1e-12)
    }

    @Test(arguments: [3, 4, 7, 16]) func `are even where lines are`(count: Int) {
        let lines = [Double](repeating: 10, count: count)
        let best = ExchangeCost.ownerShares(contribution: 8, aggregate: 8, up: lines, down: lines)
        // The ring's 2(n−1)/n · V/b.
        #expect(abs(best.seconds - 2 * Double(count - 1) / Double(count) * 0.8) < 1e-9)
        for share in best.shares { #expect(abs(share - 1 / Double(count)) < 1e-9) }
    }

    /// The closed form of WIRE.md, tried on drawn lines: T = max(V·(n − 2 + |A|) ÷ Σ_A b, V ÷ min b).
    @Test func `take what the closed form says`() {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<200 {
            let count = 3 + generator.below(8)
            let up = (0..<count).map { _ in 1 + 20 * generator.uniform() }
            let down = (0..<count).map { _ in 1 + 20 * generator.uniform() }
            let lines = zip(up, down).map { min($0, $1) }
            let best = ExchangeCost.ownerShares(contribution: 1, aggregate: 1, up: up, down: down)
            let active = lines.filter { best.seconds * $0 > 1 + 1e-12 }
            let formed = (Double(count - 2 + active.count)) / max(active.reduce(0, +), 1e-300)
            #expect(best.seconds >= 1 / lines.min()! - 1e-9)
            #expect(best.seconds <= max(formed, 1 / lines.min()!) + 1e-6)
            for (line, share) in zip(lines, best.shares) {
                #expect(1 + Double(count - 2) * share <= best.seconds * line + 1e-6)
            }
        }
    }

    @Test func `are kept by the chunks, evenly from first to last`() {
        let owners = ExchangeCost.owners(
            of: [Int](repeating: 100, count: 60), ranks: [0, 2, 5], shares: [0.5, 0.3, 0.2])
        #expect([0, 2, 5].map { rank in owners.filter { $0 == rank }.count } == [30, 18, 12])
        #expect([0, 2, 5].map { rank in owners.prefix(20).filter { $0 == rank }.count } == [10, 6, 4])
    }

    @Test func `patience follows median and spread`() {
        #expect(ExchangeCost.patience([1, 2], slack: 1) == nil)
        #expect(ExchangeCost.patience([2, 2, 2, 2], slack: 1) == 5)
        #expect(ExchangeCost.patience([2, 3, 4, 2, 4], slack: 0) == 9)
    }
}

@Suite struct `A unit cut for the exchange` {
    @Test(
        arguments: [Codec.fp32, .int8, .int4, .bf16, .sparse(k: 64)],
        [[1], [4095], [4097, 1, 300_000], [70_000, 128]])
    func `covers every value once, in stretches its codec can treat alone`(codec: Codec, tensors: [Int]) {
        let layout = ChunkLayout(tensors: tensors, codec: codec, way: .reduceScatter)
        #expect(layout.pieces.flatMap { Array($0) } == Array(0..<tensors.reduce(0, +)))
        #expect(layout.chunks.flatMap { Array($0) } == Array(layout.pieces.indices))
        var start = 0
        for count in tensors {
            for piece in layout.pieces where piece.lowerBound >= start && piece.lowerBound < start + count {
                #expect((piece.lowerBound - start) % (codec == .sparse(k: 64) ? 65_536 : 4096) == 0)
                #expect(piece.upperBound <= start + count)
            }
            start += count
        }
        #expect(ChunkLayout(tensors: tensors, codec: codec, way: .allGather).pieces.count == tensors.count)
    }

    @Test func `is cut as its pieces say, and not at all where lengths lie`() throws {
        let layout = ChunkLayout(tensors: [5000, 3000], codec: .fp32, way: .reduceScatter)
        var bytes: [UInt8] = []
        for piece in layout.pieces {
            withUnsafeBytes(of: UInt32(piece.count).littleEndian) { bytes += Array($0) }
            bytes += [UInt8](repeating: 7, count: piece.count)
        }
        #expect(try #require(layout.cut(bytes[...])).flatMap { Array($0) } == bytes)
        var generator = SeededGenerator(seed: 8)
        for _ in 0..<2000 {
            var broken = bytes
            switch generator.below(3) {
            case 0: broken.removeLast(1 + generator.below(broken.count))
            case 1: broken.append(0)
            default: broken[generator.below(4)] ^= UInt8(1 + generator.below(255))
            }
            #expect(layout.cut(broken[...]) == nil)
        }
    }
}

/// Members that pass each other's messages on in a drawn order; a sum is the concatenation in rank order.
struct GroupRig {
    var members: [GroupExchange]
    var messages: [(GroupExchange.Effect, from: Int)] = []
    var refusals: [(rank: Int, by: Int)] = []
    var generator: SeededGenerator

    init(count: Int, contributors: [Int], chunks: Int, seed: UInt64) {
        let owners = (0..<chunks).map { contributors[$0 % contributors.count] }
        let unit = GroupExchange.Unit(
            unit: 3, owners: owners, contributionLimits: owners.map { _ in 8 }, aggregateLimits: owners.map { _ in 64 })
        members = (0..<count).map {
            GroupExchange(rank: $0, contributors: contributors, members: Array(0..<count), units: [unit])
        }
        generator = SeededGenerator(seed: seed)
    }

    mutating func drain(_ rank: Int) {
        while let effect = members[rank].poll() {
            switch effect {
            case .refused(let other, _): refusals.append((other, rank))
            case .complete: break
            default: messages.append((effect, rank))
            }
        }
    }
    mutating func contribute(_ rank: Int) {
        let chunks = members[rank].units[0].owners.indices.map { [UInt8(rank), UInt8($0)] }
        members[rank].contribute(unit: 3, weight: rank + 1, chunks: chunks)
        drain(rank)
    }
    /// Delivers everything but what the filter holds back.
    mutating func deliver(_ passes: (GroupExchange.Effect, Int) -> Bool = { _, _ in true }) {
        while let place = drawn(passes) {
            let (effect, from) = messages.remove(at: place)
            switch effect {
            case .sendContribution(let unit, let chunk, let bytes, let to):
                members[to].receive(contribution: bytes, weight: from + 1, unit: unit, chunk: chunk, from: from)
                drain(to)
            case .sendAggregate(let unit, let chunk, let bytes, let to):
                members[to].receive(aggregate: bytes, unit: unit, chunk: chunk, from: from)
                drain(to)
            case .aggregate(let unit, let chunk, let parts):
                #expect(parts.map(\.rank) == members[from].contributors)
                #expect(parts.map(\.weight) == members[from].contributors.map { $0 + 1 })
                members[from].aggregated(unit: unit, chunk: chunk, parts.flatMap(\.bytes))
                drain(from)
            case .complete, .refused: break
            }
        }
    }
    private mutating func drawn(_ passes: (GroupExchange.Effect, Int) -> Bool) -> Int? {
        let ready = messages.indices.filter { passes(messages[$0].0, messages[$0].from) }
        return ready.isEmpty ? nil : ready[generator.below(ready.count)]
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
        let expected = (0..<9).map { chunk in contributors.flatMap { [UInt8($0), UInt8(chunk)] } }
        for member in rig.members {
            #expect(member.isComplete)
            #expect(try #require(member.aggregates(unit: 3)) == expected)
            #expect(member.waitsFor == nil)
        }
        #expect(rig.refusals.isEmpty)
    }

    @Test func `names whom it waits for, and for what`() throws {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 6, seed: 1)
        for rank in [0, 2] { rig.contribute(rank) }
        rig.deliver()
        let waiting = try #require(rig.members[0].waitsFor)
        #expect(waiting.rank == 1 && waiting.contribution)
        #expect(rig.members[0].aggregates(unit: 3) == nil)
        rig.contribute(1)
        rig.deliver { effect, from in
            if case .sendAggregate = effect { from != 2 } else { true }
        }
        let later = try #require(rig.members[0].waitsFor)
        #expect(later.rank == 2 && !later.contribution)
    }

    @Test func `refuses what is too large, what it does not own and chunks there are none of`() {
        var rig = GroupRig(count: 3, contributors: [0, 1, 2], chunks: 3, seed: 1)
        let big = [UInt8](repeating: 0, count: 9)
        rig.members[0].receive(contribution: big, weight: 1, unit: 3, chunk: 0, from: 1)
        rig.members[0].receive(contribution: [1], weight: 1, unit: 3, chunk: 1, from: 1)
        rig.members[0].receive(contribution: [1], weight: 0, unit: 3, chunk: 0, from: 1)
        rig.members[0].receive(contribution: [1], weight: 1, unit: 3, chunk: 9, from: 1)
        rig.members[0].receive(aggregate: [1], unit: 3, chunk: 1, from: 2)
        rig.members[0].receive(aggregate: [UInt8](repeating: 0, count: 65), unit: 3, chunk: 1, from: 1)
        rig.drain(0)
        #expect(rig.refusals.map(\.rank) == [1, 1, 1, 1, 2, 1])
        // Strangers and other units are passed over.
        rig.members[0].receive(contribution: [1], weight: 1, unit: 4, chunk: 0, from: 1)
        rig.members[0].receive(contribution: [1], weight: 1, unit: 3, chunk: 0, from: 8)
        rig.drain(0)
        #expect(rig.refusals.count == 6)
    }

    @Test func `counts a repeated contribution once`() {
        var rig = GroupRig(count: 2, contributors: [0, 1], chunks: 1, seed: 1)
        for bytes in [[UInt8(1)], [2]] {
            rig.members[0].receive(contribution: bytes, weight: 1, unit: 3, chunk: 0, from: 1)
        }
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
