import CMicroHTTPD
public import EventLoop
import Glibc
public import Primitives

/// Why a server cannot listen.
public struct WebError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

/// An HTTP server on the loop: libmicrohttpd, run by the loop without a thread of its own. Requests are complete, bounded and
/// allowed before the handler sees them; everything else is refused here.
public final class WebServer {
    public typealias Handler = (WebExchange) -> Void

    let limits: WebLimits
    private let access: WebAccess
    private let handler: Handler
    private let loop: Loop
    private var daemon: OpaquePointer?
    private var poller: Poller?
    private let listening: Int32
    private var acceptor: Acceptor?
    private var guests: WebGuests
    private var timer: Timer?
    private var isRunning = false
    private var mustRun = false
    /// Bytes of bodies being read.
    private var bodyBytes = 0
    private var exchanges: [ObjectIdentifier: WebExchange] = [:]
    /// The endpoint in use.
    public private(set) var endpoint: Endpoint
    /// Requests that were refused before the handler.
    public private(set) var refused = 0
    /// Connections that lost their place to others, or their time was over; and those for which there was none.
    public private(set) var turnedAway = 0

    /// Headers that are looked at.
    static let headers = [
        "host", "origin", "authorization", "content-type", "content-length", "accept", "cookie", "sec-fetch-site",
    ]

    /// Listens at once; port 0 takes a free one.
    public init(
        _ loop: Loop, at endpoint: Endpoint, access: WebAccess, limits: WebLimits = WebLimits(),
        handler: @escaping Handler
    ) throws(WebError) {
        self.loop = loop
        self.access = access
        var limits = limits
        // Where few descriptors are to be had, one server leaves some to the others.
        limits.connections = min(limits.connections, max(8, DescriptorLimit.current / 16))
        self.limits = limits
        self.handler = handler
        self.endpoint = endpoint
        guests = WebGuests(limits)
        listening = try Self.listen(endpoint)
        guard let bound = Endpoint(boundTo: listening) else {
            Glibc.close(listening)
            throw WebError(description: "the system does not say which port it gave")
        }
        self.endpoint = bound
        let me = Unmanaged.passUnretained(self).toOpaque()
        daemon = atoll_web_start(
            { server, connection, path, method, _, upload, uploadSize, context in
                Unmanaged<WebServer>.fromOpaque(server!).takeUnretainedValue().access(
                    connection!, String(cString: path!), String(cString: method!), upload, uploadSize!, context!)
            }, me,
            { server, connection, context, reason in
                Unmanaged<WebServer>.fromOpaque(server!).takeUnretainedValue().completed(connection!, context!, reason)
            }, me,
            { server, connection, context, code in
                Unmanaged<WebServer>.fromOpaque(server!).takeUnretainedValue().connected(connection!, context!, code)
            }, me,
            // Those that have just been cut are not gone yet.
            UInt32(limits.connections + Self.atOnce), UInt32(limits.idleSeconds), limits.headerBytes)
        guard let daemon else {
            Glibc.close(listening)
            throw WebError(description: "the HTTP server cannot start: out of memory or descriptors")
        }
        timer = Timer(loop) { [unowned self] in run() }
        poller = Poller(loop, readable: atoll_web_descriptor(daemon)) { [unowned self] in run() }
        acceptor = Acceptor(loop, listening: listening, atOnce: Self.atOnce) { [unowned self] in take($0) }
        run()
    }

    deinit { close() }

    /// Answers nobody any more. What was being answered is cut.
    public func close() {
        guard let daemon else { return }
        acceptor?.close()
        Glibc.close(listening)
        poller?.close()
        timer?.close()
        for exchange in sorted { exchange.leave() }
        for exchange in sorted where exchange.isSuspended {
            exchange.isSuspended = false
            MHD_resume_connection(exchange.connection)
        }
        self.daemon = nil
        MHD_stop_daemon(daemon)
        exchanges = [:]
    }
    private var sorted: [WebExchange] { Array(exchanges.values) }

    private static func listen(_ endpoint: Endpoint) throws(WebError) -> Int32 {
        let family = endpoint.isIPv4 ? AF_INET : AF_INET6
        let socket = Glibc.socket(
            family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard socket >= 0 else { throw WebError(description: String(cString: strerror(errno))) }
        var yes: Int32 = 1
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        if family == AF_INET6 {
            setsockopt(socket, Int32(IPPROTO_IPV6), IPV6_V6ONLY, &yes, socklen_t(MemoryLayout<Int32>.size))
        }
        let length = socklen_t(endpoint.isIPv4 ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size)
        let bound = endpoint.withNativeAddress { Glibc.bind(socket, $0, length) }
        guard bound == 0, Glibc.listen(socket, 64) == 0 else {
            let problem = String(cString: strerror(errno))
            Glibc.close(socket)
            throw WebError(description: "\(endpoint): \(problem); another program may use the port, give another one")
        }
        return socket
    }

    // MARK: running

    /// Lets libmicrohttpd do what there is to do, and asks when there will be more.
    private func run() {
        guard !isRunning, let daemon else {
            mustRun = true
            return
        }
        isRunning = true
        repeat {
            mustRun = false
            MHD_run(daemon)
        } while mustRun && self.daemon != nil
        isRunning = false
        guard self.daemon != nil else { return }
        // Whoever waits is looked after, and whoever lets us wait.
        var wake = guests.all.isEmpty ? nil : loop.now + .milliseconds(250)
        let milliseconds = atoll_web_timeout(daemon)
        if milliseconds >= 0 {
            let moment = loop.now + .milliseconds(milliseconds)
            wake = wake.map { min($0, moment) } ?? moment
        }
        timer?.arm(at: wake)
        lookForLeavers()
        for guest in guests.overdue(at: loop.now) { cut(guest) }
    }

    // MARK: places

    /// So many connections are taken before those that are there are heard.
    private static let atOnce = 8

    private func take(_ accepted: Int32) {
        let (isFree, last) = guests.place(
            for: Self.address(of: accepted), isScarce: DescriptorLimit.isReserved(accepted, from: .owner), at: loop.now)
        if let last { cut(last) }
        guard let daemon, isFree, let socket = lowered(accepted) else {
            turnedAway += 1
            Glibc.close(accepted)
            return
        }
        // One that it does not take it has closed.
        if atoll_web_add(daemon, socket) == 0 { turnedAway += 1 }
        mustRun = true
        loop.soon { [weak self] in if self?.mustRun == true { self?.run() } }
    }
    /// The same socket below the descriptors that are kept for other things: one that was cut leaves its number. Nil where none is left.
    private func lowered(_ socket: Int32) -> Int32? {
        guard DescriptorLimit.isReserved(socket, from: .owner) else { return socket }
        run()
        let lower = fcntl(socket, F_DUPFD_CLOEXEC, 0)
        guard lower >= 0 else { return nil }
        guard !DescriptorLimit.isReserved(lower, from: .owner) else {
            Glibc.close(lower)
            return nil
        }
        Glibc.close(socket)
        return lower
    }
    /// libmicrohttpd notices that nothing comes any more, and closes it.
    private func cut(_ guest: WebGuest) {
        turnedAway += 1
        guests.cut(guest)
        shutdown(guest.socket, Int32(SHUT_RDWR))
        mustRun = true
    }
    private static func address(of socket: Int32) -> [UInt8] {
        var address = [UInt8](repeating: 0, count: 16)
        _ = atoll_web_address(socket, &address)
        return address
    }
    private func connected(
        _ connection: OpaquePointer, _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>,
        _ code: MHD_ConnectionNotificationCode
    ) {
        if atoll_web_begins(code) != 0 {
            let socket = atoll_web_socket(connection)
            let guest = WebGuest(socket: socket, address: Self.address(of: socket), at: loop.now)
            context.pointee = Unmanaged.passRetained(guest).toOpaque()
            guests.enter(guest)
        } else if let known = context.pointee {
            context.pointee = nil
            guests.leave(Unmanaged<WebGuest>.fromOpaque(known).takeRetainedValue())
        }
    }
    private func turn(_ connection: OpaquePointer, to phase: WebGuest.Phase) {
        guard let known = atoll_web_context(connection) else { return }
        guests.turn(Unmanaged<WebGuest>.fromOpaque(known).takeUnretainedValue(), to: phase, at: loop.now)
    }

    func suspend(_ exchange: WebExchange) {
        guard !exchange.isSuspended else { return }
        exchange.isSuspended = true
        MHD_suspend_connection(exchange.connection)
    }

    /// There is something for this client now.
    func wake(_ exchange: WebExchange) {
        guard daemon != nil, exchanges[ObjectIdentifier(exchange)] != nil, exchange.isSuspended else { return }
        exchange.isSuspended = false
        MHD_resume_connection(exchange.connection)
        mustRun = true
        if !isRunning { loop.soon { [weak self] in self?.run() } }
    }

    /// A client that waits is not polled: whether it is still there is asked now and then.
    private func lookForLeavers() {
        for exchange in sorted where exchange.isSuspended {
            var byte: UInt8 = 0
            let found = recv(atoll_web_socket(exchange.connection), &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            if found == 0 || found < 0 && errno != EAGAIN && errno != EINTR { exchange.leave() }
        }
    }

    // MARK: libmicrohttpd's calls

    /// A request being read.
    private final class Reading {
        var body: [UInt8] = []
        var refusal: Int?
        var exchange: WebExchange?
        let headers: [String: String]
        init(_ headers: [String: String]) { self.headers = headers }
    }

    private func access(
        _ connection: OpaquePointer, _ path: String, _ method: String, _ upload: UnsafePointer<CChar>?,
        _ uploadSize: UnsafeMutablePointer<Int>, _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) -> MHD_Result {
        guard let known = context.pointee else {
            turn(connection, to: .asking)
            let reading = Reading(headers(connection))
            reading.refusal = refusal(reading.headers, method)
            context.pointee = Unmanaged.passRetained(reading).toOpaque()
            // Refused before a body is read.
            if let status = reading.refusal { return refuse(connection, status) }
            return atoll_web_result(1)
        }
        let reading = Unmanaged<Reading>.fromOpaque(known).takeUnretainedValue()
        if uploadSize.pointee > 0 {
            take(upload, uploadSize, reading)
            return atoll_web_result(1)
        }
        if let status = reading.refusal { return refuse(connection, status) }
        if let exchange = reading.exchange {
            if exchange.isGone { return atoll_web_result(0) }
            return hand(exchange)
        }
        let request = WebRequest(method: method, path: path, body: reading.body, headers: reading.headers)
        let exchange = WebExchange(request, connection: connection, server: self)
        reading.exchange = exchange
        exchanges[ObjectIdentifier(exchange)] = exchange
        turn(connection, to: .served)
        handler(exchange)
        return hand(exchange)
    }

    /// Its answer, or the beginning of it; whoever's is not there yet waits.
    private func hand(_ exchange: WebExchange) -> MHD_Result {
        guard let result = exchange.takeResponse() else {
            suspend(exchange)
            return atoll_web_result(1)
        }
        if exchange.state == .answered { turn(exchange.connection, to: .taking) }
        return result
    }

    private func take(_ upload: UnsafePointer<CChar>?, _ size: UnsafeMutablePointer<Int>, _ reading: Reading) {
        defer { size.pointee = 0 }
        guard reading.refusal == nil, let upload else { return }
        if reading.body.count + size.pointee > limits.bodyBytes {
            reading.refusal = 413
        } else if bodyBytes + size.pointee > limits.bodyBytesTogether {
            reading.refusal = 503
        } else {
            bodyBytes += size.pointee
            reading.body += UnsafeRawBufferPointer(start: upload, count: size.pointee)
            return
        }
        bodyBytes -= reading.body.count
        reading.body = []
    }

    private func headers(_ connection: OpaquePointer) -> [String: String] {
        var found: [String: String] = [:]
        for name in Self.headers {
            if let value = atoll_web_header(connection, name) {
                found[name] = String(cString: value)
            }
        }
        return found
    }

    private func refusal(_ headers: [String: String], _ method: String) -> Int? {
        if let status = access.refusal(headers) { return status }
        guard ["GET", "POST", "HEAD"].contains(method) else { return 405 }
        if let length = headers["content-length"] {
            guard let count = Int(length), count >= 0 else { return 400 }
            if count > limits.bodyBytes { return 413 }
        }
        return nil
    }

    private func refuse(_ connection: OpaquePointer, _ status: Int) -> MHD_Result {
        refused += 1
        turn(connection, to: .taking)
        let reasons = [
            400: "the request makes no sense", 401: "a key is needed: Authorization: Bearer KEY",
            403: "this address is not served under that name", 405: "GET and POST are understood",
            413: "the body is too long", 503: "too much is being read; try again",
        ]
        let text =
            "{\"error\":{\"message\":\"\(reasons[status] ?? "refused")\",\"type\":\"invalid_request_error\","
            + "\"param\":null,\"code\":null}}\n"
        let response = Array(text.utf8).withUnsafeBytes {
            atoll_web_response($0.baseAddress, $0.count)
        }
        guard let response else { return atoll_web_result(0) }
        defer { MHD_destroy_response(response) }
        MHD_add_response_header(response, "Content-Type", "application/json")
        MHD_add_response_header(response, "Connection", "close")
        if status == 401 { MHD_add_response_header(response, "WWW-Authenticate", "Bearer") }
        return MHD_queue_response(connection, UInt32(status), response)
    }

    private func completed(
        _ connection: OpaquePointer, _ context: UnsafeMutablePointer<UnsafeMutableRawPointer?>,
        _ reason: MHD_RequestTerminationCode
    ) {
        turn(connection, to: .silent)
        guard let known = context.pointee else { return }
        context.pointee = nil
        let reading = Unmanaged<Reading>.fromOpaque(known).takeRetainedValue()
        bodyBytes -= reading.body.count
        guard let exchange = reading.exchange else { return }
        exchanges[ObjectIdentifier(exchange)] = nil
        exchange.isSuspended = false
        exchange.end(completed: atoll_web_was_completed(reason) != 0)
    }
}
