import Exchange
import Primitives
import Testing

/// The mean over contributors, and what keeps one bad contributor from spoiling it.
struct ContributorMeanTests {
    static func mean(_ codec: Codec, _ messages: [WeightedMessage], count: Int) throws(RefusedContribution) -> [Float] {
        var target = [Float](repeating: 99, count: count)
        let result = target.withUnsafeMutableBufferPointer { buffer in
            Result { () throws(RefusedContribution) in try codec.contributorMean(of: messages, into: buffer) }
        }
        try result.get()
        return target
    }

    @Test(arguments: allCodecs, [0, 1, 128, 4097, 70_000])
    func `it is accumulation in order and a division`(codec: Codec, count: Int) throws {
        let messages = (0..<5).map { rank in
            let bytes = codec.encode(gaussian(count, seed: UInt64(rank)))
            return WeightedMessage(bytes: bytes[...], weight: Float(3 + 7 * rank) / 3)
        }
        var sum = [Float](repeating: 0, count: count), weights = sum
        for message in messages {
            try codec.accumulate(Array(message.bytes), weight: message.weight, sum: &sum, weights: &weights)
        }
        let expected = zip(sum, weights).map { $1 > 0 ? $0 / $1 : $0 }
        let mean = try Self.mean(codec, messages, count: count)
        #expect(bits(mean) == bits(expected))
    }

    @Test func `a workspace used before changes nothing`() throws {
        let codec = Codec.sparse(k: 64), workspace = MeanWorkspace()
        for count in [128, 70_000, 5, 4097] {
            let messages = (0..<3).map { rank in
                WeightedMessage(bytes: codec.encode(gaussian(count, seed: UInt64(rank)))[...], weight: 1)
            }
            var target = [Float](repeating: 99, count: count)
            try target.withUnsafeMutableBufferPointer { buffer in
                try codec.contributorMean(of: messages, into: buffer, workspace: workspace)
            }
            let expected = try Self.mean(codec, messages, count: count)
            #expect(bits(target) == bits(expected))
        }
    }

    @Test func `entries are averaged over those who sent them`() throws {
        let codec = Codec.sparse(k: 1)
        var one = [Float](repeating: 0, count: 4096), other = one, third = one
        one[7] = 1
        other[7] = 2
        third[9] = -4
        let messages = [(one, 1), (other, 3), (third, 5)].map {
            WeightedMessage(bytes: codec.encode($0.0)[...], weight: Float($0.1))
        }
        let mean = try Self.mean(codec, messages, count: 4096)
        #expect(mean[7] == 1.75 && mean[9] == -4 && mean.filter { $0 != 0 }.count == 2)
    }

    @Test(arguments: allCodecs)
    func `a refused contribution is named and nothing is written`(codec: Codec) {
        let good = codec.encode(gaussian(300, seed: 1)), bad = Array(good.dropLast())
        let messages = [good, good, bad].map { WeightedMessage(bytes: $0[...], weight: 1) }
        var target = [Float](repeating: 99, count: 300)
        target.withUnsafeMutableBufferPointer { buffer in
            do throws(RefusedContribution) {
                try codec.contributorMean(of: messages, into: buffer)
                Issue.record("accepted")
            } catch {
                #expect(error.position == 2)
            }
        }
        #expect(target.allSatisfy { $0 == 99 })
    }

    @Test(arguments: allCodecs)
    func `clipping scales the values and not the weight`(codec: Codec) throws {
        let values = gaussian(4096, seed: 5), bytes = codec.encode(values)[...]
        let plain = try Self.mean(codec, [WeightedMessage(bytes: bytes, weight: 2)], count: 4096)
        let clipped = try Self.mean(codec, [WeightedMessage(bytes: bytes, weight: 2, clip: 0.25)], count: 4096)
        for (a, b) in zip(plain, clipped) { #expect(abs(a * 0.25 - b) <= 1e-6 * abs(a)) }
    }

    @Test func `norms are clipped to the median of the group`() {
        #expect(normClip(norms: []) == [] && normClip(norms: [5]) == [1] && normClip(norms: [1, 100]) == [1, 1])
        #expect(normClip(norms: [1, 100, 2]) == [1, 0.02, 1])
        #expect(normClip(norms: [4, 1, 8, 2]) == [0.5, 1, 0.25, 1])
        #expect(normClip(norms: [0, 0, 3]) == [1, 1, 1])
    }

    @Test(arguments: allCodecs)
    func `the norm of a message is that of what it decodes to`(codec: Codec) throws {
        for count in [0, 1, 129, 70_000] {
            let bytes = codec.encode(gaussian(count, seed: 6))
            let expected = try codec.decode(bytes, count: count).reduce(0.0) { $0 + Double($1) * Double($1) }
            let sum = try codec.sumOfSquares(bytes[...], count: count)
            #expect(abs(sum - expected) <= 1e-9 * max(1, expected))
        }
    }
}
