internal import Links
internal import Primitives

/// Writing a topology as the file that reads back equal: the coordinator records measured ones this way.
extension Topology {
    /// YAML, the same text for equal topologies.
    public var text: String {
        var out = "name: \(yamlScalar(name))\nabout: \(yamlScalar(about.isEmpty ? "A pool." : about))\n"
        out += "expect: \(yamlScalar(expectation.isEmpty ? "Nothing in particular." : expectation))\n"
        if let defaultLink { out += "default_link: {\(fields(defaultLink))}\n" }
        if !regions.isEmpty {
            out += "regions:\n"
            for region in regions {
                let inside = region.inside.map { ", " + fields($0) } ?? ""
                out += "  - {name: \(yamlScalar(region.name))\(inside)}\n"
            }
        }
        out += section("region_links", regionLinks) { regions[$0].name }
        out += "hosts:\n"
        for host in hosts { out += "  - {\(fields(host))}\n" }
        out += section("links", links, carried: relays) { hosts[$0].name }
        if !faults.isEmpty {
            out += "events:\n"
            for fault in faults { out += "  - {\(fields(fault))}\n" }
        }
        if let record { out += record.text }
        return out
    }

    /// Equal pairs of directions are written once.
    private func section(
        _ key: String, _ table: [Pair: LinkProperties], carried: [Pair: Int] = [:], _ name: (Int) -> String
    ) -> String {
        if table.isEmpty { return "" }
        var out = "\(key):\n"
        for pair in table.keys.sorted() {
            guard let link = table[pair] else { continue }
            let (from, to) = (yamlScalar(name(pair.from)), yamlScalar(name(pair.to)))
            let relay = carried[pair].map { ", relayed_by: \(yamlScalar(name($0)))" } ?? ""
            let back = Pair(pair.to, pair.from)
            if table[back] == link, carried[back] == carried[pair] {
                if pair.from > pair.to { continue }
                out += "  - {between: [\(from), \(to)], \(fields(link))\(relay)}\n"
            } else {
                out += "  - {from: \(from), to: \(to), \(fields(link))\(relay)}\n"
            }
        }
        return out
    }

    private func fields(_ link: LinkProperties) -> String {
        var out = "latency_ms: \(milliseconds(link.latency))"
        if link.jitter != .zero { out += ", jitter_ms: \(milliseconds(link.jitter))" }
        if link.loss != 0 { out += ", loss_percent: \(yamlNumber(unscaled(link.loss, 0.01)))" }
        if let rate = link.rate { out += ", rate_mbps: \(megabits(rate))" }
        return out
    }
    private func fields(_ host: Host) -> String {
        var out = "name: \(yamlScalar(host.name))"
        if host.role != .peer { out += ", role: \(host.role.rawValue)" }
        out += ", device: \(yamlScalar(host.device)), gflops: \(yamlNumber(unscaled(host.flops, 1e9)))"
        out += ", memory_mib: \(yamlNumber(Double(host.memory.bytes) / 1_048_576))"
        out += ", up_mbps: \(megabits(host.up)), down_mbps: \(megabits(host.down))"
        if let region = host.region { out += ", region: \(yamlScalar(regions[region].name))" }
        if host.availability != 1 { out += ", availability: \(yamlNumber(host.availability))" }
        if let session = host.meanSession { out += ", mean_session_s: \(yamlNumber(session / .seconds(1)))" }
        if host.reachability != .open { out += ", reachability: \(host.reachability.rawValue)" }
        if host.nat != .none { out += ", nat: \(host.nat.rawValue)" }
        if let timeout = host.natTimeout { out += ", nat_timeout_s: \(yamlNumber(timeout / .seconds(1)))" }
        if let mtu = host.mtu { out += ", mtu_bytes: \(mtu)" }
        if let rate = host.relayRate { out += ", relay_mbps: \(megabits(rate))" }
        if let port = host.port { out += ", port: \(port)" }
        return out
    }
    private func fields(_ fault: Fault) -> String {
        var out =
            switch fault.at {
            case .seconds(let seconds): "at_s: \(yamlNumber(seconds))"
            case .progress(let share): "at_progress: \(yamlNumber(share))"
            }
        switch fault.kind {
        case .kill: out += ", kind: kill"
        case .leave: out += ", kind: leave"
        case .join: out += ", kind: join"
        case .slow(let factor): out += ", kind: slow, factor: \(yamlNumber(factor))"
        case .renumber: out += ", kind: renumber"
        case .remap: out += ", kind: remap"
        case .throttle(let factor): out += ", kind: throttle, factor: \(yamlNumber(factor))"
        case .cut(let seconds): out += ", kind: cut, for_s: \(yamlNumber(seconds))"
        }
        return out + ", host: \(yamlScalar(fault.host))"
    }
    private func milliseconds(_ duration: Duration) -> String { yamlNumber(duration / .milliseconds(1)) }
    private func megabits(_ rate: BitRate) -> String { yamlNumber(unscaled(rate.bitsPerSecond, 1e6)) }

    /// The number that, times `scale`, gives `value` again: division alone may miss by one unit in the last place.
    private func unscaled(_ value: Double, _ scale: Double) -> Double {
        let quotient = scale == 0.01 ? value * 100 : value / scale
        for candidate in [quotient, quotient.nextDown, quotient.nextUp] {
            if (scale == 0.01 ? candidate / 100 : candidate * scale) == value { return candidate }
        }
        return quotient
    }
}
