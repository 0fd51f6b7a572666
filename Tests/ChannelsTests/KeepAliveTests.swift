import Channels
import Primitives
import Testing

/// Two peers with a connection that node 0 has opened, its first pings behind them.
private func pair() -> Network {
    var network = Network()
    network.add(1)
    network.add(2)
    network.connect(0, 1)
    network.run(for: .seconds(10))
    return network
}
/// Kind, channel, length and eight bytes.
private let pingBytes = 12

@Test func `of a connection that rests the side that opened it asks every five seconds, the other only answers`() {
    var network = pair()
    let before = network.written.map(\.count)
    network.run(for: .seconds(60))
    #expect(network.written[0].count - before[0] == 12 * pingBytes)
    #expect(network.written[1].count - before[1] == 12 * pingBytes)
}

@Test func `a connection over which messages go is pinged by both sides once a second`() {
    var network = pair()
    let before = network.written.map(\.count)
    for _ in 0..<60 {
        network.send(0, 1, [1], on: .control)
        network.run(for: .seconds(1))
    }
    // Node 1 sends no messages: a ping, a pong and one confirmation of 20 bytes a second.
    #expect((58...62).contains((network.written[1].count - before[1]) / (2 * pingBytes + 20)))
}

@Test func `what died while it rested is noticed from the first message on, after the silence and not later`() {
    var network = pair()
    // Just answered: the next ping would be sent almost five seconds later.
    network.swallowEverything()
    network.send(0, 1, [1], on: .control)
    network.run(for: .milliseconds(5_100))
    #expect(network.events[0].contains(.interrupted(network.peer(1), .silent)))
}

/// A kernel takes them all, and nobody acknowledges them.
@Test func `whoever goes on sending small messages into silence notices it all the same`() {
    var network = pair()
    network.swallowEverything()
    for _ in 0..<7 {
        network.send(0, 1, [1], on: .control)
        network.run(for: .seconds(1))
    }
    #expect(network.events[0].contains(.interrupted(network.peer(1), .silent)))
}

@Test func `who has slept knows after two seconds which of its connections have died, and keeps those that have not`() {
    for isDead in [true, false] {
        var network = pair()
        if isDead { network.swallowEverything() }
        network.nodes[0].networkChanged(at: network.now)
        network.drain(0)
        network.run(for: .milliseconds(2_100))
        #expect(network.events[0].contains(.interrupted(network.peer(1), .silent)) == isDead)
    }
}

@Test func `a dead peer is missed by who only listens too, and whoever misses one asks all others at once`() {
    for (survivor, gone) in [(0, 1), (1, 0)] {
        var network = pair()
        network.unplug(gone)
        network.run(for: .seconds(13))
        #expect(network.events[survivor].last == .interrupted(network.peer(gone), .silent))
    }
    var network = pair()
    network.add(3)
    network.connect(2, 0)
    network.run(for: .seconds(10))
    network.unplug(2)
    // A message to node 1 makes the first connection a used one; when that falls silent the second is asked.
    network.unplug(1)
    network.send(0, 1, [1], on: .control)
    network.run(for: .milliseconds(10_300))
    #expect(network.events[0].contains(.interrupted(network.peer(1), .silent)))
    #expect(network.events[0].contains(.interrupted(network.peer(2), .silent)))
}

/// Two at public addresses, connected for a while.
private func outside() -> Network {
    var network = Network()
    for id in 1...2 { network.add(UInt8(id)) }
    for node in 0..<2 { network.move(node, to: Network.outside(node)) }
    network.nodes[0].connect(to: network.peer(1), at: Network.outside(1), now: network.now)
    network.drain(0)
    network.run(for: .seconds(2))
    return network
}

@Test
func `between public addresses a connection that passes nothing is left for another one before it counts as lost`() {
    for sender in [0, 1] {
        var network = outside()
        network.swallowEverything()
        network.send(sender, 1 - sender, [7], on: .control)
        network.run(for: .milliseconds(1_900))
        #expect(network.messages(1 - sender) == [[7]])
        for node in 0..<2 {
            #expect(network.events[node].contains(.resumed(network.peer(1 - node))))
            #expect(!network.events[node].contains(.interrupted(network.peer(1 - node), .silent)))
        }
    }
}

@Test func `in a private network, and where another way is not to be had, silence is waited out`() {
    var home = pair()
    home.swallowEverything()
    home.send(0, 1, [7], on: .control)
    home.run(for: .milliseconds(4_500))
    #expect(home.messages(1).isEmpty)

    var network = outside()
    network.unplug(1)
    network.send(0, 1, [7], on: .control)
    network.run(for: .milliseconds(4_500))
    #expect(!network.events[0].contains(.interrupted(network.peer(1), .silent)))
    network.run(for: .milliseconds(1_600))
    #expect(network.events[0].contains(.interrupted(network.peer(1), .silent)))
}
