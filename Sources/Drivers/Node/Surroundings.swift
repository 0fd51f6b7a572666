package import EventLoop
public import Paths
public import Primitives

/// Whether the router of this machine is asked to let the listening port in, and which one that is.
public enum RouterChoice: Hashable, Sendable {
    case none
    /// That of the system's default route.
    case ofSystem
    /// This one: of a test.
    case given(PortMapper.Gateway)
}

/// What is around this machine: its own addresses, and the router in front of it. Both are looked at again and again, because they change.
package final class Surroundings {
    private let loop: Loop
    private let choice: RouterChoice
    private let listening: Endpoint
    private var addresses: AddressWatch?
    private var socket: UDPSocket?
    /// As told last.
    private var gateway: PortMapper.Gateway?
    /// The same of IPv6, and the socket that speaks to it.
    private var firewall: (gateway: PortMapper.Gateway, interface: String)?
    private var firewallSocket: UDPSocket?
    private let internetGateway = InternetGateway()
    private var internetGatewayQueue: WorkPool.Queue?
    private let onGateway: (PortMapper.Gateway?) -> Void
    private let onIPv6: (Endpoint?) -> Void
    private let onAnswer: ([UInt8], Endpoint) -> Void
    private let onIPv4: (Endpoint?) -> Void
    private let onFirewall: (PortMapper.Gateway?) -> Void

    /// - Parameters:
    ///   - onChange: as ``AddressWatch`` has it; the router follows.
    ///   - onGateway: it is another one, or none.
    ///   - onIPv6: the public IPv6 address that this machine has, with the port that it listens at; or none.
    ///   - onFirewall: that of IPv6, whose firewall may be asked to let a port in; it is another one, or none.
    ///   - onIPv4: the address that this machine has on its way to the internet, port 0; or none.
    ///   - onAnswer: bytes that came to the socket from which ``send(_:to:)`` sends, and from whom.
    package init(
        _ loop: Loop, _ choice: RouterChoice, listening: Endpoint, onChange: @escaping () -> Void,
        onGateway: @escaping (PortMapper.Gateway?) -> Void, onIPv6: @escaping (Endpoint?) -> Void,
        onAnswer: @escaping ([UInt8], Endpoint) -> Void, onIPv4: @escaping (Endpoint?) -> Void = { _ in },
        onFirewall: @escaping (PortMapper.Gateway?) -> Void = { _ in }
    ) {
        (self.loop, self.choice, self.listening) = (loop, choice, listening)
        (self.onGateway, self.onIPv6, self.onAnswer) = (onGateway, onIPv6, onAnswer)
        self.onIPv4 = onIPv4
        self.onFirewall = onFirewall
        addresses = AddressWatch(loop) { [unowned self] in
            onChange()
            look()
        }
    }
    /// Finds the router, and tells where it is another one than before.
    package func look() {
        // A daemon that listens at one address only has no other.
        if !listening.isIPv4, listening.address.allSatisfy({ $0 == 0 }) {
            onIPv6(DefaultGateway.publicIPv6.flatMap { Endpoint(address: $0.address, port: listening.port) })
        }
        // An address that is nobody's (RFC 5737): it goes the default way, and nothing is sent.
        onIPv4(DefaultGateway.local(towards: Endpoint(ipv4: 198, 51, 100, 9, port: 9)))
        lookForFirewall()
        let found = find()
        guard found != gateway else { return }
        socket?.close()
        socket = nil
        gateway = found
        onGateway(found)
    }
    private func lookForFirewall() {
        var found: (gateway: PortMapper.Gateway, interface: String)?
        if choice == .ofSystem, !listening.isIPv4, listening.address.allSatisfy({ $0 == 0 }),
            let local = DefaultGateway.publicIPv6, let (router, interface) = DefaultGateway.currentIPv6,
            let endpoint = Endpoint(address: router.address, port: GatewayProtocol.port)
        {
            found = (PortMapper.Gateway(endpoint: endpoint, local: local), interface)
        }
        guard found?.gateway != firewall?.gateway || found?.interface != firewall?.interface else { return }
        firewallSocket?.close()
        firewallSocket = nil
        firewall = found
        onFirewall(found?.gateway)
    }
    private func find() -> PortMapper.Gateway? {
        switch choice {
        case .none: return nil
        case .given(let gateway): return gateway
        case .ofSystem:
            // Where nobody from outside could come in anyway there is nothing to ask for.
            guard listening.isIPv4 || listening.address.allSatisfy({ $0 == 0 }), !listening.isLoopback,
                let router = DefaultGateway.current,
                let endpoint = Endpoint(address: router.address, port: GatewayProtocol.port),
                let local = DefaultGateway.local(towards: endpoint)
            else { return nil }
            return PortMapper.Gateway(endpoint: endpoint, local: local)
        }
    }
    package func send(_ bytes: [UInt8], to endpoint: Endpoint) {
        guard endpoint.isIPv4 else {
            if firewallSocket == nil, let firewall {
                firewallSocket = try? UDPSocket(
                    loop, bind: Endpoint(address: firewall.gateway.local.address, port: 0)!,
                    interface: firewall.interface
                ) { [unowned self] bytes, sender in onAnswer(Array(bytes), sender) }
            }
            return firewallSocket?.send(bytes, to: endpoint) ?? ()
        }
        if socket == nil, let gateway {
            // From the very address that the question names; a router compares them.
            socket = try? UDPSocket(loop, bind: Endpoint(address: gateway.local.address, port: 0)!) {
                [unowned self] bytes, sender in onAnswer(Array(bytes), sender)
            }
        }
        socket?.send(bytes, to: endpoint)
    }
    /// In UPnP, where a library for it is installed, and only of the router of the system's default route.
    package func ask(_ wish: IGDWish, _ pool: WorkPool, then: @escaping (IGDAnswer) -> Void) {
        guard choice == .ofSystem else { return loop.soon { then(.nobody) } }
        let internetGateway = internetGateway
        let queue = internetGatewayQueue ?? pool.makeQueue()
        internetGatewayQueue = queue
        queue.submit({ internetGateway.perform(wish) }, then: then)
    }
    package func close() {
        addresses?.close()
        socket?.close()
        firewallSocket?.close()
    }
}
