/// Byte-pair merging of one piece (Sennrich et al. 2016, 1508.07909): of all neighbours that merge, those of the lowest rank
/// do, the leftmost first, until none are left. Working memory is kept between pieces.
package struct Merging {
    /// Up to this many symbols the lowest rank is looked for by going through all of them.
    static let shortPiece = 64

    private var short = [UInt32](repeating: 0, count: Merging.shortPiece)
    private var long: LongMerging?

    package init() {}

    /// Merges `count` symbols in place; how many are left.
    @inline(__always)
    package mutating func merge(_ symbols: UnsafeMutablePointer<UInt32>, _ count: Int, _ table: MergeTable) -> Int {
        guard count > 1, table.count > 0 else { return count }
        if count <= Self.shortPiece {
            return short.withUnsafeMutableBufferPointer { Self.mergeShort(symbols, count, $0.baseAddress!, table) }
        }
        if long == nil { long = LongMerging() }
        return long!.merge(symbols, count, table)
    }

    private static func mergeShort(
        _ ids: UnsafeMutablePointer<UInt32>, _ symbols: Int, _ ranks: UnsafeMutablePointer<UInt32>, _ table: MergeTable
    ) -> Int {
        var count = symbols
        for index in 0..<count - 1 { ranks[index] = table.rank(ids[index], ids[index + 1]) }
        while count > 1 {
            var best = MergeTable.none
            var place = 0
            for index in 0..<count - 1 where ranks[index] < best {
                best = ranks[index]
                place = index
            }
            if best == MergeTable.none { break }
            ids[place] = table.result(best)
            count -= 1
            // The right one goes; what follows moves up.
            var index = place + 1
            while index < count {
                ids[index] = ids[index + 1]
                ranks[index - 1] = ranks[index]
                index += 1
            }
            if place + 1 < count { ranks[place] = table.rank(ids[place], ids[place + 1]) }
            if place > 0 { ranks[place - 1] = table.rank(ids[place - 1], ids[place]) }
        }
        return count
    }
}

/// Merging of a piece of any length. Linear where no merge comes before one that makes a part of it, as in every trained
/// vocabulary: then the pairs of one rank are all known when its turn comes. Else by a heap.
package struct LongMerging {
    private var ids: [UInt32] = []
    private var ranks: [UInt32] = []
    private var next: [Int32] = []
    private var previous: [Int32] = []

    /// Pairs that wait: chains of nodes, one a rank; or a heap of rank and place.
    private var heads: [Int32] = []
    private var nodes: [(place: Int32, next: Int32)] = []
    private var occupied = RankSet()
    private var heap: [UInt64] = []
    private var usesHeap = false

    package init() {}

    package mutating func merge(_ symbols: UnsafeMutablePointer<UInt32>, _ count: Int, _ table: MergeTable) -> Int {
        precondition(count <= Int(Int32.max), "a piece of \(count) symbols")
        guard count > 1, table.count > 0 else { return count }
        ids = Array(UnsafeBufferPointer(start: symbols, count: count))
        next = (1...Int32(count)).map { $0 < count ? $0 : -1 }
        previous = (-1..<Int32(count) - 1).map { $0 }
        ranks = [UInt32](repeating: MergeTable.none, count: count)
        usesHeap = !table.isOrdered
        if usesHeap { takeByHeap(table) } else { takeByRank(table) }
        var kept = 0
        var place: Int32 = 0
        while place >= 0 {
            symbols[kept] = ids[Int(place)]
            kept += 1
            place = next[Int(place)]
        }
        nodes.removeAll(keepingCapacity: count < 1 << 16)
        heap.removeAll(keepingCapacity: count < 1 << 16)
        return kept
    }

    private mutating func takeByRank(_ table: MergeTable) {
        if heads.count < table.count { heads = [Int32](repeating: -1, count: table.count) }
        occupied.reserve(table.count)
        // From the right, so that each chain begins with the leftmost.
        for place in (0..<ids.count - 1).reversed() { enter(place, table) }
        var places: [Int32] = []
        while let rank = occupied.removeLowest() {
            places.removeAll(keepingCapacity: true)
            var isSorted = true
            var node = heads[rank]
            heads[rank] = -1
            while node >= 0 {
                let place = nodes[Int(node)].place
                if let last = places.last, last > place { isSorted = false }
                places.append(place)
                node = nodes[Int(node)].next
            }
            if !isSorted { sortPlaces(&places) }
            for place in places where ranks[Int(place)] == UInt32(rank) { join(Int(place), UInt32(rank), table) }
        }
    }

    private mutating func takeByHeap(_ table: MergeTable) {
        for place in 0..<ids.count - 1 { enter(place, table) }
        while let lowest = heap.first {
            let last = heap.removeLast()
            if !heap.isEmpty { sink(last) }
            let (rank, place) = (UInt32(lowest >> 32), Int(lowest & 0xFFFF_FFFF))
            if ranks[place] == rank { join(place, rank, table) }
        }
    }

    /// Notes the pair that begins at `place`.
    private mutating func enter(_ place: Int, _ table: MergeTable) {
        guard next[place] >= 0 else {
            ranks[place] = MergeTable.none
            return
        }
        let rank = table.rank(ids[place], ids[Int(next[place])])
        ranks[place] = rank
        guard rank != MergeTable.none else { return }
        if usesHeap {
            heap.append(0)
            rise(UInt64(rank) << 32 | UInt64(place))
        } else {
            nodes.append((Int32(place), heads[Int(rank)]))
            heads[Int(rank)] = Int32(nodes.count - 1)
            occupied.insert(Int(rank))
        }
    }

    private mutating func join(_ place: Int, _ rank: UInt32, _ table: MergeTable) {
        let right = Int(next[place])
        ids[place] = table.result(rank)
        ranks[right] = MergeTable.none
        next[place] = next[right]
        if next[right] >= 0 { previous[Int(next[right])] = Int32(place) }
        enter(place, table)
        if previous[place] >= 0 { enter(Int(previous[place]), table) }
    }

    /// Puts `key` where the last element of the heap is free, and moves it up.
    private mutating func rise(_ key: UInt64) {
        var hole = heap.count - 1
        while hole > 0, heap[(hole - 1) / 2] > key {
            heap[hole] = heap[(hole - 1) / 2]
            hole = (hole - 1) / 2
        }
        heap[hole] = key
    }

    /// Puts `key` in place of the first, and moves it down.
    private mutating func sink(_ key: UInt64) {
        var hole = 0
        while 2 * hole + 1 < heap.count {
            var child = 2 * hole + 1
            if child + 1 < heap.count, heap[child + 1] < heap[child] { child += 1 }
            guard heap[child] < key else { break }
            heap[hole] = heap[child]
            hole = child
        }
        heap[hole] = key
    }

    /// Rising order, by digits where there are many: linear.
    private func sortPlaces(_ places: inout [Int32]) {
        guard places.count > 256 else {
            places.sort()
            return
        }
        var other = places
        for shift in [0, 11, 22] {
            var starts = [Int](repeating: 0, count: 2049)
            for place in places { starts[Int(place >> Int32(shift)) & 2047 + 1] += 1 }
            for digit in 1..<2049 { starts[digit] += starts[digit - 1] }
            for place in places {
                let digit = Int(place >> Int32(shift)) & 2047
                other[starts[digit]] = place
                starts[digit] += 1
            }
            swap(&places, &other)
        }
    }
}

/// Numbers below a bound, of which the lowest is found in a few steps: bits, and bits that say where bits are.
package struct RankSet {
    private var levels: [[UInt64]] = []

    package init() {}

    package mutating func reserve(_ bound: Int) {
        guard (levels.first?.count ?? 0) * 64 < bound else { return }
        levels = []
        var count = bound
        repeat {
            count = (count + 63) / 64
            levels.append([UInt64](repeating: 0, count: count))
        } while count > 1
    }

    package mutating func insert(_ number: Int) {
        var index = number
        for level in levels.indices {
            let bit = UInt64(1) << UInt64(index & 63)
            index >>= 6
            if levels[level][index] & bit != 0 { return }
            levels[level][index] |= bit
        }
    }

    package mutating func removeLowest() -> Int? {
        guard let top = levels.last, top[0] != 0 else { return nil }
        var index = 0
        for level in levels.indices.reversed() { index = index << 6 | levels[level][index].trailingZeroBitCount }
        let number = index
        for level in levels.indices {
            levels[level][index >> 6] &= ~(UInt64(1) << UInt64(index & 63))
            index >>= 6
            if levels[level][index] != 0 { break }
        }
        return number
    }
}
