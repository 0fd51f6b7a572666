import Links
import Primitives
import Topologies

/// Worlds whose launcher and peers are at home: the same pools and troubles, behind routers and firewalls.
extension StormScript {
    /// The bootstrap node stands in the open, and carries for whoever has no path of its own.
    public func atHome() -> StormScript {
        var copy = self
        var draw = SeededGenerator(seed: seed, stream: 0x686f_6d65)
        // The usual router is the usual one here.
        let kinds: [NATKind] = [
            .none, .none, .fullCone, .restricted, .portRestricted, .portRestricted, .portRestricted, .symmetric,
            .firewall, .noUDP,
        ]
        for index in topology.hosts.indices {
            guard topology.hosts[index].role != .bootstrap else {
                copy.topology.hosts[index].relayRate = .megabits(20)
                continue
            }
            let kind = kinds[draw.below(kinds.count)]
            copy.topology.hosts[index].nat = kind
            guard kind.translates, draw.below(4) == 0 else { continue }
            let at = 5 + Self.season * draw.uniform()
            copy.troubles.append(
                Trouble(.remapped, host: index, name: topology.hosts[index].name, from: at, until: at))
        }
        return copy
    }
}
