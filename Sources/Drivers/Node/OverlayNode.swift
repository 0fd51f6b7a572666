public import EventLoop
public import Kademlia
public import Primitives

/// One overlay node on a UDP socket, without channels, jobs or a folder: what the tools of `atoll node` and the benchmarks
/// run. Confined to the loop.
public final class OverlayNode {
    public let loop: Loop
    public let endpoint: Endpoint
    private var socket: UDPSocket?
    private var timer: EventLoop.Timer?
    public private(set) var overlay: Overlay
    private var waiting: [RequestID: (LookupOutcome) -> Void] = [:]
    private var draining = false
    private var joined: (() -> Void)?

    /// Everything else the overlay says.
    public var onEffect: ((Overlay.Effect) -> Void)?

    public init(_ loop: Loop, bind: Endpoint, overlay: Overlay) throws(NodeError) {
        self.loop = loop
        self.overlay = overlay
        var receive: ((UnsafeRawBufferPointer, Endpoint) -> Void)?
        do throws(SocketError) {
            let socket = try UDPSocket(loop, bind: bind) { bytes, sender in receive?(bytes, sender) }
            self.socket = socket
            endpoint = socket.endpoint ?? bind
        } catch {
            let end = error.description.hasSuffix(".") ? "" : "."
            throw .badInput(
                "cannot listen on \(bind): \(error.description)\(end) --listen HOST:PORT says where to listen")
        }
        timer = EventLoop.Timer(loop) { [unowned self] in
            self.overlay.wake(at: loop.now)
            drain()
        }
        receive = { [unowned self] bytes, sender in
            self.overlay.receive(datagram: [UInt8](bytes), from: sender, at: loop.now)
            drain()
        }
    }
    deinit { close() }

    /// Sends what the overlay wanted to send since it was made. Call it once.
    public func start() { drain() }

    /// Calls `then` as soon as somebody has answered; at once when somebody has.
    public func whenJoined(_ then: @escaping () -> Void) {
        if overlay.isJoined { then() } else { joined = then }
    }

    /// Starts an operation; `then` is called with its outcome, later.
    public func perform(
        _ operation: (inout Overlay, Instant) -> RequestID, then: @escaping (LookupOutcome) -> Void
    ) {
        let request = operation(&overlay, loop.now)
        waiting[request] = then
        drain()
    }

    private func drain() {
        guard !draining else { return }
        draining = true
        while let effect = overlay.poll() {
            switch effect {
            case .send(let bytes, let endpoint): socket?.send(bytes, to: endpoint)
            case .found(let request, let outcome):
                let then = waiting.removeValue(forKey: request)
                if let then { loop.soon { then(outcome) } }
            case .joined:
                let then = joined
                joined = nil
                if let then { loop.soon(then) }
                onEffect?(effect)
            default: onEffect?(effect)
            }
        }
        draining = false
        timer?.arm(at: overlay.nextWake)
    }

    public func close() {
        socket?.close()
        socket = nil
        timer?.close()
        timer = nil
    }
}
