public import Links
public import Primitives

/// A router and who is behind it.
struct VirtualRouter {
    var router: Router
    var hosts: [Int]
}

/// Hosts behind routers: what they send is translated on its way out, and what comes to their routers gets in or is lost. A host's lines
/// and links stay its own; a router takes no time. Hosts behind one router see each other at their own endpoints.
extension VirtualNetwork {
    /// From now on these hosts, which have lines, reach others through a router of their own or one they share.
    ///
    /// - Parameters:
    ///   - address: under which others see them; of a firewall, which translates nothing, it is not looked at.
    ///   - seed: ports of a symmetric router are drawn from it.
    public mutating func putBehindRouter(
        _ members: [Int], _ kind: NATKind, at address: [UInt8], timers: RouterTimers = RouterTimers(), seed: UInt64
    ) {
        precondition(members.allSatisfy { hosts[$0].lines != nil }, "hosts behind routers have lines")
        let exposed = members.first.map { hosts[$0].endpoint }
        let place = routers.count
        let router = Router(kind, address: address, exposing: exposed, timers: timers, seed: seed)
        routers.append(VirtualRouter(router: router, hosts: members))
        for host in members { hosts[host].router = place }
        if kind.translates { routersByAddress[address] = place }
    }
    public func router(of host: Int) -> Router? { hosts[host].router.map { routers[$0].router } }

    /// A host's router was switched off and on. Its connections are dead, and nobody is told.
    public mutating func forgetMappings(of host: Int) {
        guard let place = hosts[host].router else { return }
        routers[place].router.forget()
        silence(routers[place].hosts)
    }
    /// A host's line has another address from now on; so has everybody's who shares its router. Their connections are dead, and nobody is told.
    public mutating func renumber(_ host: Int, to address: [UInt8]) {
        guard let place = hosts[host].router, routers[place].router.kind.translates else {
            return relocate(host, to: Endpoint(address: address, port: hosts[host].endpoint.port)!)
        }
        routersByAddress[routers[place].router.address] = nil
        routersByAddress[address] = place
        routers[place].router.renumber(to: address)
        silence(routers[place].hosts)
    }
    private mutating func silence(_ members: [Int]) {
        for host in members { for id in hosts[host].streams.keys.sorted() { mute(id, of: host) } }
    }

    /// Whether somebody who dials an endpoint from a port that it never used would find a process there.
    public mutating func reaches(_ endpoint: Endpoint, from host: Int, port: UInt16) -> Bool {
        guard !routers.isEmpty else { return byEndpoint[endpoint].map { isUp($0) } ?? false }
        guard let target = recipient(of: endpoint, .tcp, from: host), isUp(target),
            let source = leave(.tcp, host, port: port, to: endpoint)
        else { return false }
        return enters(.tcp, target, from: source, to: endpoint)
    }
    /// A datagram from another port than the host's own.
    public mutating func send(_ datagram: [UInt8], from host: Int, port: UInt16, to endpoint: Endpoint) {
        sendThroughRouters(datagram, from: host, port: port, to: endpoint)
    }

    /// A datagram of so few hops that it passes the host's own router and no other: that one remembers to whom it went.
    public mutating func sendOpener(from host: Int, to endpoint: Endpoint) {
        if !routers.isEmpty { _ = leave(.udp, host, port: nil, to: endpoint) }
    }

    mutating func sendThroughRouters(_ datagram: [UInt8], from: Int, port: UInt16?, to endpoint: Endpoint) {
        guard let source = leave(.udp, from, port: port, to: endpoint),
            let to = recipient(of: endpoint, .udp, from: from), walls[Pair(from: from, to: to)] == nil,
            datagram.count + Self.datagramHead <= min(hosts[from].mtu, hosts[to].mtu)
        else { return }
        offer(
            .letter(datagram, from: source, to: endpoint), bytes: datagram.count + Self.datagramHead, stream: nil,
            from: from, to: to)
    }

    // MARK: ways

    private func isNeighbour(_ host: Int, _ other: Int) -> Bool {
        hosts[host].router != nil && hosts[host].router == hosts[other].router
    }
    /// Whose host is at an endpoint, as one host sees the world; whether it hears of a packet its router decides later.
    func recipient(of endpoint: Endpoint, _ transport: Router.Transport, from host: Int) -> Int? {
        if let place = routersByAddress[endpoint.address] {
            // A packet to one's own router from inside does not come back.
            guard hosts[host].router != place else { return nil }
            if let inside = routers[place].router.owner(transport, of: endpoint) { return byEndpoint[inside] }
            return routers[place].hosts.first
        }
        guard let other = byEndpoint[endpoint] else { return nil }
        guard let place = hosts[other].router, routers[place].router.kind.translates else { return other }
        return isNeighbour(host, other) ? other : nil
    }
    /// Where a packet seems to come from when it has left; nil where it does not.
    mutating func leave(_ transport: Router.Transport, _ host: Int, port: UInt16?, to endpoint: Endpoint) -> Endpoint? {
        let own = hosts[host].endpoint
        let inside = Endpoint(address: own.address, port: port ?? own.port)!
        guard let place = hosts[host].router else { return inside }
        if let other = byEndpoint[endpoint], isNeighbour(host, other) { return inside }
        return routers[place].router.leave(transport, from: inside, to: endpoint, at: now)
    }
    /// Whether a packet that has come to a host's router gets in, and to this host.
    mutating func enters(_ transport: Router.Transport, _ host: Int, from source: Endpoint, to destination: Endpoint)
        -> Bool
    {
        guard let place = hosts[host].router else { return true }
        // From a neighbour it never passed the router.
        if destination == hosts[host].endpoint, routers[place].router.kind.translates { return true }
        let inside = routers[place].router.enter(transport, from: source, to: destination, at: now)
        return inside == hosts[host].endpoint
    }
}
