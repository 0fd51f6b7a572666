import Exchange
import Kernels
import Primitives
import Testing

/// The fast kernels equal the naive ones bit for bit: messages, feedback, decoded values and sums. Other suites may run
/// meanwhile on whichever set is forced here; that cannot be seen in their results, which is the point.
@Suite(.serialized)
struct InstructionSetTests {
    static let sets = [Int32(KERNELS_CODEC_BASELINE), Int32(KERNELS_CODEC_AVX2), Int32(KERNELS_CODEC_AVX512)]
    /// Tensors that are easy to get wrong.
    static let kinds = ["normal", "zeros", "ties", "tiny", "huge", "spread", "few", "infinite", "not a number"]

    static func tensor(_ kind: String, count: Int, seed: UInt64) -> [Float] {
        var generator = SeededGenerator(seed: seed)
        var values = gaussian(count, seed: seed)
        switch kind {
        case "zeros": values = values.map { $0 < 0 ? -0.0 : 0 }
        case "ties": values = values.map { ($0 * 2).rounded() }
        case "tiny": values = values.map { $0 * 0x1p-140 }
        case "huge": values = values.map { $0 * 0x1p126 }
        case "spread":
            // Magnitudes over 60 powers of two, and neighbouring tiles far apart.
            for index in values.indices {
                let exponent = generator.below(30) - 30 * (index / 4096 % 2)
                values[index] *= Float(sign: .plus, exponent: exponent, significand: 1)
            }
        case "few": values = values.map { $0 > 3.1 ? $0 : 0 }
        case "infinite": if count > 0 { values[generator.below(count)] = -.infinity }
        case "not a number": if count > 0 { values[generator.below(count)] = .nan }
        default: break
        }
        return values
    }

    struct Outcome: Equatable {
        var bytes: [[UInt8]] = []
        var feedback: [UInt32] = []
        var decoded: [UInt32] = []
        var sums: [UInt32] = []
        var weights: [UInt32] = []
        var mean: [UInt32] = []
        var refusals: [CodecError] = []
    }

    /// Three rounds of encoding with feedback and one without, each decoded, all of them summed.
    static func outcome(_ codec: Codec, _ kind: String, count: Int, set: Int32) -> Outcome {
        #expect(kernels_codec_set_instruction_set(set))
        var outcome = Outcome()
        var feedback = [Float](repeating: 0, count: count), decoded = feedback, sums = feedback, weights = feedback
        for round in 0..<4 {
            let values = tensor(kind, count: count, seed: UInt64(round))
            let bytes = round == 3 ? codec.encode(values) : codec.encode(values, feedback: &feedback)
            outcome.bytes.append(bytes)
            do throws(CodecError) {
                try codec.decode(bytes[...], over: &decoded)
                try codec.accumulate(bytes, weight: 1.7 + Float(round), sum: &sums, weights: &weights)
            } catch {
                outcome.refusals.append(error)
            }
        }
        let messages = outcome.bytes.enumerated().map {
            WeightedMessage(bytes: $0.element[...], weight: 1.7 + Float($0.offset))
        }
        var mean = [Float](repeating: 5, count: count)
        mean.withUnsafeMutableBufferPointer { target in
            do throws(RefusedContribution) {
                try codec.contributorMean(of: messages, into: target)
            } catch {
                outcome.refusals.append(error.reason)
            }
        }
        outcome.feedback = bits(feedback)
        outcome.decoded = bits(decoded)
        outcome.sums = bits(sums)
        outcome.weights = bits(weights)
        outcome.mean = bits(mean)
        return outcome
    }

    @Test(arguments: allCodecs)
    func `every instruction set gives the same bits`(codec: Codec) {
        defer { _ = kernels_codec_set_instruction_set(-1) }
        for set in Self.sets where kernels_codec_set_instruction_set(set) {
            for kind in Self.kinds {
                for count in [0, 1, 15, 17, 128, 255, 257, 4095, 4097, 66_001] {
                    let naive = Self.outcome(codec, kind, count: count, set: Int32(KERNELS_CODEC_NAIVE))
                    let fast = Self.outcome(codec, kind, count: count, set: set)
                    #expect(naive.bytes == fast.bytes, "bytes: \(kind), \(count) values, set \(set)")
                    #expect(naive == fast, "\(kind), \(count) values, set \(set)")
                }
            }
        }
    }

    @Test(arguments: allCodecs, kinds)
    func `feedback stays finite and only what is not finite is refused`(codec: Codec, kind: String) {
        for count in [1, 300, 5000] {
            var feedback = [Float](repeating: 0, count: count)
            let values = Self.tensor(kind, count: count, seed: 9)
            let bytes = codec.encode(values, feedback: &feedback)
            #expect(feedback.allSatisfy { $0.isFinite })
            let isFinite = values.allSatisfy(\.isFinite)
            let isAccepted = (try? codec.validate(bytes[...], count: count)) != nil
            #expect(isAccepted == isFinite)
        }
    }

    @Test func `an instruction set that is missing changes nothing`() {
        let before = kernels_codec_instruction_set()
        #expect(before >= Int32(KERNELS_CODEC_BASELINE))
        #expect(kernels_codec_set_instruction_set(99) && kernels_codec_instruction_set() == before)
    }
}
