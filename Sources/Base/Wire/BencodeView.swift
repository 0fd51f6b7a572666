/// One bencoded value inside bytes that were checked beforehand: navigation without copying (BEP 3, "bencoding").
///
/// Checking happens once, in ``init(_:depth:canonical:)``; afterwards every accessor either finds what it was asked for
/// or says nil. ``encoded`` is the exact encoding, which signatures and hashes of BEP 44 are computed over.
public struct BencodeView: Sendable {
    /// The exact bytes of this value.
    public let encoded: ArraySlice<UInt8>

    /// Checks that `bytes` are one whole bencoded value and nothing more.
    ///
    /// - Parameters:
    ///   - depth: how many lists and dictionaries may nest; deeper input is refused.
    ///   - canonical: refuse unsorted or repeated keys, leading zeros and minus zero. False checks the structure only, so
    ///     that a sloppy query can still be told what was wrong with it.
    /// - Throws: ``MalformedBytes`` naming the first offence.
    public init(_ bytes: ArraySlice<UInt8>, depth: Int = 32, canonical: Bool = true) throws(MalformedBytes) {
        var scanner = BencodeScanner(bytes: bytes, position: bytes.startIndex, canonical: canonical)
        try scanner.value(depth: depth)
        guard scanner.position == bytes.endIndex else {
            throw MalformedBytes("\(bytes.endIndex - scanner.position) bytes after the bencoded value")
        }
        encoded = bytes
    }
    public init(_ bytes: [UInt8], depth: Int = 32, canonical: Bool = true) throws(MalformedBytes) {
        try self.init(bytes[...], depth: depth, canonical: canonical)
    }
    private init(checked: ArraySlice<UInt8>) { encoded = checked }

    public var isDictionary: Bool { encoded.first == UInt8(ascii: "d") }
    public var isList: Bool { encoded.first == UInt8(ascii: "l") }

    /// The integer, or nil for another type and for integers outside 64 bits (which are legal bencode).
    public var integer: Int64? {
        guard encoded.first == UInt8(ascii: "i") else { return nil }
        var index = encoded.startIndex + 1
        let negative = encoded[index] == UInt8(ascii: "-")
        if negative { index += 1 }
        var value: Int64 = 0
        while encoded[index] != UInt8(ascii: "e") {
            let (scaled, overflowed) = value.multipliedReportingOverflow(by: 10)
            let digit = Int64(encoded[index] - UInt8(ascii: "0"))
            let (sum, overflowedAgain) =
                negative ? scaled.subtractingReportingOverflow(digit) : scaled.addingReportingOverflow(digit)
            if overflowed || overflowedAgain { return nil }
            value = sum
            index += 1
        }
        return value
    }

    /// The content of a byte string.
    public var string: ArraySlice<UInt8>? {
        guard let first = encoded.first, first >= UInt8(ascii: "0"), first <= UInt8(ascii: "9") else { return nil }
        return part(encoded.withUnsafeBufferPointer { Self.content(at: 0, in: $0) })
    }

    /// The members of a list, in order.
    public var list: [BencodeView]? {
        guard isList else { return nil }
        var out: [BencodeView] = []
        var position = 1
        while let end = encoded.withUnsafeBufferPointer({ Self.next(at: position, in: $0) }) {
            out.append(BencodeView(checked: part(position..<end)))
            position = end
        }
        return out
    }

    /// The value under `key` of a dictionary; nil when it is absent or this is no dictionary. Linear in the bytes.
    public subscript(key: String) -> BencodeView? {
        guard isDictionary else { return nil }
        var key = key
        let found = key.withUTF8 { key in encoded.withUnsafeBufferPointer { Self.find(key, in: $0) } }
        return found.map { BencodeView(checked: part($0)) }
    }

    /// Keys and values of a dictionary, in the order of the bytes.
    public var entries: [(key: ArraySlice<UInt8>, value: BencodeView)]? {
        guard isDictionary else { return nil }
        var out: [(key: ArraySlice<UInt8>, value: BencodeView)] = []
        var position = 1
        while position < encoded.count - 1 {
            let (name, end) = encoded.withUnsafeBufferPointer { bytes in
                let name = Self.content(at: position, in: bytes)
                return (name, Self.end(at: name.upperBound, in: bytes))
            }
            out.append((part(name), BencodeView(checked: part(name.upperBound..<end))))
            position = end
        }
        return out
    }

    /// Offsets from the first byte of ``encoded``, as a slice of it.
    private func part(_ range: Range<Int>) -> ArraySlice<UInt8> {
        let start = encoded.startIndex
        return encoded[start + range.lowerBound..<start + range.upperBound]
    }

    private static func find(
        _ key: UnsafeBufferPointer<UInt8>, in bytes: UnsafeBufferPointer<UInt8>
    ) -> Range<Int>? {
        var position = 1
        while bytes[position] != UInt8(ascii: "e") {
            let name = content(at: position, in: bytes)
            let end = end(at: name.upperBound, in: bytes)
            if name.count == key.count, zip(bytes[name], key).allSatisfy({ $0 == $1 }) {
                return name.upperBound..<end
            }
            position = end
        }
        return nil
    }

    /// The index behind the value at `position`; nil at the end of the list.
    private static func next(at position: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        bytes[position] == UInt8(ascii: "e") ? nil : end(at: position, in: bytes)
    }

    /// Where the content of the checked byte string at `position` lies.
    private static func content(at position: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Range<Int> {
        var index = position
        var length = 0
        while bytes[index] != UInt8(ascii: ":") {
            length = length &* 10 &+ Int(bytes[index] &- UInt8(ascii: "0"))
            index &+= 1
        }
        return index &+ 1..<index &+ 1 &+ length
    }

    /// The index behind the checked value at `position`. Counts nesting instead of recursing.
    private static func end(at position: Int, in bytes: UnsafeBufferPointer<UInt8>) -> Int {
        var index = position
        var open = 0
        repeat {
            switch bytes[index] {
            case UInt8(ascii: "i"):
                while bytes[index] != UInt8(ascii: "e") { index += 1 }
                index += 1
            case UInt8(ascii: "l"), UInt8(ascii: "d"):
                open += 1
                index += 1
            case UInt8(ascii: "e"):
                open -= 1
                index += 1
            default:
                index = content(at: index, in: bytes).upperBound
            }
        } while open > 0
        return index
    }
}

/// The one place that trusts nothing: walks a value, checking every index before it is used.
private struct BencodeScanner {
    let bytes: ArraySlice<UInt8>
    var position: Int
    let canonical: Bool

    private func byte() throws(MalformedBytes) -> UInt8 {
        guard position < bytes.endIndex else { throw MalformedBytes("bencode ends inside a value") }
        return bytes[position]
    }

    mutating func value(depth: Int) throws(MalformedBytes) {
        switch try byte() {
        case UInt8(ascii: "i"):
            position += 1
            try integer()
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            _ = try string()
        case UInt8(ascii: "l"):
            guard depth > 0 else { throw MalformedBytes("bencode nests too deeply") }
            position += 1
            while try byte() != UInt8(ascii: "e") { try value(depth: depth - 1) }
            position += 1
        case UInt8(ascii: "d"):
            guard depth > 0 else { throw MalformedBytes("bencode nests too deeply") }
            position += 1
            try dictionary(depth: depth - 1)
        default:
            throw MalformedBytes("no bencode type starts with byte \(bytes[position])")
        }
    }

    private mutating func dictionary(depth: Int) throws(MalformedBytes) {
        var previous: Range<Int>?
        while try byte() != UInt8(ascii: "e") {
            guard bytes[position] >= UInt8(ascii: "0"), bytes[position] <= UInt8(ascii: "9") else {
                throw MalformedBytes("dictionary key is not a byte string")
            }
            let key = try string()
            if canonical, let previous, !bytes[previous].lexicographicallyPrecedes(bytes[key]) {
                throw MalformedBytes("dictionary keys are not sorted and unique")
            }
            previous = key
            try value(depth: depth)
        }
        position += 1
    }

    /// At most 20 digits: more than any 64-bit integer has, and no work for an attacker's megabyte of digits.
    private mutating func integer() throws(MalformedBytes) {
        let negative = try byte() == UInt8(ascii: "-")
        if negative { position += 1 }
        let start = position
        while case let digit = try byte(), digit != UInt8(ascii: "e") {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else {
                throw MalformedBytes("byte \(digit) inside an integer")
            }
            position += 1
        }
        let digits = position - start
        guard digits >= 1, digits <= 20 else { throw MalformedBytes("integer of \(digits) digits") }
        if canonical, bytes[start] == UInt8(ascii: "0"), digits > 1 || negative {
            throw MalformedBytes("integer with a leading zero or minus zero")
        }
        position += 1
    }

    private mutating func string() throws(MalformedBytes) -> Range<Int> {
        let start = position
        var length = 0
        while case let digit = try byte(), digit != UInt8(ascii: ":") {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else {
                throw MalformedBytes("byte \(digit) inside a string length")
            }
            length = length * 10 + Int(digit - UInt8(ascii: "0"))
            guard length <= bytes.count else { throw MalformedBytes("string longer than what holds it") }
            position += 1
            guard position - start <= 10 else { throw MalformedBytes("string length of more than ten digits") }
        }
        if canonical, bytes[start] == UInt8(ascii: "0"), position - start > 1 {
            throw MalformedBytes("string length with a leading zero")
        }
        position += 1
        guard length <= bytes.endIndex - position else { throw MalformedBytes("string runs past the end") }
        defer { position += length }
        return position..<position + length
    }
}
