internal import Links
internal import Primitives

/// Who came and went, when: instances with their lives, turned into a topology whose time line has them join and be killed.
///
/// An instance that comes back is a new machine with a name of its own.
struct InstanceLives {
    private struct Life {
        var name: String
        /// Seconds since the trace's first arrival.
        var begin: Double
        /// nil: still there at the end.
        var end: Double?
    }
    private static let mostLives = 5_000
    private var lives: [Life] = []
    private var notes: [String] = []

    /// "480000,add,node1": milliseconds, in order of time.
    init(bamboo bytes: [UInt8], file: String) throws(FileProblem) {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw FileProblem(
                .unreadable, file: file, found: "bytes that are not UTF-8", allowed: "lines such as 480000,add,node1")
        }
        var there: [String: Int] = [:]
        var last = 0.0
        for (index, raw) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let cells = raw.split(separator: ",", omittingEmptySubsequences: false).map { cell in
                cell.filter { !" \t\r\"\u{FEFF}".contains($0) }
            }
            if cells.count == 1, cells[0].isEmpty || cells[0].hasPrefix("#") { continue }
            func problem(_ kind: FileProblem.Kind, _ allowed: String) -> FileProblem {
                FileProblem(kind, file: file, line: index + 1, found: "“\(raw.prefix(60))”", allowed: allowed)
            }
            guard cells.count == 3, cells[1] == "add" || cells[1] == "remove", let name = usableName(cells[2]) else {
                throw problem(.wrongType, "milliseconds, add or remove, and a name: 480000,add,node1")
            }
            guard let time = decimalNumber(cells[0]), time >= 0, time <= 1e12 else {
                throw problem(.outOfRange, "milliseconds from 0")
            }
            guard time >= last else {
                throw problem(.outOfRange, "times that do not go back: at least \(fixed(last, 0))")
            }
            last = time
            if cells[1] == "add" {
                guard there.updateValue(lives.count, forKey: name) == nil else {
                    throw problem(.duplicateName, "add only for a name that is not there")
                }
                lives.append(Life(name: name, begin: time / 1000))
                guard lives.count <= InstanceLives.mostLives else {
                    throw problem(.outOfRange, "at most \(InstanceLives.mostLives) arrivals; import a part")
                }
            } else {
                guard let life = there.removeValue(forKey: name) else {
                    throw problem(.unknownName, "remove only for a name that was added")
                }
                lives[life].end = time / 1000
            }
        }
        try settle(file)
    }

    /// {"metadata": {"gap_seconds": 300}, "data": [1, 0, …]}: instances available at each tick.
    init(skypilot bytes: [UInt8], file: String) throws(FileProblem) {
        let top = try YAMLNode(parsing: bytes, file: file).entries()
        func needed(_ key: String, _ among: [(key: String, value: YAMLNode)]) throws(FileProblem) -> YAMLNode {
            guard let node = among.first(where: { $0.key == key })?.value else {
                throw FileProblem(.missingKey, file: file, key: key, found: "nothing", allowed: "this key is needed")
            }
            return node
        }
        let gap = try needed("gap_seconds", try needed("metadata", top).entries()).number(0...1e7, open: true)
        var there: [Int] = []
        for (tick, node) in try needed("data", top).list("a list of numbers of instances").enumerated() {
            let count = try node.integer(0...1000)
            let time = Double(tick) * gap
            while there.count < count {
                there.append(lives.count)
                lives.append(Life(name: "spot-\(lives.count)", begin: time))
                guard lives.count <= InstanceLives.mostLives else {
                    throw node.problem(
                        .outOfRange, allowed: "at most \(InstanceLives.mostLives) arrivals; import a part")
                }
            }
            // The youngest go first: which, the trace does not say.
            while there.count > count { lives[there.removeLast()].end = time }
        }
        try settle(file)
    }

    private mutating func settle(_ file: String) throws(FileProblem) {
        guard let first = lives.map(\.begin).min() else {
            throw FileProblem(.missingKey, file: file, found: "no arrival", allowed: "a trace in which somebody comes")
        }
        for index in lives.indices {
            lives[index].begin -= first
            lives[index].end = lives[index].end.map { $0 - first }
        }
        lives.removeAll { $0.end == $0.begin }
    }

    /// - Parameter base: its peers are the slots that instances take, the lowest free one first.
    func imported(_ format: TopologyFormat, onto base: Topology?, options: ImportOptions, name: String)
        -> ImportedTopology
    {
        let lived = lives.compactMap { life in life.end.map { $0 - life.begin } }
        let mean = lived.isEmpty ? nil : lived.reduce(0, +) / Double(lived.count)
        var topology = Topology(
            name: base?.name ?? name, about: base?.about ?? "A churn trace: \(lives.count) instances that come and go.",
            expectation: base?.expectation ?? "Imported: nobody has said yet what to expect.",
            hosts: base.map { base in base.hosts.filter { $0.role != .peer } } ?? [], regions: base?.regions ?? [],
            regionLinks: base?.regionLinks ?? [:],
            defaultLink: base.map(\.defaultLink) ?? LinkProperties(latency: .milliseconds(1)))
        let slots = base?.peers.map { base!.hosts[$0] } ?? []
        /// For each host of the new topology, whose links it has.
        var origin = base.map { base in base.hosts.indices.filter { base.hosts[$0].role != .peer } } ?? []
        var free = Array(slots.indices)
        var leaving: [(at: Double, slot: Int)] = []
        var taken: Set<String> = Set(topology.hosts.map(\.name))
        var (unplaced, events) = (0, [Fault]())
        for life in lives.enumerated().sorted(by: { ($0.element.begin, $0.offset) < ($1.element.begin, $1.offset) })
            .map(\.element)
        {
            for gone in leaving where gone.at <= life.begin { free.append(gone.slot) }
            leaving.removeAll { $0.at <= life.begin }
            var host = Host(
                name: life.name, device: "spot instance", flops: options.flops, memory: options.memory, up: options.up,
                down: options.down)
            if let base {
                guard let slot = free.min() else {
                    unplaced += 1
                    continue
                }
                free.removeAll { $0 == slot }
                if let end = life.end { leaving.append((end, slot)) }
                host = slots[slot]
                origin.append(base.peers[slot])
            }
            if let mean { host.meanSession = .milliseconds(Int64((max(1, mean) * 1000).rounded())) }
            host.name = Self.freeName(host.name, &taken)
            topology.hosts.append(host)
            if life.begin > 0 { events.append(Fault(.join, at: .seconds(life.begin), host: host.name)) }
            if let end = life.end { events.append(Fault(.kill, at: .seconds(end), host: host.name)) }
        }
        func time(_ fault: Fault) -> Double { if case .seconds(let seconds) = fault.at { seconds } else { 0 } }
        topology.faults = events.enumerated().sorted { (time($0.element), $0.offset) < (time($1.element), $1.offset) }
            .map(\.element)
        if let base { topology.copyLinks(of: base, origin: origin) }
        var notes = [
            "\(lives.count) arrivals, \(lived.count) departures; "
                + (mean.map { "a completed life is \(fixed($0, 0)) s in the mean." } ?? "nobody leaves.")
        ]
        if unplaced > 0 { notes.append("\(unplaced) arrivals found no free peer in the topology and are left out.") }
        if base == nil {
            notes.append(
                "Devices and lines are assumed: \(fixed(options.flops / 1e9, 1)) GFLOP/s, \(options.memory), up \(options.up), down \(options.down), 1 ms apart. Use --onto TOPOLOGY for others."
            )
        }
        return ImportedTopology(topology, format, notes: notes)
    }
    /// The name, with a number behind it where another host has it.
    private static func freeName(_ plain: String, _ taken: inout Set<String>) -> String {
        var name = plain
        var number = 2
        while !taken.insert(name).inserted {
            name = "\(plain.prefix(56))-\(number)"
            number += 1
        }
        return name
    }
}

extension Topology {
    /// Gives each pair the link that `base` declares for the hosts they stand for, where regions do not say it already.
    fileprivate mutating func copyLinks(of base: Topology, origin: [Int]) {
        if base.links.isEmpty, defaultLink != nil { return }
        for i in hosts.indices {
            for j in hosts.indices where i != j {
                if let link = base.links[Pair(origin[i], origin[j])] {
                    links[Pair(i, j)] = link
                } else if declaredLink(from: i, to: j) == nil {
                    // Two lives of one machine, which never meet.
                    links[Pair(i, j)] = LinkProperties(latency: .milliseconds(1))
                }
            }
        }
    }
}
