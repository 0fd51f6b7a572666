import CMicroHTTPD
import Glibc

/// One request and its answer, which may come later, and in pieces. On the loop only.
public final class WebExchange {
    public let request: WebRequest
    /// Called once when the client left before the answer was complete.
    public var onGone: (() -> Void)?

    enum State {
        case waiting
        case answered
        case streaming
        case finished
        case gone
    }
    private(set) var state = State.waiting
    private unowned let server: WebServer
    let connection: OpaquePointer
    /// Whether the connection waits for us.
    var isSuspended = false
    private var response: (status: UInt32, response: OpaquePointer)?
    private var unread: [UInt8] = []
    private var unreadStart = 0

    init(_ request: WebRequest, connection: OpaquePointer, server: WebServer) {
        self.request = request
        self.connection = connection
        self.server = server
    }
    deinit { if let response { MHD_destroy_response(response.response) } }

    public var isGone: Bool { state == .gone }

    /// The whole answer.
    public func answer(status: Int, type: String, body: [UInt8], headers: [(name: String, value: String)] = []) {
        guard state == .waiting else { return }
        state = .answered
        let made = body.withUnsafeBytes { atoll_web_response($0.baseAddress, $0.count) }
        respond(status, made, type, headers)
    }

    /// The beginning of an answer in pieces: ``send(_:)``, then ``finish()``.
    public func stream(status: Int = 200, type: String, headers: [(name: String, value: String)] = []) {
        guard state == .waiting else { return }
        state = .streaming
        let made = MHD_create_response_from_callback(
            UInt64.max, 16 << 10,
            { context, _, buffer, size in
                Unmanaged<WebExchange>.fromOpaque(context!).takeUnretainedValue().read(into: buffer!, size)
            }, Unmanaged.passRetained(self).toOpaque(),
            { context in Unmanaged<WebExchange>.fromOpaque(context!).release() })
        respond(status, made, type, headers)
    }

    /// More of a stream. A client that does not read is gone at some point.
    public func send(_ bytes: [UInt8]) {
        guard state == .streaming, !bytes.isEmpty else { return }
        guard unread.count - unreadStart + bytes.count <= server.limits.unreadBytes else {
            leave()
            return
        }
        unread += bytes
        server.wake(self)
    }

    public func finish() {
        guard state == .streaming else { return }
        state = .finished
        server.wake(self)
    }

    // MARK: the server's side

    private func respond(
        _ status: Int, _ made: OpaquePointer?, _ type: String, _ headers: [(name: String, value: String)]
    ) {
        guard let made else {
            leave()
            return
        }
        MHD_add_response_header(made, "Content-Type", type)
        // Nobody guesses another type, and nothing is kept: answers are of the moment.
        MHD_add_response_header(made, "X-Content-Type-Options", "nosniff")
        MHD_add_response_header(made, "Cache-Control", "no-store")
        for (name, value) in headers { MHD_add_response_header(made, name, value) }
        response = (UInt32(status), made)
        server.wake(self)
    }

    /// Hands the answer over if there is one.
    func takeResponse() -> MHD_Result? {
        guard let response else { return nil }
        self.response = nil
        defer { MHD_destroy_response(response.response) }
        return MHD_queue_response(connection, response.status, response.response)
    }
    var hasResponse: Bool { response != nil }

    private func read(into buffer: UnsafeMutablePointer<CChar>, _ size: Int) -> Int {
        let count = min(size, unread.count - unreadStart)
        if count > 0 {
            unread.withUnsafeBytes { bytes in
                UnsafeMutableRawPointer(buffer).copyMemory(from: bytes.baseAddress! + unreadStart, byteCount: count)
            }
            unreadStart += count
            if unreadStart == unread.count {
                unread.removeAll(keepingCapacity: true)
                unreadStart = 0
            }
            return count
        }
        switch state {
        case .finished: return -1  // the end
        case .gone: return -2  // the connection is cut
        default:
            server.suspend(self)
            return 0
        }
    }

    /// The client is no more, or no longer reads.
    func leave() {
        guard state != .gone else { return }
        let wasComplete = state == .finished || state == .answered
        state = .gone
        unread = []
        unreadStart = 0
        if !wasComplete { onGone?() }
        onGone = nil
        server.wake(self)
    }

    /// libmicrohttpd is done with the request; `completed` unless the connection broke.
    func end(completed: Bool) {
        if !completed || state == .waiting || state == .streaming { leave() }
        state = .gone
        onGone = nil
    }
}
