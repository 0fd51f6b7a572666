import Primitives
import Testing

/// The literals were computed by a second implementation, written from the paper in another language.
@Suite struct `The seeded generator` {
    @Test(
        arguments: [
            (0, [0x99ec_5f36_cb75_f2b4, 0xbf6e_1f78_4956_452a, 0x1a5f_849d_4933_e6e0, 0x6aa5_94f1_262d_2d2c]),
            (1, [0xb3f2_af6d_0fc7_10c5, 0x853b_5596_4736_4cea, 0x92f8_9756_082a_4514, 0x642e_1c7b_c266_a3a7]),
        ] as [(UInt64, [UInt64])])
    func `gives xoshiro256** seeded through SplitMix64`(seed: UInt64, expected: [UInt64]) {
        var generator = SeededGenerator(seed: seed)
        #expect(expected.map { _ in generator.next() } == expected)
    }

    @Test func `gives every stream of a seed its own numbers`() {
        var generator = SeededGenerator(seed: 42, stream: 7)
        let expected: [UInt64] = [
            0x4f8b_5bf4_5b8d_cd9a, 0xd428_b189_b429_bcad, 0xeebc_97b3_55d2_304f, 0xc874_3ed1_ce3f_fa16,
        ]
        #expect(expected.map { _ in generator.next() } == expected)
        let firsts = (0..<1000).map { stream in
            var generator = SeededGenerator(seed: 42, stream: UInt64(stream))
            return generator.next()
        }
        #expect(Set(firsts).count == firsts.count)
    }

    @Test func `draws, fills and shuffles as it always did`() {
        var generator = SeededGenerator(seed: 1)
        #expect((0..<12).map { _ in generator.below(10) } == [7, 5, 5, 3, 6, 1, 0, 3, 8, 5, 9, 9])
        generator = SeededGenerator(seed: 1)
        #expect(generator.bytes(11).hex == "c510c70f6daff2b3ea4c36")
        generator = SeededGenerator(seed: 5)
        var cards = Array(0..<8)
        generator.shuffle(&cards)
        #expect(cards == [0, 1, 5, 7, 6, 3, 4, 2])
        generator = SeededGenerator(seed: 9)
        #expect(generator.uniform() == 0.0025834396857136177)
    }

    @Test(arguments: [1, 2, 3, 7, 10, 256, 1000, Int.max])
    func `stays below the bound and reaches all of it`(bound: Int) {
        var generator = SeededGenerator(seed: UInt64(bound))
        var counts: [Int: Int] = [:]
        let draws = 20_000
        for _ in 0..<draws {
            let value = generator.below(bound)
            #expect((0..<bound).contains(value))
            if bound <= 1000 { counts[value, default: 0] += 1 }
        }
        guard bound <= 10 else { return }
        #expect(counts.count == bound)
        for count in counts.values { #expect(abs(Double(count) * Double(bound) / Double(draws) - 1) < 0.1) }
    }

    @Test func `is uniform in the unit interval`() {
        var generator = SeededGenerator(seed: 3)
        var sum = 0.0
        for _ in 0..<20_000 {
            let value = generator.uniform()
            #expect(value >= 0 && value < 1)
            sum += value
        }
        #expect(abs(sum / 20_000 - 0.5) < 0.01)
    }

    @Test(arguments: [0, 1, 7, 8, 9, 40]) func `fills as many bytes as wanted, each prefix the same`(count: Int) {
        let all = SeededGenerator.bytes(40, seed: 6, stream: 2)
        #expect(SeededGenerator.bytes(count, seed: 6, stream: 2) == Array(all.prefix(count)))
    }
}
