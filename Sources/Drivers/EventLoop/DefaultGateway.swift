import Glibc
public import Primitives

/// The router that this machine sends everything to that it knows no nearer way for (IPv4).
public enum DefaultGateway {
    /// Nil where there is none, or the system does not say.
    public static var current: Endpoint? {
        guard let file = fopen("/proc/net/route", "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let count = fread(&bytes, 1, bytes.count, file)
        return gateway(inRoutes: String(decoding: bytes[..<count], as: UTF8.self))
    }
    /// From the kernel's table (proc(5), /proc/net/route): the default route with the smallest metric. Port 0.
    package static func gateway(inRoutes text: String) -> Endpoint? {
        var best: (metric: UInt32, endpoint: Endpoint)?
        for line in text.split(separator: "\n").dropFirst() {
            // Interface, destination, gateway, flags, references, use, metric, mask, …; numbers as the kernel has them in memory.
            let words = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
            guard words.count >= 8, words[1] == "00000000", words[7] == "00000000",
                let flags = UInt32(words[3], radix: 16), flags & 3 == 3,
                let address = UInt32(words[2], radix: 16), let metric = UInt32(words[6])
            else { continue }
            let bytes = withUnsafeBytes(of: address) { Array($0) }
            guard let endpoint = Endpoint(address: bytes, port: 0), address != 0,
                best.map({ metric < $0.metric }) ?? true
            else { continue }
            best = (metric, endpoint)
        }
        return best?.endpoint
    }
    /// That of IPv6, and the interface that it is at: its address is mostly a link's own, which means nothing without that. Port 0.
    public static var currentIPv6: (router: Endpoint, interface: String)? {
        guard let file = fopen("/proc/net/ipv6_route", "r") else { return nil }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 18)
        let count = fread(&bytes, 1, bytes.count, file)
        return gateway(inIPv6Routes: String(decoding: bytes[..<count], as: UTF8.self))
    }
    /// From the kernel's table (/proc/net/ipv6_route): the default route with the smallest metric.
    package static func gateway(inIPv6Routes text: String) -> (router: Endpoint, interface: String)? {
        var best: (metric: UInt32, router: Endpoint, interface: String)?
        for line in text.split(separator: "\n") {
            // Destination and its bits, source and its bits, next hop, metric, references, use, flags, interface.
            let words = line.split(separator: " ")
            guard words.count >= 10, words[0].allSatisfy({ $0 == "0" }), words[1] == "00",
                let metric = UInt32(words[5], radix: 16), let flags = UInt32(words[8], radix: 16), flags & 3 == 3,
                let address = hex(words[4]), let router = Endpoint(address: address, port: 0),
                best.map({ metric < $0.metric }) ?? true
            else { continue }
            best = (metric, router, String(words[9]))
        }
        return best.map { ($0.router, $0.interface) }
    }
    private static func hex(_ text: Substring) -> [UInt8]? {
        guard text.utf8.count == 32 else { return nil }
        var out: [UInt8] = []
        var rest = text
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            out.append(byte)
            rest = rest.dropFirst(2)
        }
        return out
    }
    /// This machine's own address for whatever is on the IPv6 internet; port 0. Nil where it has none, or a private one.
    public static var publicIPv6: Endpoint? {
        // Any address of the range in use (RFC 4291, §2.5.4) goes the default way.
        guard let somewhere = Endpoint("[2000::1]:9"), let own = local(towards: somewhere), !own.isPrivate else {
            return nil
        }
        return own
    }
    /// This machine's address on its way to somebody, as the kernel would choose it; port 0. Nothing is sent.
    public static func local(towards endpoint: Endpoint) -> Endpoint? {
        let descriptor = socket(endpoint.isIPv4 ? AF_INET : AF_INET6, Int32(SOCK_DGRAM.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        let size = socklen_t(endpoint.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        guard endpoint.withSocketAddress({ connect(descriptor, $0, size) }) == 0,
            let own = Endpoint(boundTo: descriptor)
        else { return nil }
        return Endpoint(address: own.address, port: 0)
    }
}
