import EventLoop
import Kademlia
import Primitives

/// One answer to "can I be reached?": dials TCP, sends a datagram from a port the asker never heard of, hangs up.
final class DialBackAttempt {
    private static let patience = Duration.seconds(3)
    private var stream: TCPStream?
    private var socket: UDPSocket?
    private var timer: Timer?
    private var done: ((Bool) -> Void)?

    /// - Parameter done: called once on the loop, never inside this call.
    init(_ loop: Loop, to endpoint: Endpoint, _ probe: DatagramProbe, done: @escaping (Bool) -> Void) {
        self.done = done
        let any = probe.endpoint.isIPv4 ? Endpoint(ipv4: 0, 0, 0, 0, port: 0) : Endpoint("[::]:0")!
        socket = try? UDPSocket(loop, bind: any) { _, _ in }
        // Twice: a lost datagram is no verdict.
        for _ in 0..<2 { socket?.send(probe.bytes, to: probe.endpoint) }
        timer = Timer(loop) { [unowned self] in end(false) }
        do throws(SocketError) {
            stream = try TCPStream.dial(loop, to: endpoint, from: nil) { [unowned self] error in end(error == nil) }
            timer?.arm(at: loop.now + Self.patience)
        } catch {
            timer?.arm(at: loop.now)
        }
    }

    private func end(_ reached: Bool) {
        guard let done else { return }
        self.done = nil
        done(reached)
    }

    func close() {
        done = nil
        stream?.close()
        socket?.close()
        timer?.close()
    }
}
