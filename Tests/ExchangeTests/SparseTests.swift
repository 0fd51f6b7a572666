import Exchange
import Primitives
import Testing

/// The sparse codec against a model that sorts, and against the entropy limit.
struct SparseTests {
    /// Entries sent of a tile of m values.
    static func sent(of m: Int, k: Int) -> Int { min(m, max((k * m + 4095) / 4096, min(k, 4))) }

    /// Indexes of the largest magnitudes, tile by tile; of equal ones the first.
    static func largest(_ values: [Float], k: Int) -> Set<Int> {
        var chosen: Set<Int> = []
        for start in stride(from: 0, to: values.count, by: 4096) {
            let tile = start..<min(values.count, start + 4096)
            let sorted = tile.sorted { (abs(values[$0]), $1) > (abs(values[$1]), $0) }
            chosen.formUnion(sorted.prefix(sent(of: tile.count, k: k)))
        }
        return chosen
    }

    @Test(arguments: [1, 4, 64, 200, 1024], [1, 5, 128, 4095, 4096, 4097, 9000])
    func `the entries sent are the largest of each tile`(k: Int, count: Int) throws {
        for seed in 0..<4 {
            var values = gaussian(count, seed: UInt64(seed))
            if seed % 2 == 1 { values = values.map { ($0 * 8).rounded() / 8 } }
            let decoded = try Codec.sparse(k: k).decode(Codec.sparse(k: k).encode(values), count: count)
            let expected = Self.largest(values, k: k)
            for index in 0..<count where !expected.contains(index) { #expect(decoded[index] == 0) }
            for index in expected where values[index] != 0 {
                #expect(decoded[index] * values[index] > 0, "sign of \(index)")
            }
        }
    }

    @Test func `two magnitudes leave less than a hundredth of the energy that was chosen`() throws {
        let values = gaussian(1 << 18, seed: 3)
        let decoded = try Codec.sparse(k: 64).decode(Codec.sparse(k: 64).encode(values), count: values.count)
        var energy = 0.0, error = 0.0
        for (value, sent) in zip(values, decoded) where sent != 0 {
            energy += Double(value * value)
            error += Double((value - sent) * (value - sent))
        }
        #expect(error < 0.01 * energy)
    }

    /// log₂ C(n, k) as a sum of logarithms' differences, by products kept in range.
    static func logBinomial(_ n: Int, _ k: Int) -> Double {
        var product = 1.0, exponent = 0.0
        for i in 0..<k {
            product *= Double(n - i) / Double(i + 1)
            while product >= 2 {
                product /= 2
                exponent += 1
            }
        }
        // Below one bit of one whole tile: linear interpolation errs by less than 0.09 bits.
        return exponent + product - 1
    }

    @Test(arguments: [32, 64, 128, 256], SparseValues.allCases)
    func `a large tensor takes at most 1.02 times the entropy limit`(k: Int, values: SparseValues) throws {
        let count = 1 << 20, codec = Codec.sparse(k: k, values: values)
        var feedback = [Float](repeating: 0, count: count)
        for round in 0..<2 {
            let bytes = codec.encode(gaussian(count, seed: UInt64(round)), feedback: &feedback)
            let limit = Double(count / 4096) * (Self.logBinomial(4096, k) + Double(values == .sign ? k : 2 * k))
            // The second sign's magnitudes weigh when there are few entries.
            #expect(Double(bytes.count) * 8 <= (values == .twoBit && k == 32 ? 1.025 : 1.02) * limit)
            let stated = try #require(codec.entropyLimit(count: count, message: bytes[...]))
            #expect(abs(stated - limit) <= 0.001 * limit)
        }
    }

    @Test(arguments: [16, 32, 64, 128, 256, 1024], SparseValues.allCases)
    func `the size is predicted within a half per cent`(k: Int, values: SparseValues) {
        let codec = Codec.sparse(k: k, values: values)
        for count in [1 << 20, 70_000, 4096, 1000] {
            let bytes = codec.encode(gaussian(count, seed: 21)).count, expected = codec.expectedBytes(for: count)
            let tolerance = max(0.005 * Double(bytes), count < 1 << 20 ? 0.04 * Double(bytes) + 3 : 0)
            #expect(abs(Double(bytes - expected)) <= tolerance, "\(count): \(bytes), predicted \(expected)")
        }
        let large = Double(codec.expectedBytes(for: 1 << 20) * 8) / Double(1 << 20)
        #expect(abs(large - codec.bitsPerValue) <= 0.001 * large)
    }

    @Test func `k = 64 takes 0.1482 bits a value`() {
        #expect(abs(Codec.sparse(k: 64).bitsPerValue - 0.1482) < 0.0001)
    }

    @Test func `two levels a sign follow a lopsided tensor`() throws {
        // Positive values are four times larger than negative ones.
        let values = gaussian(1 << 16, seed: 5).map { $0 > 0 ? 4 * $0 : $0 }
        var squares: [Double] = []
        for kind in [SparseValues.sign, .signMagnitude, .twoBit] {
            let codec = Codec.sparse(k: 1024, values: kind)
            let back = try codec.decode(codec.encode(values), count: values.count)
            squares.append(
                zip(values, back).reduce(0.0) { $0 + ($1.1 == 0 ? 0 : Double(($1.0 - $1.1) * ($1.0 - $1.1))) })
        }
        #expect(squares[2] <= squares[1] && squares[1] < squares[0])
    }

    @Test func `a sender may let its feedback decay faster`() {
        let values = gaussian(5000, seed: 1)
        for decay in [Float(0), 0.5, 1] {
            var feedback = [Float](repeating: 2, count: 5000)
            let wanted = zip(values, feedback).map { $1 * decay + $0 }
            let bytes = values.withUnsafeBufferPointer { numbers in
                feedback.withUnsafeMutableBufferPointer {
                    Codec.sparse(k: 7).encode(numbers, feedback: $0, decay: decay)
                }
            }
            #expect(bytes == Codec.sparse(k: 7).encode(wanted))
        }
    }

    @Test func `a small model of many tensors takes at most 1.02 times the entropy limit`() {
        // 128 wide, 6 layers of 9 tensors, byte vocabulary: 1.3 million parameters.
        let layer = [128 * 128, 128 * 128, 128 * 128, 128 * 128, 384 * 128, 384 * 128, 384 * 128, 128, 128]
        let tensors = [256 * 128, 128, 256 * 128] + Array(repeating: layer, count: 6).flatMap { $0 }
        var bytes = 0, limit = 0.0
        for (index, count) in tensors.enumerated() {
            bytes += Codec.sparse(k: 64).encode(gaussian(count, seed: UInt64(index))).count
            for start in stride(from: 0, to: count, by: 4096) {
                let m = min(4096, count - start), entries = Self.sent(of: m, k: 64)
                limit += Self.logBinomial(m, entries) + 2 * Double(entries)
            }
        }
        #expect(Double(bytes) * 8 <= 1.02 * limit, "\(Double(bytes) * 8 / limit)")
    }

    @Test func `what was not sent once is sent later`() throws {
        let codec = Codec.sparse(k: 64), count = 4096
        let values = gaussian(count, seed: 8)
        var feedback = [Float](repeating: 0, count: count), seen = Set<Int>()
        for _ in 0..<60 {
            let bytes = values.withUnsafeBufferPointer { numbers in
                feedback.withUnsafeMutableBufferPointer { codec.encode(numbers, feedback: $0, decay: 0.95) }
            }
            let decoded = try codec.decode(bytes, count: count)
            seen.formUnion(decoded.indices.filter { decoded[$0] != 0 })
        }
        #expect(seen.count > 1000)
    }

    @Test func `a quiet tile is sent magnitudes of its own, and an empty one nothing`() throws {
        let codec = Codec.sparse(k: 64)
        // Four tiles: as they are, a tenth, a hundred-thousandth, zeros.
        let scales: [Float] = [1, 0.1, 1e-5, 0]
        let values = gaussian(4 * 4096, seed: 12).enumerated().map { $0.element * scales[$0.offset / 4096] }
        var feedback = [Float](repeating: 0, count: values.count)
        let decoded = try codec.decode(codec.encode(values, feedback: &feedback), count: values.count)
        for index in values.indices where decoded[index] != 0 {
            #expect(abs(decoded[index] - values[index]) < 0.5 * abs(values[index]))
        }
        let sent = (0..<4).map { tile in decoded[tile * 4096..<(tile + 1) * 4096].filter { $0 != 0 }.count }
        #expect(sent == [64, 64, 0, 0])
        #expect(feedback[8192...].elementsEqual(values[8192...]))
    }

    @Test func `a tensor of zeros costs a header and three bits a tile`() throws {
        let zeros = [Float](repeating: 0, count: 20 * 4096)
        let bytes = Codec.sparse(k: 64).encode(zeros)
        #expect(bytes.count == (2 * 24 + 20 * 3 + 7) / 8)
        #expect(try Codec.sparse(k: 64).decode(bytes, count: zeros.count) == zeros)
    }

    @Test func `messages of constant tensors are bounded too`() {
        for k in [1, 64, 1024] {
            let codec = Codec.sparse(k: k)
            for count in [1, 100, 4096, 20_000] {
                let bytes = codec.encode([Float](repeating: 1, count: count))
                #expect(bytes.count <= codec.maximumBytes(for: count))
            }
        }
    }
}
