/// Why bytes from outside were refused. Always an ordinary event: counted, never a trap.
public struct MalformedBytes: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was wrong, for a log line.
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// A bounds-checked cursor over untrusted bytes. Integers are little endian unless the name says otherwise.
public struct ByteReader: Sendable {
    private let bytes: ArraySlice<UInt8>
    public private(set) var position: Int

    public init(_ bytes: [UInt8]) { self.init(bytes[...]) }
    public init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }
    public var remaining: Int { bytes.endIndex - position }

    public mutating func take(_ count: Int) throws(MalformedBytes) -> ArraySlice<UInt8> {
        guard count >= 0, count <= remaining else {
            throw MalformedBytes("\(count) bytes wanted, \(remaining) left")
        }
        defer { position += count }
        return bytes[position..<position + count]
    }
    public mutating func u8() throws(MalformedBytes) -> UInt8 { try take(1).first! }
    public mutating func u16() throws(MalformedBytes) -> UInt16 { UInt16(truncatingIfNeeded: try integer(2)) }
    public mutating func u32() throws(MalformedBytes) -> UInt32 { UInt32(truncatingIfNeeded: try integer(4)) }
    public mutating func u64() throws(MalformedBytes) -> UInt64 { try integer(8) }
    public mutating func f32() throws(MalformedBytes) -> Float { Float(bitPattern: try u32()) }

    private mutating func integer(_ width: Int) throws(MalformedBytes) -> UInt64 {
        var value: UInt64 = 0
        for (index, byte) in try take(width).enumerated() { value |= UInt64(byte) << (8 * UInt64(index)) }
        return value
    }
    /// A length-prefixed (u32) block of at most `limit` bytes; the length is checked before anything is copied.
    public mutating func block(limit: Int) throws(MalformedBytes) -> ArraySlice<UInt8> {
        let count = Int(try u32())
        guard count <= limit else { throw MalformedBytes("block of \(count) bytes, at most \(limit) allowed") }
        return try take(count)
    }
    public func finish() throws(MalformedBytes) {
        guard remaining == 0 else { throw MalformedBytes("\(remaining) bytes too many") }
    }
}

/// The mirror of ``ByteReader``.
public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8] = []
    public init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }
    public mutating func raw(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
    public mutating func u8(_ value: UInt8) { bytes.append(value) }
    public mutating func u16(_ value: UInt16) { integer(UInt64(value), 2) }
    public mutating func u32(_ value: UInt32) { integer(UInt64(value), 4) }
    public mutating func u64(_ value: UInt64) { integer(value, 8) }
    public mutating func f32(_ value: Float) { u32(value.bitPattern) }
    /// A u32 length and the bytes.
    public mutating func block(_ more: some Collection<UInt8>) {
        u32(UInt32(more.count))
        raw(more)
    }
    private mutating func integer(_ value: UInt64, _ width: Int) {
        for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
    }
}
