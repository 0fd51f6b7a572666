import Digests
import EventLoop
import Foundation
import Kademlia
import Node
import Primitives

/// One real node on a loop and thread of its own, amid a few neighbours, for benchmarks that load it from outside.
final class OverlayServer: @unchecked Sendable {
    enum Kind { case node, echo }
    private(set) var endpoint = Endpoint(ipv4: 127, 0, 0, 1, port: 1)
    private let loop = Loop()
    private let ready = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)
    private var node: OverlayNode?
    /// CPU seconds of the thread between ``init`` and ``stop()``; counters at the end.
    private(set) var cpu = 0.0
    private(set) var counters = OverlayCounters()
    private(set) var answered = 0

    /// - Parameter neighbours: nodes that fill its table; they live on the same thread and are idle once they have joined.
    init(_ kind: Kind, neighbours: Int = 0, listen: Endpoint = Endpoint(ipv4: 127, 0, 0, 1, port: 0)) {
        let thread = Thread { [self] in
            switch kind {
            case .node: serve(neighbours, listen)
            case .echo: echo(listen)
            }
            ended.signal()
        }
        thread.stackSize = 8 << 20
        thread.start()
        ready.wait()
    }

    func stop() {
        loop.stop()
        ended.wait()
    }

    private func serve(_ neighbours: Int, _ listen: Endpoint) {
        let node = try! OverlayNode(loop, bind: listen, overlay: Self.makeOverlay(0, [], at: loop.now))
        self.node = node
        endpoint = node.endpoint
        node.start()
        let others = (0..<neighbours).map { index in
            try! OverlayNode(
                loop, bind: Endpoint(ipv4: 127, 0, 0, 1, port: 0),
                overlay: Self.makeOverlay(index + 1, [endpoint], at: loop.now))
        }
        for other in others { other.start() }
        let settled = EventLoop.Timer(loop) { [self] in
            cpu = -Self.threadSeconds()
            ready.signal()
        }
        settled.arm(at: loop.now + .seconds(neighbours > 0 ? 4 : 0))
        loop.run()
        cpu += Self.threadSeconds()
        counters = node.overlay.counters
        answered = counters.queriesAnswered
        settled.close()
        for other in others { other.close() }
        node.close()
        loop.close()
    }

    private func echo(_ listen: Endpoint) {
        var echo: ((UnsafeRawBufferPointer, Endpoint) -> Void)?
        let socket = try! UDPSocket(loop, bind: listen) { bytes, sender in echo?(bytes, sender) }
        echo = { [self] bytes, sender in
            answered += 1
            socket.send([UInt8](bytes), to: sender)
        }
        endpoint = socket.endpoint!
        cpu = -Self.threadSeconds()
        loop.soon { [self] in ready.signal() }
        loop.run()
        cpu += Self.threadSeconds()
        socket.close()
        loop.close()
    }

    static func makeOverlay(
        _ index: Int, _ bootstrap: [Endpoint], poolKey: [UInt8]? = nil, at now: Instant
    ) -> Overlay {
        let seed = sha256(Array("benchmark node \(index)".utf8)).bytes
        let configuration = OverlayConfiguration(poolKey: poolKey, bootstrap: bootstrap, seed: UInt64(index) + 1)
        return Overlay(
            configuration: configuration, identity: SigningKey(seed: Array(seed))!, nodeID: nil, known: [], at: now)
    }

    static func threadSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}

/// A connected UDP socket without a loop: the load.
final class RawSocket {
    private let file: Int32
    private var buffer = [UInt8](repeating: 0, count: 2048)
    private(set) var sent = 0
    private(set) var received = 0
    private(set) var sentBytes = 0
    private(set) var receivedBytes = 0

    init(from: [UInt8], to endpoint: Endpoint) {
        file = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        Self.with(from, 0) { address, size in precondition(bind(file, address, size) == 0, "cannot bind a load socket")
        }
        Self.with(endpoint.address, endpoint.port) { address, size in _ = connect(file, address, size) }
    }
    deinit { close(file) }

    private static func with(_ bytes: [UInt8], _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Void) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: bytes) }
        withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// Datagrams whose answers nobody waits for any more.
    private(set) var forgotten = 0
    var patience = 1000
    func forget() {
        forgotten = sent - received
        patience = 1000
    }
    func send(_ bytes: [UInt8]) {
        guard Glibc.send(file, bytes, bytes.count, Int32(MSG_DONTWAIT)) == bytes.count else { return }
        sent += 1
        sentBytes += bytes.count
    }
    /// One datagram that is there; nil when none is.
    func receive() -> ArraySlice<UInt8>? {
        let count = recv(file, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        guard count > 0 else { return nil }
        received += 1
        receivedBytes += count
        return buffer[..<count]
    }
    /// Waits for one datagram.
    func await(milliseconds: Int32) -> ArraySlice<UInt8>? {
        var poll = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
        guard Glibc.poll(&poll, 1, milliseconds) > 0 else { return nil }
        return receive()
    }
}
