internal import Links
internal import Primitives

/// Reading a topology file (`docs/TOPOLOGY.md` has the schema).
extension Topology {
    static let mostHosts = 20_000
    static let mostRegions = 2_000

    /// - Throws: ``TopologyError`` with file, line, key, what was found and what is allowed.
    public init(parsing text: String, file: String = "topology") throws(TopologyError) {
        try self.init(parsing: Array(text.utf8), file: file)
    }
    /// - Throws: ``TopologyError``; never crashes, whatever the bytes are.
    public init(parsing bytes: [UInt8], file: String = "topology") throws(TopologyError) {
        let root = try YAMLNode(parsing: bytes, file: file)
        let top = try root.mapping([
            "name", "about", "expect", "regions", "region_links", "default_link", "hosts", "links", "events", "record",
        ])
        var reader = TopologyReader()
        let name = try top.required("name").name()
        let about = try top.required("about").text("one sentence: what this is in the world")
        let expectation = try top.required("expect").text("one sentence: what we expect to see")
        if let node = top["default_link"] { reader.defaultLink = try TopologyReader.link(node.mapping(linkKeys)) }
        if let node = top["regions"] { try reader.readRegions(node) }
        if let node = top["region_links"] { try reader.readRegionLinks(node) }
        let hosts = try top.required("hosts")
        try reader.readHosts(hosts)
        if let node = top["links"] {
            try reader.readLinks(node)
            try reader.addWaysOverRelays()
        }
        if let node = top["events"] { try reader.readEvents(node) }
        self.init(
            name: name, about: about, expectation: expectation, hosts: reader.hosts, regions: reader.regions,
            regionLinks: reader.regionLinks, links: reader.links, defaultLink: reader.defaultLink,
            faults: reader.faults,
            record: try top["record"].map { (node) throws(FileProblem) in try RunRecord(node) })
        relays = reader.relays
        if let (a, b) = firstMissingLink() {
            throw hosts.problem(
                .disconnected, found: "no link from \(self.hosts[a].name) to \(self.hosts[b].name)",
                allowed: "a link for every pair: add it under links or region_links, or give default_link")
        }
    }

    /// Some ordered pair without a link. Pairs that regions cover are skipped together, so that the cost is that of the
    /// links written down, not of all pairs.
    public func firstMissingLink() -> (from: Int, to: Int)? {
        if defaultLink != nil { return nil }
        var members = [[Int]](repeating: [], count: regions.count + 1)
        for (index, host) in hosts.enumerated() { members[host.region ?? regions.count].append(index) }
        for a in members.indices where !members[a].isEmpty {
            for b in members.indices where !members[b].isEmpty {
                let placed = a < regions.count && b < regions.count
                if placed, a == b ? regions[a].inside != nil : regionLinks[Pair(a, b)] != nil { continue }
                for i in members[a] {
                    for j in members[b] where i != j && links[Pair(i, j)] == nil { return (i, j) }
                }
            }
        }
        return nil
    }
}

private let linkKeys = ["latency_ms", "jitter_ms", "loss_percent", "rate_mbps"]
private let hostKeys = [
    "name", "role", "device", "gflops", "memory_mib", "up_mbps", "down_mbps", "region", "availability",
    "mean_session_s", "reachability", "nat", "nat_timeout_s", "mtu_bytes", "relay_mbps", "port",
    "count", "first", "seed",
]

/// The entry of one host, or of `count` alike: there `[low, high]` for a number draws one for each host, and a list for a
/// word is dealt out in turn.
private struct HostEntry {
    private let entry: YAMLMapping
    private let number: Int?
    private var random: SeededGenerator

    init(_ entry: YAMLMapping) {
        self.entry = entry
        number = nil
        random = SeededGenerator(seed: 0)
    }
    init(_ entry: YAMLMapping, number: Int, random: SeededGenerator) {
        self.entry = entry
        self.number = number
        self.random = random
    }

    func node(_ key: String) throws(FileProblem) -> YAMLNode? {
        guard let node = entry[key], let number, node.isList else { return entry[key] }
        let choices = try node.list()
        guard !choices.isEmpty else {
            throw node.problem(.outOfRange, found: "an empty list", allowed: "one word or more")
        }
        return choices[number % choices.count]
    }
    func word(_ key: String, _ allowed: [String]) throws(FileProblem) -> String? { try node(key)?.word(allowed) }
    /// low + (high − low)·u², to three digits: few are at the upper end. A key that is not there draws nothing.
    mutating func number(
        _ key: String, _ range: ClosedRange<Double>, open: Bool = false, needed: Bool = false
    ) throws(FileProblem) -> Double? {
        guard let node = needed ? try entry.required(key) : entry[key] else { return nil }
        guard number != nil, node.isList else { return try node.number(range, open: open) }
        let ends = try node.list()
        guard ends.count == 2 else {
            throw node.problem(.wrongType, found: "\(ends.count) numbers", allowed: "a number, or [lowest, highest]")
        }
        let (low, high) = (try ends[0].number(range, open: open), try ends[1].number(range, open: open))
        guard low <= high else {
            throw node.problem(.outOfRange, found: "\(low) above \(high)", allowed: "the lowest first")
        }
        let u = random.uniform()
        let value = low + (high - low) * u * u
        var unit = 1e-9
        while value >= unit * 1000 { unit *= 10 }
        return min(high, max(low, (value / unit).rounded() * unit))
    }
}

/// What has been read so far; later sections refer to earlier ones by name.
private struct TopologyReader {
    var regions: [Region] = []
    var hosts: [Host] = []
    var regionLinks: [Topology.Pair: LinkProperties] = [:]
    var links: [Topology.Pair: LinkProperties] = [:]
    var defaultLink: LinkProperties?
    var faults: [Fault] = []
    var relays: [Topology.Pair: Int] = [:]
    /// Relayed pairs that say nothing of their latency: they get that of the ways to the relay and from it.
    var unmeasured: [(item: YAMLNode, pair: Topology.Pair)] = []
    var regionNamed: [String: Int] = [:]
    var hostNamed: [String: Int] = [:]

    static func link(_ entry: YAMLMapping, latencyIsKnown: Bool = true) throws(FileProblem) -> LinkProperties {
        LinkProperties(
            latency: latencyIsKnown ? milliseconds(try entry.required("latency_ms").number(0...100_000)) : .zero,
            jitter: milliseconds(try entry["jitter_ms"]?.number(0...10_000) ?? 0),
            loss: (try entry["loss_percent"]?.number(0...99) ?? 0) / 100,
            rate: try entry["rate_mbps"].map { (node) throws(FileProblem) in try rate(node) })
    }
    static func milliseconds(_ value: Double) -> Duration { .nanoseconds(Int64((value * 1e6).rounded())) }
    static func rate(_ node: YAMLNode) throws(FileProblem) -> BitRate {
        .megabits(try node.number(0...1e7, open: true))
    }

    mutating func readRegions(_ node: YAMLNode) throws(FileProblem) {
        for item in try node.list("a list of regions", most: Topology.mostRegions) {
            let entry = try item.mapping(["name"] + linkKeys)
            let name = try entry.required("name").name()
            guard regionNamed[name] == nil else {
                throw try entry.required("name").problem(.duplicateName, allowed: "each region's name once")
            }
            regionNamed[name] = regions.count
            let hasLink = linkKeys.contains { entry[$0] != nil }
            regions.append(Region(name: name, inside: hasLink ? try TopologyReader.link(entry) : nil))
        }
    }

    mutating func readRegionLinks(_ node: YAMLNode) throws(FileProblem) {
        for item in try node.list("a list of links between regions") {
            try read(item, into: \.regionLinks, names: regionNamed, what: "region")
        }
    }
    mutating func readLinks(_ node: YAMLNode) throws(FileProblem) {
        for item in try node.list("a list of links between hosts") {
            try read(item, into: \.links, names: hostNamed, what: "host")
        }
    }
    /// `between: [a, b]` sets both directions, `from` and `to` one.
    private mutating func read(
        _ item: YAMLNode, into table: WritableKeyPath<Self, [Topology.Pair: LinkProperties]>, names: [String: Int],
        what: String
    ) throws(FileProblem) {
        let isOfHosts = table == \.links
        let entry = try item.mapping(["between", "from", "to"] + (isOfHosts ? ["relayed_by"] : []) + linkKeys)
        func find(_ node: YAMLNode) throws(FileProblem) -> Int { try known(node, names, what) }
        var pairs: [Topology.Pair] = []
        if let both = entry["between"] {
            guard entry["from"] == nil, entry["to"] == nil else {
                throw both.problem(.unknownKey, found: "between beside from or to", allowed: "between, or from and to")
            }
            let ends = try both.list("a list of two names")
            guard ends.count == 2 else {
                throw both.problem(.wrongType, found: "\(ends.count) names", allowed: "a list of two names")
            }
            let (a, b) = (try find(ends[0]), try find(ends[1]))
            pairs = [Topology.Pair(a, b), Topology.Pair(b, a)]
        } else {
            pairs = [Topology.Pair(try find(try entry.required("from")), try find(try entry.required("to")))]
        }
        guard pairs[0].from != pairs[0].to else {
            throw item.problem(.outOfRange, found: "a link from a \(what) to itself", allowed: "two different \(what)s")
        }
        var relay: Int?
        if isOfHosts, let node = entry["relayed_by"] {
            let third = try find(node)
            guard third != pairs[0].from, third != pairs[0].to else {
                throw node.problem(.outOfRange, found: "an end of the pair", allowed: "the name of a third host")
            }
            relay = third
        }
        let isUnmeasured = relay != nil && entry["latency_ms"] == nil
        let link = try TopologyReader.link(entry, latencyIsKnown: !isUnmeasured)
        for pair in pairs {
            relays[pair] = relay
            if isUnmeasured { unmeasured.append((item, pair)) }
            guard self[keyPath: table].updateValue(link, forKey: pair) == nil else {
                throw item.problem(
                    .duplicateName, found: "a second link for the same pair", allowed: "one for each direction")
            }
        }
    }

    /// Latencies add: from one end to the relay, and from there to the other.
    mutating func addWaysOverRelays() throws(FileProblem) {
        if unmeasured.isEmpty { return }
        let known = Topology(
            name: "", hosts: hosts, regions: regions, regionLinks: regionLinks, links: links, defaultLink: defaultLink)
        for (item, pair) in unmeasured {
            guard let relay = relays[pair] else { continue }
            for leg in [Topology.Pair(pair.from, relay), Topology.Pair(relay, pair.to)] {
                guard relays[leg] == nil, let link = known.declaredLink(from: leg.from, to: leg.to) else {
                    throw item.problem(
                        .disconnected, found: "no link between \(hosts[leg.from].name) and \(hosts[leg.to].name)",
                        allowed: "a link of its own from each end to the relay, or latency_ms of the whole way")
                }
                links[pair]!.latency += link.latency
            }
        }
    }

    mutating func readHosts(_ node: YAMLNode) throws(FileProblem) {
        let items = try node.list("a list of hosts", most: Topology.mostHosts)
        guard !items.isEmpty else { throw node.problem(.outOfRange, found: "no host", allowed: "at least one") }
        for item in items {
            let entry = try item.mapping(hostKeys)
            let name = try entry.required("name").name()
            guard let count = entry["count"] else {
                for key in ["first", "seed"] {
                    if let node = entry[key] { throw node.problem(.unknownKey, allowed: "\(key) only beside count") }
                }
                try append(try host(name, HostEntry(entry)), entry)
                continue
            }
            let first = try entry["first"]?.integer(0...1_000_000) ?? 0
            let seed = try entry["seed"]?.integer(0...Int.max) ?? 1
            for number in 0..<(try count.integer(1...Topology.mostHosts)) {
                let random = SeededGenerator(seed: UInt64(seed), stream: UInt64(number))
                let one = HostEntry(entry, number: number, random: random)
                try append(try host("\(name)\(first + number)", one), entry)
            }
        }
    }
    private mutating func append(_ host: Host, _ entry: YAMLMapping) throws(FileProblem) {
        guard hostNamed.updateValue(hosts.count, forKey: host.name) == nil else {
            throw try entry.required("name").problem(
                .duplicateName, found: "a second host \(host.name)", allowed: "each host's name once")
        }
        guard hosts.count < Topology.mostHosts else {
            throw try entry.required("name").problem(
                .outOfRange, found: "more than \(Topology.mostHosts) hosts", allowed: "at most \(Topology.mostHosts)")
        }
        hosts.append(host)
    }
    private func host(_ name: String, _ given: HostEntry) throws(FileProblem) -> Host {
        var entry = given
        let role = Host.Role(rawValue: try entry.word("role", Host.Role.allCases.map(\.rawValue)) ?? "peer") ?? .peer
        // Only peers compute: the others may leave speed and memory out.
        let isPeer = role == .peer
        let gflops = try entry.number("gflops", 0...1e9, open: true, needed: isPeer) ?? 1
        let memory = try entry.number("memory_mib", 0...1e9, open: true, needed: isPeer) ?? 64
        let up = try entry.number("up_mbps", 0...1e7, open: true, needed: true) ?? 1
        let down = try entry.number("down_mbps", 0...1e7, open: true, needed: true) ?? 1
        let availability = try entry.number("availability", 0...1, open: true) ?? 1
        let session = try entry.number("mean_session_s", 1...1e9)
        let reachability = try entry.word("reachability", Host.Reachability.allCases.map(\.rawValue)) ?? "open"
        let nat = try entry.word("nat", NATKind.allCases.map(\.rawValue)) ?? "none"
        let timeout = try entry.number("nat_timeout_s", 1...86_400)
        var host = Host(
            name: name, role: role, device: try entry.node("device")?.text() ?? "computer",
            flops: gflops * 1e9, memory: .mebibytes(memory), up: .megabits(up), down: .megabits(down),
            region: try entry.node("region").map { (node) throws(FileProblem) in
                try known(node, regionNamed, "region")
            },
            availability: availability, meanSession: session.map { .milliseconds(Int64(($0 * 1000).rounded())) },
            reachability: Host.Reachability(rawValue: reachability) ?? .open)
        host.relayRate = try entry.number("relay_mbps", 0...1e6).map { .megabits($0) }
        host.port = try entry.number("port", 1...65_535).map { UInt16($0) }
        host.nat = NATKind(rawValue: nat) ?? .none
        host.natTimeout = timeout.map { TopologyReader.milliseconds($0 * 1000) }
        host.mtu = try entry.number("mtu_bytes", 1280...1500).map { Int($0) }
        return host
    }

    mutating func readEvents(_ node: YAMLNode) throws(FileProblem) {
        for item in try node.list("a list of events") {
            let entry = try item.mapping(["at_s", "at_progress", "kind", "host", "factor", "for_s"])
            let at: Fault.Moment
            switch (entry["at_s"], entry["at_progress"]) {
            case (let seconds?, nil): at = .seconds(try seconds.number(0...1e9))
            case (nil, let progress?): at = .progress(try progress.number(0...1))
            default:
                throw item.problem(.missingKey, found: "not exactly one moment", allowed: "at_s or at_progress")
            }
            let host = try entry.required("host")
            _ = try known(host, hostNamed, "host")
            let kind: Fault.Kind
            let kinds = ["kill", "leave", "join", "slow", "throttle", "cut", "renumber", "remap"]
            switch try entry.required("kind").word(kinds) {
            case "leave": kind = .leave
            case "join": kind = .join
            case "slow": kind = .slow(factor: try entry.required("factor").number(1...1e6, open: true))
            case "throttle": kind = .throttle(factor: try entry.required("factor").number(1...1e6, open: true))
            case "renumber": kind = .renumber
            case "remap": kind = .remap
            case "cut": kind = .cut(seconds: try entry.required("for_s").number(0...1e9, open: true))
            default: kind = .kill
            }
            faults.append(Fault(kind, at: at, host: try host.name()))
        }
    }

    private func known(_ node: YAMLNode, _ names: [String: Int], _ what: String) throws(FileProblem) -> Int {
        let name = try node.text("the name of a \(what)")
        if let index = names[name] { return index }
        let meant = names.count > 2_000 ? nil : nearest(to: name, among: names.keys.sorted())
        throw node.problem(
            .unknownName, allowed: "the name of a \(what) in this file" + (meant.map { ": did you mean \($0)?" } ?? ""))
    }
}
