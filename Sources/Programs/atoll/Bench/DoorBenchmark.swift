import Channels
import Digests
import EventLoop
import Foundation
import Node
import Primitives
import SecureTransport

/// `atoll bench door`: how long a member needs to join a peer whose door is crowded by those who prove nothing.
///
/// Everything is on loopback and in this process; the strangers have the very address that the members have.
enum DoorBenchmark {
    static func run(halfOpen: Int, silent: Int, joins: Int) throws {
        print("connections that stand                     joining, median / slowest of \(joins)")
        for (halfOpen, silent) in [(0, 0), (halfOpen, silent), (5 * halfOpen, 5 * silent)] {
            let times = try joinTimes(halfOpen: halfOpen, silent: silent, joins: joins).sorted()
            let what = "\(halfOpen) without TLS, \(silent) without a hello"
            let figure = "\(fixed(times[times.count / 2] * 1e3, 1)) / \(fixed(times.last! * 1e3, 1)) ms"
            print(what.padding(toLength: 43, withPad: " ", startingAt: 0) + figure)
        }
    }

    private static func joinTimes(halfOpen: Int, silent: Int, joins: Int) throws -> [Double] {
        let loop = Loop()
        let poolKey = [UInt8](repeating: 7, count: 32)
        let anyPort = Endpoint(ipv4: 127, 0, 0, 1, port: 0)
        func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
        let node = try ChannelNode(loop, identity: key(1), listen: anyPort, poolKey: poolKey, seed: 1)
        let stranger = try ChannelNode(loop, identity: key(2), listen: anyPort, poolKey: nil, greets: false, seed: 2)
        // The strangers stand before the first member comes, and those that are turned away come back at once.
        var secured = 0
        var streams: [TCPStream] = []
        let ready = EventLoop.Timer(loop) { loop.stop() }
        stranger.transport.on.secured = { _, _, _, _, _, _ in secured += 1 }
        for _ in 0..<halfOpen { streams.append(try TCPStream.dial(loop, to: node.endpoint, from: nil) { _ in }) }
        for n in 0..<silent { stranger.transport.dial(UInt64(2 * n + 1), to: node.endpoint, expecting: nil) }
        ready.arm(at: loop.now + .milliseconds(500 + silent * 2))
        loop.run()
        var times: [Double] = []
        for n in 0..<joins {
            let member = try ChannelNode(
                loop, identity: key(UInt8(10 + n)), listen: anyPort, poolKey: poolKey, seed: UInt64(n + 10))
            let start = loop.now
            member.onEffect = { if case .established = $0 { loop.stop() } }
            member.perform { $0.connect(to: node.channels.local, at: node.endpoint, now: loop.now) }
            loop.run()
            times.append((loop.now - start).inSeconds)
            member.close()
        }
        streams.forEach { $0.close() }
        ready.close()
        node.close()
        stranger.close()
        return times
    }
}
