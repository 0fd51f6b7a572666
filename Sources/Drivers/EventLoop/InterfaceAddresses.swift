import Glibc
public import Primitives

/// The addresses of this machine's interfaces, to notice that it is in another network, and to say where it is.
public enum InterfaceAddresses {
    /// Those of interfaces that are up and lead elsewhere, ascending; port 0. Nil when the system does not say.
    public static var current: [Endpoint]? {
        list { $0 & UInt32(IFF_UP) != 0 && $0 & UInt32(IFF_LOOPBACK) == 0 }?.sorted()
    }
    /// Those of all interfaces, in the order in which the system names them, its own loop first; port 0. Nil when the system does not say.
    public static var all: [Endpoint]? { list { _ in true } }

    private static func list(_ isWanted: (UInt32) -> Bool) -> [Endpoint]? {
        var first: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&first) == 0 else { return nil }
        defer { freeifaddrs(first) }
        var out: [Endpoint] = []
        var next = first
        while let entry = next {
            next = entry.pointee.ifa_next
            guard isWanted(entry.pointee.ifa_flags), let address = entry.pointee.ifa_addr,
                let endpoint = Endpoint(socketAddress: UnsafePointer(address))
            else { continue }
            out.append(endpoint)
        }
        return out
    }
}
