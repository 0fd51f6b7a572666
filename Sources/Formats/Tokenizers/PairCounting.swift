/// The words of a corpus as symbols, and how often two of them are neighbours; kept true as pairs merge.
struct PairCounting {
    struct Pair: Hashable {
        let left: UInt32
        let right: UInt32
    }

    /// Words one after the other; each begins at its start and has its length of symbols, fewer with every merge.
    private var symbols: [UInt32] = []
    private var starts: [Int] = []
    private var lengths: [Int] = []
    private let counts: [Int]

    private var numbers: [Pair: Int] = [:]
    private var pairs: [Pair] = []
    private var pairCounts: [Int] = []
    /// Words in which a pair is or was.
    private var places: [[Int32]] = []
    /// Pairs by number, the most frequent first; counts may be old ones, never too low.
    private var heap: [(count: Int, number: Int)] = []

    init(words: ByteStringTable, counts: [Int], numbers: [UInt32]) {
        self.counts = counts
        for index in 0..<words.count {
            starts.append(symbols.count)
            for byte in words[index] { symbols.append(numbers[Int(byte)]) }
            lengths.append(symbols.count - starts[index])
            for place in starts[index]..<max(starts[index], symbols.count - 1) {
                change(Pair(left: symbols[place], right: symbols[place + 1]), by: counts[index], in: Int32(index))
            }
        }
        for number in pairs.indices where pairCounts[number] > 0 { push(number) }
    }

    private mutating func change(_ pair: Pair, by count: Int, in word: Int32) {
        let number: Int
        if let known = numbers[pair] {
            number = known
        } else {
            number = pairs.count
            numbers[pair] = number
            pairs.append(pair)
            pairCounts.append(0)
            places.append([])
        }
        pairCounts[number] += count
        if count > 0, places[number].last != word { places[number].append(word) }
    }

    /// The most frequent pair; nil when none occurs often enough.
    mutating func next(minimumCount: Int) -> Pair? {
        while let top = heap.first {
            let now = pairCounts[top.number]
            guard now == top.count else {
                // It has become rarer since it was entered.
                removeTop()
                if now > 0 { push(top.number) }
                continue
            }
            guard now >= minimumCount else { return nil }
            removeTop()
            return pairs[top.number]
        }
        return nil
    }

    /// Joins the pair wherever it is.
    mutating func merge(_ pair: Pair, into symbol: UInt32) {
        guard let number = numbers[pair] else { return }
        let words = places[number]
        places[number] = []
        var touched: Set<Int> = []
        for word in words { merge(pair, into: symbol, in: Int(word), touched: &touched) }
        pairCounts[number] = 0
        for number in touched.sorted() where pairCounts[number] > 0 { push(number) }
    }

    private mutating func merge(
        _ pair: Pair, into symbol: UInt32, in word: Int, touched: inout Set<Int>
    ) {
        let start = starts[word]
        let end = start + lengths[word]
        var read = start
        var write = start
        while read < end {
            guard read + 1 < end, symbols[read] == pair.left, symbols[read + 1] == pair.right else {
                symbols[write] = symbols[read]
                read += 1
                write += 1
                continue
            }
            let count = counts[word]
            if write > start {
                let previous = symbols[write - 1]
                change(Pair(left: previous, right: pair.left), by: -count, in: Int32(word))
                add(Pair(left: previous, right: symbol), count, word, &touched)
            }
            if read + 2 < end {
                let following = symbols[read + 2]
                change(Pair(left: pair.right, right: following), by: -count, in: Int32(word))
                add(Pair(left: symbol, right: following), count, word, &touched)
            }
            symbols[write] = symbol
            read += 2
            write += 1
        }
        lengths[word] = write - start
    }

    private mutating func add(_ pair: Pair, _ count: Int, _ word: Int, _ touched: inout Set<Int>) {
        change(pair, by: count, in: Int32(word))
        touched.insert(numbers[pair]!)
    }

    // MARK: heap

    /// Higher counts first, then lower symbols.
    private func isBefore(_ a: (count: Int, number: Int), _ b: (count: Int, number: Int)) -> Bool {
        guard a.count == b.count else { return a.count > b.count }
        let (left, right) = (pairs[a.number], pairs[b.number])
        return (left.left, left.right) < (right.left, right.right)
    }

    private mutating func push(_ number: Int) {
        let entry = (count: pairCounts[number], number: number)
        heap.append(entry)
        var hole = heap.count - 1
        while hole > 0, isBefore(entry, heap[(hole - 1) / 2]) {
            heap[hole] = heap[(hole - 1) / 2]
            hole = (hole - 1) / 2
        }
        heap[hole] = entry
    }

    private mutating func removeTop() {
        let entry = heap.removeLast()
        guard !heap.isEmpty else { return }
        var hole = 0
        while 2 * hole + 1 < heap.count {
            var child = 2 * hole + 1
            if child + 1 < heap.count, isBefore(heap[child + 1], heap[child]) { child += 1 }
            guard isBefore(heap[child], entry) else { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = entry
    }
}
