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
        if case .sparse = codec { decay = 0.95 }
        let wanted = zip(values, feedback).map { $0 + $1 * decay }
        let bytes = codec.encode(values, feedback: &feedback)
        #expect(bytes.count <= codec.maximumBytes(for: count))
        let sent = try codec.decode(bytes, count: count)
        for index in 0..<count {
            #expect(abs(sent[index] + feedback[index] - wanted[index]) <= 2e-6 * max(1, abs(wanted[index])))
        }
    }
}
