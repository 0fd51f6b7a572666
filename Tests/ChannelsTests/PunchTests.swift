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
    @Test func `an ordinary dial to the same place makes way, and is not missed`() {
        var network = homes(.portRestricted, .portRestricted)
        network.dial(0, 1)
        network.run(for: .milliseconds(50))
        network.punch(0, 1)
        network.punch(1, 0)
        network.run()
        #expect(network.isConnected(0, 1) && network.endCount == 2 && network.punches == [0: 1, 1: 1])
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
