import EventLoop
import Flows
import Glibc
import Primitives

/// Runs the flows of a process: a ``FlowHost`` on the socket that the overlay has. Confined to the loop.
final class FlowDriver {
    private let loop: Loop
    private let datagrams: DatagramSocket
    private var host: FlowHost
    private var poolKeys: [[UInt8]]
    private var timer: Timer?
    /// When the timer fires; a later moment need not be told to the kernel, which is asked for one with every burst: it is looked at again then.
    private var armed: Instant?
    private var streams: [UInt64: FlowStream] = [:]
    private var next: UInt64 = 1
    private var isDraining = false
    private var isDue = false
    /// Somebody has opened a flow.
    var onInbound: ((FlowStream) -> Void)?

    /// - Parameter secret: 32 random bytes.
    init(_ loop: Loop, _ datagrams: DatagramSocket, poolKey: [UInt8], secret: [UInt8]) {
        self.loop = loop
        self.datagrams = datagrams
        poolKeys = [poolKey]
        host = FlowHost(FlowSeals(poolKey: poolKey), secret: secret, at: loop.now)
        timer = Timer(loop) { [unowned self] in
            armed = nil
            host.wake(at: self.loop.now)
            drain()
        }
        datagrams.onFlow = { [unowned self] bytes, segment, sender, age in
            host.receive(bytes, segment: segment, from: sender, at: self.loop.now, age: age)
            drain()
        }
    }

    func use(poolKeys keys: [[UInt8]]) {
        guard !keys.isEmpty, keys != poolKeys else { return }
        poolKeys = keys
        host.use(keys.map { FlowSeals(poolKey: $0) })
    }
    var counters: FlowCounters { host.counters }
    func datagramSize(_ id: UInt64) -> Int? { host.datagramSize(id) }
    func lineChanged() { perform { $0.lineChanged(at: loop.now) } }

    /// Enough for the router here and one of the provider's behind it, too few for the other end's.
    private static let openerHops: UInt8 = 3
    func sendOpener(to remote: Endpoint) { datagrams.send(host.opener(), hops: Self.openerHops, to: remote) }

    /// - Parameter connected: called once on the loop, with nil on success; not after ``FlowStream/close()``.
    func open(to remote: Endpoint, connected: @escaping (SocketError?) -> Void) -> FlowStream {
        let id = next
        next += 2
        let stream = FlowStream(self, id, remote)
        stream.connected = connected
        streams[id] = stream
        perform { $0.open(id, to: remote, at: loop.now) }
        return stream
    }
    /// One input of the core; what follows from it comes from the loop, when the call under way is over, and once for several.
    fileprivate func perform(_ input: (inout FlowHost) -> Void) {
        input(&host)
        if isDraining || isDue || timer == nil { return }
        isDue = true
        loop.soon { [weak self] in
            guard let self, isDue else { return }
            drain()
        }
    }
    fileprivate func unsent(_ id: UInt64) -> Int { host.unsent(id) }
    fileprivate func forget(_ stream: FlowStream) { streams[stream.id] = nil }

    private func drain() {
        if isDraining { return }
        (isDraining, isDue) = (true, false)
        while let effect = host.poll() {
            switch effect {
            case .send(let burst): datagrams.send(burst)
            case .opened(let id, let remote, let isInbound):
                if isInbound {
                    let stream = FlowStream(self, id, remote)
                    streams[id] = stream
                    onInbound?(stream)
                } else {
                    streams[id]?.open()
                }
            case .received(let id, let bytes): bytes.withUnsafeBytes { streams[id]?.took($0) }
            case .writable(let id, _): streams[id]?.progressed()
            case .ended(let id): streams[id]?.end(.ended)
            case .closed(let id, let why): streams.removeValue(forKey: id)?.end(why)
            // Who it is TLS knows, wherever it is.
            case .moved: break
            }
        }
        isDraining = false
        let next = host.whenToWake()
        if let armed, let next, armed > now, armed <= next { return }
        armed = next
        timer?.arm(at: next)
    }
    /// The other ends are told what can be told at once.
    func shutdown() {
        for id in streams.keys.sorted() { streams[id]?.close() }
        drain()
        datagrams.onFlow = nil
        timer?.close()
        timer = nil
    }
}

/// One flow, as a stream of bytes.
final class FlowStream: ByteStream {
    let id: UInt64
    let remote: Endpoint
    private weak var driver: FlowDriver?
    fileprivate var connected: ((SocketError?) -> Void)?
    private var onRead: ((UnsafeRawBufferPointer) -> Void)?
    private var onEnded: ((SocketError) -> Void)?
    private var onProgressed: (() -> Void)?

    fileprivate init(_ driver: FlowDriver, _ id: UInt64, _ remote: Endpoint) {
        (self.driver, self.id, self.remote) = (driver, id, remote)
    }

    var unsentBytes: Int { driver?.unsent(id) ?? 0 }
    func startReading(
        read: @escaping (UnsafeRawBufferPointer) -> Void, ended: @escaping (SocketError) -> Void
    ) {
        (onRead, onEnded) = (read, ended)
        resumeReading()
    }
    func pauseReading() { hold(true) }
    func resumeReading() { hold(false) }
    private func hold(_ isHeld: Bool) {
        guard let driver else { return }
        driver.perform { $0.hold(id, isHeld, at: driver.now) }
    }
    func onProgress(_ progressed: @escaping () -> Void) { onProgressed = progressed }
    func write(_ bytes: UnsafeRawBufferPointer) {
        guard let driver, !bytes.isEmpty else { return }
        driver.perform { $0.write(id, bytes, at: driver.now) }
    }
    func finishWriting() {
        guard let driver else { return }
        driver.perform { $0.finish(id, at: driver.now) }
    }
    func close() {
        guard let driver else { return }
        self.driver = nil
        (connected, onRead, onEnded, onProgressed) = (nil, nil, nil, nil)
        driver.forget(self)
        driver.perform { $0.close(id, at: driver.now) }
    }

    // MARK: from the driver

    fileprivate func open() {
        let connected = connected
        self.connected = nil
        connected?(nil)
    }
    fileprivate func took(_ bytes: UnsafeRawBufferPointer) { onRead?(bytes) }
    fileprivate func progressed() { onProgressed?() }
    fileprivate func end(_ why: FlowEnd) {
        switch why {
        case .timedOut: end(.timedOut(remote))
        case .crowded: end(.other(code: -EMFILE, doing: "open one more flow to \(remote)"))
        case .closed, .forgotten, .violated: end(.ended)
        }
    }
    /// Once.
    fileprivate func end(_ error: SocketError) {
        let (connected, ended) = (connected, onEnded)
        (self.connected, onEnded) = (nil, nil)
        if let connected { connected(error) } else { ended?(error) }
    }
}
extension FlowDriver {
    fileprivate var now: Instant { loop.now }
}
