public import Channels
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
    /// The machine is there, and nobody listens at the port.
    public var isRefusal: Bool { if case .socket(.connectionRefused) = self { true } else { false } }
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

/// Inbound connections that never became secure.
public struct TurnedAway: Hashable, Sendable {
    /// Others came while all places were taken, and these had waited longest.
    public internal(set) var crowded = 0
    /// No handshake within its time.
    public internal(set) var timedOut = 0
    /// No TLS, a broken handshake, or an early end.
    public internal(set) var failed = 0
    /// Too many files were open.
    public internal(set) var withoutDescriptor = 0
    public var total: Int { crowded + timedOut + failed + withoutDescriptor }
}

/// Secure byte streams between peers: TCP or flows over datagrams, TLS 1.3 with both keys proven, and optionally links as a plan has them.
///
/// Connections have numbers: those that the caller dials are its own to choose, odd; inbound ones are even. The callbacks are the
/// inputs of a core of channels. All of it is confined to the loop, and no callback comes from within a call of a method.
public final class SecureTransport {
    /// What the owner of a transport hears of it. Connections are named by their numbers.
    public struct Handlers {
        /// The handshake is done: number, peer, exporter (32 bytes), remote endpoint, inbound, whether we are the TLS client.
        public var secured: ((UInt64, PeerID, [UInt8], Endpoint, Bool, Bool) -> Void)?
        public var dialFailed: ((UInt64, TransportFailure) -> Void)?
        /// A dial goes out from another port than the listening one, which was not to be had for it.
        public var strayed: ((UInt64) -> Void)?
        public var received: ((UInt64, [UInt8]) -> Void)?
        /// The bytes still held here, fewer than ``writableBelow``, after some have gone.
        public var writable: ((UInt64, Int) -> Void)?
        /// A secure connection ended; not after ``close(_:)``.
        public var closed: ((UInt64) -> Void)?
        /// After ``turnedAway`` has grown; not for each connection.
        public var turnedAway: (() -> Void)?
    }
    public var on = Handlers()
    /// Inbound connections that never became secure, by what became of them.
    public private(set) var turnedAway = TurnedAway()
    /// Ciphertext at the sockets since the start, handshakes included.
    public private(set) var sentBytes = 0
    public private(set) var receivedBytes = 0
    /// Of those, with hosts of the local network.
    public private(set) var localBytes = (sent: 0, received: 0)

    public static let writableBelow = 131_072
    private static let handshakeTimeout: Duration = .seconds(10)
    private static let lingerTimeout: Duration = .seconds(5)
    /// More than these do not linger.
    private static let maxLingering = 64

    public let identity: SigningKey
    /// The process's links, for a ``DatagramSocket`` beside it; nil without a plan.
    public private(set) var shaper: LinkShaper?
    let context: TLSContext
    /// TLS of streams that relays carry.
    public let carried: CarriedSessions
    let loop: Loop
    private var listener: TCPListener?
    /// Nil until ``carryFlows(over:poolKey:secret:)``.
    var flows: FlowDriver?
    /// Where dials come from: the listening port, unless it is taken for that destination.
    public let endpoint: Endpoint
    private(set) var streams: [UInt64: SecureStream] = [:]
    private var nextInbound: UInt64 = 2
    private var progressing: [UInt64] = []
    private var timer: Timer?
    /// Inbound connections in their handshake.
    private var waiting: WaitingRoom
    /// Those that flush their last bytes, in the order of their closing.
    private var lingering: [UInt64] = []
    /// A report about ``turnedAway`` is on its way.
    private var isTelling = false

    /// - Parameters:
    ///   - listen: port 0 lets the kernel choose; see ``endpoint``.
    ///   - shaping: nil in real runs.
    ///   - handshakes: how many inbound connections may be in their handshake at once.
    public init(
        loop: Loop, identity: SigningKey, listen: Endpoint, shaping: ShapingPlan? = nil, handshakes: Int = 256
    ) throws(SocketError) {
        self.loop = loop
        waiting = WaitingRoom(places: handshakes)
        self.identity = identity
        context = TLSContext(identity)
        carried = CarriedSessions(context)
        shaper = shaping.map { LinkShaper(loop, $0) }
        // The listener needs self to accept, and self needs the listener's port.
        let door = Door()
        let listener = try TCPListener(
            loop, listen: listen, refused: { _ in door.transport?.turnAway(\.withoutDescriptor) },
            accept: { door.transport?.accept($0) })
        endpoint = listener.endpoint ?? listen
        self.listener = listener
        door.transport = self
        timer = Timer(loop) { [unowned self] in cutOverdue() }
    }
    private final class Door { weak var transport: SecureTransport? }
    deinit { shutdown() }

    // MARK: Commands

    /// Opens a connection; ``Handlers/secured`` or ``Handlers/dialFailed`` follows, unless it is closed before.
    ///
    /// - Parameters:
    ///   - id: odd, and never used before.
    ///   - expecting: whose key must answer; nil when only the address is known.
    public func dial(_ id: UInt64, to remote: Endpoint, expecting peer: PeerID?) {
        connect(begin(id, to: remote, expecting: peer), from: endpoint, mayStray: true)
        if remote.isIPv4 != endpoint.isIPv4 { loop.soon { [weak self] in self?.on.strayed?(id) } }
    }
    /// The same from the listening port and no other, while the other end dials here: TCP may make one connection of the two dials
    /// (RFC 9293, §3.5), or the one that arrives first is accepted, and this one fails.
    public func punch(_ id: UInt64, to remote: Endpoint, expecting peer: PeerID) {
        connect(begin(id, to: remote, expecting: peer), from: endpoint, mayStray: false)
    }
    func begin(
        _ id: UInt64, to remote: Endpoint, expecting peer: PeerID?, isFlow: Bool = false
    ) -> SecureStream {
        precondition(id % 2 == 1 && streams[id] == nil, "dial \(id) is even or exists")
        let stream = SecureStream(
            self, id: id, inbound: false, remote: remote, expecting: peer, isFlow: isFlow)
        streams[id] = stream
        setDeadline(stream, Self.handshakeTimeout)
        return stream
    }
    private func connect(_ stream: SecureStream, from local: Endpoint, mayStray: Bool) {
        let isShared = local.port != 0 && mayStray
        let failed: (SocketError) -> Void = { [weak self, weak stream] error in
            guard let self, let stream, streams[stream.id] === stream else { return }
            // A connection between the same two ports may exist, or be remembered by the kernel: dial from another port.
            switch error {
            case .addressInUse, .addressNotAvailable, .other:
                guard isShared else { fallthrough }
                on.strayed?(stream.id)
                connect(stream, from: Endpoint(address: local.address, port: 0)!, mayStray: false)
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
    /// Encrypts and sends; ``Handlers/writable`` follows when some of it has gone.
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
        waiting.leave(id)
        setDeadline(stream, Self.lingerTimeout)
        lingering.append(id)
        stream.finish(until: stream.deadline!)
        if lingering.count > Self.maxLingering, let first = streams[lingering[0]] { remove(first) }
    }
    /// What a connection still holds back.
    public func unsentBytes(_ id: UInt64) -> Int { streams[id]?.unsentBytes ?? 0 }
    /// Cuts everything off at once.
    public func shutdown() {
        for id in streams.keys.sorted() { streams[id]?.close() }
        streams = [:]
        flows?.shutdown()
        flows = nil
        listener?.close()
        listener = nil
        timer?.close()
        timer = nil
        shaper?.close()
    }

    // MARK: From the streams

    private func accept(_ tcp: TCPStream) {
        guard let remote = tcp.remoteEndpoint else {
            turnAway(\.failed)
            return tcp.close()
        }
        accept(tcp, from: remote, isFlow: false)
    }
    func accept(_ carrier: any ByteStream, from remote: Endpoint, isFlow: Bool) {
        for id in waiting.enter(nextInbound, from: remote, at: loop.now) {
            guard let stream = streams[id] else { continue }
            turnAway(\.crowded)
            remove(stream)
        }
        let stream = SecureStream(
            self, id: nextInbound, inbound: true, remote: remote, expecting: nil, isFlow: isFlow)
        streams[nextInbound] = stream
        nextInbound += 2
        setDeadline(stream, Self.handshakeTimeout)
        stream.begin(carrier)
    }
    func secured(_ stream: SecureStream, _ peer: PeerID, _ session: TLSSession) {
        stream.deadline = nil
        waiting.leave(stream.id)
        on.secured?(stream.id, peer, session.exporter(), stream.remote, stream.inbound, session.isClient)
    }
    func failed(_ stream: SecureStream, _ failure: TransportFailure) {
        let state = stream.state
        remove(stream)
        switch state {
        case .connecting, .handshaking:
            if stream.inbound {
                turnAway(failure == .timedOut ? \.timedOut : \.failed)
            } else {
                on.dialFailed?(stream.id, failure)
            }
        case .secure: on.closed?(stream.id)
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
            if unsent < Self.writableBelow { on.writable?(id, unsent) }
        }
    }
    func countSent(_ bytes: Int, to remote: Endpoint) {
        sentBytes += bytes
        if remote.isPrivate { localBytes.sent += bytes }
    }
    func countReceived(_ bytes: Int, from remote: Endpoint) {
        receivedBytes += bytes
        if remote.isPrivate { localBytes.received += bytes }
    }

    /// The most that an owner lets all sockets together send and receive, the local network apart; nil for no limit. Where links are shaped by a
    /// plan, they stay as it says.
    /// - Parameter local: it counts, too: for tests, which have nothing else.
    public func limit(up: BitRate?, down: BitRate?, local: Bool = false) {
        if let shaper {
            if shaper.isCap { shaper.cap(up: up, down: down) }
            return
        }
        guard up != nil || down != nil else { return }
        let made = LinkShaper(loop, .cap(up: up, down: down, forAll: local))
        shaper = made
        made.onRoom = { [weak self] in
            guard let self else { return }
            for id in streams.keys.sorted() { streams[id]?.keepRoom() }
        }
        for id in streams.keys.sorted() { streams[id]?.shape(by: made) }
    }

    private func turnAway(_ kind: WritableKeyPath<TurnedAway, Int>) {
        turnedAway[keyPath: kind] += 1
        if isTelling { return }
        isTelling = true
        loop.soon { [weak self] in
            self?.isTelling = false
            self?.on.turnedAway?()
        }
    }

    private func remove(_ stream: SecureStream) {
        streams[stream.id] = nil
        waiting.leave(stream.id)
        if stream.state == .closing { lingering.removeAll { $0 == stream.id } }
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
