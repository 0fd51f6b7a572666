public import Links
internal import Primitives

extension Topology {
    /// The same topology with a bootstrap node and a coordinator, where the file names none: each is put next to the first
    /// peer and sees the others as that peer does.
    public func withServices() -> Topology {
        var out = self
        guard let first = peers.first else { return out }
        for role in [Host.Role.bootstrap, .coordinator] where !hosts.contains(where: { $0.role == role }) {
            let index = out.hosts.count
            var name = role.rawValue
            while out.hosts.contains(where: { $0.name == name }) { name += "-0" }
            out.hosts.append(
                Host(
                    name: name, role: role, device: "service", flops: max(1e9, hosts[first].flops),
                    memory: .mebibytes(256), up: .megabits(1000), down: .megabits(1000)))
            for other in 0..<index {
                let near = LinkProperties(latency: .microseconds(500))
                out.links[Pair(index, other)] = other == first ? near : out.declaredLink(from: first, to: other) ?? near
                out.links[Pair(other, index)] = other == first ? near : out.declaredLink(from: other, to: first) ?? near
            }
        }
        return out
    }
}

extension Topology {
    /// The topology without the hosts that `keep` refuses; links follow.
    public func keeping(_ keep: (Int) -> Bool) -> Topology {
        let kept = hosts.indices.filter(keep)
        var place: [Int: Int] = [:]
        for (new, old) in kept.enumerated() { place[old] = new }
        var out = self
        out.hosts = kept.map { hosts[$0] }
        out.links = [:]
        for pair in links.keys.sorted() {
            if let from = place[pair.from], let to = place[pair.to] { out.links[Pair(from, to)] = links[pair] }
        }
        out.relays = [:]
        for (pair, relay) in relays {
            guard let from = place[pair.from], let to = place[pair.to] else { continue }
            out.relays[Pair(from, to)] = place[relay]
        }
        out.faults = faults.filter { fault in out.hosts.contains { $0.name == fault.host } }
        return out
    }

    /// A smaller pool of the same mixture: so many of the peers, of each kind of device the first of its share, and all services.
    /// What is left over by rounding goes to the kinds that come first.
    ///
    /// - Parameter count: of peers; all stay where there are no more.
    public func keeping(peers count: Int) -> Topology {
        let all = peers
        guard count < all.count else { return self }
        var kinds: [(device: String, members: [Int])] = []
        for peer in all {
            if let kind = kinds.firstIndex(where: { $0.device == hosts[peer].device }) {
                kinds[kind].members.append(peer)
            } else {
                kinds.append((hosts[peer].device, [peer]))
            }
        }
        var shares = kinds.map { $0.members.count * count / all.count }
        var left = count - shares.reduce(0, +)
        for kind in kinds.indices where left > 0 && shares[kind] < kinds[kind].members.count {
            shares[kind] += 1
            left -= 1
        }
        let stays = Set(zip(kinds, shares).flatMap { $0.members.prefix($1) })
        return keeping { hosts[$0].role != .peer || stays.contains($0) }
    }
}

extension Topology {
    /// The same topology with its peers behind routers and firewalls of these kinds, dealt out in turn.
    public func withPeers(behind kinds: [NATKind]) -> Topology {
        var out = self
        for (number, peer) in peers.enumerated() where !kinds.isEmpty {
            out.hosts[peer].nat = kinds[number % kinds.count]
        }
        return out
    }

    /// The same topology with names that a file may have, each once: a live pool's peers name themselves.
    public func withUsableNames() -> Topology {
        var out = self
        var taken: Set<String> = []
        for index in out.hosts.indices {
            let plain = usableName(hosts[index].name) ?? "peer"
            var (name, number) = (plain, 2)
            while !taken.insert(name).inserted {
                name = "\(plain)-\(number)"
                number += 1
            }
            out.hosts[index].name = name
        }
        return out
    }

    /// Names of hosts that a time line lets in later: they are not there when a job begins. Whoever joins after it was killed, or has left, as
    /// the list has it, was there.
    public var lateJoiners: Set<String> {
        var (late, was): (Set<String>, Set<String>) = ([], [])
        for fault in faults {
            switch fault.kind {
            case .join: if !was.contains(fault.host) { late.insert(fault.host) }
            case .kill, .leave: was.insert(fault.host)
            case .slow, .cut, .throttle, .renumber, .remap: break
            }
        }
        return late
    }
}
