public import Primitives
import Wire

/// A node as others know it: where in the key space, and where on the internet.
public struct Contact: Hashable, Sendable, CustomStringConvertible {
    public let id: NodeID
    public let endpoint: Endpoint
    public init(id: NodeID, endpoint: Endpoint) {
        self.id = id
        self.endpoint = endpoint
    }
    public var description: String { "\(id)@\(endpoint)" }
}

/// IPv4 and IPv6 are two networks with two tables (BEP 32).
enum Family: Int, CaseIterable, Sendable {
    case ipv4, ipv6
    /// Bytes of one node in `nodes` or `nodes6`.
    var nodeSize: Int { self == .ipv4 ? 26 : 38 }
}

/// An ``Endpoint`` in 24 bytes without a heap object: tables hold hundreds, a simulated world hundreds of millions.
struct PackedEndpoint: Hashable, Comparable, Sendable {
    let high: UInt64, low: UInt64
    let port: UInt16
    let isIPv4: Bool

    init(_ endpoint: Endpoint) {
        port = endpoint.port
        isIPv4 = endpoint.isIPv4
        (high, low) = Self.words(endpoint.address[...])
    }
    init(ipv4: UInt32, port: UInt16) { self.init(high: 0, low: UInt64(ipv4), port: port, isIPv4: true) }
    /// 6 or 18 bytes (BEP 5, BEP 32), else nil.
    init?(compact bytes: ArraySlice<UInt8>) {
        guard bytes.count == 6 || bytes.count == 18 else { return nil }
        isIPv4 = bytes.count == 6
        (high, low) = Self.words(bytes.dropLast(2))
        port = UInt16(bytes[bytes.endIndex - 2]) << 8 | UInt16(bytes[bytes.endIndex - 1])
    }
    private init(high: UInt64, low: UInt64, port: UInt16, isIPv4: Bool) {
        (self.high, self.low, self.port, self.isIPv4) = (high, low, port, isIPv4)
    }
    private static func words(_ address: ArraySlice<UInt8>) -> (UInt64, UInt64) {
        var high: UInt64 = 0
        var low: UInt64 = 0
        for byte in address {
            high = high << 8 | low >> 56
            low = low << 8 | UInt64(byte)
        }
        return (high, low)
    }

    var family: Family { isIPv4 ? .ipv4 : .ipv6 }
    func with(port: UInt16) -> PackedEndpoint { PackedEndpoint(high: high, low: low, port: port, isIPv4: isIPv4) }
    var address: [UInt8] { Array(compact.dropLast(2)) }
    var compact: [UInt8] {
        var out: [UInt8] = []
        out.reserveCapacity(isIPv4 ? 6 : 18)
        if !isIPv4 {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                out.append(UInt8(truncatingIfNeeded: high >> shift))
            }
        }
        for shift in stride(from: UInt64(isIPv4 ? 24 : 56), through: 0, by: -8) {
            out.append(UInt8(truncatingIfNeeded: low >> shift))
        }
        out.append(UInt8(port >> 8))
        out.append(UInt8(port & 255))
        return out
    }
    var endpoint: Endpoint { Endpoint(compact: compact)! }

    /// What one owner can be assumed to hold whole: the /24 of IPv4, the /56 of IPv6. Budgets and limits count by it.
    var prefix: UInt64 { isIPv4 ? 1 << 63 | low >> 8 : high >> 8 }

    /// Loopback, link-local or private, as ``Endpoint/isPrivate``.
    var isPrivate: Bool {
        if isIPv4 {
            let first = low >> 24
            return first == 127 || first == 10 || low >> 20 == 0xac1 || low >> 16 == 0xc0a8 || low >> 16 == 0xa9fe
        }
        return (high == 0 && low == 1) || high >> 57 == 0x7e || high >> 54 == 0x3fa
    }
    /// Whether a datagram may be sent there at all: port 0 and the unspecified and multicast addresses are nobody's.
    var isUsable: Bool {
        guard port != 0 else { return false }
        if isIPv4 { return low >> 24 != 0 && low >> 28 < 14 }
        return !(high == 0 && low == 0) && high >> 56 != 0xff
    }

    static func < (x: PackedEndpoint, y: PackedEndpoint) -> Bool {
        if x.isIPv4 != y.isIPv4 { return x.isIPv4 }
        if x.high != y.high { return x.high < y.high }
        if x.low != y.low { return x.low < y.low }
        return x.port < y.port
    }
}

/// A ``Contact`` in the packed form.
struct PackedContact: Hashable, Sendable {
    let id: NodeID
    let address: PackedEndpoint
    init(id: NodeID, address: PackedEndpoint) {
        self.id = id
        self.address = address
    }
    init(_ contact: Contact) { self.init(id: contact.id, address: PackedEndpoint(contact.endpoint)) }
    var contact: Contact { Contact(id: id, endpoint: address.endpoint) }

    /// Reads `nodes` or `nodes6`: whole entries only; addresses nobody can have are left out. At most `limit` entries.
    static func parse(_ bytes: ArraySlice<UInt8>, family: Family, limit: Int) -> [PackedContact]? {
        guard bytes.count % family.nodeSize == 0 else { return nil }
        var out: [PackedContact] = []
        var start = bytes.startIndex
        while start < bytes.endIndex, out.count < limit {
            if let id = NodeID(bytes[start..<start + 20]),
                let address = PackedEndpoint(compact: bytes[start + 20..<start + family.nodeSize]), address.isUsable
            {
                out.append(PackedContact(id: id, address: address))
            }
            start += family.nodeSize
        }
        return out
    }
}
