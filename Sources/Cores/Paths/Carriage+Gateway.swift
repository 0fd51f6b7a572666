public import Primitives

/// The router in front of this daemon, which may let its port in.
extension Carriage {
    /// What is known of that, for people; nil where it is not asked.
    public func forwarding(at now: Instant) -> PortMapper.Standing? { mapper?.standing(at: now) }

    /// Has a gateway let a port in from now on, or nobody.
    ///
    /// - Parameters:
    ///   - make: a mapper, where there is none yet.
    public mutating func use(_ gateway: PortMapper.Gateway?, at now: Instant, make: () -> PortMapper) {
        guard mapper != nil || gateway != nil else { return }
        if mapper == nil { mapper = make() }
        mapper!.use(gateway, at: now)
        drainGateway()
    }
    /// The same of the firewall in front of this machine's own IPv6 address.
    public mutating func use(pinholes gateway: PortMapper.Gateway?, at now: Instant, make: () -> PortMapper) {
        guard pinholes != nil || gateway != nil else { return }
        if pinholes == nil { pinholes = make() }
        pinholes!.use(gateway, at: now)
        drainGateway()
    }
    /// From the socket that talks to the gateway, and to nobody else.
    public mutating func receive(gateway bytes: [UInt8], from sender: Endpoint, at now: Instant) {
        if sender.isIPv4 {
            mapper?.receive(bytes, from: sender, at: now)
        } else {
            pinholes?.receive(bytes, from: sender, at: now)
        }
        drainGateway()
    }
    /// What came of an ``Effect/igd(_:)``.
    public mutating func answered(_ answer: IGDAnswer, at now: Instant) {
        mapper?.answered(answer, at: now)
        drainGateway()
    }
    /// The network may be another one, or the machine has slept.
    public mutating func hurryGateway(at now: Instant) {
        mapper?.hurry(at: now)
        pinholes?.hurry(at: now)
        drainGateway()
    }
    mutating func drainGateway() {
        while let effect = mapper?.poll() {
            switch effect {
            case .send(let bytes, let endpoint): effects.push(.gateway(bytes, to: endpoint))
            case .forwarded(let port): effects.push(.forwarded(port?.endpoint))
            case .igd(let wish): effects.push(.igd(wish))
            }
        }
        while let effect = pinholes?.poll() {
            switch effect {
            case .send(let bytes, let endpoint): effects.push(.gateway(bytes, to: endpoint))
            case .forwarded(let port): effects.push(.pinhole(port?.endpoint))
            // It is for IPv4.
            case .igd: break
            }
        }
    }
}
