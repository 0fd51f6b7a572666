/// An IP address with a port, as sockets see it. UDP and TCP of one peer share the number.
public struct Endpoint: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// 4 bytes (IPv4) or 16 bytes (IPv6), network order.
    public let address: [UInt8]
    public let port: UInt16

    /// - Parameter address: 4 or 16 bytes, else nil.
    public init?(address: some Collection<UInt8>, port: UInt16) {
        guard address.count == 4 || address.count == 16 else { return nil }
        self.address = [UInt8](address)
        self.port = port
    }
    /// Nobody is there.
    public static let nowhere = Endpoint(ipv4: 0, 0, 0, 0, port: 0)
    public init(ipv4 a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) {
        address = [a, b, c, d]
        self.port = port
    }
    /// The compact form of BEP 5 and BEP 32: 4+2 or 16+2 bytes, big endian; nil for any other length.
    public init?(compact: some Collection<UInt8>) {
        let bytes = [UInt8](compact)
        guard bytes.count == 6 || bytes.count == 18 else { return nil }
        address = Array(bytes.dropLast(2))
        port = UInt16(bytes[bytes.count - 2]) << 8 | UInt16(bytes[bytes.count - 1])
    }
    public var compact: [UInt8] { address + [UInt8(port >> 8), UInt8(port & 255)] }
    public var isIPv4: Bool { address.count == 4 }
    public var isLoopback: Bool { isIPv4 ? address[0] == 127 : address == [UInt8](repeating: 0, count: 15) + [1] }
    /// Whether somebody may be there: not the unspecified address, multicast, broadcast or port 0.
    public var isDialable: Bool {
        guard port != 0 else { return false }
        if isIPv4 { return address[0] != 0 && address[0] < 224 }
        return address[0] != 0xff && address != [UInt8](repeating: 0, count: 16)
    }
    /// Loopback, link-local or private (RFC 1918, RFC 3927, RFC 4193).
    public var isPrivate: Bool {
        if isLoopback { return true }
        if isIPv4 {
            return address[0] == 10 || (address[0] == 172 && address[1] & 0xf0 == 16)
                || (address[0] == 192 && address[1] == 168) || (address[0] == 169 && address[1] == 254)
        }
        return address[0] & 0xfe == 0xfc || (address[0] == 0xfe && address[1] & 0xc0 == 0x80)
    }

    /// Parses "127.0.0.1:4000", or "[…]:4000" with a full or ::-compressed IPv6 address; no names. Nil when malformed.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else {
            return nil
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
            guard let bytes = Self.parseIPv6(String(host)) else { return nil }
            self.init(address: bytes, port: port)
        } else {
            let parts = host.split(separator: ".", omittingEmptySubsequences: false)
            guard parts.count == 4 else { return nil }
            var bytes: [UInt8] = []
            for part in parts {
                guard let byte = UInt8(part), part.allSatisfy(\.isNumber) else { return nil }
                bytes.append(byte)
            }
            self.init(address: bytes, port: port)
        }
    }
    private static func parseIPv6(_ text: String) -> [UInt8]? {
        func groups(_ part: some StringProtocol) -> [UInt16]? {
            if part.isEmpty { return [] }
            var out: [UInt16] = []
            for group in part.split(separator: ":", omittingEmptySubsequences: false) {
                guard group.count <= 4, let value = UInt16(group, radix: 16) else { return nil }
                out.append(value)
            }
            return out
        }
        var all: [UInt16]
        if let gap = text.firstRange(of: "::") {
            guard let head = groups(text[..<gap.lowerBound]), let tail = groups(text[gap.upperBound...]),
                head.count + tail.count < 8
            else { return nil }
            all = head + [UInt16](repeating: 0, count: 8 - head.count - tail.count) + tail
        } else {
            guard let only = groups(text), only.count == 8 else { return nil }
            all = only
        }
        return all.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
    }

    /// Without the port; IPv6 in the short form of RFC 5952 §4.
    public var host: String {
        if isIPv4 { return address.map { "\($0)" }.joined(separator: ".") }
        let groups = stride(from: 0, to: 16, by: 2).map { UInt16(address[$0]) << 8 | UInt16(address[$0 + 1]) }
        // The first of the longest runs of zeros.
        var gap = 0..<0
        var start = 0
        for index in 0...8 {
            guard index == 8 || groups[index] != 0 else { continue }
            if index - start > max(1, gap.count) { gap = start..<index }
            start = index + 1
        }
        func text(_ part: ArraySlice<UInt16>) -> String { part.map { String($0, radix: 16) }.joined(separator: ":") }
        return gap.isEmpty
            ? text(groups[...]) : text(groups[..<gap.lowerBound]) + "::" + text(groups[gap.upperBound...])
    }
    public var description: String { isIPv4 ? "\(host):\(port)" : "[\(host)]:\(port)" }
    public static func < (x: Endpoint, y: Endpoint) -> Bool {
        x.address == y.address ? x.port < y.port : x.address.lexicographicallyPrecedes(y.address)
    }
}
