import ArgumentParser
import Digests
import EventLoop
import Foundation
import Node
import Primitives
import SecureTransport

/// `atoll bench flow`: what a gigabyte costs over loopback, by TCP and by a flow, under the same TLS.
///
/// Both ends are in this process and share one thread, as the loop of a daemon is one: seconds of the processor are of both together, the
/// kernel's part among them, and rates are what one core does for both.
struct BenchFlow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flow", abstract: "Processor time a GB of a flow beside TCP, both with TLS, over loopback.")
    @Option(help: "Bytes of each transfer, in MB, 10 to 10000.") var megabytes = 1000
    @Option(help: "Transfers of each kind, taken in turn; the median is printed.") var repeats = 3
    @Flag(help: "One JSON object a line: docs/FLOW.md.") var json = false

    private enum Kind: String, CaseIterable {
        case tcp = "TCP + TLS"
        case flow = "flow + TLS"
        case plain = "flow + TLS, a call a datagram"
    }
    private struct Figure {
        var cpuSecondsAGB: Double
        var megabitsASecond: Double
        var datagramBytes: Double
    }

    func run() throws {
        guard (10...10_000).contains(megabytes) else {
            throw NodeError.badInput("--megabytes \(megabytes): 10 to 10000")
        }
        guard (1...100).contains(repeats) else { throw NodeError.badInput("--repeats \(repeats): 1 to 100") }
        var figures: [Kind: [Figure]] = [:]
        for _ in 0..<repeats {
            for kind in Kind.allCases { figures[kind, default: []].append(try transfer(kind)) }
        }
        func median(_ kind: Kind, _ part: (Figure) -> Double) -> Double {
            let sorted = figures[kind]!.map(part).sorted()
            return sorted[sorted.count / 2]
        }
        let anchor = median(.tcp, \.cpuSecondsAGB)
        if !json {
            print("\(megabytes) MB over loopback, both ends on one thread, median of \(repeats)")
            print("                                  s of processor a GB   of TCP   Gbit/s   bytes a datagram")
        }
        for kind in Kind.allCases {
            let (cpu, rate) = (median(kind, \.cpuSecondsAGB), median(kind, \.megabitsASecond))
            let size = median(kind, \.datagramBytes)
            guard !json else {
                print(
                    "{\"transport\": \"\(kind)\", \"cpu_s_per_gb\": \(fixed(cpu, 3)), \"of_tcp\": \(fixed(cpu / anchor, 3)), "
                        + "\"mbit_s\": \(fixed(rate, 0)), \"datagram_bytes\": \(fixed(size, 0))}")
                continue
            }
            let cells = [
                fixed(cpu, 2), fixed(cpu / anchor, 2), fixed(rate / 1e3, 2), kind == .tcp ? "" : fixed(size, 0),
            ]
            let widths = [19, 9, 9, 19]
            let name = kind.rawValue.padding(toLength: 34, withPad: " ", startingAt: 0)
            print(name + zip(cells, widths).map { String(repeating: " ", count: $1 - $0.count) + $0 }.joined())
        }
    }

    private struct End {
        let transport: SecureTransport
        let datagrams: DatagramSocket
        init(_ loop: Loop, _ n: UInt8, _ kind: Kind) throws {
            let key = SigningKey(seed: [UInt8](repeating: n, count: 32))!
            transport = try SecureTransport(
                loop: loop, identity: key, listen: Endpoint(ipv4: 127, 0, 0, 1, port: 0))
            datagrams = try DatagramSocket(loop, bind: transport.endpoint, offloads: kind != .plain)
            transport.carryFlows(
                over: datagrams, poolKey: [UInt8](repeating: 7, count: 32), secret: randomBytes(32))
        }
        func close() {
            transport.shutdown()
            datagrams.close()
        }
    }
    private func transfer(_ kind: Kind) throws -> Figure {
        let loop = Loop()
        let (a, b) = (try End(loop, 1, kind), try End(loop, 2, kind))
        let goal = megabytes * 1_000_000
        let piece = [UInt8](repeating: 0xA5, count: 65_536)
        var (written, received) = (0, 0)
        var began: (cpu: Double, at: Instant) = (0, loop.now)
        var failure: TransportFailure?
        func fill(_ unsent: Int) {
            var unsent = unsent
            while unsent < SecureTransport.writableBelow, written < goal {
                a.transport.write(1, piece)
                written += piece.count
                unsent += piece.count
            }
        }
        a.transport.on.secured = { _, _, _, _, _, _ in
            began = (cpuSeconds(), loop.now)
            fill(0)
        }
        a.transport.on.writable = { _, unsent in fill(unsent) }
        a.transport.on.dialFailed = { _, why in
            failure = why
            loop.stop()
        }
        b.transport.on.received = { _, bytes in
            received += bytes.count
            if received >= goal { loop.stop() }
        }
        b.transport.on.closed = { _ in loop.stop() }
        switch kind {
        case .tcp: a.transport.dial(1, to: b.transport.endpoint, expecting: nil)
        case .flow, .plain: a.transport.openFlow(1, to: b.transport.endpoint, expecting: nil)
        }
        loop.run()
        let (cpu, seconds) = (cpuSeconds() - began.cpu, (loop.now - began.at).inSeconds)
        defer {
            a.close()
            b.close()
        }
        guard received >= goal else {
            throw NodeError.failed(
                "\(kind.rawValue): \(received) of \(goal) bytes came\(failure.map { ": \($0)" } ?? "")")
        }
        return Figure(
            cpuSecondsAGB: cpu / Double(received) * 1e9, megabitsASecond: Double(received) * 8e-6 / seconds,
            datagramBytes: Double(a.datagrams.sentBytes) / Double(max(1, a.datagrams.sent)))
    }
}
