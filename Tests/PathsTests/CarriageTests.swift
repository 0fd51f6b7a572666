import Paths
import Primitives
import Testing

/// Daemons' carriages whose messages take 10 ms each way, in order; what TLS would do is done by the test: bytes go in and come out.
struct Harbour {
    struct Arrival {
        var at: Instant
        var from: Int
        var to: Int
        var message: CarriageMessage
    }
    private(set) var now = Instant(seconds: 100)
    var nodes: [Carriage] = []
    private var onTheWay: [Arrival] = []
    /// Everything that was said, in order.
    private(set) var said: [Arrival] = []
    /// By node and stream: what came, what is unsent, and how it ended.
    private(set) var came: [[UInt64: [UInt8]]] = []
    private(set) var unsent: [[UInt64: Int]] = []
    private(set) var ended: [[UInt64: CircuitEnd]] = []
    private(set) var begun: [[UInt64]] = []
    private(set) var found: [[PeerID: PeerID]] = []
    private(set) var foundCount: [Int] = []
    private(set) var improved: [[PeerID: Endpoint]] = []
    private(set) var stands: [Bool] = []
    /// By node, in order: endpoints that were dialled in a meeting, and when.
    private(set) var punches: [[(at: Instant, to: Endpoint)]] = []
    private(set) var punched: [[PeerID: Endpoint]] = []
    /// The same of flows, and of the openers before them.
    private(set) var flows: [[(at: Instant, to: Endpoint)]] = []
    private(set) var openers: [[(at: Instant, to: Endpoint)]] = []
    /// By node: where others see its datagrams.
    var datagrams: [Int: DatagramPort] = [:]
    /// The port that a node's router shows to another node.
    var port: (_ node: Int, _ other: Int) -> UInt16 = { _, _ in 4000 }
    private(set) var looks: [Bool] = []
    /// Messages that are held up for ever: a relay that drops.
    var drops: (CarriageMessage) -> Bool = { _ in false }

    static func id(_ node: Int) -> PeerID { PeerID([UInt8(node + 1)] + [UInt8](repeating: 0, count: 31))! }
    static func endpoint(_ node: Int) -> Endpoint { Endpoint(ipv4: 60, 0, UInt8(node), 1, port: 4000) }

    /// - Parameter reachable: who can be dialled; all are on the internet.
    init(reachable: [Bool], limits: RelayLimits = .little) {
        for node in reachable.indices {
            nodes.append(Carriage(local: Self.id(node), limits: limits, at: now))
            came.append([:])
            unsent.append([:])
            ended.append([:])
            begun.append([])
            found.append([:])
            foundCount.append(0)
            improved.append([:])
            punches.append([])
            punched.append([:])
            flows.append([])
            openers.append([])
            stands.append(false)
            looks.append(false)
        }
        for node in reachable.indices { see(node, isReachable: reachable[node]) }
    }
    mutating func see(_ node: Int, isReachable: Bool, leads: Bool = false) {
        nodes[node].see(
            Carriage.Outlook(
                external: Self.endpoint(node), isReachable: isReachable, leads: leads, datagrams: datagrams[node]),
            at: now)
        drain(node)
    }
    /// A session between two, over a connection that the first one dialled.
    mutating func connect(_ a: Int, _ b: Int, via relay: Int? = nil, isFlow: Bool = false) {
        for (one, other, dialled) in [(a, b, true), (b, a, false)] {
            let source = dialled ? nil : Endpoint(address: Self.endpoint(other).address, port: port(other, one))
            nodes[one].connected(
                Self.id(other), at: Self.endpoint(other), via: relay.map { Self.id($0) }, wasDialled: dialled,
                source: source, isFlow: isFlow, now: now)
            drain(one)
        }
    }
    mutating func move(_ node: Int, to endpoint: Endpoint) {
        nodes[node].see(Carriage.Outlook(external: endpoint, isReachable: false, leads: false), at: now)
        drain(node)
    }
    mutating func disconnect(_ a: Int, _ b: Int) {
        onTheWay.removeAll { [$0.from, $0.to].sorted() == [a, b].sorted() }
        nodes[a].lost(Self.id(b), at: now)
        nodes[b].lost(Self.id(a), at: now)
        drain(a)
        drain(b)
    }
    mutating func open(_ node: Int, _ stream: UInt64, to other: Int, via relay: Int) {
        nodes[node].open(stream, to: Self.id(other), via: Self.id(relay), at: now)
        drain(node)
    }
    mutating func write(_ node: Int, _ stream: UInt64, _ bytes: [UInt8]) {
        nodes[node].carry(stream, bytes, at: now)
        drain(node)
    }
    mutating func close(_ node: Int, _ stream: UInt64) {
        nodes[node].close(stream, at: now)
        drain(node)
    }
    mutating func say(_ message: CarriageMessage, from: Int, to: Int) {
        nodes[to].receive(message, from: Self.id(from), seen: Self.endpoint(from), at: now)
        drain(to)
    }
    mutating func leave(_ node: Int) {
        nodes[node].leave(at: now)
        drain(node)
    }

    fileprivate mutating func drain(_ node: Int) {
        while let effect = nodes[node].poll() {
            switch effect {
            case .send(let message, let peer):
                let to = Int(peer.bytes[0]) - 1
                let arrival = Arrival(at: now + .milliseconds(10), from: node, to: to, message: message)
                said.append(arrival)
                if !drops(message) { onTheWay.append(arrival) }
            case .begin(let stream, _, _): begun[node].append(stream)
            case .ciphertext(let stream, let bytes): came[node][stream, default: []] += bytes
            case .writable(let stream, let left): unsent[node][stream] = left
            case .ended(let stream, let why): ended[node][stream] = why
            case .look(let isLooking): looks[node] = isLooking
            case .stand(let isRelay, _): stands[node] = isRelay
            case .found(let peer):
                foundCount[node] += 1
                found[node][peer.peer] = nodes[node].relays(of: peer.peer).first
            case .improve(let peer, let endpoint): improved[node][peer] = endpoint
            case .punch(_, let endpoint): punches[node].append((now, endpoint))
            case .flow(_, let endpoint): flows[node].append((now, endpoint))
            case .opener(let endpoint): openers[node].append((now, endpoint))
            case .punched(let peer, let address): punched[node][peer] = address.endpoint
            case .berthed, .unberthed, .gateway, .forwarded, .igd, .pinhole, .seen: break
            }
        }
    }
    mutating func run(_ seconds: Double = 1) {
        let end = now + .nanoseconds(Int64(seconds * 1e9))
        while true {
            var next = onTheWay.first?.at
            for node in nodes { next = earliest(next, node.nextWake) }
            guard let next, next <= end else { break }
            now = max(now, next)
            if let first = onTheWay.first, first.at <= now {
                onTheWay.removeFirst()
                nodes[first.to].receive(
                    first.message, from: Self.id(first.from), seen: Self.endpoint(first.from), at: now)
                drain(first.to)
            }
            for node in nodes.indices where nodes[node].nextWake.map({ $0 <= now }) ?? false {
                nodes[node].wake(at: now)
                drain(node)
            }
        }
        now = end
    }
    /// The only stream that others have opened to a node.
    func inbound(_ node: Int) -> UInt64? { begun[node].first { $0 % 2 == 0 } }
}

private func bytes(_ count: Int, seed: UInt64) -> [UInt8] { SeededGenerator.bytes(count, seed: seed, stream: 1) }

/// 0 is a relay, 1 and 2 are at home and have berths there.
private func homes(_ limits: RelayLimits = RelayLimits(rate: .megabits(80), daily: ByteCount(1 << 30))) -> Harbour {
    var harbour = Harbour(reachable: [true, false, false], limits: limits)
    harbour.connect(1, 0)
    harbour.connect(2, 0)
    harbour.run()
    return harbour
}

@Suite struct `Relayed by a peer` {
    @Test func `who cannot be dialled asks those it could dial, and others hear of it`() {
        var harbour = Harbour(reachable: [true, false, true, false])
        #expect(harbour.stands == [true, false, true, false] && harbour.looks == [false, true, false, true])
        harbour.connect(1, 0)
        harbour.connect(2, 0)
        harbour.connect(3, 0)
        harbour.run()
        #expect(harbour.nodes[1].search.berths == [Harbour.id(0)])
        #expect(harbour.found[2] == [Harbour.id(1): Harbour.id(0), Harbour.id(3): Harbour.id(0)])
        #expect(harbour.found[3] == [Harbour.id(1): Harbour.id(0)])
        #expect(harbour.looks[1], "one relay is not enough")
        harbour.connect(1, 2)
        harbour.run()
        #expect(harbour.nodes[1].search.berths.count == 2 && !harbour.looks[1])
        // Whoever comes later is told, too; a relay that is gone is replaced by none, and looked for.
        harbour.disconnect(1, 0)
        #expect(harbour.looks[1] && harbour.nodes[1].search.berths == [Harbour.id(2)])
        #expect(harbour.nodes[2].relays(of: Harbour.id(3)) == [Harbour.id(0)])
    }

    @Test func `whoever leads from now on is told anew`() {
        var harbour = homes()
        #expect(harbour.foundCount == [0, 1, 1])
        harbour.see(1, isReachable: false, leads: true)
        harbour.run()
        #expect(harbour.foundCount == [0, 1, 2])
        harbour.see(1, isReachable: false, leads: true)
        harbour.run()
        #expect(harbour.foundCount == [0, 1, 2])
    }

    @Test func `whoever was dialled by a relay asks that one, too`() {
        // The relay dialled it first: its router still remembered what went before.
        var harbour = Harbour(reachable: [true, false, false])
        harbour.connect(0, 1)
        harbour.connect(2, 1)
        harbour.run()
        #expect(harbour.nodes[1].search.berths == [Harbour.id(0)])
        // Those who dial in leave room for those that could be dialled.
        var search = BerthSearch()
        search.need(true, leads: false, at: .zero)
        func peer(_ number: Int) -> PeerID { PeerID((0..<32).map { UInt8($0 == 0 ? number : 0) })! }
        for number in 1...100 {
            search.met(
                peer(number), at: Endpoint(ipv4: 60, 1, UInt8(number), 1, port: 4000), wasDialled: false, now: .zero)
        }
        search.met(peer(200), at: Endpoint(ipv4: 60, 2, 0, 1, port: 4000), wasDialled: true, now: .zero)
        #expect(search.endpoint(of: peer(32)) != nil && search.endpoint(of: peer(33)) == nil)
        #expect(search.endpoint(of: peer(200)) != nil)
    }

    @Test func `relays are of different prefixes`() {
        var harbour = Harbour(reachable: [true, false, true, true])
        harbour.connect(1, 0)
        harbour.nodes[1].connected(
            Harbour.id(2), at: Endpoint(ipv4: 60, 0, 0, 99, port: 4000), via: nil, wasDialled: true, now: harbour.now)
        harbour.run()
        #expect(harbour.nodes[1].search.berths == [Harbour.id(0)], "the second is in the first one's network")
        harbour.connect(1, 3)
        harbour.run()
        #expect(harbour.nodes[1].search.berths == [Harbour.id(0), Harbour.id(3)])
    }

    @Test func `bytes pass both ways, whole and in order, and no more than granted lies at the relay`() throws {
        var harbour = homes()
        harbour.open(1, 1, to: 2, via: 0)
        harbour.run(0.1)
        let other = try #require(harbour.inbound(2))
        #expect(harbour.begun[1] == [1])
        #expect(harbour.nodes[2].circuits[other]?.peer == Harbour.id(1))
        #expect(harbour.nodes[2].circuits[other]?.endpoint == Harbour.endpoint(1))
        let (forth, back) = (bytes(1_500_000, seed: 1), bytes(70_001, seed: 2))
        harbour.write(1, 1, forth)
        harbour.write(2, other, back)
        for _ in 0..<40 {
            harbour.run(0.05)
            #expect(harbour.nodes[0].relay.waitingBytes <= 2 * RelayLimits.window)
        }
        #expect(harbour.came[2][other] == forth && harbour.came[1][1] == back)
        #expect(harbour.unsent[1][1] == 0)
        #expect(harbour.nodes[0].relay.counts.bytes == forth.count + back.count)
        harbour.close(1, 1)
        harbour.run()
        #expect(harbour.ended[2][other] == .done && harbour.nodes[0].relay.circuitCount == 0)
        #expect(harbour.nodes[1].circuits.isEmpty && harbour.nodes[2].circuits.isEmpty)
    }

    @Test func `what was written before a close still comes`() throws {
        var harbour = homes(RelayLimits(rate: .megabits(1), daily: ByteCount(1 << 30)))
        harbour.open(1, 1, to: 2, via: 0)
        harbour.run(0.1)
        let other = try #require(harbour.inbound(2))
        let all = bytes(100_000, seed: 3)
        harbour.write(1, 1, all)
        harbour.close(1, 1)
        harbour.run(3)
        #expect(harbour.came[2][other] == all && harbour.ended[2][other] == .done)
    }

    /// A relay of 4 Mbit/s: two circuits share it, and little waits there.
    @Test func `circuits share the owner's rate, and senders keep no more under way than the way needs`() throws {
        var harbour = Harbour(
            reachable: [true, false, false, false, false],
            limits: RelayLimits(rate: .megabits(4), daily: ByteCount(1 << 30)))
        for node in 1...4 { harbour.connect(node, 0) }
        harbour.run()
        harbour.open(1, 1, to: 2, via: 0)
        harbour.open(3, 1, to: 4, via: 0)
        harbour.run(0.2)
        let (two, four) = (try #require(harbour.inbound(2)), try #require(harbour.inbound(4)))
        harbour.write(1, 1, bytes(4_000_000, seed: 1))
        harbour.write(3, 1, bytes(4_000_000, seed: 2))
        harbour.run(2)
        let before = (harbour.came[2][two]!.count, harbour.came[4][four]!.count)
        harbour.run(4)
        let rates = [harbour.came[2][two]!.count - before.0, harbour.came[4][four]!.count - before.1].map {
            Double($0) * 8 / 4e6
        }
        #expect(rates.allSatisfy { (1.7...2.3).contains($0) }, "\(rates) Mbit/s")
        #expect(harbour.nodes[0].relay.waitingBytes < 131_072)
    }

    @Test func `limits are told, and kept`() throws {
        var limits = RelayLimits(rate: .megabits(8), daily: ByteCount(49_152))
        limits.berths = 2
        limits.circuits = 1
        var harbour = Harbour(reachable: [true, false, false, false], limits: limits)
        for node in 1...3 { harbour.connect(node, 0) }
        harbour.run()
        let terms = harbour.said.compactMap { if case .terms(let terms) = $0.message { terms } else { nil } }
        #expect(terms.map(\.answer) == [.granted, .granted, .full])
        #expect(terms[0].rate == .megabits(8) && terms[0].left.bytes == 49_152 && terms[0].circuits == 1)
        harbour.open(3, 1, to: 1, via: 0)
        harbour.open(1, 3, to: 2, via: 0)
        harbour.open(3, 5, to: 3, via: 0)
        harbour.run()
        #expect(harbour.ended[1][3] == .full && harbour.ended[3][5] == .nobody)
        harbour.write(3, 1, bytes(60_000, seed: 1))
        harbour.run(10)
        #expect(harbour.ended[3][1] == .spent)
        harbour.open(3, 7, to: 2, via: 0)
        harbour.run()
        #expect(harbour.ended[3][7] == .spent)
        // The next day it goes on.
        harbour.run(86_700)
        let carried = harbour.nodes[0].relay.carried.map { Int($0.peer.bytes[0]) - 1 }
        #expect(carried.count == 2, "who asked first has them again")
        harbour.open(3, 9, to: try #require(carried.first { $0 != 3 }), via: 0)
        harbour.run()
        #expect(harbour.ended[3][9] == nil && harbour.begun[3].contains(9))
    }

    @Test func `a lost session ends what went over it, and a goodbye comes first`() throws {
        var harbour = homes()
        harbour.open(1, 1, to: 2, via: 0)
        harbour.run()
        let other = try #require(harbour.inbound(2))
        harbour.disconnect(2, 0)
        harbour.run()
        #expect(harbour.ended[1][1] == .gone && harbour.ended[2][other] == .gone)
        harbour.open(1, 3, to: 2, via: 0)
        harbour.run()
        #expect(harbour.ended[1][3] == .nobody)
        harbour.leave(0)
        harbour.run()
        #expect(harbour.nodes[1].search.berths.isEmpty)
        // Nobody is reached through somebody with whom there is no session.
        harbour.open(1, 5, to: 2, via: 3 - 1)
        #expect(harbour.ended[1][5] == .gone)
    }

    @Test func `who can be dialled says where, and the other end dials`() {
        var harbour = Harbour(reachable: [true, false, true])
        harbour.connect(1, 0)
        harbour.run()
        harbour.connect(2, 1, via: 0)
        harbour.run()
        #expect(harbour.improved[1] == [Harbour.id(2): Harbour.endpoint(2)])
        #expect(harbour.improved[2].isEmpty, "who is at home cannot be dialled")
        // Said again while it does not help, ever more seldom.
        let before = harbour.said.count { if case .ways = $0.message { true } else { false } }
        harbour.run(3600)
        let after = harbour.said.count { if case .ways = $0.message { true } else { false } }
        #expect((4...9).contains(after - before), "\(after - before)")
    }
    @Test func `who says again and again where it is is heard ever more seldom`() {
        var harbour = Harbour(reachable: [true, false, true])
        harbour.connect(1, 0)
        harbour.connect(2, 1, via: 0)
        harbour.run(0.1)
        var dials: Set<UInt16> = []
        for tenth in 0..<6000 {
            let port = UInt16(5000 + tenth)
            harbour.say(.ways([Endpoint(ipv4: 60, 0, 9, 9, port: port)]), from: 2, to: 1)
            dials.insert(harbour.improved[1][Harbour.id(2)]!.port)
            harbour.run(0.1)
        }
        #expect((10...24).contains(dials.count), "in ten minutes: \(dials.count)")
    }

    @Test func `two that share a router meet inside, and nobody else is sent to private addresses`() {
        var harbour = Harbour(reachable: [true, false, false, false])
        func inside(_ node: Int) -> Endpoint { Endpoint(ipv4: 192, 168, 1, UInt8(node + 1), port: 4000) }
        /// Nodes 1 and 2 are seen at one address, node 3 at another.
        func outside(_ node: Int) -> Endpoint { Harbour.endpoint(node == 2 ? 1 : node) }
        for node in 1...3 {
            harbour.nodes[node].see(
                Carriage.Outlook(
                    external: outside(node), isReachable: false, leads: false, inside: inside(node)), at: harbour.now)
            harbour.nodes[node].connected(
                Harbour.id(0), at: Harbour.endpoint(0), via: nil, wasDialled: true, now: harbour.now)
        }
        for (a, b) in [(1, 2), (2, 1), (1, 3), (3, 1)] {
            harbour.nodes[a].connected(
                Harbour.id(b), at: outside(b), via: Harbour.id(0), wasDialled: a < b, now: harbour.now)
        }
        for node in 0...3 { harbour.drain(node) }
        harbour.run()
        #expect(harbour.improved[1] == [Harbour.id(2): inside(2)])
        #expect(harbour.improved[2] == [Harbour.id(1): inside(1)])
        #expect(harbour.improved[3].isEmpty)
        // What somebody elsewhere says of private addresses leads nowhere, nor does one's own.
        harbour.say(.ways([inside(3)]), from: 3, to: 1)
        #expect(harbour.improved[1][Harbour.id(3)] == nil)
        harbour.run(20)
        harbour.say(.ways([inside(1), Endpoint(ipv4: 127, 0, 0, 1, port: 4000)]), from: 2, to: 1)
        #expect(harbour.improved[1] == [Harbour.id(2): inside(2)])
    }

    @Test func `two that have IPv6 addresses of their own dial each other at once, and nobody else dials IPv6`() {
        var harbour = Harbour(reachable: [true, false, false, false])
        func own(_ node: Int) -> Endpoint { Endpoint("[2001:db8::\(node)]:4000")! }
        for node in 1...3 {
            let outlook = Carriage.Outlook(
                external: Harbour.endpoint(node), isReachable: false, leads: false, ownIPv6: node < 3 ? own(node) : nil)
            harbour.nodes[node].see(outlook, at: harbour.now)
            harbour.connect(node, 0)
        }
        for (a, b) in [(1, 2), (1, 3)] { harbour.connect(a, b, via: 0) }
        harbour.run(0.015)
        #expect(harbour.improved[1] == [Harbour.id(2): own(2)])
        #expect(harbour.improved[2] == [Harbour.id(1): own(1)])
        #expect(harbour.improved[3].isEmpty, "it has no address to dial from")
    }
    @Test func `in a private network nothing is said`() {
        var harbour = Harbour(reachable: [])
        harbour.nodes = (0..<2).map { Carriage(local: Harbour.id($0), limits: .little, at: harbour.now) }
        for node in 0..<2 {
            let external = Endpoint(ipv4: 10, 0, 0, 1, port: 4000)
            harbour.nodes[node].see(
                Carriage.Outlook(external: external, isReachable: node == 0, leads: true), at: harbour.now)
            harbour.nodes[node].connected(
                Harbour.id(1 - node), at: Endpoint(ipv4: 10, 0, 0, 2, port: 1), via: nil, wasDialled: true,
                now: harbour.now)
            #expect(harbour.nodes[node].poll() == nil && harbour.nodes[node].nextWake == nil)
        }
    }
}

@Suite struct `Relays and circuits of bad manners` {
    @Test func `legs of others, too much at once, credit for nothing: counted, and the circuit is over`() throws {
        var harbour = homes()
        // A number that only the relay may give.
        harbour.say(.open(leg: 2, to: Harbour.id(2)), from: 1, to: 0)
        #expect(harbour.nodes[0].relay.counts.broken == 1)
        harbour.open(1, 1, to: 2, via: 0)
        harbour.run(0.1)
        let other = try #require(harbour.inbound(2))
        // More than the other end has granted: nobody takes it, and the relay holds what fits.
        harbour.drops = { if case .credit = $0 { true } else { false } }
        let leg = try #require(
            harbour.said.compactMap { if case .open(let leg, _) = $0.message { leg } else { nil } }.last)
        for _ in 0..<17 { harbour.say(.data(leg: leg, bytes(16_384, seed: 1)), from: 1, to: 0) }
        harbour.run()
        #expect(harbour.nodes[0].relay.counts.broken == 2 && harbour.nodes[0].relay.circuitCount == 0)
        #expect(harbour.ended[2][other] == .broken)
        harbour.open(1, 3, to: 2, via: 0)
        harbour.run(0.1)
        let second = try #require(
            harbour.said.compactMap { if case .open(let leg, _) = $0.message { leg } else { nil } }.last)
        harbour.say(.credit(leg: second, bytes: 5), from: 1, to: 0)
        #expect(harbour.nodes[0].relay.counts.broken == 3)
    }

    @Test func `strangers, loopback and what no relay of ours says lead nowhere`() {
        var harbour = homes()
        // Nobody who is not a relay of ours opens streams to here.
        harbour.connect(0, 2)
        harbour.say(.incoming(leg: 3, from: Harbour.id(7), at: Harbour.endpoint(7)), from: 2, to: 1)
        #expect(harbour.begun[1].isEmpty)
        // Numbers that never were do nothing.
        for leg: UInt32 in 0..<16 {
            harbour.say(.data(leg: leg, [1, 2, 3]), from: 0, to: 1)
            harbour.say(.credit(leg: leg, bytes: 9), from: 0, to: 1)
            harbour.say(.closed(leg: leg, .done), from: 0, to: 1)
            harbour.say(.opened(leg: leg, at: Harbour.endpoint(9)), from: 0, to: 1)
        }
        #expect(harbour.begun[1].isEmpty && harbour.came[1].isEmpty)
        // Where somebody says it may be dialled is looked at only of relayed sessions, and only where somebody may be.
        harbour.say(.ways([Harbour.endpoint(9)]), from: 0, to: 1)
        #expect(harbour.improved[1].isEmpty)
        harbour.connect(2, 1, via: 0)
        for text in ["127.0.0.1:4000", "10.0.0.1:22", "224.0.0.1:5", "0.0.0.0:7", "60.0.0.1:0", "[ff02::1]:9"] {
            harbour.say(.ways([Endpoint(text)!]), from: 2, to: 1)
        }
        #expect(harbour.improved[1].isEmpty)
        for node in 10..<40 { harbour.say(.ways([Harbour.endpoint(node)]), from: 2, to: 1) }
        #expect(harbour.improved[1] == [Harbour.id(2): Harbour.endpoint(10)], "one dial, not thirty")
    }

    @Test func `floods of openings are refused without a state`() {
        var limits = RelayLimits(rate: .megabits(8), daily: ByteCount(1 << 30))
        limits.opensAMinute = 20
        var harbour = homes(limits)
        for number: UInt32 in 0..<1000 {
            harbour.say(.open(leg: number * 4 + 1, to: Harbour.id(2)), from: 1, to: 0)
        }
        #expect(harbour.nodes[0].relay.circuitCount <= 20)
        #expect(harbour.nodes[0].relay.counts.refused + harbour.nodes[0].relay.counts.broken >= 980)
    }
}
