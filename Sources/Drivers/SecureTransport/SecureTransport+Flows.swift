import EventLoop
public import Flows
public import Primitives

/// Flows over datagrams as the second thing that TLS runs over.
extension SecureTransport {
    /// From now on flows can be opened, and others' are accepted, over the socket that the overlay has. Once.
    ///
    /// - Parameters:
    ///   - poolKey: 32 bytes; who does not have them is not answered.
    ///   - secret: 32 random bytes that nobody else knows.
    public func carryFlows(over datagrams: DatagramSocket, poolKey: [UInt8], secret: [UInt8]) {
        precondition(flows == nil, "flows have a socket")
        let driver = FlowDriver(loop, datagrams, poolKey: poolKey, secret: secret)
        driver.onInbound = { [unowned self] flow in accept(flow, from: flow.remote, isFlow: true) }
        flows = driver
    }
    /// Of a pool that changes its key: those that are right now, the one to seal with first.
    public func use(poolKeys keys: [[UInt8]]) { flows?.use(poolKeys: keys) }
    /// As ``dial(_:to:expecting:)``, with a flow to the other end's datagram port.
    public func openFlow(_ id: UInt64, to remote: Endpoint, expecting peer: PeerID?) {
        let stream = begin(id, to: remote, expecting: peer, isFlow: true)
        guard let flows else {
            return loop.soon { [weak self, weak stream] in
                guard let self, let stream else { return }
                failed(stream, .handshake("flows are not carried here"))
            }
        }
        let flow = flows.open(to: remote) { [unowned self, unowned stream] error in
            if let error { failed(stream, .socket(error)) } else { stream.connected() }
        }
        stream.keep(flow)
    }
    /// Has the router of this machine let in what comes from there.
    public func sendOpener(to remote: Endpoint) { flows?.sendOpener(to: remote) }
    /// Whether a connection is a flow.
    public func isFlow(_ id: UInt64) -> Bool { streams[id]?.isFlow ?? false }
    /// What flows have dropped and lost since the start.
    public var flowCounters: FlowCounters { flows?.counters ?? FlowCounters() }
    /// This machine has another address, or another line.
    public func lineChanged() { flows?.lineChanged() }
}
