internal import Links
internal import Primitives

/// A change to a topology, written on a command line: `heron.up=50 Mbit/s`, `heron.memory=x2`, `latency=-10 ms`.
///
///     [WHO.]KEY=CHANGE      KEY×FACTOR
///
/// WHO is a host, two hosts with a slash for their link (both directions), or left out for all. KEY is `up`, `down`, `speed`,
/// `memory` or `availability` of hosts, `latency`, `jitter`, `loss` or `rate` of links; a host's latency means all its links. CHANGE
/// is a value with its unit, `+` or `-` before it to add or take away, or `x` (`×`) and a factor.
public struct WhatIf: Hashable, Sendable {
    public enum Key: String, Hashable, Sendable, CaseIterable {
        case up, down, speed, memory, availability, latency, jitter, loss, rate
        var isLink: Bool { [.latency, .jitter, .loss, .rate].contains(self) }
        var units: String {
            switch self {
            case .up, .down, .rate: "kbit/s, Mbit/s or Gbit/s"
            case .speed: "MFLOP/s, GFLOP/s or TFLOP/s"
            case .memory: "MiB or GiB"
            case .latency, .jitter: "us, ms or s"
            case .availability, .loss: "%, or none for a share"
            }
        }
    }
    private enum Change: Hashable, Sendable {
        case set(Double)
        case add(Double)
        case times(Double)
        func apply(to value: Double) -> Double {
            switch self {
            case .set(let new): new
            case .add(let more): value + more
            case .times(let factor): value * factor
            }
        }
    }
    public let text: String
    public let key: Key
    private let who: [String]
    private let change: Change

    /// - Throws: ``FileProblem`` that says what is allowed.
    public init(_ text: String) throws(FileProblem) {
        self.text = text
        func bad(_ allowed: String, _ kind: FileProblem.Kind = .wrongType) -> FileProblem {
            FileProblem(kind, file: "--what-if", found: "“\(text.prefix(60))”", allowed: allowed)
        }
        let form = "[HOST.]KEY=VALUE UNIT, such as heron.up=50 Mbit/s, latency=x2 or heron/gull.latency=-10 ms"
        let plain = text.replacing("×", with: "x")
        let left: Substring
        var right: Substring
        if let equals = plain.firstIndex(of: "=") {
            (left, right) = (plain[..<equals], plain[plain.index(after: equals)...])
        } else if text.contains("×"), let cross = plain.lastIndex(of: "x") {
            (left, right) = (plain[..<cross], plain[cross...])
        } else {
            throw bad(form)
        }
        let target = left.drop { $0 == " " }
        let dot = target.lastIndex(of: ".")
        let name = dot.map { target[target.index(after: $0)...] } ?? target
        guard let key = Key(rawValue: String(name.filter { $0 != " " })) else {
            let meant =
                nearest(to: String(name), among: Key.allCases.map(\.rawValue)).map { "did you mean \($0)? " } ?? ""
            throw bad(meant + "a key among \(Key.allCases.map(\.rawValue).joined(separator: ", "))", .unknownKey)
        }
        self.key = key
        let subject = dot.map { String(target[..<$0]) } ?? ""
        who = subject == "*" || subject.isEmpty ? [] : subject.split(separator: "/").map(String.init)
        guard who.count <= (key.isLink ? 2 : 1) else { throw bad("one host for \(key.rawValue)") }
        right = right.drop { $0 == " " }
        if right.first == "x" {
            guard let factor = decimalNumber(right.dropFirst().filter { $0 != " " }), factor >= 0, factor <= 1e6 else {
                throw bad("a factor from 0 after x")
            }
            change = .times(factor)
            return
        }
        let sign = right.first
        if sign == "+" || sign == "-" { right = right.dropFirst().drop { $0 == " " } }
        guard let (number, unit) = splitUnit(String(right)), let scale = WhatIf.scale(unit, key) else {
            throw bad("a number with its unit: \(key.units)")
        }
        let value = number * scale
        guard value.isFinite, abs(value) <= 1e18 else { throw bad("a smaller number", .outOfRange) }
        change = sign == "+" ? .add(value) : sign == "-" ? .add(-value) : .set(value)
    }

    /// Bit/s, FLOP/s, bytes, seconds or a share.
    private static func scale(_ unit: String, _ key: Key) -> Double? {
        let unit = unit.filter { $0 != " " }
        switch key {
        case .up, .down, .rate:
            return ["bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9][
                unit]
        case .speed: return ["MFLOP/s": 1e6, "GFLOP/s": 1e9, "TFLOP/s": 1e12][unit]
        case .memory: return ["KiB": 1024, "MiB": 1_048_576, "GiB": 1_073_741_824, "MB": 1e6, "GB": 1e9][unit]
        case .latency, .jitter: return ["us", "µs", "ms", "s"].contains(unit) ? secondsPerUnit(unit) : nil
        case .availability, .loss: return unit == "%" ? 0.01 : unit.isEmpty ? 1 : nil
        }
    }

    /// The topology as it would be.
    ///
    /// - Throws: ``FileProblem`` when a host is not in it, or the result could not be.
    public func applied(to topology: Topology) throws(FileProblem) -> Topology {
        var out = topology
        var hosts: [Int] = []
        for name in who {
            guard let host = topology.index(of: name) else {
                let meant =
                    nearest(to: name, among: topology.hosts.prefix(2000).map(\.name)).map { ": did you mean \($0)?" }
                    ?? ""
                throw FileProblem(
                    .unknownName, file: "--what-if", found: "“\(name.prefix(60))”",
                    allowed: "a host of \(topology.name)\(meant)")
            }
            hosts.append(host)
        }
        if key.isLink {
            try changeLinks(&out, hosts)
        } else {
            try changeHosts(&out, hosts.isEmpty ? topology.peers : hosts)
        }
        return out
    }

    private func checked(_ value: Double, _ range: ClosedRange<Double>, _ what: String) throws(FileProblem) -> Double {
        guard range.contains(value) else {
            throw FileProblem(.outOfRange, file: "--what-if", found: "“\(text.prefix(60))”", allowed: what)
        }
        return value
    }

    private func changeHosts(_ topology: inout Topology, _ hosts: [Int]) throws(FileProblem) {
        for index in hosts {
            let host = topology.hosts[index]
            switch key {
            case .up: topology.hosts[index].up.bitsPerSecond = try rate(host.up.bitsPerSecond)
            case .down: topology.hosts[index].down.bitsPerSecond = try rate(host.down.bitsPerSecond)
            case .speed:
                topology.hosts[index].flops = try checked(
                    change.apply(to: host.flops), 1...1e18, "a speed greater than 0")
            case .memory:
                let bytes = try checked(
                    change.apply(to: Double(host.memory.bytes)), 1...1e15, "a memory greater than 0")
                topology.hosts[index].memory = ByteCount(Int(bytes))
            default:
                topology.hosts[index].availability = try checked(
                    change.apply(to: host.availability), 1e-6...1, "an availability greater than 0, at most 1")
            }
        }
    }
    private func rate(_ value: Double) throws(FileProblem) -> Double {
        try checked(change.apply(to: value), 1...1e13, "a rate greater than 0")
    }

    private func changed(_ link: LinkProperties) throws(FileProblem) -> LinkProperties {
        var link = link
        func time(_ value: Duration) throws(FileProblem) -> Duration {
            // Less than nothing is nothing: “-10 ms” on a link of 2 ms.
            let seconds = try checked(max(0, change.apply(to: value / .seconds(1))), 0...100, "at most 100 s")
            return .nanoseconds(Int64((seconds * 1e9).rounded()))
        }
        switch key {
        case .latency: link.latency = try time(link.latency)
        case .jitter: link.jitter = try time(link.jitter)
        case .loss: link.loss = try checked(change.apply(to: link.loss), 0...0.99, "a loss from 0 to 99 %")
        default:
            if let known = link.rate {
                link.rate = BitRate(bitsPerSecond: try rate(known.bitsPerSecond))
            } else if case .set(let value) = change {
                link.rate = BitRate(bitsPerSecond: try checked(value, 1...1e13, "a rate greater than 0"))
            }
        }
        return link
    }

    private func changeLinks(_ topology: inout Topology, _ hosts: [Int]) throws(FileProblem) {
        if hosts.isEmpty {
            if let link = topology.defaultLink { topology.defaultLink = try changed(link) }
            for index in topology.regions.indices {
                if let inside = topology.regions[index].inside { topology.regions[index].inside = try changed(inside) }
            }
            for pair in topology.regionLinks.keys.sorted() {
                topology.regionLinks[pair] = try changed(topology.regionLinks[pair]!)
            }
            for pair in topology.links.keys.sorted() { topology.links[pair] = try changed(topology.links[pair]!) }
            return
        }
        let others = hosts.count == 2 ? [hosts[1]] : topology.hosts.indices.filter { $0 != hosts[0] }
        for other in others where other != hosts[0] {
            for pair in [Topology.Pair(hosts[0], other), Topology.Pair(other, hosts[0])] {
                if let link = topology.declaredLink(from: pair.from, to: pair.to) {
                    topology.links[pair] = try changed(link)
                }
            }
        }
    }
}

extension Topology {
    /// The same topology with all latencies, and all rates of lines and links, multiplied.
    public func scaled(latency: Double = 1, bandwidth: Double = 1) -> Topology {
        func scaled(_ link: LinkProperties) -> LinkProperties {
            var link = link
            link.latency = .nanoseconds(Int64((link.latency / .nanoseconds(1) * latency).rounded()))
            link.rate = link.rate.map { BitRate(bitsPerSecond: $0.bitsPerSecond * bandwidth) }
            return link
        }
        var out = self
        out.defaultLink = defaultLink.map(scaled)
        out.regionLinks = regionLinks.mapValues(scaled)
        out.links = links.mapValues(scaled)
        for index in regions.indices { out.regions[index].inside = regions[index].inside.map(scaled) }
        for index in hosts.indices {
            out.hosts[index].up.bitsPerSecond *= bandwidth
            out.hosts[index].down.bitsPerSecond *= bandwidth
        }
        return out
    }
}
