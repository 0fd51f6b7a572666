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
        let layout = ChunkLayout(tensors: tensors, codec: codec)
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
        #expect(ChunkLayout(tensors: tensors, codec: .lowrank(rank: 4)).pieces.count == tensors.count)
    }

    @Test func `is cut as its pieces say, and not at all where lengths lie`() throws {
        let layout = ChunkLayout(tensors: [5000, 3000], codec: .fp32)
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
