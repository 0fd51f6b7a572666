import Exchange
import Kernels
import Primitives
import Testing

/// Low rank against naive sums, and what PowerSGD promises: a warm start that closes in on the best approximation, and
/// error feedback that loses nothing.
struct LowRankTests {
    static let shapes = [[7, 5], [64, 33], [128, 384], [3, 4, 50], [2, 9]]

    static func encode(
        _ values: [Float], _ shape: [Int], rank: Int, feedback: inout [Float], warmStart: WarmStart?
    ) -> [UInt8] {
        values.withUnsafeBufferPointer { numbers in
            feedback.withUnsafeMutableBufferPointer {
                Codec.lowrank(rank: rank).encode(numbers, shape: shape, feedback: $0, warmStart: warmStart)
            }
        }
    }
    static func decode(_ bytes: [UInt8], _ shape: [Int], rank: Int) throws(CodecError) -> [Float] {
        var values = [Float](repeating: 9, count: shape.reduce(1, *))
        let result = values.withUnsafeMutableBufferPointer { target in
            Result { () throws(CodecError) in
                try Codec.lowrank(rank: rank).decode(bytes[...], shape: shape, into: target)
            }
        }
        try result.get()
        return values
    }
    static func norm(_ values: [Float]) -> Float { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }

    @Test(arguments: shapes, [1, 2, 4])
    func `a message decodes to the sum of its factors' products`(shape: [Int], rank: Int) throws {
        guard let (rows, columns) = Codec.matrix(shape, rank: rank) else { return }
        let values = gaussian(rows * columns, seed: 3)
        var feedback = [Float](repeating: 0, count: values.count)
        let bytes = Self.encode(values, shape, rank: rank, feedback: &feedback, warmStart: nil)
        #expect(bytes.count == Codec.lowrank(rank: rank).expectedBytes(for: shape))
        let factors = bytes.withUnsafeBytes { raw in
            (0..<bytes.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
        let decoded = try Self.decode(bytes, shape, rank: rank)
        for i in 0..<rows {
            for j in 0..<columns {
                var sum: Float = 0
                for t in 0..<rank {
                    let product = factors[t * rows + i] * factors[rank * rows + t * columns + j]
                    sum += product
                }
                #expect(sum.bitPattern == decoded[i * columns + j].bitPattern)
                let kept = decoded[i * columns + j] + feedback[i * columns + j]
                #expect(abs(kept - values[i * columns + j]) < 1e-5)
            }
        }
        // Left factors are orthonormal.
        for s in 0..<rank {
            for t in 0...s {
                let dot = (0..<rows).reduce(Float(0)) { $0 + factors[s * rows + $1] * factors[t * rows + $1] }
                #expect(abs(dot - (s == t ? 1 : 0)) < 1e-5)
            }
        }
    }

    @Test func `a matrix of that rank is sent whole, and a warm start finds it again in one step`() throws {
        let shape = [40, 30], warmStart = WarmStart()
        let left = gaussian(80, seed: 1), right = gaussian(60, seed: 2)
        var matrix = [Float](repeating: 0, count: 1200)
        for i in 0..<40 {
            for j in 0..<30 {
                let first = left[i] * right[j], second = left[40 + i] * right[30 + j]
                matrix[i * 30 + j] = first + second
            }
        }
        for _ in 0..<2 {
            var feedback = [Float](repeating: 0, count: 1200)
            let bytes = Self.encode(matrix, shape, rank: 2, feedback: &feedback, warmStart: warmStart)
            #expect(Self.norm(feedback) < 1e-4 * Self.norm(matrix))
            let back = try Self.decode(bytes, shape, rank: 2)
            #expect(zip(back, matrix).allSatisfy { abs($0 - $1) < 1e-4 })
        }
        #expect(warmStart.right.count == 60)
    }

    @Test func `what was not sent once is sent later`() throws {
        let shape = [32, 24], matrix = gaussian(768, seed: 4), warmStart = WarmStart()
        var feedback = [Float](repeating: 0, count: 768), sum = feedback
        for round in 1...200 {
            let bytes = Self.encode(matrix, shape, rank: 2, feedback: &feedback, warmStart: warmStart)
            for (index, value) in try Self.decode(bytes, shape, rank: 2).enumerated() { sum[index] += value }
            if round == 200 {
                let rest = zip(sum, matrix).map { $0 - $1 * 200 }
                #expect(Self.norm(rest) < 0.1 * 200 * Self.norm(matrix))
            }
        }
    }

    @Test func `vectors and matrices that would not shrink are fp32`() throws {
        for shape in [[100], [], [4, 1000], [8, 8], [0, 7]] {
            let values = gaussian(shape.reduce(1, *), seed: 5)
            var feedback = [Float](repeating: 0, count: values.count)
            let bytes = Self.encode(values, shape, rank: 4, feedback: &feedback, warmStart: nil)
            #expect(bytes == Codec.fp32.encode(values))
            #expect(try Self.decode(bytes, shape, rank: 4) == values)
        }
    }

    @Test func `the mean adds decoded messages in their order`() throws {
        let shape = [20, 30], codec = Codec.lowrank(rank: 2)
        var sum = [Float](repeating: 0, count: 600), target = sum
        let messages = try (0..<3).map { rank in
            var feedback = [Float](repeating: 0, count: 600)
            let bytes = Self.encode(
                gaussian(600, seed: UInt64(rank)), shape, rank: 2, feedback: &feedback, warmStart: nil)
            for (index, value) in try Self.decode(bytes, shape, rank: 2).enumerated() {
                let product = Float(rank + 1) * value
                sum[index] += product
            }
            return WeightedMessage(bytes: bytes[...], weight: Float(rank + 1))
        }
        try target.withUnsafeMutableBufferPointer {
            try codec.contributorMean(of: messages, shape: shape, into: $0)
        }
        #expect(bits(target) == bits(sum.map { $0 / 6 }))
    }

    @Test func `what is not finite or too large is refused and waits`() {
        let shape = [20, 30]
        for bad in [Float.nan, .infinity] {
            var values = gaussian(600, seed: 6), feedback = [Float](repeating: 0, count: 600)
            values[77] = bad
            let bytes = Self.encode(values, shape, rank: 2, feedback: &feedback, warmStart: nil)
            #expect(throws: CodecError.notFinite) { try Self.decode(bytes, shape, rank: 2) }
            #expect(feedback.allSatisfy { $0.isFinite })
        }
        var bytes = [UInt8](repeating: 0, count: 400)
        #expect((try? Self.decode(bytes, shape, rank: 2)) != nil)
        bytes[3] = 0x41  // a left factor of 8
        #expect(throws: CodecError.self) { try Self.decode(bytes, shape, rank: 2) }
        bytes[3] = 0
        bytes[163] = 0x7D  // a right factor above 2¹²⁰
        #expect(throws: CodecError.self) { try Self.decode(bytes, shape, rank: 2) }
        #expect(throws: CodecError.self) { try Self.decode(Array(bytes.dropLast()), shape, rank: 2) }
    }
}
