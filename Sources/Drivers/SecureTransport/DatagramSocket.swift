public import EventLoop
import Flows
public import Primitives

/// The process's UDP socket: the overlay's datagrams and those of flows, told apart by their first byte, shaped by the process's links where a plan
/// says so. Confined to the loop.
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
    /// Everything but flows. Set apart from the socket's birth, so that either may come first.
    public var onReceived: (([UInt8], Endpoint) -> Void)?
    /// Datagrams of flows from one sender, all but the last of one size, in memory that may be changed, and how long they have been on this machine.
    /// Without a taker they are dropped.
    var onFlow: ((UnsafeMutableRawBufferPointer, Int, Endpoint, Duration) -> Void)?

    /// - Parameters:
    ///   - endpoint: the port that TCP uses too; 0 lets the kernel choose.
    ///   - shaper: ``SecureTransport/shaper``, so that both share the access lines. One datagram socket a shaper.
    ///   - offloads: false: as where the kernel neither cuts bursts nor puts datagrams together.
    public init(
        _ loop: Loop, bind endpoint: Endpoint, shaper: LinkShaper? = nil, offloads: Bool = true
    ) throws(SocketError) {
        socket = try UDPSocket(
            loop, bind: endpoint, offloads: offloads,
            bursts: { [unowned self] bytes, segment, sender, age in
                received += (bytes.count + segment - 1) / segment
                receivedBytes += bytes.count
                if sender.isPrivate { localBytes.received += bytes.count }
                if let shaper = self.shaper, shaper.shapes(sender) {
                    Self.each(bytes, segment) { shaper.receivedDatagram([UInt8]($0), from: sender) }
                } else {
                    take(bytes, segment, sender, age)
                }
            })
        use(shaper)
    }
    /// From now on datagrams wait for these lines, too.
    public func use(_ shaper: LinkShaper?) {
        guard let shaper, self.shaper !== shaper else { return }
        self.shaper = shaper
        shaper.onSendDatagram = { [unowned self] bytes, endpoint in hand(bytes, endpoint) }
        shaper.onReceiveDatagram = { [unowned self] bytes, sender in
            var bytes = bytes
            bytes.withUnsafeMutableBytes { take($0, $0.count, sender, .zero) }
        }
    }
    deinit { close() }

    public var endpoint: Endpoint? { socket?.endpoint }
    /// Datagrams that the kernel had no room for.
    public var dropped: Int { socket?.dropped ?? 0 }

    private static func each(
        _ bytes: UnsafeMutableRawBufferPointer, _ segment: Int, _ body: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        for start in stride(from: 0, to: bytes.count, by: segment) {
            body(UnsafeMutableRawBufferPointer(rebasing: bytes[start..<min(start + segment, bytes.count)]))
        }
    }
    /// The kernel puts together what one sender sent, whoever it is for: flows get theirs in runs, the overlay one by one.
    private func take(
        _ bytes: UnsafeMutableRawBufferPointer, _ segment: Int, _ sender: Endpoint, _ age: Duration
    ) {
        var run = 0
        func endRun(_ end: Int) {
            if run < end { onFlow?(UnsafeMutableRawBufferPointer(rebasing: bytes[run..<end]), segment, sender, age) }
        }
        for start in stride(from: 0, to: bytes.count, by: segment) where !FlowLimits.firstBytes.contains(bytes[start]) {
            let end = min(start + segment, bytes.count)
            endRun(start)
            run = end
            onReceived?([UInt8](bytes[start..<end]), sender)
        }
        endRun(bytes.count)
    }

    public func send(_ bytes: [UInt8], to endpoint: Endpoint) {
        if let shaper, shaper.shapes(endpoint) {
            shaper.sendDatagram(bytes, to: endpoint)
        } else {
            hand(bytes, endpoint)
        }
    }
    func send(_ burst: FlowBurst) {
        if let shaper, shaper.shapes(burst.to) {
            for datagram in burst.datagrams { shaper.sendDatagram(Array(datagram), to: burst.to) }
            return
        }
        count(burst.bytes.count, (burst.bytes.count + burst.segment - 1) / burst.segment, burst.to)
        socket?.send(burst.bytes, segment: burst.segment, to: burst.to)
    }
    /// Of few hops; it waits for no line.
    func send(_ bytes: [UInt8], hops: UInt8, to endpoint: Endpoint) {
        count(bytes.count, 1, endpoint)
        socket?.send(bytes, hops: hops, to: endpoint)
    }
    private func hand(_ bytes: [UInt8], _ endpoint: Endpoint) {
        count(bytes.count, 1, endpoint)
        if let first = bytes.first, FlowLimits.firstBytes.contains(first) {
            socket?.send(bytes, segment: bytes.count, to: endpoint)
        } else {
            socket?.send(bytes, to: endpoint)
        }
    }
    private func count(_ bytes: Int, _ datagrams: Int, _ endpoint: Endpoint) {
        sent += datagrams
        sentBytes += bytes
        if endpoint.isPrivate { localBytes.sent += bytes }
    }
    public func close() {
        shaper?.onSendDatagram = nil
        shaper?.onReceiveDatagram = nil
        onReceived = nil
        onFlow = nil
        socket?.close()
        socket = nil
    }
}
