/// A set of numbers as ascending ranges with gaps between them: packets that came, bytes that were acknowledged.
package struct NumberRanges: Hashable, Sendable {
    package private(set) var ranges: [Range<UInt64>] = []
    package init() {}

    var isEmpty: Bool { ranges.isEmpty }
    package var count: Int { ranges.count }
    var first: Range<UInt64>? { ranges.first }
    var last: Range<UInt64>? { ranges.last }

    /// The first range that ends at or after a number.
    private func place(of number: UInt64) -> Int {
        var (low, high) = (0, ranges.count)
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].upperBound < number { low = middle + 1 } else { high = middle }
        }
        return low
    }
    package func contains(_ number: UInt64) -> Bool {
        let place = place(of: number + 1)
        return place < ranges.count && ranges[place].contains(number)
    }
    /// Ranges that inserting this one would leave.
    package func countInserting(_ new: Range<UInt64>) -> Int {
        let place = place(of: new.lowerBound)
        let touches = place < ranges.count && ranges[place].lowerBound <= new.upperBound
        return ranges.count + (touches ? 0 : 1)
    }
    package mutating func insert(_ new: Range<UInt64>) {
        guard !new.isEmpty else { return }
        if let last = ranges.last, last.upperBound <= new.lowerBound {
            if last.upperBound == new.lowerBound {
                ranges[ranges.count - 1] = last.lowerBound..<new.upperBound
            } else {
                ranges.append(new)
            }
            return
        }
        let start = place(of: new.lowerBound)
        var (end, merged) = (start, new)
        while end < ranges.count, ranges[end].lowerBound <= new.upperBound {
            merged = min(merged.lowerBound, ranges[end].lowerBound)..<max(merged.upperBound, ranges[end].upperBound)
            end += 1
        }
        ranges.replaceSubrange(start..<end, with: CollectionOfOne(merged))
    }
    package mutating func remove(_ gone: Range<UInt64>) {
        guard !gone.isEmpty, !ranges.isEmpty else { return }
        let start = place(of: gone.lowerBound + 1)
        var end = start
        var left: [Range<UInt64>] = []
        while end < ranges.count, ranges[end].lowerBound < gone.upperBound {
            let range = ranges[end]
            if range.lowerBound < gone.lowerBound { left.append(range.lowerBound..<gone.lowerBound) }
            if range.upperBound > gone.upperBound { left.append(gone.upperBound..<range.upperBound) }
            end += 1
        }
        if start < end { ranges.replaceSubrange(start..<end, with: left) }
    }
    mutating func removeFirst() { ranges.removeFirst() }
    mutating func remove(below number: UInt64) { remove(0..<number) }
}
