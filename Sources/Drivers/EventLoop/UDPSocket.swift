import CUV
import Glibc
public import Primitives

/// A bound UDP socket. One bound to `[::]` speaks IPv4 too.
///
/// Datagrams come from the kernel up to twenty at a time, and what is sent while they are handled leaves in one call too: a
/// busy node pays a system call for twenty queries, not forty for twenty.
public final class UDPSocket {
    private final class Socket: Handle {
        /// libuv takes a datagram for each 64 KiB.
        static let capacity = 20 * 65_536
        let raw = UnsafeMutablePointer<uv_udp_t>.allocate(capacity: 1)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
        var receive: ((UnsafeRawBufferPointer, Endpoint) -> Void)?
        var batch = Batch()
        deinit {
            raw.deallocate()
            buffer.deallocate()
        }
        override func forget() { receive = nil }
    }
    /// Answers that wait for the end of the burst they belong to.
    private struct Batch {
        static let limit = Int(ATOLL_BATCH)
        /// Whether datagrams are being handed out right now.
        var isOpen = false
        var bytes: [CChar] = []
        var sizes: [UInt32] = []
        var to: [sockaddr_in6] = []

        mutating func add(_ datagram: [UInt8], to endpoint: Endpoint) {
            datagram.withUnsafeBytes { bytes.append(contentsOf: $0.bindMemory(to: CChar.self)) }
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
        mutating func flush(_ raw: UnsafeMutablePointer<uv_udp_t>) {
            guard !sizes.isEmpty else { return }
            var descriptor: uv_os_fd_t = -1
            if uv_fileno(atoll_handle_udp(raw), &descriptor) == 0 {
                _ = atoll_send_batch(descriptor, &bytes, sizes, &to, Int32(sizes.count))
            }
            bytes.removeAll(keepingCapacity: true)
            sizes.removeAll(keepingCapacity: true)
            to.removeAll(keepingCapacity: true)
        }
    }
    private let socket = Socket()
    private let isIPv4: Bool
    /// Datagrams that the kernel would not take at once; UDP may lose them.
    public private(set) var dropped = 0

    /// - Parameters:
    ///   - endpoint: where to listen; port 0 lets the kernel choose.
    ///   - receive: the bytes are valid during the call only.
    public init(
        _ loop: Loop, bind endpoint: Endpoint, receive: @escaping (UnsafeRawBufferPointer, Endpoint) -> Void
    ) throws(SocketError) {
        isIPv4 = endpoint.isIPv4
        uv_udp_init_ex(loop.raw, socket.raw, UInt32(UV_UDP_RECVMMSG.rawValue))
        socket.raw.pointee.data = socket.retainForLibuv()
        socket.receive = receive
        do throws(SocketError) {
            try check(endpoint.withSocketAddress { uv_udp_bind(socket.raw, $0, 0) }, "bind", endpoint)
            let started = uv_udp_recv_start(
                socket.raw,
                { handle, _, buffer in
                    guard let socket = Handle.from(handle!.pointee.data) as? Socket else { return }
                    let bytes = socket.buffer.assumingMemoryBound(to: CChar.self)
                    buffer!.pointee = uv_buf_init(bytes, UInt32(Socket.capacity))
                },
                { handle, count, buffer, address, flags in
                    if address == nil, let socket = Handle.from(handle!.pointee.data) as? Socket {
                        socket.batch.isOpen = false
                        socket.batch.flush(socket.raw)
                    }
                    guard count > 0, let address, flags & UInt32(UV_UDP_PARTIAL.rawValue) == 0,
                        let sender = Endpoint(address),
                        let socket = Handle.from(handle!.pointee.data) as? Socket
                    else { return }
                    socket.batch.isOpen = flags & UInt32(UV_UDP_MMSG_CHUNK.rawValue) != 0
                    socket.receive?(UnsafeRawBufferPointer(start: buffer!.pointee.base, count: count), sender)
                })
            try check(started, "receive at", endpoint)
        } catch {
            close()
            throw error
        }
    }
    deinit { close() }

    public var endpoint: Endpoint? { Endpoint(asking: { uv_udp_getsockname(socket.raw, $0, $1) }) }

    /// Hands one datagram to the kernel, or drops it.
    public func send(_ bytes: [UInt8], to endpoint: Endpoint) {
        // libuv would open a closing handle again.
        guard uv_is_closing(atoll_handle_udp(socket.raw)) == 0 else { return }
        if socket.batch.isOpen {
            socket.batch.add(bytes, to: isIPv4 ? endpoint : endpoint.mapped)
            if socket.batch.sizes.count == Batch.limit { socket.batch.flush(socket.raw) }
            return
        }
        let sent = bytes.withUnsafeBytes { bytes in
            var buffer = uv_buf_t()
            buffer.base = UnsafeMutablePointer(mutating: bytes.bindMemory(to: CChar.self).baseAddress)
            buffer.len = bytes.count
            return (isIPv4 ? endpoint : endpoint.mapped).withSocketAddress {
                uv_udp_try_send(socket.raw, &buffer, 1, $0)
            }
        }
        if sent < 0 { dropped += 1 }
    }
    public func close() { Handle.close(atoll_handle_udp(socket.raw)) }
}
