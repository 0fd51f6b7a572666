/// The tokens of pieces of at most 15 bytes, seen lately: most of any text. Direct-mapped; what it answers is what merging
/// would.
struct PieceCache {
    /// A piece's bytes and, in the highest one, its length.
    struct Key: Hashable {
        let low: UInt64
        let high: UInt64

        /// `room`: how far after the text's begin memory may be read.
        @inline(__always)
        init(_ text: UnsafePointer<UInt8>, _ start: Int, _ length: Int, room: Int) {
            var low: UInt64 = 0
            var high: UInt64 = 0
            if start + 16 <= room {
                let raw = UnsafeRawPointer(text + start)
                low = raw.loadUnaligned(as: UInt64.self)
                high = raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                // Shifts beyond the width give 0.
                low &= ~(UInt64.max << UInt64(8 * length))
                high &= ~(UInt64.max << UInt64(max(0, 8 * length - 64)))
            } else {
                for index in 0..<min(8, length) { low |= UInt64(text[start + index]) << UInt64(8 * index) }
                if length > 8 {
                    for index in 8..<length { high |= UInt64(text[start + index]) << UInt64(8 * index - 64) }
                }
            }
            self.low = low
            self.high = high | UInt64(length) << 56
        }
    }
    private struct Entry {
        var low: UInt64 = 0
        var high: UInt64 = 0
        var count: UInt32 = 0
        var first: UInt32 = 0
        var second: UInt32 = 0
        var third: UInt32 = 0
    }
    private static let bits = 15
    private var entries = [Entry](repeating: Entry(), count: 1 << PieceCache.bits)

    @inline(__always)
    private func slot(_ key: Key) -> Int {
        let mixed = (key.low ^ key.high &* 0xD6E8_FEB8_6659_FD93) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> UInt64(64 - Self.bits))
    }

    /// Whether the piece is known; then its tokens are appended.
    @inline(__always)
    func appendHit(_ key: Key, to ids: inout [UInt32]) -> Bool {
        entries.withUnsafeBufferPointer { entries in
            let entry = entries[slot(key)]
            guard entry.low == key.low, entry.high == key.high else { return false }
            if entry.count > 0 { ids.append(entry.first) }
            if entry.count > 1 { ids.append(entry.second) }
            if entry.count > 2 { ids.append(entry.third) }
            return true
        }
    }

    /// Keeps what a piece became, if it is at most three tokens.
    mutating func store(_ key: Key, _ ids: [UInt32], from: Int) {
        let count = ids.count - from
        guard count <= 3 else { return }
        entries[slot(key)] = Entry(
            low: key.low, high: key.high, count: UInt32(count), first: count > 0 ? ids[from] : 0,
            second: count > 1 ? ids[from + 1] : 0, third: count > 2 ? ids[from + 2] : 0)
    }
}
