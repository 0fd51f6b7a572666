import EventLoop
import Foundation
import Primitives
import Testing
import Web

/// A server on loopback, and clients that write what they like.
final class WebRig: @unchecked Sendable {
    let loop = Loop()
    private(set) var server: WebServer!
    private var thread: Thread?
    private let ended = DispatchSemaphore(value: 0)
    var gone = 0

    init(key: String? = nil, limits: WebLimits = WebLimits(), _ handler: @escaping (WebRig, WebExchange) -> Void) throws
    {
        let endpoint = try #require(Endpoint("127.0.0.1:0"))
        server = try WebServer(
            loop, at: endpoint, access: WebAccess(key: key, hosts: WebAccess.loopbackHosts), limits: limits
        ) { [unowned self] exchange in handler(self, exchange) }
        let thread = Thread { [self] in
            loop.run()
            server.close()
            loop.close()
            ended.signal()
        }
        thread.start()
        self.thread = thread
    }
    func end() {
        loop.stop()
        ended.wait()
    }

    func connect(patience milliseconds: Int = 10_000) -> Int32 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let port = server.endpoint.port
        let connected = server.endpoint.withNativeAddress {
            Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
        precondition(connected == 0, "no connection to port \(port)")
        var patience = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        return descriptor
    }
    static func write(_ descriptor: Int32, _ text: [UInt8]) {
        _ = text.withUnsafeBytes { send(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
    }
    /// Until the other side closes, or `enough` is there.
    static func read(_ descriptor: Int32, until enough: (String) -> Bool = { _ in false }) -> String {
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while !enough(String(decoding: all, as: UTF8.self)) {
            let count = recv(descriptor, &buffer, buffer.count, 0)
            if count <= 0 { break }
            all += buffer[..<count]
        }
        return String(decoding: all, as: UTF8.self)
    }
    /// One request by itself.
    func ask(_ text: String) -> String { ask(Array(text.utf8)) }
    /// Waits for the other side to close, or for as long as its `patience` lasts: a server may wait for more of what is none.
    func ask(_ bytes: [UInt8], patience milliseconds: Int = 10_000) -> String {
        let descriptor = connect(patience: milliseconds)
        defer { close(descriptor) }
        Self.write(descriptor, bytes)
        return Self.read(descriptor)
    }
    static func get(_ path: String, _ more: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\(more)\r\n"
    }
    static func post(_ body: String, _ more: String = "") -> String {
        "POST /x HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\(more)\r\n\(body)"
    }
}

@Suite(.serialized) struct WebServerTests {
    static func echo(_ rig: WebRig, _ exchange: WebExchange) {
        let request = exchange.request
        exchange.answer(
            status: 200, type: "text/plain", body: Array("\(request.method) \(request.path) \(request.body.count)".utf8)
        )
    }

    @Test func `whole requests are answered`() throws {
        let rig = try WebRig(Self.echo)
        defer { rig.end() }
        let answer = rig.ask(WebRig.get("/a%20b?c=d"))
        #expect(answer.hasPrefix("HTTP/1.1 200 "))
        #expect(answer.hasSuffix("GET /a b 0"))
        #expect(answer.contains("X-Content-Type-Options: nosniff"))
        #expect(rig.ask(WebRig.post(String(repeating: "x", count: 70_000))).hasSuffix("POST /x 70000"))
        // Two on one connection.
        let descriptor = rig.connect()
        for _ in 0..<2 {
            WebRig.write(descriptor, Array("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8))
            #expect(WebRig.read(descriptor) { $0.hasSuffix("GET / 0") }.hasPrefix("HTTP/1.1 200"))
        }
        close(descriptor)
    }

    @Test func `who may not ask is refused before the handler`() throws {
        let rig = try WebRig(key: "0123456789abcdef", Self.echo)
        defer { rig.end() }
        let key = "Authorization: Bearer 0123456789abcdef\r\n"
        #expect(rig.ask(WebRig.get("/", key)).hasPrefix("HTTP/1.1 200"))
        #expect(rig.ask(WebRig.get("/")).hasPrefix("HTTP/1.1 401"))
        #expect(rig.ask(WebRig.get("/", "Authorization: Bearer 0123456789abcdeX\r\n")).hasPrefix("HTTP/1.1 401"))
        #expect(rig.ask(WebRig.get("/", "Authorization: 0123456789abcdef\r\n")).hasPrefix("HTTP/1.1 401"))
        let other = WebRig.get("/", key).replacingOccurrences(of: "Host: 127.0.0.1", with: "Host: evil.example")
        #expect(rig.ask(other).hasPrefix("HTTP/1.1 403"))
        #expect(rig.ask(WebRig.get("/", key + "Origin: https://evil.example\r\n")).hasPrefix("HTTP/1.1 403"))
        #expect(rig.ask(WebRig.get("/", key + "Origin: http://localhost:3000\r\n")).hasPrefix("HTTP/1.1 200"))
        #expect(
            rig.ask("DELETE / HTTP/1.1\r\nHost: 127.0.0.1\r\n\(key)Connection: close\r\n\r\n").hasPrefix("HTTP/1.1 405")
        )
    }

    @Test func `bodies and headers are bounded`() throws {
        var limits = WebLimits()
        limits.bodyBytes = 1000
        let rig = try WebRig(limits: limits, Self.echo)
        defer { rig.end() }
        #expect(rig.ask(WebRig.post(String(repeating: "x", count: 1001))).hasPrefix("HTTP/1.1 413"))
        #expect(
            rig.ask("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n").hasPrefix(
                "HTTP/1.1 4"))
        let chunk = "200\r\n" + String(repeating: "y", count: 512) + "\r\n"
        let chunked =
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\(chunk)\(chunk)0\r\n\r\n"
        #expect(rig.ask(chunked).hasPrefix("HTTP/1.1 413"))
        let long = WebRig.get("/", "X-Long: " + String(repeating: "z", count: 200_000) + "\r\n")
        #expect(!rig.ask(long).hasPrefix("HTTP/1.1 200"))
        #expect(rig.ask(WebRig.get("/")).hasPrefix("HTTP/1.1 200"))
    }

    @Test func `garbage of every kind leaves the server standing`() throws {
        let rig = try WebRig(Self.echo)
        defer { rig.end() }
        let good = Array(WebRig.post("hello", "Accept: */*\r\n").utf8)
        var generator = SeededGenerator(seed: 8)
        for round in 0..<150 {
            var bytes = round % 3 == 0 ? generator.bytes(generator.below(300)) : good
            if round % 3 > 0 {
                for _ in 0...generator.below(4) { bytes[generator.below(bytes.count)] = UInt8(generator.below(256)) }
            }
            _ = rig.ask(bytes, patience: 20)
        }
        #expect(rig.ask(WebRig.get("/z")).hasSuffix("GET /z 0"))
    }

    @Test func `streams come as they are sent, and end`() throws {
        let rig = try WebRig { rig, exchange in
            exchange.stream(type: "text/event-stream")
            exchange.send(Array("data: 1\n\n".utf8))
            rig.loop.soon {
                exchange.send(Array("data: 2\n\n".utf8))
                rig.loop.soon { exchange.finish() }
            }
        }
        defer { rig.end() }
        let answer = rig.ask(WebRig.get("/"))
        #expect(answer.contains("Content-Type: text/event-stream"))
        #expect(answer.contains("data: 1\n\n") && answer.contains("data: 2\n\n"))
    }

    @Test func `a client that leaves is noticed, whether it waits or is sent to`() throws {
        let seen = DispatchSemaphore(value: 0), left = DispatchSemaphore(value: 0)
        let rig = try WebRig { rig, exchange in
            exchange.onGone = {
                rig.gone += 1
                left.signal()
            }
            if exchange.request.path == "/stream" { exchange.stream(type: "text/plain") }
            seen.signal()
        }
        defer { rig.end() }
        for path in ["/wait", "/stream"] {
            let descriptor = rig.connect()
            WebRig.write(descriptor, Array("GET \(path) HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8))
            seen.wait()
            close(descriptor)
            #expect(left.wait(timeout: .now() + 20) == .success)
        }
    }

    @Test func `whoever takes all connections there are keeps nobody out once they are gone`() throws {
        var limits = WebLimits()
        (limits.connections, limits.connectionsPerAddress) = (4, 4)
        let rig = try WebRig(limits: limits, Self.echo)
        defer { rig.end() }
        for _ in 0..<3 {
            let all = (0..<7).map { _ in rig.connect() }
            Thread.sleep(forTimeInterval: 0.3)
            for descriptor in all { close(descriptor) }
            Thread.sleep(forTimeInterval: 0.6)
            #expect(rig.ask(WebRig.get("/")).contains("HTTP/1.1 200"))
        }
    }

    @Test func `whoever holds a place and asks nothing, or slowly, gives it to who comes`() throws {
        var limits = WebLimits()
        (limits.connections, limits.connectionsPerAddress) = (4, 4)
        let rig = try WebRig(limits: limits, Self.echo)
        defer { rig.end() }
        let silent = (0..<6).map { _ in rig.connect() }
        let halves = (0..<6).map { _ in
            let descriptor = rig.connect()
            WebRig.write(descriptor, Array("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nab".utf8))
            return descriptor
        }
        defer { for descriptor in silent + halves { close(descriptor) } }
        for _ in 0..<5 { #expect(rig.ask(WebRig.get("/x")).contains("HTTP/1.1 200")) }
        #expect(rig.server.turnedAway >= 8)
    }

    @Test func `whoever is served keeps its place`() throws {
        var limits = WebLimits()
        (limits.connections, limits.connectionsPerAddress) = (3, 3)
        let rig = try WebRig(limits: limits) { rig, exchange in
            guard exchange.request.path == "/stream" else { return Self.echo(rig, exchange) }
            exchange.stream(type: "text/plain")
            exchange.send(Array("begun".utf8))
            exchange.onGone = { rig.gone += 1 }
        }
        defer { rig.end() }
        let streams = (0..<2).map { _ in
            let descriptor = rig.connect()
            WebRig.write(descriptor, Array("GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8))
            #expect(WebRig.read(descriptor) { $0.contains("begun") }.contains("HTTP/1.1 200"))
            return descriptor
        }
        defer { for descriptor in streams { close(descriptor) } }
        let silent = (0..<5).map { _ in rig.connect() }
        defer { for descriptor in silent { close(descriptor) } }
        #expect(rig.ask(WebRig.get("/x")).contains("HTTP/1.1 200"))
        #expect(rig.gone == 0)
    }

    @Test func `a head that comes a byte at a time has to be there in its time`() throws {
        var limits = WebLimits()
        limits.headSeconds = 1
        let rig = try WebRig(limits: limits, Self.echo)
        defer { rig.end() }
        let descriptor = rig.connect(patience: 200)
        defer { close(descriptor) }
        var isOpen = true
        var sent = 0
        while isOpen, sent < 400 {
            WebRig.write(descriptor, Array((sent == 0 ? "GET /" : "a").utf8))
            sent += 1
            var byte: UInt8 = 0
            isOpen = recv(descriptor, &byte, 1, 0) != 0 && errno != ECONNRESET && errno != EPIPE
        }
        #expect(!isOpen && sent < 400)
    }

    @Test func `a client that does not read is cut off`() throws {
        let left = DispatchSemaphore(value: 0)
        var limits = WebLimits()
        limits.unreadBytes = 100_000
        let rig = try WebRig(limits: limits) { rig, exchange in
            exchange.onGone = { left.signal() }
            exchange.stream(type: "text/plain")
            func more() {
                guard !exchange.isGone else { return }
                exchange.send([UInt8](repeating: 65, count: 60_000))
                rig.loop.soon { more() }
            }
            more()
        }
        defer { rig.end() }
        let descriptor = rig.connect()
        WebRig.write(descriptor, Array("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8))
        #expect(left.wait(timeout: .now() + 20) == .success)
        close(descriptor)
    }
}
