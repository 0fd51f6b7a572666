/// Byte strings, numbered as they came, and found by their content. Grows; nothing is taken out.
struct ByteStringTable: Sendable {
    private var pool: [UInt8] = []
    private var ends: [Int] = []
    private var slots: [Int32]
    /// Longest walk from a string's own slot: strings made to collide are noticed by it.
    private(set) var longestWalk = 0

    init(capacity: Int = 16) {
        var size = 16
        while size < 2 * capacity { size *= 2 }
        slots = [Int32](repeating: -1, count: size)
        ends.reserveCapacity(capacity)
    }

    var count: Int { ends.count }

    func range(_ index: Int) -> Range<Int> { (index == 0 ? 0 : ends[index - 1])..<ends[index] }
    subscript(index: Int) -> ArraySlice<UInt8> { pool[range(index)] }
    func length(_ index: Int) -> Int { range(index).count }

    func find(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        let slot = place(of: bytes).slot
        return slots[slot] < 0 ? nil : Int(slots[slot])
    }
    func find(_ bytes: [UInt8]) -> Int? { bytes.withUnsafeBufferPointer { find($0) } }

    /// The string's number, which is new unless the string is there.
    mutating func insert(_ bytes: UnsafeBufferPointer<UInt8>) -> (index: Int, isNew: Bool) {
        if 2 * ends.count >= slots.count { grow() }
        let (slot, walk) = place(of: bytes)
        longestWalk = max(longestWalk, walk)
        if slots[slot] >= 0 { return (Int(slots[slot]), false) }
        slots[slot] = Int32(ends.count)
        pool.append(contentsOf: bytes)
        ends.append(pool.count)
        return (ends.count - 1, true)
    }
    mutating func insert(_ bytes: [UInt8]) -> (index: Int, isNew: Bool) {
        bytes.withUnsafeBufferPointer { insert($0) }
    }

    private mutating func grow() {
        slots = [Int32](repeating: -1, count: 2 * slots.count)
        for index in ends.indices {
            let range = range(index)
            let slot = pool.withUnsafeBufferPointer { place(of: UnsafeBufferPointer(rebasing: $0[range])).slot }
            slots[slot] = Int32(index)
        }
    }

    /// The string's slot, or the free one that it would take; and how far that is from where the search begins.
    private func place(of bytes: UnsafeBufferPointer<UInt8>) -> (slot: Int, walk: Int) {
        let mask = slots.count - 1
        var slot = Int(truncatingIfNeeded: byteHash(bytes)) & mask
        var walk = 0
        while slots[slot] >= 0 {
            let range = range(Int(slots[slot]))
            if range.count == bytes.count,
                pool.withUnsafeBufferPointer({ UnsafeBufferPointer(rebasing: $0[range]).elementsEqual(bytes) })
            {
                break
            }
            slot = (slot + 1) & mask
            walk += 1
        }
        return (slot, walk)
    }
}

/// A hash of bytes, eight at a time; the same on every machine.
@inline(__always)
func byteHash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var hash = UInt64(bytes.count) &* 0x9E37_79B9_7F4A_7C15
    let raw = UnsafeRawBufferPointer(bytes)
    var at = 0
    while at + 8 <= raw.count {
        hash = (hash ^ raw.loadUnaligned(fromByteOffset: at, as: UInt64.self)) &* 0xD6E8_FEB8_6659_FD93
        hash ^= hash >> 32
        at += 8
    }
    var rest: UInt64 = 0
    while at < raw.count {
        rest = rest << 8 | UInt64(raw[at])
        at += 1
    }
    hash = (hash ^ rest) &* 0xD6E8_FEB8_6659_FD93
    return hash ^ hash >> 32
}
