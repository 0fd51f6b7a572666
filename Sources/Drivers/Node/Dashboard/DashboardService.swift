import Digests
public import EventLoop
import Foundation
public import Primitives
public import Telemetry
import Web

/// What a process shows on its page, besides what it knows itself.
public struct DashboardOptions {
    /// On loopback; 0 takes a free port.
    public var port: UInt16
    /// What a person reads of an event; nil for what only machines read.
    public var sentence: (Event) -> String?
    /// Told where it is opened, when it is served.
    public var onAddress: (String) -> Void
    /// What is to be said of this moment, and of the owner's limits.
    public var story: (ControlService.Status, JobView) -> (now: [String], limits: [String])

    public init(
        port: UInt16, sentence: @escaping (Event) -> String?, onAddress: @escaping (String) -> Void,
        story: @escaping (ControlService.Status, JobView) -> (now: [String], limits: [String])
    ) {
        self.port = port
        self.sentence = sentence
        self.story = story
        self.onAddress = onAddress
    }
}

/// Serves the page and its stream on loopback, to who has the key to the door.
///
/// An address with a token of one use is told to the owner; it answers with a cookie that this browser sends to this server only. Every request must name
/// this server by a loopback name and its own port, come from no other page, and change nothing. docs/DASHBOARD.md says why.
public final class DashboardService {
    static let mostStreams = 8
    static let mostSessions = 16
    private static let beat = Duration.seconds(1)

    private var server: WebServer!
    private let loop: Loop
    private var token: String
    private var sessions: [String] = []
    private var streams: [WebExchange] = []
    private var timer: EventLoop.Timer?
    private let snapshot: () -> [String]
    private let news: () -> [String]
    private let page: (String) -> String

    /// - Parameters:
    ///   - port: 0 takes a free one.
    ///   - page: the page, whose script and style carry the word that it is given.
    ///   - snapshot: records for whoever has seen nothing.
    ///   - news: records since the last time; asked once a second, whoever looks.
    public init(
        _ loop: Loop, port: UInt16, page: @escaping (String) -> String, snapshot: @escaping () -> [String],
        news: @escaping () -> [String]
    ) throws(NodeError) {
        self.loop = loop
        self.snapshot = snapshot
        self.news = news
        self.page = page
        token = Self.secret()
        var limits = WebLimits()
        (limits.connections, limits.connectionsPerAddress, limits.bodyBytes) = (64, 64, 0)
        limits.headerBytes = 16 << 10
        limits.unreadBytes = 8 << 20
        do throws(WebError) {
            server = try WebServer(
                loop, at: Endpoint(ipv4: 127, 0, 0, 1, port: port),
                access: WebAccess(key: nil, hosts: WebAccess.loopbackHosts), limits: limits
            ) { [unowned self] exchange in answer(exchange) }
        } catch {
            throw .badInput("--web \(port): \(error.description)")
        }
        timer = EventLoop.Timer(loop) { [unowned self] in turn() }
        timer?.arm(at: loop.now + Self.beat)
    }
    deinit { close() }
    public func close() {
        timer?.close()
        timer = nil
        server?.close()
        server = nil
        streams = []
    }

    public var endpoint: Endpoint { server.endpoint }
    /// Whether somebody has the page open.
    var isSeen: Bool { !streams.isEmpty }
    /// Opens the page once.
    public var address: String { "http://127.0.0.1:\(endpoint.port)/open/\(token)" }
    private static func secret() -> String { randomBytes(24).hex }
    /// Browsers send a cookie to every port of a host: each server has one of its own.
    private var cookie: String { "atoll-\(endpoint.port)" }

    // MARK: streams

    private func turn() {
        timer?.arm(at: loop.now + Self.beat)
        tell()
    }
    private func tell() {
        streams.removeAll(where: \.isGone)
        let records = news()
        guard !streams.isEmpty else { return }
        // A word each second, so that who is gone is noticed.
        let bytes = records.isEmpty ? Array(":\n\n".utf8) : Self.message(records)
        for stream in streams { stream.send(bytes) }
    }
    private static func message(_ records: [String]) -> [UInt8] {
        Array("data: [\(records.joined(separator: ","))]\n\n".utf8)
    }

    // MARK: requests

    private func answer(_ exchange: WebExchange) {
        let request = exchange.request
        if let (status, why) = refusal(request) { return refuse(exchange, status, why) }
        if request.path.hasPrefix("/open/") { return open(exchange) }
        guard isKnown(request) else {
            return refuse(
                exchange, 401,
                "this page is opened by the address that its program printed, once; `atoll status` tells a new one")
        }
        switch request.path {
        case "/":
            let nonce = Self.secret()
            exchange.answer(
                status: 200, type: "text/html; charset=utf-8", body: Array(page(nonce).utf8),
                headers: Self.closed + [
                    ("Content-Security-Policy", DashboardPage.policy(nonce: nonce, asksServer: true))
                ])
        case "/stream": stream(exchange)
        case "/favicon.svg":
            exchange.answer(
                status: 200, type: "image/svg+xml", body: Array(DashboardPage.icon.utf8),
                headers: Self.closed + [("Content-Security-Policy", "default-src 'none'")])
        default: refuse(exchange, 404, "there is the page at /")
        }
    }
    /// Of every answer.
    private static let closed = [
        (name: "Referrer-Policy", value: "no-referrer"), (name: "Cross-Origin-Resource-Policy", value: "same-origin"),
        (name: "Cross-Origin-Opener-Policy", value: "same-origin"), (name: "X-Frame-Options", value: "DENY"),
    ]
    private func refuse(_ exchange: WebExchange, _ status: Int, _ why: String) {
        exchange.answer(
            status: status, type: "text/plain; charset=utf-8", body: Array((why + "\n").utf8), headers: Self.closed)
    }

    /// Where a request is not for this server, or not from its page.
    private func refusal(_ request: WebRequest) -> (Int, String)? {
        let names = ["127.0.0.1:\(endpoint.port)", "localhost:\(endpoint.port)"]
        guard let host = request.headers["host"]?.lowercased(), names.contains(host) else {
            return (403, "this server is called \(names[0])")
        }
        if let origin = request.headers["origin"], origin != "http://" + host { return (403, "not from another page") }
        if let site = request.headers["sec-fetch-site"], site != "same-origin", site != "none" {
            return (403, "not from another page: copy the address into the browser")
        }
        guard request.method == "GET" else { return (405, "nothing is changed here") }
        return nil
    }

    private func open(_ exchange: WebExchange) {
        guard Self.areEqual(String(exchange.request.path.dropFirst("/open/".count)), token) else {
            return refuse(
                exchange, 401, "this address has been used, or is of an earlier run; `atoll status` tells a new one")
        }
        token = Self.secret()
        let session = Self.secret()
        sessions.append(session)
        if sessions.count > Self.mostSessions { sessions.removeFirst() }
        exchange.answer(
            status: 303, type: "text/plain; charset=utf-8", body: [],
            headers: Self.closed + [
                ("Location", "/"), ("Set-Cookie", "\(cookie)=\(session); HttpOnly; SameSite=Strict; Path=/"),
            ])
    }
    private func isKnown(_ request: WebRequest) -> Bool {
        for part in (request.headers["cookie"] ?? "").split(separator: ";").prefix(64) {
            let pair = part.trimmingCharacters(in: .whitespaces)
            guard pair.hasPrefix(cookie + "=") else { continue }
            let given = String(pair.dropFirst(cookie.count + 1))
            // All are looked at, whichever fits.
            if sessions.reduce(false, { Self.areEqual(given, $1) || $0 }) { return true }
        }
        return false
    }
    /// In a time that does not tell how much of it is right.
    private static func areEqual(_ a: String, _ b: String) -> Bool { constantTimeEqual(Array(a.utf8), Array(b.utf8)) }

    private func stream(_ exchange: WebExchange) {
        streams.removeAll(where: \.isGone)
        guard streams.count < Self.mostStreams else {
            return refuse(exchange, 503, "the page is open \(Self.mostStreams) times: close one of them")
        }
        exchange.onGone = { [unowned self, unowned exchange] in streams.removeAll { $0 === exchange } }
        // What is new goes to the others first: it is in the snapshot, too.
        tell()
        exchange.stream(type: "text/event-stream; charset=utf-8", headers: Self.closed)
        streams.append(exchange)
        exchange.send(Self.message(snapshot()))
    }
}
