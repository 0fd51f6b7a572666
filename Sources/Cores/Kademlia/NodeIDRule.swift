public import Primitives

/// BEP 42: the first 21 bits of a node ID follow from its address and three bits of its last byte, so that one address has
/// eight places in the key space and not all of them.
public enum NodeIDRule {
    /// The CRC whose top 21 bits an ID at `address` (4 or 16 bytes) must start with.
    ///
    /// - Parameter rand: the ID's last byte; only its three low bits count.
    public static func checksum(address: [UInt8], rand: UInt8) -> UInt32 {
        let mask: [UInt8] =
            address.count == 4 ? [0x03, 0x0f, 0x3f, 0xff] : [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff]
        var masked = zip(address, mask).map { $0 & $1 }
        masked[0] |= (rand & 7) << 5
        return CRC32C.checksum(masked)
    }

    /// Whether `id` may live at `endpoint`. Private, link-local and loopback addresses are exempt.
    public static func allows(_ id: NodeID, at endpoint: Endpoint) -> Bool {
        if endpoint.isPrivate { return true }
        let rand = UInt8(truncatingIfNeeded: id.c)
        return UInt32(truncatingIfNeeded: id.a >> 32) ^ checksum(address: endpoint.address, rand: rand) < 1 << 11
    }

    /// An ID that `endpoint` may have; the bits that the rule leaves free are random.
    public static func makeID(at endpoint: Endpoint, using generator: inout SeededGenerator) -> NodeID {
        makeID(at: endpoint, rand: UInt8(truncatingIfNeeded: generator.next()), using: &generator)
    }
    /// The same with the last byte given, as in the vectors of BEP 42.
    public static func makeID(at endpoint: Endpoint, rand: UInt8, using generator: inout SeededGenerator) -> NodeID {
        let random = NodeID.random(using: &generator)
        let top = checksum(address: endpoint.address, rand: rand) & ~0x7ff
        let a = UInt64(top) << 32 | random.a & 0x0000_07ff_ffff_ffff
        return NodeID(a, random.b, random.c & ~0xff | UInt32(rand))
    }
}
