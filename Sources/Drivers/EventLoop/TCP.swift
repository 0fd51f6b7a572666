import CUV
import Glibc
public import Primitives

/// A TCP connection. Small writes go out at once; the kernel holds at most 64 KiB unsent, so that what is behind it can be
/// reordered by those above.
public final class TCPStream {
    final class Socket: Handle {
        let raw = UnsafeMutablePointer<uv_tcp_t>.allocate(capacity: 1)
        let buffer: UnsafeMutableRawBufferPointer
        var read: ((UnsafeRawBufferPointer) -> Void)?
        var ended: ((SocketError) -> Void)?
        var progressed: (() -> Void)?
        var connected: ((SocketError?) -> Void)?
        init(_ loop: Loop) { buffer = loop.readBuffer }
        deinit { raw.deallocate() }
        override func forget() {
            read = nil
            ended = nil
            progressed = nil
            connected = nil
        }
    }
    private final class Write {
        let request = UnsafeMutablePointer<uv_write_t>.allocate(capacity: 1)
        let bytes: UnsafeMutableRawBufferPointer
        let socket: Socket
        init(_ rest: UnsafeRawBufferPointer, _ socket: Socket) {
            bytes = .allocate(byteCount: rest.count, alignment: 16)
            bytes.copyMemory(from: rest)
            self.socket = socket
        }
        deinit {
            request.deallocate()
            bytes.deallocate()
        }
    }
    private static let kernelUnsentBytes: Int32 = 65_536
    let socket: Socket

    /// Without a descriptor; accepting brings one.
    init(_ loop: Loop) {
        socket = Socket(loop)
        uv_tcp_init(loop.raw, socket.raw)
        socket.raw.pointee.data = socket.retainForLibuv()
    }
    /// With a descriptor of the endpoint's family, unless those that connections may have are used up.
    convenience init(_ loop: Loop, like endpoint: Endpoint) throws(SocketError) {
        self.init(loop)
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(Int32(endpoint.family), kind, 0)
        guard descriptor >= 0 else { throw SocketError(-errno, "open a socket for", endpoint) }
        guard !DescriptorLimit.isReserved(descriptor), uv_tcp_open(socket.raw, descriptor) == 0 else {
            Glibc.close(descriptor)
            throw .outOfDescriptors
        }
    }
    deinit { close() }

    /// Opens a connection.
    ///
    /// - Parameters:
    ///   - local: the address to dial from; port 0 for any. Sharing a listening port needs ``TCPListener`` on the same one.
    ///   - done: called once on the loop, with nil on success; not after ``close()``.
    public static func dial(
        _ loop: Loop, to endpoint: Endpoint, from local: Endpoint?, done: @escaping (SocketError?) -> Void
    ) throws(SocketError) -> TCPStream {
        let stream = try TCPStream(loop, like: endpoint)
        if let local, local.isIPv4 == endpoint.isIPv4 {
            stream.withDescriptor {
                if local.port != 0 { setOption($0, SOL_SOCKET, SO_REUSEPORT, 1) }
                if local.port == 0 { setOption($0, Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, 1) }
            }
            try check(local.withSocketAddress { uv_tcp_bind(stream.socket.raw, $0, 0) }, "bind", local)
        }
        stream.socket.connected = { [unowned stream] error in
            if error == nil { stream.tune() }
            done(error)
        }
        let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
        let box = Unmanaged.passRetained(Dial(stream.socket, endpoint))
        request.pointee.data = box.toOpaque()
        let started = endpoint.withSocketAddress {
            uv_tcp_connect(request, stream.socket.raw, $0) { request, status in
                let dial = Unmanaged<Dial>.fromOpaque(request!.pointee.data!).takeRetainedValue()
                request!.deallocate()
                guard let connected = dial.socket.connected else { return }
                dial.socket.connected = nil
                connected(status < 0 ? SocketError(status, "dial", dial.endpoint) : nil)
            }
        }
        if started < 0 {
            request.deallocate()
            box.release()
            throw SocketError(started, "dial", endpoint)
        }
        return stream
    }
    private final class Dial {
        let socket: Socket
        let endpoint: Endpoint
        init(_ socket: Socket, _ endpoint: Endpoint) { (self.socket, self.endpoint) = (socket, endpoint) }
    }

    func tune() {
        uv_tcp_nodelay(socket.raw, 1)
        withDescriptor { setOption($0, Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT, Self.kernelUnsentBytes) }
    }
    /// What the kernel takes ahead of us: a sender beyond a limit of ours must not fill more.
    public func keepReceiveBuffer(below bytes: Int) {
        withDescriptor {
            // The kernel doubles the buffer for what it keeps beside the bytes; the window is what is promised to the other end (tcp(7)).
            setOption($0, SOL_SOCKET, SO_RCVBUF, Int32(clamping: max(2048, bytes)))
            setOption($0, Int32(IPPROTO_TCP), TCP_WINDOW_CLAMP, Int32(clamping: max(2048, bytes)))
        }
    }
    var descriptor: Int32? {
        var descriptor: uv_os_fd_t = -1
        return uv_fileno(atoll_handle_tcp(socket.raw), &descriptor) == 0 ? descriptor : nil
    }
    func withDescriptor(_ body: (Int32) -> Void) { if let descriptor { body(descriptor) } }

    /// Starts or resumes reading.
    ///
    /// - Parameters:
    ///   - read: the bytes are valid during the call only.
    ///   - ended: called once when nothing more will come; the stream still has to be closed.
    public func startReading(
        read: @escaping (UnsafeRawBufferPointer) -> Void, ended: @escaping (SocketError) -> Void
    ) {
        socket.read = read
        socket.ended = ended
        resumeReading()
    }
    public func resumeReading() {
        guard !isClosing else { return }
        uv_read_start(
            atoll_stream_tcp(socket.raw),
            { handle, _, buffer in
                guard let socket = Handle.from(handle!.pointee.data) as? Socket else { return }
                let bytes = socket.buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
                buffer!.pointee = uv_buf_init(bytes, UInt32(socket.buffer.count))
            },
            { stream, count, buffer in
                guard count != 0, let socket = Handle.from(stream!.pointee.data) as? Socket else { return }
                if count > 0 {
                    socket.read?(UnsafeRawBufferPointer(start: buffer!.pointee.base, count: count))
                } else {
                    uv_read_stop(stream)
                    socket.ended?(SocketError(Int32(count), "read"))
                }
            })
    }
    /// The kernel's buffers fill, and the sender slows down.
    public func pauseReading() {
        if !isClosing { uv_read_stop(atoll_stream_tcp(socket.raw)) }
    }

    /// Called on the loop each time the kernel has taken another of the writes that it did not take at once.
    public func onProgress(_ progressed: @escaping () -> Void) { socket.progressed = progressed }

    /// Writes all of `bytes`; what the kernel does not take at once is copied and follows.
    public func write(_ bytes: UnsafeRawBufferPointer) {
        guard !isClosing, !bytes.isEmpty else { return }
        var rest = bytes
        var buffer = Self.buffer(rest)
        let taken = uv_try_write(atoll_stream_tcp(socket.raw), &buffer, 1)
        if taken > 0 { rest = UnsafeRawBufferPointer(rebasing: rest[Int(taken)...]) }
        if rest.isEmpty { return }
        let write = Write(rest, socket)
        write.request.pointee.data = Unmanaged.passRetained(write).toOpaque()
        buffer = Self.buffer(UnsafeRawBufferPointer(write.bytes))
        let queued = uv_write(write.request, atoll_stream_tcp(socket.raw), &buffer, 1) { request, status in
            let write = Unmanaged<Write>.fromOpaque(request!.pointee.data!).takeRetainedValue()
            if status == 0 { write.socket.progressed?() }
        }
        // A broken stream is reported by reading.
        if queued < 0 { Unmanaged<Write>.fromOpaque(write.request.pointee.data!).release() }
    }
    private static func buffer(_ bytes: UnsafeRawBufferPointer) -> uv_buf_t {
        var buffer = uv_buf_t()
        buffer.base = UnsafeMutablePointer(mutating: bytes.assumingMemoryBound(to: CChar.self).baseAddress)
        buffer.len = bytes.count
        return buffer
    }
    /// Written and not yet taken by the kernel.
    public var unsentBytes: Int { uv_stream_get_write_queue_size(atoll_stream_tcp(socket.raw)) }
    public var localEndpoint: Endpoint? { Endpoint(asking: { uv_tcp_getsockname(socket.raw, $0, $1) }) }
    public var remoteEndpoint: Endpoint? { Endpoint(asking: { uv_tcp_getpeername(socket.raw, $0, $1) }) }

    /// Sends what was written and then the end of the stream; reading goes on.
    public func finishWriting() {
        guard !isClosing else { return }
        let request = UnsafeMutablePointer<uv_shutdown_t>.allocate(capacity: 1)
        let started = uv_shutdown(request, atoll_stream_tcp(socket.raw)) { request, _ in request!.deallocate() }
        if started < 0 { request.deallocate() }
    }
    var isClosing: Bool { uv_is_closing(atoll_handle_tcp(socket.raw)) != 0 }
    /// No callback comes after this.
    public func close() { Handle.close(atoll_handle_tcp(socket.raw)) }
}

/// Accepts connections at an endpoint whose port dials may share.
public final class TCPListener {
    private let stream: TCPStream
    /// The kernel allows fewer where it is told to.
    private static let backlog: Int32 = 1024

    /// - Parameters:
    ///   - endpoint: port 0 lets the kernel choose.
    ///   - refused: called for each connection that is turned away because too many files are open.
    ///   - accept: called on the loop for each connection.
    public init(
        _ loop: Loop, listen endpoint: Endpoint, refused: @escaping (SocketError) -> Void = { _ in },
        accept: @escaping (TCPStream) -> Void
    ) throws(SocketError) {
        // A port that dials share is open to every socket that asks for sharing, a second listener included; so we first
        // make sure that nobody listens there.
        try Self.probe(loop, endpoint)
        stream = try TCPStream(loop, like: endpoint)
        stream.withDescriptor { setOption($0, SOL_SOCKET, SO_REUSEPORT, 1) }
        try check(endpoint.withSocketAddress { uv_tcp_bind(stream.socket.raw, $0, 0) }, "listen at", endpoint)
        // The connected callback is free on a listener; it carries what to do with the next connection.
        let listening = stream.socket
        listening.connected = { [unowned loop] error in
            if let error { return refused(error) }
            let connection = TCPStream(loop)
            guard uv_accept(atoll_stream_tcp(listening.raw), atoll_stream_tcp(connection.socket.raw)) == 0 else {
                return
            }
            // Before the kernel has none left: then it would be libuv that turns connections away, in silence.
            if let descriptor = connection.descriptor, DescriptorLimit.isReserved(descriptor) {
                connection.close()
                return refused(.outOfDescriptors)
            }
            connection.tune()
            accept(connection)
        }
        let started = uv_listen(atoll_stream_tcp(stream.socket.raw), Self.backlog) { stream, status in
            guard let socket = Handle.from(stream!.pointee.data) as? TCPStream.Socket else { return }
            socket.connected?(status < 0 ? SocketError(status, "accept") : nil)
        }
        try check(started, "listen at", endpoint)
    }
    private static func probe(_ loop: Loop, _ endpoint: Endpoint) throws(SocketError) {
        guard endpoint.port != 0 else { return }
        let probe = try TCPStream(loop, like: endpoint)
        defer { probe.close() }
        try check(endpoint.withSocketAddress { uv_tcp_bind(probe.socket.raw, $0, 0) }, "listen at", endpoint)
        try check(uv_listen(atoll_stream_tcp(probe.socket.raw), 1) { _, _ in }, "listen at", endpoint)
    }
    public var endpoint: Endpoint? { stream.localEndpoint }
    public func close() { stream.close() }
}
