import Channels
public import Primitives

/// Two cores of channels joined by memory: what a message costs above TLS, on one thread.
public enum ChannelsBenchmark {
    /// One end, with what it has written and the other has not read.
    private struct End {
        var channels: Channels
        var written: [[UInt8]] = []
        var received = 0

        mutating func drain() {
            while let effect = channels.poll() {
                switch effect {
                case .write(_, let bytes): written.append(bytes)
                case .message: received += 1
                default: break
                }
            }
        }
    }

    public struct Row: Sendable {
        public let bytes: Int
        /// Seconds of both ends together.
        public let seconds: Double
        /// Of copying the bytes once.
        public let copySeconds: Double
    }
    /// - Parameter cpuSeconds: a clock of this process's CPU time; the least of `repeats` counts.
    public static func run(repeats: Int, cpuSeconds: () -> Double) -> [Row] {
        [(64, 200_000), (1_024, 200_000), (32_768, 20_000), (1_048_576, 400)].map { bytes, count in
            let best = (0..<repeats).map { _ in seconds(bytes, count, cpuSeconds) }.min() ?? 0
            let copy = (0..<repeats).map { _ in copySeconds(bytes, count, cpuSeconds) }.min() ?? 0
            return Row(bytes: bytes, seconds: best / Double(count), copySeconds: copy / Double(count))
        }
    }

    private static func pair(at now: Instant) -> (End, End) {
        func end(_ n: UInt8) -> End {
            let id = PeerID([n] + [UInt8](repeating: 0, count: 31))!
            let key = [UInt8](repeating: 7, count: 32)
            return End(channels: Channels(local: id, listening: 4000, poolKey: key, seed: UInt64(n)))
        }
        var (a, b) = (end(1), end(2))
        let there = Endpoint(ipv4: 10, 0, 0, 2, port: 4000)
        a.channels.connect(to: b.channels.local, at: there, now: now)
        while a.channels.poll() != nil {}
        let exporter = [UInt8](repeating: 9, count: 32)
        a.channels.secured(
            ConnectionID(1), peer: b.channels.local, exporter: exporter, remote: there, inbound: false,
            isTLSClient: true, at: now)
        b.channels.secured(
            ConnectionID(2), peer: a.channels.local, exporter: exporter,
            remote: Endpoint(ipv4: 10, 0, 0, 1, port: 5), inbound: true, isTLSClient: false, at: now)
        for _ in 0..<4 { carry(&a, &b, at: now) }
        precondition(a.channels.isConnected(to: b.channels.local), "they do not greet each other")
        return (a, b)
    }
    private static func carry(_ a: inout End, _ b: inout End, at now: Instant) {
        hand(&a, to: &b, ConnectionID(1), ConnectionID(2), at: now)
        hand(&b, to: &a, ConnectionID(2), ConnectionID(1), at: now)
    }
    private static func hand(
        _ from: inout End, to other: inout End, _ source: ConnectionID, _ destination: ConnectionID, at now: Instant
    ) {
        from.drain()
        var written: [[UInt8]] = []
        swap(&written, &from.written)
        for bytes in written {
            other.channels.received(destination, bytes, at: now)
            other.drain()
        }
        if !written.isEmpty { from.channels.writable(source, unsent: 0, at: now) }
    }

    private static func seconds(_ bytes: Int, _ count: Int, _ cpuSeconds: () -> Double) -> Double {
        var now = Instant(seconds: 1)
        var (a, b) = pair(at: now)
        let message = [UInt8](repeating: 3, count: bytes)
        let start = cpuSeconds()
        var sent = 0
        while b.received < count {
            while sent < count, a.channels.send(message, on: .exchange, to: b.channels.local, at: now) == .queued {
                sent += 1
                if sent % 16 == 0 { break }
            }
            carry(&a, &b, at: now)
            now += .microseconds(100)
        }
        return cpuSeconds() - start
    }
    private static func copySeconds(_ bytes: Int, _ count: Int, _ cpuSeconds: () -> Double) -> Double {
        let message = [UInt8](repeating: 3, count: bytes)
        var copy = [UInt8](repeating: 0, count: bytes)
        var sum = 0
        let start = cpuSeconds()
        for n in 0..<count {
            copy.withUnsafeMutableBytes { to in message.withUnsafeBytes { to.copyMemory(from: $0) } }
            sum &+= Int(copy[n % bytes])
        }
        precondition(sum >= 0)
        return cpuSeconds() - start
    }
}
