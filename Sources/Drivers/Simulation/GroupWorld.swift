public import Exchange
import Links
public import Primitives
import VirtualNetworks

/// One exchange of one group in virtual time: the members' `GroupExchange` over shaped lines, without a job around it.
/// Bytes are of the right sizes and say nothing; sums take the time they are charged.
public struct GroupWorld {
    public struct Line: Hashable, Sendable {
        public var up: BitRate
        public var down: BitRate
        public init(up: BitRate, down: BitRate) {
            self.up = up
            self.down = down
        }
    }
    /// What came of it.
    public struct Outcome: Hashable, Sendable {
        /// When the last member had everything; nil where something is still missing.
        public var seconds: Double?
        /// By member, with heads.
        public var sent: [Int]
    }

    private struct Host {
        var core: GroupExchange
        var sums: [(at: Instant, chunk: Int)] = []
        var busyUntil = Instant.zero
        var finished: Instant?
    }

    private let layout: ChunkLayout
    private let aggregateBytes: (Int) -> Int
    private let sumSeconds: Double
    private var hosts: [Host] = []
    private var network: VirtualNetwork
    private var now: Instant { network.now }
    /// What is on its way, by the number it travels under.
    private var bundles: [Int: PartBundle<Int>] = [:]
    private var bundlesSent = 0

    /// - Parameters:
    ///   - layout: of one unit, which is all that is exchanged.
    ///   - contributionBytes, aggregateBytes: of a piece of so many values.
    ///   - shares: owners' shares; empty for an all-gather.
    ///   - sumSeconds: to add up one value of all contributions.
    public init(
        lines: [Line], latency: Duration, layout: ChunkLayout, contributionBytes: @escaping (Int) -> Int,
        aggregateBytes: @escaping (Int) -> Int, shares: [Double], sumSeconds: Double = 0, seed: UInt64 = 1
    ) {
        self.layout = layout
        self.sumSeconds = sumSeconds
        network = VirtualNetwork(seed: seed) { _, _ in LinkProperties(latency: latency) }
        func bytes(_ chunk: Int, _ of: (Int) -> Int) -> Int {
            layout.chunks[chunk].reduce(0) { $0 + 4 + of(layout.pieces[$1].count) }
        }
        self.aggregateBytes = { bytes($0, aggregateBytes) }
        let ranks = Array(lines.indices)
        let limits = layout.chunks.indices.map { bytes($0, aggregateBytes) }
        let order = GroupExchange.Order(
            contributors: ranks, members: ranks,
            owners: shares.isEmpty ? [] : [ExchangeCost.owners(of: layout.sizes, ranks: ranks, shares: shares)],
            aggregateLimits: shares.isEmpty ? [] : [limits])
        let contributions = layout.chunks.indices.map { [UInt8](repeating: 0, count: 8 + bytes($0, contributionBytes)) }
        let unit = GroupExchange.Unit(unit: 0, contributionLimits: contributions.map(\.count))
        for (rank, line) in lines.enumerated() {
            hosts.append(Host(core: GroupExchange(rank: rank, units: [unit], order: order)))
            network.addHost(
                at: Endpoint(ipv4: 10, 0, UInt8(rank >> 8), UInt8(rank & 255), port: 4000),
                key: PeerID([UInt8](repeating: UInt8(truncatingIfNeeded: rank), count: 32))!,
                access: AccessRates(up: line.up, down: line.down), seed: seed &+ UInt64(rank))
        }
        for rank in ranks {
            hosts[rank].core.contribute(unit: 0, chunks: contributions)
            drain(rank)
        }
    }

    public mutating func run() -> Outcome {
        while let (rank, what) = network.happen() {
            switch what {
            case .cargo(let number, let from): receive(bundles.removeValue(forKey: number)!, from: from, rank)
            case .alarm: sum(rank)
            case .datagram, .stream: preconditionFailure("nobody here sends \(what)")
            }
        }
        let finished = hosts.compactMap(\.finished)
        return Outcome(
            seconds: finished.count == hosts.count ? finished.max()!.seconds : nil,
            sent: hosts.indices.map { network.sentBytes($0) })
    }

    private mutating func sum(_ rank: Int) {
        while let first = hosts[rank].sums.first, first.at <= now {
            hosts[rank].sums.removeFirst()
            let bytes = [UInt8](repeating: 0, count: aggregateBytes(first.chunk))
            hosts[rank].core.aggregated(unit: 0, chunk: first.chunk, bytes)
            drain(rank)
        }
    }

    private mutating func receive(_ bundle: PartBundle<Int>, from: Int, _ rank: Int) {
        for part in bundle.chunks {
            if bundle.isAggregate {
                hosts[rank].core.receive(aggregate: part.bytes, unit: 0, chunk: part.chunk, from: from)
            } else {
                hosts[rank].core.receive(contribution: part.bytes, unit: 0, chunk: part.chunk, from: from)
            }
        }
        drain(rank)
    }

    private mutating func drain(_ rank: Int) {
        var bundler = PartBundler<Int>()
        while let effect = hosts[rank].core.poll() {
            switch effect {
            case .sendContribution(_, let chunk, let bytes, let to):
                let part = PartBundle<Int>.Chunk(unit: 0, chunk: chunk, bytes: bytes)
                if let full = bundler.add(part, to: to, isAggregate: false) { send(full, rank) }
            case .sendAggregate(_, let chunk, let bytes, let to):
                let part = PartBundle<Int>.Chunk(unit: 0, chunk: chunk, bytes: bytes)
                if let full = bundler.add(part, to: to, isAggregate: true) { send(full, rank) }
            case .aggregate(_, let chunk, let parts):
                let seconds = sumSeconds * Double(parts.count * layout.values(chunk).count)
                hosts[rank].busyUntil = max(now, hosts[rank].busyUntil) + .nanoseconds(Int64(seconds * 1e9))
                hosts[rank].sums.append((hosts[rank].busyUntil, chunk))
            case .held: hasAll(rank)
            case .complete: hosts[rank].finished = now
            case .refused(let other, let why): preconditionFailure("\(rank) refused a part of \(other): \(why)")
            }
        }
        for bundle in bundler.rest() { send(bundle, rank) }
        network.setAlarm(of: rank, at: hosts[rank].sums.first?.at)
    }

    private mutating func hasAll(_ rank: Int) {
        if hosts[rank].core.waitsFor == nil { hosts[rank].finished = now }
    }

    /// With the heads of a message: a few bytes a chunk, the packet's, and 22 for each TLS record of 16 KiB.
    private mutating func send(_ bundle: PartBundle<Int>, _ rank: Int) {
        let bytes = bundle.bytes + 8 * bundle.chunks.count + 64
        let framed = bytes + 22 * ((bytes + 16_383) / 16_384)
        bundles[bundlesSent] = bundle
        network.carry(bundlesSent, bytes: framed, from: rank, to: bundle.destination)
        bundlesSent += 1
    }
}
