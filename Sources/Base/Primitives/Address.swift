/// A way to reach a peer. Today there is the direct one; relayed and mapped ones will be further cases.
public enum Address: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// A dial to this endpoint.
    case direct(Endpoint)

    /// Where packets go at first.
    public var endpoint: Endpoint {
        switch self {
        case .direct(let endpoint): endpoint
        }
    }
    public var description: String { endpoint.description }
    public static func < (a: Address, b: Address) -> Bool { a.endpoint < b.endpoint }
}
