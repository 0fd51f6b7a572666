import Exchange
import Primitives
import Training
import Wire

/// What a faulty or malicious member does wrong on purpose.
public enum Lie: Hashable, Sendable {
    /// Owned chunks are added up wrongly, a little, and everybody is told the same.
    case wrongSums
    /// Chunks of others, which it is given to audit, are added up wrongly. (Its own are those of its first round.)
    case wrongAudits
    /// Contributions that are not finite.
    case notFinite
    /// Contributions a thousand times too large.
    case tooLarge
    /// Says of every chunk that `rank` contributes something that does not decode.
    case accuses(rank: Int)
}

/// An engine that lies; the rest it does like the one below. For fp32 contributions.
struct LyingEngine: Engine {
    var base: any Engine
    let lie: Lie
    private var owned: Set<[Int]> = []
    private var knowsItsOwn = false

    init(base: any Engine, lie: Lie) {
        self.base = base
        self.lie = lie
    }

    mutating func perform(_ job: ComputeJob) -> ComputeResult {
        let result = base.perform(job)
        switch (lie, job, result) {
        case (.wrongSums, .averageChunk(let unit, let chunk, _, _), .chunk(var bytes)):
            if !knowsItsOwn { owned.insert([unit, chunk]) }
            guard owned.contains([unit, chunk]) else { return result }
            // The last bit but one of the first value's exponent: of another size, and finite.
            bytes[4 + 3] ^= 1
            return .chunk(bytes)
        case (.wrongAudits, .averageChunk(let unit, let chunk, _, _), .chunk(var bytes)):
            if !knowsItsOwn { owned.insert([unit, chunk]) }
            if owned.contains([unit, chunk]) { return result }
            bytes[4 + 3] ^= 1
            return .chunk(bytes)
        case (.wrongAudits, .applyAggregates, _), (.wrongSums, .applyAggregates, _), (.wrongSums, .outerStep, _):
            knowsItsOwn = true
            return result
        case (.notFinite, .encodeContribution, .contribution(let units)):
            return .contribution(units.map { changed($0) { $0 == 0 ? .infinity : $1 } })
        case (.tooLarge, .encodeContribution, .contribution(let units)):
            return .contribution(units.map { changed($0) { 1000 * $1 } })
        case (.accuses(let rank), .averageChunk(_, _, let parts, _), _) where parts.contains { $0.rank == rank }:
            return .chunkRefused(rank: rank, "so it says")
        case (.accuses(let rank), .checkContribution(let part), _) where part.rank == rank:
            return .refused("so it says")
        default: return result
        }
    }

    private func changed(_ part: UnitContribution, _ value: (Int, Float) -> Float) -> UnitContribution {
        var bytes = part.bytes.all!
        var start = 0
        var index = 0
        func word(_ at: Int) -> UInt32 { bytes[at..<at + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) } }
        while start + 4 <= bytes.count {
            let length = Int(word(start))
            for at in stride(from: start + 4, to: min(bytes.count - 3, start + 4 + length), by: 4) {
                let changed = value(index, Float(bitPattern: word(at)))
                withUnsafeBytes(of: changed.bitPattern.littleEndian) {
                    bytes.replaceSubrange(at..<at + 4, with: $0)
                }
                index += 1
            }
            start += 4 + length
        }
        return UnitContribution(unit: part.unit, node: part.node, bytes: bytes)
    }
}
