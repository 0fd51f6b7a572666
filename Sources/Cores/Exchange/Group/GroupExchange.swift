public import Primitives

/// One member's part in the exchange of its units over their layer groups, where chunks have owners: contributions go to
/// the owners, who have them added in rank order, and the sums go to everybody. No address, no arithmetic, no clock.
///
/// A member is known by its pipeline's rank: the holder of a unit in that pipeline. What it holds is bounded by what its
/// own units and the group's size say; what does not fit is refused and the sender named.
public struct GroupExchange: Sendable {
    public enum Effect: Hashable, Sendable {
        case sendContribution(unit: Int, chunk: Int, [UInt8], to: Int)
        /// Add these up: one of each contributor, in rank order. Answer with ``aggregated(unit:chunk:_:)``.
        case aggregate(unit: Int, chunk: Int, [Ranked])
        case sendAggregate(unit: Int, chunk: Int, [UInt8], to: Int)
        /// Every chunk's sum is here.
        case complete
        case refused(rank: Int, String)
    }
    public struct Ranked: Hashable, Sendable {
        public var rank: Int
        /// Micro-batches counted in it.
        public var weight: Int
        public var bytes: [UInt8]
        public init(rank: Int, weight: Int, bytes: [UInt8]) {
            self.rank = rank
            self.weight = weight
            self.bytes = bytes
        }
    }
    /// A unit of this member's: the owner of each chunk by rank, and the most bytes that a part may have.
    public struct Unit: Hashable, Sendable {
        public var unit: Int
        public var owners: [Int]
        public var contributionLimits: [Int]
        public var aggregateLimits: [Int]
        public init(unit: Int, owners: [Int], contributionLimits: [Int], aggregateLimits: [Int]) {
            self.unit = unit
            self.owners = owners
            self.contributionLimits = contributionLimits
            self.aggregateLimits = aggregateLimits
        }
    }
    private struct Key: Hashable {
        var unit: Int
        var chunk: Int
    }

    public let rank: Int
    /// Ranks whose contributions are added, ascending.
    public let contributors: [Int]
    /// Ranks that are sent the sums.
    public let members: [Int]
    public let units: [Unit]
    private let position: [Int: Int]
    private var parts: [Key: [Ranked]] = [:]
    private var sums: [Key: [UInt8]] = [:]
    private var missing: Int
    private var effects = EffectQueue<Effect>()
    public private(set) var isComplete = false

    public init(rank: Int, contributors: [Int], members: [Int], units: [Unit]) {
        self.rank = rank
        self.contributors = contributors
        self.members = members
        self.units = units
        position = Dictionary(uniqueKeysWithValues: units.indices.map { (units[$0].unit, $0) })
        missing = units.reduce(0) { $0 + $1.owners.count }
    }

    public mutating func poll() -> Effect? { effects.pop() }

    // MARK: inputs

    /// This member's own contribution to a unit, by chunk. Chunk by chunk to whoever owns it, so that all owners can begin.
    public mutating func contribute(unit: Int, weight: Int, chunks: [[UInt8]]) {
        guard contributors.contains(rank), let index = position[unit] else { return }
        precondition(chunks.count == units[index].owners.count, "\(chunks.count) chunks of unit \(unit)")
        for (chunk, bytes) in chunks.enumerated() {
            let owner = units[index].owners[chunk]
            if owner == rank {
                add(Ranked(rank: rank, weight: weight, bytes: bytes), Key(unit: unit, chunk: chunk))
            } else {
                effects.push(.sendContribution(unit: unit, chunk: chunk, bytes, to: owner))
            }
        }
    }

    /// Another member's contribution to a chunk that this one owns. Repeated ones are passed over: the first counts.
    public mutating func receive(contribution bytes: [UInt8], weight: Int, unit: Int, chunk: Int, from sender: Int) {
        guard let unit = check(unit, chunk, sender), contributors.contains(sender) else { return }
        guard unit.owners[chunk] == rank else {
            return effects.push(.refused(rank: sender, "chunk \(chunk) of unit \(unit.unit) has another owner"))
        }
        guard bytes.count <= unit.contributionLimits[chunk] else {
            return effects.push(.refused(rank: sender, oversized(bytes.count, unit.contributionLimits[chunk])))
        }
        guard (1...1_000_000).contains(weight) else {
            return effects.push(.refused(rank: sender, "counts \(weight) micro-batches"))
        }
        add(Ranked(rank: sender, weight: weight, bytes: bytes), Key(unit: unit.unit, chunk: chunk))
    }

    private mutating func add(_ part: Ranked, _ key: Key) {
        guard sums[key] == nil, parts[key]?.contains(where: { $0.rank == part.rank }) != true else { return }
        parts[key, default: []].append(part)
        guard parts[key]!.count == contributors.count else { return }
        let ranked = parts[key]!.sorted { $0.rank < $1.rank }
        effects.push(.aggregate(unit: key.unit, chunk: key.chunk, ranked))
    }

    /// The arithmetic's answer: it goes to everybody.
    public mutating func aggregated(unit: Int, chunk: Int, _ bytes: [UInt8]) {
        let key = Key(unit: unit, chunk: chunk)
        guard parts.removeValue(forKey: key) != nil, sums[key] == nil else { return }
        for member in members where member != rank {
            effects.push(.sendAggregate(unit: unit, chunk: chunk, bytes, to: member))
        }
        keep(bytes, key)
    }

    public mutating func receive(aggregate bytes: [UInt8], unit: Int, chunk: Int, from sender: Int) {
        guard let unit = check(unit, chunk, sender) else { return }
        guard unit.owners[chunk] == sender else {
            return effects.push(.refused(rank: sender, "chunk \(chunk) of unit \(unit.unit) has another owner"))
        }
        guard bytes.count <= unit.aggregateLimits[chunk] else {
            return effects.push(.refused(rank: sender, oversized(bytes.count, unit.aggregateLimits[chunk])))
        }
        let key = Key(unit: unit.unit, chunk: chunk)
        if sums[key] == nil { keep(bytes, key) }
    }

    private mutating func keep(_ bytes: [UInt8], _ key: Key) {
        sums[key] = bytes
        missing -= 1
        if missing == 0 {
            isComplete = true
            effects.push(.complete)
        }
    }

    private mutating func check(_ unit: Int, _ chunk: Int, _ sender: Int) -> Unit? {
        guard sender != rank, members.contains(sender), let index = position[unit] else { return nil }
        guard units[index].owners.indices.contains(chunk) else {
            effects.push(.refused(rank: sender, "unit \(unit) has \(units[index].owners.count) chunks, no \(chunk)"))
            return nil
        }
        return units[index]
    }
    private func oversized(_ bytes: Int, _ limit: Int) -> String { "\(bytes) bytes where at most \(limit) can be" }

    // MARK: state

    /// The sums of a unit by chunk; nil while one is missing.
    public func aggregates(unit: Int) -> [[UInt8]]? {
        guard let index = position[unit] else { return nil }
        var out: [[UInt8]] = []
        for chunk in units[index].owners.indices {
            guard let bytes = sums[Key(unit: unit, chunk: chunk)] else { return nil }
            out.append(bytes)
        }
        return out
    }

    /// The rank of whom this member waits for most, and whether for a contribution (else for a sum). A contribution that is
    /// missing here holds up everybody, so it is named first.
    public var waitsFor: (rank: Int, unit: Int, contribution: Bool)? {
        guard !isComplete else { return nil }
        var contributions: [Int: (count: Int, unit: Int)] = [:]
        var aggregates: [Int: (count: Int, unit: Int)] = [:]
        for unit in units {
            for (chunk, owner) in unit.owners.enumerated() where sums[Key(unit: unit.unit, chunk: chunk)] == nil {
                guard owner == rank else {
                    aggregates[owner, default: (0, unit.unit)].count += 1
                    continue
                }
                let here = parts[Key(unit: unit.unit, chunk: chunk)] ?? []
                for contributor in contributors where !here.contains(where: { $0.rank == contributor }) {
                    contributions[contributor, default: (0, unit.unit)].count += 1
                }
            }
        }
        // Waiting for oneself (the contribution is not computed yet) is nobody else's fault.
        contributions[rank] = nil
        let isContribution = !contributions.isEmpty
        let counts = isContribution ? contributions : aggregates
        guard let most = counts.keys.sorted().max(by: { counts[$0]!.count < counts[$1]!.count }) else { return nil }
        return (most, counts[most]!.unit, isContribution)
    }
}
