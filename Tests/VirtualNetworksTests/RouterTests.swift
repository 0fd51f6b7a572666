import Links
import Primitives
import Testing
import VirtualNetworks

/// Hosts 10 ms apart; each but those with `.none` behind a router of its own.
private struct Homes {
    var network: VirtualNetwork
    let kinds: [NATKind]
    /// Dials that led to secure streams, by host, and where the other end seemed to be.
    var secured: [(host: Int, at: Endpoint)] = []
    var datagrams: [(host: Int, from: Endpoint)] = []
    private var dials: UInt64 = 1

    init(_ kinds: [NATKind]) {
        self.kinds = kinds
        network = VirtualNetwork(seed: 1) { _, _ in LinkProperties(latency: .milliseconds(10)) }
        for (host, kind) in kinds.enumerated() {
            network.addHost(
                at: kind.translates ? Endpoint(ipv4: 10, 0, 0, UInt8(host), port: 4000) : Self.outside(host),
                key: PeerID([UInt8](repeating: UInt8(host), count: 32))!,
                access: AccessRates(up: .megabits(8), down: .megabits(8)), seed: UInt64(host))
            guard kind != .none else { continue }
            network.putBehindRouter([host], kind, at: Self.outside(host).address, seed: UInt64(host))
        }
    }
    static func outside(_ host: Int) -> Endpoint { Endpoint(ipv4: 60, 0, UInt8(host), 1, port: 4000) }

    @discardableResult mutating func dial(_ from: Int, _ to: Int) -> UInt64 {
        network.dial(dials, from: from, to: Self.outside(to))
        dials += 2
        return dials - 2
    }
    mutating func send(_ from: Int, _ to: Int) { network.send([1], from: from, to: Self.outside(to)) }
    mutating func run(_ seconds: Double = 1) {
        let end = network.now + .nanoseconds(Int64(seconds * 1e9))
        while let (host, what) = network.happen(until: end) {
            switch what {
            case .stream(.secured(_, let stream), _): secured.append((host, stream.remote))
            case .datagram(_, let from):
                datagrams.append((host, network.apparentSource ?? network.endpoint(of: from)))
            default: break
            }
        }
        network.rest(until: end)
    }
    /// Whether the last dial has led to both ends of a stream, asked once.
    mutating func isConnected() -> Bool {
        defer { secured = [] }
        return secured.count == 2
    }
}

@Suite struct `Behind routers` {
    @Test func `who has one dials out, is seen at its address, and cannot be dialled`() {
        var homes = Homes([.none, .portRestricted, .portRestricted])
        homes.dial(1, 0)
        homes.run()
        #expect(homes.secured.map(\.host) == [0, 1] || homes.secured.map(\.host) == [1, 0])
        #expect(homes.secured.first { $0.host == 0 }?.at == Homes.outside(1))
        _ = homes.isConnected()
        homes.dial(0, 2)
        homes.dial(1, 2)
        homes.run(10)
        #expect(homes.secured.isEmpty, "two homes cannot be brought together by dialling")
        // Its own endpoint means nothing outside.
        homes.network.dial(99, from: 0, to: homes.network.endpoint(of: 1))
        homes.run()
        #expect(homes.secured.isEmpty)
    }

    @Test(arguments: [
        (NATKind.none, true), (.fullCone, true), (.restricted, false), (.portRestricted, false), (.symmetric, false),
        (.firewall, false), (.noUDP, false), (.webOnly, false),
    ])
    func `a stranger's dial arrives where strangers are let in`(kind: NATKind, expected: Bool) {
        var homes = Homes([.none, kind])
        let reaches = homes.network.reaches(Homes.outside(1), from: 0, port: 5000)
        #expect(reaches == expected)
        homes.dial(0, 1)
        homes.run()
        let arrives = homes.isConnected()
        #expect(arrives == expected)
        homes.dial(1, 0)
        homes.run()
        let leaves = homes.isConnected()
        #expect(leaves == (kind != .webOnly), "everybody dials out, but to other ports than the web's")
    }

    @Test func `answers come back, and only answers`() {
        var homes = Homes([.none, .none, .portRestricted, .symmetric])
        homes.send(2, 0)
        homes.send(3, 0)
        homes.run()
        let seen = homes.datagrams.map(\.from)
        #expect(seen[0] == Homes.outside(2) && seen[1].address == Homes.outside(3).address)
        #expect(seen[1].port != 4000, "a symmetric router draws a port")
        for end in seen {
            homes.network.send([2], from: 0, to: end)
            homes.network.send([3], from: 1, to: end)
        }
        homes.datagrams = []
        homes.run()
        #expect(homes.datagrams.map(\.host) == [2, 3])
        #expect(homes.datagrams.allSatisfy { $0.from == Homes.outside(0) })
    }

    @Test func `two that dial each other in one moment pass, as long as neither is symmetric`() {
        for (kind, expected) in [(NATKind.portRestricted, true), (.restricted, true), (.symmetric, false)] {
            var homes = Homes([kind, .portRestricted])
            homes.dial(0, 1)
            homes.dial(1, 0)
            homes.run()
            #expect(!homes.secured.isEmpty == expected, "\(kind)")
        }
    }

    @Test func `a new address, or a router that forgets, kills what passes, without a word`() {
        var homes = Homes([.none, .portRestricted])
        let dial = homes.dial(1, 0)
        homes.run()
        let isConnected = homes.isConnected()
        #expect(isConnected)
        homes.network.renumber(1, to: [61, 0, 0, 9])
        homes.network.write(dial, [1, 2, 3], from: 1)
        homes.run()
        #expect(homes.network.router(of: 1)?.address == [61, 0, 0, 9] && homes.secured.isEmpty)
        homes.dial(1, 0)
        homes.run()
        #expect(homes.secured.contains { $0.host == 0 && $0.at.address == [61, 0, 0, 9] })
        // Whoever has a public address moves itself.
        homes.network.renumber(0, to: [61, 0, 0, 1])
        #expect(homes.network.endpoint(of: 0) == Endpoint(ipv4: 61, 0, 0, 1, port: 4000))
    }

    @Test func `who shares one sees the others in the house`() {
        var homes = Homes([.none, .none, .none])
        for host in [1, 2] { homes.network.move(host, to: Endpoint(ipv4: 10, 0, 0, UInt8(host), port: 4000)) }
        homes.network.putBehindRouter([1, 2], .portRestricted, at: [61, 0, 0, 1], seed: 1)
        homes.network.dial(99, from: 1, to: homes.network.endpoint(of: 2))
        homes.run()
        let isConnected = homes.isConnected()
        #expect(isConnected)
        homes.dial(1, 0)
        homes.dial(2, 0)
        homes.run()
        let ends = homes.secured.filter { $0.host == 0 }.map(\.at)
        #expect(Set(ends.map(\.port)).count == 2 && ends.allSatisfy { $0.address == [61, 0, 0, 1] })
    }
}
