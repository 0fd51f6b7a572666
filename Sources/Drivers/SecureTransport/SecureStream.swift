import Digests
import EventLoop
import Links
import Primitives

/// One stream of bytes, TCP or a flow, with TLS over it, shaped or not.
///
/// Who is the TLS client does not depend on who dialled: the smaller peer is. The one that dials knows both peers' keys or acts
/// as the client; when it must be the server it says so with the byte ``serverMark`` before anything else, and the other side
/// begins. A ClientHello begins with 0x16, so the accepting side can tell. The mark is not authenticated and need not be: the
/// roles are symmetrical, both keys are proven either way, and the exporter comes from the finished session.
final class SecureStream {
    enum State: Equatable {
        case connecting, handshaking, secure
        /// Flushing what was written; nothing is reported any more.
        case closing
        case closed
    }
    /// "The one that dialled is the TLS server: begin."
    static let serverMark: UInt8 = 0x52
    private static let handshakeRecord: UInt8 = 0x16

    let id: UInt64
    let inbound: Bool
    let remote: Endpoint
    unowned let transport: SecureTransport
    private(set) var state = State.connecting
    private(set) var session: TLSSession?
    private let expected: PeerID?
    /// Its bytes are datagrams of the ``DatagramSocket``, which counts and shapes them.
    let isFlow: Bool
    private var carrier: (any ByteStream)?
    private var tcp: TCPStream? { carrier as? TCPStream }
    private var host: HostID?
    private var isPaused = false
    /// The kernel takes no more for it than a cap lets it.
    private var isNarrow = false
    private var isFirstByte = true
    /// The socket has ended; what came before may still be on the modelled down line.
    private var end: TransportFailure?
    /// Offered to the shaper and not yet handed to the socket.
    private var shaped = 0
    /// When a stream that lingers is cut.
    var deadline: Instant?

    init(
        _ transport: SecureTransport, id: UInt64, inbound: Bool, remote: Endpoint, expecting expected: PeerID?,
        isFlow: Bool
    ) {
        self.transport = transport
        self.id = id
        self.inbound = inbound
        self.remote = remote
        self.isFlow = isFlow
        self.expected = expected
        if let shaper = transport.shaper { shape(by: shaper) }
    }
    /// From now on its bytes wait for these lines.
    func shape(by shaper: LinkShaper) {
        guard !isFlow, host == nil, state != .closed, shaper.shapes(remote) else { return }
        host = shaper.host(remote)
        shaper.onSend[id] = { [unowned self] bytes in
            shaped -= bytes.count
            bytes.withUnsafeBytes { hand($0) }
            transport.progressed(self)
            finishIfFlushed()
        }
        shaper.onReceive[id] = { [unowned self] bytes in
            bytes.withUnsafeBytes { consume($0) }
            resumeIfLow()
            endIfRead()
        }
        shaper.onRoom?()
    }
    /// What the kernel may take ahead, under a receiving cap.
    func keepRoom() {
        guard host != nil, state != .closed else { return }
        let bytes = transport.shaper?.kernelReceive
        guard isNarrow || bytes != nil else { return }
        isNarrow = bytes != nil
        // Without a cap as much as a long line wants; the kernel takes what it allows.
        tcp?.keepReceiveBuffer(below: bytes ?? 4 << 20)
    }

    /// What carries it is connected.
    func begin(_ carrier: any ByteStream) {
        self.carrier = carrier
        state = .handshaking
        keepRoom()
        carrier.onProgress { [unowned self] in
            transport.progressed(self)
            finishIfFlushed()
        }
        carrier.startReading(
            read: { [unowned self] bytes in arrived(bytes) },
            ended: { [unowned self] error in
                end = state == .secure || state == .closing ? .closed : .socket(error)
                endIfRead()
            })
        guard !inbound else { return }
        let isClient = expected.map { transport.identity.peerID < $0 } ?? true
        session = TLSSession(transport.context, isClient: isClient, expecting: expected)
        if isClient {
            shake()
        } else {
            [Self.serverMark].withUnsafeBytes { output($0) }
        }
    }
    /// Keeps what a dial under way is made with.
    func keep(_ carrier: any ByteStream) { self.carrier = carrier }
    func connected() { if let carrier { begin(carrier) } }

    // MARK: In

    private func arrived(_ bytes: UnsafeRawBufferPointer) {
        if !isFlow { transport.countReceived(bytes.count, from: remote) }
        guard let shaper = transport.shaper, let host else { return consume(bytes) }
        shaper.received(bytes, from: host, stream: id)
        if !isPaused, state != .closed, shaper.queuedToReceive(from: host, stream: id) > shaper.receiveHigh {
            isPaused = true
            carrier?.pauseReading()
        }
    }
    private func endIfRead() {
        guard let end, state != .closed else { return }
        if let host, let shaper = transport.shaper, shaper.queuedToReceive(from: host, stream: id) > 0 { return }
        transport.failed(self, end)
    }
    private func resumeIfLow() {
        guard isPaused, let host, let shaper = transport.shaper,
            shaper.queuedToReceive(from: host, stream: id) < shaper.receiveHigh / 2
        else { return }
        isPaused = false
        carrier?.resumeReading()
    }

    private func consume(_ bytes: UnsafeRawBufferPointer) {
        guard state == .handshaking || state == .secure else { return }
        var bytes = bytes
        if isFirstByte, let first = bytes.first {
            isFirstByte = false
            let marked = first == Self.serverMark
            if session == nil {
                guard marked || first == Self.handshakeRecord else {
                    return transport.failed(self, .handshake("it does not speak TLS"))
                }
                session = TLSSession(transport.context, isClient: marked, expecting: nil)
            }
            // When both dial in the same moment TCP makes one connection of the two, and the mark comes to one that dialled.
            if marked { bytes = UnsafeRawBufferPointer(rebasing: bytes.dropFirst()) }
        }
        guard let session else { return }
        if !bytes.isEmpty { session.feed(bytes) }
        if !session.isDone { shake() }
        guard state == .secure else { return }
        guard let plaintext = session.decrypt() else { return transport.failed(self, .closed) }
        flush()
        if !plaintext.isEmpty { transport.on.received?(id, plaintext) }
    }

    private func shake() {
        guard let session else { return }
        let progress = session.handshake()
        flush()
        switch progress {
        case .going: break
        case .failed(let why): transport.failed(self, session.isImpostor ? .impostor : .handshake(why))
        case .done:
            guard let peer = session.peer else { return transport.failed(self, .handshake("no certificate")) }
            state = .secure
            transport.secured(self, peer, session)
        }
    }

    // MARK: Out

    func write(_ plaintext: [UInt8]) {
        guard state == .secure, let session else { return }
        session.encrypt(plaintext)
        flush()
    }
    private func flush() { session?.takeOutput { output($0) } }
    private func output(_ bytes: UnsafeRawBufferPointer) {
        guard let shaper = transport.shaper, let host else { return hand(bytes) }
        shaped += bytes.count
        shaper.send(bytes, to: host, stream: id)
    }
    private func hand(_ bytes: UnsafeRawBufferPointer) {
        if !isFlow { transport.countSent(bytes.count, to: remote) }
        carrier?.write(bytes)
    }
    /// What is held back here, in ciphertext: by the up line or by the socket. What is on a modelled link no longer counts.
    var unsentBytes: Int {
        var bytes = carrier?.unsentBytes ?? 0
        if let shaper = transport.shaper, let host { bytes += shaper.queuedToSend(to: host, stream: id) }
        return bytes
    }

    // MARK: The end

    /// Sends what was written, then the end; ``SecureTransport`` cuts it off at ``deadline``.
    func finish(until deadline: Instant) {
        self.deadline = deadline
        session?.finish()
        flush()
        state = .closing
        isPaused = false
        carrier?.resumeReading()
        finishIfFlushed()
    }
    private func finishIfFlushed() {
        guard state == .closing, shaped == 0, carrier?.unsentBytes == 0 else { return }
        // The other side closes when it has read all; reading goes on so that no reset overtakes our last bytes.
        carrier?.finishWriting()
    }
    func close() {
        guard state != .closed else { return }
        state = .closed
        carrier?.close()
        if let host { transport.shaper?.cancel(host, stream: id) }
    }
}
