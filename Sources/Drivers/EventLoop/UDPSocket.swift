import CUV
import Glibc
public import Primitives

/// A bound UDP socket. One bound to `[::]` speaks IPv4 too.
///
/// Datagrams come from the kernel up to twenty at a time, and what is sent while they are handled leaves in one call too: a
/// busy node pays a system call for twenty queries, not forty for twenty. Where the kernel can, datagrams of one size to and from one
/// place are cut and put together by it (UDP_SEGMENT and UDP_GRO): then a call is for up to 64 KiB of a flow.
public final class UDPSocket {
    private final class Socket: Handle {
        static let slotBytes = 65_536
        static let slots = 20
        let raw = UnsafeMutablePointer<uv_poll_t>.allocate(capacity: 1)
        let descriptor: Int32
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: slots * slotBytes, alignment: 64)
        var receive: ((UnsafeMutableRawBufferPointer, Int, Endpoint, Duration) -> Void)?
        var batch = Batch()
        var backlog = Backlog()
        /// The kernel cuts bursts; not every device can have them cut.
        var cuts = true
        /// Datagrams go out whole or not at all.
        var isWhole = false
        /// libuv has it.
        var isOpen = false

        init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit {
            Glibc.close(descriptor)
            raw.deallocate()
            buffer.deallocate()
        }
        override func forget() { receive = nil }
        var isClosing: Bool { !isOpen || uv_is_closing(atoll_handle_poll(raw)) != 0 }
    }
    /// Answers that wait for the end of the burst they belong to.
    private struct Batch {
        static let limit = Int(ATOLL_BATCH)
        /// Whether datagrams are being handed out right now.
        var isOpen = false
        var bytes: [CChar] = []
        var sizes: [UInt32] = []
        var to: [sockaddr_in6] = []

        mutating func add(_ datagram: UnsafeRawBufferPointer, to endpoint: Endpoint) {
            bytes.append(contentsOf: datagram.bindMemory(to: CChar.self))
            sizes.append(UInt32(datagram.count))
            var place = sockaddr_in6()
            endpoint.withSocketAddress { from in
                let size = endpoint.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
                withUnsafeMutableBytes(of: &place) {
                    $0.copyMemory(from: UnsafeRawBufferPointer(start: from, count: size))
                }
            }
            to.append(place)
        }
        mutating func flush(_ descriptor: Int32) {
            guard !sizes.isEmpty else { return }
            _ = atoll_send_batch(descriptor, &bytes, sizes, &to, Int32(sizes.count))
            bytes.removeAll(keepingCapacity: true)
            sizes.removeAll(keepingCapacity: true)
            to.removeAll(keepingCapacity: true)
        }
    }
    /// Bursts that the kernel had no room for.
    private struct Backlog {
        static let most = 256
        var bursts: [(bytes: [UInt8], segment: Int, to: Endpoint)] = []
    }
    private let socket: Socket
    private let isIPv4: Bool
    /// Datagrams that the kernel would not take at once; UDP may lose them.
    public private(set) var dropped = 0
    /// What it may hold in each direction.
    private static let kernelBytes: Int32 = 2 << 20

    /// - Parameters:
    ///   - endpoint: where to listen; port 0 lets the kernel choose.
    ///   - receive: one datagram; the bytes are valid during the call only.
    public convenience init(
        _ loop: Loop, bind endpoint: Endpoint, interface: String? = nil,
        receive: @escaping (UnsafeRawBufferPointer, Endpoint) -> Void
    ) throws(SocketError) {
        try self.init(
            loop, bind: endpoint, interface: interface,
            bursts: { bytes, segment, sender, _ in
                for start in stride(from: 0, to: bytes.count, by: segment) {
                    let end = min(start + segment, bytes.count)
                    receive(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), sender)
                }
            })
    }
    /// - Parameters:
    ///   - endpoint: where to listen; port 0 lets the kernel choose.
    ///   - bursts: datagrams of one sender that have come together: their bytes, one behind the other, and the size of each but the last. The
    ///     memory is the caller's to change, and valid during the call only. Last, how long the kernel has had the first of them.
    ///   - interface: it sends by this one and hears of no other: addresses of a link mean nothing without one.
    ///   - offloads: false: as where the kernel neither cuts nor puts together.
    public init(
        _ loop: Loop, bind endpoint: Endpoint, interface: String? = nil, offloads: Bool = true,
        bursts: @escaping (UnsafeMutableRawBufferPointer, Int, Endpoint, Duration) -> Void
    ) throws(SocketError) {
        isIPv4 = endpoint.isIPv4
        let kind = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(Int32(endpoint.family), kind, 0)
        guard descriptor >= 0 else { throw SocketError(-errno, "open a socket for", endpoint) }
        socket = Socket(descriptor)
        if !isIPv4 { setOption(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        if let interface {
            _ = interface.withCString {
                setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, $0, socklen_t(strlen($0) + 1))
            }
        }
        setOption(descriptor, SOL_SOCKET, SO_RCVBUF, Self.kernelBytes)
        setOption(descriptor, SOL_SOCKET, SO_SNDBUF, Self.kernelBytes)
        socket.cuts = offloads
        setOption(descriptor, SOL_SOCKET, ATOLL_TIMESTAMPS, 1)
        if offloads { setOption(descriptor, ATOLL_SOL_UDP, ATOLL_UDP_GRO, 1) }
        let size = socklen_t(isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        let bound = endpoint.withSocketAddress { Glibc.bind(descriptor, $0, size) == 0 ? 0 : -errno }
        try check(bound, "bind", endpoint)
        try check(uv_poll_init(loop.raw, socket.raw, descriptor), "receive at", endpoint)
        socket.raw.pointee.data = socket.retainForLibuv()
        socket.isOpen = true
        socket.receive = bursts
        Self.watch(socket)
    }
    deinit { close() }

    private static func watch(_ socket: Socket) {
        let events = UV_READABLE.rawValue | (socket.backlog.bursts.isEmpty ? 0 : UV_WRITABLE.rawValue)
        uv_poll_start(socket.raw, Int32(events)) { handle, _, events in
            guard let socket = Handle.from(handle!.pointee.data) as? Socket else { return }
            if events & Int32(UV_WRITABLE.rawValue) != 0 { UDPSocket.resume(socket) }
            if events & Int32(UV_READABLE.rawValue) != 0 { UDPSocket.read(socket) }
        }
    }
    private static func read(_ socket: Socket) {
        let slots = Socket.slots
        withUnsafeTemporaryAllocation(of: sockaddr_in6.self, capacity: slots) { from in
            withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 2 * slots) { sizes in
                withUnsafeTemporaryAllocation(of: Int64.self, capacity: slots) { ages in
                    let bytes = socket.buffer.assumingMemoryBound(to: CChar.self)
                    let count = atoll_receive_batch(
                        socket.descriptor, bytes, Socket.slotBytes, Int32(slots), from.baseAddress!,
                        sizes.baseAddress!, sizes.baseAddress! + slots, ages.baseAddress!)
                    hand(max(0, Int(count)), from, sizes, ages, socket)
                }
            }
        }
    }
    private static func hand(
        _ count: Int, _ from: UnsafeMutableBufferPointer<sockaddr_in6>, _ sizes: UnsafeMutableBufferPointer<UInt32>,
        _ ages: UnsafeMutableBufferPointer<Int64>, _ socket: Socket
    ) {
        socket.batch.isOpen = true
        for n in 0..<count where sizes[n] > 0 {
            let sender = withUnsafePointer(to: &from[n]) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Endpoint($0) }
            }
            guard let sender else { continue }
            let piece = UnsafeMutableRawBufferPointer(
                start: socket.buffer + n * Socket.slotBytes, count: Int(sizes[n]))
            socket.receive?(piece, Int(sizes[Socket.slots + n]), sender, .nanoseconds(ages[n]))
        }
        socket.batch.isOpen = false
        forbidFragments(socket, false, unless: socket.batch.sizes.isEmpty)
        socket.batch.flush(socket.descriptor)
    }

    public var endpoint: Endpoint? { Endpoint(boundTo: socket.descriptor) }

    /// Hands one datagram to the kernel, or drops it.
    public func send(_ bytes: [UInt8], to endpoint: Endpoint) {
        guard !socket.isClosing else { return }
        let place = isIPv4 ? endpoint : endpoint.mapped
        if socket.batch.isOpen {
            bytes.withUnsafeBytes { socket.batch.add($0, to: place) }
            if socket.batch.sizes.count == Batch.limit {
                Self.forbidFragments(socket, false)
                socket.batch.flush(socket.descriptor)
            }
            return
        }
        Self.forbidFragments(socket, false)
        if Self.hand(bytes, 0, bytes.count, to: place, socket) < 0 { dropped += 1 }
    }
    /// The same for one that goes no further than so many hops.
    public func send(_ bytes: [UInt8], hops: UInt8, to endpoint: Endpoint) {
        guard !socket.isClosing else { return }
        setHops(Int32(hops))
        _ = Self.hand(bytes, 0, bytes.count, to: isIPv4 ? endpoint : endpoint.mapped, socket)
        // As the kernel has it otherwise.
        setHops(-1)
    }
    private func setHops(_ hops: Int32) {
        setOption(socket.descriptor, Int32(IPPROTO_IP), IP_TTL, hops)
        if !isIPv4 { setOption(socket.descriptor, Int32(IPPROTO_IPV6), IPV6_UNICAST_HOPS, hops) }
    }
    /// Hands datagrams of one size, the last of which may be shorter, to the kernel; they are never cut on the way. While it has no room they
    /// wait; what is beyond that is dropped.
    ///
    /// - Parameter segment: bytes of each; at most 64 of them, and 64 KiB.
    public func send(_ bytes: [UInt8], segment: Int, to endpoint: Endpoint) {
        guard !socket.isClosing, !bytes.isEmpty, segment > 0 else { return }
        let place = isIPv4 ? endpoint : endpoint.mapped
        if socket.backlog.bursts.isEmpty, Self.burst(bytes, segment, to: place, socket) { return }
        guard socket.backlog.bursts.count < Backlog.most else {
            dropped += (bytes.count + segment - 1) / segment
            return
        }
        socket.backlog.bursts.append((bytes, segment, place))
        if socket.backlog.bursts.count == 1 { Self.watch(socket) }
    }
    private static func resume(_ socket: Socket) {
        var done = 0
        for burst in socket.backlog.bursts {
            guard Self.burst(burst.bytes, burst.segment, to: burst.to, socket) else { break }
            done += 1
        }
        socket.backlog.bursts.removeFirst(done)
        if socket.backlog.bursts.isEmpty { watch(socket) }
    }
    /// - Returns: false when the kernel has no room now.
    private static func burst(_ bytes: [UInt8], _ segment: Int, to endpoint: Endpoint, _ socket: Socket) -> Bool {
        // Smaller ones pass every path anyhow.
        forbidFragments(socket, true, unless: segment <= 1_200)
        if socket.cuts || bytes.count <= segment {
            let taken = hand(bytes, segment, bytes.count, to: endpoint, socket)
            if taken == -EAGAIN || taken == -ENOBUFS { return false }
            if taken >= 0 || bytes.count <= segment { return true }
        }
        var batch = Batch()
        bytes.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: bytes.count, by: segment) {
                let end = min(start + segment, bytes.count)
                batch.add(UnsafeRawBufferPointer(rebasing: bytes[start..<end]), to: endpoint)
                if batch.sizes.count == Batch.limit { batch.flush(socket.descriptor) }
            }
        }
        batch.flush(socket.descriptor)
        return true
    }
    private static func hand(
        _ bytes: [UInt8], _ segment: Int, _ count: Int, to endpoint: Endpoint, _ socket: Socket
    ) -> Int32 {
        let size = UInt16(clamping: segment == 0 ? count : segment)
        let taken = bytes.withUnsafeBytes { bytes in
            endpoint.withSocketAddress { atoll_send_segments(socket.descriptor, bytes.baseAddress, count, size, $0) }
        }
        // EIO: the device cannot do the checksums; EINVAL: this kernel does not know the option.
        if taken == -EIO || taken == -EOPNOTSUPP || (taken == -EINVAL && count > Int(size)) { socket.cuts = false }
        return taken
    }
    /// Whether a datagram that is too large for a path is lost there, so that its sender notices (RFC 8899, §3), or cut.
    private static func forbidFragments(_ socket: Socket, _ isWhole: Bool, unless: Bool = false) {
        if unless || socket.isWhole == isWhole { return }
        socket.isWhole = isWhole
        let mode = isWhole ? IP_PMTUDISC_PROBE : IP_PMTUDISC_WANT
        setOption(socket.descriptor, Int32(IPPROTO_IP), IP_MTU_DISCOVER, mode)
        setOption(socket.descriptor, Int32(IPPROTO_IPV6), IPV6_MTU_DISCOVER, mode)
    }
    public func close() { if !socket.isClosing { Handle.close(atoll_handle_poll(socket.raw)) } }
}
