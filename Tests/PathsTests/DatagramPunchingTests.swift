import Paths
import Primitives
import Testing

/// 0 is a relay, 1 and 2 are at home, have berths there, carry flows, and have a session that the relay carries. Messages take 10 ms.
private func homes(
    _ one: DatagramPort? = DatagramPort(41_001, .same), _ other: DatagramPort? = DatagramPort(41_002, .same),
    relays: Int = 1, port: @escaping (Int, Int) -> UInt16 = { _, _ in 4000 }
) -> Harbour {
    var harbour = Harbour(
        reachable: [true, false, false] + [Bool](repeating: true, count: relays - 1),
        limits: RelayLimits(rate: .megabits(8), daily: ByteCount(1 << 30)))
    harbour.port = port
    (harbour.datagrams[1], harbour.datagrams[2]) = (one, other)
    for node in [1, 2] { harbour.see(node, isReachable: false) }
    for relay in [0] + (3..<3 + relays - 1) {
        harbour.connect(1, relay)
        harbour.connect(2, relay)
    }
    harbour.run()
    return harbour
}
/// Where datagrams of the two are met: at the address that the relay sees, with the port that they have told.
private let (first, second) = (Endpoint("60.0.1.1:41001")!, Endpoint("60.0.2.1:41002")!)

@Suite struct `Introduced by datagrams` {
    @Test func `openers go before both are ready, dials at the word, flows half a second behind, in one moment`() {
        var harbour = homes()
        let begun = harbour.now
        harbour.connect(1, 2, via: 0)
        harbour.run(3)
        #expect(harbour.openers[1].map(\.to) == [second] && harbour.openers[2].map(\.to) == [first])
        #expect(
            harbour.openers[1][0].at - begun == .milliseconds(40)
                && harbour.openers[2][0].at - begun == .milliseconds(20))
        #expect(harbour.punches[1][0].at - begun == .milliseconds(60))
        #expect(harbour.flows[1].map(\.to) == [second] && harbour.flows[2].map(\.to) == [first])
        for node in [1, 2] { #expect(harbour.flows[node][0].at == harbour.punches[node][0].at + .milliseconds(500)) }
        // The flow stands: that comes of the meeting.
        harbour.connect(1, 2, isFlow: true)
        #expect(
            harbour.punched[1].keys.sorted() == [Harbour.id(2)] && harbour.punched[2].keys.sorted() == [Harbour.id(1)])
        #expect(harbour.nodes[1].punching.pairCount == 0 && harbour.nodes[2].punching.pairCount == 0)
        harbour.run(7200)
        #expect(harbour.flows[1].count == 1 && harbour.openers[1].count == 1)
    }
    @Test func `a connection that stands within the half second is enough`() {
        var harbour = homes()
        harbour.connect(1, 2, via: 0)
        harbour.run(0.2)
        harbour.connect(1, 2)
        harbour.run(60)
        #expect(harbour.punches[1].count == 1 && harbour.flows[1].isEmpty && harbour.flows[2].isEmpty)
    }
    @Test
    func `where routers give each destination another port for dials, and one for datagrams, flows begin at once`() {
        var harbour = homes(relays: 2) { node, other in UInt16(40_000 + 100 * node + other) }
        #expect(harbour.nodes[1].mapping == .varies && harbour.nodes[2].mapping == .varies)
        let begun = harbour.now
        harbour.connect(1, 2, via: 0)
        harbour.run(1)
        #expect(harbour.punches[1].isEmpty && harbour.punches[2].isEmpty)
        #expect(harbour.flows[1].map(\.to) == [second] && harbour.flows[2].map(\.to) == [first])
        #expect(harbour.flows[1][0].at - begun == .milliseconds(60) && harbour.flows[2][0].at == harbour.flows[1][0].at)
    }
    @Test(arguments: [PortMapping.same, .unknown, .varies], [PortMapping.same, .unknown, .varies])
    func `flows are tried unless both give each destination another port`(_ one: PortMapping, _ other: PortMapping) {
        var harbour = homes(DatagramPort(41_001, one), DatagramPort(41_002, other))
        harbour.connect(1, 2, via: 0)
        harbour.run(1)
        let isTried = one != .varies || other != .varies
        for node in [1, 2] {
            #expect(harbour.flows[node].count == (isTried ? 1 : 0) && harbour.openers[node].count == (isTried ? 1 : 0))
            #expect(!harbour.punches[node].isEmpty)
        }
    }
    @Test func `who carries no flows is dialled as ever, and gets no datagram`() {
        var harbour = homes(DatagramPort(41_001, .same), nil)
        harbour.connect(1, 2, via: 0)
        harbour.run(60)
        #expect(!harbour.punches[1].isEmpty)
        for node in [1, 2] { #expect(harbour.flows[node].isEmpty && harbour.openers[node].isEmpty) }
    }
    @Test func `a round makes no more than seven datagrams an endpoint, and three rounds are made`() {
        var harbour = homes()
        harbour.connect(1, 2, via: 0)
        harbour.run(60)
        let counts = harbour.nodes[1].punching.counts
        #expect(counts.rounds == 3 && counts.flows == 3 && harbour.flows[1].count == 3 && harbour.openers[1].count == 3)
        // One endpoint for a dial of three SYNs, one for a flow with its opener.
        #expect(counts.probes == 3 * (3 + 7))
    }
    @Test func `what is seen of a flow's port says nothing about the port of dials`() {
        var harbour = homes()
        harbour.connect(1, 0, isFlow: true)
        let terms = BerthTerms(
            .full, rate: .megabits(1), left: ByteCount(0), circuits: 0, seen: Endpoint("60.0.1.1:41999"))
        harbour.say(.terms(terms), from: 0, to: 1)
        harbour.connect(1, 2, via: 0)
        harbour.run(1)
        #expect(harbour.nodes[1].mapping == .unknown)
    }
}

@Suite struct `Datagrams to strangers` {
    private func offer(
        _ harbour: inout Harbour, _ endpoints: [String], port: UInt16, of peer: Int, number: UInt32, from: Int = 0
    ) {
        var meeting = Meeting(
            Harbour.id(peer), number: number, mapping: .varies, endpoints: endpoints.map { Endpoint($0)! })
        meeting.datagrams = DatagramPort(port, .same)
        harbour.say(.meet(meeting), from: from, to: 1)
    }
    @Test func `none to private addresses, loopback, multicast, one's own, or without a carrier's word`() {
        var harbour = homes()
        let bad = [
            "127.0.0.1:4000", "10.0.0.1:22", "192.168.1.1:80", "224.0.0.1:5", "0.0.0.0:7", "[::1]:9", "[fe80::1]:9",
        ]
        for (number, text) in bad.enumerated() {
            offer(&harbour, [text], port: 53, of: 2, number: UInt32(number + 1))
        }
        // Its own place, and an introducer who carries nothing of ours.
        offer(&harbour, ["60.0.1.1:4000"], port: 4000, of: 2, number: 50)
        harbour.connect(2, 1, via: 0)
        offer(&harbour, ["60.0.9.9:4000"], port: 53, of: 7, number: 52, from: 2)
        #expect(harbour.openers[1].isEmpty && harbour.flows[1].isEmpty && harbour.punches[1].isEmpty)
        #expect(harbour.nodes[1].punching.counts.refused == bad.count + 2)
        #expect(harbour.nodes[1].punching.counts.forged >= 1)
    }
    @Test func `a flood of meetings makes at most 200 packets a minute, and one flow an endpoint`() {
        var harbour = homes()
        harbour.drops = { _ in true }
        for number: UInt32 in 1...2000 {
            let node = Int(10 + number % 40)
            offer(&harbour, ["60.0.\(node).1:4000"], port: UInt16(1000 + number), of: node, number: number)
            harbour.say(.go(Harbour.id(node), number: number), from: 0, to: 1)
        }
        let counts = harbour.nodes[1].punching.counts
        #expect(counts.probes <= Punching.probesAMinute && counts.probes >= Punching.probesAMinute - 7)
        #expect(7 * harbour.flows[1].count <= counts.probes && harbour.openers[1].count >= harbour.flows[1].count)
        #expect(Set(harbour.flows[1].map(\.to)).count == harbour.flows[1].count)
        harbour.run(5)
        #expect(harbour.nodes[1].punching.counts.probes <= Punching.probesAMinute)
    }
}
