import Channels
import Daemon
import Digests
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
    /// TLS of the streams that relays carry for it, and how many there were.
    var sessions: [UInt64: VirtualTLS] = [:]
    var sealings: UInt64 = 0
}

/// Worlds in which some are behind routers. There public addresses are public ones, each in a network of its own, so that daemons do what
/// they do on the internet: find out where they are seen, and whether they can be reached.
extension World {
    /// - Parameter isOpen: nobody in this world is behind anything: then all are in one private network.
    /// Among routers a host listens where its owner says (`port`): who sits behind one that lets only the web out reaches port 443.
    static func endpoint(of index: Int, _ host: Host, isOpen: Bool) -> Endpoint {
        let address = publicAddress(index, number: 0)
        if !isOpen, !host.nat.translates { return Endpoint(address: address, port: host.port ?? 4000)! }
        return Endpoint(ipv4: 10, UInt8(index >> 16), UInt8(index >> 8 & 255), UInt8(index & 255), port: 4000)
    }
    /// The next address of its line, each time that it changes.
    private static func publicAddress(_ index: Int, number: Int) -> [UInt8] {
        [60 + UInt8(number % 64), UInt8(index >> 8 & 255), UInt8(index & 255), 1]
    }
    func putBehindRouter(_ index: Int, _ host: Host) {
        if let mtu = host.mtu { network.setMTU(of: index, mtu) }
        guard host.nat != .none else { return }
        var timers = RouterTimers()
        if let timeout = host.natTimeout { (timers.answered, timers.unanswered) = (timeout, timeout) }
        network.putBehindRouter(
            [index], host.nat, at: Self.publicAddress(index, number: 0), timers: timers,
            seed: options.seed &+ UInt64(index) &* 271)
    }
    func forgetMappings(of host: SimulatedHost) { network.forgetMappings(of: host.index) }
    func renumber(_ host: SimulatedHost) {
        outside[host.index, default: Outside()].renumberings += 1
        network.renumber(
            host.index, to: Self.publicAddress(host.index, number: outside[host.index]!.renumberings))
        host.endpoint = network.endpoint(of: host.index)
        host.daemon?.use(ownIPv4: host.endpoint)
        // Behind a router nobody notices; a machine whose own address changes does.
        guard !topology.hosts[host.index].nat.translates, network.isUp(host.index) else { return }
        host.flows?.lineChanged(at: now)
        drain(host)
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
        // The datagram has half of that way: it is there first.
        schedule(.dialledBack(host: host.index, life: host.lives, dial, reached: reached), at: now + Self.dialTime)
    }
    private static let dialTime = Duration.milliseconds(500)
}

/// Streams over datagrams: a flow of the core, with its controller, over the very lines and routers that all else goes over.
extension World {
    func installFlows(on host: SimulatedHost, poolKey: [UInt8]) {
        guard topology.hasRouters else { return }
        let seed = options.seed &+ UInt64(host.index) &* 6373 &+ UInt64(host.lives) &* 32_452_843
        host.flows = VirtualFlows(local: host.key.peerID, poolKey: poolKey, seed: seed, at: now)
    }
    func openFlow(_ id: ConnectionID, _ endpoint: Endpoint, _ peer: PeerID?, _ host: SimulatedHost) {
        guard host.flows != nil else { return host.daemon!.dialFailed(id, at: now) }
        host.flows!.open(id.value, to: endpoint, expecting: peer, at: now)
    }
    /// Datagrams go on their way, and the daemon hears what has come of others.
    ///
    /// - Returns: whether it was told of something.
    func drainFlows(_ host: SimulatedHost) -> Bool {
        var isTold = false
        while network.isUp(host.index), let effect = host.flows?.poll() {
            switch effect {
            case .send(let datagram, let endpoint): network.send(datagram, from: host.index, to: endpoint)
            case .report(let event):
                host.daemon!.happened(event, at: now)
                isTold = true
            }
        }
        return isTold
    }
}

/// TLS of streams that the daemons carry themselves, and commands to streams that are not the network's.
extension World {
    func seal(_ id: ConnectionID, _ isClient: Bool, _ peer: PeerID, _ host: SimulatedHost) {
        outside[host.index, default: Outside()].sealings += 1
        let number = UInt64(host.lives) << 32 | outside[host.index]!.sealings
        let nonce = SeededGenerator.bytes(16, seed: options.seed &+ UInt64(host.index) &* 7331, stream: number)
        var session = VirtualTLS(local: host.key.peerID, isClient: isClient, expecting: peer, nonce: nonce)
        let events = session.begin()
        outside[host.index]!.sessions[id.value] = session
        tell(events, id, host)
    }
    func sealed(_ id: ConnectionID, _ bytes: [UInt8], _ host: SimulatedHost) {
        guard let events = outside[host.index]?.sessions[id.value]?.receive(bytes) else { return }
        tell(events, id, host)
    }
    /// - Returns: whether the stream is carried.
    func carriedWrite(_ id: ConnectionID, _ bytes: [UInt8], _ host: SimulatedHost) -> Bool {
        if let isFlow = host.flows?.has(id.value), isFlow {
            host.flows!.write(id.value, bytes, at: now)
            return true
        }
        guard !outside.isEmpty, let events = outside[host.index]?.sessions[id.value]?.write(bytes) else { return false }
        tell(events, id, host)
        return true
    }
    func carriedClose(_ id: ConnectionID, _ host: SimulatedHost) -> Bool {
        if let isFlow = host.flows?.has(id.value), isFlow {
            host.flows!.close(id.value, at: now)
            return true
        }
        guard !outside.isEmpty, outside[host.index]?.sessions.removeValue(forKey: id.value) != nil else { return false }
        host.daemon!.carried(id, .ended, at: now)
        return true
    }
    private func tell(_ events: [CarriedEvent], _ id: ConnectionID, _ host: SimulatedHost) {
        for event in events { host.daemon!.carried(id, event, at: now) }
    }
}
