import Channels
import Digests
import Primitives
import Testing

private func pair(_ change: (inout ChannelLimits) -> Void = { _ in }) -> Network {
    var network = Network()
    network.add(1, change)
    network.add(2, change)
    network.connect(0, 1)
    network.run(for: .milliseconds(100))
    return network
}
extension Network {
    /// Messages that came to a node on a channel, in order.
    fileprivate func messages(_ node: Int, on channel: Channel) -> [[UInt8]] {
        events[node].compactMap { if case .message(_, channel, let bytes) = $0 { bytes } else { nil } }
    }
    fileprivate func count(_ node: Int, _ event: Event) -> Int { events[node].count { $0 == event } }
}
/// A message that says which one it is.
private func message(_ number: Int, _ size: Int) -> [UInt8] {
    [UInt8(number & 255), UInt8(number >> 8 & 255)]
        + [UInt8](repeating: UInt8(truncatingIfNeeded: number &* 31), count: size)
}

@Test(arguments: 0..<40) func `whatever breaks at whatever byte, every message comes once and in order`(_ seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    var network = pair {
        $0.windowBytes = PerChannel(repeating: 3_000 + seed * 700)
        $0.frameBytes = 1_000
    }
    network.pieces = { 1 + random.below(2_000) }
    network.latency = .milliseconds(2)
    network.rate = .megabits(4)
    var sent = [[Int]](repeating: [0, 0, 0, 0], count: 2)
    var breaks = 0
    for _ in 0..<300 {
        let node = random.below(2)
        let channel = Channel.allCases[random.below(4)]
        let number = sent[node][Int(channel.rawValue)]
        let size = random.below(8) == 0 ? random.below(9_000) : random.below(200)
        #expect(network.send(node, 1 - node, message(number, size), on: channel) == .queued)
        sent[node][Int(channel.rawValue)] += 1
        if random.below(12) == 0 {
            // Somewhere in the stream, with bytes under way both ways; sometimes the other side's dial, sometimes a move.
            switch random.below(4) {
            case 0 where !network.ends.isEmpty: network.swallowEverything()
            case 1:
                let mover = random.below(2)
                network.nodes[mover].move(network.peer(1 - mover), to: Network.endpoint(1 - mover), at: network.now)
                network.drain(mover)
            default: if let end = network.ends.first { network.sever(end) }
            }
            breaks += 1
        }
        network.run(for: .milliseconds(1))
        if random.below(3) == 0 { network.run(for: .milliseconds(random.below(60))) }
    }
    network.run(for: .seconds(30))
    #expect(breaks > 5)
    for node in 0..<2 {
        for channel in Channel.allCases {
            let numbers = network.messages(node, on: channel).map { Int($0[0]) | Int($0[1]) << 8 }
            #expect(numbers == Array(0..<sent[1 - node][Int(channel.rawValue)]), "\(channel) to \(node)")
        }
        #expect(network.count(node, .established(network.peer(1 - node))) == 1)
        #expect(!network.events[node].contains { if case .lost = $0 { true } else { false } })
    }
}

@Test func `what was confirmed is not sent again, and what was not is`() {
    var network = pair()
    network.send(0, 1, [UInt8](repeating: 1, count: 300_000), on: .bulk)
    network.run(for: .seconds(2))
    let before = network.written[0].count
    network.send(0, 1, [UInt8](repeating: 2, count: 1_000), on: .bulk)
    network.sever(network.ends[0])
    network.run(for: .seconds(2))
    #expect(network.messages(1).map(\.count) == [300_000, 1_000])
    #expect(network.written[0].count - before < 3_000, "a hello, pings, and the thousand bytes once or twice")
}

@Test func `a process that restarted is noticed with its first hello, and gets nothing that was meant for the old one`()
{
    var network = pair()
    network.send(0, 1, [1], on: .control)
    network.run(for: .milliseconds(100))
    network.sever(network.ends[0])
    network.send(0, 1, [2], on: .control)
    network.restart(1)
    #expect(network.messages(1) == [[1]])
    network.run(for: .seconds(2))
    let tail = network.events[0].drop { $0 != .interrupted(network.peer(1), .closed) }
    #expect(
        Array(tail) == [
            .interrupted(network.peer(1), .closed), .lost(network.peer(1), .restarted), .established(network.peer(1)),
        ])
    #expect(network.messages(1) == [[1]], "what the old process got, and no more")
    network.send(0, 1, [3], on: .control)
    network.run(for: .milliseconds(100))
    #expect(network.messages(1) == [[1], [3]])
}

@Test func `a process that is gone is lost as soon as its machine says so`() {
    // Node 0 dialled: it knows that the address is right. Node 1 gives it a second to come by itself.
    for gone in [1, 0] {
        var network = pair()
        network.kill(gone)
        network.run(for: .milliseconds(200))
        let other = 1 - gone
        #expect(network.nodes[other].hasSession(with: network.peer(gone)) == (gone == 0))
        network.run(for: .seconds(1))
        #expect(network.events[other].last == .lost(network.peer(gone), .closed))
        #expect(network.send(other, gone, [1], on: .control) == .notConnected)
    }
}

@Test func `a peer that is away for less than the session lives is back without a loss, by whichever side can dial`() {
    for blocked in [[0, 1], [1, 0]] {
        var network = pair()
        network.blocked = [[0, 1], [1, 0]]
        network.swallowEverything()
        network.send(0, 1, [1], on: .control)
        network.send(1, 0, [2], on: .control)
        network.run(for: .seconds(50))
        #expect(network.events[0].last == .interrupted(network.peer(1), .silent))
        network.blocked = [blocked]
        network.run(for: .seconds(13))
        #expect(network.messages(1) == [[1]] && network.messages(0) == [[2]])
        #expect(network.isConnected(0, 1))
    }
}

@Test func `when the network changes nobody waits for a pause to end`() {
    var network = pair()
    network.blocked = [[0, 1], [1, 0]]
    network.swallowEverything()
    network.run(for: .seconds(40))
    network.blocked = []
    network.nodes[0].networkChanged(at: network.now)
    network.drain(0)
    network.run(for: .milliseconds(50))
    #expect(network.isConnected(0, 1))
}

@Test func `who hears one of those again that were all away tries all others at once`() {
    var network = Network()
    for key in 1...3 as ClosedRange<UInt8> { network.add(key) }
    for other in [1, 2] { network.connect(0, other) }
    network.run(for: .seconds(1))
    let all = [[0, 1], [1, 0], [0, 2], [2, 0]]
    network.blocked = Set(all)
    network.swallowEverything()
    network.run(for: .seconds(40))
    #expect(!network.isConnected(0, 1) && !network.isConnected(0, 2))
    // Only the first one is woken; nobody dials but it, and whoever it wakes.
    network.blocked = [[2, 0]]
    network.nodes[1].networkChanged(at: network.now)
    network.drain(1)
    network.run(for: .milliseconds(100))
    #expect(network.isConnected(0, 1) && network.isConnected(0, 2))
}

@Test func `a session moves to another address while both sides talk, without a pause or a loss`() {
    var network = pair()
    network.rate = .megabits(8)
    for n in 0..<40 {
        network.send(0, 1, message(n, 3_000), on: .exchange)
        network.send(1, 0, message(n, 3_000), on: .bulk)
        if n % 10 == 5 {
            let mover = n % 20 == 5 ? 1 : 0
            network.move(1 - mover, to: Endpoint(ipv4: 10, 0, 9, UInt8(n), port: 4000))
            network.nodes[mover].move(network.peer(1 - mover), to: network.home(1 - mover), at: network.now)
            network.drain(mover)
        }
        network.run(for: .milliseconds(9))
    }
    network.run(for: .seconds(2))
    for node in 0..<2 {
        #expect(network.messages(node) == (0..<40).map { message($0, 3_000) })
        #expect(network.count(node, .resumed(network.peer(1 - node))) == 4)
        #expect(network.events[node].filter { if case .interrupted = $0 { true } else { false } } == [])
        #expect(network.nodes[node].endpoint(of: network.peer(1 - node)) == network.home(1 - node))
    }
    #expect(network.endCount == 2)
}

@Test func `a session that is away holds no more than its queues`() {
    var network = pair { $0.queueBytes = PerChannel(repeating: 100_000) }
    network.blocked = [[0, 1], [1, 0]]
    network.sever(network.ends[0])
    var accepted = 0
    while network.send(0, 1, [1, 2, 3], on: .control) == .queued { accepted += 1 }
    // Four bytes of length and 128 of book-keeping each.
    #expect(accepted == 100_000 / 135)
    network.run(for: network.nodes[0].limits.sessions.timeout)
    #expect(network.events[0].last == .lost(network.peer(1), .away))
    network.blocked = []
    network.connect(0, 1)
    network.run()
    #expect(network.messages(1).isEmpty, "a new session begins empty")
}

@Test func `of more sessions without a connection than are kept, the first to end goes at once`() {
    var network = Network()
    network.add(1) { $0.sessions.away = 2 }
    for id in 2...5 {
        network.add(UInt8(id))
        network.connect(0, id - 1)
        network.run(for: .milliseconds(100))
    }
    for node in 1...4 {
        network.blocked.formUnion([[0, node], [node, 0]])
        network.sever(network.ends.first { $0.node == node }!)
        network.run(for: .milliseconds(10))
    }
    #expect((1...4).map { network.nodes[0].hasSession(with: network.peer($0)) } == [false, false, true, true])
}

// MARK: What a member may claim of a session

/// A member that speaks the wire by hand.
private struct Forger {
    let id = Network.id(9)
    var victim = Channels(
        local: Network.id(1), listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), seed: 1)
    var now = Instant(seconds: 100)
    var written: [UInt8] = []
    var effects: [Channels.Effect] = []
    private var connection: UInt64 = 2

    private static func number(_ value: UInt64, _ bytes: Int) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }
    /// Opens a connection and says hello.
    mutating func greet(
        mine: UInt8, yours: [UInt8] = [UInt8](repeating: 0, count: 16), generation: UInt32 = 0, received: UInt64 = 0,
        limit: UInt64 = 1_000_000
    ) {
        connection += 2
        let exporter = [UInt8](repeating: UInt8(connection & 255), count: 32)
        victim.secured(
            ConnectionID(connection), peer: id, exporter: exporter, remote: Network.endpoint(9), inbound: true,
            isTLSClient: true, at: now)
        drain()
        var fields = Array("atoll".utf8) + Self.number(2, 2) + Self.number(2, 2) + Self.number(4000, 2) + [1]
        fields += [UInt8](repeating: mine, count: 16) + yours + Self.number(UInt64(generation), 4)
        for _ in 0..<4 { fields += Self.number(received, 8) + Self.number(limit, 8) }
        let label = Array("atoll/hello/2server".utf8)
        let proof = hmacSHA256(key: [UInt8](repeating: 7, count: 32), label + exporter + fields)
        send(1, 0, fields + proof)
    }
    mutating func send(_ kind: UInt8, _ channel: UInt8, _ payload: [UInt8]) {
        let head = [kind, channel, UInt8(payload.count & 255), UInt8(payload.count >> 8)]
        victim.received(ConnectionID(connection), head + payload, at: now)
        drain()
    }
    mutating func drain() {
        while let effect = victim.poll() {
            if case .write(_, let bytes) = effect { written += bytes } else { effects.append(effect) }
        }
    }
    /// The victim's name for its side, from its last hello.
    var victimsSession: [UInt8] {
        let start = written.lastRange(of: Array("atoll".utf8))!
        return Array(written[start + 12..<start + 28])
    }
}
extension [UInt8] {
    fileprivate func lastRange(of part: [UInt8]) -> Int? {
        indices.last { $0 + part.count <= count && Array(self[$0..<$0 + part.count]) == part }
    }
}

@Test func `a hello that confirms what was never sent, or takes back what was confirmed, ends the session`() {
    for (received, isRight) in [(UInt64(5), true), (0, false), (6, false), (1 << 61, false)] {
        var forger = Forger()
        forger.greet(mine: 3)
        let name = forger.victimsSession
        #expect(forger.victim.send([7], on: .control, to: forger.id, at: forger.now) == .queued)
        for channel: UInt8 in 0..<4 where channel > 0 {
            let other = Channel(rawValue: channel)!
            #expect(forger.victim.send([7], on: other, to: forger.id, at: forger.now) == .queued)
        }
        forger.drain()
        for channel: UInt8 in 0..<4 {
            forger.send(4, channel, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])
        }
        forger.effects = []
        forger.greet(mine: 3, yours: name, generation: 1, received: received, limit: received + 10_000)
        let isLost = forger.effects.contains { if case .lost(_, .violation) = $0 { true } else { false } }
        #expect(isLost == !isRight)
        #expect(forger.victim.isConnected(to: forger.id) == isRight)
    }
}

@Test func `a second connection that knows nothing of the first gives way, one that does replaces it`() {
    var forger = Forger()
    forger.greet(mine: 3)
    forger.greet(mine: 3, generation: 0)
    #expect(forger.effects.last.map { if case .close = $0 { true } else { false } } == true)
    #expect(forger.effects.count { if case .resumed = $0 { true } else { false } } == 0)
    forger.greet(mine: 3, yours: forger.victimsSession, generation: 1)
    #expect(forger.effects.count { if case .resumed = $0 { true } else { false } } == 1)
    forger.greet(mine: 4)
    #expect(forger.effects.contains(.lost(forger.id, .restarted)))
    #expect(forger.effects.count { if case .established = $0 { true } else { false } } == 2)
}

@Test func `random claims about sessions never trap and never leave more than one connection`() {
    for seed in 0..<300 {
        var random = SeededGenerator(seed: UInt64(seed))
        var forger = Forger()
        for _ in 0..<12 {
            let name = forger.written.isEmpty || random.below(3) == 0 ? random.bytes(16) : forger.victimsSession
            forger.greet(
                mine: UInt8(1 + random.below(3)), yours: name, generation: UInt32(random.below(4)),
                received: UInt64(random.below(3)) << UInt64(random.below(62)),
                limit: UInt64(random.below(5)) << UInt64(random.below(62)))
            _ = forger.victim.send([1, 2], on: .control, to: forger.id, at: forger.now)
            forger.send(UInt8(2 + random.below(3)), UInt8(random.below(4)), random.bytes(random.below(20)))
            forger.now += .milliseconds(random.below(30_000))
            forger.victim.wake(at: forger.now)
            forger.drain()
            #expect(forger.victim.connectedPeers.count <= 1)
        }
    }
}
