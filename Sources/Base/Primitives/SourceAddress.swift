/// Whom a connection or a datagram is charged to: one IPv4 address, or one IPv6 /64, which a single line usually has whole.
public struct SourceAddress: Hashable, Sendable {
    private let bits: UInt64
    private let isIPv4: Bool

    public init(_ endpoint: Endpoint) {
        isIPv4 = endpoint.isIPv4
        bits = endpoint.address.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}
