import Digests
public import Primitives

/// A point of the 160-bit key space: a node, an info-hash or an item's target (Maymounkov & Mazières 2002, §2).
/// Ordered as an unsigned number, so that XOR distances compare.
public struct NodeID: Hashable, Comparable, Sendable, CustomStringConvertible {
    let a: UInt64, b: UInt64, c: UInt32

    init(_ a: UInt64, _ b: UInt64, _ c: UInt32) {
        self.a = a
        self.b = b
        self.c = c
    }
    /// - Parameter bytes: exactly 20 bytes, else nil.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 20 else { return nil }
        var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
        var index = 0
        for byte in bytes {
            if index < 8 {
                words.0 = words.0 << 8 | UInt64(byte)
            } else if index < 16 {
                words.1 = words.1 << 8 | UInt64(byte)
            } else {
                words.2 = words.2 << 8 | UInt64(byte)
            }
            index += 1
        }
        self.init(words.0, words.1, UInt32(truncatingIfNeeded: words.2))
    }
    /// From 40 hexadecimal digits, else nil.
    public init?(hex: String) {
        guard let bytes = [UInt8](hex: hex) else { return nil }
        self.init(bytes)
    }
    /// The SHA-1 of `bytes`: how topics, immutable items and keys become targets.
    public init(hashing bytes: some Collection<UInt8>) { self.init(sha1(bytes))! }
    public static func random(using generator: inout SeededGenerator) -> NodeID {
        NodeID(generator.next(), generator.next(), UInt32(truncatingIfNeeded: generator.next()))
    }

    public var bytes: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(20)
        for shift in stride(from: UInt64(56), through: 0, by: -8) { out.append(UInt8(truncatingIfNeeded: a >> shift)) }
        for shift in stride(from: UInt64(56), through: 0, by: -8) { out.append(UInt8(truncatingIfNeeded: b >> shift)) }
        for shift in stride(from: UInt32(24), through: 0, by: -8) { out.append(UInt8(truncatingIfNeeded: c >> shift)) }
        return out
    }
    public var hex: String { bytes.hex }
    public var description: String { String(hex.prefix(8)) }

    public static func < (x: NodeID, y: NodeID) -> Bool {
        if x.a != y.a { return x.a < y.a }
        if x.b != y.b { return x.b < y.b }
        return x.c < y.c
    }
    /// XOR: the distance between two points, and the point at a distance.
    public static func ^ (x: NodeID, y: NodeID) -> NodeID { NodeID(x.a ^ y.a, x.b ^ y.b, x.c ^ y.c) }

    /// How many leading bits are zero: of a distance, the length of the common prefix. 160 for zero.
    public var leadingZeroBitCount: Int {
        if a != 0 { return a.leadingZeroBitCount }
        if b != 0 { return 64 + b.leadingZeroBitCount }
        return 128 + c.leadingZeroBitCount
    }
    /// The bit at `place`, counted from the most significant one.
    package func bit(_ place: Int) -> Bool {
        if place < 64 { return a >> UInt64(63 - place) & 1 == 1 }
        if place < 128 { return b >> UInt64(127 - place) & 1 == 1 }
        return c >> UInt32(159 - place) & 1 == 1
    }
    /// A distance as a fraction of the key space, in [0, 1).
    public var fraction: Double { Double(a) * 0x1p-64 }

    /// A random point that shares exactly `prefix` leading bits with this one (0…159): what a bucket refresh asks for.
    func sharing(prefix: Int, using generator: inout SeededGenerator) -> NodeID {
        let random = NodeID.random(using: &generator)
        func mask(_ bits: Int, _ width: Int) -> UInt64 {
            bits <= 0 ? 0 : bits >= width ? .max : ~(UInt64.max >> UInt64(bits))
        }
        let (ma, mb) = (mask(prefix, 64), mask(prefix - 64, 64))
        let mc = UInt32(truncatingIfNeeded: (prefix - 128 <= 0 ? 0 : mask(prefix - 128, 64)) >> 32)
        var (x, y, z) = (a & ma | random.a & ~ma, b & mb | random.b & ~mb, c & mc | random.c & ~mc)
        // The bit after the prefix must differ.
        if prefix < 64 {
            let bit = UInt64(1) << UInt64(63 - prefix)
            x = x & ~bit | ~a & bit
        } else if prefix < 128 {
            let bit = UInt64(1) << UInt64(127 - prefix)
            y = y & ~bit | ~b & bit
        } else if prefix < 160 {
            let bit = UInt32(1) << UInt32(159 - prefix)
            z = z & ~bit | ~c & bit
        }
        return NodeID(x, y, z)
    }
}
