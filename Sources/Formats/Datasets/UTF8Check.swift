/// Whether bytes that come piece by piece are UTF-8 (RFC 3629): a text may be larger than memory.
public struct UTF8Check: Sendable {
    /// Of a character that is not whole yet: 3 at most.
    private var open: [UInt8] = []
    private var isWrong = false
    public init() {}

    /// Whether all that was read is text, and ends with a whole character.
    public var isText: Bool { !isWrong && open.isEmpty }

    public mutating func read(_ piece: UnsafeRawBufferPointer) {
        guard !isWrong else { return }
        var rest = piece[...]
        // What is open takes its bytes from the beginning of the piece.
        while let first = open.first, let next = rest.first {
            open.append(next)
            rest = rest.dropFirst()
            if open.count == Self.length(first) {
                isWrong = String(validating: open, as: UTF8.self) == nil
                open = []
            }
        }
        guard open.isEmpty, !isWrong else { return }
        let end = rest.endIndex - Self.unfinished(rest)
        open = Array(rest[end...])
        isWrong = String(validating: rest[..<end], as: UTF8.self) == nil
    }

    /// Bytes of a character that begins so; 1 where none does.
    private static func length(_ first: UInt8) -> Int {
        switch first {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 1
        }
    }
    /// Bytes at the end that belong to a character that needs more.
    private static func unfinished(_ bytes: Slice<UnsafeRawBufferPointer>) -> Int {
        for back in 1...3 where back <= bytes.count {
            let length = length(bytes[bytes.endIndex - back])
            if length > 1 { return length > back ? back : 0 }
        }
        return 0
    }
}
