import Channels
import Primitives
import Testing

/// Two nodes with a session over a dialled connection that the first one opened.
private func pair() -> Network {
    var network = Network()
    for id in [1, 2] as [UInt8] { network.add(id) }
    network.connect(0, 1)
    network.run()
    return network
}
extension Network {
    fileprivate mutating func moveToFlow(_ a: Int, _ b: Int) {
        nodes[a].move(peer(b), to: .flow(Self.endpoint(b)), at: now)
        drain(a)
    }
    fileprivate func resumed(_ node: Int) -> Int {
        events[node].count { if case .resumed = $0 { true } else { false } }
    }
}

@Suite struct `Flows as paths` {
    @Test(arguments: [0, 1]) func `a session moves from a connection to a flow, whoever opens it, and loses nothing`(
        mover: Int
    ) {
        var network = pair()
        let before = network.dials[mover] ?? 0
        for n in 0..<20 as Range<UInt8> { network.send(0, 1, [n] + [UInt8](repeating: n, count: 50_000), on: .bulk) }
        network.moveToFlow(mover, 1 - mover)
        for n in 20..<40 as Range<UInt8> { network.send(0, 1, [n] + [UInt8](repeating: n, count: 50_000), on: .bulk) }
        network.run()
        #expect(network.messages(1).map(\.[0]) == Array(0..<40))
        #expect(network.resumed(0) == 1 && network.resumed(1) == 1 && network.endCount == 2)
        #expect(network.flows == [mover: 1] && network.dials[mover] ?? 0 == before)
        #expect(network.nodes[mover].way(to: network.peer(1 - mover))?.isFlow == true)
        #expect(network.nodes[mover].endpoint(of: network.peer(1 - mover)) == Network.endpoint(1 - mover))
    }
    @Test func `where a flow breaks another one follows, and nobody dials where only datagrams get through`() {
        var network = pair()
        network.moveToFlow(0, 1)
        network.run()
        let dials = network.dials
        network.send(0, 1, [7], on: .control)
        network.cutEverything()
        network.send(0, 1, [8], on: .control)
        network.run()
        #expect(network.isConnected(0, 1) && network.flows[0] == 2)
        #expect(network.messages(1) == [[7], [8]])
        #expect(network.nodes[0].way(to: network.peer(1))?.isFlow == true && network.dials[0] == dials[0])
    }
    @Test func `of a dial and a flow of one meeting the first that stands is kept, and the other ends`() {
        var network = Network()
        for id in [1, 2] as [UInt8] { network.add(id) }
        network.latency = .milliseconds(5)
        for (a, b) in [(0, 1), (1, 0)] {
            network.nodes[a].punch(network.peer(b), at: Network.endpoint(b), now: network.now)
            network.nodes[a].punch(network.peer(b), at: .flow(Network.endpoint(b)), now: network.now)
            // Said again while it is under way it changes nothing.
            network.nodes[a].punch(network.peer(b), at: .flow(Network.endpoint(b)), now: network.now)
        }
        network.run()
        #expect(network.punches == [0: 1, 1: 1] && network.flows == [0: 1, 1: 1])
        #expect(network.isConnected(0, 1) && network.endCount == 2)
        network.send(0, 1, [1, 2, 3], on: .control)
        network.run()
        #expect(network.messages(1) == [[1, 2, 3]])
        // There is a direct connection: another meeting is needless.
        network.nodes[0].punch(network.peer(1), at: .flow(Network.endpoint(1)), now: network.now)
        network.run()
        #expect(network.flows == [0: 1, 1: 1])
    }
}
