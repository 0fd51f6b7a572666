public import Primitives

/// What somebody who speaks UPnP (Internet Gateway Device) is to ask the gateway for.
public struct IGDWish: Hashable, Sendable {
    /// Only a device at this address is asked, whoever else answers; the port says nothing.
    public var gateway: Endpoint
    /// That this machine listens at, TCP and UDP.
    public var port: UInt16
    /// Seconds that the gateway is to forward it; zero: no longer.
    public var seconds: UInt32
    public init(gateway: Endpoint, port: UInt16, seconds: UInt32) {
        self.gateway = gateway
        self.port = port
        self.seconds = seconds
    }
}
public enum IGDAnswer: Hashable, Sendable {
    /// The address outside and the TCP port there, the UDP port, and for how long; 0 seconds: until it is told otherwise.
    case forwarded(Endpoint, datagramPort: UInt16?, seconds: UInt32)
    case refused(GatewayRefusal)
    /// There is no such device, or nobody here speaks UPnP.
    case nobody
}

/// The mapping by UPnP: HTTP and XML, which a library speaks where one is installed. It is asked for only where the gateway has answered neither
/// protocol of ours for a while, or has refused.
struct IGDLease: Sendable {
    enum Stage: Hashable, Sendable {
        case idle
        case asked(until: Instant)
        case held(ForwardedPort, renewAt: Instant)
        case resting(until: Instant)
    }
    private(set) var stage = Stage.idle

    /// A device is looked for within seconds; a library that has hung says nothing for longer.
    private static let patience = Duration.seconds(60)
    private static let rest = Duration.seconds(1800)
    /// UPnP has no epoch: so often the gateway is asked again, whatever life it gave.
    private static let renewal = Duration.seconds(1200)
    private static let lives = 8...86_400

    var port: ForwardedPort? { if case .held(let port, _) = stage { port } else { nil } }
    func due(isWanted: Bool) -> Instant? {
        switch stage {
        case .idle: nil
        case .asked(let until): until
        case .held(let port, let renewAt): min(port.until, renewAt)
        case .resting(let until): isWanted ? until : nil
        }
    }
    /// - Parameter isWanted: nothing else forwards the port.
    /// - Returns: whether to ask now.
    mutating func wake(isWanted: Bool, at now: Instant) -> Bool {
        switch stage {
        case .asked(let until):
            if until <= now { stage = .resting(until: now + Self.rest) }
            return false
        case .held(let port, let renewAt):
            if port.until <= now {
                stage = .idle
                return wake(isWanted: isWanted, at: now)
            }
            guard renewAt <= now else { return false }
            stage = .held(port, renewAt: now + Self.patience)
            return true
        case .idle, .resting:
            if case .resting(let until) = stage, until > now { return false }
            guard isWanted else { return false }
            stage = .asked(until: now + Self.patience)
            return true
        }
    }
    mutating func answered(_ answer: IGDAnswer, at now: Instant) {
        switch (answer, stage) {
        case (_, .idle), (_, .resting): return
        case (.forwarded(let endpoint, let datagramPort, let seconds), _):
            guard endpoint.isDialable, endpoint.isIPv4 else {
                stage = .resting(until: now + Self.rest)
                return
            }
            let given = seconds == 0 ? Self.lives.upperBound : Int(seconds)
            let life = Duration.seconds(min(max(given, Self.lives.lowerBound), Self.lives.upperBound))
            let port = ForwardedPort(endpoint: endpoint, datagramPort: datagramPort, spoken: .upnp, until: now + life)
            stage = .held(port, renewAt: now + min(life / 2, Self.renewal))
        // What is held is held until its end, whatever a renewal says.
        case (.refused, .held), (.nobody, .held): return
        case (.refused, _), (.nobody, _): stage = .resting(until: now + Self.rest)
        }
    }
}

extension PortMapper {
    /// What came of an ``Effect/igd(_:)``.
    public mutating func answered(_ answer: IGDAnswer, at now: Instant) {
        igd.answered(answer, at: now)
        wake(at: now)
    }
}
