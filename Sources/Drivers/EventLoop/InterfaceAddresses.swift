import Glibc
public import Primitives

/// The addresses of this machine's interfaces, to notice that it is in another network.
public enum InterfaceAddresses {
    /// Those of interfaces that are up and lead elsewhere, ascending; port 0. Nil when the system does not say.
    public static var current: [Endpoint]? {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return nil }
        defer { freeifaddrs(first) }
        var out: [Endpoint] = []
        var next = first
        while let entry = next {
            next = entry.pointee.ifa_next
            let flags = entry.pointee.ifa_flags
            guard flags & UInt32(IFF_UP) != 0, flags & UInt32(IFF_LOOPBACK) == 0,
                let endpoint = Endpoint(socketAddress: UnsafePointer(entry.pointee.ifa_addr))
            else { continue }
            out.append(endpoint)
        }
        return out.sorted()
    }
}
