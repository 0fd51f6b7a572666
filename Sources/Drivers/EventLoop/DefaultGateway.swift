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
