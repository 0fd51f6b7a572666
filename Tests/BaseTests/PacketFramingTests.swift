import Primitives
import Testing
import Wire

@Suite struct `Framed packets` {
    static func sample(_ generator: inout SeededGenerator) -> FramedPacket {
        var packet = PBPacket()
        switch generator.below(4) {
        case 0:
            packet.heartbeat.round = generator.next()
            packet.heartbeat.activity.have = generator.next()
        case 1:
            packet.exchangePart.work.round = UInt64(generator.below(100))
            for _ in 0..<generator.below(5) {
                var part = PBExchangePart.Chunk()
                part.unit = UInt32(generator.below(10))
                part.bytes = UInt32(generator.below(1000))
                packet.exchangePart.chunks.append(part)
            }
        case 2: packet.norms.sumSquares = (0..<generator.below(8)).map { _ in Float(generator.uniform()) }
        default: packet.chunk.content = bytesOf(generator.bytes(32))
        }
        return FramedPacket(packet, payload: generator.bytes(generator.below(100)))
    }

    @Test func `come back with header and payload`() throws {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<200 {
            let sent = Self.sample(&generator)
            let received = try FramedPacket(decoding: sent.encoded)
            #expect(received.packet == sent.packet)
            #expect(received.payload == sent.payload)
            #expect(sent.header + sent.payload == sent.encoded)
        }
    }

    @Test func `an empty packet is four zero bytes`() throws {
        #expect(FramedPacket(PBPacket()).encoded == [0, 0, 0, 0])
        #expect(try FramedPacket(decoding: [0, 0, 0, 0, 7]).payload == [7])
    }

    @Test func `a truncated header is refused at every length`() {
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<20 {
            let sent = Self.sample(&generator)
            let header = sent.header
            for count in 0..<header.count {
                #expect(throws: MalformedBytes.self) { try FramedPacket(decoding: Array(header.prefix(count))) }
            }
        }
    }

    @Test func `an oversized header is refused, even when all its bytes are there`() {
        var writer = ByteWriter()
        // Field 90 as a byte string: unknown, hence harmless in a packet of the right size.
        func header(_ count: Int) -> [UInt8] {
            let filler = [UInt8](repeating: 0, count: count - 2 - 3)
            let size = filler.count
            return [0xd2, 0x05, UInt8(size & 127 | 128), UInt8(size >> 7 & 127 | 128), UInt8(size >> 14)] + filler
        }
        writer.block(header(FramedPacket.headerLimit))
        #expect(throws: Never.self) { try FramedPacket(decoding: writer.bytes) }
        writer = ByteWriter()
        writer.block(header(FramedPacket.headerLimit + 1))
        #expect(throws: MalformedBytes.self) { try FramedPacket(decoding: writer.bytes) }
    }

    /// Bytes of a peer that lies: whatever they are, they decode or are refused.
    @Test(arguments: 0..<8) func `survive any bytes`(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed), stream: 9)
        var refused = 0
        for _ in 0..<1500 {
            var bytes = Self.sample(&generator).encoded
            for _ in 0...generator.below(4) {
                switch generator.below(4) {
                case 0: bytes[generator.below(bytes.count)] = UInt8(generator.below(256))
                case 1: bytes.insert(UInt8(generator.below(256)), at: generator.below(bytes.count + 1))
                case 2: if bytes.count > 1 { bytes.remove(at: generator.below(bytes.count)) }
                default: bytes[generator.below(bytes.count)] ^= 1 << UInt8(generator.below(8))
                }
            }
            do throws(MalformedBytes) {
                let packet = try FramedPacket(decoding: bytes)
                #expect(packet.payload.count <= bytes.count - 4)
            } catch {
                #expect(!error.description.isEmpty)
                refused += 1
            }
        }
        #expect(refused > 0)
    }
}
