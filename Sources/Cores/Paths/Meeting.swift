public import Primitives

/// A wish of one peer to be introduced to another by somebody who is connected with both, and what is known of where it can be met.
public struct Meeting: Hashable, Sendable {
    /// To the introducer: who is to be met. From it: who wants to meet.
    public var peer: PeerID
    /// Given by whoever began it; answers carry it.
    public var number: UInt32
    /// Of the router in front of the sender.
    public var mapping: PortMapping
    /// From the introducer only: where it sees ``peer``, at most ``mostEndpoints``.
    public var endpoints: [Endpoint]
    /// The sender's port for datagrams, at the address where it is seen; nil where it carries no flows, or does not know.
    public var datagrams: DatagramPort?
    public init(_ peer: PeerID, number: UInt32, mapping: PortMapping, endpoints: [Endpoint] = []) {
        self.peer = peer
        self.number = number
        self.mapping = mapping
        self.endpoints = endpoints
    }
    /// The source of the connection that the introducer has, and the same address with the port that the peer listens at.
    public static let mostEndpoints = 2
}

/// The port at which others see a daemon's datagrams, and what its router makes of that.
public struct DatagramPort: Hashable, Sendable {
    public var number: UInt16
    public var mapping: PortMapping
    public init(_ number: UInt16, _ mapping: PortMapping) {
        self.number = number
        self.mapping = mapping
    }
}

/// What a router makes of one port inside (RFC 4787, §4.1), as far as those who see it have said.
public enum PortMapping: UInt8, CaseIterable, Hashable, Sendable {
    /// Nobody has said so, or only one.
    case unknown = 0
    /// The same port for every destination: others can be told where to knock.
    case same = 1
    /// Another port for each destination, which nobody can be told.
    case varies = 2
}

/// Why two are not introduced.
public enum UnmetReason: UInt8, CaseIterable, Hashable, Sendable {
    /// The introducer is not connected with both, or does not see them at a public address.
    case nobody = 0
    /// Too many meetings, here or there.
    case busy = 1
    /// A router gives each destination another port.
    case symmetric = 2
    /// The other one does not want it: it knows neither of a session nor of that introducer.
    case refused = 3
    /// They are connected already, better than by a relay.
    case needless = 4
}

/// Where others see this daemon's listening port, and what its router does to it. Only what comes from that port is counted; whoever sees it
/// says so.
struct Sightings: Sendable {
    private var seen: [PeerID: Endpoint] = [:]
    /// At which address it was seen last.
    private var address: [UInt8] = []
    private static let most = 64

    /// Those who saw it at an older address are forgotten.
    mutating func note(_ endpoint: Endpoint, by observer: PeerID) {
        guard endpoint.isDialable, seen[observer] != nil || seen.count < Self.most else { return }
        if endpoint.address != address {
            address = endpoint.address
            seen = [:]
        }
        seen[observer] = endpoint
    }
    mutating func forget(_ observer: PeerID) { seen[observer] = nil }
    mutating func forget() { seen = [:] }

    var mapping: PortMapping {
        let ports = Set(seen.values.map(\.port))
        return ports.count > 1 ? .varies : seen.count > 1 ? .same : .unknown
    }
}
