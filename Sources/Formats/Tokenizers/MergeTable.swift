/// Which two neighbouring tokens become which one, and in which order: (left, right) → rank. Open addressing; built once.
package final class MergeTable: @unchecked Sendable {
    package struct Merge: Hashable, Sendable {
        let left: UInt32
        let right: UInt32
        let result: UInt32

        package init(left: UInt32, right: UInt32, result: UInt32) {
            self.left = left
            self.right = right
            self.result = result
        }
    }
    /// No merge: larger than every rank.
    package static let none = UInt32.max

    let count: Int
    /// Whether no merge comes before one that makes a part of it: then ranks are taken in rising order.
    package let isOrdered: Bool
    private let mask: Int
    private let keys: UnsafeMutablePointer<UInt64>
    private let ranks: UnsafeMutablePointer<UInt32>
    private let results: UnsafeMutablePointer<UInt32>

    /// Of two merges of one pair the later counts, as in the reference.
    package init(_ merges: [Merge]) {
        count = merges.count
        var capacity = 16
        while capacity < 2 * merges.count { capacity *= 2 }
        mask = capacity - 1
        keys = .allocate(capacity: capacity)
        keys.initialize(repeating: .max, count: capacity)
        ranks = .allocate(capacity: capacity)
        ranks.initialize(repeating: Self.none, count: capacity)
        results = .allocate(capacity: max(1, merges.count))
        results.initialize(repeating: 0, count: max(1, merges.count))
        var latestMaking: [UInt32: Int] = [:]
        latestMaking.reserveCapacity(merges.count)
        for (rank, merge) in merges.enumerated() { latestMaking[merge.result] = rank }
        var isOrdered = true
        for (rank, merge) in merges.enumerated() {
            results[rank] = merge.result
            for part in [merge.left, merge.right] where (latestMaking[part] ?? -1) >= rank { isOrdered = false }
            let key = Self.key(merge.left, merge.right)
            var slot = Self.hash(key) & mask
            while keys[slot] != .max, keys[slot] != key { slot = (slot + 1) & mask }
            keys[slot] = key
            ranks[slot] = UInt32(rank)
        }
        self.isOrdered = isOrdered
    }

    deinit {
        keys.deallocate()
        ranks.deallocate()
        results.deallocate()
    }

    @inline(__always)
    private static func key(_ left: UInt32, _ right: UInt32) -> UInt64 { UInt64(left) << 32 | UInt64(right) }

    @inline(__always)
    private static func hash(_ key: UInt64) -> Int {
        let mixed = (key ^ key >> 29) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed ^ mixed >> 32)
    }

    /// The rank of a pair; ``none`` where the two do not merge.
    @inline(__always)
    package func rank(_ left: UInt32, _ right: UInt32) -> UInt32 {
        let key = Self.key(left, right)
        var slot = Self.hash(key) & mask
        while keys[slot] != key {
            if keys[slot] == .max { return Self.none }
            slot = (slot + 1) & mask
        }
        return ranks[slot]
    }

    /// What the merge of a rank makes.
    @inline(__always)
    package func result(_ rank: UInt32) -> UInt32 { results[Int(rank)] }
}
