import Coordination
import Daemon
import Digests
import EventLoop
import Foundation
import Membership
import Node
import Primitives
import Record
import Telemetry
import Testing

@Suite struct `Figures for others` {
    /// What one thread finds out for another.
    private final class Answers: @unchecked Sendable {
        private let lock = NSLock()
        private var texts: [String] = []
        func add(_ text: String) { lock.withLock { texts.append(text) } }
        var all: [String] { lock.withLock { texts } }
    }
    private static func ask(_ endpoint: Endpoint, _ request: String) -> String {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        let connected = endpoint.withNativeAddress {
            Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
        guard connected == 0 else { return "no connection" }
        let bytes = Array(request.utf8)
        _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress!, $0.count, Int32(MSG_NOSIGNAL)) }
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = recv(descriptor, &buffer, buffer.count, 0), count > 0 { all += buffer[..<count] }
        return String(decoding: all, as: UTF8.self)
    }
    private static func get(_ path: String, host: String = "127.0.0.1", _ more: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\(more)\r\n"
    }

    @Test func `a peer serves them on loopback, to programs of this machine alone`() throws {
        let folder = NSTemporaryDirectory() + "metrics-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let data = try DataFolder(folder)
        defer { data.close() }
        let run = ServiceRun()
        let answers = Answers()
        run.metricsPort = 0
        run.onMetrics = { endpoint in
            Thread {
                answers.add(Self.ask(endpoint, Self.get("/metrics")))
                answers.add(Self.ask(endpoint, Self.get("/metrics", "Accept: application/openmetrics-text\r\n")))
                answers.add(Self.ask(endpoint, Self.get("/metrics", host: "rebound.example")))
                answers.add(Self.ask(endpoint, Self.get("/metrics", "Origin: https://elsewhere.example\r\n")))
                answers.add(Self.ask(endpoint, Self.get("/")))
                answers.add(
                    Self.ask(
                        endpoint,
                        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
                _ = try? ControlService.ask(.leave, in: folder)
            }.start()
        }
        let setup = LiveDaemon.Setup(
            key: data.key, listen: Endpoint(ipv4: 127, 0, 0, 1, port: 0), poolKey: [UInt8](repeating: 7, count: 32),
            bootstrap: [], emulation: nil, seed: 1)
        _ = try run.run(
            setup, folder: data,
            services: { now in
                DaemonCore.Services(
                    member: Member(
                        key: data.key,
                        terms: MemberTerms(name: "mine", device: "cpu", memory: .mebibytes(64), accepts: []),
                        wall: WallClock(secondsAtZero: 1000), at: now, parse: JobParameters.init(manifest:)))
            }, ready: { (_) throws(NodeError) in }, onEvent: { _ in })

        #expect(
            answers.all.map { $0.prefix(12) }
                == ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 403", "HTTP/1.1 403", "HTTP/1.1 404", "HTTP/1.1 405"])
        let page = try #require(answers.all.first)
        #expect(page.contains("text/plain; version=0.0.4"))
        for line in [
            "atoll_build_info{version=\"\(atollVersion)\",numerics=\"\(Record.numerics)\"} 1",
            "atoll_member_state{state=\"free\"} 1", "atoll_member_memory_bytes 67108864",
            "atoll_connections{path=\"direct\"} 0", "# TYPE process_cpu_seconds_total counter",
            "# TYPE process_resident_memory_bytes gauge",
        ] { #expect(page.contains(line + "\n"), "\(line)") }
        // A key is named nowhere, an address neither.
        #expect(!page.contains(data.key.peerID.hex) && !page.contains("endpoint"))
        #expect(answers.all[1].contains("application/openmetrics-text") && answers.all[1].hasSuffix("# EOF\n"))
    }

    @Test func `a port in use is said, with what to try`() throws {
        let loop = Loop()
        defer { loop.close() }
        let first = try MetricsService(loop, port: 0) { [] }
        defer { first.close() }
        #expect {
            _ = try MetricsService(loop, port: first.endpoint.port) { [] }
        } throws: { "\($0)".contains("--metrics \(first.endpoint.port)") && "\($0)".contains("give another one") }
    }

    /// Seals rounds as a coordinator would tell of them.
    private struct Telling {
        var view = JobView()
        let series: RunSeries
        private var seconds = 10.0
        init(_ series: RunSeries) { self.series = series }
        mutating func tell(_ what: Happening) {
            seconds += 2
            let event = Event(what, at: Instant(seconds: seconds))
            view.apply(event)
            series.note(event, view)
        }
        mutating func seal(_ round: Int) {
            tell(
                .roundSealed(
                    round: round, steps: (round + 1) * 4, tokens: (round + 1) * 512, trainLoss: 5 / Double(round + 1),
                    pipelines: 1, seconds: 2))
        }
    }

    @Test
    func `rounds are in a table and in TensorBoard's file as soon as they are sealed, and a resumed run goes on there`()
        throws
    {
        let out = NSTemporaryDirectory() + "series-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: out) }
        try makeFolder(out)
        func rows() throws -> [String] {
            try String(contentsOfFile: out + "/rounds.csv", encoding: .utf8).split(separator: "\n").map(String.init)
        }
        func boards() throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: out + "/tensorboard").sorted()
        }
        var first = Telling(RunSeries(in: out, continuing: false, origin: Instant(seconds: 10)))
        first.seal(0)
        #expect(try rows().count == 2)
        first.seal(1)
        first.tell(.rolledBack(round: 1, from: 2, why: "a test"))
        first.seal(1)
        #expect(try rows().dropFirst().map { $0.prefix(2) } == ["0,", "1,", "1,"])
        #expect(try rows()[0] + "\n" == RoundTable.header && rows()[1].hasSuffix(",2.000"))
        #expect(try boards().count == 1)
        first.series.close()

        // Another process goes on with the job.
        var second = Telling(RunSeries(in: out, continuing: true, origin: .zero))
        second.seal(1)
        second.seal(2)
        #expect(try rows().map { $0.prefix(2) } == ["ro", "0,", "1,", "1,", "1,", "2,"])
        second.series.close()

        // A run of something else in the same folder.
        let third = RunSeries(in: out, continuing: false, origin: .zero)
        #expect(try rows().count == 1)
        #expect(try boards().count == 1)
        third.close()
    }
}
