/// A bounds-checked cursor over an opened packet. What does not fit gives nil.
package struct PacketReader {
    let bytes: UnsafeRawBufferPointer
    private(set) var place = 0
    package init(_ bytes: UnsafeRawBufferPointer, from place: Int = 0) { (self.bytes, self.place) = (bytes, place) }

    var remaining: Int { bytes.count - place }

    mutating func integer(_ width: Int) -> UInt64? {
        guard remaining >= width else { return nil }
        defer { place += width }
        switch width {
        case 1: return UInt64(bytes[place])
        case 2: return UInt64(UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt16.self)))
        case 4: return UInt64(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self)))
        case 8: return UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self))
        default: preconditionFailure("an integer of \(width) bytes")
        }
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
        Swift.withUnsafeBytes(of: value.bigEndian) {
            append(contentsOf: UnsafeRawBufferPointer(rebasing: $0[(8 - width)...]))
        }
    }
    mutating func writeZeros(_ count: Int) { append(contentsOf: repeatElement(0, count: count)) }
    /// The mirror of ``PacketReader/number()``.
    package mutating func write(number value: UInt64) {
        switch value {
        case ..<0x40: write(value, width: 1)
        case ..<0x4000: write(value | 0x4000, width: 2)
        case ..<0x4000_0000: write(value | 0x8000_0000, width: 4)
        default: write(value | 0xC000_0000_0000_0000, width: 8)
        }
    }
    /// Bytes that ``write(number:)`` takes.
    static func width(ofNumber value: UInt64) -> Int {
        value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8
    }
    /// Seals what begins at `start` and has room for the tag at the end.
    mutating func seal(from start: Int, clear: Int, number: UInt64, with seal: some PacketSeal) {
        withUnsafeMutableBytes {
            seal.seal(UnsafeMutableRawBufferPointer(rebasing: $0[start...]), clear: clear, number: number)
        }
    }
}
