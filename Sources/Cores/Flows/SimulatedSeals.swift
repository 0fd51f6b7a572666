/// A seal without secrets for simulated lines: notices changed bytes and wrong keys, hides nothing.
public struct SimulatedSeals: SealMaker {
    private let key: UInt64
    public init(key: UInt64) { self.key = key }
    public func seal(for context: [UInt8]) -> any PacketSeal {
        Seal(key: context.reduce(key) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 })
    }
    private struct Seal: PacketSeal {
        let key: UInt64
        private func tag(_ packet: UnsafeRawBufferPointer, _ number: UInt64) -> (UInt64, UInt64) {
            var (a, b) = (key ^ number &* 0x9E37_79B9_7F4A_7C15, key &+ number)
            let count = packet.count - FlowLimits.tag
            var place = 0
            while place + 8 <= count {
                a = (a ^ packet.loadUnaligned(fromByteOffset: place, as: UInt64.self)) &* 0xD1B5_4A32_D192_ED03
                a ^= a >> 29
                b = b &+ a
                place += 8
            }
            while place < count {
                a = (a ^ UInt64(packet[place])) &* 0x0000_0100_0000_01B3
                b = b &+ a
                place += 1
            }
            return (a, b)
        }
        func seal(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) {
            let tag = tag(UnsafeRawBufferPointer(packet), number)
            packet.storeBytes(of: tag.0, toByteOffset: packet.count - 16, as: UInt64.self)
            packet.storeBytes(of: tag.1, toByteOffset: packet.count - 8, as: UInt64.self)
        }
        func open(_ packet: UnsafeMutableRawBufferPointer, clear: Int, number: UInt64) -> Bool {
            guard packet.count >= clear + FlowLimits.tag else { return false }
            let tag = tag(UnsafeRawBufferPointer(packet), number)
            return tag.0 == packet.loadUnaligned(fromByteOffset: packet.count - 16, as: UInt64.self)
                && tag.1 == packet.loadUnaligned(fromByteOffset: packet.count - 8, as: UInt64.self)
        }
    }
}
