import Channels
import Primitives
import Testing

@Suite struct `Strangers and those who are trusted` {
    private func bytes(_ count: Int) -> [UInt8] { SeededGenerator.bytes(count, seed: 1, stream: 9) }
    private func strict(_ limits: inout ChannelLimits) {
        var strangers = StrangerLimits()
        strangers.windowBytes = 8_000
        strangers.messageBytes = 60_000
        strangers.partialBytes = 100_000
        limits.inbound.strangers = strangers
    }
    /// Node 0, and others that are connected to it.
    private func crowd(_ others: Int) -> Network {
        var network = Network()
        network.add(200) { strict(&$0) }
        for n in 1...others {
            network.add(UInt8(n))
            network.connect(n, 0)
        }
        network.run(for: .milliseconds(100))
        return network
    }

    /// Whom node 0 has turned out for what it did.
    private func turnedOut(_ network: Network) -> Set<PeerID> {
        var out: Set<PeerID> = []
        for case .lost(let peer, .violation) in network.events[0] { out.insert(peer) }
        return out
    }

    @Test func `all strangers together make us hold little, and one who is trusted is served beside them`() {
        var network = crowd(30)
        network.nodes[0].trust(network.peer(30), true, at: network.now)
        network.drain(0)
        for n in 1...29 { for channel in [Channel.bulk, .exchange] { network.send(n, 0, bytes(50_000), on: channel) } }
        network.send(30, 0, bytes(3_000_000), on: .exchange)
        var most = 0
        for _ in 0..<200 {
            network.run(for: .microseconds(50))
            most = max(most, network.nodes[0].partialBytes)
        }
        // What is trusted counts for itself; a stranger holds at most its messages of two channels above the limit.
        #expect(most > 100_000 && most < 3_000_000 + 100_000 + 2 * 50_000)
        let lost = turnedOut(network)
        #expect(!lost.isEmpty && !lost.contains(network.peer(30)))
        #expect(network.nodes[0].violations >= lost.count)
        let whole = network.events[0].contains {
            if case .message(let peer, _, let message) = $0 {
                peer == network.peer(30) && message.count == 3_000_000
            } else {
                false
            }
        }
        #expect(whole)
        #expect(network.nodes[0].partialBytes <= 100_000)
    }

    @Test func `a long message is a stranger's last`() {
        var network = crowd(2)
        network.nodes[0].trust(network.peer(2), true, at: network.now)
        network.drain(0)
        for n in [1, 2] { network.send(n, 0, bytes(60_001), on: .activations) }
        network.run(for: .milliseconds(20))
        #expect(turnedOut(network) == [network.peer(1)])
        #expect(network.messages(0).map(\.count) == [60_001])
    }

    @Test func `trust can be withdrawn while a message is on its way, and given back`() {
        var network = crowd(1)
        network.rate = .megabits(8)
        network.nodes[0].trust(network.peer(1), true, at: network.now)
        network.drain(0)
        network.send(1, 0, bytes(50_000), on: .bulk)
        network.run(for: .milliseconds(20))
        #expect(network.nodes[0].partialBytes > 0)
        for isTrusted in [false, true, false] {
            network.nodes[0].trust(network.peer(1), isTrusted, at: network.now)
            #expect(network.nodes[0].trusts(network.peer(1)) == isTrusted)
            network.drain(0)
        }
        network.run(for: .milliseconds(100))
        #expect(network.messages(0).map(\.count) == [50_000])
        #expect(network.nodes[0].partialBytes == 0)
    }
}
