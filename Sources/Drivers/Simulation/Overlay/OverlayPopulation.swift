import Kademlia
import Primitives

/// Who there is: IDs and addresses of all simulated nodes in flat arrays, and the tables that a long life would have left
/// them, as numbers. A million nodes take some 40 bytes each here and at most 1.5 kB of table.
struct OverlayPopulation {
    private(set) var ids: [NodeID]
    /// Node numbers in the order of their IDs; tables are drawn from ranges of it.
    private var sorted: [Int32] = []
    /// Contacts of all tables, and where each node's begin.
    private var contacts: [Int32] = []
    private var starts: [Int] = []
    /// Where the levels of a node end, relative to its start.
    private var ends: [UInt16] = []
    private var levelStarts: [Int] = []
    /// ``sorted`` is no longer in order.
    private var wasReplaced = false

    static let port: UInt16 = 6881

    /// Public addresses, with IDs that fit them (BEP 42).
    init(count: Int, generator: inout SeededGenerator) {
        ids = []
        ids.reserveCapacity(count)
        for index in 0..<count {
            ids.append(NodeIDRule.makeID(at: Self.endpoint(index), using: &generator))
        }
    }

    /// Scattered over 128.0.0.0 … 167.255.255.255: the bits that BEP 42 hashes count up, so that IDs are as evenly spread as on
    /// the whole internet; the others are mixed, so that few share a /24.
    static func address(_ index: Int) -> UInt32 {
        let i = UInt32(truncatingIfNeeded: index)
        let mixed = (i &+ 1) &* 2_654_435_761
        let first = 128 + 4 * ((mixed >> 24) % 10) + (i & 3)
        let second = (mixed >> 12 & 15) << 4 | (i >> 2 & 15)
        let third = (mixed >> 20 & 3) << 6 | (i >> 6 & 63)
        return first << 24 | second << 16 | third << 8 | (i >> 12 & 255)
    }
    static let limit = 1 << 20
    static func endpoint(_ index: Int) -> Endpoint {
        let address = address(index)
        return Endpoint(
            ipv4: UInt8(address >> 24), UInt8(address >> 16 & 255), UInt8(address >> 8 & 255), UInt8(address & 255),
            port: port)
    }
    /// The number of the node at an endpoint; nil for everybody else.
    func index(of endpoint: Endpoint) -> Int? {
        let a = endpoint.address
        guard a.count == 4, endpoint.port == Self.port else { return nil }
        let index = Int(a[0] & 3) | Int(a[1] & 15) << 2 | Int(a[2] & 63) << 6 | Int(a[3]) << 12
        let address = UInt32(a[0]) << 24 | UInt32(a[1]) << 16 | UInt32(a[2]) << 8 | UInt32(a[3])
        return index < ids.count && Self.address(index) == address ? index : nil
    }

    /// A newcomer takes the place, and the address, of somebody who left.
    mutating func replace(_ index: Int, generator: inout SeededGenerator) {
        wasReplaced = true
        ids[index] = NodeIDRule.makeID(at: Self.endpoint(index), using: &generator)
    }

    func steady(_ index: Int) -> SteadyContact {
        SteadyContact(id: ids[index], ipv4: Self.address(index), port: Self.port)
    }

    // MARK: Tables

    /// Draws every node's table: from each subtree beside its own path as many contacts as the bucket holds.
    mutating func drawTables(_ configuration: OverlayConfiguration, generator: inout SeededGenerator) {
        sorted = ids.indices.map { Int32($0) }
        let ids = ids
        sorted.sort { ids[Int($0)] < ids[Int($1)] }
        contacts.reserveCapacity(ids.count * 256)
        starts.reserveCapacity(ids.count + 1)
        levelStarts.reserveCapacity(ids.count + 1)
        for index in ids.indices {
            starts.append(contacts.count)
            levelStarts.append(ends.count)
            drawTable(index, configuration, &generator)
        }
        starts.append(contacts.count)
        levelStarts.append(ends.count)
    }

    private mutating func drawTable(
        _ index: Int, _ configuration: OverlayConfiguration, _ generator: inout SeededGenerator
    ) {
        var range = 0..<sorted.count
        let own = ids[index]
        let start = contacts.count
        var level = 0
        while range.count > configuration.k + 1, level < 159 {
            let middle = boundary(range, bit: level)
            let isUpper = own.bit(level)
            let sibling = isUpper ? range.lowerBound..<middle : middle..<range.upperBound
            range = isUpper ? middle..<range.upperBound : range.lowerBound..<middle
            let first = configuration.firstBuckets
            let capacity = level < first.count ? max(configuration.k, first[level]) : configuration.k
            draw(capacity, from: sibling, &generator)
            ends.append(UInt16(contacts.count - start))
            level += 1
        }
        for place in range where Int(sorted[place]) != index { contacts.append(sorted[place]) }
        ends.append(UInt16(contacts.count - start))
    }

    /// The first place in a range that shares `bit` leading bits whose next bit is set.
    private func boundary(_ range: Range<Int>, bit: Int) -> Int {
        var (low, high) = (range.lowerBound, range.upperBound)
        while low < high {
            let middle = (low + high) / 2
            if ids[Int(sorted[middle])].bit(bit) { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// So many of a range, evenly spread from a random place: no contact twice.
    private mutating func draw(_ wanted: Int, from range: Range<Int>, _ generator: inout SeededGenerator) {
        guard range.count > wanted else {
            for place in range { contacts.append(sorted[place]) }
            return
        }
        let offset = generator.uniform()
        for number in 0..<wanted {
            let place = (Double(number) + offset) / Double(wanted) * Double(range.count)
            contacts.append(sorted[range.lowerBound + min(range.count - 1, Int(place))])
        }
    }

    func levels(_ index: Int) -> [[SteadyContact]] {
        var out: [[SteadyContact]] = []
        var begin = starts[index]
        for place in levelStarts[index]..<levelStarts[index + 1] {
            let end = starts[index] + Int(ends[place])
            out.append(contacts[begin..<end].map { steady(Int($0)) })
            begin = end
        }
        return out
    }

    /// The nodes whose IDs are closest to `target` among those that count, closest first.
    func closest(to target: NodeID, count: Int, where counts: (Int) -> Bool) -> [Int] {
        // Everybody who shares more bits with the target is closer than everybody who shares fewer.
        var range = 0..<sorted.count
        var level = 0
        while !wasReplaced, level < 159 {
            let middle = boundary(range, bit: level)
            let next = target.bit(level) ? middle..<range.upperBound : range.lowerBound..<middle
            guard next.count(where: { counts(Int(sorted[$0])) }, upTo: count) >= count else { break }
            range = next
            level += 1
        }
        var best: [(distance: NodeID, index: Int)] = []
        for place in range where counts(Int(sorted[place])) {
            let index = Int(sorted[place])
            let distance = ids[index] ^ target
            if best.count == count, !(distance < best[count - 1].distance) { continue }
            if best.count == count { best.removeLast() }
            var slot = best.count
            while slot > 0, distance < best[slot - 1].distance { slot -= 1 }
            best.insert((distance, index), at: slot)
        }
        return best.map(\.index)
    }
}

extension Range<Int> {
    /// How many satisfy `condition`; counting stops at `limit`.
    fileprivate func count(where condition: (Int) -> Bool, upTo limit: Int) -> Int {
        var found = 0
        for place in self where condition(place) {
            found += 1
            if found == limit { break }
        }
        return found
    }
}
