import Primitives

/// A shuffled order of 0..<count as a function: any place costs a few operations, nothing is kept. A Feistel network over
/// the next power of four, walked until it lands inside (Black & Rogaway 2002, “Ciphers with arbitrary finite domains”).
public struct IndexPermutation: Hashable, Sendable {
    public let count: Int
    private let halfBits: UInt64
    private let keys: [UInt64]
    private static let rounds = 4

    /// The same seed and stream give the same order for ever.
    public init(count: Int, seed: UInt64, stream: UInt64) {
        precondition(count > 0, "an order of \(count)")
        self.count = count
        let bits = UInt64(Int.bitWidth - (count - 1).leadingZeroBitCount)
        halfBits = max(1, (bits + 1) / 2)
        var generator = SeededGenerator(seed: seed, stream: stream)
        keys = (0..<Self.rounds).map { _ in generator.next() }
    }

    /// What comes at place `index`.
    public subscript(index: Int) -> Int {
        precondition(index >= 0 && index < count, "place \(index) of \(count)")
        let mask = (UInt64(1) << halfBits) - 1
        var value = UInt64(index)
        repeat {
            var left = value >> halfBits
            var right = value & mask
            for key in keys {
                var mixed = (right ^ key) &* 0x9E37_79B9_7F4A_7C15
                mixed ^= mixed >> 29
                mixed = mixed &* 0xBF58_476D_1CE4_E5B9
                (left, right) = (right, left ^ (mixed >> 32 & mask))
            }
            value = left << halfBits | right
        } while value >= UInt64(count)
        return Int(value)
    }
}
