/// A quick check of bytes that nobody crafts: it notices memory, disks and code that err, at several times the speed of a hash that
/// resists an adversary. Never where somebody could gain by another text with the same one.
///
/// Four lanes of 64 bits, each over every fourth word, little-endian, the last words filled with zeros. A lane takes a word by
/// exclusive or, a multiplication by an odd number and a rotation, each of which can be undone: two texts of one length that differ in
/// words of one lane alone always differ in that lane.
public struct Fingerprint: Hashable, Sendable {
    public let lanes: [4 of UInt64]

    public init(_ bytes: [UInt8]) {
        var lanes = Self.seeds
        bytes.withUnsafeBytes { raw in
            let whole = raw.count & ~31
            // In plain variables, which stay in registers.
            var (a, b, c, d) = (lanes[0], lanes[1], lanes[2], lanes[3])
            var offset = 0
            while offset < whole {
                a = Self.mixed(a, UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
                b = Self.mixed(b, UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)))
                c = Self.mixed(c, UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self)))
                d = Self.mixed(d, UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self)))
                offset += 32
            }
            lanes = [a, b, c, d]
            for lane in 0..<4 where offset < raw.count {
                var word: UInt64 = 0
                for place in 0..<min(8, raw.count - offset) { word |= UInt64(raw[offset + place]) << UInt64(8 * place) }
                lanes[lane] = Self.mixed(lanes[lane], word)
                offset += 8
            }
        }
        self.lanes = lanes
        count = UInt64(bytes.count)
    }
    private let count: UInt64

    /// All of it in 64 bits: length and lanes, taken in turn as a lane takes words.
    public var word: UInt64 {
        var all = Self.mixed(Self.seeds[0], count)
        for lane in 0..<4 { all = Self.mixed(all, lanes[lane]) }
        return all
    }
    /// ``word``, eight bytes, little-endian.
    public var bytes: [UInt8] { withUnsafeBytes(of: word.littleEndian) { Array($0) } }

    private static let seeds: [4 of UInt64] = [
        0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93,
    ]
    @inline(__always) private static func mixed(_ lane: UInt64, _ word: UInt64) -> UInt64 {
        let product = (lane ^ word) &* 0xff51_afd7_ed55_8ccd
        return product &<< 29 | product &>> 35
    }

    public static func == (a: Self, b: Self) -> Bool {
        a.count == b.count && (0..<4).allSatisfy { a.lanes[$0] == b.lanes[$0] }
    }
    public func hash(into hasher: inout Hasher) { hasher.combine(word) }
}
