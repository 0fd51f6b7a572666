import Digests
import EventLoop
import Links
import Primitives
import SecureTransport
import Testing

private func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
/// Two identities, the smaller peer first.
private func keys() -> (smaller: SigningKey, larger: SigningKey) {
    key(1).peerID < key(2).peerID ? (key(1), key(2)) : (key(2), key(1))
}
private func address(_ last: UInt8) -> Endpoint { Endpoint(ipv4: 127, 77, 1, last, port: 0) }

/// What one end of a handshake was told.
private struct Secured: Equatable {
    var id: UInt64
    var peer: PeerID
    var exporter: [UInt8]
    var inbound: Bool
    var isClient: Bool
}
/// A transport that writes down its callbacks.
private final class Recorder {
    let transport: SecureTransport
    var secured: [Secured] = []
    var received: [UInt64: [UInt8]] = [:]
    var failures: [TransportFailure] = []
    var closed: [UInt64] = []
    var changed: (() -> Void)?

    init(_ loop: Loop, _ identity: SigningKey, _ listen: Endpoint, _ shaping: ShapingPlan? = nil) throws {
        transport = try SecureTransport(loop: loop, identity: identity, listen: listen, shaping: shaping)
        transport.on.secured = { [unowned self] id, peer, exporter, _, inbound, isClient in
            secured.append(Secured(id: id, peer: peer, exporter: exporter, inbound: inbound, isClient: isClient))
            changed?()
        }
        transport.on.received = { [unowned self] id, bytes in
            received[id, default: []] += bytes
            changed?()
        }
        transport.on.dialFailed = { [unowned self] _, failure in
            failures.append(failure)
            changed?()
        }
        transport.on.closed = { [unowned self] id in
            closed.append(id)
            changed?()
        }
    }
}
/// Runs until `done`, asked after every callback of either side.
private func run(_ loop: Loop, _ sides: [Recorder], until done: @escaping () -> Bool) {
    for side in sides { side.changed = { if done() { loop.stop() } } }
    run(loop)
    for side in sides { side.changed = nil }
}

@Test(arguments: [false, true], [false, true]) func `two peers prove their keys, and the smaller is the TLS client`(
    smallerDials: Bool, peerIsKnown: Bool
) throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let dialler = try Recorder(loop, smallerDials ? smaller : larger, address(1))
    let other = try Recorder(loop, smallerDials ? larger : smaller, address(2))
    let expected = peerIsKnown ? other.transport.identity.peerID : nil
    dialler.transport.dial(1, to: other.transport.endpoint, expecting: expected)
    run(loop, [dialler, other]) { !dialler.secured.isEmpty && !other.secured.isEmpty }
    let (a, b) = (try #require(dialler.secured.first), try #require(other.secured.first))
    #expect(a.peer == other.transport.identity.peerID && b.peer == dialler.transport.identity.peerID)
    #expect(a.exporter == b.exporter && a.exporter.count == 32)
    #expect(a.id == 1 && b.id % 2 == 0 && !a.inbound && b.inbound)
    // A dial that does not know its peer acts as the client.
    #expect(a.isClient == (smallerDials || !peerIsKnown))
    #expect(b.isClient == !a.isClient)
    dialler.transport.shutdown()
    other.transport.shutdown()
}

@Test(arguments: [false, true]) func `an impostor is refused`(diallerIsSmaller: Bool) throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let dialler = try Recorder(loop, diallerIsSmaller ? smaller : larger, address(3))
    let impostor = try Recorder(loop, key(9), address(4))
    let expected = (diallerIsSmaller ? larger : smaller).peerID
    dialler.transport.dial(1, to: impostor.transport.endpoint, expecting: expected)
    run(loop, [dialler, impostor]) { !dialler.failures.isEmpty }
    #expect(dialler.failures == [.impostor])
    #expect(dialler.secured.isEmpty)
    dialler.transport.shutdown()
    impostor.transport.shutdown()
}

@Test func `what is no TLS is turned away, and what says nothing is not reported`() throws {
    let loop = Loop()
    let server = try Recorder(loop, key(1), address(5))
    var ended = 0
    var streams: [TCPStream] = []
    for greeting in ["GET / HTTP/1.1\r\n\r\n", "\u{16}garbage that is no hello at all"] {
        var stream: TCPStream?
        stream = try TCPStream.dial(loop, to: server.transport.endpoint, from: nil) { error in
            #expect(error == nil)
            stream?.startReading(
                read: { _ in },
                ended: { _ in
                    ended += 1
                    if ended == 2 { loop.stop() }
                })
            Array(greeting.utf8).withUnsafeBytes { stream?.write($0) }
        }
        streams.append(try #require(stream))
    }
    run(loop)
    #expect(server.transport.turnedAway.failed == 2)
    #expect(server.secured.isEmpty)
    streams.forEach { $0.close() }
    server.transport.shutdown()
}

@Test func `20 MB arrive intact while less than 128 KiB and one write wait below`() throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let a = try Recorder(loop, smaller, address(6))
    let b = try Recorder(loop, larger, address(7))
    var random = SeededGenerator(seed: 1)
    let message = random.bytes(20_000_000)
    var offset = 0
    var most = 0
    func fill(_ unsent: Int) {
        var unsent = unsent
        while unsent < SecureTransport.writableBelow, offset < message.count {
            let piece = Array(message[offset..<min(offset + 16_384, message.count)])
            offset += piece.count
            unsent += piece.count
            a.transport.write(1, piece)
            most = max(most, a.transport.unsentBytes(1))
        }
    }
    a.transport.on.writable = { _, unsent in fill(unsent) }
    a.transport.dial(1, to: b.transport.endpoint, expecting: larger.peerID)
    run(loop, [a, b]) {
        if offset == 0, !a.secured.isEmpty { fill(0) }
        return b.received.values.first?.count == message.count
    }
    #expect(b.received.values.first == message)
    #expect(most <= SecureTransport.writableBelow + 17_000)
    #expect(a.transport.sentBytes == b.transport.receivedBytes)
    #expect(a.transport.sentBytes > message.count)
    a.transport.shutdown()
    b.transport.shutdown()
}

@Test func `close sends what was written before, and the other side hears the end`() throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let a = try Recorder(loop, smaller, address(8))
    let b = try Recorder(loop, larger, address(9))
    let message = [UInt8](repeating: 5, count: 500_000)
    a.transport.dial(1, to: b.transport.endpoint, expecting: nil)
    run(loop, [a, b]) {
        if a.secured.count == 1, b.received.isEmpty, b.closed.isEmpty {
            a.transport.write(1, message)
            a.transport.close(1)
        }
        return !b.closed.isEmpty
    }
    #expect(b.received.values.map(\.count) == [message.count])
    #expect(a.closed.isEmpty, "who closes is not told")
    a.transport.shutdown()
    b.transport.shutdown()
}

@Test func `shaped, a megabyte at 20 Mbit per second over 80 ms takes at least 0.48 s`() throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let link = LinkProperties(latency: .milliseconds(80))
    func plan() -> ShapingPlan { ShapingPlan(up: .megabits(20), down: .megabits(20), other: link, seed: 1) }
    let a = try Recorder(loop, smaller, address(10), plan())
    let b = try Recorder(loop, larger, address(11), plan())
    a.transport.dial(1, to: b.transport.endpoint, expecting: larger.peerID)
    run(loop, [a, b]) { !a.secured.isEmpty && !b.secured.isEmpty }
    let start = loop.now
    let message = [UInt8](repeating: 5, count: 1_000_000)
    a.transport.write(1, message)
    run(loop, [a, b]) { b.received.values.first?.count == message.count }
    #expect(loop.now - start >= .milliseconds(480))
    a.transport.shutdown()
    b.transport.shutdown()
}

@Test func `stretched time takes the factor longer, and datagrams share the links`() throws {
    let loop = Loop()
    let plan = ShapingPlan(
        up: .megabits(1), down: nil, links: [[127, 77, 1, 13]: LinkProperties(latency: .milliseconds(20))], stretch: 2,
        seed: 1)
    let shaper = LinkShaper(loop, plan)
    let a = try DatagramSocket(loop, bind: address(12), shaper: shaper)
    let b = try DatagramSocket(loop, bind: address(13))
    var count = 0
    b.onReceived = { _, sender in
        #expect(sender == a.endpoint)
        count += 1
        if count == 2 { loop.stop() }
    }
    let start = loop.now
    for _ in 0..<2 { a.send([UInt8](repeating: 1, count: 1_250), to: try #require(b.endpoint)) }
    run(loop)
    // Twice (2 × 10 ms on the line, then 20 ms of latency).
    #expect(loop.now - start >= .milliseconds(80))
    #expect(a.sentBytes == 2_500 && b.receivedBytes == 2_500)
    a.close()
    b.close()
    shaper.close()
}

@Test func `both dial in the same moment and both dials end`() throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let a = try Recorder(loop, smaller, address(14))
    let b = try Recorder(loop, larger, address(15))
    a.transport.dial(1, to: b.transport.endpoint, expecting: larger.peerID)
    b.transport.dial(1, to: a.transport.endpoint, expecting: smaller.peerID)
    func dialEnded(_ side: Recorder) -> Bool { side.secured.contains { $0.id == 1 } || !side.failures.isEmpty }
    run(loop, [a, b]) { dialEnded(a) && dialEnded(b) }
    #expect(!a.secured.isEmpty && !b.secured.isEmpty)
    for side in [a, b] { for secured in side.secured { #expect(secured.isClient == (side === a)) } }
    a.transport.shutdown()
    b.transport.shutdown()
}

@Test func `a cap holds for what is sent and received, from the moment it is given`() throws {
    let loop = Loop()
    let (smaller, larger) = keys()
    let sender = try Recorder(loop, smaller, address(21))
    let receiver = try Recorder(loop, larger, address(22))
    sender.transport.dial(1, to: receiver.transport.endpoint, expecting: larger.peerID)
    run(loop, [sender, receiver]) { !sender.secured.isEmpty && !receiver.secured.isEmpty }
    // 100 kB a second each way in turn; the stream was there before.
    let bytes = [UInt8]((0..<60_000).map { UInt8(truncatingIfNeeded: $0) })
    for (index, capped) in [sender, receiver].enumerated() {
        let rate = BitRate(bitsPerSecond: 800_000)
        capped.transport.limit(up: index == 0 ? rate : nil, down: index == 1 ? rate : nil, local: true)
        let (began, sent, taken) = (loop.now, sender.transport.sentBytes, receiver.transport.receivedBytes)
        let goal = 60_000 * (index + 1)
        sender.transport.write(1, bytes)
        var (most, ahead) = (0.0, 0.0)
        run(loop, [sender, receiver]) {
            // A slow machine only makes it less.
            let seconds = (loop.now - began).inSeconds
            let read = receiver.received.values.reduce(0) { $0 + $1.count } - 60_000 * index
            most = max(
                most, Double(index == 0 ? sender.transport.sentBytes - sent : read) - rate.bytesPerSecond * seconds)
            ahead = max(
                ahead, Double(receiver.transport.receivedBytes - taken) - rate.bytesPerSecond * seconds)
            return read == 60_000
        }
        #expect(most < 24_000, "so much at once is no cap")
        // The kernel takes less than a twentieth of ten seconds ahead of it.
        if index == 1 { #expect(ahead < 45_000, "so much was taken before it had passed") }
        #expect((loop.now - began).inSeconds > 0.3)
        #expect(receiver.received.values.reduce(0) { $0 + $1.count } == goal)
        capped.transport.limit(up: nil, down: nil, local: true)
    }
    #expect(receiver.received.values.first == bytes + bytes)
    // All of it is the local network's.
    #expect(sender.transport.localBytes.sent == sender.transport.sentBytes)
    #expect(receiver.transport.localBytes.received == receiver.transport.receivedBytes)
    sender.transport.shutdown()
    receiver.transport.shutdown()
}
