import Exchange
import Kernels
import Primitives
import Testing

/// Bytes from another peer: whatever they are, they decode or they are refused; nothing is written in the second case.
struct RefusalTests {
    /// Decodes over a pattern; checks that a refusal leaves it, and that what is accepted is finite.
    static func attempt(_ codec: Codec, _ bytes: [UInt8], count: Int) -> CodecError? {
        let pattern = (0..<count).map { Float($0) }
        var values = pattern, sums = pattern, weights = pattern
        do throws(CodecError) {
            try codec.decode(bytes[...], over: &values)
            #expect(values.allSatisfy { $0.isFinite })
            try codec.accumulate(bytes, weight: 1, sum: &sums, weights: &weights)
            return nil
        } catch {
            #expect(values == pattern && sums == pattern && weights == pattern)
            return error
        }
    }

    @Test(arguments: allCodecs, [1, 17, 128, 300, 4097, 70_000])
    func `truncated and prolonged messages are refused`(codec: Codec, count: Int) {
        let bytes = codec.encode(gaussian(count, seed: 1))
        let lengths = Set([0, 1, bytes.count / 3, bytes.count / 2, bytes.count - 1]).sorted()
        for length in lengths where length < bytes.count {
            let error = Self.attempt(codec, Array(bytes[..<length]), count: count)
            guard case .truncated = error else {
                Issue.record("\(length) of \(bytes.count) bytes: \(String(describing: error))")
                continue
            }
        }
        for extra in [1, 2, 9] {
            let error = Self.attempt(codec, bytes + [UInt8](repeating: 0, count: extra), count: count)
            guard case .trailingBytes = error else {
                Issue.record("\(extra) bytes more: \(String(describing: error))")
                continue
            }
        }
    }

    @Test(arguments: allCodecs)
    func `a message for another count is refused`(codec: Codec) {
        let bytes = codec.encode(gaussian(4096, seed: 2))
        // A sparse message may fit a count that sends as many entries: its indexes are then in range there too.
        for count in codec.isSparse ? [0, 1, 9000] : [0, 1, 4000, 5000, 9000] {
            #expect(Self.attempt(codec, bytes, count: count) != nil)
        }
        #expect(throws: CodecError.self) {
            var values = [Float](repeating: 0, count: 4096)
            let result = values.withUnsafeMutableBufferPointer { target in
                Result { () throws(CodecError) in try codec.decode(bytes[...], count: 4095, into: target) }
            }
            try result.get()
        }
    }

    @Test(arguments: allCodecs)
    func `mutated messages never crash and never half apply`(codec: Codec) {
        var generator = SeededGenerator(seed: 77)
        for count in [1, 63, 128, 1000, 4097] {
            let original = codec.encode(gaussian(count, seed: 3))
            for _ in 0..<300 {
                var bytes = original
                for _ in 0...generator.below(4) where !bytes.isEmpty {
                    switch generator.below(5) {
                    case 0: bytes[generator.below(bytes.count)] ^= 1 << UInt8(generator.below(8))
                    case 1: bytes[generator.below(bytes.count)] = UInt8(generator.below(256))
                    case 2: bytes.remove(at: generator.below(bytes.count))
                    case 3: bytes.insert(UInt8(generator.below(256)), at: generator.below(bytes.count + 1))
                    default:
                        let start = generator.below(bytes.count)
                        let fill: UInt8 = generator.below(2) == 0 ? 0 : 255
                        for index in start..<min(bytes.count, start + 16) { bytes[index] = fill }
                    }
                }
                _ = Self.attempt(codec, bytes, count: count)
            }
        }
    }

    @Test(arguments: allCodecs)
    func `random bytes never crash`(codec: Codec) {
        var generator = SeededGenerator(seed: 78)
        for count in [0, 1, 5, 128, 257, 5000, 66_000] {
            for _ in 0..<30 {
                let length = generator.below(2) == 0 ? codec.maximumBytes(for: count) : generator.below(200)
                _ = Self.attempt(codec, generator.bytes(length), count: count)
            }
        }
    }

    @Test func `values that are not finite are refused`() {
        let nan = Float.nan.bitPattern, infinity = (-Float.infinity).bitPattern
        for word in [nan, infinity] {
            let four = (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
            #expect(Self.attempt(.fp32, four, count: 1) == .notFinite)
            #expect(Self.attempt(.bf16, Array(four[2...]), count: 1) == .notFinite)
            #expect(Self.attempt(.int8, four + [1], count: 1) == .notFinite)
            #expect(Self.attempt(.int4, four + [9], count: 1) == .notFinite)
        }
        // A header whose large magnitude has exponent 255.
        #expect(Self.attempt(.sparse(k: 64), [0, 0, 0xFF], count: 1) == .notFinite)
    }

    @Test func `what no encoder writes is refused`() {
        // A scale of 2¹²¹, a negative one, an empty half that is not empty. −128 and −8 are numbers like others.
        #expect(Self.attempt(.int8, [0, 0, 0, 0x7C, 1], count: 1) != nil)
        #expect(Self.attempt(.int8, [0, 0, 0x80, 0xBF, 1], count: 1) != nil)
        #expect(Self.attempt(.int8, [0, 0, 0x80, 0x3F, 0x80], count: 1) == nil)
        #expect(Self.attempt(.int4, [0, 0, 0x80, 0x3F, 0x00], count: 1) == nil)
        #expect(Self.attempt(.int4, [0, 0, 0x80, 0x3F, 0x19], count: 1) != nil)
        #expect(Self.attempt(.int4, [0, 0, 0x80, 0x3F, 0x09], count: 1) == nil)
    }

    @Test func `an index beyond its tile is refused`() {
        // Two values, divisor 1: header, scale 1, symbol 00, then two zeros and a one where there is room for one zero.
        let bits: UInt64 = 127 << 16 | 1 << 24 | 1 << 29
        let bytes = (0..<4).map { UInt8(truncatingIfNeeded: bits >> (8 * UInt64($0))) }
        let error = Self.attempt(.sparse(k: 1), bytes, count: 2)
        #expect(error == .indexOutOfRange(2, limit: 2))
    }

    @Test(arguments: [1, 64, 1024])
    func `every instruction set refuses for the same reason`(k: Int) {
        defer { _ = kernels_codec_set_instruction_set(-1) }
        let codec = Codec.sparse(k: k)
        var generator = SeededGenerator(seed: 79)
        for count in [5, 128, 4097, 70_000] {
            let original = codec.encode(gaussian(count, seed: 4))
            for _ in 0..<60 {
                var bytes = original
                for _ in 0...generator.below(3) {
                    let start = generator.below(bytes.count)
                    let fill = UInt8(generator.below(256)) & UInt8(generator.below(256))
                    for index in start..<min(bytes.count, start + 1 + generator.below(9)) { bytes[index] = fill }
                }
                if generator.below(3) == 0 { bytes.removeLast(generator.below(bytes.count)) }
                let sets = [KERNELS_CODEC_NAIVE, KERNELS_CODEC_BASELINE, KERNELS_CODEC_AVX2, KERNELS_CODEC_AVX512]
                let reasons = sets.filter { kernels_codec_set_instruction_set(Int32($0)) }.map { set in
                    _ = kernels_codec_set_instruction_set(Int32(set))
                    return Self.attempt(codec, bytes, count: count)
                }
                #expect(reasons.allSatisfy { $0 == reasons[0] }, "\(count) values: \(reasons)")
            }
        }
    }
}
