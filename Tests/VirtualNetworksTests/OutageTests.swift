import Links
import Primitives
import Testing
import VirtualNetworks

private func endpoint(_ host: Int) -> Endpoint { Endpoint(ipv4: 10, 0, 0, UInt8(host), port: 4000) }

/// Two hosts 10 ms apart, with a stream between them that has number 1 at the first and 2 at the second.
private func connected() -> VirtualNetwork {
    var network = VirtualNetwork(seed: 1) { _, _ in LinkProperties(latency: .milliseconds(10)) }
    for host in 0..<2 {
        network.addHost(
            at: endpoint(host), key: PeerID([UInt8](repeating: UInt8(host), count: 32))!,
            access: AccessRates(up: .megabits(8), down: .megabits(8)), seed: UInt64(host))
    }
    network.dial(1, from: 0, to: endpoint(1))
    while network.happen(until: Instant(seconds: 1)) != nil {}
    network.rest(until: Instant(seconds: 1))
    return network
}

/// What comes to a host, in order: bytes of streams and datagrams, and when.
private func arrivals(_ network: inout VirtualNetwork, until limit: Double) -> [(at: Double, host: Int, byte: UInt8)] {
    var out: [(at: Double, host: Int, byte: UInt8)] = []
    while let (host, what) = network.happen(until: Instant(seconds: limit)) {
        switch what {
        case .stream(.received(_, let bytes), _), .datagram(let bytes, _):
            out.append((network.now.seconds, host, bytes[0]))
        case .stream(.closed, _): out.append((network.now.seconds, host, 255))
        default: break
        }
    }
    network.rest(until: Instant(seconds: limit))
    return out
}

@Suite struct `A line that is cut` {
    @Test func `loses datagrams, keeps what streams carry, and lets the other way pass`() {
        var network = connected()
        network.cut(from: 0, to: 1)
        network.write(1, [1], from: 0)
        network.write(1, [2], from: 0)
        network.send([3], from: 0, to: endpoint(1))
        network.write(2, [4], from: 1)
        #expect(arrivals(&network, until: 3).map(\.byte) == [4])
        let due = network.mend(from: 0, to: 1)
        // Lost at 1.01: sent again 0.2, 0.6, 1.4, 3.0 s later.
        #expect(due.map { abs($0.seconds - 4.01) < 0.01 } == true)
        // What comes behind the gap waits with it; another stream does not.
        network.write(1, [5], from: 0)
        network.send([6], from: 0, to: endpoint(1))
        #expect(arrivals(&network, until: 4).map(\.byte) == [6])
        network.rest(until: due!)
        network.deliverHeld(from: 0, to: 1)
        #expect(arrivals(&network, until: 5).map(\.byte) == [1, 2, 5])
        #expect(network.mend(from: 0, to: 1) == nil)
    }

    @Test func `may be cut again before the retransmission comes`() {
        var network = connected()
        network.cut(from: 0, to: 1)
        network.write(1, [1], from: 0)
        #expect(arrivals(&network, until: 3).isEmpty)
        let due = network.mend(from: 0, to: 1)!
        network.cut(from: 0, to: 1)
        network.rest(until: due)
        network.deliverHeld(from: 0, to: 1)
        #expect(arrivals(&network, until: 9).isEmpty)
        let later = network.mend(from: 0, to: 1)!
        #expect(later > due)
        network.rest(until: later)
        network.deliverHeld(from: 0, to: 1)
        #expect(arrivals(&network, until: 30).map(\.byte) == [1])
    }
}

@Suite struct `A host that stands still` {
    @Test func `hears everything when it goes on, in order, and of datagrams as many as a socket keeps`() {
        var network = connected()
        network.freeze(1)
        network.write(1, [1], from: 0)
        for _ in 0..<400 { network.send([2], from: 0, to: endpoint(1)) }
        network.write(1, [3], from: 0)
        network.setAlarm(of: 1, at: Instant(seconds: 2))
        #expect(network.isFrozen(1))
        #expect(arrivals(&network, until: 5).isEmpty)
        network.thaw(1)
        let heard = arrivals(&network, until: 6)
        #expect(heard.first?.byte == 1 && heard.filter { $0.byte == 2 }.count < 400 && heard.contains { $0.byte == 3 })
        #expect(heard.allSatisfy { $0.at == 5 })
    }

    @Test func `is forgotten as such when its process ends`() {
        var network = connected()
        network.freeze(1)
        network.setUp(false, 1)
        #expect(!network.isFrozen(1))
        #expect(arrivals(&network, until: 5).map(\.host) == [0])
    }
}

@Suite struct `A host that was away` {
    @Test func `says of a stream of before that it knows none, once it runs again`() {
        var network = connected()
        network.unplug(1)
        network.write(1, [1], from: 0)
        #expect(arrivals(&network, until: 3).isEmpty)
        network.setUp(true, 1)
        network.write(1, [2], from: 0)
        #expect(arrivals(&network, until: 4).map { [$0.host, Int($0.byte)] } == [[0, 255]])
    }

    @Test func `is found at its new address, and its streams are dead without a word`() {
        var network = connected()
        network.relocate(1, to: endpoint(9))
        network.write(1, [1], from: 0)
        network.write(2, [2], from: 1)
        network.send([3], from: 0, to: endpoint(1))
        network.send([4], from: 0, to: endpoint(9))
        #expect(arrivals(&network, until: 3).map(\.byte) == [4])
    }
}
