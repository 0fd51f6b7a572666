import CUV
import Glibc
public import Primitives

/// A bound UDP socket. One bound to `[::]` speaks IPv4 too.
public final class UDPSocket {
    private final class Socket: Handle {
        static let capacity = 65_536
        let raw = UnsafeMutablePointer<uv_udp_t>.allocate(capacity: 1)
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
        var receive: ((UnsafeRawBufferPointer, Endpoint) -> Void)?
        deinit {
            raw.deallocate()
            buffer.deallocate()
        }
        override func forget() { receive = nil }
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
        uv_udp_init(loop.raw, socket.raw)
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
                    guard count > 0, let address, flags & UInt32(UV_UDP_PARTIAL.rawValue) == 0,
                        let sender = Endpoint(address),
                        let socket = Handle.from(handle!.pointee.data) as? Socket
                    else { return }
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
