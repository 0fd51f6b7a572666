import Primitives

/// Which source each sequence comes from, in shares given by weights. A function of the seed and of the sequence's number: among
/// the first k sequences a source has its share of k, at every k, to within a few; nothing is drawn, so nothing need be replayed.
///
/// The sources are the leaves of a balanced tree. At each fork the left side has ⌊k·p + φ⌋ of the first k, p being its
/// share and φ its phase from the seed.
public struct Mixture: Hashable, Sendable {
    private struct Fork: Hashable {
        /// Of what comes to this fork, × 2³².
        var leftShare: UInt64
        var phase: UInt64
    }
    public let weights: [Double]
    private let forks: [Fork?]
    private let leaves: Int
    private let block: IndexPermutation
    /// Sequences that are shuffled among themselves, so that no pattern meets the pattern of a batch.
    static let blockLength = 1024
    public static let mostSources = 1024

    /// Positive weights, at most 1024 of them; their sum does not matter.
    public init(weights: [Double], seed: UInt64) throws(DatasetError) {
        guard (1...Self.mostSources).contains(weights.count), weights.allSatisfy({ $0.isFinite && $0 > 0 }) else {
            throw .badMixture(
                problem: "weights \(weights.prefix(8)): 1 to 1024 positive numbers are needed, one for each source")
        }
        let largest = weights.max() ?? 1
        guard weights.allSatisfy({ $0 / largest > 1e-6 }) else {
            throw .badMixture(problem: "a weight is less than a millionth of another; leave that source out")
        }
        self.weights = weights
        var leaves = 1
        while leaves < weights.count { leaves *= 2 }
        self.leaves = leaves
        // Sums in the tree: node n has children 2n and 2n+1, leaf s is leaves + s.
        var sums = [Double](repeating: 0, count: 2 * leaves)
        for (source, weight) in weights.enumerated() { sums[leaves + source] = weight }
        for node in (1..<max(1, leaves)).reversed() { sums[node] = sums[2 * node] + sums[2 * node + 1] }
        var generator = SeededGenerator(seed: seed, stream: 0x6D69_7874)
        var forks: [Fork?] = [nil]
        for node in 1..<max(1, leaves) {
            let phase = generator.next() >> 32
            let share = sums[node] > 0 ? sums[2 * node] / sums[node] : 1
            forks.append(Fork(leftShare: UInt64((share * 0x1p32).rounded()), phase: phase))
        }
        self.forks = forks
        block = IndexPermutation(count: Self.blockLength, seed: seed, stream: 0x626C_6F63)
    }

    /// The source of sequence `number`, and how many of that source came before it.
    public func place(_ number: Int) -> (source: Int, index: Int) {
        precondition(number >= 0, "sequence \(number)")
        let base = number / Self.blockLength * Self.blockLength
        var index = base + block[number - base]
        var node = 1
        while node < leaves {
            let fork = forks[node]!
            let before = Self.left(fork, index), after = Self.left(fork, index + 1)
            if after > before {
                index = before
                node = 2 * node
            } else {
                index -= before
                node = 2 * node + 1
            }
        }
        return (node - leaves, index)
    }

    /// How many of the first `count` go left.
    private static func left(_ fork: Fork, _ count: Int) -> Int {
        let (high, low) = UInt64(count).multipliedFullWidth(by: fork.leftShare)
        let (sum, carries) = low.addingReportingOverflow(fork.phase)
        return Int(high + (carries ? 1 : 0)) << 32 | Int(sum >> 32)
    }
}
