/// A bounds-checked cursor over an opened packet. What does not fit gives nil.
package struct PacketReader {
    let bytes: UnsafeRawBufferPointer
    private(set) var place = 0
    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var remaining: Int { bytes.count - place }

    mutating func integer(_ width: Int) -> UInt64? {
        guard remaining >= width else { return nil }
        var value: UInt64 = 0
        for index in place..<place + width { value = value << 8 | UInt64(bytes[index]) }
        place += width
        return value
    }
    mutating func byte() -> UInt8? { integer(1).map { UInt8(truncatingIfNeeded: $0) } }
    /// One to eight bytes; the two highest bits say how many (RFC 9000, §16).
    package mutating func number() -> UInt64? {
        guard remaining > 0 else { return nil }
        let width = 1 << Int(bytes[place] >> 6)
        guard let value = integer(width) else { return nil }
        return value & (UInt64.max >> UInt64(66 - 8 * width))
    }
    mutating func take(_ count: Int) -> UnsafeRawBufferPointer? {
        guard count >= 0, count <= remaining else { return nil }
        defer { place += count }
        return UnsafeRawBufferPointer(rebasing: bytes[place..<place + count])
    }
    mutating func skip(_ value: UInt8) { while place < bytes.count, bytes[place] == value { place += 1 } }
}

extension Array where Element == UInt8 {
    package mutating func write(_ value: UInt64, width: Int) {
        for index in (0..<width).reversed() { append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }
    /// The mirror of ``PacketReader/number()``.
    package mutating func write(number value: UInt64) {
        switch value {
        case ..<0x40: write(value, width: 1)
        case ..<0x4000: write(value | 0x4000, width: 2)
        case ..<0x4000_0000: write(value | 0x8000_0000, width: 4)
        default: write(value | 0xC000_0000_0000_0000, width: 8)
        }
    }
    /// Seals what begins at `start` and has room for the tag at the end.
    mutating func seal(from start: Int, clear: Int, number: UInt64, with seal: any PacketSeal) {
        withUnsafeMutableBytes {
            seal.seal(UnsafeMutableRawBufferPointer(rebasing: $0[start...]), clear: clear, number: number)
        }
    }
}
