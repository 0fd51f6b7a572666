public import EventLoop
import Foundation
public import Primitives
public import Telemetry
import Web

/// `/metrics` on loopback, for Prometheus and what speaks like it. docs/METRICS.md lists what is there.
public final class MetricsService {
    private var server: WebServer?
    /// With the port that was taken.
    public let endpoint: Endpoint

    /// - Parameters:
    ///   - port: 0 takes a free one.
    ///   - families: of this moment.
    public init(_ loop: Loop, port: UInt16, families: @escaping () -> [MetricFamily]) throws(NodeError) {
        var limits = WebLimits()
        (limits.connections, limits.connectionsPerAddress, limits.bodyBytes) = (16, 16, 0)
        let access = WebAccess(key: nil, hosts: WebAccess.loopbackHosts)
        do throws(WebError) {
            let server = try WebServer(
                loop, at: Endpoint(ipv4: 127, 0, 0, 1, port: port), access: access, limits: limits
            ) { exchange in Self.answer(exchange, families) }
            self.server = server
            endpoint = server.endpoint
        } catch {
            throw .badInput("--metrics \(port): \(error.description)")
        }
    }
    public func close() {
        server?.close()
        server = nil
    }

    private static func answer(_ exchange: WebExchange, _ families: () -> [MetricFamily]) {
        let request = exchange.request
        func refuse(_ status: Int, _ text: String) {
            exchange.answer(status: status, type: "text/plain; charset=utf-8", body: Array((text + "\n").utf8))
        }
        guard request.method != "POST" else { return refuse(405, "nothing is changed here") }
        guard request.path == "/metrics" else { return refuse(404, "there is /metrics") }
        let format = MetricFamily.Format(accept: request.headers["accept"])
        exchange.answer(
            status: 200, type: format.contentType, body: Array(MetricFamily.page(families(), format).utf8))
    }
}
