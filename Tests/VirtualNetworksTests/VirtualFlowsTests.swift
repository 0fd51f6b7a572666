import Flows
import Links
import Primitives
import Testing
import VirtualNetworks

/// Two homes, each behind a usual router, and flows between them over the network's lines.
private struct TwoHomes {
    var network: VirtualNetwork
    var flows: [VirtualFlows]
    var secured: [SecuredStream?] = [nil, nil]
    var ids: [UInt64] = [1, 0]
    var received: [UInt8] = []
    var failed = 0
    var closed = 0
    /// What is still to be written by the first, as fast as it is taken.
    var text: ArraySlice<UInt8> = []

    static func outside(_ host: Int) -> Endpoint { Endpoint(ipv4: 60, 0, UInt8(host), 1, port: 4000) }
    static func key(_ host: Int) -> PeerID { PeerID([UInt8](repeating: UInt8(7 - host), count: 32))! }

    init(up: BitRate = .megabits(8), _ link: LinkProperties, mtu: Int = 1500) {
        network = VirtualNetwork(seed: 1) { _, _ in link }
        flows = []
        for host in 0..<2 {
            network.addHost(
                at: Endpoint(ipv4: 10, 0, 0, UInt8(host), port: 4000), key: Self.key(host),
                access: AccessRates(up: up, down: .megabits(100)), seed: UInt64(host))
            network.putBehindRouter([host], .portRestricted, at: Self.outside(host).address, seed: UInt64(host))
            network.setMTU(of: host, mtu)
            flows.append(
                VirtualFlows(
                    local: Self.key(host), poolKey: [1, 2, 3], seed: UInt64(host), at: network.now))
        }
    }
    mutating func open() {
        network.sendOpener(from: 1, to: Self.outside(0))
        flows[0].open(1, to: Self.outside(1), expecting: Self.key(1), at: network.now)
        settle(0)
    }
    mutating func write(_ bytes: [UInt8]) {
        text = bytes[...]
        refill(1 << 17)
        settle(0)
    }
    private mutating func refill(_ room: Int) {
        let piece = text.prefix(room)
        text = text.dropFirst(room)
        if !piece.isEmpty { flows[0].write(1, Array(piece), at: network.now) }
    }
    mutating func settle(_ host: Int) {
        while let effect = flows[host].poll() {
            switch effect {
            case .send(let datagram, let endpoint): network.send(datagram, from: host, to: endpoint)
            case .report(.secured(let id, let stream)): (ids[host], secured[host]) = (id, stream)
            case .report(.received(_, let bytes)): received += bytes
            case .report(.writable(_, let unsent)): if host == 0, unsent < 1 << 17 { refill(1 << 17) }
            case .report(.dialFailed): failed += 1
            case .report(.closed): closed += 1
            }
        }
        network.setAlarm(of: host, at: flows[host].whenToWake())
    }
    mutating func run(_ seconds: Double, until: (borrowing TwoHomes) -> Bool = { _ in false }) {
        let end = network.now + .nanoseconds(Int64(seconds * 1e9))
        while !until(self), let (host, what) = network.happen(until: end) {
            switch what {
            case .datagram(let bytes, _):
                flows[host].receive(bytes, from: network.apparentSource!, at: network.now)
            case .alarm: flows[host].wake(at: network.now)
            default: break
            }
            settle(host)
        }
        if !until(self) { network.rest(until: end) }
    }
}

@Suite struct `Flows over a virtual network` {
    static let text: [UInt8] = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }

    /// The least that lines allow is the text's bits by the rate; a flow has its own opening, TLS and heads besides.
    @Test(arguments: [(0.0, 1500, 1452), (0.01, 1500, 1452), (0.0, 1492, 1452), (0.0, 1400, 1200), (0.0, 1280, 1200)])
    func `carry every byte at the line's rate, in datagrams that the line takes`(
        loss: Double, mtu: Int, size: Int
    ) throws {
        var homes = TwoHomes(LinkProperties(latency: .milliseconds(12), loss: loss), mtu: mtu)
        homes.open()
        homes.run(1) { $0.secured[0] != nil && $0.secured[1] != nil }
        let (near, far) = try (#require(homes.secured[0]), #require(homes.secured[1]))
        #expect(near.peer == TwoHomes.key(1) && far.peer == TwoHomes.key(0) && near.exporter == far.exporter)
        #expect(near.isFlow && far.isFlow && !near.inbound && far.inbound && near.isTLSClient != far.isTLSClient)
        #expect(far.remote == TwoHomes.outside(0), "as its router shows it")
        let begun = homes.network.now
        homes.write(Self.text)
        homes.run(20) { $0.received.count == Self.text.count }
        #expect(homes.received == Self.text)
        let took = (homes.network.now - begun).inSeconds
        let least = Double(Self.text.count) * 8 / 8e6
        #expect(took < least / 0.75, "\(took) s for what takes \(least) s")
        #expect(homes.flows[0].datagramSize(1) == size)
        if loss > 0 { #expect(homes.flows[0].counters.lost > 0) }
    }
    @Test func `end at both ends when one closes, after its last byte`() {
        var homes = TwoHomes(LinkProperties(latency: .milliseconds(12)))
        homes.open()
        homes.run(1)
        homes.write(Array(Self.text.prefix(50_000)))
        homes.flows[0].close(1, at: homes.network.now)
        homes.settle(0)
        homes.run(10)
        #expect(homes.received.count == 50_000 && homes.closed == 1)
        #expect(homes.flows.allSatisfy { $0.count == 0 })
    }
    @Test func `fail where the other router lets nobody in, or somebody else answers`() {
        var homes = TwoHomes(LinkProperties(latency: .milliseconds(12)))
        homes.flows[0].open(1, to: TwoHomes.outside(1), expecting: TwoHomes.key(1), at: homes.network.now)
        homes.settle(0)
        homes.run(12)
        #expect(homes.failed == 1 && homes.secured[1] == nil)
        homes.network.sendOpener(from: 1, to: TwoHomes.outside(0))
        homes.flows[0].open(3, to: TwoHomes.outside(1), expecting: TwoHomes.key(5), at: homes.network.now)
        homes.settle(0)
        homes.run(12)
        // The other end has seen a key that is good; whoever dialled did not see the one that it wanted, and ends it.
        #expect(homes.failed == 2 && homes.secured[0] == nil && homes.closed == 1)
    }
    /// The other end's line gets another address: its packets say so, and are believed once it has answered there.
    @Test func `go on where the other end has another address`() {
        var homes = TwoHomes(LinkProperties(latency: .milliseconds(12)))
        homes.open()
        homes.run(1)
        homes.write(Self.text)
        homes.run(0.5)
        #expect(!homes.received.isEmpty && homes.received.count < Self.text.count)
        homes.network.renumber(0, to: [61, 0, 0, 1])
        // The router in front of the other end lets the new address in only once it was written to.
        homes.network.sendOpener(from: 1, to: Endpoint(ipv4: 61, 0, 0, 1, port: 4000))
        homes.run(10) { $0.received.count == Self.text.count }
        #expect(homes.received == Self.text)
        #expect(homes.flows[1].counters.moves == 1)
    }
}
