public import Glibc
public import Primitives

extension Endpoint {
    /// This address inside IPv6 (RFC 4291 §2.5.5.2), for sockets of both families.
    var mapped: Endpoint {
        guard isIPv4 else { return self }
        return Endpoint(address: [UInt8](repeating: 0, count: 10) + [255, 255] + address, port: port)!
    }

    /// Calls `body` with this endpoint as the kernel writes it.
    func withSocketAddress<R>(_ body: (UnsafePointer<sockaddr>) -> R) -> R {
        if isIPv4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: self.address) }
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0) }
            }
        }
        var address = sockaddr_in6()
        address.sin6_family = sa_family_t(AF_INET6)
        address.sin6_port = port.bigEndian
        withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: self.address) }
        return withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0) } }
    }

    /// Likewise, for who opens sockets himself.
    public func withNativeAddress<R>(_ body: (UnsafePointer<sockaddr>) -> R) -> R { withSocketAddress(body) }

    /// The address that a socket is bound to.
    public init?(boundTo socket: Int32) {
        self.init(asking: { address, length in
            var size = socklen_t(length.pointee)
            defer { length.pointee = Int32(size) }
            return getsockname(socket, address, &size)
        })
    }

    /// Nil for anything but IPv4 and IPv6. IPv4 addresses mapped into IPv6 become plain ones.
    init?(_ pointer: UnsafePointer<sockaddr>) {
        switch Int32(pointer.pointee.sa_family) {
        case AF_INET:
            let address = UnsafeRawPointer(pointer).loadUnaligned(as: sockaddr_in.self)
            let bytes = withUnsafeBytes(of: address.sin_addr) { Array($0) }
            self.init(address: bytes, port: UInt16(bigEndian: address.sin_port))
        case AF_INET6:
            let address = UnsafeRawPointer(pointer).loadUnaligned(as: sockaddr_in6.self)
            var bytes = withUnsafeBytes(of: address.sin6_addr) { Array($0) }
            if bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]) { bytes.removeFirst(12) }
            self.init(address: bytes, port: UInt16(bigEndian: address.sin6_port))
        default: return nil
        }
    }

    /// As ``init(_:)``, of what the resolver returns.
    public init?(socketAddress: UnsafePointer<sockaddr>?) {
        guard let socketAddress else { return nil }
        self.init(socketAddress)
    }

    /// Asks the kernel for one end of a socket.
    init?(asking body: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<Int32>) -> Int32) {
        var storage = sockaddr_storage()
        var length = Int32(MemoryLayout<sockaddr_storage>.size)
        let found: Endpoint? = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, &length) == 0 ? Endpoint($0) : nil }
        }
        guard let found else { return nil }
        self = found
    }
}

extension Endpoint {
    var family: UInt32 { UInt32(isIPv4 ? AF_INET : AF_INET6) }
}
/// Sets an integer option; options that a kernel lacks are left alone.
func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    _ = setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
}
