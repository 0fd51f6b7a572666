import Primitives

/// One member's part in the exchange of its units over their layer groups, for one round. No address, no arithmetic, no
/// clock.
///
/// A member is known by its pipeline's rank: the holder of a unit in that pipeline. ``Order`` says who contributes and who
/// owns which chunk. Without owners every contribution goes to every member (all-gather). With owners a contribution to a
/// chunk goes to the chunk's owner, who has them added in rank order and sends the sum to everybody.
///
/// A new order may come at any time, when somebody has left or an owner is not believed. Contributions stay as they are:
/// what has been sent is not sent again, what is here is not lost. Sums are made anew, because others are in them.
///
/// What it holds is bounded by its own units and the group's size: one part of each member for each chunk, each of at most
/// the layout's bytes. What does not fit is refused and the sender named.
public struct GroupExchange: Sendable {
    public enum Effect: Hashable, Sendable {
        case sendContribution(unit: Int, chunk: Int, [UInt8], to: Int)
        /// Add these up: one of each contributor, in rank order. Answer with ``aggregated(unit:chunk:_:)``.
        case aggregate(unit: Int, chunk: Int, [Ranked])
        case sendAggregate(unit: Int, chunk: Int, [UInt8], to: Int)
        /// Without owners: every chunk of every unit held here has come from `rank`.
        case held(rank: Int)
        /// With owners: every chunk's sum is here.
        case complete
        case refused(rank: Int, String)
    }
    public struct Ranked: Hashable, Sendable {
        public var rank: Int
        public var bytes: [UInt8]
        public init(rank: Int, bytes: [UInt8]) {
            self.rank = rank
            self.bytes = bytes
        }
    }
    /// A unit of this member's: the most bytes that a contribution to each of its chunks may have.
    public struct Unit: Hashable, Sendable {
        public var unit: Int
        public var contributionLimits: [Int]
        public init(unit: Int, contributionLimits: [Int]) {
            self.unit = unit
            self.contributionLimits = contributionLimits
        }
    }
    /// Who exchanges, and how.
    public struct Order: Hashable, Sendable {
        /// Ranks whose contributions are added, ascending.
        public var contributors: [Int]
        /// Ranks that are sent what there is, ascending.
        public var members: [Int]
        /// With owners: the owner of each chunk by rank, in the order of the units; else empty.
        public var owners: [[Int]]
        /// The most bytes of each chunk's sum, likewise.
        public var aggregateLimits: [[Int]]
        public init(contributors: [Int], members: [Int], owners: [[Int]] = [], aggregateLimits: [[Int]] = []) {
            self.contributors = contributors
            self.members = members
            self.owners = owners
            self.aggregateLimits = aggregateLimits
        }
    }
    private struct Key: Hashable {
        var unit: Int
        var chunk: Int
    }
    private struct Sent: Hashable {
        var key: Key
        var rank: Int
    }

    public let rank: Int
    public let units: [Unit]
    public private(set) var order: Order
    private let position: [Int: Int]
    private let chunkCount: Int
    private var own: [Int: [[UInt8]]] = [:]
    private var sent: Set<Sent> = []
    /// In rank order.
    private var parts: [Key: [Ranked]] = [:]
    private var partCounts: [Int: Int] = [:]
    private var held: Set<Int> = []
    private var asked: Set<Key> = []
    private var sums: [Key: [UInt8]] = [:]
    private var effects = EffectQueue<Effect>()

    public init(rank: Int, units: [Unit], order: Order) {
        self.rank = rank
        self.units = units
        self.order = order
        position = Dictionary(uniqueKeysWithValues: units.indices.map { (units[$0].unit, $0) })
        chunkCount = units.reduce(0) { $0 + $1.contributionLimits.count }
    }

    public mutating func poll() -> Effect? { effects.pop() }
    public var hasOwners: Bool { !order.owners.isEmpty }
    /// With owners: every chunk's sum is here.
    public var isComplete: Bool { hasOwners && sums.count == chunkCount }
    public var hasContributed: Bool { own.count == units.count }

    // MARK: inputs

    /// Others are in it, or others own. Nothing made under the last order counts any more.
    public mutating func begin(_ order: Order) {
        self.order = order
        sums = [:]
        asked = []
        var kept = EffectQueue<Effect>()
        while let effect = effects.pop() {
            switch effect {
            case .sendAggregate, .aggregate, .complete: continue
            default: kept.push(effect)
            }
        }
        effects = kept
        sendOwn()
        for other in partCounts.keys.sorted() { sayHeld(other) }
        for unit in units { for chunk in unit.contributionLimits.indices { addUp(Key(unit: unit.unit, chunk: chunk)) } }
    }

    /// This member's own contribution to a unit, by chunk: chunk by chunk to whoever needs it, so that all can begin.
    public mutating func contribute(unit: Int, chunks: [[UInt8]]) {
        guard let index = position[unit], own[unit] == nil else { return }
        precondition(chunks.count == units[index].contributionLimits.count, "\(chunks.count) chunks of unit \(unit)")
        own[unit] = chunks
        for (chunk, bytes) in chunks.enumerated() {
            keep(Ranked(rank: rank, bytes: bytes), Key(unit: unit, chunk: chunk))
        }
        sendOwn(unit: index)
    }

    /// The round begins anew here: what this member contributed is void, for it and for all others.
    public mutating func withdraw() {
        own = [:]
        sent = []
        forgetParts(of: rank)
    }

    /// Another member begins the round anew, or somebody takes its place: it has nothing, and nothing of it counts.
    public mutating func forget(_ other: Int) {
        forgetParts(of: other)
        sent = sent.filter { $0.rank != other }
    }

    /// What was on its way to a member may be lost: it is sent again.
    public mutating func resend(to other: Int) {
        guard order.members.contains(other), other != rank else { return }
        sent = sent.filter { $0.rank != other }
        sendOwn()
        for (index, unit) in units.enumerated() where hasOwners {
            for (chunk, owner) in order.owners[index].enumerated() where owner == rank {
                guard let sum = sums[Key(unit: unit.unit, chunk: chunk)] else { continue }
                effects.push(.sendAggregate(unit: unit.unit, chunk: chunk, sum, to: other))
            }
        }
    }

    /// Another member's contribution to a chunk. Repeated ones are passed over: the first counts.
    public mutating func receive(contribution bytes: [UInt8], unit: Int, chunk: Int, from sender: Int) {
        guard let index = check(unit, chunk, sender) else { return }
        let limit = units[index].contributionLimits[chunk]
        guard bytes.count <= limit else { return effects.push(.refused(rank: sender, oversized(bytes.count, limit))) }
        keep(Ranked(rank: sender, bytes: bytes), Key(unit: unit, chunk: chunk))
    }

    /// The arithmetic's answer: it goes to everybody.
    public mutating func aggregated(unit: Int, chunk: Int, _ bytes: [UInt8]) {
        let key = Key(unit: unit, chunk: chunk)
        guard asked.contains(key), sums[key] == nil else { return }
        for member in order.members where member != rank {
            effects.push(.sendAggregate(unit: unit, chunk: chunk, bytes, to: member))
        }
        keep(sum: bytes, key)
    }

    public mutating func receive(aggregate bytes: [UInt8], unit: Int, chunk: Int, from sender: Int) {
        guard let index = check(unit, chunk, sender), hasOwners else { return }
        guard order.owners[index][chunk] == sender else {
            return effects.push(.refused(rank: sender, "chunk \(chunk) of unit \(unit) has another owner"))
        }
        let limit = order.aggregateLimits[index][chunk]
        guard bytes.count <= limit else { return effects.push(.refused(rank: sender, oversized(bytes.count, limit))) }
        let key = Key(unit: unit, chunk: chunk)
        if sums[key] == nil { keep(sum: bytes, key) }
    }

    // MARK: what follows

    private mutating func sendOwn() { for index in units.indices { sendOwn(unit: index) } }

    private mutating func sendOwn(unit index: Int) {
        let unit = units[index].unit
        guard order.contributors.contains(rank), let chunks = own[unit] else { return }
        for (chunk, bytes) in chunks.enumerated() {
            let destinations = hasOwners ? [order.owners[index][chunk]] : order.members
            for other in destinations where other != rank {
                guard sent.insert(Sent(key: Key(unit: unit, chunk: chunk), rank: other)).inserted else { continue }
                effects.push(.sendContribution(unit: unit, chunk: chunk, bytes, to: other))
            }
        }
    }

    private mutating func keep(_ part: Ranked, _ key: Key) {
        var here = parts[key] ?? []
        let place = here.firstIndex { $0.rank >= part.rank } ?? here.count
        guard place == here.count || here[place].rank != part.rank else { return }
        here.insert(part, at: place)
        parts[key] = here
        partCounts[part.rank, default: 0] += 1
        sayHeld(part.rank)
        addUp(key)
    }

    private mutating func sayHeld(_ other: Int) {
        guard !hasOwners, other != rank, partCounts[other] == chunkCount, held.insert(other).inserted else { return }
        effects.push(.held(rank: other))
    }

    private mutating func addUp(_ key: Key) {
        guard hasOwners, let index = position[key.unit], order.owners[index][key.chunk] == rank, !asked.contains(key)
        else { return }
        let due = (parts[key] ?? []).filter { order.contributors.contains($0.rank) }
        guard due.count == order.contributors.count else { return }
        asked.insert(key)
        effects.push(.aggregate(unit: key.unit, chunk: key.chunk, due))
    }

    private mutating func keep(sum bytes: [UInt8], _ key: Key) {
        sums[key] = bytes
        if isComplete { effects.push(.complete) }
    }

    private mutating func forgetParts(of other: Int) {
        for unit in units {
            for chunk in unit.contributionLimits.indices {
                parts[Key(unit: unit.unit, chunk: chunk)]?.removeAll { $0.rank == other }
            }
        }
        partCounts[other] = nil
        held.remove(other)
    }

    /// What `other` contributes to a chunk; nil while it is not here.
    public func part(of other: Int, unit: Int, chunk: Int) -> [UInt8]? {
        parts[Key(unit: unit, chunk: chunk)]?.first { $0.rank == other }?.bytes
    }
    /// The sum of a chunk; nil while it is not here.
    public func aggregate(unit: Int, chunk: Int) -> [UInt8]? { sums[Key(unit: unit, chunk: chunk)] }

    private mutating func check(_ unit: Int, _ chunk: Int, _ sender: Int) -> Int? {
        guard sender != rank, order.members.contains(sender), let index = position[unit] else { return nil }
        guard units[index].contributionLimits.indices.contains(chunk) else {
            effects.push(
                .refused(rank: sender, "unit \(unit) has \(units[index].contributionLimits.count) chunks, no \(chunk)"))
            return nil
        }
        return index
    }
    private func oversized(_ bytes: Int, _ limit: Int) -> String { "\(bytes) bytes where at most \(limit) can be" }
}
