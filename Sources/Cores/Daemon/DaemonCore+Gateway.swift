import Channels
import Digests
import Kademlia
public import Paths
public import Primitives
import Telemetry

/// The port at which others reach this daemon: its own, or one that the router in front of it forwards, once somebody has come in there.
extension DaemonCore {
    /// The router of this machine is this one; nil where there is none, or its owner does not want it to be asked. It is asked for the listening port as soon as
    /// others see this daemon at a public address that is not its own.
    public mutating func use(gateway: PortMapper.Gateway?, at now: Instant) {
        presence.machine.gateway = gateway
        presence.isChanged = true
        askGateway(at: now)
        drain(at: now)
    }
    /// The router of IPv6 is this one; its firewall is asked to let in what comes for the listening port (PCP alone knows how). What it says counts when
    /// others have come in.
    public mutating func use(pinholes gateway: PortMapper.Gateway?, at now: Instant) {
        presence.machine.gatewayIPv6 = gateway
        askGateway(at: now)
        drain(at: now)
    }
    /// This machine has a public IPv6 address of its own, or none any more; the port is the one that it listens at.
    public mutating func use(ownIPv6 endpoint: Endpoint?, at now: Instant) {
        guard presence.machine.ownIPv6 != endpoint else { return }
        presence.machine.ownIPv6 = endpoint
        presence.isChanged = true
        drain(at: now)
    }
    /// This machine's own address on its way out, port 0; nil where it has none of IPv4. Where others see it at another one there is a router in front of it.
    public mutating func use(ownIPv4 endpoint: Endpoint?) { presence.machine.ownIPv4 = endpoint }
    /// From the socket that sends ``Effect/gateway(_:to:)``.
    public mutating func receive(gateway bytes: [UInt8], from sender: Endpoint, at now: Instant) {
        carriage.receive(gateway: bytes, from: sender, at: now)
        drain(at: now)
    }
    /// What came of an ``Effect/igd(_:)``.
    public mutating func answered(igd answer: IGDAnswer, at now: Instant) {
        carriage.answered(answer, at: now)
        drain(at: now)
    }
    /// Where this daemon is seen, or its router, may have changed.
    mutating func askGateway(at now: Instant) {
        let (key, port) = (key, presence.port)
        carriage.use(pinholes: presence.firewallToAsk, at: now) { Self.mapper(key, port, "atoll/pinhole/1") }
        carriage.use(presence.gatewayToAsk, at: now) { Self.mapper(key, port, "atoll/port-mapping/1") }
    }
    private static func mapper(_ key: SigningKey, _ port: UInt16, _ purpose: String) -> PortMapper {
        // Of the identity: after a crash the router still knows who has the port (RFC 6887 §11.3).
        let secret = hmacSHA256(key: key.seed, Array(purpose.utf8) + [UInt8(port >> 8), UInt8(port & 255)])
        let seed = secret[24..<32].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        return PortMapper(port: port, secret: Array(secret.prefix(24)), seed: seed)
    }
    /// The router says that a port leads here, or none any more.
    mutating func forwarded(_ endpoint: Endpoint?, at now: Instant) {
        let before = presence.opened
        presence.forward(endpoint, at: now)
        // Its own goodbye is no news.
        if let before, presence.opened == nil, presence.machine.gateway != nil {
            say(.portClosed(endpoint: before.description, why: "the router has let go of it"), at: now)
        }
        moveIfOpened(at: now)
    }
    /// Others have tried to come in.
    mutating func judge(_ votes: ReachVotes, at now: Instant) {
        let (before, tried) = (presence.opened, presence.forwardTried)
        // What the router itself says it forwards it forwards for everybody (RFC 6887, §11): there acquaintances say as much as strangers.
        let (count, asked) = tried == nil ? (votes.reached, votes.counted) : (votes.dialled, votes.asked)
        presence.judged(reached: count, asked: asked, isProvisional: votes.isProvisional, at: now)
        guard asked > 0 else { return }
        say(.reachability(reached: count, asked: asked, reachable: presence.isReachable), at: now)
        if let opened = presence.opened, opened != before {
            say(.portOpened(endpoint: opened.description), at: now)
        } else if presence.opened == nil, let tried {
            say(
                .portClosed(
                    endpoint: tried.description, why: "the router says that it forwards it, and nobody came in there"),
                at: now)
        }
        moveIfOpened(at: now)
        announcePresence()
    }
    /// Others dial another port than before.
    mutating func moveIfOpened(at now: Instant) {
        guard presence.outerPort != channels.port else { return }
        channels.listens(at: presence.outerPort)
        directory.move(to: presence.outerPort, at: now)
        announcePresence()
    }
    var datagramPorts: String? {
        let (voters, ports) = directory.overlay.portsSeen
        guard voters > 1, external.map({ !$0.isPrivate }) ?? false else { return nil }
        return ports > 1 ? "varies" : "same"
    }
    var connectionPorts: String? {
        switch carriage.mapping {
        case .unknown: nil
        case .same: "same"
        case .varies: "varies"
        }
    }
    func forwardingStatus(at now: Instant) -> DaemonStatus.Forwarding? {
        switch carriage.forwarding(at: now) {
        case nil, .idle?: return nil
        case .asking?: return DaemonStatus.Forwarding(.asking)
        case .silent?: return DaemonStatus.Forwarding(.silent)
        case .refused(let why)?: return DaemonStatus.Forwarding(.refused, why: why.description)
        case .forwarded(let port)?:
            let state: DaemonStatus.Forwarding.State =
                if presence.opened == port.endpoint { .open } else if presence.isBehindAnother { .behind } else {
                    presence.isForwardedInVain ? .vain : .untried
                }
            return DaemonStatus.Forwarding(
                state, endpoint: port.endpoint.description, spoken: port.spoken.description,
                secondsLeft: max(0, (port.until - now).inSeconds))
        }
    }
}
