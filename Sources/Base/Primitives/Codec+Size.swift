// What messages weigh before they exist. Formats: docs/WIRE.md, “Codecs”.

extension Codec {
    /// Values in a tile of the sparse codec, and tiles in a group.
    private static let tile = 4096
    private static let group = 16

    /// Bits for each value of a large tensor: exact for the codecs of fixed width, expected for `sparse` (entries spread
    /// evenly), and for `lowrank` that of a matrix [1024, 1024].
    public var bitsPerValue: Double {
        switch self {
        case .fp32: 32
        case .bf16, .fp16: 16
        case .int8: 8 + 32.0 / 256
        case .int4: 4 + 32.0 / 256
        case .sparse(let k, let values):
            (SparseSize.tileBits[k - 1] + Double(values.symbolBits * k) + 1 + Double(values.headerBits) / 16) / 4096
        case .lowrank(let rank): 32 * Double(rank) * 2 / 1024
        }
    }

    /// Expected bytes for a tensor of `count` values; exact for the codecs of fixed width. For `lowrank` that is a
    /// vector's: ask with a shape.
    public func expectedBytes(for count: Int) -> Int {
        let scales = 4 * ((count + 255) / 256)
        switch self {
        case .fp32, .lowrank: return 4 * count
        case .bf16, .fp16: return 2 * count
        case .int8: return scales + count
        case .int4: return scales + (count + 1) / 2
        case .sparse(let k, let values):
            guard count > 0 else { return 0 }
            let whole = count / Self.tile, rest = count % Self.tile, tiles = whole + (rest > 0 ? 1 : 0)
            let symbols = Double(values.symbolBits)
            var bits = Double(whole) * (SparseSize.tileBits[k - 1] + symbols * Double(k))
            if rest > 0 {
                let entries = SparseSize.entries(of: rest, k: k)
                // A tensor of one short tile chooses its own divisor; in a larger one it hardly counts.
                bits += SparseSize.indexBits(of: rest, entries: entries) + symbols * Double(entries)
            }
            let groups = (tiles + Self.group - 1) / Self.group
            bits += Double(tiles + groups * values.headerBits)
            return Int((bits / 8).rounded(.up))
        }
    }

    /// Expected bytes for a tensor of a shape.
    public func expectedBytes(for shape: [Int]) -> Int {
        let count = shape.reduce(1, *)
        guard case .lowrank(let rank) = self, let (rows, columns) = Self.matrix(shape, rank: rank) else {
            return expectedBytes(for: count)
        }
        return 4 * rank * (rows + columns)
    }

    /// The matrix that `lowrank` takes a shape for, the first dimension by all others; nil if two factors of this rank
    /// would not be smaller than the tensor, which is then written as fp32.
    public static func matrix(_ shape: [Int], rank: Int) -> (rows: Int, columns: Int)? {
        guard shape.count > 1, let rows = shape.first else { return nil }
        let columns = shape.dropFirst().reduce(1, *)
        guard rows > 0, columns > 0, rank < min(rows, columns), rank * (rows + columns) < rows * columns else {
            return nil
        }
        return (rows, columns)
    }
}

extension SparseValues {
    /// Bits of one entry's symbol, and of a group's header.
    public var symbolBits: Int { self == .sign ? 1 : 2 }
    public var headerBits: Int {
        switch self {
        case .sign: 18
        case .signMagnitude: 24
        case .twoBit: 44
        }
    }
}

/// Expected lengths of Golomb-coded indices.
private enum SparseSize {
    static let divisors: [(divisor: Int, pairBits: Int)] = [
        (1, 0), (2, 2), (4, 4), (5, 5), (8, 6), (11, 7), (16, 8), (22, 9), (32, 10), (45, 11), (64, 12), (90, 13),
        (128, 14), (181, 15), (256, 16), (512, 18),
    ]
    /// Index bits of a whole tile, k = 1 first.
    static let tileBits: [Double] = (1...1024).map { indexBits(of: 4096, entries: $0) }

    /// Entries that a tile of m values sends.
    static func entries(of m: Int, k: Int) -> Int { min(m, max((k * m + 4095) / 4096, min(k, 4))) }

    /// Bits of the indices of `entries` entries spread evenly over m values, with the divisor that needs fewest.
    ///
    /// All gaps of a uniformly drawn subset are distributed alike, P(gap ≥ x) = C(m − x, E) ÷ C(m, E), and a quotient's
    /// expectation is Σ over j ≥ 1 of P(gap ≥ j · divisor).
    static func indexBits(of m: Int, entries: Int) -> Double {
        var quotients = [Double](repeating: 0, count: divisors.count)
        var probability = 1.0
        var x = 0
        while x < m - entries {
            probability *= Double(m - x - entries) / Double(m - x)
            x += 1
            if probability < 1e-9 { break }
            for (index, code) in divisors.enumerated() where x % code.divisor == 0 { quotients[index] += probability }
        }
        let pairs = Double((entries + 1) / 2)
        return zip(divisors, quotients).map { code, quotient in
            pairs * Double(code.pairBits) + Double(entries) * (1 + quotient)
        }.min() ?? 0
    }
}
