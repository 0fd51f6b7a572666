/// What is here, and what is missing.
extension GroupExchange {
    /// A member's contribution to a unit by chunk; nil while a chunk is missing.
    public func contribution(of other: Int, unit: Int) -> [[UInt8]]? {
        chunks(unit) { part(of: other, unit: unit, chunk: $0) }
    }

    /// The sums of a unit by chunk; nil while one is missing.
    public func aggregates(unit: Int) -> [[UInt8]]? { chunks(unit) { aggregate(unit: unit, chunk: $0) } }

    private func chunks(_ unit: Int, _ bytes: (Int) -> [UInt8]?) -> [[UInt8]]? {
        guard let limits = units.first(where: { $0.unit == unit })?.contributionLimits else { return nil }
        var out: [[UInt8]] = []
        out.reserveCapacity(limits.count)
        for chunk in limits.indices {
            guard let here = bytes(chunk) else { return nil }
            out.append(here)
        }
        return out
    }

    /// Who owns a chunk, by rank; nil without owners, and where there is no such chunk.
    public func owner(unit: Int, chunk: Int) -> Int? {
        guard hasOwners, let index = units.firstIndex(where: { $0.unit == unit }),
            order.owners[index].indices.contains(chunk)
        else { return nil }
        return order.owners[index][chunk]
    }

    /// Who is waited for, and for what.
    public struct Waiting: Hashable, Sendable {
        public var rank: Int
        /// From the first unit that something is missing of to the last.
        public var units: Range<Int>
        /// For a contribution, else for a sum.
        public var contribution: Bool
        /// Chunks missing of it.
        public var chunks: Int
    }

    /// Whom this member waits for most. A contribution that is missing here holds up everybody, so it is named first.
    public var waitsFor: Waiting? {
        guard !isComplete else { return nil }
        var contributions: [Int: Waiting] = [:]
        var sums: [Int: Waiting] = [:]
        for (index, unit) in units.enumerated() {
            for chunk in unit.contributionLimits.indices {
                if hasOwners, order.owners[index][chunk] != rank {
                    let owner = order.owners[index][chunk]
                    guard aggregate(unit: unit.unit, chunk: chunk) == nil else { continue }
                    count(owner, unit.unit, contribution: false, into: &sums)
                    continue
                }
                if hasOwners, aggregate(unit: unit.unit, chunk: chunk) != nil { continue }
                // Waiting for oneself (the contribution is not computed yet) is nobody else's fault.
                for contributor in order.contributors
                where contributor != rank && part(of: contributor, unit: unit.unit, chunk: chunk) == nil {
                    count(contributor, unit.unit, contribution: true, into: &contributions)
                }
            }
        }
        let waiting = contributions.isEmpty ? sums : contributions
        return waiting.keys.sorted().map { waiting[$0]! }.max { $0.chunks < $1.chunks }
    }

    private func count(_ rank: Int, _ unit: Int, contribution: Bool, into counts: inout [Int: Waiting]) {
        var entry =
            counts[rank] ?? Waiting(rank: rank, units: unit..<unit + 1, contribution: contribution, chunks: 0)
        entry.units = min(entry.units.lowerBound, unit)..<max(entry.units.upperBound, unit + 1)
        entry.chunks += 1
        counts[rank] = entry
    }
}
