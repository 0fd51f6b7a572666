import Channels
import Digests
import EventLoop
import Flows
import Node
import Primitives
import SecureTransport
import Testing

private func key(_ n: UInt8) -> SigningKey { SigningKey(seed: [UInt8](repeating: n, count: 32))! }
private let poolKey = [UInt8](repeating: 7, count: 32)
private let anyPort = Endpoint(ipv4: 127, 0, 0, 1, port: 0)

/// Stands between two daemons, passes the datagrams of the one that knows only this place to the other and back, and loses and reorders some.
private final class Between {
    private var front: UDPSocket?
    private var back: UDPSocket?
    private var asker: Endpoint?
    private var random: SeededGenerator
    private var late: (() -> Void)?
    private(set) var lost = 0
    private(set) var passed = 0
    /// Of a thousand.
    var loses: Int

    private let loop: Loop
    private let other: Endpoint

    init(_ loop: Loop, to other: Endpoint, loses: Int, seed: UInt64) throws {
        (self.loop, self.other, self.loses) = (loop, other, loses)
        random = SeededGenerator(seed: seed)
        front = try UDPSocket(loop, bind: anyPort) { [unowned self] bytes, sender in
            asker = sender
            let copy = [UInt8](bytes)
            pass { [unowned self] in back?.send(copy, to: other) }
        }
        try renumber()
    }
    /// From now on the asker is seen elsewhere, and what is sent to the old place is lost.
    func renumber() throws {
        back?.close()
        back = try UDPSocket(loop, bind: anyPort) { [unowned self] bytes, _ in
            let copy = [UInt8](bytes)
            pass { [unowned self] in if let asker { front?.send(copy, to: asker) } }
        }
    }
    var endpoint: Endpoint { front!.endpoint! }
    private func pass(_ send: @escaping () -> Void) {
        guard random.below(1000) >= UInt64(loses) else {
            lost += 1
            return
        }
        passed += 1
        // One in fifty goes behind the next.
        if late == nil, random.below(50) == 0 {
            late = send
            return
        }
        send()
        late?()
        late = nil
    }
    func close() {
        front?.close()
        back?.close()
    }
}

/// One daemon's channels, and what it was told.
private final class Daemon {
    let node: ChannelNode
    var established = 0
    var resumed = 0
    var interrupted = 0
    var lost = 0
    var messages: [[UInt8]] = []
    var changed: (() -> Void)?
    init(_ loop: Loop, _ n: UInt8) throws {
        node = try ChannelNode(
            loop, identity: key(n), listen: anyPort, poolKey: poolKey, hasFlows: true, seed: UInt64(n))
        node.onEffect = { [unowned self] effect in
            switch effect {
            case .established: established += 1
            case .resumed: resumed += 1
            case .interrupted: interrupted += 1
            case .lost: lost += 1
            case .message(_, _, let bytes): messages.append(bytes)
            default: break
            }
            changed?()
        }
    }
    var id: PeerID { node.channels.local }
}
private func run(_ loop: Loop, _ daemons: [Daemon], _ what: String, until done: @escaping () -> Bool) {
    var isOver = false
    let guardian = Timer(loop) {
        Issue.record("\(what) did not happen")
        isOver = true
        loop.stop()
    }
    guardian.arm(at: loop.now + .seconds(60))
    for daemon in daemons { daemon.changed = { if done() { loop.stop() } } }
    // A stop that was asked for before may still be on its way.
    while !isOver, !done() { loop.run() }
    for daemon in daemons { daemon.changed = nil }
    guardian.close()
}

@Suite struct `Sessions over flows` {
    /// 30 messages of 100 kB in each direction; the session moves from TCP to a flow behind a place that loses 3 % while they are under way.
    @Test func `two daemons carry a session over datagrams of which some are lost, and no byte is lost or doubled`()
        throws
    {
        let loop = Loop()
        let a = try Daemon(loop, 1)
        let b = try Daemon(loop, 2)
        let between = try Between(loop, to: b.node.endpoint, loses: 30, seed: 5)
        a.node.perform { $0.connect(to: b.id, at: b.node.endpoint, now: loop.now) }
        run(loop, [a, b], "a connection") { a.established == 1 && b.established == 1 }
        func message(_ n: Int, _ from: Int) -> [UInt8] {
            var random = SeededGenerator(seed: UInt64(1000 * from + n))
            return random.bytes(100_000)
        }
        for n in 0..<30 {
            a.node.perform { _ = $0.send(message(n, 0), on: .bulk, to: b.id, at: loop.now) }
            b.node.perform { _ = $0.send(message(n, 1), on: .bulk, to: a.id, at: loop.now) }
            if n == 10 { a.node.perform { $0.move(b.id, to: .flow(between.endpoint), at: loop.now) } }
        }
        run(loop, [a, b], "moving") { a.resumed == 1 && b.resumed == 1 }
        #expect(a.node.channels.way(to: b.id)?.isFlow == true && b.node.channels.way(to: a.id)?.isFlow == true)
        // What is sent from here on goes by datagrams only.
        for n in 30..<60 {
            a.node.perform { _ = $0.send(message(n, 0), on: .bulk, to: b.id, at: loop.now) }
            b.node.perform { _ = $0.send(message(n, 1), on: .bulk, to: a.id, at: loop.now) }
        }
        run(loop, [a, b], "the messages") { a.messages.count == 60 && b.messages.count == 60 }
        #expect(b.messages == (0..<60).map { message($0, 0) } && a.messages == (0..<60).map { message($0, 1) })
        #expect(between.passed > 4_000 && between.lost > 60, "\(between.passed) passed, \(between.lost) were lost")
        #expect(a.interrupted == 0 && b.interrupted == 0 && a.lost == 0 && b.lost == 0)
        #expect(a.node.channels.violations == 0 && b.node.channels.violations == 0)
        #expect(a.node.channels.endpoint(of: b.id)?.port == b.node.endpoint.port, "where it listens, as its hello says")
        for daemon in [a, b] { daemon.node.close() }
        between.close()
    }
    /// Three times the router in between gives the flow another port, in the middle of messages both ways.
    @Test func `a daemon that is seen elsewhere keeps its flow, and nobody calls that an interruption`() throws {
        let loop = Loop()
        let a = try Daemon(loop, 1)
        let b = try Daemon(loop, 2)
        let between = try Between(loop, to: b.node.endpoint, loses: 0, seed: 6)
        a.node.perform { $0.connect(to: b.id, at: b.node.endpoint, now: loop.now) }
        run(loop, [a, b], "a connection") { a.established == 1 && b.established == 1 }
        a.node.perform { $0.move(b.id, to: .flow(between.endpoint), at: loop.now) }
        run(loop, [a, b], "moving") { a.resumed == 1 && b.resumed == 1 }
        for n in 0..<4 {
            if n > 0 { try between.renumber() }
            for m in 0..<10 {
                let message = [UInt8](repeating: UInt8(10 * n + m), count: 60_000)
                a.node.perform { _ = $0.send(message, on: .bulk, to: b.id, at: loop.now) }
                b.node.perform { _ = $0.send(message, on: .bulk, to: a.id, at: loop.now) }
            }
            // The last ones may be under way when the port changes.
            run(loop, [a, b], "most of it") { a.messages.count >= 10 * n + 8 && b.messages.count >= 10 * n + 8 }
        }
        run(loop, [a, b], "the rest") { a.messages.count == 40 && b.messages.count == 40 }
        #expect(
            b.messages.map(\.[0]) == (0..<40).map { UInt8($0) } && a.messages.map(\.[0]) == (0..<40).map { UInt8($0) })
        #expect(b.node.transport.flowCounters.moves >= 3)
        #expect(a.interrupted == 0 && b.interrupted == 0 && a.resumed == 1 && b.resumed == 1)
        for daemon in [a, b] { daemon.node.close() }
        between.close()
    }
}
