public import Channels
public import Digests
public import EventLoop
public import Primitives
public import SecureTransport

/// Channels on real sockets, without an overlay, jobs or a folder: what tests and benchmarks of connections run. Confined to
/// the loop.
public final class ChannelNode {
    public let loop: Loop
    public let transport: SecureTransport
    /// Where there are flows.
    public let datagrams: DatagramSocket?
    public private(set) var channels: Channels
    private var timer: EventLoop.Timer?
    private var draining = false
    /// Everything that is not the driver's own business.
    public var onEffect: ((Channels.Effect) -> Void)?

    /// - Parameters:
    ///   - listen: port 0 lets the kernel choose.
    ///   - hasFlows: it has a socket for datagrams at the same port, and flows over it.
    ///   - greets: false for one that completes TLS and never says a word: a stranger without the pool's key.
    public init(
        _ loop: Loop, identity: SigningKey, listen: Endpoint, poolKey: [UInt8]?,
        limits: ChannelLimits = ChannelLimits(),
        hasFlows: Bool = false, greets: Bool = true, seed: UInt64
    ) throws(SocketError) {
        self.loop = loop
        transport = try SecureTransport(loop: loop, identity: identity, listen: listen)
        datagrams = hasFlows ? try DatagramSocket(loop, bind: transport.endpoint) : nil
        if let datagrams, let poolKey {
            transport.carryFlows(over: datagrams, poolKey: poolKey, secret: randomBytes(32))
        }
        channels = Channels(
            local: identity.peerID, listening: transport.endpoint.port, poolKey: poolKey, limits: limits, seed: seed)
        timer = EventLoop.Timer(loop) { [unowned self] in
            channels.wake(at: loop.now)
            drain()
        }
        guard greets else { return }
        transport.on.secured = { [unowned self] id, peer, exporter, remote, inbound, isClient in
            channels.secured(
                ConnectionID(id), peer: peer, exporter: exporter, remote: remote, inbound: inbound,
                isTLSClient: isClient, isFlow: transport.isFlow(id), at: loop.now)
            drain()
        }
        transport.on.dialFailed = { [unowned self] id, failure in
            perform { $0.dialFailed(ConnectionID(id), refused: failure.isRefusal, at: loop.now) }
        }
        transport.on.received = { [unowned self] id, bytes in
            perform { $0.received(ConnectionID(id), bytes, at: loop.now) }
        }
        transport.on.writable = { [unowned self] id, unsent in
            perform { $0.writable(ConnectionID(id), unsent: unsent, at: loop.now) }
        }
        transport.on.closed = { [unowned self] id in perform { $0.closed(ConnectionID(id), at: loop.now) } }
    }
    deinit { close() }

    public var endpoint: Endpoint { transport.endpoint }

    /// One input of the core, then everything that follows from it.
    @discardableResult public func perform<T>(_ input: (inout Channels) -> T) -> T {
        defer { drain() }
        return input(&channels)
    }

    private func drain() {
        guard !draining else { return }
        draining = true
        while let effect = channels.poll() {
            switch effect {
            case .dial(let id, let endpoint, let expecting):
                transport.dial(id.value, to: endpoint, expecting: expecting)
            case .flow(let id, let endpoint, let peer): transport.openFlow(id.value, to: endpoint, expecting: peer)
            case .punch(let id, let endpoint, let peer): transport.punch(id.value, to: endpoint, expecting: peer)
            case .write(let id, let bytes): transport.write(id.value, bytes)
            case .close(let id): transport.close(id.value)
            // Nobody carries anything here.
            case .open(let id, _, _): channels.dialFailed(id, at: loop.now)
            default: onEffect?(effect)
            }
        }
        draining = false
        timer?.arm(at: channels.nextWake)
    }

    public func close() {
        transport.shutdown()
        datagrams?.close()
        timer?.close()
        timer = nil
    }
}
