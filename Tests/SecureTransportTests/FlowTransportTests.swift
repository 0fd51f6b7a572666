import Digests
import EventLoop
import Flows
import Primitives
import SecureTransport
import Testing

private func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
/// Two identities, the smaller peer first.
private func keys() -> (smaller: SigningKey, larger: SigningKey) {
    key(1).peerID < key(2).peerID ? (key(1), key(2)) : (key(2), key(1))
}
private let poolKey = [UInt8](repeating: 7, count: 32)

/// A transport with flows beside TCP that writes down its callbacks.
private final class Side {
    let transport: SecureTransport
    let datagrams: DatagramSocket
    var secured: [(id: UInt64, peer: PeerID, exporter: [UInt8], isClient: Bool, isFlow: Bool)] = []
    var received: [UInt8] = []
    var overlay: [[UInt8]] = []
    var failures: [TransportFailure] = []
    var closed: [UInt64] = []
    var changed: (() -> Void)?

    init(_ loop: Loop, _ identity: SigningKey, poolKey: [UInt8] = poolKey, offloads: Bool = true) throws {
        transport = try SecureTransport(loop: loop, identity: identity, listen: anyPort)
        datagrams = try DatagramSocket(loop, bind: transport.endpoint, offloads: offloads)
        transport.carryFlows(over: datagrams, poolKey: poolKey, secret: identity.peerID.bytes)
        datagrams.onReceived = { [unowned self] bytes, _ in
            overlay.append(bytes)
            changed?()
        }
        transport.on.secured = { [unowned self] id, peer, exporter, _, _, isClient in
            secured.append((id, peer, exporter, isClient, transport.isFlow(id)))
            changed?()
        }
        transport.on.received = { [unowned self] _, bytes in
            received += bytes
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
    func close() {
        transport.shutdown()
        datagrams.close()
    }
}
private func run(_ loop: Loop, _ sides: [Side], until done: @escaping () -> Bool) {
    for side in sides { side.changed = { if done() { loop.stop() } } }
    run(loop)
    for side in sides { side.changed = nil }
}

@Suite struct `Flows under TLS` {
    @Test(arguments: [false, true]) func `two peers prove their keys, and the smaller is the TLS client`(
        smallerOpens: Bool
    ) throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let opener = try Side(loop, smallerOpens ? smaller : larger)
        let other = try Side(loop, smallerOpens ? larger : smaller)
        opener.transport.openFlow(1, to: other.transport.endpoint, expecting: other.transport.identity.peerID)
        run(loop, [opener, other]) { !opener.secured.isEmpty && !other.secured.isEmpty }
        let (a, b) = (try #require(opener.secured.first), try #require(other.secured.first))
        #expect(a.peer == other.transport.identity.peerID && b.peer == opener.transport.identity.peerID)
        #expect(a.exporter == b.exporter && a.exporter.count == 32)
        #expect(a.isFlow && b.isFlow && a.id == 1 && b.id % 2 == 0)
        #expect(a.isClient == smallerOpens && b.isClient != smallerOpens)
        #expect(opener.transport.sentBytes == 0, "what goes in datagrams is counted there")
        #expect(opener.datagrams.sentBytes > 1_200 && other.datagrams.receivedBytes == opener.datagrams.sentBytes)
        opener.close()
        other.close()
    }
    @Test func `an impostor is refused`() throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let opener = try Side(loop, smaller)
        let impostor = try Side(loop, key(9))
        opener.transport.openFlow(1, to: impostor.transport.endpoint, expecting: larger.peerID)
        run(loop, [opener, impostor]) { !opener.failures.isEmpty }
        #expect(opener.failures == [.impostor] && opener.secured.isEmpty)
        opener.close()
        impostor.close()
    }
    @Test func `who is of another pool is not answered`() throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let opener = try Side(loop, smaller, poolKey: [UInt8](repeating: 8, count: 32))
        let other = try Side(loop, larger)
        opener.transport.openFlow(1, to: other.transport.endpoint, expecting: larger.peerID)
        run(loop, [opener, other]) { !opener.failures.isEmpty }
        #expect(opener.failures == [.socket(.timedOut(other.transport.endpoint))])
        #expect(other.transport.flowCounters.unsealed >= 3 && other.datagrams.sent == 0)
        opener.close()
        other.close()
    }
    /// Real seals are opened in place: what the first key has made nonsense of must not be tried with the second.
    @Test func `while the pool's key is changed either is taken`() throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let former = [UInt8](repeating: 8, count: 32)
        let opener = try Side(loop, smaller, poolKey: former)
        let other = try Side(loop, larger)
        other.transport.use(poolKeys: [poolKey, former])
        opener.transport.openFlow(1, to: other.transport.endpoint, expecting: larger.peerID)
        run(loop, [opener, other]) { !opener.secured.isEmpty && !other.secured.isEmpty }
        #expect(opener.secured.first?.peer == larger.peerID && other.secured.first?.peer == smaller.peerID)
        opener.close()
        other.close()
    }
    @Test func `where no flows are carried a wish for one fails`() throws {
        let loop = Loop()
        let transport = try SecureTransport(loop: loop, identity: key(1), listen: anyPort)
        var failed = 0
        transport.on.dialFailed = { _, _ in
            failed += 1
            loop.stop()
        }
        transport.openFlow(1, to: transport.endpoint, expecting: nil)
        #expect(failed == 0, "not from within the call")
        run(loop)
        #expect(failed == 1)
        transport.shutdown()
    }
    /// With and without the kernel's help; the overlay's datagrams go over the same sockets in the meantime.
    @Test(arguments: [true, false]) func `20 MB arrive intact while less than 128 KiB and one write wait below`(
        offloads: Bool
    ) throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let a = try Side(loop, smaller, offloads: offloads)
        let b = try Side(loop, larger, offloads: offloads)
        var random = SeededGenerator(seed: 1)
        let message = random.bytes(20_000_000)
        var (offset, most, questions) = (0, 0, 0)
        func fill(_ unsent: Int) {
            var unsent = unsent
            while unsent < SecureTransport.writableBelow, offset < message.count {
                let piece = Array(message[offset..<min(offset + 16_384, message.count)])
                offset += piece.count
                unsent += piece.count
                a.transport.write(1, piece)
                most = max(most, a.transport.unsentBytes(1))
            }
            // As often as the flow takes more, twice: it may take much at once.
            for _ in 0..<2 where questions < 200 {
                questions += 1
                a.datagrams.send(Array("d1:q4:ping".utf8) + [UInt8(questions)], to: b.transport.endpoint)
            }
        }
        a.transport.on.writable = { _, unsent in fill(unsent) }
        a.transport.openFlow(1, to: b.transport.endpoint, expecting: larger.peerID)
        run(loop, [a, b]) {
            if offset == 0, !a.secured.isEmpty { fill(0) }
            return b.received.count >= message.count
        }
        #expect(b.received == message)
        #expect(most <= SecureTransport.writableBelow + 17_000)
        #expect(questions == 200 && b.overlay.count == 200, "\(b.overlay.count) of \(questions)")
        #expect(b.overlay.allSatisfy { $0.first == UInt8(ascii: "d") && $0.count == 11 })
        a.close()
        b.close()
    }
    @Test func `close sends what was written before, and the other side hears the end`() throws {
        let loop = Loop()
        let (smaller, larger) = keys()
        let a = try Side(loop, smaller)
        let b = try Side(loop, larger)
        let message = [UInt8](repeating: 5, count: 500_000)
        a.transport.openFlow(1, to: b.transport.endpoint, expecting: larger.peerID)
        run(loop, [a, b]) {
            if a.secured.count == 1, b.received.isEmpty, b.closed.isEmpty {
                a.transport.write(1, message)
                a.transport.close(1)
            }
            return !b.closed.isEmpty
        }
        #expect(b.received == message)
        #expect(a.closed.isEmpty, "who closes is not told")
        a.close()
        b.close()
    }
    @Test func `a seal opens what it sealed, as the packet that it was, and nothing else`() {
        let maker = FlowSeals(poolKey: poolKey)
        let text = (0..<64).map { UInt8($0) } + [UInt8](repeating: 0, count: FlowLimits.tag)
        func sealed(_ number: UInt64, _ context: [UInt8] = [1]) -> [UInt8] {
            var packet = text
            packet.withUnsafeMutableBytes { maker.seal(for: context).seal($0, clear: 13, number: number) }
            return packet
        }
        func opens(_ packet: [UInt8], _ number: UInt64, _ maker: FlowSeals = maker, _ context: [UInt8] = [1]) -> Bool {
            var packet = packet
            let isOpen = packet.withUnsafeMutableBytes { maker.seal(for: context).open($0, clear: 13, number: number) }
            return isOpen && packet.prefix(64).elementsEqual(text.prefix(64))
        }
        for number in [0, 1, 1 << 40] as [UInt64] {
            let packet = sealed(number)
            #expect(packet.prefix(13).elementsEqual(text.prefix(13)) && packet[13..<64] != text[13..<64])
            #expect(opens(packet, number) && !opens(packet, number + 1) && !opens(packet, number, maker, [2]))
            #expect(!opens(packet, number, FlowSeals(poolKey: [UInt8](repeating: 8, count: 32))))
            for place in packet.indices {
                var changed = packet
                changed[place] ^= 1
                #expect(!opens(changed, number))
            }
        }
        // One seal is for many packets, in whatever order they come.
        let (out, incoming) = (maker.seal(for: [3]), maker.seal(for: [3]))
        var packets = (0..<8).map { _ in text }
        for n in packets.indices { packets[n].withUnsafeMutableBytes { out.seal($0, clear: 13, number: UInt64(n)) } }
        for n in packets.indices.reversed() {
            let isOpen = packets[n].withUnsafeMutableBytes { incoming.open($0, clear: 13, number: UInt64(n)) }
            #expect(isOpen)
        }
        var short = [UInt8](repeating: 0, count: 20)
        #expect(!short.withUnsafeMutableBytes { incoming.open($0, clear: 13, number: 9) })
    }
}

@Suite struct `Bursts` {
    @Test(arguments: [true, false], [true, false]) func `a burst arrives as the datagrams that it is`(
        cuts: Bool, putsTogether: Bool
    ) throws {
        let loop = Loop()
        var came: [[UInt8]] = []
        let receiver = try UDPSocket(loop, bind: anyPort, offloads: putsTogether) { bytes, segment, _, _ in
            for start in stride(from: 0, to: bytes.count, by: segment) {
                came.append([UInt8](bytes[start..<min(start + segment, bytes.count)]))
            }
            if came.count == 83 { loop.stop() }
        }
        let sender = try UDPSocket(loop, bind: anyPort, offloads: cuts) { _, _, _, _ in }
        let to = try #require(receiver.endpoint)
        let bytes = (0..<40_300).map { UInt8(truncatingIfNeeded: $0 / 97) }
        sender.send(bytes, segment: 1_000, to: to)
        sender.send([0xA3, 1], segment: 1_452, to: to)
        sender.send(bytes, segment: 1_000, to: to)
        run(loop)
        let sizes = came.map(\.count)
        let burst = [Int](repeating: 1_000, count: 40) + [300]
        #expect(sizes == burst + [2] + burst && sender.dropped == 0)
        #expect(came.prefix(41).flatMap { $0 } == bytes && came[42...].flatMap { $0 } == bytes)
        sender.close()
        receiver.close()
    }
    @Test func `what waited for this process is told from what waited on the line`() throws {
        let loop = Loop()
        var ages: [Duration] = []
        let receiver = try UDPSocket(loop, bind: anyPort) { _, _, _, age in
            ages.append(age)
            loop.stop()
        }
        let sender = try UDPSocket(loop, bind: anyPort) { _, _, _, _ in }
        let to = try #require(receiver.endpoint)
        let before = loop.now
        sender.send([0xA3], segment: 1, to: to)
        // The loop is busy for a while.
        while loop.now - before < .milliseconds(30) {}
        run(loop)
        #expect(ages.count == 1 && ages[0] >= .milliseconds(29) && ages[0] <= loop.now - before)
        sender.close()
        receiver.close()
    }
    @Test func `what the kernel has no room for waits, and all of it arrives`() throws {
        let loop = Loop()
        var came = 0
        // More than a socket's memory, at once; whoever receives keeps up only as long as it is asked to.
        let receiver = try UDPSocket(loop, bind: anyPort) { bytes, segment, _, _ in
            came += bytes.count
            if came == 200 * 40_000 { loop.stop() }
        }
        let sender = try UDPSocket(loop, bind: anyPort) { _, _, _, _ in }
        let to = try #require(receiver.endpoint)
        var left = 200
        var timer: Timer?
        timer = Timer(loop) {
            for _ in 0..<min(2, left) {
                sender.send([UInt8](repeating: 9, count: 40_000), segment: 1_000, to: to)
                left -= 1
            }
            if left > 0 { timer?.arm(at: loop.now) }
        }
        timer?.arm(at: loop.now)
        run(loop)
        #expect(came == 200 * 40_000 && sender.dropped == 0)
        timer?.close()
        sender.close()
        receiver.close()
    }
}
