import Channels
import Digests
import EventLoop
import Node
import Primitives
import SecureTransport
import Testing

private func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
private let poolKey = [UInt8](repeating: 7, count: 32)
private let anyPort = Endpoint(ipv4: 127, 0, 0, 1, port: 0)

/// Ends a test that waits for something that never comes.
private func run(_ loop: Loop, _ what: String) {
    let guardian = Timer(loop) {
        Issue.record("\(what) did not happen")
        loop.stop()
    }
    guardian.arm(at: loop.now + .seconds(60))
    loop.run()
    guardian.close()
}

@Test func `a peer joins at its first dial while 200 connections without TLS and 100 without a hello stand`() throws {
    // All of them from the very address that the peer has: loopback.
    let loop = Loop()
    let node = try ChannelNode(loop, identity: key(1), listen: anyPort, poolKey: poolKey, seed: 1)
    let stranger = try ChannelNode(
        loop, identity: key(2), listen: anyPort, poolKey: nil, greets: false, seed: 2)
    var halfOpen: [TCPStream] = []
    var connected = 0
    for _ in 0..<200 {
        let stream = try TCPStream.dial(loop, to: node.endpoint, from: nil) { error in
            if error == nil { connected += 1 }
        }
        halfOpen.append(stream)
    }
    var secured = 0
    stranger.transport.on.secured = { _, _, _, _, _, _ in
        secured += 1
        if secured == 100 { loop.stop() }
    }
    for n in 0..<100 { stranger.transport.dial(UInt64(2 * n + 1), to: node.endpoint, expecting: nil) }
    run(loop, "the flood")
    #expect(connected == 200)

    var joined: [PeerID] = []
    let peer = try ChannelNode(loop, identity: key(3), listen: anyPort, poolKey: poolKey, seed: 3)
    var dials = 0
    peer.onEffect = { effect in
        if case .established(let other, _) = effect { joined.append(other) }
        if !joined.isEmpty { loop.stop() }
        if case .unreachable = effect { dials += 1 }
    }
    peer.perform { $0.connect(to: node.channels.local, at: node.endpoint, now: loop.now) }
    run(loop, "joining")
    #expect(joined == [node.channels.local])
    #expect(dials == 0)
    // Room was made only at the expense of those who had proven least for longest.
    #expect(node.transport.turnedAway.total == node.transport.turnedAway.crowded)
    #expect(node.channels.refusals[.crowded] == nil)
    halfOpen.forEach { $0.close() }
    for node in [node, stranger, peer] { node.close() }
}
