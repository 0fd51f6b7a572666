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
        var rare = SeededGenerator(seed: seed, stream: 0x7261_7265)
        for index in topology.hosts.indices {
            guard topology.hosts[index].role != .bootstrap else {
                copy.topology.hosts[index].relayRate = .megabits(20)
                copy.topology.hosts[index].port = 443
                continue
            }
            let kind = Self.rarer(kinds[draw.below(kinds.count)], &rare)
            copy.topology.hosts[index].nat = kind
            copy.topology.hosts[index].mtu = [nil, nil, nil, 1492, 1400, 1280][rare.below(6)]
            guard kind.translates, draw.below(4) == 0 else { continue }
            let at = 5 + Self.season * draw.uniform()
            copy.troubles.append(
                Trouble(.remapped, host: index, name: topology.hosts[index].name, from: at, until: at))
        }
        return copy
    }
    /// In one of eight homes nothing leaves but connections to the web's ports; of the usual routers one in three lets no connection in.
    private static func rarer(_ kind: NATKind, _ rare: inout SeededGenerator) -> NATKind {
        if rare.below(8) == 0 { return .webOnly }
        return kind == .portRestricted && rare.below(3) == 0 ? .noConnectionsIn : kind
    }
}
