public import Digests
public import EventLoop
public import Primitives

/// Why a connection did not become secure, or ended.
public enum TransportFailure: Error, Hashable, Sendable, CustomStringConvertible {
    case socket(SocketError)
    case handshake(String)
    /// Another key than the expected peer's.
    case impostor
    case timedOut
    case closed
    public var description: String {
        switch self {
        case .socket(let error): error.description
        case .handshake(let why): "the TLS handshake failed: \(why)"
        case .impostor: "another peer answered there"
        case .timedOut: "the TLS handshake took too long"
        case .closed: "the connection was closed"
        }
    }
}

/// Secure byte streams between peers: TCP, TLS 1.3 with both keys proven, and optionally links as a plan has them.
///
/// Connections have numbers: those that the caller dials are its own to choose, odd; inbound ones are even. The callbacks are the
/// inputs of a core of channels. All of it is confined to the loop, and no callback comes from within a call of a method.
public final class SecureTransport {
    /// The handshake is done: number, peer, exporter (32 bytes), remote endpoint, inbound, whether we are the TLS client.
    public var onSecured: ((UInt64, PeerID, [UInt8], Endpoint, Bool, Bool) -> Void)?
    public var onDialFailed: ((UInt64, TransportFailure) -> Void)?
    public var onReceived: ((UInt64, [UInt8]) -> Void)?
    /// The bytes still held here, fewer than ``writableBelow``, after some have gone.
    public var onWritable: ((UInt64, Int) -> Void)?
    /// A secure connection ended; not after ``close(_:)``.
    public var onClosed: ((UInt64) -> Void)?
    /// Inbound connections that never became secure.
    public private(set) var inboundFailures = 0
    /// Ciphertext at the sockets since the start, handshakes included.
    public private(set) var sentBytes = 0
    public private(set) var receivedBytes = 0

    public static let writableBelow = 131_072
    private static let handshakeTimeout: Duration = .seconds(10)
    private static let lingerTimeout: Duration = .seconds(5)
    private static let maxHandshakes = 128

    public let identity: SigningKey
    /// The process's links, for a ``DatagramSocket`` beside it; nil without a plan.
    public let shaper: LinkShaper?
    let context: TLSContext
    private let loop: Loop
    private var listener: TCPListener?
    /// Where dials come from: the listening port, unless it is taken for that destination.
    public let endpoint: Endpoint
    private var streams: [UInt64: SecureStream] = [:]
    private var nextInbound: UInt64 = 2
    private var progressing: [UInt64] = []
    private var timer: Timer?

    /// - Parameters:
    ///   - listen: port 0 lets the kernel choose; see ``endpoint``.
    ///   - shaping: nil in real runs.
    public init(loop: Loop, identity: SigningKey, listen: Endpoint, shaping: ShapingPlan? = nil) throws(SocketError) {
        self.loop = loop
        self.identity = identity
        context = TLSContext(identity)
        shaper = shaping.map { LinkShaper(loop, $0) }
        // The listener needs self to accept, and self needs the listener's port.
        let door = Door()
        let listener = try TCPListener(loop, listen: listen) { door.transport?.accept($0) }
        endpoint = listener.endpoint ?? listen
        self.listener = listener
        door.transport = self
        timer = Timer(loop) { [unowned self] in cutOverdue() }
    }
    private final class Door { weak var transport: SecureTransport? }
    deinit { shutdown() }

    // MARK: Commands

    /// Opens a connection; ``onSecured`` or ``onDialFailed`` follows, unless it is closed before.
    ///
    /// - Parameters:
    ///   - id: odd, and never used before.
    ///   - expecting: whose key must answer; nil when only the address is known.
    public func dial(_ id: UInt64, to remote: Endpoint, expecting peer: PeerID?) {
        precondition(id % 2 == 1 && streams[id] == nil, "dial \(id) is even or exists")
        let stream = SecureStream(self, id: id, inbound: false, remote: remote, expecting: peer)
        streams[id] = stream
        setDeadline(stream, Self.handshakeTimeout)
        connect(stream, from: endpoint)
    }
    private func connect(_ stream: SecureStream, from local: Endpoint) {
        let isShared = local.port != 0
        let failed: (SocketError) -> Void = { [weak self, weak stream] error in
            guard let self, let stream, streams[stream.id] === stream else { return }
            // A connection between the same two ports may exist, or be remembered by the kernel: dial from another port.
            switch error {
            case .addressInUse, .addressNotAvailable, .other:
                guard isShared else { fallthrough }
                connect(stream, from: Endpoint(address: local.address, port: 0)!)
            default: self.failed(stream, .socket(error))
            }
        }
        do {
            let tcp = try TCPStream.dial(loop, to: stream.remote, from: local) { [unowned stream] error in
                if let error { failed(error) } else { stream.connected() }
            }
            stream.keep(tcp)
        } catch {
            loop.soon { failed(error) }
        }
    }
    /// Encrypts and sends; ``onWritable`` follows when some of it has gone.
    public func write(_ id: UInt64, _ bytes: [UInt8]) {
        guard let stream = streams[id] else { return }
        stream.write(bytes)
        progressed(stream)
    }
    /// Sends what was written, then closes. Nothing is reported about the connection any more.
    public func close(_ id: UInt64) {
        guard let stream = streams[id] else { return }
        if stream.state == .connecting { return remove(stream) }
        if stream.state == .closing { return }
        setDeadline(stream, Self.lingerTimeout)
        stream.finish(until: stream.deadline!)
    }
    /// What a connection still holds back.
    public func unsentBytes(_ id: UInt64) -> Int { streams[id]?.unsentBytes ?? 0 }
    /// Cuts everything off at once.
    public func shutdown() {
        for id in streams.keys.sorted() { streams[id]?.close() }
        streams = [:]
        listener?.close()
        listener = nil
        timer?.close()
        timer = nil
        shaper?.close()
    }

    // MARK: From the streams

    private func accept(_ tcp: TCPStream) {
        let shaking = streams.values.count { $0.inbound && $0.state == .handshaking }
        guard shaking < Self.maxHandshakes, let remote = tcp.remoteEndpoint else {
            inboundFailures += 1
            return tcp.close()
        }
        let stream = SecureStream(self, id: nextInbound, inbound: true, remote: remote, expecting: nil)
        streams[nextInbound] = stream
        nextInbound += 2
        setDeadline(stream, Self.handshakeTimeout)
        stream.begin(tcp)
    }
    func secured(_ stream: SecureStream, _ peer: PeerID, _ session: TLSSession) {
        stream.deadline = nil
        onSecured?(stream.id, peer, session.exporter(), stream.remote, stream.inbound, session.isClient)
    }
    func failed(_ stream: SecureStream, _ failure: TransportFailure) {
        let state = stream.state
        remove(stream)
        switch state {
        case .connecting, .handshaking:
            if stream.inbound { inboundFailures += 1 } else { onDialFailed?(stream.id, failure) }
        case .secure: onClosed?(stream.id)
        case .closing, .closed: break
        }
    }
    /// Some bytes may have gone: tell, once the callback under way is over.
    func progressed(_ stream: SecureStream) {
        guard stream.state == .secure, !progressing.contains(stream.id) else { return }
        if progressing.isEmpty { loop.soon { [weak self] in self?.reportProgress() } }
        progressing.append(stream.id)
    }
    private func reportProgress() {
        let ids = progressing
        progressing = []
        for id in ids {
            guard let stream = streams[id], stream.state == .secure else { continue }
            let unsent = stream.unsentBytes
            if unsent < Self.writableBelow { onWritable?(id, unsent) }
        }
    }
    func countSent(_ bytes: Int) { sentBytes += bytes }
    func countReceived(_ bytes: Int) { receivedBytes += bytes }

    private func remove(_ stream: SecureStream) {
        streams[stream.id] = nil
        // libuv may be in a callback of its socket: the stream lives until that is over.
        loop.soon { _ = stream }
        stream.close()
    }

    // MARK: Deadlines

    private func setDeadline(_ stream: SecureStream, _ after: Duration) {
        stream.deadline = loop.now + after
        armTimer()
    }
    private func armTimer() {
        timer?.arm(at: streams.values.reduce(nil) { earliest($0, $1.deadline) })
    }
    private func cutOverdue() {
        let now = loop.now
        for id in streams.keys.sorted() {
            if let stream = streams[id], let deadline = stream.deadline, deadline <= now { failed(stream, .timedOut) }
        }
        armTimer()
    }
}
