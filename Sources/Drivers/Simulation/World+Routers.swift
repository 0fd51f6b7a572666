import Daemon
import Kademlia
import Links
import Primitives
import Topologies
import VirtualNetworks

/// What a host has beside its daemon, in a world with routers.
struct Outside {
    /// How often its line got another address.
    var renumberings = 0
    /// How many others it has dialled back.
    var dialsBack = 0
}

/// Worlds in which some are behind routers. There public addresses are public ones, each in a network of its own, so that daemons do what
/// they do on the internet: find out where they are seen, and whether they can be reached.
extension World {
    /// - Parameter isOpen: nobody in this world is behind anything: then all are in one private network.
    static func endpoint(of index: Int, _ nat: NATKind, isOpen: Bool) -> Endpoint {
        if !isOpen, !nat.translates { return Endpoint(address: publicAddress(index, number: 0), port: 4000)! }
        return Endpoint(ipv4: 10, UInt8(index >> 16), UInt8(index >> 8 & 255), UInt8(index & 255), port: 4000)
    }
    /// The next address of its line, each time that it changes.
    private static func publicAddress(_ index: Int, number: Int) -> [UInt8] {
        [60 + UInt8(number % 64), UInt8(index >> 8 & 255), UInt8(index & 255), 1]
    }
    func putBehindRouter(_ index: Int, _ host: Host) {
        guard host.nat != .none else { return }
        var timers = RouterTimers()
        if let timeout = host.natTimeout { (timers.answered, timers.unanswered) = (timeout, timeout) }
        network.putBehindRouter(
            [index], host.nat, at: Self.publicAddress(index, number: 0), timers: timers,
            seed: options.seed &+ UInt64(index) &* 271)
    }
    func renumber(_ host: SimulatedHost) {
        outside[host.index, default: Outside()].renumberings += 1
        network.renumber(
            host.index, to: Self.publicAddress(host.index, number: outside[host.index]!.renumberings))
        host.endpoint = network.endpoint(of: host.index)
    }

    /// Somebody asks whether it can be reached: one dial and one datagram, each from a port that nobody knows.
    func dialBack(_ dial: DialBack, _ endpoint: Endpoint, _ probe: DatagramProbe, by host: SimulatedHost) {
        guard topology.hasRouters else {
            // Modelled hosts stand in the open: whoever lives can be reached.
            let reached = network.host(at: endpoint).map { network.isUp($0) } ?? false
            if reached { network.send(probe.bytes, from: host.index, to: probe.endpoint) }
            return host.daemon!.dialledBack(dial, reached: reached, at: now)
        }
        outside[host.index, default: Outside()].dialsBack += 1
        let port = UInt16(20_000 + outside[host.index]!.dialsBack % 40_000)
        let reached = network.reaches(endpoint, from: host.index, port: port)
        network.send(probe.bytes, from: host.index, port: port, to: probe.endpoint)
        host.daemon!.dialledBack(dial, reached: reached, at: now)
    }
}
