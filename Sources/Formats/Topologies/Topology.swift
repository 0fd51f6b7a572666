public import Links
public import Primitives

/// A machine in a topology: what it computes, holds and sends.
public struct Host: Hashable, Sendable {
    public enum Role: String, Hashable, Sendable, CaseIterable {
        /// Takes part in the training.
        case peer
        /// Only helps others to find each other.
        case bootstrap
        /// Launches and coordinates; holds no layers.
        case coordinator
    }
    /// How it can be reached from outside its own network.
    public enum Reachability: String, Hashable, Sendable, CaseIterable {
        case open
        /// A home router: dials out only.
        case home
        /// A router that gives each destination another port: must be relayed.
        case symmetric
    }
    public var name: String
    public var role: Role
    /// For people: "laptop", "M2 Air", "RTX 3060".
    public var device: String
    /// FLOP/s it sustains in a stage's arithmetic (not the data sheet's peak).
    public var flops: Double
    /// What its owner offers to a job.
    public var memory: ByteCount
    public var up: BitRate
    public var down: BitRate
    /// Index into ``Topology/regions``; nil for none.
    public var region: Int?
    /// Share of the time it is there, in (0, 1].
    public var availability: Double
    /// Mean time between its arrivals and departures; nil for one that stays.
    public var meanSession: Duration?
    public var reachability: Reachability
    /// What stands in front of it where the topology is simulated.
    public var nat: NATKind = .none
    /// How long that remembers datagrams; nil for the usual times.
    public var natTimeout: Duration?
    /// Bytes of the largest packet that its line carries, where it is simulated behind routers; nil: 1500.
    public var mtu: Int?
    /// What it carries for others where it can be reached; nil: what everybody does.
    public var relayRate: BitRate?
    /// Where others dial it: what its owner would have a router forward; nil where that is not known.
    public var port: UInt16?
    /// What a relay carries whose owner says nothing (`RelayLimits.little`): sixteen times 64 kbit/s.
    public static let usualRelayRate = BitRate(bitsPerSecond: 16 * 64_000)
    /// All that it carries for others, together: what its owner lets it, and no more than its lines have.
    public var carries: BitRate { min(relayRate ?? Self.usualRelayRate, min(up, down)) }

    public init(
        name: String, role: Role = .peer, device: String = "computer", flops: Double, memory: ByteCount, up: BitRate,
        down: BitRate, region: Int? = nil, availability: Double = 1, meanSession: Duration? = nil,
        reachability: Reachability = .open
    ) {
        self.name = name
        self.role = role
        self.device = device
        self.flops = flops
        self.memory = memory
        self.up = up
        self.down = down
        self.region = region
        self.availability = availability
        self.meanSession = meanSession
        self.reachability = reachability
    }
}

/// Something that happens to a host on the time line.
public struct Fault: Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// Gone without a word.
        case kill
        /// Says goodbye first.
        case leave
        /// Is there from now on, and not before.
        case join
        /// Computes at its speed divided by `factor` (> 1) from now on.
        case slow(factor: Double)
        /// Its access line is dead for this long.
        case cut(seconds: Double)
        /// Its lines, up and down, from now on have their rate divided by this.
        case throttle(factor: Double)
        /// Its line gets another address, as after a nightly reconnection: nobody is told, and its connections are dead.
        case renumber
        /// Its router forgets all mappings, as when it was switched off and on.
        case remap
    }
    public enum Moment: Hashable, Sendable {
        /// Seconds from the start of the run.
        case seconds(Double)
        /// Share of the job's steps done, 0…1.
        case progress(Double)
    }
    public var kind: Kind
    public var at: Moment
    /// A name in ``Topology/hosts``.
    public var host: String
    public init(_ kind: Kind, at: Moment, host: String) {
        self.kind = kind
        self.at = at
        self.host = host
    }
}

/// A place: hosts in it see each other over ``inside``.
public struct Region: Hashable, Sendable {
    public var name: String
    /// nil: the topology's default link.
    public var inside: LinkProperties?
    public init(name: String, inside: LinkProperties? = nil) {
        self.name = name
        self.inside = inside
    }
}

/// Hosts and the links between them, from a file, an importer or measurement. Every pair of distinct hosts has a link.
///
/// A link is looked up from the most special to the most general: the pair itself, the pair of regions, the default.
public struct Topology: Hashable, Sendable {
    public struct Pair: Hashable, Sendable, Comparable {
        public var from: Int
        public var to: Int
        public init(_ from: Int, _ to: Int) {
            self.from = from
            self.to = to
        }
        public static func < (a: Pair, b: Pair) -> Bool { (a.from, a.to) < (b.from, b.to) }
    }
    public var name: String
    /// What this is in the world: one sentence.
    public var about: String
    /// What we expect to see: one sentence.
    public var expectation: String
    /// In file order: the index of a host in every interface here.
    public var hosts: [Host]
    public var regions: [Region]
    /// Directed, by index into ``regions``, of two different ones.
    public var regionLinks: [Pair: LinkProperties]
    /// Directed, by index into ``hosts``.
    public var links: [Pair: LinkProperties]
    public var defaultLink: LinkProperties?
    /// Pairs that no path of their own joins: the host that carries their bytes. Their links are the whole way, through that one.
    public var relays: [Pair: Int] = [:]
    public var faults: [Fault]
    /// What a real run on it came to; nil where there was none.
    public var record: RunRecord?

    public init(
        name: String, about: String = "", expectation: String = "", hosts: [Host], regions: [Region] = [],
        regionLinks: [Pair: LinkProperties] = [:], links: [Pair: LinkProperties] = [:],
        defaultLink: LinkProperties? = nil, faults: [Fault] = [], record: RunRecord? = nil
    ) {
        self.record = record
        self.name = name
        self.about = about
        self.expectation = expectation
        self.hosts = hosts
        self.regions = regions
        self.regionLinks = regionLinks
        self.links = links
        self.defaultLink = defaultLink
        self.faults = faults
    }

    /// The link from one host to another, without their access lines; from a host to itself nothing delays.
    public func link(from: Int, to: Int) -> LinkProperties {
        if from == to { return LinkProperties(latency: .zero) }
        guard let found = declaredLink(from: from, to: to) else {
            preconditionFailure("no link from \(hosts[from].name) to \(hosts[to].name) in topology \(name)")
        }
        return found
    }
    /// nil where the topology says nothing about the pair: such a topology is refused by the parser.
    public func declaredLink(from: Int, to: Int) -> LinkProperties? {
        if !links.isEmpty, let link = links[Pair(from, to)] { return link }
        if let a = hosts[from].region, let b = hosts[to].region {
            if a == b {
                if let inside = regions[a].inside { return inside }
            } else if let link = regionLinks[Pair(a, b)] {
                return link
            }
        }
        return defaultLink
    }
    /// One way, in seconds; infinite where nothing is known about the pair (a measured pool may have pairs that cannot
    /// connect).
    public func latencySeconds(from: Int, to: Int) -> Double {
        if from == to { return 0 }
        guard let link = declaredLink(from: from, to: to) else { return .infinity }
        return link.latency / .seconds(1)
    }
    /// What `from` can push towards `to`: its uplink, or the pair's cap where that is lower, or what their relay carries.
    public func sendRate(from: Int, to: Int) -> BitRate {
        var rate = hosts[from].up
        if let cap = declaredLink(from: from, to: to)?.rate { rate = min(rate, cap) }
        if !relays.isEmpty, let relay = relays[Pair(from, to)] { rate = min(rate, hosts[relay].carries) }
        return rate
    }
    /// Whether any pair has a rate of its own.
    public var hasPairCaps: Bool {
        !relays.isEmpty || defaultLink?.rate != nil || regions.contains { $0.inside?.rate != nil }
            || regionLinks.values.contains { $0.rate != nil } || links.values.contains { $0.rate != nil }
    }
    /// The same topology with every link that much faster, but not below zero: for what-if questions.
    public func withLessLatency(milliseconds: Int) -> Topology {
        func less(_ link: LinkProperties) -> LinkProperties {
            var link = link
            link.latency = max(.zero, link.latency - .milliseconds(milliseconds))
            return link
        }
        var copy = self
        copy.defaultLink = defaultLink.map(less)
        copy.regionLinks = regionLinks.mapValues(less)
        copy.links = links.mapValues(less)
        for index in regions.indices { copy.regions[index].inside = regions[index].inside.map(less) }
        return copy
    }
    /// The same topology with a path of its own for every pair of which one end is this host, as fast as its lines: what it would be if a
    /// router let others in there. How long such a way takes nobody has measured: no longer than over the relay.
    public func reaching(_ host: Int) -> Topology {
        var copy = self
        for pair in relays.keys where pair.from == host || pair.to == host {
            copy.relays[pair] = nil
            copy.links[pair]?.rate = nil
        }
        return copy
    }
    public func index(of name: String) -> Int? { hosts.firstIndex { $0.name == name } }
    /// Indices of the hosts that train, in file order.
    public var peers: [Int] { hosts.indices.filter { hosts[$0].role == .peer } }
    /// Whether anybody is behind a router or firewall.
    public var hasRouters: Bool { hosts.contains { $0.nat != .none } }
    /// The host that coordinates: the first with that role, else the first peer.
    public var coordinator: Int? { hosts.firstIndex { $0.role == .coordinator } ?? peers.first }
}
