/// What a code point is to the tokenizers' patterns and to NFC: a byte of flags, from a two-stage table.
package struct CharacterClasses: @unchecked Sendable {
    /// `\p{L}` of Unicode 16.0.
    package static let letter: UInt8 = 1
    /// `\p{N}` of Unicode 16.0.
    package static let number: UInt8 = 2
    /// `\s`: the 25 code points of White_Space.
    package static let space: UInt8 = 4
    /// `[\r\n]`; spaces too.
    package static let newline: UInt8 = 8
    /// Numeric to the reference's `Digits`: `\p{N}` of Unicode 17.0.
    package static let numeric: UInt8 = 16
    /// May change, move or join what comes before it under NFC; what lacks it is a boundary.
    package static let unsettled: UInt8 = 32
    /// To ask whether a code point is none of the three: `[^\s\p{L}\p{N}]`.
    package static let known: UInt8 = letter | number | space

    package static let shared = CharacterClasses()

    // Written once, never freed: the one value is a constant of the program.
    private let blocks: UnsafeMutablePointer<UInt8>
    private let flags: UnsafeMutablePointer<UInt8>

    private init() {
        var plain = [UInt8](repeating: 0, count: 0x110000)
        func mark(_ table: StaticString, _ flag: UInt8) {
            var next = 0
            for row in HexadecimalRows(table) {
                next += row[0]
                for point in next..<next + row[1] { plain[point] |= flag }
                next += row[1]
            }
        }
        mark(UnicodeTables.letters, Self.letter)
        mark(UnicodeTables.numbers, Self.number | Self.numeric)
        mark(UnicodeTables.laterNumbers, Self.numeric)
        mark(UnicodeTables.spaces, Self.space)
        plain[0x0A] |= Self.newline
        plain[0x0D] |= Self.newline
        for row in HexadecimalRows(UnicodeTables.combining) {
            for point in row[0]..<row[0] + row[1] { plain[point] |= Self.unsettled }
        }
        for row in HexadecimalRows(UnicodeTables.decompositions) {
            if row[3] == 1 { plain[row[2]] |= Self.unsettled } else { plain[row[0]] |= Self.unsettled }
        }
        // The vowels and finals of Hangul join what comes before.
        for point in 0x1161...0x1175 { plain[point] |= Self.unsettled }
        for point in 0x11A8...0x11C2 { plain[point] |= Self.unsettled }

        var numbers: [[UInt8]: Int] = [:]
        var rows: [UInt8] = []
        blocks = .allocate(capacity: 0x1100)
        for block in 0..<0x1100 {
            let content = Array(plain[block << 8..<(block + 1) << 8])
            let number = numbers[content] ?? numbers.count
            if number == numbers.count {
                numbers[content] = number
                rows += content
            }
            precondition(number < 256, "the table of classes has more than 256 blocks")
            blocks[block] = UInt8(number)
        }
        flags = .allocate(capacity: rows.count)
        flags.initialize(from: rows, count: rows.count)
    }

    /// The flags of a code point below 0x110000.
    @inline(__always)
    package func flags(_ point: UInt32) -> UInt8 {
        flags[Int(blocks[Int(point >> 8)]) << 8 | Int(point & 255)]
    }

    /// The flags and the length of what begins at `at`, before `end`. A byte that begins no valid UTF-8 has no flags: it is
    /// one character of no class.
    @inline(__always)
    package func look(_ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int) -> (flags: UInt8, length: Int) {
        let byte = text[at]
        if byte < 0x80 { return (flags[Int(blocks[0]) << 8 | Int(byte)], 1) }
        let (point, length) = decodeScalar(text, at, end)
        return length == 0 ? (0, 1) : (flags(point), length)
    }
}

/// The scalar of two or more bytes that begins at `at`; length 0 where no valid one does (RFC 3629: nothing overlong, no
/// surrogate, nothing above 0x10FFFF).
@inline(__always)
func decodeScalar(_ text: UnsafePointer<UInt8>, _ at: Int, _ end: Int) -> (point: UInt32, length: Int) {
    let first = UInt32(text[at])
    @inline(__always) func follower(_ index: Int) -> UInt32? {
        guard at + index < end, text[at + index] & 0xC0 == 0x80 else { return nil }
        return UInt32(text[at + index] & 0x3F)
    }
    guard first >= 0xC2, first < 0xF5, let second = follower(1) else { return (0, 0) }
    if first < 0xE0 { return ((first & 0x1F) << 6 | second, 2) }
    guard let third = follower(2) else { return (0, 0) }
    if first < 0xF0 {
        let point = (first & 0x0F) << 12 | second << 6 | third
        return point < 0x800 || (0xD800..<0xE000).contains(point) ? (0, 0) : (point, 3)
    }
    guard let fourth = follower(3) else { return (0, 0) }
    let point = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
    return point < 0x10000 || point > 0x10FFFF ? (0, 0) : (point, 4)
}

/// Rows of a generated table: groups parted by spaces, hexadecimal numbers parted by commas.
struct HexadecimalRows: Sequence, IteratorProtocol {
    private let text: StaticString
    private var at = 0
    init(_ text: StaticString) { self.text = text }

    mutating func next() -> [Int]? {
        var row: [Int] = []
        var value: Int?
        let start = text.utf8Start
        while at < text.utf8CodeUnitCount {
            let byte = start[at]
            at += 1
            switch byte {
            case 48...57: value = (value ?? 0) << 4 | Int(byte - 48)
            case 97...102: value = (value ?? 0) << 4 | Int(byte - 87)
            case 44:
                row.append(value ?? 0)
                value = nil
            default:
                if let value {
                    row.append(value)
                    return row
                }
            }
        }
        guard let value else { return nil }
        row.append(value)
        return row
    }
}
