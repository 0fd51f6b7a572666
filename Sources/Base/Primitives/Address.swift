/// A way to reach a peer.
public enum Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// A dial to this endpoint.
    case direct(Endpoint)
    /// A flow, a stream over datagrams, to this endpoint.
    case flow(Endpoint)
    /// Through a peer that carries it, with whom there is a session.
    case relayed(via: PeerID)

    /// Where packets go at first; nowhere of their own if somebody else carries them.
    public var endpoint: Endpoint {
        switch self {
        case .direct(let endpoint), .flow(let endpoint): endpoint
        case .relayed: .nowhere
        }
    }
    public var isDialable: Bool {
        switch self {
        case .direct(let endpoint), .flow(let endpoint): endpoint.isDialable
        case .relayed: true
        }
    }
    /// Nobody else carries it.
    public var isDirect: Bool { if case .relayed = self { false } else { true } }
    public var description: String {
        switch self {
        case .direct(let endpoint): endpoint.description
        case .flow(let endpoint): "\(endpoint) by datagrams"
        case .relayed(let relay): "relayed by \(relay.short)"
        }
    }
    /// Direct ones first.
    public static func < (a: Address, b: Address) -> Bool {
        switch (a, b) {
        case (.direct(let a), .direct(let b)), (.flow(let a), .flow(let b)): a < b
        case (.relayed(let a), .relayed(let b)): a < b
        default: a.rank < b.rank
        }
    }
    private var rank: Int {
        switch self {
        case .direct: 0
        case .flow: 1
        case .relayed: 2
        }
    }
}
