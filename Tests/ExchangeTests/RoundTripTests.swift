import Exchange
import Primitives
import Testing

/// Encoding and decoding give back what the format promises, at every awkward count.
struct RoundTripTests {
    @Test(arguments: oddCounts)
    func `fp32 is lossless`(count: Int) throws {
        let values = gaussian(count, seed: 1)
        #expect(try Codec.fp32.decode(Codec.fp32.encode(values), count: count) == values)
    }

    @Test(arguments: oddCounts)
    func `bf16 is within half a unit of its last place`(count: Int) throws {
        let values = gaussian(count, seed: 2)
        let back = try Codec.bf16.decode(Codec.bf16.encode(values), count: count)
        #expect(zip(values, back).allSatisfy { abs($0 - $1) <= abs($0) / 256 })
    }

    @Test(arguments: oddCounts)
    func `fp16 is within half a unit of its last place, and saturates`(count: Int) throws {
        let values = gaussian(count, seed: 2)
        let back = try Codec.fp16.decode(Codec.fp16.encode(values), count: count)
        #expect(zip(values, back).allSatisfy { abs($0 - $1) <= max(abs($0) / 2048, 0x1p-25) })
        let large = try Codec.fp16.decode(Codec.fp16.encode([65_519, 65_520, -1e30, 3e-8, 2e-8]), count: 5)
        #expect(large == [65_504, 65_504, -65_504, 0x1p-24, 0])
    }

    #if arch(arm64)
        @Test func `every half is the processor's own`() throws {
            let bytes = (0..<UInt16(0x7C00)).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
            let values = try Codec.fp16.decode(bytes, count: 0x7C00)
            #expect(values == (0..<UInt16(0x7C00)).map { Float(Float16(bitPattern: $0)) })
        }
    #endif

    @Test func `every finite half decodes to itself`() throws {
        let codes = (0..<UInt16(0x7C00)).flatMap { [$0, $0 | 0x8000] }
        let bytes = codes.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
        let values = try Codec.fp16.decode(bytes, count: codes.count)
        #expect(Codec.fp16.encode(values) == bytes)
    }

    /// Heavy tails, as activations have: one value in a hundred is a hundred times larger.
    @Test(arguments: [Codec.bf16, .fp16, .int8, .int4], oddCounts)
    func `activations are within the stated bound`(codec: Codec, count: Int) throws {
        let values = gaussian(count, seed: 13).enumerated().map { $0.offset % 100 == 7 ? $0.element * 100 : $0.element }
        let back = try codec.decode(codec.encode(values), count: count)
        let bound = Float(try #require(codec.errorBound)) * 1.000001
        let isBlockwise = codec == .int8 || codec == .int4
        for start in stride(from: 0, to: count, by: 256) {
            let block = start..<min(count, start + 256)
            let largest = block.map { abs(values[$0]) }.max()!
            for index in block where abs(values[index]) >= 0x1p-14 {
                #expect(abs(values[index] - back[index]) <= bound * (isBlockwise ? largest : abs(values[index])))
            }
        }
    }

    @Test(arguments: [Codec.int8, .int4], oddCounts)
    func `a block is within half a step of its largest magnitude`(codec: Codec, count: Int) throws {
        let values = gaussian(count, seed: 3)
        let back = try codec.decode(codec.encode(values), count: count)
        let steps: Float = codec == .int8 ? 127 : 7
        for start in stride(from: 0, to: count, by: 256) {
            let block = start..<min(count, start + 256)
            let step = block.map { abs(values[$0]) }.max()! / steps
            #expect(block.allSatisfy { abs(values[$0] - back[$0]) <= step * 0.50001 })
        }
    }

    @Test(arguments: allCodecs, oddCounts)
    func `what is sent plus what is kept is what was to be sent`(codec: Codec, count: Int) throws {
        var feedback = gaussian(count, seed: 4, scale: 0.5)
        let values = gaussian(count, seed: 5)
        var decay: Float = 1
        if codec.isSparse { decay = Codec.feedbackDecay }
        let wanted = zip(values, feedback).map { $0 + $1 * decay }
        let bytes = codec.encode(values, feedback: &feedback)
        #expect(bytes.count <= codec.maximumBytes(for: count))
        let sent = try codec.decode(bytes, count: count)
        for index in 0..<count {
            #expect(abs(sent[index] + feedback[index] - wanted[index]) <= 2e-6 * max(1, abs(wanted[index])))
        }
    }
}
