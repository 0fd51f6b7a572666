public import EventLoop
public import Primitives

/// The overlay's UDP socket, shaped by the process's links where a plan says so. Confined to the loop.
public final class DatagramSocket {
    private var socket: UDPSocket?
    private var shaper: LinkShaper?
    /// Datagrams and bytes at the socket, for reports.
    public private(set) var sent = 0
    public private(set) var received = 0
    public private(set) var sentBytes = 0
    public private(set) var receivedBytes = 0
    /// Of those, with hosts of the local network.
    public private(set) var localBytes = (sent: 0, received: 0)
    /// Sets ``onReceived`` apart from the socket's birth, so that either may come first.
    public var onReceived: (([UInt8], Endpoint) -> Void)?

    /// - Parameters:
    ///   - endpoint: the port that TCP uses too; 0 lets the kernel choose.
    ///   - shaper: ``SecureTransport/shaper``, so that both share the access lines. One datagram socket a shaper.
    public init(_ loop: Loop, bind endpoint: Endpoint, shaper: LinkShaper? = nil) throws(SocketError) {
        socket = try UDPSocket(loop, bind: endpoint) { [unowned self] bytes, sender in
            received += 1
            receivedBytes += bytes.count
            if sender.isPrivate { localBytes.received += bytes.count }
            let datagram = [UInt8](bytes)
            if let shaper = self.shaper, shaper.shapes(sender) {
                shaper.receivedDatagram(datagram, from: sender)
            } else {
                onReceived?(datagram, sender)
            }
        }
        use(shaper)
    }
    /// From now on datagrams wait for these lines, too.
    public func use(_ shaper: LinkShaper?) {
        guard let shaper, self.shaper !== shaper else { return }
        self.shaper = shaper
        shaper.onSendDatagram = { [unowned self] bytes, endpoint in hand(bytes, endpoint) }
        shaper.onReceiveDatagram = { [unowned self] bytes, sender in onReceived?(bytes, sender) }
    }
    deinit { close() }

    public var endpoint: Endpoint? { socket?.endpoint }

    public func send(_ bytes: [UInt8], to endpoint: Endpoint) {
        if let shaper, shaper.shapes(endpoint) {
            shaper.sendDatagram(bytes, to: endpoint)
        } else {
            hand(bytes, endpoint)
        }
    }
    private func hand(_ bytes: [UInt8], _ endpoint: Endpoint) {
        sent += 1
        sentBytes += bytes.count
        if endpoint.isPrivate { localBytes.sent += bytes.count }
        socket?.send(bytes, to: endpoint)
    }
    public func close() {
        shaper?.onSendDatagram = nil
        shaper?.onReceiveDatagram = nil
        onReceived = nil
        socket?.close()
        socket = nil
    }
}
