import Exchange
import Primitives

/// Counts at which tiles, blocks, runs and bytes end badly.
let oddCounts = [0, 1, 2, 15, 16, 17, 127, 128, 255, 256, 257, 4095, 4096, 4097, 65_535, 65_537, 70_000]
let allCodecs: [Codec] = [
    .fp32, .bf16, .fp16, .int8, .int4, .sparse(k: 1), .sparse(k: 7), .sparse(k: 32), .sparse(k: 64), .sparse(k: 128),
    .sparse(k: 256), .sparse(k: 1024), .sparse(k: 1, values: .sign), .sparse(k: 64, values: .sign),
    .sparse(k: 1024, values: .sign), .sparse(k: 7, values: .twoBit), .sparse(k: 64, values: .twoBit),
    .sparse(k: 1024, values: .twoBit),
]

/// Roughly normal numbers (a sum of four uniform ones) times `scale`.
func gaussian(_ count: Int, seed: UInt64, scale: Float = 1) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in
        let word = generator.next()
        let sum = (0..<4).reduce(0) { $0 + Int(truncatingIfNeeded: word >> (16 * UInt64($1)) & 0xFFFF) }
        return scale * Float(sum - 131_070) / 37_837
    }
}

extension Codec {
    func encode(_ values: [Float]) -> [UInt8] { values.withUnsafeBufferPointer { encode($0, feedback: nil) } }
    func encode(_ values: [Float], feedback: inout [Float]) -> [UInt8] {
        values.withUnsafeBufferPointer { numbers in
            feedback.withUnsafeMutableBufferPointer { encode(numbers, feedback: $0) }
        }
    }
    func decode(_ bytes: [UInt8], count: Int) throws(CodecError) -> [Float] {
        var values = [Float](repeating: -12345, count: count)
        try decode(bytes[...], over: &values)
        return values
    }
    func decode(_ bytes: ArraySlice<UInt8>, over values: inout [Float]) throws(CodecError) {
        let result = values.withUnsafeMutableBufferPointer { target in
            Result { () throws(CodecError) in try decode(bytes, into: target) }
        }
        try result.get()
    }
    func accumulate(_ bytes: [UInt8], weight: Float, sum: inout [Float], weights: inout [Float]) throws(CodecError) {
        let result = sum.withUnsafeMutableBufferPointer { sums in
            weights.withUnsafeMutableBufferPointer { totals in
                Result { () throws(CodecError) in
                    try decodeAccumulate(bytes[...], weight: weight, into: sums, weights: totals)
                }
            }
        }
        try result.get()
    }
}

/// Bit patterns, so that −0 and 0 differ and NaN equals itself.
func bits(_ values: [Float]) -> [UInt32] { values.map(\.bitPattern) }
