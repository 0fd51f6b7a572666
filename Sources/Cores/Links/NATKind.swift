/// What stands between a host and the internet. The words are RFC 4787's (mapping and filtering) where it has words.
public enum NATKind: String, Hashable, Sendable, CaseIterable {
    /// Nothing: an address of its own, and whoever knows it can dial it.
    case none
    /// A router that hands everything that comes to its address to the host, as with a forwarded port.
    case fullCone = "full-cone"
    /// One port outside for one inside; lets in whoever has an address that was written to.
    case restricted
    /// One port outside for one inside; lets in only the very address and port that was written to. The usual home router.
    case portRestricted = "port-restricted"
    /// Another port outside for each address and port that is written to, and nobody else gets in by it.
    case symmetric
    /// No translation: the host has a public address, and only answers come in. Homes with IPv6.
    case firewall
    /// As `port-restricted`, and connections begin inside only: a SYN never comes in, whatever was written before. Of the routers that Ford et al.
    /// (2005) measured a third could not be passed by connections, a sixth not by datagrams.
    case noConnectionsIn = "no-connections-in"
    /// As `port-restricted`, and no datagram passes either way.
    case noUDP = "no-udp"
    /// As `port-restricted`, and nothing leaves but connections to the ports 80 and 443.
    case webOnly = "web-only"

    /// The host is known outside by an address that is not its own.
    public var translates: Bool { self != .none && self != .firewall }
    /// Whether somebody to whom nothing was ever sent gets in.
    public var admitsStrangers: Bool { self == .none || self == .fullCone }
}

/// How long a router remembers.
public struct RouterTimers: Hashable, Sendable {
    /// Of datagrams, once an answer came; before that.
    public var answered: Duration
    public var unanswered: Duration
    /// Of connections.
    public var connection: Duration

    /// Linux: 120 s and 30 s. RFC 4787 asks for 120 s at least, RFC 5382 for 2 h 4 min of a connection.
    public init(
        answered: Duration = .seconds(120), unanswered: Duration = .seconds(30), connection: Duration = .seconds(7440)
    ) {
        self.answered = answered
        self.unanswered = unanswered
        self.connection = connection
    }
}
