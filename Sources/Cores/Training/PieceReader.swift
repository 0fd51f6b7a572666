import Wire

/// Goes through a contribution piece by piece, wherever it lies: each piece is a codec's message after its length, a u32. So much is in memory
/// that reading a file costs few calls.
struct PieceReader {
    private let source: StoredBytes
    /// Bytes of the source that are at hand, and where the next piece begins in it.
    private var window: ArraySlice<UInt8> = []
    private var position = 0
    private static let ahead = 1 << 20

    init(_ source: StoredBytes) { self.source = source }

    var isAtEnd: Bool { position == source.count }
    var remaining: Int { source.count - position }

    /// The next piece; nil where the source ends before it does, or cannot be read.
    mutating func next() -> ArraySlice<UInt8>? {
        guard fill(4) else { return nil }
        let length = window.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= remaining - 4, fill(4 + length) else { return nil }
        let piece = window.dropFirst(4).prefix(length)
        window = window.dropFirst(4 + length)
        position += 4 + length
        return piece
    }
    private mutating func fill(_ count: Int) -> Bool {
        guard window.count < count else { return true }
        guard count <= remaining else { return false }
        if position == 0, let all = source.inMemory {
            window = all[...]
            return true
        }
        guard let bytes = source.bytes(position..<position + min(remaining, max(count, Self.ahead))) else {
            return false
        }
        window = bytes[...]
        return true
    }
}
