/// A way to reach a peer. Today there are a dial and a relay; mapped and punched ones will be further cases.
public enum Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// A dial to this endpoint.
    case direct(Endpoint)
    /// Through a peer that carries it, with whom there is a session.
    case relayed(via: PeerID)

    /// Where packets go at first; nowhere of their own if somebody else carries them.
    public var endpoint: Endpoint {
        switch self {
        case .direct(let endpoint): endpoint
        case .relayed: .nowhere
        }
    }
    public var isDialable: Bool {
        switch self {
        case .direct(let endpoint): endpoint.isDialable
        case .relayed: true
        }
    }
    public var isDirect: Bool { if case .direct = self { true } else { false } }
    public var description: String {
        switch self {
        case .direct(let endpoint): endpoint.description
        case .relayed(let relay): "relayed by \(relay.short)"
        }
    }
    /// Direct ones first.
    public static func < (a: Address, b: Address) -> Bool {
        switch (a, b) {
        case (.direct(let a), .direct(let b)): a < b
        case (.relayed(let a), .relayed(let b)): a < b
        case (.direct, .relayed): true
        case (.relayed, .direct): false
        }
    }
}
