import Primitives
import Testing
import Tokenizers

@Suite struct MergingTests {
    /// The rule itself: of all pairs the lowest rank, of those the leftmost.
    static func naive(_ symbols: [UInt32], _ table: MergeTable) -> [UInt32] {
        var symbols = symbols
        while true {
            let ranks = symbols.indices.dropLast().map { table.rank(symbols[$0], symbols[$0 + 1]) }
            guard let best = ranks.min(), best != MergeTable.none, let place = ranks.firstIndex(of: best) else {
                return symbols
            }
            symbols.replaceSubrange(place...place + 1, with: [table.result(best)])
        }
    }

    /// Merges over an alphabet of `letters`, each made of what there is; shuffled ones come before their parts.
    static func table(letters: Int, merges: Int, shuffled: Bool, _ generator: inout SeededGenerator) -> MergeTable {
        var texts: [[UInt8]] = (0..<letters).map { [UInt8($0)] }
        var list: [MergeTable.Merge] = []
        for _ in 0..<merges {
            let left = generator.below(texts.count), right = generator.below(texts.count)
            let text = texts[left] + texts[right]
            guard text.count < 20 else { continue }
            let known = texts.firstIndex(of: text)
            if known == nil { texts.append(text) }
            list.append(
                MergeTable.Merge(left: UInt32(left), right: UInt32(right), result: UInt32(known ?? texts.count - 1)))
        }
        if shuffled { generator.shuffle(&list) }
        return MergeTable(list)
    }

    static func merge(_ symbols: [UInt32], _ table: MergeTable, long: Bool) -> [UInt32] {
        var copy = symbols
        let count = copy.withUnsafeMutableBufferPointer { buffer in
            if long {
                var merging = LongMerging()
                return merging.merge(buffer.baseAddress!, buffer.count, table)
            }
            var merging = Merging()
            return merging.merge(buffer.baseAddress!, buffer.count, table)
        }
        return Array(copy.prefix(count))
    }

    @Test(arguments: [false, true])
    func `all ways of merging are the rule`(shuffled: Bool) {
        var generator = SeededGenerator(seed: 9)
        for round in 0..<300 {
            let table = Self.table(
                letters: 2 + round % 3, merges: 1 + generator.below(40), shuffled: shuffled, &generator)
            let letters = 2 + round % 3
            let symbols = (0..<generator.below(120)).map { _ in UInt32(generator.below(letters)) }
            let expected = Self.naive(symbols, table)
            #expect(Self.merge(symbols, table, long: false) == expected)
            #expect(Self.merge(symbols, table, long: true) == expected)
        }
    }

    @Test func `ordered tables are merged by rank, others by heap`() {
        let merges = [MergeTable.Merge(left: 0, right: 1, result: 2), MergeTable.Merge(left: 2, right: 2, result: 3)]
        #expect(MergeTable(merges).isOrdered)
        #expect(!MergeTable(merges.reversed()).isOrdered)
        // A token that is made of itself cannot be; numbers alone may say so.
        #expect(!MergeTable([MergeTable.Merge(left: 2, right: 0, result: 2)]).isOrdered)
    }

    @Test func `a word of a megabyte is merged as its parts are`() {
        // aaaa… with a·a, aa·aa, …: everything pairs up.
        var merges: [MergeTable.Merge] = []
        for level in 0..<20 {
            merges.append(MergeTable.Merge(left: UInt32(level), right: UInt32(level), result: UInt32(level + 1)))
        }
        let symbols = [UInt32](repeating: 0, count: 1 << 20)
        #expect(Self.merge(symbols, MergeTable(merges), long: true) == [20])
        #expect(Self.merge(symbols, MergeTable(merges.reversed()), long: true) == [20])
    }

    @Test func `ranks come out in rising order`() {
        var set = RankSet()
        set.reserve(100_000)
        var generator = SeededGenerator(seed: 2)
        let numbers = Set((0..<2000).map { _ in generator.below(100_000) })
        for number in numbers { set.insert(number) }
        var found: [Int] = []
        while let number = set.removeLowest() {
            found.append(number)
            if number % 7 == 0, number > 0, number < 90_000 { set.insert(number + 1) }
        }
        #expect(Set(found).isSuperset(of: numbers))
        #expect(found == found.sorted())
    }
}
