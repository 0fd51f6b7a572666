import Channels
import Primitives
import Testing

private func pair(_ a: UInt8 = 1, _ b: UInt8 = 2, _ change: (inout ChannelLimits) -> Void = { _ in }) -> Network {
    var network = Network()
    network.add(a, change)
    network.add(b, change)
    return network
}

@Test(arguments: [(UInt8(1), UInt8(2)), (2, 1)]) func `a dial leads to one connection, whoever dials`(
    _ a: UInt8, _ b: UInt8
) {
    var network = pair(a, b)
    network.connect(0, 1)
    network.run()
    #expect(network.isConnected(0, 1))
    #expect(network.events[0] == [.established(network.peer(1))])
    #expect(network.events[1] == [.established(network.peer(0))])
    #expect(network.nodes[1].endpoint(of: network.peer(0)) == Network.endpoint(0))
    #expect(network.nodes[0].version(with: network.peer(1)) == 2)
}

@Test(arguments: [(UInt8(1), UInt8(2)), (2, 1)])
func `of two simultaneous dials the smaller peer's connection survives`(
    _ a: UInt8, _ b: UInt8
) {
    var network = pair(a, b)
    network.connect(0, 1)
    network.connect(1, 0)
    network.run()
    #expect(network.isConnected(0, 1))
    #expect(network.endCount == 2)
    let smaller = a < b ? 0 : 1
    #expect(network.connection(of: smaller)?.value == 1, "the survivor is its own dial")
    #expect(network.events[0] == [.established(network.peer(1))])
    #expect(network.events[1] == [.established(network.peer(0))])
}

@Test(arguments: [0, 1], [0, 1, 5, 19, 20, 21, 40]) func `dials that are some milliseconds apart end in one connection`(
    _ first: Int, _ milliseconds: Int
) {
    var network = pair()
    // Five legs: a dial takes 20 ms.
    network.latency = .milliseconds(4)
    network.connect(first, 1 - first)
    network.run(for: .milliseconds(milliseconds))
    network.connect(1 - first, first, known: false)
    network.run()
    #expect(network.isConnected(0, 1))
    #expect(network.endCount == 2)
}

@Test func `a peer that cannot be dialled is reached by its own connection`() {
    var network = pair()
    network.blocked = [[0, 1]]
    network.connect(0, 1)
    network.connect(1, 0)
    network.run()
    #expect(network.isConnected(0, 1))
    #expect(network.events[0] == [.established(network.peer(1))])
}

@Test func `a slow dial of the smaller peer gives way after the grace time`() {
    var network = pair()
    network.connect(1, 0)
    network.run(for: .microseconds(10))
    network.unanswered = [[0, 1]]
    network.connect(0, 1)
    network.run(for: .milliseconds(900))
    #expect(!network.isConnected(0, 1))
    network.run(for: .milliseconds(300))
    #expect(network.isConnected(0, 1))
}

@Test func `messages sent while dialling arrive in order once connected`() {
    var network = pair()
    #expect(network.send(0, 1, [9], on: .control) == .notConnected)
    network.connect(0, 1)
    for n in 0..<5 { #expect(network.send(0, 1, [UInt8(n)], on: .control) == .queued) }
    network.run()
    #expect(network.messages(1) == (0..<5).map { [UInt8($0)] })
}

@Test func `another pool's key is refused by both ends and counted`() {
    var network = Network()
    network.add(1)
    network.add(2, key: [UInt8](repeating: 8, count: 32))
    network.connect(0, 1)
    network.run()
    #expect(network.nodes[0].refusals[.wrongPool] == 1)
    #expect(network.nodes[1].refusals[.wrongPool] == 1)
    #expect(network.events[0].last == .lost(network.peer(1), .refused(.wrongPool)))
    #expect(network.endCount == 0)
}

@Test func `a pool without a key and one with do not mix, two without do`() {
    var network = Network()
    network.add(1, key: nil)
    network.add(2)
    network.add(3, key: nil)
    network.connect(0, 1)
    network.connect(0, 2)
    network.run()
    #expect(!network.isConnected(0, 1))
    #expect(network.isConnected(0, 2))
}

@Test func `a proof made for another TLS session is refused`() {
    var network = pair()
    network.splitsExporter = true
    network.connect(0, 1)
    network.run()
    #expect(network.nodes[0].refusals[.wrongPool] == 1 || network.nodes[1].refusals[.wrongPool] == 1)
    #expect(!network.isConnected(0, 1))
}

@Test func `a dial is repeated with growing pauses and given up after its time`() {
    var network = pair()
    network.blocked = [[0, 1]]
    network.connect(0, 1)
    network.connect(0, 1)
    network.run(for: .seconds(60))
    #expect(network.events[0] == [.lost(network.peer(1), .unreachable)])
    #expect(network.send(0, 1, [1], on: .control) == .notConnected)
    network.blocked = []
    network.connect(0, 1)
    network.run()
    #expect(network.isConnected(0, 1))
}

@Test func `an unknown address that stays silent is reported by its endpoint`() {
    var network = pair()
    network.blocked = [[0, 1]]
    network.connect(0, 1, known: false)
    network.run(for: .seconds(60))
    #expect(network.events[0] == [.unreachable(Network.endpoint(1), .unreachable)])
}

@Test func `an address alone leads to the peer behind it`() {
    var network = pair(2, 1)
    network.connect(0, 1, known: false)
    network.run()
    #expect(network.events[0] == [.established(network.peer(1))])
    network.connect(0, 1, known: false)
    network.run()
    #expect(network.endCount == 2)
    #expect(network.events[0].count == 1)
}

@Test func `dialling oneself ends at once`() {
    var network = pair()
    // An address of which node 0 does not know that it is its own.
    network.nodes.append(
        Channels(local: network.peer(0), listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), seed: 9))
    network.adoptNewNode()
    network.nodes[0].connect(to: nil, at: Network.endpoint(2), now: network.now)
    network.drain(0)
    network.run()
    #expect(network.events[0].contains(.unreachable(Network.endpoint(2), .refused(.oneself))))
    #expect(network.endCount == 0)
}

@Test func `a dead peer is missed after the silence time-out and not before, and lost when its session ends`() {
    var network = pair()
    network.connect(0, 1)
    network.run(for: .seconds(2))
    #expect(network.nodes[0].roundTrip(to: network.peer(1)) != nil)
    network.unplug(1)
    network.run(for: .milliseconds(4900))
    #expect(network.isConnected(0, 1))
    network.run(for: .milliseconds(1200))
    #expect(network.events[0].last == .interrupted(network.peer(1), .silent))
    network.run(for: network.nodes[0].limits.sessions.timeout - .seconds(2))
    #expect(network.events[0].last == .interrupted(network.peer(1), .silent))
    network.run(for: .seconds(3))
    #expect(network.events[0].last == .lost(network.peer(1), .away))
}

@Test func `an idle connection lives on its pings`() {
    var network = pair()
    network.connect(0, 1)
    network.run(for: .seconds(120))
    #expect(network.isConnected(0, 1))
    #expect(network.events[0].count == 1)
}

@Test func `a goodbye carries its reason and ends the session; a connection that ends without one is resumed`() {
    var network = pair()
    network.connect(0, 1)
    network.run()
    network.nodes[0].disconnect(network.peer(1), reason: "the job is done", at: network.now)
    network.drain(0)
    network.run()
    #expect(network.events[0].last == .lost(network.peer(1), .disconnected("the job is done")))
    #expect(network.events[1].last == .lost(network.peer(0), .farewell("the job is done")))
    network.connect(1, 0)
    network.run()
    network.cutEverything()
    network.run(for: .microseconds(100))
    #expect(network.events[0].last == .interrupted(network.peer(1), .closed))
    #expect(network.events[1].last == .interrupted(network.peer(0), .closed))
    network.run(for: .milliseconds(100))
    #expect(network.events[0].last == .resumed(network.peer(1)))
    #expect(network.events[1].last == .resumed(network.peer(0)))
}

@Test func `a peer that restarted replaces its old connection`() {
    var network = pair()
    network.connect(0, 1)
    network.run()
    // Node 2 is the smaller peer of node 0 come back: node 1 still believes in the old connection.
    network.unplug(0)
    network.nodes.append(
        Channels(local: network.peer(0), listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), seed: 9))
    network.adoptNewNode()
    network.connect(2, 1)
    network.run(for: .milliseconds(200))
    #expect(network.events[1].suffix(2) == [.lost(network.peer(0), .restarted), .established(network.peer(0))])
}

/// They ended each other's sessions every second or two, and nobody said why.
@Test
func `of two processes with one key the last is heard, both ends say so, and when it is gone the other one is heard`() {
    var network = pair()
    network.connect(0, 1)
    network.run()
    network.nodes.append(
        Channels(local: network.peer(0), listening: 4000, poolKey: [UInt8](repeating: 7, count: 32), seed: 9))
    network.adoptNewNode()
    network.connect(2, 1)
    network.run(for: .seconds(30))
    func refusals(_ node: Int, _ kind: Refusal) -> Int { network.nodes[node].refusals[kind] ?? 0 }
    #expect(refusals(1, .keyInUse) > 0 && refusals(0, .ownKeyElsewhere) > 0 && refusals(2, .ownKeyElsewhere) == 0)
    #expect(network.events[1].count { $0 == .lost(network.peer(0), .restarted) } == 1)
    network.send(2, 1, [1], on: .control)
    network.run(for: .seconds(1))
    #expect(network.messages(1) == [[1]])
    network.kill(2)
    network.run(for: .seconds(200))
    network.connect(0, 1)
    network.run(for: .seconds(5))
    network.send(0, 1, [2], on: .control)
    network.run(for: .seconds(1))
    #expect(network.messages(1) == [[1], [2]])
}

@Test func `of a flood of unproven connections the oldest go, and a newcomer always has its turn`() {
    var network = Network()
    network.add(1) { $0.unproven = 4 }
    var crowded = 0
    for n in 0..<10 {
        network.nodes[0].secured(
            ConnectionID(UInt64(2 * n + 2)), peer: Network.id(UInt8(n + 10)),
            exporter: [UInt8](repeating: 0, count: 32),
            remote: Endpoint(ipv4: 10, 0, 1, UInt8(n), port: 5), inbound: true, isTLSClient: false, at: network.now)
        while let effect = network.nodes[0].poll() { if case .refused(_, .crowded) = effect { crowded += 1 } }
    }
    #expect(crowded == 6)
    // The four that stay silent are turned away in time.
    network.nodes[0].wake(at: network.now + .seconds(11))
    #expect(network.nodes[0].refusals[.slowHello] == 4)
}

extension Network {
    /// Room for a node that was appended to `nodes` directly.
    mutating func adoptNewNode() {
        events.append([])
        written.append([])
        makeRoom()
    }
}
