import Primitives
import Testing
import Wire

@Suite struct `Byte readers` {
    @Test func `read what the writer wrote`() throws {
        var writer = ByteWriter()
        writer.u8(0xfe)
        writer.u16(0x1234)
        writer.u32(0x89ab_cdef)
        writer.u64(0x0123_4567_89ab_cdef)
        writer.f32(-1.5)
        writer.block([9, 8, 7])
        writer.raw([1, 2])
        #expect(writer.bytes.hex == "fe3412efcdab89efcdab89674523010000c0bf030000000908070102")
        var reader = ByteReader(writer.bytes)
        #expect(try reader.u8() == 0xfe)
        #expect(try reader.u16() == 0x1234)
        #expect(try reader.u32() == 0x89ab_cdef)
        #expect(try reader.u64() == 0x0123_4567_89ab_cdef)
        #expect(try reader.f32() == -1.5)
        #expect(try Array(reader.block(limit: 3)) == [9, 8, 7])
        #expect(throws: MalformedBytes.self) { try reader.finish() }
        #expect(try Array(reader.take(2)) == [1, 2])
        try reader.finish()
    }

    @Test func `a block longer than its limit is refused before it is read`() {
        var writer = ByteWriter()
        writer.block([1, 2, 3, 4])
        for limit in 0..<6 {
            var reader = ByteReader(writer.bytes)
            let block = try? reader.block(limit: limit)
            #expect((block != nil) == (limit >= 4))
        }
        var huge = ByteReader([255, 255, 255, 255, 1])
        #expect(throws: MalformedBytes.self) { try huge.block(limit: .max) }
    }

    @Test func `a negative count is refused`() {
        var reader = ByteReader([1, 2, 3])
        #expect(throws: MalformedBytes.self) { try reader.take(-1) }
        #expect(reader.remaining == 3)
    }

    /// Random reads over random bytes, beside a plain array: the same bytes come out, a read past the end is refused and
    /// moves nothing.
    @Test(arguments: 0..<20) func `never read past the end`(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        for _ in 0..<200 {
            let padding = generator.below(4)
            let all = generator.bytes(padding + generator.below(64))
            var reader = ByteReader(all[padding...])
            var model = Array(all[padding...])
            while !model.isEmpty {
                let width = [1, 2, 4, 8, 4, generator.below(20)][generator.below(6)]
                let before = reader.remaining
                let got = read(&reader, width, as: generator.below(2))
                if width <= model.count {
                    #expect(got == Array(model.prefix(width)))
                    model.removeFirst(width)
                    if width == 0 { break }
                } else {
                    #expect(got == nil)
                    #expect(reader.remaining == before)
                    break
                }
                #expect(reader.remaining == model.count)
            }
        }
    }

    private func read(_ reader: inout ByteReader, _ width: Int, as kind: Int) -> [UInt8]? {
        func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
            (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> T($0 * 8)) }
        }
        do throws(MalformedBytes) {
            switch (width, kind) {
            case (1, 0): return littleEndian(try reader.u8())
            case (2, 0): return littleEndian(try reader.u16())
            case (4, 0): return littleEndian(try reader.u32())
            case (8, 0): return littleEndian(try reader.u64())
            case (4, 1): return littleEndian(try reader.f32().bitPattern)
            default: return Array(try reader.take(width))
            }
        } catch {
            return nil
        }
    }
}
