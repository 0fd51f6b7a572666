import Channels
import Links
import Paths
import Primitives
import Testing

/// Two nodes, each behind a router of its own, that an introducer has told where the other is seen.
private func homes(_ one: NATKind, _ other: NATKind) -> Network {
    var network = Network()
    for id in [1, 2] as [UInt8] {
        network.add(id) {
            $0.dialing.retryFirst = .seconds(30)
            $0.dialing.retryMax = .seconds(30)
        }
    }
    network.latency = .milliseconds(5)
    network.putBehindRouter(0, one)
    network.putBehindRouter(1, other)
    return network
}
extension Network {
    fileprivate mutating func dial(_ a: Int, _ b: Int) {
        nodes[a].connect(to: peer(b), at: Self.outside(b), now: now)
        drain(a)
    }
    fileprivate func established(_ node: Int) -> Int {
        events[node].count { if case .established = $0 { true } else { false } }
    }
}

/// Two whose bytes the test carries.
private struct Carried {
    var now = Instant(seconds: 5)
    var ends: [Channels] = [1, 2].map {
        Channels(local: Network.id($0), listening: 4000, poolKey: nil, limits: ChannelLimits(), seed: UInt64($0))
    }
    /// By end: its dial, what it was told, and what it has closed.
    private(set) var dials: [ConnectionID?] = [nil, nil]
    private(set) var told: [[Channels.Effect]] = [[], []]
    private(set) var closed: [[ConnectionID]] = [[], []]
    private(set) var circuit: UInt64?
    /// Which connection of the other end is which.
    private var others: [[ConnectionID: ConnectionID]] = [[:], [:]]

    func peer(_ end: Int) -> PeerID { ends[end].local }
    /// A relay carries both; the second one opens.
    mutating func carry() {
        ends[1].learn(peer(0), through: [Network.id(9)], isWanted: true, at: now)
        drain()
        join(ConnectionID(2), ConnectionID(circuit!), via: Network.id(9))
    }
    /// TLS stands between a connection of the first and one of the second; even ones are inbound.
    mutating func join(_ one: ConnectionID, _ other: ConnectionID, via relay: PeerID?) {
        (others[0][one], others[1][other]) = (other, one)
        for (end, id) in [(0, one), (1, other)] {
            ends[end].secured(
                id, peer: peer(1 - end), exporter: [UInt8](repeating: 5, count: 32), remote: Network.outside(1 - end),
                inbound: id.value % 2 == 0, isTLSClient: end == 0, via: relay, at: now)
        }
        drain()
    }
    mutating func drain() {
        var isBusy = true
        while isBusy {
            isBusy = false
            for end in 0..<2 {
                while let effect = ends[end].poll() {
                    isBusy = true
                    switch effect {
                    case .dial(let id, _, _), .punch(let id, _, _): dials[end] = id
                    case .open(let id, _, _): circuit = id.value
                    case .write(let id, let bytes):
                        if let other = others[end][id] { ends[1 - end].received(other, bytes, at: now) }
                    case .close(let id): closed[end].append(id)
                    case .established, .resumed, .interrupted, .lost: told[end].append(effect)
                    default: break
                    }
                }
            }
        }
    }
}

@Suite struct `Punching` {
    @Test func `two homes that one of them dials do not come together`() {
        var network = homes(.portRestricted, .portRestricted)
        network.dial(0, 1)
        network.run(for: .seconds(8))
        #expect(!network.isConnected(0, 1) && network.punches.isEmpty)
    }
    @Test(arguments: [NATKind.restricted, .portRestricted, .noUDP])
    func `two that dial in one moment do, over one connection`(
        _ kind: NATKind
    ) {
        var network = homes(.portRestricted, kind)
        network.punch(0, 1)
        network.punch(1, 0)
        network.run()
        #expect(network.isConnected(0, 1) && network.established(0) == 1 && network.established(1) == 1)
        #expect(network.endCount == 2, "of two connections one was closed")
        network.send(0, 1, [1, 2, 3], on: .control)
        network.run()
        #expect(network.messages(1) == [[1, 2, 3]])
    }
    @Test(arguments: [1, 4, 20, 300, 3000]) func `one may be late: the other's router remembers`(_ milliseconds: Int) {
        var network = homes(.portRestricted, .portRestricted)
        network.punch(1, 0)
        network.run(for: .milliseconds(milliseconds))
        network.punch(0, 1)
        network.run()
        #expect(network.isConnected(0, 1) && network.endCount == 2)
    }
    @Test func `a symmetric router on one side is not passed, and the dials end`() {
        var network = homes(.symmetric, .portRestricted)
        network.punch(0, 1)
        network.punch(1, 0)
        network.run(for: .seconds(10))
        #expect(!network.isConnected(0, 1) && network.endCount == 0)
        #expect(network.nodes[0].nextWake == nil && network.nodes[1].nextWake == nil, "nothing is under way any more")
        #expect(network.events[0].isEmpty && network.events[1].isEmpty)
    }
    @Test func `an ordinary dial to the same place is taken for one of the meeting`() {
        var network = homes(.portRestricted, .portRestricted)
        network.dial(0, 1)
        network.run(for: .milliseconds(50))
        network.punch(0, 1)
        network.punch(1, 0)
        network.run()
        #expect(network.isConnected(0, 1) && network.endCount == 2 && network.punches == [1: 1])
    }
    /// Another dial would have another sequence number, and this side's router remembers the first.
    @Test func `a dial goes on beside a relayed session, and moves it when it comes through`() {
        var pair = Carried()
        pair.ends[0].connect(to: pair.peer(1), at: Network.outside(1), now: pair.now)
        pair.drain()
        let dial = pair.dials[0]!
        pair.carry()
        #expect(
            pair.told == [
                [.established(pair.peer(1), Network.outside(1))], [.established(pair.peer(0), Network.outside(0))],
            ])
        #expect(pair.closed[0].isEmpty)
        // An introduction finds it on its way.
        pair.ends[0].punch(pair.peer(1), at: Network.outside(1), now: pair.now)
        pair.drain()
        #expect(pair.dials[0] == dial && pair.closed[0].isEmpty)
        pair.join(dial, ConnectionID(4), via: nil)
        #expect(
            pair.told[0].last == .resumed(pair.peer(1), Network.outside(1))
                && pair.ends[0].relay(of: pair.peer(1)) == nil)
        #expect(pair.ends[0].way(to: pair.peer(1))?.isPunched == true)
        #expect(pair.closed == [[ConnectionID(2)], [ConnectionID(pair.circuit!)]], "the circuit has ended")
    }
    @Test func `a dial beside a relayed session that comes to nothing changes nothing`() {
        var pair = Carried()
        pair.ends[0].connect(to: pair.peer(1), at: Network.outside(1), now: pair.now)
        pair.drain()
        pair.carry()
        pair.now += .seconds(6)
        pair.ends[0].wake(at: pair.now)
        pair.drain()
        #expect(pair.closed[0] == [pair.dials[0]!] && pair.told[0].count == 1)
        #expect(pair.ends[0].relay(of: pair.peer(1)) == Network.id(9))
    }
    @Test func `who is connected already, or dials there already, is not dialled again`() {
        var network = homes(.portRestricted, .portRestricted)
        network.punch(0, 1)
        network.punch(0, 1)
        #expect(network.punches[0] == 1)
        network.punch(1, 0)
        network.run()
        network.punch(0, 1)
        network.punch(1, 0)
        network.run()
        #expect(network.punches == [0: 1, 1: 1] && network.endCount == 2)
        #expect(network.established(0) == 1 && network.events[0].count == 1)
    }
}
